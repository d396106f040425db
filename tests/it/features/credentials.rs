//! Every credential at every endpoint of every node: the tables of docs/security.md are what is expected.

use std::collections::BTreeMap;
use std::sync::Mutex;

use holdfast::app::Shared;
use holdfast::auth::mint;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json as value};

use crate::harness::{
    Client, Gateway, Issuer, POST, Signing, Stream, Upstream, call, configured, initialize, json, read,
    request,
};

const BASE: &str = "http://gate.example.com/mcp-gate";

/// What may stand in `Authorization`.
const CREDENTIALS: [&str; 38] = [
    "none",
    "another scheme",
    "no token",
    "two headers",
    "no token of ours",
    "no JWT",
    "expired",
    "without an end",
    "not valid yet",
    "for another audience",
    "for nobody",
    "of no subject",
    "bound to a key",
    "of another issuer",
    "of two issuers",
    "of another type",
    "with a critical extension",
    "signed by another key",
    "signed with the public key as a secret",
    "changed",
    "alg: none",
    "with scopes of another form",
    "with too little scope",
    "another principal's",
    "another principal's, static",
    "opaque, inactive",
    "opaque, expired",
    "opaque, without an end",
    "opaque, not valid yet",
    "opaque, for another audience",
    "opaque, for nobody",
    "opaque, of another issuer",
    "opaque, of another type",
    "opaque, bound to a key",
    "opaque, with too little scope",
    "opaque, another principal's",
    "opaque, good",
    "good",
];

/// The rows below a table's head, without their marks.
fn table(head: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../../docs/security.md");
    let lines = text.lines().skip_while(|line| *line != head).skip(2);
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "there is no table {head}");
    rows
}

struct Cluster {
    nodes: Vec<Gateway>,
    issuer: Issuer,
    token: String,
    /// What was made for each row: it stays the same, as what is remembered of it has to fit.
    made: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Cluster {
    async fn start(upstream: &Upstream) -> Self {
        let issuer = Issuer::start().await;
        let (token, digest) = mint();
        let (keys, introspection) = (format!("{}/keys", issuer.url), format!("{}/introspect", issuer.url));
        let settings = [
            ("public_url", BASE),
            ("auth.mode", "tokens"),
            ("auth.tokens.ci.sha256", &*digest),
            ("auth.tokens.ci.scopes", "files"),
            ("auth.issuers.corp.issuer", &*issuer.url),
            ("auth.issuers.corp.keys_url", &*keys),
            ("auth.issuers.corp.introspection_url", &*introspection),
            ("auth.issuers.corp.client_id", "gate"),
            ("auth.issuers.corp.client_secret", "s3cret"),
            ("auth.leeway", "0s"),
            ("servers.default.scopes", "files"),
            ("servers.default.era", "both"),
        ];
        let config = configured(&upstream.url, &settings);
        let shared = Shared::memory(&config);
        let mut forgetful = config.clone();
        // What is remembered of tokens changes no answer.
        forgetful.auth.tokens_remembered_max = 0;
        let mut nodes = Vec::new();
        for config in [&forgetful, &config, &config] {
            nodes.push(Gateway::start_on(config, shared.clone()).await);
        }
        Self { nodes, issuer, token, made: Mutex::default() }
    }

    fn claims(&self, subject: &str) -> Value {
        let mut claims = self.issuer.claims(subject, &format!("{BASE}/servers/default/mcp"));
        claims["scope"] = value!("other files");
        claims
    }

    fn good(&self) -> String {
        self.issuer.signing.sign(&self.claims("alice"))
    }

    /// What stands in `Authorization`, by the name of its row.
    fn credential(&self, row: &str) -> Vec<String> {
        let mut made = self.made.lock().unwrap();
        made.entry(row.to_owned()).or_insert_with(|| self.make(row)).clone()
    }

    /// What is said of a token that says nothing by itself.
    fn said(&self, row: &str) -> Value {
        let mut said = self.claims("alice");
        (said["active"], said["token_type"]) = (value!(true), value!("Bearer"));
        let now = said["exp"].as_u64().unwrap() - 600;
        let (name, changed) = match row {
            "inactive" => ("active", value!(false)),
            "expired" => ("exp", value!(now - 5)),
            "without an end" => ("exp", Value::Null),
            "not valid yet" => ("nbf", value!(now + 300)),
            "for another audience" => ("aud", value!(format!("{BASE}/servers/other/mcp"))),
            "for nobody" => ("aud", Value::Null),
            "of another issuer" => ("iss", value!("https://evil.example.com")),
            "of another type" => ("token_type", value!("refresh_token")),
            "bound to a key" => ("token_type", value!("DPoP")),
            "with too little scope" => ("scope", value!("other")),
            "another principal's" => ("sub", value!("bob")),
            "good" => ("active", value!(true)),
            other => panic!("the table has a row that no test knows: opaque, {other}"),
        };
        said[name] = changed;
        said
    }

    fn make(&self, row: &str) -> Vec<String> {
        let bearer = |token: String| vec![format!("Bearer {token}")];
        let with = |name: &str, changed: Value| {
            let mut claims = self.claims("alice");
            claims[name] = changed;
            bearer(self.issuer.signing.sign(&claims))
        };
        let now = self.claims("")["exp"].as_u64().unwrap() - 600;
        match row {
            "none" => vec![],
            "another scheme" => vec!["Basic YWxpY2U6eA==".to_owned()],
            "no token" => vec!["Bearer".to_owned()],
            "two headers" => vec![format!("Bearer {}", self.good()), format!("Bearer {}", self.good())],
            "no token of ours" => bearer("hf_nobodys".to_owned()),
            "no JWT" => bearer("a.b.c".to_owned()),
            "expired" => with("exp", value!(now - 5)),
            "without an end" => with("exp", Value::Null),
            "not valid yet" => with("nbf", value!(now + 300)),
            "for another audience" => {
                with("aud", value!([format!("{BASE}/servers/other/mcp"), "https://evil"]))
            }
            "for nobody" => with("aud", Value::Null),
            "of no subject" => with("sub", Value::Null),
            "bound to a key" => with("cnf", value!({ "jkt": "x" })),
            "with scopes of another form" => with("scope", value!({ "files": true })),
            "of another type" => {
                let mut header = Header::new(Algorithm::ES256);
                (header.kid, header.typ) = (Some("first".to_owned()), Some("logout+jwt".to_owned()));
                bearer(encode(&header, &self.claims("alice"), &self.issuer.signing.key).unwrap())
            }
            "with a critical extension" => {
                let mut header = Header::new(Algorithm::ES256);
                (header.kid, header.crit) = (Some("first".to_owned()), Some(vec!["exp".to_owned()]));
                bearer(encode(&header, &self.claims("alice"), &self.issuer.signing.key).unwrap())
            }
            "of another issuer" => with("iss", value!("https://evil.example.com")),
            "of two issuers" => with("iss", value!([self.issuer.url, "https://evil.example.com"])),
            "signed by another key" => bearer(Signing::new("first").sign(&self.claims("alice"))),
            "signed with the public key as a secret" => {
                let public = self.issuer.signing.public.to_string();
                let key = EncodingKey::from_secret(public.as_bytes());
                bearer(Signing::of("first", Algorithm::HS256, key).sign(&self.claims("alice")))
            }
            "changed" => {
                let (good, other) = (self.good(), self.issuer.signing.sign(&self.claims("bob")));
                let (good, other): (Vec<_>, Vec<_>) = (good.split('.').collect(), other.split('.').collect());
                bearer([good[0], other[1], good[2]].join("."))
            }
            "alg: none" => {
                let part = |part: Value| base64_url(part.to_string().as_bytes());
                bearer(format!("{}.{}.", part(value!({ "alg": "none" })), part(self.claims("alice"))))
            }
            "with too little scope" => with("scope", value!("other")),
            "another principal's" => bearer(self.issuer.signing.sign(&self.claims("bob"))),
            "another principal's, static" => bearer(self.token.clone()),
            "good" => bearer(self.good()),
            other => {
                let opaque = other.strip_prefix("opaque, ");
                let opaque =
                    opaque.unwrap_or_else(|| panic!("the table has a row that no test knows: {other}"));
                let token = base64_url(other.as_bytes());
                self.issuer.say(&token, &self.said(opaque));
                bearer(token)
            }
        }
    }
}

pub(super) fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Method, path, headers and body.
type Way = (&'static str, String, Vec<(&'static str, String)>, String);

/// The request of that row, for the sessions that were opened.
fn way(row: &str, base: &str, streamable: &str, http_sse: &str) -> Way {
    let post: Vec<_> = POST.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let session = ("mcp-session-id", streamable.to_owned());
    let events = ("accept", "text/event-stream".to_owned());
    let note = value!({ "jsonrpc": "2.0", "method": "notifications/x" });
    let answer = value!({ "jsonrpc": "2.0", "id": "q", "result": { "action": "accept" } });
    let cancel =
        value!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    let (path, what) = row.split_once(": ").unwrap_or((row, ""));
    let body = match what {
        "initialize" => initialize("2025-11-25"),
        "a request" => call(1),
        "a notification" => note,
        "an answer" => answer,
        "a cancel" => cancel,
        "a batch" => value!([call(1)]),
        "a modern request" => {
            let meta = value!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            request(1, "tools/list", &value!({ "_meta": meta }))
        }
        _ => Value::Null,
    };
    let modern = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
    match path {
        "POST /mcp" => {
            let mut headers = post;
            match what {
                "initialize" => {}
                "a modern request" => {
                    headers.extend(modern.map(|(name, value)| (name, value.to_owned())));
                }
                "a batch" => headers.extend([session, ("mcp-protocol-version", "2025-03-26".to_owned())]),
                _ => headers.push(session),
            }
            ("POST", format!("{base}/mcp"), headers, body.to_string())
        }
        "GET /mcp" => {
            let position = (what == "a resume").then(|| ("last-event-id", "g.1-0".to_owned()));
            let headers = [events, session].into_iter().chain(position).collect();
            ("GET", format!("{base}/mcp"), headers, String::new())
        }
        "DELETE /mcp" => ("DELETE", format!("{base}/mcp"), vec![session], String::new()),
        "GET /sse" => {
            let position = (what == "a resume").then(|| ("last-event-id", format!("{http_sse}.s.1-0")));
            ("GET", format!("{base}/sse"), [events].into_iter().chain(position).collect(), String::new())
        }
        "POST /message" => ("POST", format!("{base}/message?sessionId={http_sse}"), post, body.to_string()),
        other => panic!("the table has a row that no test knows: {other}"),
    }
}

#[tokio::test]
async fn a2_a7_p2_every_credential_at_every_endpoint_of_every_node_gets_what_the_tables_say() {
    let upstream = Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await;
    let cluster = Cluster::start(&upstream).await;
    let credentials = table("| Credential | Status | `WWW-Authenticate: Bearer` |");
    let requests = table("| Request | good | another principal's |");

    let known: Vec<_> = credentials.iter().map(|row| &*row[0]).collect();
    assert_eq!(known, CREDENTIALS, "every one stands in the table");
    assert_eq!(requests.len(), 16, "every endpoint and method");
    for (number, node) in cluster.nodes.iter().enumerate() {
        for base in ["", "/servers/default"] {
            let (alice, streamable, http_sse, _stream) = sessions(&cluster, node, base).await;
            for asked in &requests {
                for row in &credentials {
                    let (status, challenge) = match (&*row[1], &*row[0]) {
                        ("as below", "good" | "opaque, good") => (&*asked[1], ""),
                        ("as below", _) => (&*asked[2], ""),
                        (status, _) => (status, &*row[2]),
                    };
                    // It comes last: it ends what the others are asked of.
                    if matches!(&*row[0], "good" | "opaque, good") && asked[0] == "DELETE /mcp" {
                        continue;
                    }
                    let way = way(&asked[0], base, &streamable, &http_sse);
                    let seen = show(&cluster, &alice, &row[0], &way).await;
                    let expected = (status.to_owned(), whole(status, challenge, &way.1));
                    assert_eq!(seen, expected, "{row:?} at {asked:?}, node {number}{base}");
                }
            }
            let last = way("DELETE /mcp", base, &streamable, &http_sse);
            let good = if number == 0 { "good" } else { "opaque, good" };
            assert_eq!(show(&cluster, &alice, good, &last).await.0, "204");
        }
    }
}

/// The challenge with what each ends with: where that endpoint's metadata is.
fn whole(status: &str, challenge: &str, path: &str) -> String {
    if !matches!(status, "400" | "401" | "403") {
        return String::new();
    }
    let (server, endpoint) = path.split('?').next().unwrap().rsplit_once('/').unwrap();
    let endpoint = if endpoint == "mcp" { "mcp" } else { "sse" };
    let address =
        format!("http://gate.example.com/.well-known/oauth-protected-resource/mcp-gate{server}/{endpoint}");
    let comma = if challenge.is_empty() { "" } else { ", " };
    format!(r#"Bearer {challenge}{comma}resource_metadata="{address}""#)
}

/// A session of each transport, opened by whom the good token is of; the stream has to stay.
async fn sessions(cluster: &Cluster, node: &Gateway, base: &str) -> (Client, String, String, Stream) {
    let client = node.client();
    let authorization = format!("Bearer {}", cluster.good());
    let mut headers = POST.to_vec();
    headers.push(("authorization", &authorization));
    let opened =
        client.ask("POST", &format!("{base}/mcp"), &headers, &initialize("2025-03-26").to_string()).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    let streamable = opened.header("mcp-session-id").to_owned();
    let headers = [("accept", "text/event-stream"), ("authorization", &*authorization)];
    let mut stream = Stream::new(client.send("GET", &format!("{base}/sse"), &headers, "").await);
    let endpoint = String::from_utf8(stream.any().await.unwrap().data.unwrap().to_vec()).unwrap();
    let http_sse = endpoint.split_once('=').unwrap().1.to_owned();
    let (_, path) = endpoint.split_once("/mcp-gate").unwrap();
    let mut headers = POST.to_vec();
    headers.push(("authorization", &authorization));
    client.ask("POST", path, &headers, &initialize("2024-11-05").to_string()).await;
    assert!(stream.message().await["result"].is_object());
    (client, streamable, http_sse, stream)
}

/// The status and the challenge; a stream is not read.
async fn show(cluster: &Cluster, client: &Client, credential: &str, way: &Way) -> (String, String) {
    let (method, path, own, body) = way;
    let authorization = cluster.credential(credential);
    let mut headers: Vec<_> = own.iter().map(|(name, value)| (*name, &**value)).collect();
    headers.extend(authorization.iter().map(|value| ("authorization", &**value)));
    let response = client.send(method, path, &headers, body).await;
    let status = response.status().as_u16().to_string();
    let challenge =
        response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    if response.headers().get("content-type").is_none_or(|kind| kind != "text/event-stream") {
        read(response).await;
    }
    (status, challenge.unwrap_or_default())
}
