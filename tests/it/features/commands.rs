//! What the command line says, and what a node's log does not say.

use std::process::{Command, Stdio};
use std::time::Duration;

use holdfast::domain::SessionId;
use serde_json::json as value;

use crate::harness::{Client, Hand, Stream, call};
use crate::peers::process::{holdfast_under, roomy, run};

#[test]
fn who_reads_no_further_has_what_they_wanted() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.arg("config-reference").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The reference is longer than what a pipe holds.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn check_config_shows_what_serve_would_warn_of() {
    for (arguments, warning) in [
        (vec![], "warning: no server is configured"),
        (
            vec!["--upstream", "http://one/mcp", "--state", "redis://redis"],
            "warning: state is shared and bus",
        ),
    ] {
        let mut check = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        let output = run(check.arg("check-config").args(arguments), Duration::from_secs(10));
        assert!(output.success && output.text.contains(warning), "{}", output.text);
        assert!(output.text.contains("the configuration is good"), "{}", output.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_of_the_log_has_a_sessions_id() {
    let hand = Hand::start().await;
    let filter = "debug,holdfast=trace";
    let upstream = hand.upstream.url.clone();
    let mut command = roomy(env!("CARGO_BIN_EXE_holdfast"));
    command.env("HOLDFAST_TELEMETRY_LOG_FILTER", filter);
    let mut node = tokio::task::block_in_place(|| holdfast_under(command, &["--upstream", &upstream]));
    let mut client = Client::new(&node.url());
    client.initialize("2025-11-25").await;
    let id = client.session.clone().unwrap();
    let stream = Stream::new(client.get(None).await);
    let body = call(1);
    let (running, answer) = futures::join!(client.streamed(&body), hand.take("tools/call"));
    drop((running, answer, stream));
    // One that can't be resumed is said in the log.
    drop(client.get(Some(&format!("{id}.g.1-1"))).await);
    client.delete().await;
    client.posted(&value!({ "jsonrpc": "2.0", "id": 2, "method": "ping" })).await;
    tokio::task::block_in_place(|| node.terminate(Duration::from_secs(20)));
    let said = node.rest();
    assert!(!said.contains(&id), "{}", said.lines().filter(|line| line.contains(&id)).collect::<String>());
    assert!(said.contains(&SessionId::parse(&id).unwrap().fingerprint()), "it is spoken of:\n{said}");
}
