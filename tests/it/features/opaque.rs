//! Tokens that say nothing by themselves: who is asked about which, how often, and what holds while there is no answer.

use std::time::Duration;

use futures::future::join_all;
use holdfast::app::Shared;
use serde_json::{Value, json as value};
use tokio::time::Instant;

use crate::harness::{Gateway, Issuer, Reply, Upstream, configured, initialize, json, request};

const BASE: &str = "http://gate.example.com";

async fn upstream() -> Upstream {
    Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await
}

/// Where one issuer is asked, as `auth.issuers.a`.
async fn gateway(upstream: &Upstream, issuer: &Issuer, settings: &[(&'static str, &str)]) -> Gateway {
    let introspection = format!("{}/introspect", issuer.url);
    let mut all = vec![
        ("public_url", BASE),
        ("auth.mode", "tokens"),
        ("auth.issuers.a.issuer", &*issuer.url),
        ("auth.issuers.a.introspection_url", &*introspection),
        ("auth.issuers.a.client_id", "the/gate"),
        ("auth.issuers.a.client_secret", "s3c:ret"),
    ];
    // The last one of a name counts.
    all.retain(|(name, _)| !settings.iter().any(|(other, _)| other == name));
    all.extend(settings);
    let config = configured(&upstream.url, &all);
    Gateway::start_on(&config, Shared::memory(&config)).await
}

async fn opened(gateway: &Gateway, token: &str) -> Reply {
    let mut client = gateway.client();
    client.token = Some(token.to_owned());
    client.posted(&initialize("2025-11-25")).await
}

async fn statuses(gateway: &Gateway, tokens: &[&str]) -> Vec<u16> {
    join_all(tokens.iter().map(|token| opened(gateway, token)))
        .await
        .iter()
        .map(|reply| reply.status)
        .collect()
}

#[tokio::test]
async fn an_issuer_is_asked_once_about_a_token_however_many_come_with_it() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = gateway(&upstream, &issuer, &[]).await;
    issuer.say("of+alice/~==", &issuer.active("alice", &format!("{BASE}/mcp")));
    assert_eq!(statuses(&gateway, &["of+alice/~=="; 20]).await, [200; 20]);
    assert_eq!(statuses(&gateway, &["of+alice/~=="; 5]).await, [200; 5]);
    // As the gateway: the id and the secret, each encoded by itself (RFC 6749, section 2.3.1).
    let gate = "Basic dGhlJTJGZ2F0ZTpzM2MlM0FyZXQ=";
    assert_eq!(issuer.introspections(), [("of+alice/~==".to_owned(), gate.to_owned())]);
    assert_eq!(statuses(&gateway, &["nobodys"; 20]).await, [401; 20]);
    assert_eq!(issuer.introspections().len(), 2, "that it is not active is remembered for a while");
    // Whose a session is depends on the subject, and not on the token.
    issuer.say("another", &issuer.active("alice", BASE));
    issuer.say("bobs", &issuer.active("bob", BASE));
    let mut client = gateway.client();
    client.session = Some(opened(&gateway, "of+alice/~==").await.header("mcp-session-id").to_owned());
    for (token, status) in [("another", 200), ("bobs", 404)] {
        client.token = Some(token.to_owned());
        assert_eq!(client.posted(&request(1, "tools/list", &value!({}))).await.status, status, "{token}");
    }
    let counted = |labels: &str| gateway.metric(&format!("holdfast_auth_credentials_total{{{labels}}}"));
    assert_eq!(counted(r#"credential="introspected",outcome="accepted""#), Some(28.0));
    assert_eq!(counted(r#"credential="introspected",outcome="invalid""#), Some(20.0));
    let asked = |outcome: &str| {
        let name = "holdfast_auth_introspection_duration_seconds_count";
        gateway.metric(&format!("{name}{{outcome=\"{outcome}\"}}"))
    };
    assert_eq!((asked("active"), asked("inactive"), asked("failed")), (Some(3.0), Some(1.0), Some(0.0)));
}

#[tokio::test]
async fn an_issuers_word_is_taken_for_a_while_and_never_beyond_the_tokens_end() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let settings = [("auth.introspection_ttl", "2s"), ("auth.leeway", "1h")];
    let gateway = gateway(&upstream, &issuer, &settings).await;
    let mut brief = issuer.active("alice", BASE);
    brief["exp"] = value!(brief["exp"].as_u64().unwrap() - 599);
    for token in ["revoked", "brief"] {
        issuer.say(token, &if token == "brief" { brief.clone() } else { issuer.active("alice", BASE) });
        assert_eq!(opened(&gateway, token).await.status, 200, "{token}");
        issuer.say(token, &value!({ "active": false }));
    }
    let began = Instant::now();
    let ended = async |token: &str| {
        while opened(&gateway, token).await.status == 200 {
            assert!(began.elapsed() < Duration::from_secs(10), "{token}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    };
    let brief = ended("brief").await;
    assert!(brief < Duration::from_millis(1500), "asked again at its end, in spite of the leeway: {brief:?}");
    let revoked = ended("revoked").await;
    assert!((1500..4000).contains(&revoked.as_millis()), "{revoked:?}");
}

#[tokio::test]
async fn a_token_is_sent_to_the_one_issuer_that_it_is_meant_for_and_to_nobody_else() {
    let upstream = upstream().await;
    let (issuer, other) = (Issuer::start().await, Issuer::start().await);
    let at_other = format!("{}/introspect", other.url);
    let settings = [
        ("auth.issuers.b.issuer", &*other.url),
        ("auth.issuers.b.introspection_url", &*at_other),
        ("auth.issuers.b.client_id", "gate"),
        ("auth.issuers.b.client_secret", "x"),
        ("auth.issuers.b.token_prefix", "b_"),
        ("auth.issuers.c.issuer", "https://c.example.com"),
        ("auth.issuers.c.secret", "a secret of thirty-two bytes or more"),
    ];
    let gateway = gateway(&upstream, &issuer, &settings).await;
    let of = |iss: &str| {
        let mut claims = issuer.claims("alice", BASE);
        claims["iss"] = value!(iss);
        issuer.signing.sign(&claims)
    };
    let (own, others, strange) = (of(&issuer.url), of(&other.url), of("https://evil.example.com"));
    let verified = of("https://c.example.com");
    let odd = own.rsplit_once('.').unwrap().0.to_owned();
    for token in [&*own, &others, &strange, &verified, "b_1", "a_1", "b", "a.b.c", "hf_nobodys", &odd] {
        assert_eq!(opened(&gateway, token).await.status, 401, "{token}");
    }
    let asked = |issuer: &Issuer| -> Vec<String> {
        issuer.introspections().into_iter().map(|(token, _)| token).collect()
    };
    // A JWT that nothing here could verify is its issuer's to judge.
    assert_eq!(asked(&issuer), [&*own, "a_1", "b", "a.b.c", &odd]);
    assert_eq!(asked(&other), [&*others, "b_1"]);
}

#[tokio::test]
async fn while_an_issuer_says_nothing_its_tokens_may_be_good_and_what_it_said_holds_its_time() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = gateway(&upstream, &issuer, &[("auth.introspection_ttl", "2s")]).await;
    for token in ["known", "new"] {
        issuer.say(token, &issuer.active("alice", BASE));
    }
    assert_eq!(opened(&gateway, "known").await.status, 200);
    issuer.fail(true);
    assert_eq!(opened(&gateway, "known").await.status, 200, "it was said");
    let refused = opened(&gateway, "new").await;
    assert_eq!((refused.status, refused.code()), (503, -32000), "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.header("www-authenticate"), "");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(opened(&gateway, "known").await.status, 503, "it was said too long ago");
    issuer.fail(false);
    assert_eq!(statuses(&gateway, &["known", "new"]).await, [200; 2], "a failure is not remembered");
    let unavailable = r#"holdfast_auth_credentials_total{credential="introspected",outcome="unavailable"}"#;
    assert_eq!(gateway.metric(unavailable), Some(2.0));
}

#[tokio::test]
async fn an_issuer_that_hangs_is_asked_by_few_at_a_time_and_waited_for_briefly() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let settings = [("auth.timeout", "2s"), ("auth.introspections_max", "2")];
    let gateway = gateway(&upstream, &issuer, &settings).await;
    issuer.say("known", &issuer.active("alice", BASE));
    assert_eq!(opened(&gateway, "known").await.status, 200);
    issuer.hang(true);
    let began = Instant::now();
    let tokens: Vec<_> = (0..30).map(|number| format!("t{number}")).collect();
    let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
    let (crowd, known) = tokio::join!(statuses(&gateway, &tokens), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (opened(&gateway, "known").await.status, began.elapsed())
    });
    assert_eq!(crowd, [503; 30]);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(
        known.0 == 200 && known.1 < Duration::from_millis(1500),
        "what is known waits for nobody: {known:?}"
    );
    let asked = issuer.introspections().len() - 1;
    assert!((2..=4).contains(&asked), "{asked} were asked for");
    issuer.hang(false);
    issuer.say("t1", &issuer.active("alice", BASE));
    assert_eq!(opened(&gateway, "t1").await.status, 200);
}

#[tokio::test]
async fn a_redirect_is_no_answer() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let elsewhere = format!("{}/elsewhere", issuer.url);
    let gateway = gateway(&upstream, &issuer, &[("auth.issuers.a.introspection_url", &*elsewhere)]).await;
    issuer.say("good", &issuer.active("alice", BASE));
    assert_eq!(opened(&gateway, "good").await.status, 503);
    assert_eq!(issuer.introspections(), [], "nothing was sent there");
}

#[tokio::test]
async fn an_issuer_that_is_only_asked_needs_no_keys_and_shows_where_to_log_in() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = gateway(&upstream, &issuer, &[]).await;
    let path = "/.well-known/oauth-protected-resource/mcp";
    let found: Value = gateway.client().ask("GET", path, &[], "").await.json();
    assert_eq!(found["authorization_servers"], value!([issuer.url]));
    assert_eq!(issuer.fetched(), 0);
}
