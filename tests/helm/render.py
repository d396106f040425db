"""For `make test`: what the chart makes of every example, by Helm 3 and by the library of Helm 4."""

import base64
import copy
import difflib
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import helm_python
import yaml

import chart
import cluster
import schemas

NO_CLUSTER = "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n"

def over(base, change):
    """Values as Helm merges them."""
    merged = copy.deepcopy(base)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = over(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def without_secrets(found):
    """Without what the chart made up, which is another each time."""
    found = copy.deepcopy(found)
    for each in found.values():
        pod = each.get("spec", {}).get("template", {})
        pod.get("metadata", {}).get("annotations", {}).pop("checksum/generated", None)
        if each["kind"] == "Secret":
            each["data"] = sorted(each["data"])
    return found


def without_nulls(given):
    return {key: without_nulls(value) if isinstance(value, dict) else value for key, value in given.items() if value is not None}


def sections(values, path=()):
    """The paths of all maps that hold something."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield path + (key,)
            yield from sections(value, path + (key,))


def selected(selector, labels):
    return all(labels.get(name) == value for name, value in selector.items())


class Examples(unittest.TestCase):
    def each(self, check):
        for example in chart.EXAMPLES:
            with self.subTest(example):
                check(example, chart.example3(example))

    def test_they_are_as_they_were(self):
        for example in chart.EXAMPLES:
            for name, text in chart.golden_texts(example).items():
                with self.subTest(name):
                    kept = chart.GOLDEN / name
                    before = kept.read_text() if kept.exists() else ""
                    lines = difflib.unified_diff(before.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=2)
                    self.assertEqual(before, text, "if this is meant, make helm-renew:\n" + "\n".join(lines))
        names = {name for example in chart.EXAMPLES for name in (f"{example}.yaml", f"{example}.notes.txt")}
        self.assertEqual({path.name for path in chart.GOLDEN.iterdir()}, names, "make helm-renew")

    def test_both_helms_make_the_same(self):
        def check(example, three):
            four = chart.by_name(chart.objects4(chart.rendered4(chart.values(example))))
            self.maxDiff = None
            self.assertEqual(without_secrets(three), without_secrets(four))

        self.each(check)

    def test_kubernetes_takes_them(self):
        def check(example, found):
            wrong = {name: schemas.faults(each) for name, each in found.items()}
            self.assertEqual({name: said for name, said in wrong.items() if said}, {})

        self.each(check)

    def test_a_wrong_object_is_seen(self):
        # The checks above can fail.
        for example, name, path, value in [
            ("tryout", "Deployment/hf-holdfast", ["spec", "template", "spec", "terminationGrace"], 5),
            ("tryout", "Deployment/hf-holdfast", ["spec", "replicas"], "1"),
            ("gateway-api", "HTTPRoute/hf-holdfast", ["spec", "rules", 0, "timeouts", "request"], "0"),
            ("gateway-api", "HTTPRoute/hf-holdfast", ["spec", "parents"], []),
            ("monitoring", "ServiceMonitor/hf-holdfast", ["spec", "endpoints", 0, "port"], 4445),
        ]:
            found = copy.deepcopy(chart.example3(example)[name])
            place = found
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            self.assertNotEqual(schemas.faults(found), [], path)

    def test_selectors_find_the_gateway_and_nothing_else(self):
        def check(example, found):
            pods = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in found.items() if "template" in each.get("spec", {})}
            gateway = f"{chart.workload(found)['kind']}/{chart.workload(found)['metadata']['name']}"
            for name, each in found.items():
                spec = each.get("spec", {})
                if each["kind"] == "Service":
                    selector = spec["selector"]
                elif each["kind"] in ("PodDisruptionBudget", "Deployment", "StatefulSet", "PodMonitor"):
                    selector = spec["selector"]["matchLabels"]
                elif each["kind"] == "NetworkPolicy":
                    selector = spec["podSelector"]["matchLabels"]
                elif each["kind"] == "ServiceMonitor":
                    services = [other for other in found.values() if other["kind"] == "Service"]
                    seen = [other for other in services if selected(spec["selector"]["matchLabels"], other["metadata"]["labels"])]
                    self.assertEqual([port["name"] for other in seen for port in other["spec"]["ports"]], ["admin"], name)
                    continue
                else:
                    continue
                embedded = [pod for pod in pods if name.endswith(("-redis", "-nats")) and pod.endswith(name[name.rindex("-"):])]
                self.assertEqual([pod for pod, labels in pods.items() if selected(selector, labels)], embedded or [gateway], name)
            test = [each for each in found.values() if each["kind"] == "Pod"]
            for pod in test:
                self.assertFalse(selected(found[gateway]["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]))

        self.each(check)

    def test_secrets_that_are_made_have_the_keys_that_are_read(self):
        def check(example, found):
            made = {key for each in found.values() if each["kind"] == "Secret" for key in each["data"]}
            pods = [each["spec"]["template"]["spec"] for each in found.values() if "template" in each.get("spec", {})]
            variables = [variable for pod in pods for part in pod["containers"] for variable in part.get("env", [])]
            references = [variable["valueFrom"]["secretKeyRef"] for variable in variables if "secretKeyRef" in variable.get("valueFrom", {})]
            read = {reference["key"] for reference in references if reference["name"].endswith("-generated")}
            self.assertEqual(read | {"token"} if "token-sha256" in read else read, made)

        self.each(check)

    def test_pods_fit_the_standard_restricted(self):
        def check(example, found):
            if example == "extras":
                return
            for each in found.values():
                pod = each.get("spec", {}) if each["kind"] == "Pod" else each.get("spec", {}).get("template", {}).get("spec")
                if pod is None:
                    continue
                context = pod["securityContext"]
                self.assertTrue(context["runAsNonRoot"])
                self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertFalse(pod["automountServiceAccountToken"])
                for part in pod["containers"]:
                    self.assertEqual(
                        part["securityContext"],
                        {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
                    )
                    self.assertIn("memory", part["resources"]["limits"])

        self.each(check)


class Times(unittest.TestCase):
    """The end of a pod: endpoints 10 and margin 5 unless said otherwise."""

    def check(self, change, pre_stop, grace, example="embedded"):
        found = chart.by_name(chart.objects(chart.rendered3(over(chart.values(example), change))))
        pod = chart.workload(found)["spec"]["template"]["spec"]
        hook = chart.container(pod).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
        self.assertEqual((hook, pod["terminationGracePeriodSeconds"]), (pre_stop, grace), change)

    def test_they_follow_from_the_drain_settings(self):
        self.check({}, 5, 35)
        self.check({"config": {"drain": {"notice": "10s"}}}, None, 30)
        self.check({"config": {"drain": {"notice": "1m", "timeout": "2m"}}}, None, 125)
        self.check({"config": {"drain": {"notice": "0", "timeout": "1h30m"}}}, 10, 5415)
        self.check({"config": {"drain": {"notice": 0}}}, 10, 40)
        self.check({"config": {"drain": {"notice": "1500ms", "timeout": "08s1ms"}}}, 9, 23)
        self.check({"config": {"drain": {"notice": "500ms"}}}, 10, 40)
        self.check({"config": {"drain": None}}, 5, 35)
        self.check({"config": {"drain": {"notice": None}}}, 5, 35)
        self.check({"termination": {"endpointsSeconds": 0}}, None, 30)
        self.check({"termination": {"endpointsSeconds": 60, "marginSeconds": 20}}, 55, 100)

    def test_without_a_shared_state_there_is_no_notice(self):
        self.check({}, 10, 40, "tryout")
        self.check({"config": {"drain": {"notice": "9s"}}}, 10, 40, "tryout")
        self.check({"config": {"state": "redis://a", "bus": "nats://a"}}, 5, 35, "tryout")
        self.check({"configSecrets": {"state": {"secret": "a", "key": "b"}}}, 5, 35, "tryout")
        self.check({"extraEnv": [{"name": "HOLDFAST_STATE", "value": "redis://a"}]}, 5, 35, "tryout")


class Parts(unittest.TestCase):
    def made(self, change, example="embedded", **more):
        return chart.by_name(chart.objects(chart.rendered3(over(chart.values(example), change), **more)))

    def test_a_changed_configuration_replaces_pods_and_nothing_else_does(self):
        def template(change):
            annotations = chart.workload(self.made(change, "pinned"))["spec"]["template"]["metadata"]["annotations"]
            return annotations["checksum/config"]

        first = template({})
        self.assertEqual(template({"replicaCount": 5, "service": {"port": 8080}}), first)
        self.assertNotEqual(template({"config": {"log": {"events_max": 300}}}), first)

    def test_no_pdb_where_it_would_only_be_in_the_way(self):
        self.assertFalse([name for name in chart.example3("tryout") if name.startswith("PodDisruptionBudget/")])

    def test_a_service_says_what_is_spoken(self):
        for example, change, said in [
            ("tryout", {}, "http"),
            ("tls", {}, "https"),
            ("tls", {"service": {"appProtocol": "kubernetes.io/ws"}}, "kubernetes.io/ws"),
            ("tls", {"service": {"appProtocol": "none"}}, None),
        ]:
            port = self.made(change, example)["Service/hf-holdfast"]["spec"]["ports"][0]
            self.assertEqual(port.get("appProtocol"), said, change)

    def test_a_pdb_by_what_has_to_be_there(self):
        spec = self.made({"podDisruptionBudget": {"minAvailable": "50%"}})["PodDisruptionBudget/hf-holdfast"]["spec"]
        self.assertEqual((spec.get("minAvailable"), spec.get("maxUnavailable")), ("50%", None))

    def test_large_numbers_stay_whole(self):
        config = self.made({"config": {"limits": {"sessions_max": 100000000}}})["ConfigMap/hf-holdfast"]
        self.assertIn("sessions_max: 100000000\n", config["data"]["holdfast.yaml"])

    def test_every_controller_is_told_not_to_cut_streams(self):
        for controller, key, value in [
            ("ingress-nginx", "nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
            ("nginx", "nginx.org/proxy-read-timeout", "3600s"),
            ("haproxytech", "haproxy.org/timeout-server", "3600s"),
            ("haproxy-ingress", "haproxy-ingress.github.io/timeout-server", "3600s"),
            ("alb", "alb.ingress.kubernetes.io/load-balancer-attributes", "idle_timeout.timeout_seconds=3600"),
        ]:
            ingress = {"enabled": True, "controller": controller, "hosts": [{"host": "a.example"}]}
            found = self.made({"ingress": ingress})["Ingress/hf-holdfast"]
            self.assertEqual(found["metadata"]["annotations"][key], value)
            self.assertEqual(schemas.faults(found), [])
            ingress["annotations"] = {key: "mine"}
            self.assertEqual(self.made({"ingress": ingress})["Ingress/hf-holdfast"]["metadata"]["annotations"][key], "mine")
        ingress = {"enabled": True, "controller": "none", "hosts": [{"host": "a.example"}]}
        self.assertNotIn("annotations", self.made({"ingress": ingress})["Ingress/hf-holdfast"]["metadata"])

    def test_an_alb_asks_for_readiness_where_any_host_may(self):
        ingress = {"enabled": True, "controller": "alb", "hosts": [{"host": "a.example"}]}
        admin = {"listen": "0.0.0.0:9999"}
        for example, change, protocol, port in [("tryout", {"config": {"admin": admin}}, "HTTP", "9999"), ("tls", {}, "HTTPS", "4445")]:
            annotations = self.made(over(change, {"ingress": ingress}), example)["Ingress/hf-holdfast"]["metadata"]["annotations"]
            about = {key.rpartition("-")[2]: value for key, value in annotations.items() if "/healthcheck-" in key}
            self.assertEqual(about, {"port": port, "protocol": protocol, "path": "/readyz"})

    def test_a_prometheus_that_is_locked_out_is_warned_of(self):
        both = {"networkPolicy": {"enabled": True}, "monitoring": {"podMonitor": {"enabled": True}}}
        mine = {"networkPolicy": {"adminFrom": [{"namespaceSelector": {}}]}}
        for change, warned in [(both, True), (over(both, mine), False), ({"networkPolicy": {"enabled": True}}, False)]:
            notes = chart.rendered4(over(chart.values("tryout"), change))["holdfast/templates/NOTES.txt"]
            self.assertEqual("A Prometheus elsewhere gets no metrics" in notes, warned, change)

    def test_the_policy_lets_helm_test_in(self):
        for example in ("production", "embedded"):
            found = chart.example3(example)
            test = found["Pod/hf-holdfast-test"]["metadata"]
            open_ports = set()
            for rule in found["NetworkPolicy/hf-holdfast"]["spec"]["ingress"]:
                for peer in rule.get("from", [{"podSelector": {}}]):
                    if "namespaceSelector" not in peer and selected(peer["podSelector"].get("matchLabels", {}), test["labels"]):
                        open_ports |= {port["port"] for port in rule["ports"]}
            self.assertEqual(open_ports, {"http", "admin"}, example)
        found = self.made({"tests": {"enabled": False}}, "production")
        self.assertEqual(len(found["NetworkPolicy/hf-holdfast"]["spec"]["ingress"]), 2)

    def test_the_embedded_servers_take_passwords_of_ones_own(self):
        change = {"embedded": {"existingSecret": "ours"}, "auth": None, "config": {"auth": {"mode": "none", "insecure": True}}}
        texts = [chart.rendered3(over(chart.values("embedded"), change)) for _ in range(2)]
        self.assertEqual(*texts, "there is nothing random in it")
        found = chart.by_name(chart.objects(texts[0]))
        self.assertFalse([name for name in found if name.startswith("Secret/")])
        read = set()
        for of in ("", "-redis", "-nats"):
            pod = found[f"Deployment/hf-holdfast{of}"]["spec"]["template"]
            self.assertNotIn("checksum/generated", pod["metadata"].get("annotations", {}))
            references = [each["valueFrom"].get("secretKeyRef") for each in pod["spec"]["containers"][0]["env"] if "valueFrom" in each]
            read |= {(each["name"], each["key"]) for each in references if each}
        self.assertEqual(read, {("ours", key) for key in ("redis-password", "nats-password", "cluster-key")})

    def test_long_names_stay_host_names(self):
        found = self.made({"fullnameOverride": "a" * 44 + "-" + "b" * 20})
        self.assertEqual(chart.workload(found)["metadata"]["name"], "a" * 44)


class Overlays(unittest.TestCase):
    """What one values file says over another; `null` takes a key away."""

    def both(self, given, **more):
        """By either Helm, without what is random."""
        three = chart.by_name(chart.objects(chart.rendered3(given, **more)))
        four = chart.by_name(chart.objects4(chart.rendered4(given, **more)))
        self.assertEqual(without_secrets(three), without_secrets(four))
        self.assertEqual({name: said for name in three if (said := schemas.faults(three[name]))}, {})
        return three

    def test_null_takes_away_what_the_configuration_says(self):
        for example, change in [
            ("production", {"config": {"default_server": None, "limits": {"principal": None}, "servers": {"search": None}}}),
            ("production", {"configSecrets": {"auth.tokens.ci.sha256": None, "state": {"format": None}}}),
            ("tls", {"configFiles": {"http.tls.certificate_file": None, "redis.ca_file": {"configMap": None, "secret": "roots"}}}),
        ]:
            with self.subTest(change):
                given = over(chart.values(example), change)
                left = copy.deepcopy(given)
                for section in ("config", "configSecrets", "configFiles"):
                    left[section] = without_nulls(left.get(section, {}))
                self.assertNotEqual(left, given)
                self.assertEqual(self.both(given), self.both(left))

    def test_null_takes_away_a_section_or_is_refused_by_name(self):
        values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
        with helm_python.Chart.load(chart.CHART) as loaded:
            for path in sections(values):
                given = chart.values("production")
                place = given
                for key in path[:-1]:
                    place = place.setdefault(key, {})
                place[path[-1]] = None
                with self.subTest(".".join(path)):
                    try:
                        loaded.validate_schema(given)
                    except helm_python.HelmError as error:
                        self.assertIn(f"missing property '{path[-1]}'", str(error))
                    else:
                        loaded.render(given, name=chart.RELEASE, namespace=chart.NAMESPACE)

    def test_null_takes_away_by_helm_3_as_well(self):
        gone = {"global": None, "imagePullSecrets": None, "commonLabels": None, "commonAnnotations": None, "networkPolicy": {"egress": None}}
        gone |= {"autoscaling": {"cpu": None}, "embedded": None, "tests": None, "monitoring": {"dashboards": None}}
        gone |= {"podSecurityContext": None, "securityContext": None, "topologySpread": None}
        found = self.both(over(chart.values("production"), gone))
        self.assertNotIn("team", chart.workload(found)["metadata"]["labels"])
        for each in self.both(chart.values("embedded") | gone | {"embedded": chart.values("embedded")["embedded"], "tests": {}}).values():
            self.assertNotIn("securityContext", yaml.safe_dump(each))
        found = self.both(over(chart.values("gateway-api"), {"httpRoute": {"timeouts": None}}))
        self.assertNotIn("timeouts", found["HTTPRoute/hf-holdfast"]["spec"]["rules"][0])
        with self.assertRaises(chart.Refused) as refused:
            chart.rendered3(over(chart.values("production"), {"image": None}))
        self.assertIn("image is required", str(refused.exception))

    def test_names_that_yaml_takes_for_something_else_stay_texts(self):
        change = {
            "namespaceOverride": "2024",
            "nameOverride": "1e3",
            "imagePullSecrets": ["123"],
            "configSecrets": {"state": {"secret": "12345", "key": "1", "format": "redis://:$(value)@a"}, "admin.tokens.a.sha256": {"secret": "1e3", "key": "on"}},
            "configFiles": {"nats.ca_file": {"configMap": "0x1f", "key": "null"}, "nats.credentials_file": {"secret": "777", "key": "1"}},
            "serviceAccount": {"create": False, "name": "123"},
            "priorityClassName": "10",
            "ingress": {"className": "5", "hosts": [{"host": "1", "paths": [{"path": "/"}]}]},
            "topologySpread": {"topologyKeys": ["1"]},
            "service": {"appProtocol": "1"},
            "autoscaling": {"streams": {"metric": "1"}},
        }
        given = over(chart.values("production"), change)
        self.both(given, release="1234567")
        found = self.both(given | {"fullnameOverride": "1234567"})
        self.assertEqual(chart.workload(found)["metadata"]["name"], "1234567")


class Dependency(unittest.TestCase):
    """The chart inside another one, which has a `condition` and values for all."""

    def made(self, values):
        """What both Helms make of it."""
        about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0"}
        about["dependencies"] = [{"name": "holdfast", "version": "*", "condition": "holdfast.enabled"}]
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(chart.CHART, Path(folder) / "charts" / "holdfast")
            (Path(folder) / "Chart.yaml").write_text(yaml.safe_dump(about))
            three = chart.by_name(chart.objects(chart.rendered3(values, Path(folder))))
            four = chart.by_name(chart.objects4(chart.rendered4(values, Path(folder))))
        self.assertEqual(without_secrets(three), without_secrets(four))
        return three

    def test_it_can_be_switched_on_and_off_and_gets_the_names_of_pull_secrets(self):
        for secrets in ([{"name": "company"}], ["company"]):
            given = {"global": {"imagePullSecrets": secrets, "storageClass": "fast"}}
            given["holdfast"] = chart.values("embedded") | {"enabled": True, "imagePullSecrets": [{"name": "company"}, "own"]}
            found = self.made(given)
            for each in found.values():
                pod = each["spec"] if each["kind"] == "Pod" else each.get("spec", {}).get("template", {}).get("spec")
                if pod is not None:
                    self.assertEqual(pod["imagePullSecrets"], [{"name": "company"}, {"name": "own"}])
            self.assertEqual({name: said for name in found if (said := schemas.faults(found[name]))}, {})
        self.assertEqual(self.made(given | {"holdfast": {"enabled": False}}), {})


class Upgrades(unittest.TestCase):
    def started(self, objects):
        server = cluster.started(objects)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def made(self, secrets):
        """What Helm 4 would send to a cluster that has these values in the chart's Secret."""
        place = "api/v1/namespaces/gateway/secrets/hf-holdfast-generated"
        server = self.started({place: cluster.secret("hf-holdfast-generated", secrets)} if secrets else {})
        reached = {"kube_apiserver": f"http://127.0.0.1:{server.server_port}", "kubeconfig_content": NO_CLUSTER}
        with helm_python.Config(namespace=chart.NAMESPACE, storage_driver="memory", **reached) as config:
            release = config.install(chart.CHART, chart.RELEASE, chart.values("embedded"), dry_run="server")
        found = chart.by_name(chart.objects(release["manifest"]))
        self.checksums = [
            found[f"Deployment/hf-holdfast{of}"]["spec"]["template"]["metadata"]["annotations"]["checksum/generated"]
            for of in ("", "-redis", "-nats")
        ]
        data = found["Secret/hf-holdfast-generated"]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def helm(self, server, verb, given):
        """Helm 3, which compares the last revision, what there is and what there should be."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(given, file)
            file.flush()
            chart.helm3(verb, chart.RELEASE, chart.CHART, "-f", file.name, "--disable-openapi-validation", *self.reached(server))

    def reached(self, server):
        return ["--kube-apiserver", f"http://127.0.0.1:{server.server_port}", "--kubeconfig", "/dev/null", "-n", chart.NAMESPACE]

    def test_the_autoscaler_keeps_its_number(self):
        scaled = over(chart.values("embedded"), {"autoscaling": {"enabled": True}})
        place = "apis/apps/v1/namespaces/gateway/deployments/hf-holdfast"
        for before, begun in [(scaled, None), (chart.values("embedded"), 3)]:
            server = self.started({})
            self.helm(server, "install", before)
            self.assertEqual(server.objects[place]["spec"].get("replicas"), begun)
            for number, change in [(4, 300), (20, 301)]:
                server.objects[place]["spec"]["replicas"] = number
                server.patches.clear()
                self.helm(server, "upgrade", over(scaled, {"config": {"log": {"events_max": change}}}))
                patched = dict(server.patches)[place]
                self.assertIn("template", patched["spec"])
                self.assertNotIn("replicas", patched["spec"])
            if before == scaled:
                server.patches.clear()
                chart.helm3("rollback", chart.RELEASE, "1", *self.reached(server))
                self.assertNotIn("replicas", json.dumps(dict(server.patches).get(place)))

    def test_without_a_cluster_the_autoscaler_is_left_alone(self):
        self.assertNotIn("replicas", chart.workload(chart.example3("production"))["spec"])

    def test_what_the_chart_made_up_stays(self):
        first = self.made({})
        self.assertEqual(first["token-sha256"], hashlib.sha256(first["token"].encode()).hexdigest())
        before = self.checksums
        self.assertEqual(self.made(first), first)
        self.assertEqual(self.checksums, before, "no pod is replaced")

    def test_what_is_missing_is_made(self):
        first = self.made({})
        before = self.checksums
        kept = {key: value for key, value in first.items() if key != "nats-password"}
        again = self.made(kept)
        self.assertNotEqual(again.pop("nats-password"), first["nats-password"])
        self.assertEqual(again, kept)
        replaced = [now != then for now, then in zip(self.checksums, before)]
        self.assertEqual(replaced, [True, False, True], "who reads it is replaced")


class Release(unittest.TestCase):
    def test_a_released_chart_pulls_the_image_that_was_released_with_it(self):
        workflow = yaml.safe_load((chart.ROOT / ".github" / "workflows" / "release.yml").read_text())
        step = next(each for each in workflow["jobs"]["publish"]["steps"] if each.get("name") == "Chart")
        for repository in ("holdfast/holdfast", "Somebody/Fork"):
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(chart.CHART, Path(folder) / "helm" / "holdfast")
                (Path(folder) / "helm.sh").write_text(f'[ "$1" = push ] && echo "pushed $2 $3" || exec {chart.HELM} "$@"\n')
                given = {"IMAGE": f"ghcr.io/{repository}", "GITHUB_REPOSITORY": repository, "VERSION": "1.2.3"}
                given["GITHUB_REPOSITORY_OWNER"] = repository.partition("/")[0]
                script = f"helm() {{ bash helm.sh \"$@\"; }}\n{step['run']}"
                command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
                done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False)
            self.assertIn(f'image: "ghcr.io/{repository.lower()}:1.2.3"', done.stdout, done.stderr)
            self.assertIn(f"pushed holdfast-1.2.3.tgz oci://ghcr.io/{repository.partition('/')[0].lower()}/charts", done.stdout)


class Manual(unittest.TestCase):
    def test_the_values_in_it_render(self):
        pages = [chart.ROOT / "docs" / "deploying.md", chart.CHART / "README.md"]
        blocks = [block for page in pages for block in re.findall(r"```yaml\n(# values\.yaml\n.*?)```", page.read_text(), re.S)]
        self.assertGreater(len(blocks), 4)
        for block in blocks:
            with self.subTest(block):
                given = yaml.safe_load(block)
                for found in chart.objects(chart.rendered3(given)):
                    self.assertEqual(schemas.faults(found), [])
                notes = chart.rendered4(given)["holdfast/templates/NOTES.txt"]
                self.assertNotIn("A Prometheus elsewhere gets no metrics", notes)


class Agreement(unittest.TestCase):
    """What the chart says once more, because it can't look it up."""

    def test_the_top_of_the_configuration_is_what_the_reference_has(self):
        page = (chart.ROOT / "docs" / "configuration.md").read_text()
        top, *sections = page.partition("\n## Top of the file\n")[2].split("\n## ")
        wanted = set(re.findall(r"^\| `(\w+)`", top, re.M)) | {name for each in sections for name in re.findall(r"^`(\w+)", each)}
        text = (chart.CHART / "templates" / "_config.tpl").read_text()
        self.assertEqual(re.search(r'define "holdfast.keys" -}}\n(.*)\n', text)[1].split(), sorted(wanted))

    def test_images_are_those_of_the_try_out_cluster(self):
        values = yaml.safe_load((chart.CHART / "values.yaml").read_text())["embedded"]
        services = yaml.safe_load((chart.ROOT / "deploy" / "compose.yaml").read_text())["services"]
        for name in ("redis", "nats"):
            self.assertEqual(f"{name}:{values[name]['image']['tag']}", services[name]["image"])


class Refusals(unittest.TestCase):
    def test_what_must_not_render_says_why(self):
        for case in yaml.safe_load((chart.HERE / "refusals.yaml").read_text()):
            given = over(chart.values("embedded"), case["values"])
            for render in (chart.rendered3, chart.rendered4):
                with self.subTest(case["values"], by=render.__name__):
                    with self.assertRaises(chart.Refused) as refused:
                        render(given)
                    self.assertIn(case["says"], str(refused.exception))

    def test_an_older_kubernetes_is_refused(self):
        with self.assertRaises(chart.Refused) as refused:
            chart.helm3("template", "hf", chart.CHART, "--kube-version", "1.29.0", "-f", chart.values_file("tryout"))
        self.assertIn("kubeVersion", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
