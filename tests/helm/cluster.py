"""As much of a Kubernetes API server as `lookup` asks for: discovery, Secrets that are there, and nothing else."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What there is a place for: each group and version, with its resources.
APIS = {
    "api/v1": {"secrets": "Secret", "configmaps": "ConfigMap", "services": "Service", "serviceaccounts": "ServiceAccount", "pods": "Pod"},
    "apis/apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy", "ingresses": "Ingress"},
    "apis/policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
}


class Cluster(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        parts = path.split("/")
        if path == "version":
            self.say({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        elif path == "api":
            self.say({"kind": "APIVersions", "versions": ["v1"]})
        elif path == "apis":
            self.say({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(api) for api in APIS if api != "api/v1"]})
        elif path in APIS:
            verbs = {"namespaced": True, "verbs": ["get", "list", "create", "patch"]}
            listed = [{"name": name, "kind": kind, **verbs} for name, kind in APIS[path].items()]
            self.say({"kind": "APIResourceList", "groupVersion": version_of(path), "resources": listed})
        elif path == "openapi/v3":
            self.say({"paths": {api: {"serverRelativeURL": f"/openapi/v3/{api}"} for api in APIS}})
        elif path.removeprefix("openapi/v3/") in APIS:
            self.say(validated_here(path.removeprefix("openapi/v3/")))
        elif parts[-2:-1] == ["secrets"] and parts[-1] in self.server.secrets:
            data = {key: base64.b64encode(value.encode()).decode() for key, value in self.server.secrets[parts[-1]].items()}
            owner = {"meta.helm.sh/release-name": "hf", "meta.helm.sh/release-namespace": parts[3]}
            labels = {"app.kubernetes.io/managed-by": "Helm"}
            metadata = {"name": parts[-1], "namespace": parts[3], "labels": labels, "annotations": owner}
            self.say({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        else:
            self.say({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}, 404)

    def say(self, body, status=200):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def version_of(api):
    return api.split("/", 1)[1]


def group(api):
    version = {"groupVersion": version_of(api), "version": "v1"}
    return {"name": version_of(api).split("/")[0], "versions": [version], "preferredVersion": version}


def validated_here(api):
    """Says that this server checks fields by itself, so that nobody asks it for the schemas."""
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    paths = {}
    for name, kind in APIS[api].items():
        *before, version = version_of(api).split("/")
        about = {"group": "".join(before), "version": version, "kind": kind}
        patch = {"parameters": parameters, "x-kubernetes-group-version-kind": about, "responses": {}}
        paths[f"/{api}/namespaces/{{namespace}}/{name}/{{name}}"] = {"patch": patch}
    return {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": paths, "components": {"schemas": {}}}


def started(secrets):
    """A server with these Secrets, on 127.0.0.1; to be ended with `shutdown` and `server_close`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    server.secrets = secrets
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
