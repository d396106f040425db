//! The audit log: one line for each thing that somebody did or tried, with who, when, from where and how it
//! ended; nothing of what was said, and nothing that lets anybody in.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use holdfast::app::Shared;
use holdfast::auth::mint;
use holdfast::domain::SessionId;
use holdfast::lifecycle::Ending;
use holdfast::ports::{AuditEvent, Deed};
use serde_json::{Value, json as value};

use crate::harness::{
    Client, Gateway, POST, Stream, Upstream, configured, initialize, json, request, wait_until,
};
use crate::peers::process::{Process, holdfast_under, roomy};
use crate::servers::Folder;

struct Watched {
    path: PathBuf,
    seen: usize,
    text: String,
}

impl Watched {
    /// What was added, as far as `names` says what is of interest: in the order of a line.
    async fn added(&mut self, lines: usize) -> Vec<Value> {
        let path = self.path.clone();
        let read = || fs::read_to_string(&path).unwrap_or_default();
        let seen = self.seen;
        wait_until("it is written", || read().lines().count() >= seen + lines).await;
        self.text = read();
        let added: Vec<Value> =
            self.text.lines().skip(seen).map(|line| serde_json::from_str(line).unwrap()).collect();
        self.seen += added.len();
        added
    }

    /// The one event that was added, without what is the same in all: who, when and where.
    async fn one(&mut self, node: &Gateway) -> Value {
        let added = self.added(1).await;
        let [event] = added.as_slice() else { panic!("{added:?}") };
        let mut event = event.clone();
        let fields = event.as_object_mut().unwrap();
        let time = fields.remove("time").unwrap();
        let time = time.as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
        assert_eq!(fields.remove("node").unwrap(), node.hub().node().as_str());
        assert_eq!(fields.remove("address").unwrap(), "127.0.0.1");
        event
    }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[tokio::test]
async fn each_thing_that_somebody_does_or_tries_is_one_line() {
    let upstream = Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await;
    let folder = Folder::new();
    let path = folder.path().join("audit.json");
    let ((alice, alices), (bob, bobs), (ops, opss)) = (mint(), mint(), mint());
    let settings = [
        ("audit.to", "file"),
        ("audit.file", path.to_str().unwrap()),
        ("auth.mode", "tokens"),
        ("auth.tokens.alice.sha256", &*alices),
        ("auth.tokens.alice.scopes", "files"),
        ("auth.tokens.bob.sha256", &*bobs),
        ("auth.tokens.bob.scopes", "files"),
        ("auth.tokens.eve.sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("servers.default.scopes", "files"),
        ("servers.default.tools", "read_*"),
        ("limits.principal.sessions_max", "1"),
        ("admin.tokens.ops.sha256", &*opss),
    ];
    let config = configured(&upstream.url, &settings);
    let shared = Shared::memory(&config);
    let a = Gateway::start_on(&config, shared.clone()).await;
    let b = Gateway::start_on(&config, shared).await;
    let mut log = Watched { path, seen: 0, text: String::new() };
    let as_who = |node: &Gateway, token: &str| node.client().with_token(token);

    // Credentials.
    let opening = initialize("2025-11-25");
    let refused = |reason: &str| value!({ "event": "credential.refused", "outcome": "refused", "reason": reason, "server": "default", "method": "POST /mcp" });
    assert_eq!(a.client().posted(&opening).await.status, 401);
    assert_eq!(log.one(&a).await, refused("missing"));
    assert_eq!(as_who(&a, "hf_s3cret").posted(&opening).await.status, 401);
    assert_eq!(log.one(&a).await, refused("unknown"));
    assert_eq!(as_who(&a, "abc").posted(&opening).await.status, 403);
    let mut without = refused("insufficient_scope");
    without["principal"] = value!("token:eve");
    assert_eq!(log.one(&a).await, without);

    // A session's life.
    let mut client = as_who(&a, &alice);
    client.initialize("2025-11-25").await;
    let id = client.session.clone().unwrap();
    let fingerprint = SessionId::parse(&id).unwrap().fingerprint();
    let event = |event: &str, outcome: &str, reason: Option<&str>, principal: &str| {
        let mut event =
            value!({ "event": event, "outcome": outcome, "principal": principal, "server": "default" });
        if let Some(reason) = reason {
            event["reason"] = value!(reason);
        }
        event
    };
    let of = |mut event: Value, session: &str| {
        event["session"] = value!(session);
        event
    };
    let alices =
        |what: &str, reason: Option<&str>| of(event(what, "done", reason, "token:alice"), &fingerprint);
    assert_eq!(log.one(&a).await, alices("session.opened", None));
    let held = Stream::new(client.get(None).await);
    assert_eq!(log.one(&a).await, alices("session.claimed", Some("attached")));
    let mut elsewhere = client.clone();
    elsewhere.base.clone_from(&b.url);
    let second = Stream::new(elsewhere.get(Some("g.1-0")).await);
    let mut claimed = alices("session.claimed", Some("resumed"));
    claimed["from_node"] = value!(a.hub().node().as_str());
    assert_eq!(log.one(&b).await, claimed);
    drop((held, second));
    // What is asked on it is nobody's business here.
    let calling =
        |tool: &str| request(1, "tools/call", &value!({ "name": tool, "arguments": { "x": "p4yload" } }));
    assert_eq!(client.posted(&calling("read_x")).await.status, 200);
    assert_eq!(client.posted(&calling("write\n\u{1b}[31m")).await.status, 403);
    let mut denied = event("call.denied", "refused", Some("tool"), "token:alice");
    (denied["method"], denied["tool"]) = (value!("POST /mcp"), value!("write\n\u{1b}[31m"));
    assert_eq!(log.one(&a).await, denied);
    let again = as_who(&a, &alice).posted(&opening).await;
    assert_eq!(again.status, 429);
    let mut limited = event("limit.refused", "refused", Some("limits.principal.sessions_max"), "token:alice");
    limited["method"] = value!("POST /mcp");
    assert_eq!(log.one(&a).await, limited);

    // Somebody else's, nobody's, and no id at all.
    let absent = uuid::Uuid::new_v4().simple().to_string();
    for (session, reason) in [(&*id, "foreign"), (&*absent, "absent"), ("../etc/passwd", "malformed")] {
        let mut stranger = as_who(&b, &bob);
        stranger.session = Some(session.to_owned());
        assert_eq!(stranger.posted(&calling("read_x")).await.status, 404);
        let expected = event("session.refused", "refused", Some(reason), "token:bob");
        let parsed = SessionId::parse(session).ok();
        let expected = parsed.map_or(expected.clone(), |id| of(expected, &id.fingerprint()));
        assert_eq!(log.one(&b).await, expected);
    }
    let body = calling("read_x").to_string();
    let over_http_sse = async |session: &str| {
        as_who(&b, &alice).ask("POST", &format!("/message?sessionId={session}"), &POST, &body).await.status
    };
    assert_eq!(over_http_sse("../etc/passwd").await, 400);
    assert_eq!(log.one(&b).await, event("session.refused", "refused", Some("malformed"), "token:alice"));
    assert_eq!(over_http_sse(&id).await, 404);
    let other_way = event("session.refused", "refused", Some("transport"), "token:alice");
    assert_eq!(log.one(&b).await, of(other_way, &fingerprint));
    let headers = [POST.as_slice(), &[("origin", "https://evil.example")]].concat();
    assert_eq!(a.client().ask("POST", "/mcp", &headers, "{}").await.status, 403);
    assert_eq!(
        log.one(&a).await,
        value!({ "event": "origin.refused", "outcome": "refused", "reason": "origin" })
    );

    // Operators.
    let operator = Client::new(&a.admin).with_token(&ops);
    assert_eq!(Client::new(&a.admin).ask("GET", "/api/sessions", &[], "").await.status, 401);
    let refused = value!({ "event": "admin.refused", "outcome": "refused", "reason": "missing" });
    assert_eq!(log.one(&a).await, refused);
    let message = value!({ "jsonrpc": "2.0", "method": "notifications/x", "params": { "x": "p4yload" } });
    let publication = value!({ "session": &id, "message": message }).to_string();
    let session = format!("/api/sessions/{id}");
    for (method, path, body, what, more) in [
        ("GET", "/api/sessions", "", "list_sessions", value!({})),
        ("GET", &session, "", "show_session", value!({ "session": fingerprint })),
        ("GET", "/api/nodes", "", "list_nodes", value!({})),
        (
            "POST",
            &format!("{session}/close-streams"),
            "{}",
            "close_streams",
            value!({ "session": fingerprint }),
        ),
        (
            "POST",
            "/api/publish",
            &publication,
            "publish",
            value!({ "session": fingerprint, "method": "notifications/x" }),
        ),
    ] {
        assert!(operator.ask(method, path, &JSON, body).await.status < 300, "{path}");
        let mut expected =
            value!({ "event": format!("admin.{what}"), "outcome": "done", "principal": "admin:ops" });
        expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(log.one(&a).await, expected);
    }
    assert_eq!(operator.ask("DELETE", &format!("/api/sessions/{absent}"), &[], "").await.status, 404);
    let missing = log.one(&a).await;
    assert_eq!((&missing["outcome"], &missing["reason"]), (&value!("refused"), &value!("absent")));
    for (method, path, body, what, reason) in [
        ("DELETE", "/api/sessions/a%2Fb", "", "end_session", "absent"),
        ("GET", "/api/sessions?limit=nonsense", "", "list_sessions", "invalid"),
        ("POST", "/api/publish", "nonsense", "publish", "invalid"),
    ] {
        assert!(operator.ask(method, path, &JSON, body).await.status >= 400, "{path}");
        let event = format!("admin.{what}");
        let expected =
            value!({ "event": event, "outcome": "refused", "reason": reason, "principal": "admin:ops" });
        assert_eq!(log.one(&a).await, expected);
    }

    // Ends: its owner's, and an operator's.
    assert_eq!(client.delete().await.status, 204);
    assert_eq!(log.one(&a).await, alices("session.closed", Some("deleted")));
    let mut other = as_who(&a, &bob);
    other.initialize("2025-11-25").await;
    let others = other.session.clone().unwrap();
    assert_eq!(log.one(&a).await["event"], "session.opened");
    assert_eq!(operator.ask("DELETE", &format!("/api/sessions/{others}"), &[], "").await.status, 204);
    let ended: BTreeSet<_> = log.added(2).await.iter().map(|event| event["event"].to_string()).collect();
    assert_eq!(ended, ["\"admin.end_session\"", "\"session.closed\""].map(str::to_owned).into());

    a.stop().await;
    b.stop().await;
    assert_eq!(log.added(0).await, Vec::<Value>::new());
    for secret in [&alice, &bob, &ops, &id, &absent, &others, "hf_s3cret", "p4yload", "passwd"] {
        assert!(!log.text.contains(secret), "{secret} is in\n{}", log.text);
    }
}

/// The binary, whose audit log goes there.
async fn audited(upstream: &Upstream, settings: &[(&str, &str)]) -> Process {
    let mut command = roomy(env!("CARGO_BIN_EXE_holdfast"));
    for (name, value) in settings {
        command.env(format!("HOLDFAST_{name}"), value);
    }
    tokio::task::block_in_place(|| holdfast_under(command, &["--upstream", &upstream.url]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_word_about_it_it_is_part_of_the_log_whatever_its_filter_says() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let settings = [("TELEMETRY_LOG_FILTER", "warn,holdfast::app=info")];
    let process = audited(&upstream, &settings).await;
    let mut client = Client::new(&process.url());
    client.initialize("2025-11-25").await;
    let opened = tokio::task::block_in_place(|| process.line_after(r#""event":"session.opened""#));
    for part in [r#""principal":"anonymous""#, r#""address":"127.0.0.1""#, r#""target":"holdfast::audit""#] {
        assert!(opened.contains(part), "{part} is not in {opened}");
    }
    assert!(!opened.contains(client.session.as_deref().unwrap()), "where nobody logs in, an id lets in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_tokens_does_not_fill_the_disk_and_a_hangup_opens_the_file_anew() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let folder = Folder::new();
    let path = folder.path().join("audit.json");
    let (_, digest) = mint();
    let settings = [
        ("AUDIT_TO", "file"),
        ("AUDIT_FILE", path.to_str().unwrap()),
        ("AUTH_MODE", "tokens"),
        ("AUTH_TOKENS_A_SHA256", &digest),
    ];
    let process = audited(&upstream, &settings).await;
    let stranger = Client::new(&process.url()).with_token("hf_guess");
    for _ in 0..1000 {
        assert_eq!(stranger.posted(&initialize("2025-11-25")).await.status, 401);
    }
    let events = || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    // Each is named or counted, at the latest at the end of a window of ten seconds.
    let told = || events().iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum::<u64>();
    for _ in 0..150 {
        if told() >= 1000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(told(), 1000, "{:?}", events());
    assert!(events().len() < 100, "{:?}", events());
    fs::rename(&path, folder.path().join("old.json")).unwrap();
    process.signal("-HUP");
    wait_until("it is there again", || path.exists()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stranger.posted(&initialize("2025-11-25")).await.status, 401, "it goes on");
}

#[tokio::test]
async fn what_a_node_does_last_is_written_too() {
    let folder = Folder::new();
    let path = folder.path().join("audit.json");
    let settings = [("audit.to", "file"), ("audit.file", path.to_str().unwrap())];
    let gateway = Gateway::start("http://127.0.0.1:9/mcp", &settings).await;
    let (hub, stopped) = (gateway.hub().clone(), gateway.tasks().stopped());
    gateway.tasks().spawn(async move {
        stopped.cancelled().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        hub.audit().record(&AuditEvent::new(Deed::SessionClosed));
    });
    assert_eq!(gateway.stop().await, Ending::Clean);
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.contains("session.closed"), "{written}");
}
