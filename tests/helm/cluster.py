"""As much of a Kubernetes API server as Helm asks for: discovery, and objects that are read, listed and written. A patch is
noted, not carried out."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

# What there is a place for: each group and version, with its resources.
APIS = {
    "api/v1": {"secrets": "Secret", "configmaps": "ConfigMap", "services": "Service", "serviceaccounts": "ServiceAccount", "pods": "Pod"},
    "apis/apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy", "ingresses": "Ingress"},
    "apis/policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "apis/autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
}


class Cluster(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.place()
        if path == "version":
            self.say({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        elif path == "api":
            self.say({"kind": "APIVersions", "versions": ["v1"]})
        elif path == "apis":
            self.say({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(api) for api in APIS if api != "api/v1"]})
        elif path in APIS:
            verbs = {"namespaced": True, "verbs": ["get", "list", "create", "patch", "update"]}
            listed = [{"name": name, "kind": kind, **verbs} for name, kind in APIS[path].items()]
            self.say({"kind": "APIResourceList", "groupVersion": version_of(path), "resources": listed})
        elif path == "openapi/v3":
            self.say({"paths": {api: {"serverRelativeURL": f"/openapi/v3/{api}"} for api in APIS}})
        elif path.removeprefix("openapi/v3/") in APIS:
            self.say(validated_here(path.removeprefix("openapi/v3/")))
        elif path in self.server.objects:
            self.say(self.server.objects[path])
        elif path.endswith("/secrets"):
            wanted = parse_qs(urlparse(self.path).query).get("labelSelector", [""])[0]
            items = [each for name, each in self.server.objects.items() if name.startswith(path) and labelled(each, wanted)]
            self.say({"kind": "SecretList", "apiVersion": "v1", "items": items})
        else:
            self.say({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}, 404)

    def do_POST(self):
        made = self.body()
        self.server.objects[f"{self.place()}/{made['metadata']['name']}"] = made
        self.say(made, 201)

    def do_PUT(self):
        self.server.objects[self.place()] = self.body()
        self.say(self.server.objects[self.place()])

    def do_PATCH(self):
        self.server.patches.append((self.place(), self.body()))
        self.say(self.server.objects[self.place()])

    def place(self):
        return urlparse(self.path).path.strip("/")

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def say(self, body, status=200):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def labelled(found, wanted):
    """Whether it has the labels of a selector such as `a=b,c=d`."""
    labels = found["metadata"].get("labels", {})
    return all(labels.get(each.partition("=")[0]) == each.partition("=")[2] for each in wanted.split(",") if each)


def version_of(api):
    return api.split("/", 1)[1]


def group(api):
    version = {"groupVersion": version_of(api), "version": api.rpartition("/")[2]}
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


def secret(name, values):
    """A Secret of the release `hf`, as it is kept."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    owner = {"meta.helm.sh/release-name": "hf", "meta.helm.sh/release-namespace": "gateway"}
    metadata = {"name": name, "namespace": "gateway", "labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": owner}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def started(objects):
    """A server with these objects by their paths, on 127.0.0.1, which notes `patches`; to be ended with `shutdown` and
    `server_close`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    server.objects, server.patches = dict(objects), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
