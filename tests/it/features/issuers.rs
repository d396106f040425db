//! Issuers of tokens: their keys come, change and stay away; their algorithms; and what a client finds of them.

use std::process::Command;
use std::time::Duration;

use holdfast::app::Shared;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json as value};

use super::credentials::base64_url;
use crate::harness::{
    Client, Gateway, Issuer, POST, Reply, Signing, Stream, Upstream, configured, initialize, json, request,
};

const BASE: &str = "http://gate.example.com";

async fn upstream() -> Upstream {
    Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await
}

async fn gateway(upstream: &Upstream, settings: &[(&'static str, &str)]) -> Gateway {
    let mut all = vec![("public_url", BASE), ("auth.mode", "tokens")];
    all.extend(settings);
    let config = configured(&upstream.url, &all);
    Gateway::start_on(&config, Shared::memory(&config)).await
}

async fn opened(gateway: &Gateway, token: &str) -> Reply {
    let mut client = gateway.client();
    client.token = Some(token.to_owned());
    client.posted(&initialize("2025-11-25")).await
}

fn token(issuer: &Issuer, signing: &Signing) -> String {
    signing.sign(&issuer.claims("alice", &format!("{BASE}/mcp")))
}

#[tokio::test]
async fn a_key_that_is_new_is_looked_for_once_and_one_that_is_withdrawn_is_forgotten() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let keys = format!("{}/keys", issuer.url);
    let settings = [("auth.issuers.a.issuer", &*issuer.url), ("auth.issuers.a.keys_url", &*keys)];
    let gateway = gateway(&upstream, &settings).await;
    assert_eq!(opened(&gateway, &token(&issuer, &issuer.signing)).await.status, 200);
    let second = Signing::new("second");
    let new = token(&issuer, &second);
    assert_eq!(opened(&gateway, &new).await.status, 401, "nobody has published it");
    issuer.publish(&[&second]);
    let read = issuer.fetched();
    // It was looked for just now: it is waited for, and one look is enough for a crowd.
    let crowd = (0..20).map(|_| opened(&gateway, &new));
    let statuses: Vec<u16> =
        futures::future::join_all(crowd).await.into_iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200; 20]);
    assert_eq!(issuer.fetched(), read + 1, "one look for all");
    assert_eq!(opened(&gateway, &token(&issuer, &issuer.signing)).await.status, 401, "it was withdrawn");
    issuer.publish(&[]);
    opened(&gateway, &token(&issuer, &Signing::new("third"))).await;
    assert_eq!(opened(&gateway, &new).await.status, 401, "there are none at all");
}

#[tokio::test]
async fn keys_in_a_file_without_names_are_exchanged_when_a_signature_does_not_fit() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let file = std::env::temp_dir().join(format!("keys-{}", uuid::Uuid::new_v4()));
    let write = |signing: &Signing| {
        let mut public = signing.public.clone();
        public.as_object_mut().unwrap().remove("kid");
        std::fs::write(&file, value!({ "keys": [public] }).to_string()).unwrap();
    };
    write(&issuer.signing);
    let path = file.display().to_string();
    let settings = [
        ("auth.issuers.a.issuer", "https://corp.example.com"),
        ("auth.issuers.a.keys_file", &*path),
        ("auth.issuers.a.audiences", "api://mcp, api://more"),
        ("auth.issuers.a.subject_claim", "oid"),
        ("auth.leeway", "30s"),
        ("servers.default.scopes", "files"),
    ];
    let gateway = gateway(&upstream, &settings).await;
    let mut claims = issuer.claims("alice", "api://more");
    claims["iss"] = value!("https://corp.example.com");
    claims["oid"] = value!("5f2c");
    claims["scp"] = value!(["other", "files"]);
    let now = claims["exp"].as_u64().unwrap() - 600;
    claims["exp"] = value!(now - 10);
    assert_eq!(opened(&gateway, &issuer.signing.sign(&claims)).await.status, 200, "clocks may differ");
    claims["exp"] = value!(now + 600);
    let second = Signing::new("second");
    write(&second);
    assert_eq!(opened(&gateway, &second.sign(&claims)).await.status, 200, "read again");
    assert_eq!(opened(&gateway, &issuer.signing.sign(&claims)).await.status, 401, "no longer there");
    claims["aud"] = value!(format!("{BASE}/mcp"));
    assert_eq!(
        opened(&gateway, &second.sign(&claims)).await.status,
        401,
        "only the audiences that are named"
    );
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn the_last_keys_serve_while_the_issuer_is_away_and_without_any_it_is_nobodys_fault() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    issuer.fail(true);
    let settings = [("auth.issuers.a.issuer", &*issuer.url), ("auth.keys_ttl", "10s")];
    let gateway = gateway(&upstream, &settings).await;
    let good = token(&issuer, &issuer.signing);
    let refused = opened(&gateway, &good).await;
    assert_eq!((refused.status, refused.code()), (503, -32000), "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.header("www-authenticate"), "");
    issuer.fail(false);
    wait_until_open(&gateway, &good).await;
    issuer.fail(true);
    // Longer than they are fresh for.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(opened(&gateway, &good).await.status, 200);
}

async fn wait_until_open(gateway: &Gateway, token: &str) {
    for _ in 0..40 {
        if opened(gateway, token).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("the keys were not read within 10 s of the issuer's return");
}

/// Node.js makes it: no library here makes RSA keys.
fn rsa() -> EncodingKey {
    let made = "process.stdout.write(crypto.generateKeyPairSync('rsa', { modulusLength: 2048 })\
                .privateKey.export({ type: 'pkcs8', format: 'pem' }))";
    let pem = Command::new("node").args(["-e", made]).output().unwrap();
    EncodingKey::from_rsa_pem(&pem.stdout).unwrap()
}

#[tokio::test]
async fn every_algorithm_that_is_named_is_taken_from_a_key_that_is_for_it() {
    let upstream = upstream().await;
    let issuer = Issuer::start().await;
    let ec384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let rsa = rsa();
    let mut signings = vec![
        Signing::of(
            "384",
            Algorithm::ES384,
            EncodingKey::from_ec_pem(ec384.serialize_pem().as_bytes()).unwrap(),
        ),
        Signing {
            id: Some("ed".to_owned()),
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(&ed.serialize_der()),
            public: value!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64_url(ed.public_key_raw()) }),
        },
    ];
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512] {
        signings.push(Signing::of(&format!("{algorithm:?}"), algorithm, rsa.clone()));
    }
    signings.push(Signing::new("256"));
    issuer.publish(&signings.iter().collect::<Vec<_>>());
    let secret = "a secret of sixty-four bytes or more, as HS512 needs one that long: there.";
    let settings = [
        ("auth.issuers.keys.issuer", &*issuer.url),
        ("auth.issuers.shared.issuer", "shared"),
        ("auth.issuers.shared.secret", secret),
        ("auth.issuers.shared.algorithms", "HS256,HS512"),
    ];
    let gateway = gateway(&upstream, &settings).await;
    for signing in &signings {
        let reply = opened(&gateway, &token(&issuer, signing)).await;
        assert_eq!(reply.status, 200, "{:?}: {reply:?}", signing.algorithm);
    }
    // A key is for the algorithm that it is published for, and for no other.
    let wrong = Signing::of("RS256", Algorithm::RS512, rsa);
    assert_eq!(opened(&gateway, &token(&issuer, &wrong)).await.status, 401);
    let mut claims = issuer.claims("alice", &format!("{BASE}/mcp"));
    claims["iss"] = value!("shared");
    for (algorithm, status) in [(Algorithm::HS256, 200), (Algorithm::HS512, 200), (Algorithm::HS384, 401)] {
        let signing = Signing::of("", algorithm, EncodingKey::from_secret(secret.as_bytes()));
        assert_eq!(opened(&gateway, &signing.sign(&claims)).await.status, status, "{algorithm:?}");
    }
}

#[tokio::test]
async fn subjects_of_two_issuers_never_meet() {
    let (upstream, one, other) = (upstream().await, Issuer::start().await, Issuer::start().await);
    let settings = [("auth.issuers.a.issuer", &*one.url), ("auth.issuers.b.issuer", &*other.url)];
    let gateway = gateway(&upstream, &settings).await;
    let session = opened(&gateway, &token(&one, &one.signing)).await.header("mcp-session-id").to_owned();
    let mut client = gateway.client();
    client.session = Some(session);
    for (issuer, signing, status) in [
        (&other, &other.signing, 404),
        (&one, &one.signing, 200),
        // In the name of one, signed by the other.
        (&one, &other.signing, 401),
    ] {
        client.token = Some(token(issuer, signing));
        let reply = client.posted(&request(1, "tools/list", &value!({}))).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

#[tokio::test]
async fn a6_a_tool_is_called_with_its_scopes_or_not_at_all() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let settings = [
        ("auth.issuers.a.issuer", &*issuer.url),
        ("servers.default.scopes", "files"),
        ("servers.default.era", "both"),
        ("servers.default.tools", "read_*, write_* write"),
    ];
    let gateway = gateway(&upstream, &settings).await;
    let mut client = gateway.client();
    let mut claims = issuer.claims("alice", BASE);
    claims["scope"] = value!("files");
    client.token = Some(issuer.signing.sign(&claims));
    client.initialize("2025-03-26").await;
    let calling = |tool: &str| request(1, "tools/call", &value!({ "name": tool }));
    assert_eq!(client.posted(&calling("read_file")).await.status, 200);
    let before = upstream.asked().len();
    let refused = client.posted(&calling("write_file")).await;
    assert_eq!((refused.status, refused.json()["id"].clone()), (403, value!(1)), "{refused:?}");
    let challenge = refused.header("www-authenticate").to_owned();
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\""), "{challenge}");
    assert!(challenge.contains("scope=\"files write\""), "all that a token needs: {challenge}");
    assert_eq!(client.posted(&calling("format_disk")).await.status, 403, "nobody's");
    let batch = value!([calling("read_file"), calling("write_file")]);
    assert_eq!(client.posted(&batch).await.status, 403, "one is enough");
    for hidden in [
        // What one parser takes for the first, another takes for the last.
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","name":"write_file"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["write_file"]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["write_file"]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"n\u0061me":"write\u005ffile"}}"#,
        // Parsers that fold letters believe the last one of these.
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","Name":"write_file"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","name\u0000":"write_file"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"write_file"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_x"},"paramſ":{"name":"write_file"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/x","Method":"tools/call","Id":1,"params":{"name":"write_file"}}"#,
    ] {
        let headers = [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-session-id", client.session.as_deref().unwrap()),
        ];
        let status = client.ask("POST", "/mcp", &headers, hidden).await.status;
        assert!(matches!(status, 400 | 403), "{hidden}: {status}");
    }
    let meta = value!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let modern = request(1, "tools/call", &value!({ "name": "write_file", "_meta": meta })).to_string();
    let era =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "write_file")];
    let refused = client.ask("POST", "/mcp", &[POST.as_slice(), &era].concat(), &modern).await;
    assert_eq!(refused.status, 403, "of the other era: {refused:?}");
    let mut stream = Stream::new(client.sse().await);
    let endpoint = String::from_utf8(stream.any().await.unwrap().data.unwrap().to_vec()).unwrap();
    let refused = client.ask("POST", &endpoint, &POST, &calling("write_file").to_string()).await;
    assert_eq!(refused.status, 403, "over the other transport: {refused:?}");
    assert_eq!(upstream.asked().len(), before, "nothing of it went up");
    claims["scope"] = value!("files write");
    client.token = Some(issuer.signing.sign(&claims));
    assert_eq!(client.posted(&calling("write_file")).await.status, 200);
}

#[tokio::test]
async fn whoever_needs_no_token_is_one_principal_and_a_bad_token_is_bad_all_the_same() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let settings = [
        ("auth.issuers.a.issuer", &*issuer.url),
        ("servers.default.anonymous", "on"),
        ("servers.default.tools", "read_*, write_* write"),
    ];
    let gateway = gateway(&upstream, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let calling = |tool: &str| request(1, "tools/call", &value!({ "name": tool }));
    assert_eq!(client.posted(&calling("read_file")).await.status, 200);
    let refused = client.posted(&calling("write_file")).await;
    assert_eq!(refused.status, 401, "logging in may help");
    let challenge = refused.header("www-authenticate");
    assert!(challenge.starts_with("Bearer scope=\"write\", resource_metadata="), "{challenge}");
    let headers = [POST.as_slice(), &[("authorization", "DPoP x")]].concat();
    let refused = gateway.client().ask("POST", "/mcp", &headers, &initialize("2025-11-25").to_string()).await;
    assert_eq!(refused.status, 401, "another scheme is no missing one");
    client.token = Some("hf_nobodys".to_owned());
    assert_eq!(client.posted(&calling("read_file")).await.status, 401);
    client.token = Some(token(&issuer, &issuer.signing));
    assert_eq!(client.posted(&calling("read_file")).await.status, 404, "another principal's session");
}

#[tokio::test]
async fn a5_metadata_is_where_the_challenge_says_and_open() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let settings = [("auth.issuers.a.issuer", &*issuer.url), ("servers.default.scopes", "files")];
    let gateway = gateway(&upstream, &settings).await;
    let client: Client = gateway.client();
    for endpoint in ["/mcp", "/servers/default/mcp", "/sse"] {
        let path = format!("/.well-known/oauth-protected-resource{endpoint}");
        let found = client.ask("GET", &path, &[], "").await;
        assert_eq!((found.status, found.header("content-type")), (200, "application/json"));
        let expected: Value = value!({
            "resource": format!("{BASE}{endpoint}"),
            "resource_name": "default",
            "authorization_servers": [issuer.url],
            "scopes_supported": ["files"],
            "bearer_methods_supported": ["header"],
        });
        assert_eq!(found.json(), expected);
    }
    for none in ["/servers/none/mcp", "/health", "/servers"] {
        let path = format!("/.well-known/oauth-protected-resource{none}");
        assert_eq!(client.ask("GET", &path, &[], "").await.status, 404, "{none}");
    }
}

#[tokio::test]
async fn legacy_clients_are_told_where_to_log_in_when_they_open_a_session() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = gateway(&upstream, &[("auth.issuers.a.issuer", &*issuer.url)]).await;
    let capabilities =
        opened(&gateway, &token(&issuer, &issuer.signing)).await.json()["result"]["capabilities"].clone();
    let expected = value!({
        "resource": format!("{BASE}/servers/default/mcp"),
        "resource_name": "default",
        "authorization_servers": [issuer.url],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!(capabilities["experimental"]["oauth"], expected);
    assert_eq!(capabilities["tools"], value!({ "listChanged": true }), "what the server says stays");
}

#[tokio::test]
async fn what_is_good_at_one_server_is_not_good_at_another() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let settings = [
        ("auth.issuers.a.issuer", &*issuer.url),
        ("servers.open.upstream", &*upstream.url),
        ("servers.open.anonymous", "on"),
        ("servers.other.upstream", &*upstream.url),
        ("servers.other.scopes", "other"),
    ];
    let gateway = gateway(&upstream, &settings).await;
    let opening = initialize("2025-11-25").to_string();
    let ask = async |server: &str, token: Option<&str>, session: Option<&str>, body: &str| {
        let mut client = gateway.client();
        client.token = token.map(str::to_owned);
        let mut headers = POST.to_vec();
        headers.extend(session.map(|session| ("mcp-session-id", session)));
        client.ask("POST", &format!("/servers/{server}/mcp"), &headers, body).await
    };
    let mut claims = issuer.claims("alice", &format!("{BASE}/servers/default"));
    claims["scope"] = value!("other");
    let own = issuer.signing.sign(&claims);
    assert_eq!(ask("default", Some(&own), None, &opening).await.status, 200);
    assert_eq!(ask("other", Some(&own), None, &opening).await.status, 401, "it is meant for another");
    assert_eq!(ask("open", Some(&own), None, &opening).await.status, 401, "it is bad all the same");
    assert_eq!(ask("none", Some(&own), None, &opening).await.status, 401, "there is no such server");
    claims["aud"] = value!(format!("{BASE}/"));
    let all = issuer.signing.sign(&claims);
    let session = ask("default", Some(&all), None, &opening).await.header("mcp-session-id").to_owned();
    assert_eq!(ask("other", Some(&all), None, &opening).await.status, 200);
    let listing = request(1, "tools/list", &value!({})).to_string();
    assert_eq!(ask("default", Some(&all), Some(&session), &listing).await.status, 200);
    assert_eq!(
        ask("other", Some(&all), Some(&session), &listing).await.status,
        404,
        "another server's session"
    );
    claims["scope"] = value!("files");
    let without = issuer.signing.sign(&claims);
    assert_eq!(ask("other", Some(&without), None, &opening).await.status, 403);
    assert_eq!(ask("open", None, None, &opening).await.status, 200);
    for closed in ["default", "other", "none"] {
        assert_eq!(ask(closed, None, None, &opening).await.status, 401, "{closed}");
    }
}

#[tokio::test]
async fn a_stream_lives_no_longer_than_the_token_that_opened_it() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let settings = [("auth.issuers.a.issuer", &*issuer.url), ("auth.leeway", "0s")];
    let gateway = gateway(&upstream, &settings).await;
    let mut claims = issuer.claims("alice", BASE);
    let mut client = gateway.client();
    client.token = Some(issuer.signing.sign(&claims));
    client.initialize("2025-11-25").await;
    let mut lasting = Stream::new(client.get(None).await);
    claims["exp"] = value!(claims["exp"].as_u64().unwrap() - 597);
    client.token = Some(issuer.signing.sign(&claims));
    for (mut brief, retries) in
        [(Stream::new(client.get(None).await), 2), (Stream::new(client.sse().await), 1)]
    {
        let ended = async { while brief.any().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(8), ended).await.expect("it ends with its token");
        assert_eq!(brief.retries, retries, "the last one at the end");
    }
    assert_eq!(gateway.metric(r#"holdfast_streams_ended_total{reason="expired"}"#), Some(2.0));
    let open =
        tokio::time::timeout(Duration::from_millis(500), async { while lasting.any().await.is_some() {} });
    assert!(open.await.is_err(), "a longer token, a longer stream");
}
