"""For tests/it/kubernetes: `pods.py EXAMPLE FOLDER NAME…` prints, as JSON, what controllers and kubelet read of the rendered
workload, and how the gateway's container of each pod of these names starts here. What a pod mounts is in FOLDER/NAME."""

import json
import sys
from pathlib import Path

import yaml

import chart
from pod import Pod


def started(found, folder, name):
    folder.mkdir()
    pod = Pod(found, folder, name)
    _, *arguments = pod.command("holdfast", "serve")
    return {"name": name, "config": str(pod.config), "arguments": arguments, "environment": pod.environment}


def main(example, folder, *names):
    found = chart.example3(example)
    deployment = chart.workload(found)["spec"]
    pod = deployment["template"]["spec"]
    defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text())["termination"]
    read = {
        "endpointsSeconds": (defaults | chart.values(example).get("termination", {}))["endpointsSeconds"],
        "deployment": deployment,
        "pod": pod,
        "container": chart.container(pod),
        "processes": [started(found, Path(folder) / name, name) for name in names],
    }
    json.dump(read, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
