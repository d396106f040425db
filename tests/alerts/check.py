#!/usr/bin/env python3
"""Alerts, runbooks, dashboards, metrics and docs/operating.md belong together: says where they don't. With `--write` it
renews the table of alerts in docs/operating.md. What queries return is tested elsewhere, against a real cluster."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = "https://holdfast.example/runbooks"
TARGET_LABELS = {"namespace", "job", "instance", "le"}
HEALTHY = 20 * 60  # seconds that each unit test begins with
BEGIN, END = "<!-- alerts: written by tests/alerts/check.py --write -->", "<!-- /alerts -->"
wrong = []


def read(path):
    return (ROOT / path).read_text()


def alerts():
    """Each with its fields, as far as they stand on one line, and its expression."""
    for text in re.split(r"\n      - alert: ", read("deploy/prometheus/alerts.yaml"))[1:]:
        one = dict(re.findall(r"^ +(for|summary|description|runbook_url): (.+)$", text, re.M))
        severity = re.search(r"severity: (\w+)", text)
        expression = re.search(r"^        expr:(.*?)^        (?:for|labels):", text, re.M | re.S)
        yield {"name": text.split("\n")[0], "severity": severity and severity[1], "expr": expression[1].strip("| \n"), **one}


def metrics():
    """What docs/metrics.md says of each: the words in backticks beside its name."""
    known = {}
    for line in read("docs/metrics.md").split("\n"):
        if re.match(r"\| `(holdfast|mcp|process)_", line):
            names, rest = line.strip("| ").split(" | ", 1)
            for name in re.findall(r"`(\w+)`", names):
                known[name] = set(re.findall(r"`([^`]+)`", rest))
    return known


def check_query(where, text, known):
    """Every metric is known, has the labels that are asked for, and these can have the values."""
    text = re.sub(r"by \([^)]*\)", "", text)
    for name, chosen in re.findall(r"\b((?:holdfast|mcp|process)_\w+)(?:\{([^}]*)\})?", text):
        base = name if name in known else re.sub(r"_(bucket|count|sum)$", "", name)
        if base not in known:
            wrong.append(f"{where}: docs/metrics.md knows no {name}")
            continue
        for label, _, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', chosen or ""):
            if label in TARGET_LABELS:
                continue
            if label not in known[base]:
                wrong.append(f"{where}: {base} has no label {label}")
            elif len(known[base]) > 2 and label in ("outcome", "reason", "error", "phase", "queue", "side", "transport") and not value.startswith("$"):
                for one in value.split("|"):
                    if one not in known[base]:
                        wrong.append(f"{where}: {base} has no {label} {one}")


def seconds(text):
    parts = re.findall(r"(\d+)([hms])", text)
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)


def words(time):
    minutes, rest = divmod(time, 60)
    return " ".join(filter(None, [f"{minutes} min" if minutes else "", f"{rest} s" if rest else ""]))


def check_alerts(known):
    """Returns the table for docs/operating.md."""
    sections = {}
    for file in sorted((ROOT / "docs/runbooks").glob("*.md")):
        for title in re.findall(r"^## (Holdfast\w+)$", file.read_text(), re.M):
            sections[title] = file.stem
    tests = "".join(file.read_text() for file in sorted((ROOT / "tests/alerts").glob("*.yaml")))
    fires = dict(re.findall(r'- name: "(\w+) fires: .*?eval_time: (\w+), expr: [^\n]*exp_samples: \[\{ labels', tests, re.S))
    rests = set(re.findall(r'- name: "(\w+) rests: ', tests))
    table = ["| Alert | Severity | Fires within | When |", "|---|---|---|---|"]
    names = set()
    for alert in alerts():
        name = alert["name"]
        names.add(name)
        for field in ("severity", "summary", "description", "runbook_url"):
            if not alert.get(field):
                wrong.append(f"{name} has no {field}")
        file = sections.get(name)
        if alert.get("runbook_url") != f"{RUNBOOKS}/{file}.html#{name.lower()}":
            wrong.append(f"{name}: its runbook_url leads to no section of docs/runbooks")
        if name not in fires or name not in rests:
            wrong.append(f"{name}: tests/alerts has no test in which it fires, or none in which it rests")
        windows = [seconds(window) for window in re.findall(r"rate\([^\[]+\[(\w+)\](?! offset)", alert["expr"])]
        if min(windows, default=0) > seconds(alert.get("for", "0s")) and name != "HoldfastRedisAway":
            wrong.append(f"{name}: what is over would fire, as its window is longer than its `for`")
        check_query(name, alert["expr"], known)
        summary = alert.get("summary", "").strip('"')
        summary = re.sub(r"\{\{ \$value[^}]*\}\}", "…", summary)
        summary = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: {"job": "the cluster", "instance": "a node", "server": "a server", "limit": "a limit"}.get(found[1], found[1]), summary)
        within = words(seconds(fires.get(name, "0s")) - HEALTHY)
        table.append(f"| [{name}](runbooks/{file}.md#{name.lower()}) | {alert['severity']} | {within} | {summary[0].upper() + summary[1:]} |")
    for title in set(sections) - names:
        wrong.append(f"docs/runbooks/{sections[title]}.md has {title}, and there is no such alert")
    for name in (set(fires) | rests) - names:
        wrong.append(f"tests/alerts tests {name}, and there is no such alert")
    return "\n".join(table), sections


def check_dashboards(known, sections):
    boards = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "deploy/grafana").glob("*.json"))}
    links = json.dumps(boards)
    for file, alert in re.findall(RUNBOOKS + r"/(\w+)\.html#(\w+)", links):
        if file not in [section for title, section in sections.items() if title.lower() == alert]:
            wrong.append(f"a dashboard leads to {file}.html#{alert}, which is not there")
    for uid in re.findall(r"/d/holdfast-(\w+)\?", links):
        if uid not in boards:
            wrong.append(f"a dashboard leads to {uid}, which is not there")
    shown, panels = set(), set()
    for name, board in boards.items():
        if board["uid"] != f"holdfast-{name}":
            wrong.append(f"{name}.json has the uid {board['uid']}")
        titles = [panel["title"] for panel in board["panels"] if panel["type"] != "row"]
        panels |= {title for one in titles for title in (one, f"{board['title'].split(' / ')[1]}, {one}")}
        if len(titles) != len(set(titles)):
            wrong.append(f"{name}.json has two panels of one title")
        queries = [(mark["name"], mark["expr"]) for mark in board["annotations"]["list"]]
        for panel in board["panels"]:
            if panel["type"] == "row":
                continue
            if len(panel["description"]) < 10:
                wrong.append(f"{name}.json, {panel['title']}: it says nothing")
            queries += [(panel["title"], target["expr"]) for target in panel["targets"]]
        for title, text in queries:
            check_query(f"{name}.json, {title}", text, known)
            shown |= set(re.findall(r"\b(?:holdfast|mcp|process)_\w+", text))
    for file in sorted((ROOT / "docs/runbooks").glob("*.md")):
        for named in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", file.read_text()):
            if " ".join(named.split()) not in panels:
                wrong.append(f"docs/runbooks/{file.name}: there is no panel {named}")
    shown = shown | {re.sub(r"_(bucket|count|sum)$", "", one) for one in shown}
    for metric in sorted(set(known) - shown - {"process_virtual_memory_bytes"}):
        wrong.append(f"no dashboard shows {metric}")


def check_links():
    """The command in docs/operating.md that says where runbooks are leaves no link to nowhere."""
    command = re.search(r"^sed -i .+$", read("docs/operating.md"), re.M)[0]
    with tempfile.TemporaryDirectory() as folder:
        for part in ("prometheus", "grafana"):
            shutil.copytree(ROOT / "deploy" / part, Path(folder) / "deploy" / part, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["sh", "-c", command], cwd=folder, check=True)
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        left = [file.name for file in files if RUNBOOKS in file.read_text()]
        led = sum("https://wiki.example.com/holdfast/runbooks/" in file.read_text() for file in files)
    if left or not led:
        wrong.append(f"after the command of docs/operating.md, {left} still lead to {RUNBOOKS}")


def main(write):
    check_links()
    known = metrics()
    table, sections = check_alerts(known)
    check_dashboards(known, sections)
    path = ROOT / "docs/operating.md"
    text = path.read_text()
    before, rest = text.split(BEGIN)
    renewed = f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
    if write:
        path.write_text(renewed)
    elif text != renewed:
        wrong.append("docs/operating.md has another table of alerts; tests/alerts/check.py --write renews it")
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main("--write" in sys.argv)
