"""For `make test`: the application reads what the chart renders, and runs with it. HOLDFAST names the binary."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import yaml

import chart
from pod import Pod, program

HOLDFAST = os.environ["HOLDFAST"]
QUIET = {"PATH": os.environ["PATH"]}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def status(url, token=None):
    """The status of a GET; 0 if nobody is there."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_for(what, patience=20):
    until = time.monotonic() + patience
    while not what():
        if time.monotonic() > until:
            raise AssertionError("waited in vain")
        time.sleep(0.05)


class Configuration(unittest.TestCase):
    def test_the_application_takes_every_example(self):
        for example in chart.EXAMPLES:
            with self.subTest(example), tempfile.TemporaryDirectory() as folder:
                pod = Pod(chart.example3(example), folder)
                done = subprocess.run(
                    pod.command(HOLDFAST, "check-config"), env=QUIET | pod.environment, capture_output=True, text=True, check=False
                )
                said = (done.stdout + done.stderr).strip()
                self.assertEqual(done.returncode, 0, said)
                servers = len(chart.values(example)["config"]["servers"]) + len(chart.values(example).get("extraArgs", []))
                self.assertIn(f"{servers} server(s), listening on {config_of(example)['listen']}", said)

    def test_a_configuration_is_checked_as_the_manual_says(self):
        """docs/deploying.md, with the first values there."""
        manual = (chart.ROOT / "docs" / "deploying.md").read_text()
        values = re.search(r"```yaml\n(# values\.yaml\n.*?)```", manual, re.S)[1]
        (commands,) = re.findall(r"```sh\n(helm template .*?)```", manual, re.S)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "values.yaml").write_text(values)
            (Path(folder) / "helm").symlink_to(chart.ROOT / "helm")
            path = {"PATH": os.pathsep.join([str(chart.HELM.parent), str(Path(HOLDFAST).parent), os.environ["PATH"]])}
            script = ["bash", "-eo", "pipefail", "-c", commands]
            done = subprocess.run(script, cwd=folder, env=os.environ | path, capture_output=True, text=True, check=False)
        self.assertIn("the configuration is good: 1 server(s), listening on 0.0.0.0:4444", done.stdout + done.stderr)

    def test_a_mistake_in_the_configuration_is_seen(self):
        given = chart.values("tryout")
        given["config"]["limits"] = {"stream_max": 1}
        with tempfile.TemporaryDirectory() as folder:
            pod = Pod(chart.by_name(chart.objects(chart.rendered3(given))), folder)
            done = subprocess.run(
                pod.command(HOLDFAST, "check-config"), env=QUIET | pod.environment, capture_output=True, text=True, check=False
            )
        self.assertIn("limits: unknown key `stream_max`", done.stderr)
        self.assertNotEqual(done.returncode, 0)


def config_of(example):
    return {"listen": "0.0.0.0:4444"} | chart.values(example)["config"]


class Run(unittest.TestCase):
    """One node of the example `embedded`, with the Redis and NATS that it brings, all as rendered but on free ports here."""

    def start(self, command, **more):
        process = subprocess.Popen(command, stdout=self.log, stderr=self.log, **more)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def helm_test(self, found, clients, admin):
        """The pod of `helm test`, with the programs of its image's kind."""
        for name in ("sh", "wget", "grep", "date", "sleep", "timeout"):
            (self.folder / name).symlink_to(shutil.which("busybox"))
        part = found["Pod/hf-holdfast-test"]["spec"]["containers"][0]
        environment = {each["name"]: each["value"] for each in part["env"]}
        environment |= {"CLIENTS": f"http://127.0.0.1:{clients}", "ADMIN": f"http://127.0.0.1:{admin}", "PATH": str(self.folder)}
        command = [self.folder / part["command"][0], *part["command"][1:], *part["args"]]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_the_embedded_servers_and_the_token_work_and_the_pod_ends_in_time(self):
        found = chart.example3("embedded")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = open(Path(folder.name) / "log", "w+")
        self.addCleanup(self.log.close)
        redis, nats, clients, admin = (free_port() for _ in range(4))
        self.start([*program(found, "redis"), "--bind", "127.0.0.1", "--port", str(redis)], cwd=folder.name)
        self.start([*program(found, "nats"), "--addr", "127.0.0.1", "--port", str(nats)])
        pod = Pod(found, folder.name)
        environment = {
            name: value.replace("hf-holdfast-redis:6379", f"127.0.0.1:{redis}").replace("hf-holdfast-nats:4222", f"127.0.0.1:{nats}")
            for name, value in pod.environment.items()
        }
        listen = ["--listen", f"127.0.0.1:{clients}", "--admin-listen", f"127.0.0.1:{admin}"]
        self.folder = Path(folder.name)
        test = self.helm_test(found, clients, admin)
        self.assertIn("refused", test.stderr.readline(), "it begins before the node is there")
        node = self.start([*pod.command(HOLDFAST, "serve"), *listen], env=QUIET | environment)

        def probe(kind):
            wanted = pod.container[kind]["httpGet"]
            self.assertEqual(wanted["port"], "admin")
            return status(f"http://127.0.0.1:{admin}{wanted['path']}")

        try:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                wait_for(lambda: probe(kind) == 200)
            token = pod.made({"name": "hf-holdfast-generated", "key": "token"})
            mcp = f"http://127.0.0.1:{clients}/mcp"
            self.assertEqual((status(mcp), status(mcp, "hf_another"), status(mcp, token)), (401, 401, 406))
            self.assertEqual(status(f"http://127.0.0.1:{clients}/health"), 200)

            metric = yaml.safe_load((chart.CHART / "values.yaml").read_text())["autoscaling"]["streams"]["metric"]
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=2) as metrics:
                self.assertIn(f"\n{metric}{{", metrics.read().decode(), "what the autoscaler goes by")
            said = test.communicate(timeout=20)
            self.assertEqual(test.returncode, 0, said)
            self.assertIn("a stranger is refused", said[0])

            seconds = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
            node.terminate()
            wait_for(lambda: probe("readinessProbe") == 503)
            self.assertEqual(probe("livenessProbe"), 200)
            self.assertEqual(status(mcp), 401, "it still serves, for drain.notice")
            self.assertEqual(node.wait(pod.spec["terminationGracePeriodSeconds"] - seconds), 0)
        except (AssertionError, subprocess.TimeoutExpired):
            self.log.seek(0)
            print(self.log.read())
            raise


if __name__ == "__main__":
    unittest.main()
