"""Writes anew what is made: the README's table, schema descriptions, copies of rules and dashboards, golden files."""

import chart
import files
import reference


def main():
    (chart.CHART / "values.schema.json").write_text(reference.schema())
    (chart.CHART / "README.md").write_text(reference.readme())
    wanted = files.wanted()
    for path in files.present().keys() - wanted.keys():
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    chart.GOLDEN.mkdir(exist_ok=True)
    texts = {name: text for example in chart.EXAMPLES for name, text in chart.golden_texts(example).items()}
    for path in chart.GOLDEN.iterdir():
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (chart.GOLDEN / name).write_text(text)


if __name__ == "__main__":
    main()
