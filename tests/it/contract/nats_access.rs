//! How a node is let in by a NATS, and what it says when it is not, or when the server will not do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use holdfast::adapters::nats::{Config, ConnectError, Keys, NatsBus};
use holdfast::ports::Bus as _;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::bus::{from, next};
use super::node;
use crate::servers::{Folder, Nats, Tls};

/// A message goes out and comes back.
async fn works(config: &Config) {
    let bus = NatsBus::connect(config).await.unwrap();
    let mut inbox = bus.open_inbox(&node("a")).await.unwrap();
    let sent = from("b");
    bus.send(&node("a"), sent.clone()).await.unwrap();
    assert_eq!(next(&mut inbox).await, sent);
}

async fn error(config: &Config) -> ConnectError {
    let connected = tokio::time::timeout(Duration::from_secs(5), NatsBus::connect(config)).await;
    let error = connected.expect("an answer in time").unwrap_err();
    println!("{error}");
    error
}

async fn login_refused(config: &Config) {
    let error = error(config).await;
    assert!(matches!(error, ConnectError::Login(_)), "{error:?}");
    assert!(!error.may_pass());
}

#[tokio::test]
async fn by_user_and_password() {
    let nats = Nats::with(&["--user", "hold", "--pass", "f@st/%"]);
    login_refused(&nats.config()).await;
    let with =
        |login: &str| Config { url: nats.url().replace("//", &format!("//{login}@")), ..nats.config() };
    login_refused(&with("hold:wrong")).await;
    works(&with("hold:f%40st%2F%25")).await;
}

#[tokio::test]
async fn by_a_token_of_its_own_or_in_the_url() {
    let nats = Nats::with(&["--auth", "t0ken"]);
    login_refused(&nats.config()).await;
    works(&Config { token: Some("t0ken".into()), ..nats.config() }).await;
    works(&Config { url: nats.url().replace("//", "//t0ken@"), ..nats.config() }).await;
}

#[tokio::test]
async fn by_an_nkey() {
    let (known, stranger, folder) = (KeyPair::new_user(), KeyPair::new_user(), Folder::new());
    let nats =
        Nats::configured(&format!("authorization: {{ users: [ {{ nkey: {} }} ] }}", known.public_key()));
    let with = |name: &str, seed: &str| {
        let nkey_file = Some(folder.write(name, &format!("{seed}\n")));
        Config { nkey_file, ..nats.config() }
    };
    works(&with("known", &known.seed().unwrap())).await;
    login_refused(&with("stranger", &stranger.seed().unwrap())).await;
    login_refused(&with("broken", "no seed")).await;
    let absent = Config { nkey_file: Some(folder.path().join("absent")), ..nats.config() };
    assert!(matches!(error(&absent).await, ConnectError::File(..)));
}

/// A claim about `subject` as `nsc` writes it.
fn claim(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let claims = json!({
        "jti": "of-a-test", "iat": 1, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test",
        "nats": nats,
    });
    let encoded = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encoded(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encoded(&claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn by_credentials_of_a_user() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let no_limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
        "leaf": -1,
    });
    let of_operator = claim(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
    let of_account =
        claim(&operator, &account, &json!({ "type": "account", "version": 2, "limits": no_limits }));
    let rights = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let nats = Nats::configured(&format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}",
        account.public_key()
    ));
    login_refused(&nats.config()).await;
    let folder = Folder::new();
    let with = |name: &str, issuer: &KeyPair| {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            claim(issuer, &user, &rights),
            user.seed().unwrap()
        );
        Config { credentials_file: Some(folder.write(name, &text)), ..nats.config() }
    };
    works(&with("good", &account)).await;
    login_refused(&with("forged", &KeyPair::new_account())).await;
    let broken = Config { credentials_file: Some(folder.write("broken", "nothing")), ..nats.config() };
    assert!(matches!(error(&broken).await, ConnectError::File(..)));
}

#[tokio::test]
async fn over_tls_with_a_root_of_ones_own() {
    let tls = Tls::new();
    let (certificate, key) = (tls.certificate.to_str().unwrap(), tls.key.to_str().unwrap());
    let nats = Nats::with(&["--tls", "--tlscert", certificate, "--tlskey", key]);
    let trusting =
        |root| Config { url: nats.url().replace("nats://", "tls://"), ca_file: Some(root), ..nats.config() };
    works(&trusting(tls.root.clone())).await;
    // The server wants it, whatever the URL says.
    works(&Config { url: nats.url(), ..trusting(tls.root.clone()) }).await;
    let of_another = Tls::new();
    let garbage = Folder::new();
    for root in [of_another.root.clone(), garbage.write("root.pem", "nothing"), garbage.path().join("absent")]
    {
        let error = error(&trusting(root)).await;
        assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
        assert!(!error.may_pass());
    }
    let plain = Nats::start();
    let config = Config { url: plain.url().replace("nats://", "tls://"), ..trusting(tls.root.clone()) };
    let error = error(&config).await;
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
}

/// What a server before headers says to one client.
fn an_old_one() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let info = r#"{"server_id":"old","version":"2.1.9","go":"go1","host":"127.0.0.1","port":1,"proto":1,"max_payload":1048576,"client_id":1}"#;
        client.write_all(format!("INFO {info}\r\n").as_bytes()).unwrap();
        let heard = BufReader::new(client.try_clone().unwrap());
        for line in heard.lines().map_while(Result::ok) {
            if line == "PING" {
                client.write_all(b"PONG\r\n").unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_will_not_do_is_named_clearly() {
    let without = Nats::configured("no_header_support: true");
    assert!(matches!(error(&without.config()).await, ConnectError::Headers(_)));
    let old = Config { url: format!("nats://{}", an_old_one()), ..without.config() };
    assert!(matches!(error(&old).await, ConnectError::Headers(_)));
    let small = Nats::configured("max_payload: 1024");
    assert!(matches!(error(&small.config()).await, ConnectError::Payload(1024)));
    let mut away = Nats::start();
    away.kill();
    let error = error(&away.config()).await;
    assert!(error.may_pass(), "{error:?}");
}

#[tokio::test]
async fn a_node_that_may_not_listen_is_told_so() {
    let nats = Nats::configured(
        "authorization: { users: [ { user: u, password: p, permissions: { subscribe: [\"_INBOX.>\"] } } ] }",
    );
    let config = Config { url: nats.url().replace("//", "//u:p@"), ..nats.config() };
    let bus = NatsBus::connect(&config).await.unwrap();
    assert!(bus.open_inbox(&node("a")).await.is_err());
}

#[test]
fn secrets_are_not_printed() {
    let config = Config {
        url: "nats://user:s3cret@host".into(),
        token: Some("s3cret".into()),
        prefix: "holdfast".into(),
        timeout: Duration::from_secs(1),
        nkey_file: None,
        credentials_file: None,
        ca_file: None,
        inbox_max: 1,
        keys: Some(Keys {
            known: [("k".into(), b"s3cret".to_vec())].into(),
            signing: "k".into(),
            accept_unsigned: false,
        }),
    };
    let printed = format!("{config:?}");
    assert!(!printed.contains("s3cret") && printed.contains("holdfast"), "{printed}");
}
