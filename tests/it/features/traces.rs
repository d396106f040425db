//! Traces: what a client asks for is one tree, whichever nodes, messages and servers it goes through, with the names of
//! OpenTelemetry's conventions; and a log line says where in it it was written.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json as value};

use crate::harness::{
    Client, Collector, POST, Seen, Stream, Upstream, initialize, json, read, request, sse, summed, wait_until,
};
use crate::peers::process::{Process, free_port, holdfast_under, roomy};
use crate::servers::{Cluster, Setup};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENTS: &str = "00f067aa0ba902b7";
const MESSAGES: &str = "b7ad6b7169203331";

fn parent(trace: &str, span: &str) -> String {
    format!("00-{trace}-{span}-01")
}

/// Answers `slow` late, `broken` with an error of its own, and the rest at once.
async fn server() -> Upstream {
    Upstream::start(|asked| match asked.body["params"]["name"].as_str() {
        Some("slow") => {
            let (send, response) = sse();
            let result = value!({ "content": [], "isError": false });
            let answer = value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": result });
            #[expect(clippy::disallowed_methods, reason = "it ends with its answer")]
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(700)).await;
                let _ = send.send(format!("data: {answer}\n\n")).await;
            });
            response
        }
        Some("broken") => json(asked, &value!({ "content": [], "isError": true })),
        _ => json(asked, &value!({ "content": [] })),
    })
    .await
}

fn call(id: u64, tool: &str) -> Value {
    request(id, "tools/call", &value!({ "name": tool }))
}

/// The only span that is meant.
fn one<'s>(spans: &'s [Seen], name: &str, kind: &str) -> &'s Seen {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name && span.kind == kind).collect();
    assert_eq!(found.len(), 1, "{name} ({kind}): {spans:#?}");
    found[0]
}

/// Each has its parent among them, but for the one whose parent is the client's.
fn check_tree(spans: &[Seen], root: &str) {
    let ids: BTreeSet<_> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "no id twice: {spans:#?}");
    for span in spans {
        assert!(span.parent == root || ids.contains(&*span.parent), "{span:#?} has no parent in {spans:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_through_two_nodes_to_a_slow_server_is_one_tree() {
    let (upstream, collector) = (server().await, Collector::start().await);
    let url = upstream.url.clone();
    let environment = collector.environment();
    let setup = Setup { environment, ..Setup::default() };
    let cluster = tokio::task::spawn_blocking(move || Cluster::set_up(&url, setup)).await.unwrap();
    let [a, b, _] = &*cluster.node_urls() else { panic!() };
    // Its stream is at one node, and its call enters another.
    let reading = parent(OTHER, CLIENTS);
    let headers = [("accept", "text/event-stream"), ("traceparent", &*reading)];
    let mut stream = Stream::new(Client::new(b).send("GET", "/sse", &headers, "").await);
    let endpoint = stream.event().await.unwrap().data.unwrap();
    let endpoint = std::str::from_utf8(&endpoint).unwrap();
    let entry = Client::new(a);
    let post = async |message: &Value, traced: &[(&str, &str)]| {
        let reply =
            entry.send("POST", endpoint, &[POST.as_slice(), traced].concat(), &message.to_string()).await;
        assert_eq!(read(reply).await.status, 202);
    };
    post(&initialize("2024-11-05"), &[]).await;
    stream.message().await;
    post(&value!({ "jsonrpc": "2.0", "method": "notifications/initialized" }), &[]).await;
    let traced = parent(TRACE, CLIENTS);
    post(&call(7, "slow"), &[("traceparent", &traced), ("tracestate", "a=b")]).await;
    assert_eq!(stream.message().await["id"], 7);

    let enough = |spans: &[Seen]| {
        ["process appended", "tools/call slow"].iter().all(|name| spans.iter().any(|span| span.name == *name))
            && spans.iter().any(|span| span.name == "tools/call slow" && span.kind == "server")
    };
    let spans = collector.trace(TRACE, enough).await;
    check_tree(&spans, CLIENTS);
    let http = one(&spans, "POST /message", "server");
    assert_eq!((&*http.parent, &*http.node, &*http.service), (CLIENTS, "n0", "holdfast"));
    assert_eq!(http.attribute("http.response.status_code"), "202");
    assert_eq!(http.attribute("http.route"), "/message");
    let operation = one(&spans, "tools/call slow", "server");
    assert_eq!((&operation.parent, &*operation.node), (&http.id, "n0"));
    for (key, expected) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.tool.name", "slow"),
        ("gen_ai.operation.name", "execute_tool"),
        ("jsonrpc.request.id", "7"),
        ("mcp.protocol.version", "2024-11-05"),
        ("holdfast.server", "default"),
    ] {
        assert_eq!(operation.attribute(key), expected, "{key}");
    }
    assert_eq!(operation.attribute("mcp.session.id").len(), 16, "it can't be used");
    assert!(operation.ended - operation.began > 600_000_000, "as long as its server took");
    let at_server = one(&spans, "tools/call slow", "client");
    assert_eq!(at_server.parent, operation.id);
    let asked = upstream.asked().into_iter().find(|asked| asked.body["params"]["name"] == "slow").unwrap();
    assert_eq!(
        asked.header("traceparent"),
        parent(TRACE, &at_server.id),
        "the server is told whose part it is"
    );
    assert_eq!(asked.header("tracestate"), "a=b");
    // The result is recorded here, said over the bus, and written there: for who waits there.
    let recorded = one(&spans, "append", "client");
    assert_eq!((&*recorded.node, recorded.attribute("db.system.name")), ("n0", "redis"));
    let said = one(&spans, "send appended", "producer");
    assert_eq!((&*said.node, said.attribute("messaging.system")), ("n0", "nats"));
    let written = one(&spans, "process appended", "consumer");
    assert_eq!((&*written.node, &written.parent), ("n1", &said.id));
    let reads = collector.trace(OTHER, |spans| spans.iter().any(|span| span.name == "GET /sse")).await;
    assert_eq!(written.links, [one(&reads, "GET /sse", "server").id.as_str()]);
    // What nodes do by themselves is nobody's trace.
    let roots: Vec<_> = collector.all().into_iter().filter(|span| span.parent.is_empty()).collect();
    assert!(roots.iter().all(|span| span.kind == "server"), "{roots:#?}");
}

/// A node whose spans go there.
fn traced(upstream: &Upstream, environment: &[(&str, &str)]) -> Process {
    let mut command = roomy(env!("CARGO_BIN_EXE_holdfast"));
    command.env("OTEL_BSP_SCHEDULE_DELAY", "100").envs(environment.iter().copied());
    holdfast_under(command, &["--upstream", &upstream.url])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_names_its_own_parent_and_the_request_around_it_is_linked() {
    let (upstream, collector) = (server().await, Collector::start().await);
    let node = traced(
        &upstream,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.grpc), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    );
    let mut client = Client::new(&node.url());
    client.initialize("2025-11-25").await;
    let meta = value!({ "traceparent": parent(OTHER, MESSAGES), "x": 1 });
    let message = request(1, "tools/call", &value!({ "name": "broken", "_meta": meta }));
    let session = client.session.clone().unwrap();
    let around = parent(TRACE, CLIENTS);
    let headers = [("mcp-session-id", session.as_str()), ("traceparent", &around)];
    let reply =
        client.send("POST", "/mcp", &[POST.as_slice(), &headers].concat(), &message.to_string()).await;
    assert_eq!(read(reply).await.status, 200);
    let spans = collector.trace(OTHER, |spans| spans.len() >= 2).await;
    let requests = collector.trace(TRACE, |spans| !spans.is_empty()).await;
    spans_end(&node, "exported").await;
    let http = one(&requests, "POST /mcp", "server");
    let operation = one(&spans, "tools/call broken", "server");
    assert_eq!((&*operation.parent, &*operation.links), (MESSAGES, [http.id.clone()].as_slice()));
    let at_server = one(&spans, "tools/call broken", "client");
    for span in [operation, at_server] {
        assert_eq!((span.failed, span.attribute("error.type")), (true, "tool_error"));
    }
    let asked = upstream.asked().pop().unwrap();
    let meta = value!({ "traceparent": parent(OTHER, &at_server.id), "x": 1 });
    assert_eq!(asked.body["params"]["_meta"], meta, "what it said itself is set right, and the rest is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_lasts_as_long_as_its_answer_and_has_no_more_of_a_clients_words_than_fit() {
    let collector = Collector::start().await;
    let upstream = Upstream::bare(|asked| {
        let (send, response) = sse();
        let answer = value!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": { "content": [] } });
        #[expect(clippy::disallowed_methods, reason = "it ends with its answer")]
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let _ = send.send(format!("data: {answer}\n\n")).await;
        });
        response
    })
    .await;
    let modern =
        [("HOLDFAST_SERVERS_DEFAULT_ERA", "modern"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http)];
    let node = traced(&upstream, &modern);
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let name = "long".repeat(500);
    let message = request(1, "tools/call", &value!({ "name": name, "_meta": meta }));
    let around = parent(TRACE, CLIENTS);
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", &*name),
        ("traceparent", &*around),
    ];
    let client = Client::new(&node.url());
    let reply =
        client.send("POST", "/mcp", &[POST.as_slice(), &headers].concat(), &message.to_string()).await;
    assert_eq!(read(reply).await.status, 200);
    let spans = collector.trace(TRACE, |spans| spans.len() >= 3).await;
    let http = one(&spans, "POST /mcp", "server");
    let lasted = |span: &Seen| Duration::from_nanos(span.ended - span.began);
    assert!(lasted(http) < Duration::from_millis(650), "to the head of its response: {http:#?}");
    for span in spans.iter().filter(|span| span.name.starts_with("tools/call long")) {
        assert!(lasted(span) > Duration::from_millis(650) && !span.failed, "{span:#?}");
        assert!(span.name.len() < 300 && span.attribute("gen_ai.tool.name").len() < 300, "{span:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_nobody_is_in_no_trace() {
    let (upstream, collector) = (server().await, Collector::start().await);
    let (token, digest) = holdfast::auth::mint();
    let logins = [
        ("HOLDFAST_AUTH_MODE", "tokens"),
        ("HOLDFAST_AUTH_TOKENS_ALICE_SHA256", &*digest),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http),
    ];
    let node = traced(&upstream, &logins);
    for _ in 0..5 {
        assert_eq!(Client::new(&node.url()).posted(&initialize("2025-11-25")).await.status, 401);
    }
    Client::new(&node.url()).with_token(&token).initialize("2025-11-25").await;
    let all = || collector.all();
    wait_until("it is exported", || all().iter().any(|span| span.name == "POST /mcp")).await;
    let statuses: BTreeSet<_> =
        all().iter().map(|span| span.attribute("http.response.status_code").to_owned()).collect();
    assert!(!statuses.contains("401"), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_sampled_is_not_exported_and_log_lines_name_their_trace() {
    let (upstream, collector) = (server().await, Collector::start().await);
    let mut node = traced(
        &upstream,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.http),
            ("OTEL_SERVICE_NAME", "gate"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ],
    );
    let mut client = Client::new(&node.url());
    client.initialize("2025-11-25").await;
    let sampled = parent(TRACE, CLIENTS);
    let headers = [("mcp-session-id", client.session.as_deref().unwrap()), ("traceparent", &sampled)];
    let nonsense = request(1, "tools/call", &value!({ "name": "fast" })).to_string();
    assert_eq!(
        read(client.send("POST", "/mcp", &[POST.as_slice(), &headers].concat(), &nonsense).await)
            .await
            .status,
        200
    );
    let refused = client.send("DELETE", "/mcp", &headers, "").await;
    assert_eq!(refused.status(), 204);
    let spans = collector.trace(TRACE, |spans| spans.iter().any(|span| span.name == "DELETE /mcp")).await;
    assert!(spans.iter().all(|span| span.service == "gate"));
    assert!(collector.all().iter().all(|span| span.trace == TRACE), "nobody asked for the others");
    // The audit log is part of the log.
    let line = node.line_after(r#""event":"session.closed""#);
    assert!(line.contains(&format!(r#""trace_id":"{TRACE}""#)), "{line}");
    assert_eq!(node.terminate(Duration::from_secs(20)), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_swallows_everything_keeps_nobody() {
    let upstream = server().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let swallows = format!("http://{}", listener.local_addr().unwrap());
    let mut node = traced(&upstream, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &swallows)]);
    let mut client = Client::new(&node.url());
    client.initialize("2025-11-25").await;
    for id in 0..5 {
        assert_eq!(client.posted(&call(id, "fast")).await.status, 200);
    }
    let began = tokio::time::Instant::now();
    assert_eq!(node.terminate(Duration::from_secs(20)), Some(0));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    drop(listener);
}

/// The metrics say so of some of its spans.
async fn spans_end(node: &Process, outcome: &str) {
    let (client, wanted) =
        (Client::new(&node.admin()), format!(r#"holdfast_spans_total{{outcome="{outcome}"}}"#));
    for _ in 0..500 {
        if summed(&client.ask("GET", "/metrics", &[], "").await.text, &wanted) > Some(0.0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{wanted} stands still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_a_collector_does_not_take_are_counted() {
    let upstream = server().await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let node = traced(&upstream, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &nobody)]);
    Client::new(&node.url()).initialize("2025-11-25").await;
    spans_end(&node, "failed").await;
}
