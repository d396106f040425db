"""For `make test`: monitors, rules and dashboards, and what the rules say as the chart renders them."""

import copy
import json
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

import chart
import schemas
from render import over

SELECTOR = re.compile(r"\b(?:(?:holdfast|mcp|process)_\w+|up)\b(?!\{namespace=\"gateway\",job=\"hf-holdfast\"[,}])")


def made(change, example="monitoring", source=chart.CHART):
    return chart.by_name(chart.objects(chart.rendered3(over(chart.values(example), change), chart=source)))


def groups(found):
    rules = [each for each in found.values() if each["kind"] == "PrometheusRule"]
    assert len(rules) == 1, rules
    return {group["name"]: group for group in rules[0]["spec"]["groups"]}


def delivered():
    return yaml.safe_load((chart.ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"]


def expressions(groups):
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


class Rules(unittest.TestCase):
    def said(self, values):
        """What promtool says of tests/helm/rules.yaml with the rules that are rendered with them."""
        with tempfile.TemporaryDirectory() as folder:
            rendered = [group for name, group in groups(made(values, "stateless")).items() if name != "ours"]
            (Path(folder) / "rendered.yaml").write_text(yaml.safe_dump({"groups": rendered}))
            shutil.copy(chart.HERE / "rules.yaml", folder)
            done = subprocess.run(["promtool", "test", "rules", "rules.yaml"], cwd=folder, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_they_are_this_releases_own(self):
        values = {"fullnameOverride": "gw", "monitoring": {"prometheusRule": {"enabled": True}}}
        code, said = self.said(values)
        self.assertEqual(code, 0, said)
        # And else they are not.
        values["monitoring"]["prometheusRule"]["thisReleaseOnly"] = False
        code, said = self.said(values)
        self.assertNotEqual(code, 0)
        for alert in ("HoldfastNodeDown", "HoldfastNoNodeReady", "HoldfastNotScraped", "HoldfastRedisAway"):
            self.assertIn(alert, said)

    def test_every_selector_names_the_release(self):
        own = expressions(group for name, group in groups(made({})).items() if name != "ours")
        self.assertEqual(own.keys(), expressions(delivered()).keys())
        for alert, text in own.items():
            self.assertIsNone(SELECTOR.search(text), f"{alert}: {text}")
        found = groups(made({}))
        self.assertEqual(found["ours"]["rules"][0]["expr"], "max(holdfast_nodes) > 20", "what others wrote stays as it is")

    def test_they_may_be_for_all_releases(self):
        found = groups(made({"monitoring": {"prometheusRule": {"thisReleaseOnly": False}}}))
        found.pop("ours")
        self.assertEqual(expressions(found.values()), expressions(delivered()))

    def test_a_drain_may_take_as_long_as_it_is_given(self):
        def wait(timeout):
            change = {"config": {"drain": {"timeout": timeout}}}
            return next(rule["for"] for rule in groups(made(change))["holdfast-nodes"]["rules"] if rule["alert"] == "HoldfastDrainLong")

        self.assertEqual([wait(timeout) for timeout in ("25s", "2m", "121s", "1h30m")], ["3m", "3m", "181s", "5460s"])

    def test_links_lead_to_where_the_runbooks_are(self):
        text = chart.rendered3(chart.values("monitoring"))
        self.assertNotIn("holdfast.example", text)
        self.assertGreater(text.count("https://wiki.example.com/holdfast/runbooks/"), 100)
        for rule in groups(made({}))["holdfast-nodes"]["rules"]:
            anchor = rule["alert"].lower()
            self.assertEqual(rule["annotations"]["runbook_url"], f"https://wiki.example.com/holdfast/runbooks/nodes.html#{anchor}")

    def test_rules_and_dashboards_arrive_as_they_are(self):
        rules = {
            "groups": [
                {
                    "name": "holdfast",
                    "rules": [
                        {"alert": "A", "expr": "up == 0", "labels": {"severity": "page"}, "annotations": {"summary": "{{ $labels.pod }} is away"}},
                        {"alert": "B", "expr": "up == 1"},
                        {"record": "c", "expr": "sum(up)"},
                    ],
                },
                {"name": "gone", "rules": [{"alert": "D", "expr": "up"}]},
            ]
        }
        dashboard = {"title": "One node", "panels": [{"legendFormat": "{{pod}}", "expr": 'x{a=~"$pod"}'}]}
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "holdfast"
            shutil.copytree(chart.CHART, copied, ignore=shutil.ignore_patterns("files"))
            (copied / "files" / "prometheus").mkdir(parents=True)
            (copied / "files" / "grafana").mkdir()
            (copied / "files" / "prometheus" / "rules.yaml").write_text(yaml.safe_dump(rules))
            (copied / "files" / "grafana" / "one_node.json").write_text(json.dumps(dashboard, indent=2) + "\n")
            change = {"monitoring": {"prometheusRule": {"disabled": ["B", "D"], "thisReleaseOnly": False}}}
            found = made(change, source=copied)
        self.assertEqual(schemas.faults(found["PrometheusRule/hf-holdfast"]), [])
        self.assertEqual(sorted(groups(found)), ["holdfast", "ours"])
        expected = copy.deepcopy(rules["groups"][0]["rules"])
        expected[0]["labels"]["team"] = "platform"
        self.assertEqual(groups(found)["holdfast"]["rules"], [expected[0], expected[2]])
        shown = found["ConfigMap/hf-holdfast-dashboard-one-node"]
        self.assertEqual(json.loads(shown["data"]["one_node.json"]), dashboard)
        self.assertEqual(shown["metadata"]["labels"]["grafana_dashboard"], "1")


class Monitors(unittest.TestCase):
    def test_a_release_is_a_job_and_a_pod_an_instance(self):
        ours = {"sourceLabels": ["a"], "targetLabel": "b"}
        for kind, endpoints in [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")]:
            monitors = {"serviceMonitor": {"enabled": False}, "podMonitor": {"enabled": False}}
            monitors[kind[0].lower() + kind[1:]] = {"enabled": True, "relabelings": [ours]}
            found = made({"monitoring": monitors})[f"{kind}/hf-holdfast"]
            self.assertEqual(schemas.faults(found), [])
            self.assertNotIn("jobLabel", found["spec"])
            self.assertEqual(
                found["spec"][endpoints][0]["relabelings"],
                [
                    {"targetLabel": "job", "replacement": "hf-holdfast"},
                    {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"},
                    ours,
                ],
            )

    def test_rules_need_a_scrape_every_minute(self):
        def found(interval, rules):
            change = {"serviceMonitor": {"interval": interval}, "prometheusRule": {"enabled": rules}}
            return made({"monitoring": change})["ServiceMonitor/hf-holdfast"]["spec"]["endpoints"][0].get("interval")

        self.assertEqual([found("60s", True), found("1m", True), found("5m", False)], ["60s", "1m", "5m"])
        self.assertIsNone(found("", True), "is Prometheus's own")
        with self.assertRaises(chart.Refused):
            found("61s", True)


if __name__ == "__main__":
    unittest.main()
