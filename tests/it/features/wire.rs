//! TLS on the listeners: what is agreed on, whose certificate is shown, and who is cut off.

use std::process::Command;
use std::time::Duration;

use axum::http::Version;
use rustls::version::{TLS12, TLS13};
use serde_json::json as value;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use super::connections::{HEALTH, http2_start};
use crate::harness::{
    Certificates, Client, Gateway, Hand, Socket, Stream, Upstream, call, json, step, wait_until,
};
use crate::peers::process::{Process, holdfast_under, roomy};

/// A node whose clients have to speak TLS, and where it is.
pub(super) async fn secure(
    upstream: &str,
    settings: &[(&'static str, &str)],
) -> (Certificates, Gateway, String) {
    let certificates = Certificates::new();
    let files = ["certificate.pem", "key.pem"].map(|name| certificates.path(name));
    let own = [("http.tls.certificate_file", &*files[0]), ("http.tls.key_file", &*files[1])];
    let gateway = Gateway::start(upstream, &[&own, settings].concat()).await;
    let url = gateway.url.replace("http://", "https://");
    (certificates, gateway, url)
}

async fn plain() -> Upstream {
    Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await
}

#[tokio::test]
async fn clients_get_the_http_that_they_agree_on_in_either_tls() {
    let hand = Hand::start().await;
    let (certificates, gateway, url) = secure(&hand.upstream.url, &[]).await;
    for tls in [&TLS12, &TLS13] {
        for (http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
            let mut client = Client::trusting(&url, certificates.client(&[tls]), http2);
            client.initialize("2025-11-25").await;
            let response = client.get(None).await;
            assert_eq!(response.version(), version, "{tls:?}");
            let mut stream = Stream::new(response);
            let server = hand.take("GET").await;
            server.say(&step(7)).await;
            assert_eq!(stream.message().await["params"]["progress"], 7);
            assert_eq!(client.delete().await.status, 204);
        }
    }
    // Without a word about it (ALPN), what comes decides; what nobody here speaks is refused.
    let silent = certificates.connector(&[]);
    let mut socket = Socket::secure(&url, &silent, HEALTH).await;
    socket.read_until(|read| read.starts_with(b"HTTP/1.1 200")).await;
    let mut pieces = Socket::secure(&url, &silent, b"P").await;
    for piece in [b"RI * HTTP/2.0\r\n".as_slice(), b"\r\nSM\r\n\r\n", &http2_start()[24..]] {
        sleep(Duration::from_millis(20)).await;
        pieces.write(piece).await.unwrap();
    }
    let read = pieces.read_until(|read| read.len() >= 9).await;
    assert_eq!(read[3], 4, "the server's settings: {read:?}");
    assert!(shown(&url, &certificates.connector(&["smtp"])).await.is_none());
    assert_eq!(gateway.metric("holdfast_tls_handshakes_failed_total"), Some(1.0));
}

/// The certificate that a new connection is shown.
async fn shown(url: &str, tls: &TlsConnector) -> Option<Vec<u8>> {
    let socket = tokio::net::TcpStream::connect(url.trim_start_matches("https://")).await.unwrap();
    let stream = tls.connect("localhost".try_into().unwrap(), socket).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

async fn shown_becomes(url: &str, certificates: &Certificates, other_than: &[u8]) -> Vec<u8> {
    let tls = certificates.connector(&[]);
    for _ in 0..200 {
        let now = shown(url, &tls).await.unwrap();
        if now != other_than {
            return now;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("it is the old one after 10 s");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_a_broken_one_to_none() {
    let upstream = plain().await;
    let (certificates, _gateway, url) = secure(&upstream.url, &[]).await;
    let tls = certificates.connector(&[]);
    let first = shown(&url, &tls).await.unwrap();
    let mut open = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    open.initialize("2025-11-25").await;
    certificates.renew();
    let second = shown_becomes(&url, &certificates, &first).await;
    let (_, stranger) = certificates.issue();
    let key = std::fs::read(certificates.file("key.pem")).unwrap();
    for broken in [stranger.serialize_pem().into_bytes(), b"no key".to_vec(), Vec::new()] {
        std::fs::write(certificates.file("key.pem"), broken).unwrap();
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(shown(&url, &tls).await.as_ref(), Some(&second));
    }
    std::fs::remove_file(certificates.file("certificate.pem")).unwrap();
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(shown(&url, &tls).await.as_ref(), Some(&second));
    std::fs::write(certificates.file("key.pem"), key).unwrap();
    certificates.renew();
    shown_becomes(&url, &certificates, &second).await;
    assert_eq!(open.posted(&call(1)).await.status, 200, "what was open lives on");
}

/// The binary behind TLS on both listeners.
pub(super) fn process(certificates: &Certificates, upstream: &str) -> Process {
    let mut command: Command = roomy(env!("CARGO_BIN_EXE_holdfast"));
    for section in ["HTTP", "ADMIN"] {
        for (file, name) in [("CERTIFICATE", "certificate.pem"), ("KEY", "key.pem")] {
            command.env(format!("HOLDFAST_{section}_TLS_{file}_FILE"), certificates.path(name));
        }
    }
    holdfast_under(command, &["--upstream", upstream])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sighup_renews_at_once_and_what_cannot_be_used_is_named() {
    let upstream = plain().await;
    let certificates = Certificates::new();
    let holdfast = process(&certificates, &upstream.url);
    let url = holdfast.url().replace("http://", "https://");
    let first = shown(&url, &certificates.connector(&[])).await.unwrap();
    certificates.renew();
    holdfast.signal("-HUP");
    tokio::task::block_in_place(|| holdfast.line_after("a renewed certificate is in use"));
    shown_becomes(&url, &certificates, &first).await;
    std::fs::write(certificates.file("key.pem"), certificates.issue().1.serialize_pem()).unwrap();
    let fault = tokio::task::block_in_place(|| holdfast.line_after("a certificate can't be renewed"));
    for name in ["tls.certificate_file", "tls.key_file", "key.pem", "KeyMismatch"] {
        assert!(fault.contains(name), "{name}: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_are_served_over_tls_and_their_tools_trust_whom_they_are_told() {
    let upstream = plain().await;
    let certificates = Certificates::new();
    let holdfast = process(&certificates, &upstream.url);
    let admin = holdfast.admin().replace("http://127.0.0.1", "https://localhost");
    let ask = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        let output = command.args(["nodes", "--admin", &admin]).args(more).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let root = certificates.path("root.pem");
    tokio::task::block_in_place(|| {
        let (ok, said) = ask(&["--ca-file", &root]);
        assert!(ok && said.contains("(asked)"), "{said}");
        assert!(!ask(&[]).0, "nobody told it whom to trust");
        let (ok, said) = ask(&["--ca-file", &certificates.path("key.pem")]);
        assert!(!ok && said.contains("--ca-file"), "{said}");
    });
    let client = Client::trusting(&admin, certificates.client(&[&TLS13]), false);
    assert_eq!(client.ask("GET", "/readyz", &[], "").await.status, 200);
}

#[test]
fn files_that_will_not_do_are_named_before_anything_is_served() {
    let certificates = Certificates::new();
    let path = |name: &str| certificates.path(name);
    std::fs::write(certificates.file("empty.pem"), "nothing here\n").unwrap();
    std::fs::write(certificates.file("other.pem"), certificates.issue().1.serialize_pem()).unwrap();
    for (certificate, key, said) in [
        (
            path("gone.pem"),
            path("gone.pem"),
            &["http.tls.certificate_file", "http.tls.key_file", "is no file"][..],
        ),
        (path("certificate.pem"), String::new(), &["http.tls.certificate_file", "key_file is missing"]),
        (path("empty.pem"), path("key.pem"), &["http.tls.certificate_file", "empty.pem", "no certificate"]),
        (path("certificate.pem"), path("empty.pem"), &["http.tls.key_file", "empty.pem", "no private key"]),
        (
            path("certificate.pem"),
            path("other.pem"),
            &["http.tls.key_file", "other.pem", "can't be used together"],
        ),
    ] {
        for command in ["serve", "check-config"] {
            let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
                .args([command, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
                .env("HOLDFAST_HTTP_TLS_CERTIFICATE_FILE", &certificate)
                .env("HOLDFAST_HTTP_TLS_KEY_FILE", &key)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{command}: {text}");
            for part in said {
                assert!(text.contains(part), "{command}: {part} is missing in:\n{text}");
            }
        }
    }
}

#[tokio::test]
async fn handshakes_that_fail_or_never_end_are_cut_off_and_counted() {
    let upstream = plain().await;
    let (certificates, gateway, url) = secure(&upstream.url, &[("http.header_timeout", "400ms")]).await;
    let mut client = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    client.initialize("2025-11-25").await;
    let began = Instant::now();
    let mut open = Vec::new();
    for said in [
        b"".as_slice(),
        // The beginning of a handshake, of which no more comes.
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        HEALTH,
        b"\x00\xff no TLS at all",
    ] {
        open.push(Socket::send(&gateway.url, said).await);
    }
    open.push(Socket::secure(&url, &certificates.connector(&["h2"]), b"").await);
    open.push(Socket::secure(&url, &certificates.connector(&["http/1.1"]), b"").await);
    open.push(Socket::secure(&url, &certificates.connector(&["h2"]), &http2_start()[..10]).await);
    open.push(Socket::secure(&url, &certificates.connector(&["http/1.1"]), b"GET /hea").await);
    assert_eq!(client.posted(&call(1)).await.status, 200, "others are served meanwhile");
    for mut socket in open {
        socket.read_to_end().await;
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(gateway.metric("holdfast_tls_handshakes_failed_total"), Some(3.0));
    let late = gateway.metric("holdfast_limit_hits_total{limit=\"http.header_timeout\"}");
    assert_eq!(late, Some(6.0), "silence, a handshake, and four that began no request");
    assert_eq!(client.posted(&call(2)).await.status, 200);
}

#[tokio::test]
async fn p8_a_tls_client_that_takes_nothing_is_closed_after_the_write_timeout() {
    let hand = Hand::start().await;
    let settings = [
        ("http.write_timeout", "500ms"),
        ("streams.buffer_events_max", "65536"),
        ("streams.buffer_bytes_max", "256MiB"),
        ("log.stream_bytes_max", "64MiB"),
        ("log.session_bytes_max", "64MiB"),
    ];
    let (certificates, gateway, url) = secure(&hand.upstream.url, &settings).await;
    let mut client = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    client.initialize("2025-11-25").await;
    let session = client.session.as_deref().unwrap();
    let get = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
    );
    let tls = certificates.connector(&["http/1.1"]);
    let _stuck = Socket::securely_narrow(&url, &tls, get.as_bytes()).await;
    let server = hand.take("GET").await;
    let mut fat = step(1);
    fat["params"]["padding"] = value!("x".repeat(100_000));
    for _ in 0..150 {
        server.say(&fat).await;
    }
    wait_until("the stuck one is closed", || gateway.metric("holdfast_streams{kind=\"get\"}") == Some(0.0))
        .await;
    assert_eq!(gateway.metric("holdfast_limit_hits_total{limit=\"http.write_timeout\"}"), Some(1.0));
}

#[tokio::test]
async fn a_tls_connection_beyond_the_limit_is_closed_at_once() {
    let upstream = plain().await;
    let (certificates, gateway, url) = secure(&upstream.url, &[("http.connections_max", "1")]).await;
    let held = Socket::secure(&url, &certificates.connector(&[]), b"").await;
    let mut refused = Socket::send(&gateway.url, b"").await;
    assert_eq!(refused.read_to_end().await, "");
    assert_eq!(gateway.metric("holdfast_limit_hits_total{limit=\"http.connections_max\"}"), Some(1.0));
    drop(held);
    wait_until("there is room again", || gateway.metric("holdfast_connections") == Some(0.0)).await;
    assert!(shown(&url, &certificates.connector(&[])).await.is_some());
}

#[tokio::test]
async fn a_tls_connection_that_says_nothing_does_not_hold_up_the_end() {
    let upstream = plain().await;
    let (certificates, gateway, url) = secure(&upstream.url, &[]).await;
    let _silent = Socket::send(&gateway.url, b"").await;
    let _agreed = Socket::secure(&url, &certificates.connector(&["h2"]), b"").await;
    wait_until("both are accepted", || gateway.metric("holdfast_connections") == Some(2.0)).await;
    let began = Instant::now();
    assert_eq!(gateway.stop().await, holdfast::lifecycle::Ending::Clean);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn streams_and_calls_over_http2_end_with_the_node_and_in_order() {
    let hand = Hand::start().await;
    let (certificates, gateway, url) = secure(&hand.upstream.url, &[("drain.timeout", "1s")]).await;
    let mut client = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    client.initialize("2025-11-25").await;
    let mut stream = Stream::new(client.get(None).await);
    let server = hand.take("GET").await;
    server.say(&step(1)).await;
    assert_eq!(stream.message().await["params"]["progress"], 1);
    let (asking, caller) = (call(3), client.clone());
    let answered = async { caller.posted(&asking).await };
    let ending = async {
        let running = hand.take("tools/call").await;
        let stopped = gateway.stop();
        let finished = async {
            sleep(Duration::from_millis(200)).await;
            running.finish().await;
        };
        futures::join!(stopped, finished).0
    };
    let began = Instant::now();
    let (reply, ending) = futures::join!(answered, ending);
    assert!(reply.text.contains(r#""ok":true"#), "{}", reply.text);
    assert!(stream.rest().await.is_empty(), "it ends");
    assert_eq!(ending, holdfast::lifecycle::Ending::Clean);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
