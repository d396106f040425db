//! The reference of the configuration (docs/configuration.md), written from what the reading code says.

use std::fmt::Write;

use super::catalogue::{Catalogue, KeyEntry};
use super::variables::variable_name;

pub(super) const EXAMPLE: &str = include_str!("example.yaml");

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by the code in src/config; `cargo test` says when it is out of date and how to renew it. -->

Holdfast needs no configuration file. `holdfast serve --upstream http://127.0.0.1:3001/mcp` puts it in front
of one MCP server with the defaults below. For more, write one YAML file and start with
`holdfast serve --config FILE`, or name the file in the variable `HOLDFAST_CONFIG`.

`holdfast check-config` reads everything as `serve` would, says all that is wrong with it at once, each fault
with its place (file, line and column, variable, or flag), and starts nothing. It prints the warnings that `serve`
would begin with, which are no faults. It opens no port and asks no backend: whether an address is free, and whether
Redis, NATS, an issuer or a server answers, shows at the start.

## Which value counts

The same key may be given in several places. A flag wins over an environment variable, a variable over the
file, and the file over the default.

Every key has a variable: `HOLDFAST_`, then its path in upper case with `_` in place of `.` and `-`. A list is
written with commas. A variable that is empty counts as not given. A key or a `HOLDFAST_` variable that
Holdfast doesn't know is a fault, so that no spelling mistake goes unnoticed; the variables that Kubernetes
adds for Services (`HOLDFAST_SERVICE_HOST`, `HOLDFAST_PORT_…`) are left alone.

## How values are written

- **duration**: a number and a unit: `250ms`, `60s`, `10m`, `1h`, `7d`, or several: `1h30m`.
- **size**: a number of bytes, or one with a unit: `64KiB`, `4MiB`, `1GiB`.
- **number**: a whole number; `100_000` is `100000`.
- **switch**: `on` or `off`; `true`, `false`, `yes` and `no` are understood as well.
- **address**: an IP address and a port: `127.0.0.1:4444`, `[::1]:4444`; `localhost:4444` is `127.0.0.1:4444`.
- **list**: in the file a YAML list, `[one, two]`; in a variable `one,two`.
- **secret**: a text that is never printed.

The file is plain YAML of at most 1MiB. Aliases, tags and a second document in the same file are refused.
A section may be left empty; a key may not.

Limits are there to be met: what happens then is said beside each of them.
";

/// The whole reference, in Markdown.
pub fn reference() -> String {
    let catalogue = super::catalogue();
    let mut text = INTRODUCTION.to_owned();
    for section in &catalogue.sections {
        let title = match section.path.as_str() {
            "" => "Top of the file".to_owned(),
            path => format!("`{path}`"),
        };
        let rows: String = keys_of(&catalogue, &section.path).map(row).collect();
        let head = "| Key | Type | Default | Range | Variable | Meaning |\n|---|---|---|---|---|---|\n";
        let _ = write!(text, "\n## {title}\n\n{}\n\n{head}{rows}", section.doc);
    }
    let _ = write!(text, "\n## An example\n\n```yaml\n{EXAMPLE}```\n");
    text
}

fn keys_of<'c>(catalogue: &'c Catalogue, section: &'c str) -> impl Iterator<Item = &'c KeyEntry> {
    catalogue.keys.iter().filter(move |key| key.section == section)
}

fn row(key: &KeyEntry) -> String {
    let shape = &key.shape;
    let value = shape.default.split_whitespace().count() == 1 && !shape.default.starts_with('`');
    let default =
        if value && shape.default != "none" { format!("`{}`", shape.default) } else { shape.default.clone() };
    let variable = variable_name(&key.path());
    let cells = [
        format!("`{}`", key.name),
        shape.kind.to_owned(),
        default,
        shape.range.clone(),
        format!("`{variable}`"),
        shape.doc.to_owned(),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
