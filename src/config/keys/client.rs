//! The keys of what clients meet: the ports, what is accepted, and event streams.

use std::net::{Ipv4Addr, SocketAddr};

use super::{DAY, GIB, HOUR, KIB, MIB, MINUTE, SHORTEST, auth, proxies, seconds, tls};
use crate::config::reader::Section;
use crate::config::settings::{AdminConfig, AllowedHosts, AllowedOrigins, HttpConfig, StreamsConfig};
use crate::config::web;

pub(super) const ADMIN: &str =
    "Probes, metrics and the admin API, on a port of their own that clients never see.";

const OPERATORS: &str = "Who may use the admin API, each under a name of their own. `holdfast token --admin NAME` makes \
    a token. With some, every request to `/api` needs one, as `Authorization: Bearer TOKEN`, and any machine that \
    reaches `admin.listen` may send it. Without any, the API is there if `admin.listen` is a loopback address, for \
    whoever is on this machine.";

pub(super) fn admin(s: &mut Section<'_, '_>) -> AdminConfig {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 4445));
    let doc = "Where `/livez`, `/readyz` and `/metrics` are, for which nobody has to log in, so that an address \
               that other machines can reach needs `admin.expose` as well; and the admin API at `/api`.";
    let listen = s.address("listen", default, doc);
    let doc = "Says that `admin.listen` may be reachable from other machines, as it must be in a container. \
               Keep the port inside the cluster.";
    let expose = s.switch("expose", false, doc);
    if !listen.ip().is_loopback() && !expose {
        s.fault(
            &["listen"],
            "other machines can reach this address; set admin.expose to `on` if they should",
        );
    }
    let tokens = s.map("tokens", OPERATORS, |_, s| Some(auth::sha256(s)));
    AdminConfig { listen, tokens, tls: s.section("tls", tls::OPERATORS, tls::tls) }
}

pub(super) const HTTP: &str = "What is accepted from clients, before any MCP is looked at.";

pub(super) fn http(s: &mut Section<'_, '_>) -> HttpConfig {
    HttpConfig {
        allowed_origins: allowed_origins(s),
        allowed_hosts: allowed_hosts(s),
        header_bytes_max: s.bytes(
            "header_bytes_max",
            64 * KIB,
            8 * KIB..=MIB,
            "Size of a request's head: its first line and all headers. Larger ones get 431. Tokens in \
             headers can take some KiB; below 8KiB ordinary browsers fail.",
        ),
        header_timeout: s.duration(
            "header_timeout",
            seconds(10),
            SHORTEST..=5 * MINUTE,
            "Time until the head of a request is there, from its first byte, and from the opening of a connection \
             to that byte, with its TLS handshake. Slower connections are closed, so that nobody can keep them \
             open for nothing. Over HTTP/2 it holds for every frame but those of bodies.",
        ),
        idle_timeout: s.duration(
            "idle_timeout",
            seconds(75),
            SHORTEST..=HOUR,
            "How long a connection without a request is kept for the next one. It should be longer than what a \
             proxy in front keeps connections for (often 60s), or its requests over HTTP/1.1 meet closed connections.",
        ),
        body_bytes_max: s.bytes(
            "body_bytes_max",
            4 * MIB,
            KIB..=GIB,
            "Size of a request's body. Larger ones get 413. A body is held in memory until it is checked.",
        ),
        body_timeout: s.duration(
            "body_timeout",
            seconds(30),
            SHORTEST..=10 * MINUTE,
            "Time to send the whole body of a request. Slower ones get 408.",
        ),
        write_timeout: s.duration(
            "write_timeout",
            seconds(30),
            SHORTEST..=10 * MINUTE,
            "How long a client may take nothing of what is sent to it before its connection is closed; over \
             HTTP/2, where it may take nothing of one stream, that stream. One that ends this way can be resumed.",
        ),
        connections_max: s.count(
            "connections_max",
            19_000,
            1..=1_000_000,
            "Open client connections. Further ones are answered with 503, and over TLS closed. Over HTTP/1.1 each open stream has \
             one of its own, so this is more than `limits.streams_max`. Each takes a file descriptor, so keep \
             it well below the limit of the process.",
        ),
        proxies: proxies::proxies(s),
        tls: s.section("tls", tls::CLIENTS, tls::tls),
    }
}

fn allowed_origins(s: &mut Section<'_, '_>) -> AllowedOrigins {
    let list = s.list(
        "allowed_origins",
        "none: only pages of the host that was called",
        "such as `https://app.example.com`; `*` for any",
        web::origin,
        "Web pages whose scripts may call this gateway (CORS). Requests without an `Origin` header, which \
         is all but browsers, are not concerned. `*` lets every page that a user visits call: only where \
         nothing behind the gateway needs protection.",
    );
    match list.as_slice() {
        [] => AllowedOrigins::Own,
        [all] if all == "*" => AllowedOrigins::Any,
        _ => {
            if list.iter().any(|origin| origin == "*") {
                s.fault(&["allowed_origins"], "`*` allows every origin; write it alone, or remove it");
            }
            AllowedOrigins::Only(list)
        }
    }
}

fn allowed_hosts(s: &mut Section<'_, '_>) -> AllowedHosts {
    let list = s.list(
        "allowed_hosts",
        "loopback names when `listen` is a loopback address, otherwise any; the host of `public_url` always",
        "`host` or `host:port`; `*` for any",
        web::host,
        "Names under which clients may call this gateway (the `Host` header). Others get 403, which keeps \
         hostile web pages from reaching a local gateway by a name of their own (DNS rebinding). A name \
         without a port stands for every port.",
    );
    match list.as_slice() {
        [] => AllowedHosts::Own,
        [all] if all == "*" => AllowedHosts::Any,
        _ => {
            if list.iter().any(|host| host == "*") {
                s.fault(&["allowed_hosts"], "`*` allows every host; write it alone, or remove it");
            }
            AllowedHosts::Only(list)
        }
    }
}

pub(super) const STREAMS: &str = "Event streams to clients (SSE).";

pub(super) fn streams(s: &mut Section<'_, '_>) -> StreamsConfig {
    let streams = StreamsConfig {
        keep_alive: s.switch(
            "keep_alive",
            true,
            "Sends a comment on silent streams, and one at once on opening, so that nothing in between \
             takes them for dead.",
        ),
        keep_alive_interval: s.duration(
            "keep_alive_interval",
            seconds(25),
            SHORTEST..=10 * MINUTE,
            "Silence before a comment is sent. Many load balancers cut connections after 30s or 60s.",
        ),
        life_max: s.duration_or_off(
            "life_max",
            None,
            seconds(1)..=30 * DAY,
            "About how long a stream may be open, on which nothing is being answered. Then it ends with a `retry`, \
             and its client comes back through the balancer: nodes fill evenly again after a rollout.",
        ),
        idle_timeout: s.duration_or_off(
            "idle_timeout",
            None,
            SHORTEST..=7 * DAY,
            "Ends a stream on which no event was sent for this long, unless its client waits for an answer and would not come back for it. Clients that still want it resume.",
        ),
        retry: s.duration(
            "retry",
            seconds(2),
            SHORTEST..=5 * MINUTE,
            "The least time that clients are told to wait before they reconnect.",
        ),
        retry_max: s.duration(
            "retry_max",
            seconds(5),
            SHORTEST..=10 * MINUTE,
            "The longest such time. Each stream gets a random one between the two, so that not all come \
             back at the same moment.",
        ),
        buffer_events_max: s.count(
            "buffer_events_max",
            256,
            1..=65_536,
            "Events that wait for one slow reader. When there are more its stream ends, and it resumes \
             from the log.",
        ),
        buffer_bytes_max: s.bytes(
            "buffer_bytes_max",
            4 * MIB,
            64 * KIB..=GIB,
            "The same, in bytes. This times `limits.streams_max` is the most that slow readers can cost.",
        ),
    };
    if streams.retry > streams.retry_max {
        s.longer(("retry", streams.retry), ("retry_max", streams.retry_max));
    }
    streams
}
