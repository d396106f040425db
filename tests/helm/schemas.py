"""Whether Kubernetes would take an object: by its own schemas, and for custom resources by what is written here."""

import functools
import json
import re

import kubernetes_validate
from kubernetes_validate import utils

# The oldest that the chart takes, the newest that there are schemas of, and two between.
VERSIONS = ["1.30", "1.32", "1.34", "1.37"]

# The definitions are some MiB, and would be read anew for each object.
utils.schema_contents = functools.cache(utils.schema_contents)

TEXT, NUMBER, FLAG, LIST, MAP = str, int, bool, list, dict
DURATION = re.compile(r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")

# Of the custom resources that the chart makes: which fields a place may have, and of what kind; `!` must be there. Written
# down from the definitions of Gateway API 1.2 and the Prometheus Operator 0.80, as far as the chart uses them.
PARENT = {"name!": TEXT, "namespace": TEXT, "sectionName": TEXT, "port": NUMBER, "group": TEXT, "kind": TEXT}
ENDPOINT = {
    "port!": TEXT,
    "path": TEXT,
    "scheme": TEXT,
    "interval": TEXT,
    "scrapeTimeout": TEXT,
    "honorLabels": FLAG,
    "tlsConfig": MAP,
    "relabelings": LIST,
    "metricRelabelings": LIST,
}
MONITOR = {"jobLabel": TEXT, "namespaceSelector": {"matchNames!": [TEXT]}, "selector!": {"matchLabels!": MAP}}
CUSTOM = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {
        "parentRefs!": [PARENT],
        "hostnames": [TEXT],
        "rules!": [
            {
                "name": TEXT,
                "matches": [{"path": {"type!": TEXT, "value!": TEXT}, "headers": LIST, "queryParams": LIST, "method": TEXT}],
                "filters": [MAP],
                "backendRefs!": [{"name!": TEXT, "port!": NUMBER, "weight": NUMBER, "namespace": TEXT}],
                "timeouts": {"request": DURATION, "backendRequest": DURATION},
            }
        ],
    },
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {**MONITOR, "endpoints!": [ENDPOINT]},
    ("monitoring.coreos.com/v1", "PodMonitor"): {**MONITOR, "podMetricsEndpoints!": [ENDPOINT]},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "groups!": [
            {
                "name!": TEXT,
                "interval": TEXT,
                "limit": NUMBER,
                "rules!": [
                    {
                        "alert": TEXT,
                        "record": TEXT,
                        "expr!": TEXT,
                        "for": TEXT,
                        "keep_firing_for": TEXT,
                        "labels": MAP,
                        "annotations": MAP,
                    }
                ],
            }
        ]
    },
}


def faults(found):
    """What is wrong with an object, by Kubernetes version; nothing if it is good."""
    custom = CUSTOM.get((found["apiVersion"], found["kind"]))
    if custom is not None:
        return list(misfits(found.get("spec"), custom, "spec"))
    return _faults(json.dumps(found, sort_keys=True))


@functools.cache
def _faults(text):
    said = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(json.loads(text), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            said.append(f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            said.append(error.message)
    return said


def misfits(value, wanted, place):
    if isinstance(wanted, re.Pattern):
        if not isinstance(value, str) or not wanted.match(value):
            yield f"{place}: {value!r} is not {wanted.pattern}"
    elif isinstance(wanted, type):
        if not isinstance(value, wanted) or isinstance(value, bool) and wanted is not bool:
            yield f"{place}: {value!r} is no {wanted.__name__}"
    elif isinstance(wanted, list):
        if not isinstance(value, list) or not value:
            yield f"{place}: {value!r} is no list of something"
            return
        for at, each in enumerate(value):
            yield from misfits(each, wanted[0], f"{place}[{at}]")
    elif not isinstance(value, dict):
        yield f"{place}: {value!r} is no map"
    else:
        fields = {name.rstrip("!"): kind for name, kind in wanted.items()}
        for name in wanted:
            if name.endswith("!") and name[:-1] not in value:
                yield f"{place}.{name[:-1]} is missing"
        for name, each in value.items():
            if name not in fields:
                yield f"{place}.{name} is not known"
            else:
                yield from misfits(each, fields[name], f"{place}.{name}")
