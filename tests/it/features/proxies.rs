//! What proxies in front say of clients: believed of those that are trusted, and of nobody else. Against
//! the binary, whose log says where a refused request came from.

use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use super::connections::HEALTH;
use crate::harness::{Certificates, Socket, Upstream, json};
use crate::peers::process::{Process, holdfast_under, roomy};

const NOWHERE: &str = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";

async fn behind(settings: &[(&str, &str)]) -> (Upstream, Process) {
    let upstream = Upstream::start(|asked| json(asked, &serde_json::json!({}))).await;
    let mut command: Command = roomy(env!("CARGO_BIN_EXE_holdfast"));
    command.env("HOLDFAST_TELEMETRY_LOG_FILTER", "info,holdfast::edge=debug");
    command.env("HOLDFAST_HTTP_HEADER_TIMEOUT", "500ms");
    for (name, value) in settings {
        command.env(format!("HOLDFAST_HTTP_{name}"), value);
    }
    let process = holdfast_under(command, &["--upstream", &upstream.url]);
    (upstream, process)
}

/// Where the log says that a refused request came from.
async fn refused(process: &Process, bytes: &[u8]) -> String {
    let answer = Socket::send(&process.url(), bytes).await.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    seen(process)
}

fn seen(process: &Process) -> String {
    let line = tokio::task::block_in_place(|| process.line_after("a request was refused"));
    let (_, client) = line.split_once(r#""client":""#).unwrap();
    client.split('"').next().unwrap().to_owned()
}

/// Version 2: a TCP connection of 203.0.113.7, with something that nobody here reads.
fn version2(command: u8) -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x34, 0x01, 0xbb];
    let more = [4, 0, 3, 1, 2, 3];
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, 0x11, 0, 18], &addresses, &more].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_says_whose_a_connection_is_or_loses_it() {
    let settings = [("TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8"), ("PROXY_PROTOCOL", "on")];
    let (_upstream, process) = behind(&settings).await;
    let nowhere = format!("{NOWHERE}X-Forwarded-For: 127.0.0.9\r\n\r\n").into_bytes();
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 4660 443\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\n".to_vec(), "2001:db8::7"),
        (version2(1), "203.0.113.7"),
    ] {
        assert_eq!(refused(&process, &[header, nowhere.clone()].concat()).await, client);
    }
    // What names nobody: the proxy's own address, whatever they say of themselves.
    let unspecified = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, 0, 0, 0]].concat();
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), version2(0), unspecified] {
        assert_eq!(refused(&process, &[header, nowhere.clone()].concat()).await, "127.0.0.1");
    }
    // Byte by byte, and from one that is trusted again.
    let mut slow = Socket::send(&process.url(), b"PROXY TCP4 10.0.0.7 192").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    slow.write(b".0.2.1 1 2\r\n").await.unwrap();
    slow.write(&nowhere).await.unwrap();
    assert!(slow.read_to_end().await.starts_with("HTTP/1.1 404"));
    assert_eq!(seen(&process), "127.0.0.9");
    let began = Instant::now();
    for without in [
        HEALTH,
        b"PROXY TCP4 203.0.113.7",
        b"PROXY TCP4 nobody 192.0.2.1 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
    ] {
        assert_eq!(Socket::send(&process.url(), without).await.read_to_end().await, "");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    let complaint = tokio::task::block_in_place(|| process.line_after("a trusted proxy does not say"));
    assert!(complaint.contains("127.0.0.1"), "{complaint}");
    // Once in a while, however many there are: the next line is another's.
    for _ in 0..10 {
        assert_eq!(Socket::send(&process.url(), HEALTH).await.read_to_end().await, "");
    }
    let answered = [b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n".to_vec(), nowhere.clone()].concat();
    assert!(Socket::send(&process.url(), &answered).await.read_to_end().await.starts_with("HTTP/1.1 404"));
    let next = tokio::task::block_in_place(|| process.line_after(r#""message":""#));
    assert!(next.starts_with("a request was refused"), "{next}");
    // Operators come without one.
    let ready = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(Socket::send(&process.admin(), ready).await.read_to_end().await.contains(" 200 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_of_a_proxy_comes_before_tls() {
    let certificates = Certificates::new();
    let files = ["certificate.pem", "key.pem"].map(|name| certificates.path(name));
    let settings = [
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("PROXY_PROTOCOL", "on"),
        ("TLS_CERTIFICATE_FILE", &*files[0]),
        ("TLS_KEY_FILE", &*files[1]),
    ];
    let (_upstream, process) = behind(&settings).await;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket =
        tokio::net::TcpStream::connect(process.url().trim_start_matches("http://")).await.unwrap();
    socket.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 4660 443\r\n").await.unwrap();
    let tls = certificates.connector(&["http/1.1"]);
    let mut socket = tls.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    socket.write_all(format!("{NOWHERE}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(seen(&process), "203.0.113.7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is_believed() {
    let forwarded = "X-Forwarded-For: 127.0.0.9, 203.0.113.7\r\nForwarded: for=192.0.2.9\r\n";
    let nowhere = format!("{NOWHERE}{forwarded}\r\n").into_bytes();
    let (_upstream, process) = behind(&[]).await;
    assert_eq!(refused(&process, &nowhere).await, "127.0.0.1");
    let elsewhere = [("TRUSTED_PROXIES", "10.0.0.0/8"), ("PROXY_PROTOCOL", "on")];
    let (_upstream, process) = behind(&elsewhere).await;
    assert_eq!(refused(&process, &nowhere).await, "127.0.0.1");
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 4660 443\r\n".as_slice();
    let answer = Socket::send(&process.url(), &[header, &nowhere].concat()).await.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400"), "to HTTP it is nonsense: {answer}");
    for (name, client) in
        [("x-forwarded-for", "203.0.113.7"), ("forwarded", "192.0.2.9"), ("none", "127.0.0.1")]
    {
        let settings = [("TRUSTED_PROXIES", "127.0.0.0/8"), ("FORWARDED_HEADER", name)];
        let (_upstream, process) = behind(&settings).await;
        assert_eq!(refused(&process, &nowhere).await, client, "{name}");
        // Where a client is says nothing about whom it may call.
        let host = b"GET /health HTTP/1.1\r\nHost: evil.example.com\r\nX-Forwarded-Host: localhost\r\nX-Forwarded-Proto: https\r\nForwarded: for=127.0.0.1;host=localhost\r\nConnection: close\r\n\r\n";
        let answer = Socket::send(&process.url(), host).await.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
}
