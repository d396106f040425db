"""How a dashboard becomes Grafana's JSON: the shape that all of them share, so that dashboards.py says only what differs.

In a query `{@}` stands for what the variables choose, `{@@}` for the same with the server, and `[~]` for a range that
fits the resolution.
"""

RUNBOOKS = "https://holdfast.example/runbooks"
CHOSEN = 'namespace=~"$namespace",job=~"$job",instance=~"$node"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = "${__url_time_range}&${datasource:queryparam}&${namespace:queryparam}&${job:queryparam}"
WIDTH = 24


def query(text):
    """A query as Grafana gets it."""
    text = " ".join(text.split())
    text = text.replace("@@", CHOSEN + ',server=~"$server"').replace("@", CHOSEN)
    return text.replace("[~]", "[$__rate_interval]")


def quantile(share, histogram, chosen="@", by=""):
    """A quantile of a histogram of durations, for each value of the labels in `by`."""
    labels = ", ".join(filter(None, ["le", by]))
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{{{chosen}}}[~])))"


def quantiles(histogram, chosen="@"):
    return {name: quantile(share, histogram, chosen) for name, share in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]}


def rate(counter, chosen="@", by=""):
    """How often in a second."""
    return f"sum{f' by ({by})' if by else ''} (rate({counter}{{{chosen}}}[~]))"


def share(part, whole, else_zero=True):
    """Part of the whole; nothing of nothing is 0, unless each label's value has its own."""
    return f"{part} / ({whole} > 0)" + (" or vector(0)" if else_zero else "")


def runbook(alert, file):
    return {"title": f"Runbook: {alert}", "url": f"{RUNBOOKS}/{file}.html#{alert.lower()}", "targetBlank": True}


def board(uid, title):
    return {"title": title, "url": f"/d/holdfast-{uid}?{VARIABLES}"}


def panel(kind, title, says, queries, *, unit="short", steps=None, links=(), width=6, height=7, **more):
    """`queries`: one, or several by their legends. `steps`: from which value on which color."""
    if isinstance(queries, str):
        queries = {title: queries}
    colors = [{"color": "green", "value": None}]
    colors += [{"color": color, "value": value} for value, color in (steps or {}).items()]
    table = kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query(text),
            "legendFormat": legend,
            "range": kind in ("timeseries", "heatmap", "state-timeline"),
            "instant": kind not in ("timeseries", "heatmap", "state-timeline"),
            "format": "table" if table else "heatmap" if kind == "heatmap" else "time_series",
        }
        for index, (legend, text) in enumerate(queries.items())
    ]
    defaults = {"unit": unit, "min": 0, "thresholds": {"mode": "absolute", "steps": colors}, **more.pop("defaults", {})}
    return {
        "type": kind,
        "title": title,
        "description": " ".join(says.split()),
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": more.pop("options", {}),
        "links": list(links),
        "targets": targets,
        **more,
    }


def stat(title, says, queries, **more):
    """One number, colored by its steps."""
    options = {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return panel("stat", title, says, queries, **{"width": 4, "height": 4, "options": options, **more})


def graph(title, says, queries, *, stacked=False, **more):
    """Lines; where there are steps, a line for each."""
    custom = {
        "fillOpacity": 30 if stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if more.get("steps") else "off"},
    }
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel("timeseries", title, says, queries, **{"width": 8, "defaults": {"custom": custom}, "options": options, **more})


def heatmap(title, says, histogram, **more):
    """How a histogram's values are spread, over time."""
    spread = f"sum by (le) (increase({histogram}_bucket{{@}}[~]))"
    options = {"calculate": False, "yAxis": {"unit": "s"}, "color": {"scheme": "Oranges"}}
    return panel("heatmap", title, says, {"{{le}}": spread}, **{"unit": "s", "width": 12, "options": options, **more})


def states(title, says, queries, names, **more):
    """What is the case, over time. `names`: each value's text and color."""
    mapped = {str(value): {"text": text, "color": color} for value, (text, color) in names.items()}
    defaults = {"mappings": [{"type": "value", "options": mapped}]}
    return panel("state-timeline", title, says, queries, **{"width": 12, "defaults": defaults, **more})


def table(title, says, text, hidden=(), **more):
    hide = {name: True for name in ["Time", "__name__", *hidden]}
    organize = [{"id": "organize", "options": {"excludeByName": hide}}]
    return panel("table", title, says, text, **{"width": 12, "transformations": organize, **more})


def row(title, *panels):
    return (title, panels)


def laid_out(rows):
    """Panels beside each other while there is room."""
    placed, top = [], 0
    for title, panels in rows:
        placed.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}})
        top, left, tallest = top + 1, 0, 0
        for one in panels:
            if left + one["gridPos"]["w"] > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            one["gridPos"] |= {"x": left, "y": top}
            left, tallest = left + one["gridPos"]["w"], max(tallest, one["gridPos"]["h"])
            placed.append(one)
        top += tallest
    for number, one in enumerate(placed, 1):
        one["id"] = number
    return placed


def variable(name, label, of, multi=True):
    """The values of a label; of several, all at first."""
    first = {"text": "All", "value": "$__all"} if multi else {}
    every = {"includeAll": True, "allValue": ".*", "multi": True} if multi else {"includeAll": False, "multi": False}
    asked = f"label_values({of})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": asked,
        "query": {"query": asked, "refId": name},
        "refresh": 2,
        "sort": 1,
        "current": first,
        **every,
    }


def mark(name, color, text, title):
    """Moments that are shown in every graph."""
    return {"name": name, "datasource": SOURCE, "enable": True, "iconColor": color, "expr": query(text), "titleFormat": title, "step": "15s"}


def dashboard(uid, title, says, rows, *, one_node=False, servers=False):
    chosen = 'holdfast_build_info{namespace=~"$namespace",job=~"$job"}'
    variables = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
        variable("namespace", "Namespace", "holdfast_build_info, namespace"),
        variable("job", "Job", 'holdfast_build_info{namespace=~"$namespace"}, job'),
        variable("node", "Node", f"{chosen}, instance", multi=not one_node),
    ]
    if servers:
        variables.append(variable("server", "Server", f"{query('holdfast_upstream_calls{@}')}, server"))
    return {
        "uid": f"holdfast-{uid}",
        "title": f"Holdfast / {title}",
        "description": " ".join(says.split()),
        "tags": ["holdfast"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "title": "Holdfast", "tags": ["holdfast"], "asDropdown": True, "includeVars": True, "keepTime": True},
            {"type": "link", "title": "Runbooks", "url": f"{RUNBOOKS}/", "icon": "doc", "targetBlank": True},
        ],
        "annotations": {
            "list": [
                mark("Deaths", "red", "sum(changes(holdfast_node_deaths_total{@}[2m])) > 0", "A node was found dead"),
                mark("Starts", "blue", "sum by (instance) (changes(process_start_time_seconds{@}[2m])) > 0", "{{instance}} started anew"),
            ]
        },
        "templating": {"list": variables},
        "panels": laid_out(rows),
    }
