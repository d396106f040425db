//! Nine thousand open streams on one node, one process: all served, all told when to come back.

use super::MACHINE;
use super::process::{Process, example, holdfast, roomy};
use crate::harness::{Upstream, json};

const STREAMS: u64 = 9_000;
const CLIENTS: u64 = 3;

#[test]
fn nine_thousand_streams_are_served_and_ended_in_order() {
    let _alone = MACHINE.write();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::start(|asked| json(asked, &serde_json::json!({}))));
    let mut gateway = holdfast(&["--upstream", &upstream.url]);
    let address = gateway.url().trim_start_matches("http://").to_owned();
    let before = gateway.memory();
    let crowd: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = roomy(example("crowd"));
            Process::start(client.args([&*address, &(STREAMS / CLIENTS).to_string()]))
        })
        .collect();
    for client in &crowd {
        assert_eq!(client.line_after("open "), (STREAMS / CLIENTS).to_string());
    }
    let bytes = gateway.memory() - before;
    println!(
        "{STREAMS} idle streams with their sessions: {:.1} KiB of process memory each",
        kib(bytes / STREAMS)
    );
    assert_eq!(gateway.terminate(), Some(0));
    for client in &crowd {
        let line = client.line_after("{");
        let share = STREAMS / CLIENTS;
        let all = format!(r#""ended":{share},"orderly":{share},"told_when_to_retry":{share},"events":0}}"#);
        assert_eq!(line, all);
    }
    assert!(gateway.line_after("\"ending\":").starts_with("\"clean\""), "no task is left over");
    let deleted = upstream.count(|asked| asked.method == "DELETE");
    assert_eq!(deleted as u64, STREAMS, "each upstream session was ended");
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
