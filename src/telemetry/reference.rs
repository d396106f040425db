//! The reference of the metrics (docs/metrics.md), written from where they are registered.

use std::fmt::Write as _;

use super::catalogue::{Described, Values};
use super::metrics::Metrics;

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by the code in src/telemetry; `cargo test` says when it is out of date and how to renew it. -->

`GET /metrics` on the operators' address (`admin.listen`) answers in the text format of Prometheus. Durations are in
seconds, sizes in bytes, and names say so. Counters end in `_total` and begin at 0, those under the name of a method or tool
with its first request. What is distributed is a histogram, whose `_count` and `_sum` count and add up too. No label carries an id, a path or a client's words: each has a closed set of
values, but for `server` (the names under `servers`) and the names of tools, of which there are at most
[`metrics.tools_max`](configuration.md#metrics) in a process.

Metrics are a node's own, unless they say otherwise: add them up over the nodes.
";

/// The whole reference, in Markdown.
#[must_use]
pub fn reference() -> String {
    let (_, described) = Metrics::described(0);
    let mut sections: Vec<&str> = described.iter().map(|family| family.section).collect();
    sections.dedup();
    let mut text = INTRODUCTION.to_owned();
    for section in sections {
        let rows: String = described.iter().filter(|family| family.section == section).map(row).collect();
        let head = "| Metric | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n";
        let _ = write!(text, "\n## {section}\n\n{head}{rows}");
    }
    text.push_str("\n## Long labels\n");
    let mut said = Vec::new();
    for (name, values) in described.iter().flat_map(|family| &family.labels) {
        if let Some(values) = long(values).filter(|_| !said.contains(name)) {
            let _ = write!(text, "\n`{name}`: {values}\n");
            said.push(name);
        }
    }
    text
}

/// More values than fit a cell are said once, at the end.
fn long(values: &Values) -> Option<String> {
    const CELL: usize = 12;
    match values {
        Values::Closed(values) if values.len() > CELL => Some(listed(values)),
        Values::Closed(_) | Values::Open(_) => None,
    }
}

fn listed(values: &[&str]) -> String {
    let values =
        values.iter().map(|value| if value.is_empty() { "empty".into() } else { format!("`{value}`") });
    values.collect::<Vec<_>>().join(", ")
}

fn row(family: &Described) -> String {
    let labels = family.labels.iter().map(|(name, values)| match values {
        Values::Open(what) => format!("`{name}`: {what}"),
        long_values if long(long_values).is_some() => format!("[`{name}`](#long-labels)"),
        Values::Closed(values) => format!("`{name}`: {}", listed(values)),
    });
    let labels = labels.collect::<Vec<_>>().join("; ");
    let (name, kind, help) = (&family.name, family.kind, &family.help);
    format!("| `{name}` | {kind} | {} | {labels} | {help} |\n", unit(family))
}

/// As names have to say it.
fn unit(family: &Described) -> &'static str {
    let name = family.name.trim_end_matches("_total");
    match name.rsplit('_').next() {
        Some("seconds") => "seconds",
        Some("bytes") => "bytes",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

    #[test]
    fn the_reference_says_what_is_there() {
        let kept = std::fs::read_to_string(PATH).unwrap();
        let hint =
            "docs/metrics.md is out of date: cargo test --lib telemetry -- --ignored renew_the_reference";
        assert!(kept == reference(), "{hint}");
    }

    #[test]
    #[ignore = "writes docs/metrics.md"]
    fn renew_the_reference() {
        std::fs::write(PATH, reference()).unwrap();
    }

    #[test]
    fn long_labels_of_one_name_say_the_same() {
        let (_, described) = Metrics::described(0);
        let mut known = std::collections::BTreeMap::new();
        for (name, values) in described.iter().flat_map(|family| &family.labels) {
            if let Some(values) = long(values) {
                assert_eq!(known.entry(name).or_insert_with(|| values.clone()), &values, "{name}");
            }
        }
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let (_, described) = Metrics::described(0);
        for family in &described {
            let name = &family.name;
            let ours = ["holdfast_", "mcp_server_", "mcp_client_", "process_"];
            assert!(ours.iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
            assert!(family.kind != "histogram" || name.ends_with("_seconds"), "{name}");
            let duration = name.contains("duration") || name.contains("_age");
            assert!(!duration || name.ends_with("_seconds"), "{name}");
            assert!(family.help.ends_with('.') || name.starts_with("process_"), "{name}");
        }
    }
}
