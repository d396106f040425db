//! What is allowed and rarely meant: `serve` begins with these warnings, and `check-config` shows them.

use std::net::IpAddr;

use url::Url;

use crate::config::{AuthMode, Bus, Config, State};

/// One line each; none of them keeps a node from starting.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if config.auth.mode == AuthMode::None && !config.listen.ip().is_loopback() {
        let listen = config.listen;
        found.push(format!("nobody has to log in, and other machines can reach {listen} (auth.insecure)"));
    }
    let admin = &config.admin;
    if !admin.tokens.is_empty() && !admin.listen.ip().is_loopback() && admin.tls.is_none() {
        let listen = admin.listen;
        found.push(format!("operators' tokens come to {listen} unencrypted from other machines (admin.tls)"));
    }
    if config.servers.is_empty() {
        found.push(
            "no server is configured (servers, or --upstream): every request is answered with 404".into(),
        );
    }
    let drain = &config.drain;
    if matches!(config.state, State::Redis(_)) && drain.notice + drain.handover > drain.timeout {
        found.push(
            "drain.notice and drain.handover take longer than drain.timeout: streams are handed over in less time".into(),
        );
    }
    if let (State::Redis(_), Bus::Memory) = (&config.state, &config.bus) {
        found.push(
            "state is shared and bus is not: this must be the only node, or others' streams wait for ever"
                .into(),
        );
    }
    found.extend(unsigned(config).map(str::to_owned));
    found
}

/// Says where what is told between nodes proves nothing.
fn unsigned(config: &Config) -> Option<&'static str> {
    let Bus::Nats(url) = &config.bus else { return None };
    if config.cluster.accept_unsigned {
        Some("messages between nodes are taken unsigned as well (cluster.accept_unsigned)")
    } else if config.cluster.keys.is_empty() && !is_loopback(url.reveal()) {
        Some(
            "messages between nodes are not signed (cluster.keys): whoever reaches the NATS can speak for a node",
        )
    } else {
        None
    }
}

fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};

    fn check(entries: &[(&'static str, &str)], expected: &[&str]) {
        let entries = entries.iter().map(|(key, value)| (*key, (*value).to_owned(), "test")).collect();
        let found = warnings(&load(None, std::iter::empty(), Overrides { entries }).unwrap());
        let all = found.len() == expected.len();
        assert!(
            all && found.iter().zip(expected).all(|(found, start)| found.starts_with(start)),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_rarely_meant_is_said() {
        let one = ("servers.one.upstream", "http://one/mcp");
        let two = ("servers.two.upstream", "http://two/mcp");
        check(&[], &["no server is configured"]);
        check(&[one], &[]);
        check(&[one, two], &[]);
        check(&[one, ("state", "redis://redis")], &["state is shared and bus is not"]);
        let shared = [one, ("state", "redis://redis"), ("bus", "nats://nats")];
        check(&shared, &["messages between nodes are not signed"]);
        let short = [one, ("state", "redis://redis"), ("bus", "nats://localhost"), ("drain.timeout", "8s")];
        check(&short, &["drain.notice and drain.handover take longer"]);
        let open = ("listen", "0.0.0.0:4444");
        check(&[one, open, ("auth.insecure", "on")], &["nobody has to log in"]);
    }

    #[test]
    fn which_addresses_are_this_machines_own() {
        for own in ["nats://127.0.0.1:4222", "nats://u:p@localhost", "tls://[::1]:4222", "nats://127.9.9.9"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in
            ["nats://nats:4222", "nats://10.0.0.1", "tls://[2001:db8::1]", "nats://localhost.example"]
        {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
