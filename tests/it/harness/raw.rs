//! An upstream that answers with any bytes, and breaks off as it is told.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What it does with a connection, one after the other; then it waits for the next request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Say(Vec<u8>),
    /// Byte by byte.
    Drip(Vec<u8>),
    Close,
    Reset,
}

/// One request: its head in lower case, and its body.
#[derive(Debug)]
pub(crate) struct Request {
    pub head: String,
    pub body: Value,
}

impl Request {
    pub(crate) fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }
}

/// Answers `initialize`, `notifications/initialized` and DELETE by itself; the rest as `answer` says. Returns its URL.
pub(crate) async fn raw_upstream(answer: fn(&Request) -> Vec<Act>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            tokio::spawn(serve(socket, answer));
        }
    });
    url
}

/// A response in full.
pub(crate) fn whole(head: &str, body: &str) -> Act {
    Act::Say(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

async fn serve(mut socket: TcpStream, answer: fn(&Request) -> Vec<Act>) {
    let mut read = Vec::new();
    while let Some(request) = next(&mut socket, &mut read).await {
        for act in answered(&request, answer) {
            let done = match act {
                Act::Say(bytes) => socket.write_all(&bytes).await,
                Act::Drip(bytes) => drip(&mut socket, &bytes).await,
                Act::Close => return,
                Act::Reset => {
                    let _ = socket.set_zero_linger();
                    return;
                }
            };
            if done.is_err() {
                return;
            }
        }
    }
}

fn answered(request: &Request, answer: fn(&Request) -> Vec<Act>) -> Vec<Act> {
    match request.rpc() {
        "initialize" => {
            let result = json!({
                "protocolVersion": request.body["params"]["protocolVersion"],
                "capabilities": {},
                "serverInfo": { "name": "raw", "version": "1" },
            });
            let body = json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": result }).to_string();
            vec![whole("200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: up-1", &body)]
        }
        "notifications/initialized" => vec![whole("202 Accepted", "")],
        _ if request.head.starts_with("delete ") => vec![whole("200 OK", "")],
        _ => answer(request),
    }
}

async fn drip(socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        socket.write_all(&[*byte]).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn next(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.split('\r').next().and_then(|length| length.parse().ok()).unwrap_or(0)
            });
            if read.len() >= end + 4 + length {
                let body = serde_json::from_slice(&read[end + 4..end + 4 + length]).unwrap_or(Value::Null);
                read.drain(..end + 4 + length);
                return Some(Request { head, body });
            }
        }
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await {
            Ok(count) if count > 0 => read.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}
