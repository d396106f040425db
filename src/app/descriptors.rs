//! File descriptors: a shell often allows 1,024, and a gateway needs one for each client. What the
//! hard limit allows is taken at start; what is missing then is said before clients find out.

use crate::config::Config;

/// Listeners, timers, logs, and what a library may open for a moment.
const OWN: usize = 64;

/// Takes as many as there may be; too few are no reason not to start.
pub(super) fn raise(config: &Config) {
    let needed = needed(config);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < needed as u64 => tracing::warn!(
            limit,
            needed,
            "fewer file descriptors than http.connections_max and limits.streams_max may take: raise the \
             hard limit (ulimit -H -n, LimitNOFILE=) or lower them"
        ),
        Ok(limit) => tracing::debug!(limit, needed, "file descriptors"),
        Err(error) => tracing::warn!(%error, needed, "the limit on file descriptors can't be raised"),
    }
}

/// One for each client, or each stream if these are more (over HTTP/2 a connection has many, but each
/// may have a stream of its upstream's), and the pools towards the upstreams.
fn needed(config: &Config) -> usize {
    let clients = config.http.connections_max.max(config.limits.streams_max);
    clients + config.upstream.idle_connections_max * config.servers.len() + OWN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};

    fn check(entries: &[(&'static str, &str)], needed_then: usize) {
        let entries = entries.iter().map(|(key, value)| (*key, (*value).to_owned(), "test")).collect();
        let config = load(None, std::iter::empty(), Overrides { entries }).unwrap();
        assert_eq!(needed(&config), needed_then);
    }

    #[test]
    fn the_defaults_fit_a_limit_of_20_000() {
        check(&[], 19_064);
        check(&[("servers.one.upstream", "http://one/mcp")], 19_320);
        check(&[("http.connections_max", "100"), ("limits.streams_max", "10")], 164);
    }
}
