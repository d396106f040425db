//! Every key there is, read from the top of the document down: name, default, range and meaning in one
//! place. A default's reason stands in its text, because the text becomes the reference.

mod auth;
mod client;
mod cluster;
mod credentials;
mod issuer;
mod limits;
mod node;
mod proxies;
mod session;
mod tls;

pub use auth::is_scope;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use url::Url;

use super::faults::did_you_mean;
use super::reader::Section;
use super::secret::Secret;
use super::settings::{
    Answers, Bus, Config, CredentialsConfig, Era, Grant, RequestsConfig, ServerConfig, ServerTlsConfig,
    SessionMode, State,
};
use super::units::{Reason, show_duration};
use super::upstream_url::UpstreamUrl;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const ZERO: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Anything shorter ends healthy work on a busy machine; tests need it this short.
const SHORTEST: Duration = Duration::from_millis(100);

const TIMEOUTS: RangeInclusive<Duration> = SHORTEST..=DAY;
const TIMEOUTS_MAX: RangeInclusive<Duration> = SHORTEST..=Duration::from_secs(7 * 86_400);

const fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

pub(super) const TOP: &str = "The keys that stand at the top of the file.";

pub(super) fn config(s: &mut Section<'_, '_>) -> Config {
    let listen = s.address(
        "listen",
        SocketAddr::from((Ipv4Addr::LOCALHOST, 4444)),
        "Where MCP clients connect. The default is reachable from this machine only; any other needs `auth`. \
         Port 0 takes any free port.",
    );
    let public_url = s.url(
        "public_url",
        "What clients call this gateway from outside, when it stands behind an ingress or a load balancer. \
         May end in a path, which then is put before every path that clients are told.",
    );
    let state = state(s);
    let bus = bus(s);
    let named = s.optional_text(
        "default_server",
        "the only server, or the one called `default`",
        "a name from `servers`",
        |text| Ok(text.to_owned()),
        "The server behind `/mcp`, `/sse` and `/message`. Without one these paths answer 404, and clients \
         use `/servers/<name>/mcp`.",
    );
    let mut config = Config {
        listen,
        public_url,
        state,
        bus,
        default_server: None,
        admin: s.section("admin", client::ADMIN, client::admin),
        auth: s.section("auth", auth::AUTH, auth::auth),
        http: s.section("http", client::HTTP, client::http),
        streams: s.section("streams", client::STREAMS, client::streams),
        log: s.section("log", session::LOG, session::log),
        sessions: s.section("sessions", session::SESSIONS, session::sessions),
        limits: s.section("limits", limits::LIMITS, limits::limits),
        requests: s.section("requests", session::REQUESTS, session::requests),
        upstream: s.section("upstream", node::UPSTREAM, node::upstream),
        redis: s.section("redis", cluster::REDIS, cluster::redis),
        nats: s.section("nats", cluster::NATS, cluster::nats),
        cluster: s.section("cluster", cluster::CLUSTER, cluster::cluster),
        drain: s.section("drain", node::DRAIN, node::drain),
        telemetry: s.section("telemetry", node::TELEMETRY, node::telemetry),
        audit: s.section("audit", node::AUDIT, node::audit),
        metrics: s.section("metrics", node::METRICS, node::metrics),
        servers: s.map("servers", SERVERS, |_, s| server(s)),
    };
    check_timeouts(s, &config.servers, &config.requests);
    if matches!((&config.state, &config.bus), (State::Memory | State::None, Bus::Nats(_))) {
        s.fault(
            &["bus", "state"],
            "nodes that share a bus must share their state: set state to a Redis's URL",
        );
    }
    check_listeners(s, config.listen, config.admin.listen);
    check_drain(s, &config);
    auth::check(s, &config);
    credentials::check(s, &config);
    limits::check_all(s, &config);
    config.default_server = default_server(s, named, &config.servers);
    config
}

/// Port 0 is another one each time.
fn check_listeners(s: &mut Section<'_, '_>, listen: SocketAddr, admin: SocketAddr) {
    // `0.0.0.0` is every address of its own kind, `[::]` every address.
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
    };
    let overlap = covers(listen, admin) || covers(admin, listen);
    if overlap && listen.port() == admin.port() && listen.port() != 0 {
        let message = format!("listen ({listen}) and admin.listen ({admin}) need two addresses");
        s.fault(&["admin.listen", "listen"], message);
    }
}

/// Without shared state there is neither notice nor handover, so only what was written is judged.
fn check_drain(s: &mut Section<'_, '_>, config: &Config) {
    let drain = &config.drain;
    let written = s.was_given("drain.notice");
    if drain.notice >= drain.timeout && (written || matches!(config.state, State::Redis(_))) {
        let [notice, timeout] = [drain.notice, drain.timeout].map(|time| show_duration(&time));
        s.fault(
            &["drain.notice", "drain.timeout"],
            format!("drain.notice ({notice}) leaves nothing of drain.timeout ({timeout})"),
        );
    }
}

const REDIS_SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];

fn state(s: &mut Section<'_, '_>) -> State {
    let parse = |text: &str| match address_of(text) {
        "memory" => Ok(State::Memory),
        "none" => Ok(State::None),
        _ => backend_url(text, &REDIS_SCHEMES).map(State::Redis),
    };
    let doc = "Where sessions and their logs are kept. `memory`: in this process. \
               `redis://user:password@host:6379/0`: in a Redis that nodes share; also `redis-cluster://`, and \
               `redis-sentinel://` with `?sentinelServiceName=`, both with `node=host:port` for each further \
               server or Sentinel; each of them with `rediss` for TLS. `none`: no sessions are kept at all, each \
               request stands alone and GET is answered with 405.";
    s.backend(
        "state",
        "memory",
        "`memory`, `none`, or a Redis's URL, such as `redis://127.0.0.1:6379`",
        parse,
        doc,
    )
    .unwrap_or(State::Memory)
}

fn bus(s: &mut Section<'_, '_>) -> Bus {
    let parse = |text: &str| match address_of(text) {
        "memory" => Ok(Bus::Memory),
        _ => backend_url(text, &["nats", "tls"]).map(Bus::Nats),
    };
    let doc = "How nodes reach each other. `memory`: one process is all there is. `nats://host:4222` (also \
               `tls://`): over a NATS, which several nodes on one `state` need.";
    s.backend("bus", "memory", "`memory` or a NATS's URL, such as `nats://127.0.0.1:4222`", parse, doc)
        .unwrap_or(Bus::Memory)
}

fn backend_url(text: &str, schemes: &[&str]) -> Result<Secret, Reason> {
    let url = Url::parse(text).ok().filter(|_| text.contains("://"));
    let url = url.ok_or(Reason::Borrowed("is no URL"))?;
    if !schemes.contains(&url.scheme()) {
        return Err("is not supported by this build".into());
    }
    if url.host_str().is_none_or(str::is_empty) { Err("names no host".into()) } else { Ok(Secret::new(text)) }
}

/// `memory:` and `memory://` mean `memory`.
fn address_of(text: &str) -> &str {
    text.strip_suffix("://").or_else(|| text.strip_suffix(':')).unwrap_or(text)
}

const SERVERS: &str = "The MCP servers behind this gateway, each under a name of its own: `a-z`, `0-9`, `_` \
    and `-`, beginning with a letter or digit, 63 characters at most. Clients reach a server at \
    `/servers/<name>/mcp`. A server may be given by environment variables alone; it is then called by its \
    part of the variable in lower case. `--upstream URL` sets the address of the server `default`.";

fn server(s: &mut Section<'_, '_>) -> Option<ServerConfig> {
    let upstream = s.required_url(
        "upstream",
        "The address of the MCP server, with its path. A query is kept and never logged; a user name or \
         password belongs elsewhere.",
    );
    let era = s.choice(
        "era",
        &[("auto", Era::Auto), ("legacy", Era::Legacy), ("modern", Era::Modern), ("both", Era::Both)],
        Era::Auto,
        "Which revisions of MCP the server speaks: `legacy` is up to 2025-11-25, `modern` is from \
         2026-07-28. `auto` asks it, and asks again after `upstream.era_ttl`.",
    );
    let answers = s.choice(
        "answers",
        &[("auto", Answers::Auto), ("json", Answers::Json), ("sse", Answers::Sse)],
        Answers::Auto,
        "How requests are answered. `auto`: in plain JSON if the answer comes within `requests.json_wait` \
         and nothing comes before it, as a stream otherwise. `json`: never a stream. `sse`: always one.",
    );
    let sessions = s.choice(
        "sessions",
        &[("stateful", SessionMode::Stateful), ("stateless", SessionMode::Stateless)],
        SessionMode::Stateful,
        "`stateless` gives legacy clients no session id; each request stands alone.",
    );
    let pinned = s.switch(
        "pinned",
        false,
        "`on` if the address leads to a server of each node's own, such as a sidecar container of its pod: a \
         session's requests then go to the node that opened it, over the `bus`. A session whose node is gone \
         is opened anew at the server of another.",
    );
    let timeout = s.duration_instead_of(
        "timeout",
        "requests.timeout",
        TIMEOUTS,
        "For a server that is slower, or should be given up sooner, than the others.",
    );
    let timeout_max = s.duration_instead_of(
        "timeout_max",
        "requests.timeout_max",
        TIMEOUTS_MAX,
        "For a server whose calls may run longer, or must end sooner, than those of the others.",
    );
    let access = auth::access(s);
    let credentials = s.section("credentials", credentials::CREDENTIALS, credentials::credentials);
    let pass_headers = credentials::pass_headers(s);
    let tls = s.section("tls", credentials::TLS, credentials::tls);
    let upstream = upstream?;
    if tls != ServerTlsConfig::default() && upstream.scheme() != "https" {
        s.fault(&["upstream"], "no TLS is spoken with a server whose address is http://, and it has `tls`");
    }
    let exchanges = matches!(&credentials, CredentialsConfig::Token { grant: Grant::TokenExchange, .. });
    if exchanges && pinned {
        s.fault(
            &["credentials.grant", "pinned"],
            "a client's token is not sent to another node to be exchanged there",
        );
    }
    if exchanges && access.anonymous {
        s.fault(&["credentials.grant", "anonymous"], "who comes without a token has none to exchange");
    }
    if let CredentialsConfig::Header(name, _) = &credentials
        && pass_headers.contains(name)
    {
        s.fault(&["pass_headers"], "a header that the gateway sets itself can't be a client's");
    }
    let upstream = UpstreamUrl::new(upstream);
    Some(ServerConfig {
        upstream,
        access,
        credentials,
        pass_headers,
        tls,
        era,
        answers,
        sessions,
        pinned,
        timeout,
        timeout_max,
    })
}

fn check_timeouts(
    s: &mut Section<'_, '_>,
    servers: &BTreeMap<String, ServerConfig>,
    requests: &RequestsConfig,
) {
    for (name, server) in
        servers.iter().filter(|(_, server)| (server.timeout, server.timeout_max) != (None, None))
    {
        let timeout_max = server.timeout_max.unwrap_or(requests.timeout_max);
        let own = server.timeout.unwrap_or(requests.timeout);
        if own > timeout_max {
            let (max, timeout) = (format!("servers.{name}.timeout_max"), format!("servers.{name}.timeout"));
            let [own, own_max] = [own, timeout_max].map(|time| show_duration(&time));
            let message = format!("this server's timeout ({own}) is longer than its timeout_max ({own_max})");
            s.fault(&[&max, &timeout], message);
        }
    }
}

fn default_server(
    s: &mut Section<'_, '_>,
    named: Option<String>,
    servers: &BTreeMap<String, ServerConfig>,
) -> Option<String> {
    if let Some(name) = named {
        if !servers.contains_key(&name) {
            let near = did_you_mean(&name, servers.keys().map(String::as_str));
            s.fault(&["default_server"], format!("there is no such server{near}"));
        }
        return Some(name);
    }
    match servers.len() {
        1 => servers.keys().next().cloned(),
        _ => servers.contains_key("default").then(|| "default".to_owned()),
    }
}
