"""What is made from the comments in values.yaml: the table in the chart's README, the descriptions in its schema."""

import json
import re

import yaml

from chart import CHART, ROOT

MARK = "<!-- What follows is made from values.yaml: `make helm-renew`. -->\n"
KEY = re.compile(r"^( *)([A-Za-z][\w-]*):")


def documented():
    """Each documented path with its text, in the file's order. Refuses keys without a comment, unless one above them has
    no documented key below it and so speaks for all of them."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    texts, bare, path, comment = {}, [], [], []
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if stripped.startswith("#"):
            comment = [stripped] if stripped.startswith("# -- ") else comment + [stripped] if comment else []
            continue
        key = KEY.match(line)
        if not key:
            comment = []
            continue
        depth = len(key[1]) // 2
        path = path[:depth] + [key[2]]
        if comment:
            texts[tuple(path)] = " ".join(each.removeprefix("#").strip() for each in comment).removeprefix("-- ")
        else:
            bare.append((number, tuple(path)))
        comment = []
    for number, name in bare:
        above = [name[:length] for length in range(len(name) - 1, 0, -1) if name[:length] in texts]
        if not above or sections(texts, above[0]):
            raise SystemExit(f"values.yaml:{number}: {'.'.join(name)} has no comment that begins with `# --`")
    return texts


def sections(texts, path):
    return any(other[: len(path)] == path and other != path for other in texts)


def default(values, path):
    value = values
    for key in path:
        value = value[key]
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`" if len(text) <= 100 else "see [values.yaml](values.yaml)"


def table():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    texts = documented()
    lines = ["| Key | Default | Meaning |", "|---|---|---|"]
    for path, text in texts.items():
        name, text = ".".join(path), text.replace("|", "\\|")
        if sections(texts, path):
            lines.append(f"| **`{name}`** | | **{text}** |")
        else:
            lines.append(f"| `{name}` | {default(values, path)} | {text} |")
    return "\n".join(lines) + "\n"


def readme():
    """The README as it should be: what is written by hand, then the table."""
    text = (CHART / "README.md").read_text()
    return text[: text.index(MARK)] + MARK + "\n" + table()


def schema():
    """The schema as it should be: what is written by hand, with the comments as descriptions."""
    found = json.loads((CHART / "values.schema.json").read_text())
    for path, text in documented().items():
        place = found
        for key in path:
            place = place.get("properties", {}).get(key)
            if place is None:
                break
        if place is not None:
            place["description"] = text
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def schema_paths():
    """Every path that the schema has a place for, and every one of values.yaml, without what is free in both."""
    found = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def walk(place, value, path):
        if "$ref" in place:
            place = found["definitions"][place["$ref"].rpartition("/")[2]]
        if place.get("additionalProperties") is not False or not isinstance(value, dict):
            return
        for key in place["properties"].keys() | value.keys():
            below = path + (key,)
            if key not in value:
                yield below, "values.yaml has no such key"
            elif key not in place["properties"]:
                yield below, "the schema has no such key"
            else:
                yield from walk(place["properties"][key], value[key], below)

    return list(walk(found, values, ()))


def cargo_version():
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^version = "([^"]+)"', text, re.M)[1]
