//! One client: a session and its GET stream on one connection, as clients with a pool have it. Bare
//! HTTP, so that 9,000 of them fit beside what they test.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its last chunk said so.
    Orderly,
    /// The connection went before that.
    Cut,
    /// It is still open.
    Deadline,
}

/// A client with an open stream.
#[derive(Debug)]
pub(crate) struct Client {
    gateway: SocketAddr,
    source: Ipv4Addr,
    session: String,
    sample: bool,
    socket: TcpStream,
    /// What came on the stream so far.
    seen: String,
}

impl Client {
    /// Returns once the stream's first event is there. The upstream tells a sample by its name.
    pub(crate) async fn open(gateway: SocketAddr, source: Ipv4Addr, sample: bool) -> Self {
        let name = if sample { "sample" } else { "crowd" };
        let mut socket = connect(gateway, source).await;
        let initialize = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"{name}","version":"1"}}}}}}"#
        );
        let answer = post(&mut socket, gateway, None, &initialize).await;
        let session = answer.lines().find_map(|line| line.strip_prefix("mcp-session-id: "));
        let session = session.unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let done = post(&mut socket, gateway, Some(&session), initialized).await;
        assert!(done.starts_with("HTTP/1.1 202"), "{done}");
        let request = format!(
            "GET /mcp HTTP/1.1\r\nhost: {gateway}\r\naccept: text/event-stream\r\nmcp-protocol-version: 2025-11-25\r\nmcp-session-id: {session}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut client = Self { gateway, source, session, sample, socket, seen: String::new() };
        while !client.seen.contains("retry:") {
            assert!(client.read().await, "closed too early: {}", client.seen);
        }
        assert!(client.seen.starts_with("HTTP/1.1 200"), "{}", client.seen);
        client
    }

    pub(crate) const fn is_sample(&self) -> bool {
        self.sample
    }

    /// Calls `echo` on a connection of its own; whether the answer is the right one.
    pub(crate) async fn echoes(&self, text: &str) -> bool {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
        );
        let mut socket = connect(self.gateway, self.source).await;
        post(&mut socket, self.gateway, Some(&self.session), &call)
            .await
            .contains(&format!(r#""text":"{text}""#))
    }

    /// Reads on until the stream has `events` messages.
    pub(crate) async fn hear(&mut self, events: usize) {
        while self.events() < events {
            assert!(self.read().await, "closed too early: {}", self.seen);
        }
    }

    /// Reads to the end.
    pub(crate) async fn listen(&mut self, limit: Duration) -> End {
        match timeout(limit, self.socket.read_to_string(&mut self.seen)).await {
            Ok(Ok(_)) if self.seen.ends_with("\r\n0\r\n\r\n") => End::Orderly,
            Ok(_) => End::Cut,
            Err(_) => End::Deadline,
        }
    }

    pub(crate) fn events(&self) -> usize {
        self.seen.matches("data: {").count()
    }

    /// One comes with the priming event, one more as the farewell.
    pub(crate) fn retries(&self) -> usize {
        self.seen.matches("retry:").count()
    }

    async fn read(&mut self) -> bool {
        let mut chunk = [0; 1024];
        let read = timeout(PATIENCE, self.socket.read(&mut chunk)).await.unwrap().unwrap();
        self.seen.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        read > 0
    }
}

/// From an address of one's own: one address has too few ports for many processes.
async fn connect(gateway: SocketAddr, source: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    timeout(PATIENCE, socket.connect(gateway)).await.unwrap().unwrap()
}

/// Posts, and reads the head and the body of the answer.
async fn post(socket: &mut TcpStream, gateway: SocketAddr, session: Option<&str>, body: &str) -> String {
    let session = session.map(|session| format!("mcp-session-id: {session}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: {gateway}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\n{session}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let mut chunk = [0; 1024];
    loop {
        let read = timeout(PATIENCE, socket.read(&mut chunk)).await.unwrap().unwrap();
        answer.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        let whole = answer.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if whole || read == 0 {
            return answer;
        }
    }
}
