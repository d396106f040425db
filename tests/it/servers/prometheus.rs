//! A Prometheus that scrapes nodes and runs the alerts of deploy/, with all their times made shorter: a test
//! can't wait for minutes. Rates and bounds stay as they are.

use std::time::Duration;

use super::{Folder, Server};
use crate::peers::free_port;

/// As many times faster than in earnest, where it scrapes every 15 s and evaluates every 30.
pub(crate) const FASTER: u32 = 15;

pub(crate) struct Prometheus {
    _server: Server,
    port: u16,
    _folder: Folder,
}

impl Prometheus {
    /// Scrapes the operators' addresses of nodes.
    pub(crate) fn scraping(admin_urls: &[String], alerts: &str) -> Self {
        let targets: Vec<_> = admin_urls.iter().map(|url| url.trim_start_matches("http://")).collect();
        let [scrape, evaluation] = ["15s", "30s"].map(faster);
        let config = format!(
            "global: {{ scrape_interval: {scrape}, scrape_timeout: {scrape}, evaluation_interval: {evaluation} }}\n\
             rule_files: [alerts.yaml]\n\
             scrape_configs: [{{ job_name: holdfast, static_configs: [{{ targets: {targets:?} }}] }}]\n"
        );
        let (folder, port) = (Folder::new(), free_port());
        folder.write("alerts.yaml", &all_faster(alerts));
        let config = folder.write("prometheus.yaml", &config);
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        Self { _server: Server::start("prometheus", &arguments, port), port, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A duration as Prometheus writes it.
fn faster(duration: &str) -> String {
    format!("{}ms", (humantime::parse_duration(duration).unwrap() / FASTER).as_millis())
}

/// Rules whose ranges, offsets and waits are shorter.
fn all_faster(rules: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix("for: ") {
        Some(wait) => line.replace(wait, &faster(wait)),
        None => after(&after(line, "["), " offset "),
    };
    rules.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The same text with each duration that follows `mark` made shorter.
fn after(text: &str, mark: &str) -> String {
    let mut parts = text.split(mark);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(part.len());
        let (duration, rest) = part.split_at(end);
        match humantime::parse_duration(duration) {
            Ok(Duration::ZERO) | Err(_) => format!("{text}{mark}{part}"),
            Ok(_) => format!("{text}{mark}{}{rest}", faster(duration)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rules_are_shortened_and_nothing_else_is() {
        let rules = "        expr: rate(a_total{b=\"5m\"}[5m]) > 5 * rate(a_total[1h] offset 15m)\n        for: 30s\n          summary: in 5m";
        let shortened = "        expr: rate(a_total{b=\"5m\"}[20000ms]) > 5 * rate(a_total[240000ms] offset 60000ms)\n        for: 2000ms\n          summary: in 5m";
        assert_eq!(all_faster(rules), shortened);
    }
}
