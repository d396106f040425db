//! What `/metrics` says of a node that was used a little, and of one that was told a thousand made-up names.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use futures::StreamExt as _;
use holdfast::app::Shared;
use holdfast::telemetry::metrics_reference;
use serde_json::{Value, json as value};

use crate::harness::{
    Client, Gateway, Hand, POST, Stream, Upstream, call, configured, json, request, step, steps, summed,
    wait_until,
};

async fn page(gateway: &Gateway) -> String {
    Client::new(&gateway.admin).ask("GET", "/metrics", &[], "").await.text
}

/// Two nodes on one state. A session has a call answered in JSON, one that its tool fails, and one whose stream
/// moves to the other node while it is told things; it is looked for and ended. Beside it, a modern request.
async fn used() -> (Hand, Gateway, Gateway, Stream) {
    let hand = Hand::start().await;
    let settings =
        [("requests.json_wait", "2s"), ("servers.default.era", "both"), ("limits.streams_max", "77")];
    let config = configured(&hand.upstream.url, &settings);
    let shared = Shared::memory(&config);
    let a = Gateway::start_on(&config, shared.clone()).await;
    let b = Gateway::start_on(&config, shared).await;
    for node in [&a, &b] {
        wait_until("both are alive", || node.metric("holdfast_nodes") == Some(2.0)).await;
    }
    let mut client = a.client();
    client.initialize("2025-11-25").await;
    let asked = call(1);
    let (reply, ()) = futures::join!(client.posted(&asked), async {
        hand.take("tools/call").await.finish().await;
    });
    assert_eq!(reply.header("content-type"), "application/json");
    let asked = call(2);
    futures::join!(client.posted(&asked), async {
        let result = value!({ "jsonrpc": "2.0", "id": 2, "result": { "content": [], "isError": true } });
        hand.take("tools/call").await.say(&result).await;
    });
    let mut elsewhere = b.client();
    (elsewhere.session, elsewhere.version) = (client.session.clone(), client.version.clone());
    let asked = call(3);
    let (mut stream, answer) = futures::join!(client.streamed(&asked), async {
        let answer = hand.take("tools/call").await;
        answer.say(&step(0)).await;
        answer
    });
    assert_eq!(steps(&[stream.message().await]), [0]);
    let mut moved = Stream::new(elsewhere.get(stream.position.as_deref()).await);
    wait_until("it has moved", || a.metric("holdfast_streams{kind=\"post\"}") == Some(0.0)).await;
    answer.say(&step(1)).await;
    assert_eq!(steps(&[moved.message().await]), [1]);
    answer.finish().await;
    assert_eq!(moved.rest().await.len(), 1);
    let unasked = Stream::new(client.get(None).await);
    let mut nobody = a.client();
    (nobody.session, nobody.version) = (Some("0".repeat(32)), client.version.clone());
    assert_eq!(nobody.posted(&call(4)).await.status, 404);
    let (reply, ()) = futures::join!(modern(&a, "tools/list"), async {
        hand.take("tools/list").await.finish().await;
    });
    assert_eq!(reply, 200);
    let mut other = a.client();
    other.initialize("2025-06-18").await;
    assert_eq!(other.delete().await.status, 204);
    wait_until("its server is told", || {
        a.metric("holdfast_upstream_sessions_closed_total{outcome=\"ok\"}") == Some(1.0)
    })
    .await;
    (hand, a, b, unasked)
}

async fn modern(gateway: &Gateway, method: &str) -> u16 {
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = request(1, method, &value!({ "_meta": meta }));
    let headers = [("mcp-method", method), ("mcp-protocol-version", "2026-07-28")];
    let headers: Vec<_> = POST.into_iter().chain(headers).collect();
    gateway.client().ask("POST", "/mcp", &headers, &body.to_string()).await.status
}

/// Names and types, as docs/metrics.md has them.
fn documented() -> Vec<(String, String)> {
    let rows = metrics_reference();
    let rows = rows.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    };
    rows.filter_map(row).collect()
}

#[track_caller]
fn check(page: &str, expected: &[(&str, f64)]) {
    let wrong = expected.iter().filter(|(metric, value)| summed(page, metric) != Some(*value));
    let wrong: Vec<_> = wrong.map(|(metric, value)| (metric, value, summed(page, metric))).collect();
    assert!(wrong.is_empty(), "not as expected, with what is there: {wrong:#?}");
}

#[tokio::test]
async fn a_node_that_was_used_a_little_shows_it() {
    let (_hand, a, b, _unasked) = used().await;
    let (at_a, at_b) = (page(&a).await, page(&b).await);
    let documented = documented();
    assert!(documented.len() > 60);
    for (name, kind) in &documented {
        assert!(at_a.contains(&format!("# TYPE {name} {kind}\n")), "{name} is documented, and not there");
    }
    let shown = at_a.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(shown, documented.len(), "what is there is documented");
    let call = r#"method="tools/call",client_era="legacy",server_era="legacy""#;
    check(
        &at_a,
        &[
            (r#"holdfast_phase{phase="ready"}"#, 1.0),
            ("holdfast_phase", 1.0),
            ("holdfast_ready", 1.0),
            ("holdfast_nodes", 2.0),
            ("holdfast_sessions", 1.0),
            (r#"holdfast_sessions_opened_total{transport="streamable"}"#, 2.0),
            (r#"holdfast_sessions_ended_total{reason="deleted"}"#, 1.0),
            (r#"holdfast_claims_total{outcome="claimed"}"#, 2.0),
            (r#"holdfast_session_lookups_total{outcome="absent"}"#, 1.0),
            (r#"holdfast_requests_refused_total{status="404"}"#, 1.0),
            ("mcp_server_session_duration_seconds_count", 1.0),
            ("mcp_client_session_duration_seconds_count", 1.0),
            (r#"holdfast_streams{server="default",transport="streamable",era="legacy",kind="get"}"#, 1.0),
            ("holdfast_streams", 1.0),
            (r#"holdfast_streams_ended_total{reason="replaced"}"#, 1.0),
            ("holdfast_events_appended_total", 3.0),
            ("holdfast_events_delivered_total", 1.0),
            ("holdfast_event_delivery_duration_seconds_count", 1.0),
            (r#"holdfast_fences_total{step="begin",outcome="granted"}"#, 1.0),
            (r#"holdfast_fences_total{step="append",outcome="held"}"#, 3.0),
            (r#"holdfast_fences_total{step="attach",outcome="granted"}"#, 1.0),
            ("holdfast_exchanges", 0.0),
            (&format!("holdfast_exchanges_ended_total{{{call},outcome=\"answered\"}}"), 3.0),
            (&format!("holdfast_exchange_duration_seconds_count{{{call}}}"), 3.0),
            (r#"holdfast_exchanges_ended_total{method="initialize",outcome="answered"}"#, 2.0),
            (
                r#"holdfast_exchanges_ended_total{method="tools/list",client_era="modern",server_era="modern"}"#,
                1.0,
            ),
            (r#"holdfast_exchanges_ended_total{outcome="timed_out"}"#, 0.0),
            (r#"holdfast_tool_calls_total{server="default",tool="x",outcome="ok"}"#, 2.0),
            (r#"holdfast_tool_calls_total{server="default",tool="x",outcome="tool_error"}"#, 1.0),
            (r#"holdfast_tool_call_duration_seconds_count{server="default",tool="x"}"#, 3.0),
            (
                r#"mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call",gen_ai_tool_name="x",error_type="tool_error"}"#,
                1.0,
            ),
            (
                r#"mcp_client_operation_duration_seconds_count{server="default",mcp_method_name="tools/call"}"#,
                3.0,
            ),
            (
                r#"mcp_server_operation_duration_seconds_count{mcp_method_name="notifications/initialized",error_type=""}"#,
                2.0,
            ),
            ("holdfast_json_answers_total", 3.0),
            (r#"holdfast_upstream_first_message_seconds_count{server="default"}"#, 4.0),
            (r#"holdfast_upstream_requests_total{server="default",status="5xx"}"#, 0.0),
            ("holdfast_upstream_errors_total", 0.0),
            ("holdfast_upstream_calls", 0.0),
            (r#"holdfast_upstream_sessions_opened_total{server="default",outcome="ok"}"#, 2.0),
            (r#"holdfast_store_operations_total{operation="append",outcome="ok"}"#, 3.0),
            (r#"holdfast_store_operation_duration_seconds_count{operation="append"}"#, 3.0),
            (r#"holdfast_store_operations_total{outcome="unavailable"}"#, 0.0),
            (r#"holdfast_bus_operations_total{operation="send",outcome="ok"}"#, 2.0),
            (r#"holdfast_limit{limit="limits.streams_max"}"#, 77.0),
            (r#"holdfast_limit{limit="requests.timeout"}"#, 60.0),
            (r#"holdfast_limit_used{limit="limits.streams_max"}"#, 1.0),
            (r#"holdfast_limit_used{limit="limits.streams_per_session_max"}"#, 1.0),
            (r#"holdfast_limit_used{limit="limits.sessions_max"}"#, 1.0),
            ("holdfast_limit_hits_total", 0.0),
            ("holdfast_queue_length", 0.0),
            (r#"holdfast_auth_credentials_total{credential="jwt"}"#, 0.0),
        ],
    );
    check(
        &at_b,
        &[
            (r#"holdfast_resumes_total{outcome="resumed"}"#, 1.0),
            ("holdfast_events_delivered_total", 2.0),
            ("holdfast_event_delivery_duration_seconds_count", 2.0),
            (r#"holdfast_bus_received_total{message="appended"}"#, 2.0),
            ("holdfast_bus_missed_total", 0.0),
            (r#"holdfast_session_lookups_total{outcome="loaded"}"#, 1.0),
        ],
    );
    let status =
        |status: &str| summed(&at_a, &format!("holdfast_upstream_requests_total{{status=\"{status}\"}}"));
    assert!(status("2xx") >= Some(8.0), "{:?}", status("2xx"));
    assert!(summed(&at_a, "holdfast_lease_age_seconds") < Some(30.0));
    assert!(summed(&at_a, "holdfast_connections") >= Some(1.0));
    assert!(summed(&at_a, "process_resident_memory_bytes") > Some(1e6));
    assert!(summed(&at_a, "process_cpu_seconds_total").is_some());
}

#[tokio::test]
async fn prometheus_has_nothing_to_say_against_it() {
    let (_hand, a, _b, _unasked) = used().await;
    let page = page(&a).await;
    let judged = |page: &str| {
        let mut promtool = Command::new("promtool");
        promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut promtool = promtool.spawn().expect("promtool, which `make install` installs");
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let judged = promtool.wait_with_output().unwrap();
        let said = [judged.stdout, judged.stderr].concat();
        (judged.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(judged(&page), (true, String::new()));
    let bad = "# HELP x_ms Some.\n# TYPE x_ms counter\nx_ms 1\n";
    assert!(!judged(bad).0, "it looks");
}

/// What the labels of that name say.
fn values(page: &str, label: &str) -> BTreeSet<String> {
    let wanted = format!("{label}=\"");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let found = lines.flat_map(|line| {
        let mut rest = line.split(['{', ',']).filter_map(|part| part.strip_prefix(&*wanted));
        rest.next().map(|value| value.split('"').next().unwrap_or_default().to_owned())
    });
    found.collect()
}

async fn all(client: &Client, messages: impl Iterator<Item = Value>) -> BTreeSet<u16> {
    let asked = messages.map(|message| async move { client.posted(&message).await.status });
    futures::stream::iter(asked).buffer_unordered(16).collect().await
}

#[tokio::test]
async fn made_up_names_get_no_more_labels_than_there_may_be() {
    let upstream = Upstream::start(|asked| match asked.body["params"]["name"].as_str() {
        Some(name) if name.starts_with("wrong") => json(asked, &value!({ "content": [], "isError": true })),
        _ => json(asked, &value!({ "content": [] })),
    })
    .await;
    let gateway = Gateway::start(&upstream.url, &[("metrics.tools_max", "5")]).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let named = |name: String, id| request(id, "tools/call", &value!({ "name": name }));
    let wrong = all(&client, (1..=1000).map(|id| named(format!("wrong_{id}"), id))).await;
    assert_eq!(wrong, BTreeSet::from([200]));
    assert_eq!(
        values(&page(&gateway).await, "tool"),
        BTreeSet::from(["other".to_owned()]),
        "they never worked"
    );
    all(&client, (1..=1000).map(|id| named(format!("right_{id}"), id))).await;
    all(&client, (1..=1000).map(|id| request(id, &format!("made/up/{id}"), &value!({})))).await;
    let base = client.base.clone();
    for id in 1..=1000 {
        client.base = format!("{base}/servers/made-up-{id}");
        assert_eq!(client.posted(&named("x".to_owned(), 1)).await.status, 404);
    }
    let shown = page(&gateway).await;
    assert_eq!(values(&shown, "tool").len(), 6);
    assert_eq!(
        values(&shown, "gen_ai_tool_name"),
        &values(&shown, "tool") | &BTreeSet::from([String::new()])
    );
    assert_eq!(values(&shown, "server"), BTreeSet::from(["default".to_owned()]));
    assert!(!shown.contains("made"), "{shown}");
    check(
        &shown,
        &[
            (r#"holdfast_tool_calls_total{tool="other",outcome="ok"}"#, 995.0),
            (r#"holdfast_tool_calls_total{tool="other",outcome="tool_error"}"#, 1000.0),
            (r#"holdfast_exchanges_ended_total{method="other",outcome="answered"}"#, 1000.0),
        ],
    );
    assert!(shown.lines().count() < 2500, "{} lines", shown.lines().count());
}
