//! Programs that others wrote, against the real binary: the official conformance suite, the
//! TypeScript SDK in both its lines, EventSource, mcp-remote, and server-everything behind the
//! gateway. `make test` installs them (npm, pinned by lock files).

mod crowd;
mod official;
pub(crate) mod process;
mod rmcp_client;

use std::time::Duration;

use tokio::sync::RwLock;

use crate::servers::Cluster;
pub(crate) use process::free_port;
use process::{Process, fixture, holdfast, holdfast_at, node, script};

const SUITE: Duration = Duration::from_secs(400);

/// The crowd and the cluster's load fill both cores, and some scripts of the suite give the server 800 ms: they take turns.
pub(crate) static MACHINE: RwLock<()> = RwLock::const_new(());

/// Runs a script to its end and wants its exit code to be 0.
fn passes(what: &str, mut script: std::process::Command, limit: Duration) {
    let _shared = MACHINE.blocking_read();
    let output = process::run(&mut script, limit);
    print!("{}", output.text);
    assert!(output.success, "{what} failed; see above");
}

fn everything() -> (Process, String) {
    let port = free_port().to_string();
    let server = node("clients", &["everything.mjs", "--port", &port]);
    let url = server.line_after("listening on ");
    (server, url)
}

#[test]
fn conformance_through_holdfast_equals_the_server_without_it() {
    let server = fixture(&[]);
    let gateway = holdfast(&["--upstream", &server.url()]);
    let suite = script(
        "conformance",
        &[
            "run.mjs",
            "--url",
            &format!("{}/mcp", gateway.url()),
            "--label",
            "holdfast",
            "--baseline-url",
            &server.url(),
        ],
    );
    passes("the conformance suite", suite, SUITE);
}

/// Three nodes on Redis and NATS, and a balancer that hands out requests in turn.
#[test]
fn conformance_through_a_cluster_equals_the_server_without_it() {
    let server = fixture(&[]);
    let cluster = Cluster::start(&server.url(), &[]);
    let url = format!("{}/mcp", cluster.url());
    let suite = script(
        "conformance",
        &["run.mjs", "--url", &url, "--label", "cluster", "--baseline-url", &server.url()],
    );
    passes("the conformance suite", suite, SUITE);
}

#[test]
fn the_typescript_sdk_uses_all_of_server_everything_over_streamable_http() {
    let (_server, url) = everything();
    let gateway = holdfast(&["--upstream", &url]);
    let mcp = format!("{}/mcp", gateway.url());
    let drive =
        script("clients", &["drive.mjs", "--url", &mcp, "--transport", "streamable", "--label", "holdfast"]);
    passes("drive over Streamable HTTP", drive, Duration::from_secs(150));
}

#[test]
fn the_typescript_sdk_uses_all_of_server_everything_over_http_sse() {
    let (_server, url) = everything();
    let gateway = holdfast(&["--upstream", &url]);
    let sse = format!("{}/sse", gateway.url());
    let drive = script("clients", &["drive.mjs", "--url", &sse, "--transport", "sse", "--label", "holdfast"]);
    passes("drive over HTTP+SSE", drive, Duration::from_secs(150));
}

#[test]
fn clients_whose_streams_are_cut_lose_nothing() {
    let (_server, url) = everything();
    let gateway = holdfast(&["--upstream", &url]);
    let mcp = format!("{}/mcp", gateway.url());
    for sdk in ["1", "2"] {
        let resume = script("clients", &["resume.mjs", "--url", &mcp, "--sdk", sdk]);
        passes("resume over Streamable HTTP", resume, Duration::from_secs(130));
    }
    let events = script("clients", &["eventsource.mjs", "--base", &gateway.url()]);
    passes("EventSource that reconnects", events, Duration::from_secs(130));
}

#[test]
fn the_modern_typescript_client_works() {
    let server = fixture(&[]);
    let gateway = holdfast(&["--upstream", &server.url()]);
    let modern = script("clients", &["modern.mjs", "--url", &format!("{}/mcp", gateway.url())]);
    passes("the modern client", modern, Duration::from_secs(100));
}

#[test]
fn mcp_remote_works_over_both_transports() {
    let (_server, url) = everything();
    let gateway = holdfast(&["--upstream", &url]);
    for path in ["mcp", "sse"] {
        let remote = script("clients", &["remote.mjs", "--url", &format!("{}/{path}", gateway.url())]);
        passes("mcp-remote", remote, Duration::from_secs(100));
    }
}

/// Done by the SDK's own client with a real authorization server; the gateway is told only who that is.
#[test]
fn a_client_finds_out_from_a_401_alone_where_to_log_in() {
    logs_in(&[], |_| Vec::new());
}

/// The same with tokens that say nothing by themselves: the gateway asks that server about them.
#[test]
fn a_client_finds_out_where_to_log_in_for_tokens_that_say_nothing() {
    logs_in(&["--opaque"], |issuer| {
        vec![
            ("HOLDFAST_AUTH_ISSUERS_LOCAL_INTROSPECTION_URL", format!("{issuer}/token/introspection")),
            ("HOLDFAST_AUTH_ISSUERS_LOCAL_CLIENT_ID", "gate".to_owned()),
            ("HOLDFAST_AUTH_ISSUERS_LOCAL_CLIENT_SECRET", "s3cret".to_owned()),
        ]
    });
}

fn logs_in(how: &[&str], settings: impl FnOnce(&str) -> Vec<(&'static str, String)>) {
    let (_server, upstream) = everything();
    let port = free_port().to_string();
    let issuer = node("clients", &[&["authorization.mjs", "--port", &port], how].concat());
    let issuer_url = issuer.line_after("listening on ");
    let (listen, admin) = (free_port(), free_port());
    let public = format!("http://127.0.0.1:{listen}");
    let mut environment = std::process::Command::new("holdfast");
    environment.envs([
        ("HOLDFAST_PUBLIC_URL", &*public),
        ("HOLDFAST_AUTH_MODE", "tokens"),
        ("HOLDFAST_AUTH_ISSUERS_LOCAL_ISSUER", &issuer_url),
        ("HOLDFAST_SERVERS_DEFAULT_UPSTREAM", &upstream),
        ("HOLDFAST_SERVERS_DEFAULT_SCOPES", "files"),
    ]);
    environment.envs(settings(&issuer_url));
    let _gateway = holdfast_at(&environment, listen, admin);
    for (path, more) in [("mcp", vec![]), ("servers/default/mcp", vec![]), ("sse", vec!["--sse"])] {
        let url = format!("{public}/{path}");
        let login = [vec!["login.mjs", "--url", &url], more, how.to_vec()].concat();
        passes("logging in", script("clients", &login), Duration::from_secs(70));
    }
}

#[test]
fn the_demo_keeps_its_promises() {
    let mut demo = std::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    demo.args(["demo", "--once"]);
    passes("the demo", demo, Duration::from_secs(60));
}

#[test]
fn a_wrong_configuration_is_told_all_at_once() {
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    check.args(["check-config", "--listen", "nowhere", "--upstream", "ftp://x", "--state", "mysql://x"]);
    let output = process::run(&mut check, Duration::from_secs(10));
    assert!(!output.success);
    for flag in ["--listen", "--upstream", "--state"] {
        assert!(output.text.contains(flag), "{flag} is missing in:\n{}", output.text);
    }
}
