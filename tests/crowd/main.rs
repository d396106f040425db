//! A crowd of MCP clients in one process: each opens a session and its GET stream, and listens until
//! the stream ends. `crowd HOST:PORT COUNT` prints `open COUNT`, and at the end one line of JSON.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test program: it may panic, and prints its results"
)]

use std::time::Duration;

use futures::stream::{StreamExt as _, iter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 32;

async fn connect(address: &str) -> TcpStream {
    timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap()
}

/// Posts on a connection of its own, and reads the whole answer.
async fn post(address: &str, session: Option<&str>, body: &str) -> String {
    let mut socket = connect(address).await;
    let session = session.map(|session| format!("mcp-session-id: {session}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\n{session}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

/// Opens a session and its stream; returns once the first event is there.
async fn open(address: &str) -> (TcpStream, String) {
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"crowd","version":"1"}}}"#;
    let answer = post(address, None, initialize).await;
    let session = answer.lines().find_map(|line| line.strip_prefix("mcp-session-id: "));
    let session = session.unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
    let done =
        post(address, Some(&session), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert!(done.starts_with("HTTP/1.1 202"), "{done}");
    let mut socket = connect(address).await;
    let request = format!(
        "GET /mcp HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut chunk = [0; 1024];
    while !seen.contains("retry:") {
        let read = timeout(PATIENCE, socket.read(&mut chunk)).await.unwrap().unwrap();
        assert!(read > 0, "closed too early: {seen}");
        seen.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    (socket, seen)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap();
    let count: usize = arguments.next().unwrap().parse().unwrap();
    let opening = iter(0..count).map(|_| open(&address)).buffer_unordered(AT_ONCE);
    let streams: Vec<_> = opening.collect().await;
    println!("open {}", streams.len());
    let listening = iter(streams).map(|(mut socket, mut seen)| async move {
        let read = timeout(Duration::from_secs(300), socket.read_to_string(&mut seen)).await;
        (matches!(read, Ok(Ok(_))), seen.matches("retry:").count(), seen.matches("data: {").count())
    });
    let ended: Vec<_> = listening.buffer_unordered(count.max(1)).collect().await;
    let orderly = ended.iter().filter(|(orderly, _, _)| *orderly).count();
    // One with the priming event, one as the farewell.
    let told = ended.iter().filter(|(_, retries, _)| *retries >= 2).count();
    let events: usize = ended.iter().map(|(_, _, events)| events).sum();
    println!(
        r#"{{"ended":{},"orderly":{orderly},"told_when_to_retry":{told},"events":{events}}}"#,
        ended.len()
    );
}
