"""Rules and dashboards live in deploy/, and once more in the chart, because a chart can only read what is inside it."""

import yaml

from chart import CHART, ROOT

FOLDERS = [("deploy/prometheus", "files/prometheus", "*.yaml"), ("deploy/grafana", "files/grafana", "*.json")]


def meant(path):
    """Of the YAML files, those with rules: not scrape configurations, not rules' own tests."""
    return path.suffix != ".yaml" or "groups" in (yaml.safe_load(path.read_text()) or {})


def wanted():
    """What the chart's folders should hold, by path."""
    texts = {}
    for source, target, pattern in FOLDERS:
        for path in sorted((ROOT / source).glob(pattern)):
            if meant(path):
                texts[CHART / target / path.name] = path.read_text()
    return texts


def present():
    found = {}
    for _, target, _ in FOLDERS:
        for path in sorted((CHART / target).glob("*")):
            found[path] = path.read_text()
    return found
