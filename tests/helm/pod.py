"""A pod of the rendered chart as processes of this machine see it: its variables, files and arguments."""

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import chart

MOUNTED = "/etc/holdfast/"


def certificate(folder):
    """A certificate that signed itself, and its key."""
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=holdfast", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    subprocess.run([*request, *names, *files], check=True, capture_output=True)
    return (folder / "certificate.pem").read_text(), (folder / "key.pem").read_text()


def secret(variable):
    """What somebody would keep in a Secret for this variable."""
    if variable.endswith("_SHA256") or variable.startswith("HOLDFAST_CLUSTER_KEYS_"):
        return hashlib.sha256(variable.encode()).hexdigest()
    return {"HOLDFAST_STATE": "redis-cluster://:word@redis:6379", "HOLDFAST_BUS": "nats://nats:4222"}.get(variable, "word")


class Pod:
    """The gateway's pod in `folder`: what it mounts is there, with contents that fit."""

    def __init__(self, found, folder, name="hf-holdfast-5d4f8c7b96-x2x9q"):
        self.found, self.folder, self.name = found, Path(folder), name
        self.spec = chart.workload(found)["spec"]["template"]["spec"]
        self.container = chart.container(self.spec)
        self.texts = {}
        self.config = self._config()
        self.environment = self._environment()

    def _config(self):
        volume = next(each for each in self.spec["volumes"] if each["name"] == "config")
        text = self.found[f"ConfigMap/{volume['configMap']['name']}"]["data"]["holdfast.yaml"]
        for mount in self.container["volumeMounts"]:
            if not mount["mountPath"].startswith(MOUNTED):
                inside = self.folder / mount["mountPath"].lstrip("/")
                inside.mkdir(parents=True, exist_ok=True)
                text = text.replace(mount["mountPath"], str(inside))
        path = self.folder / "holdfast.yaml"
        path.write_text(text)
        return path

    def made(self, reference):
        """A value that the chart itself put into a Secret."""
        data = self.found.get(f"Secret/{reference['name']}", {}).get("data", {})
        return base64.b64decode(data[reference["key"]]).decode() if reference["key"] in data else None

    def _environment(self):
        """As the kubelet does it: in order, with `$(NAME)` for what came before."""
        variables = {}
        for each in self.container["env"]:
            name, source = each["name"], each.get("valueFrom", {})
            if "secretKeyRef" in source:
                value = self.made(source["secretKeyRef"]) or secret(name)
            elif "fieldRef" in source:
                value = {"metadata.name": self.name}[source["fieldRef"]["fieldPath"]]
            else:
                value = re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], each["value"])
            if value.startswith(MOUNTED):
                value = self._file(name, value)
            variables[name] = value
        return variables

    def _file(self, name, path):
        """Puts there what the key wants; the path as this machine has it. It must be one that the pod mounts."""
        mount = next(each for each in self.container["volumeMounts"] if path.startswith(each["mountPath"] + "/"))
        volume = next(each for each in self.spec["volumes"] if each["name"] == mount["name"])
        items = (volume.get("secret") or volume["configMap"])["items"]
        assert path.removeprefix(mount["mountPath"] + "/") in [item["path"] for item in items], path
        if not self.texts:
            self.texts["CERTIFICATE_FILE"], self.texts["KEY_FILE"] = certificate(self.folder)
            self.texts["CA_FILE"] = self.texts["CERTIFICATE_FILE"]
        kind = next((kind for kind in self.texts if name.endswith(kind) and not name.endswith("NKEY_FILE")), None)
        inside = self.folder / path.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(self.texts[kind] if kind else "5e" * 32)
        return str(inside)

    def command(self, holdfast, verb):
        """How the container would be started, but with another of the application's commands."""
        first, *others = self.container["args"]
        assert first == "serve", first
        given = [each for each in others if not each.startswith("--config=")]
        assert len(given) == len(others) - 1, others
        return [holdfast, verb, f"--config={self.config}", *given]


def program(found, name):
    """How an embedded server is started on this machine; nothing if it isn't there."""
    part = next(each for each in found.values() if each["kind"] == "Deployment" and each["metadata"]["name"].endswith(f"-{name}"))
    container = part["spec"]["template"]["spec"]["containers"][0]
    reference = container["env"][0]["valueFrom"]["secretKeyRef"]
    password = base64.b64decode(found[f"Secret/{reference['name']}"]["data"][reference["key"]]).decode()
    command = [each.replace("$(PASSWORD)", password) for each in container["command"]]
    return [shutil.which(command[0]) or command[0], *command[1:]]
