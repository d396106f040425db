//! Nine thousand open streams on one node, one process: all served, all told when to come back, and
//! nothing left behind, here or at the upstream.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use super::MACHINE;
use super::process::{Process, example, holdfast_under, roomy};
use crate::harness::summed;

const STREAMS: u64 = 9_000;
const CLIENTS: u64 = 3;
const SHARE: u64 = STREAMS / CLIENTS;

/// One client in a hundred calls a tool, and hears of it on its GET stream.
const SAMPLE: u64 = SHARE / 100;

/// `drain.timeout`, shorter than the default so that a forced end shows.
const SHUTDOWN: Duration = Duration::from_secs(15);

#[test]
fn nine_thousand_streams_are_served_and_ended_in_order() {
    let _alone = MACHINE.blocking_write();
    let upstream = Process::start(roomy(example("crowd")).arg("--upstream"));
    let upstream_url = upstream.line_after("listening on ");
    let mut gateway = gateway(&upstream_url);
    let before = gateway.memory();
    let began = Instant::now();
    let crowd: Vec<_> = (0..CLIENTS).map(|number| clients(&gateway.url(), number)).collect();
    for client in &crowd {
        assert_eq!(client.line_after("open "), SHARE.to_string());
        assert_eq!(client.line_after("used "), SAMPLE.to_string(), "calls that were answered");
    }
    let opened = began.elapsed();
    let open = get(&gateway.admin(), "/metrics");
    assert_eq!(summed(&open, "holdfast_streams{kind=\"get\"}"), Some(STREAMS as f64), "{open}");
    let each = kib((gateway.memory() - before) / STREAMS);

    let began = Instant::now();
    assert_eq!(gateway.terminate(SHUTDOWN + Duration::from_secs(5)), Some(0));
    let ended = began.elapsed();
    assert!(ended < SHUTDOWN, "it took {ended:?}");
    assert!(gateway.line_after("\"ending\":").starts_with("\"clean\""), "no task is left over");
    for client in &crowd {
        let line = client.line_after("ended ");
        let results: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (what, wanted) in [
            ("orderly", SHARE),
            ("told_when_to_retry", SHARE),
            ("cut", 0),
            ("still_open", 0),
            ("events", SAMPLE),
        ] {
            assert_eq!(results[what], wanted, "{what} in {line}");
        }
    }
    let counts = get(upstream_url.trim_end_matches("/mcp"), "/counts");
    assert!(counts.ends_with(&format!("opened {STREAMS} deleted {STREAMS}\n")), "{counts}");
    println!(
        "{STREAMS} idle streams with their sessions: {each:.1} KiB of process memory each; opened in \
         {opened:.1?}, ended in {ended:.1?}"
    );
}

/// With the few descriptors of an ordinary shell: it has to help itself to more.
fn gateway(upstream: &str) -> Process {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -S -n 1024; exec "$0" "$@""#, env!("CARGO_BIN_EXE_holdfast")]);
    shell
        .env("HOLDFAST_LIMITS_STREAMS_MAX", "10000")
        .env("HOLDFAST_LIMITS_SESSIONS_MAX", "10000")
        .env("HOLDFAST_HTTP_CONNECTIONS_MAX", "10000")
        .env("HOLDFAST_DRAIN_TIMEOUT", format!("{}s", SHUTDOWN.as_secs()));
    holdfast_under(shell, &["--upstream", upstream])
}

fn clients(gateway: &str, number: u64) -> Process {
    let address = gateway.trim_start_matches("http://");
    let source = format!("127.0.0.{}", number + 2);
    Process::start(roomy(example("crowd")).args([address, &SHARE.to_string(), &source]))
}

/// A whole answer, head included.
fn get(base: &str, path: &str) -> String {
    let address = base.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
