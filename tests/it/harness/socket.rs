//! A client on a bare socket: it sends any bytes, and leaves after any byte of the answer.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection with one request on it. Dropping it cuts it.
pub(crate) struct Socket {
    stream: Box<dyn Duplex>,
    read: Vec<u8>,
}

/// What was read of an answer: the body is what its chunks held.
#[derive(Debug)]
pub(crate) struct Heard {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Socket {
    /// Sends exactly these bytes.
    pub(crate) async fn send(base: &str, bytes: &[u8]) -> Self {
        Self::over(TcpSocket::new_v4().unwrap(), base, bytes).await
    }

    /// The kernel takes only a little for it before somebody reads.
    pub(crate) async fn narrow(base: &str, bytes: &[u8]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(128 << 10).unwrap();
        Self::over(socket, base, bytes).await
    }

    async fn over(socket: TcpSocket, base: &str, bytes: &[u8]) -> Self {
        let mut stream = connected(socket, base).await;
        // A peer that has seen enough may close before everything is written.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(bytes)).await.expect("written in time");
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    /// The same behind TLS.
    pub(crate) async fn secure(base: &str, tls: &TlsConnector, bytes: &[u8]) -> Self {
        Self::securely(TcpSocket::new_v4().unwrap(), base, tls, bytes).await
    }

    pub(crate) async fn securely_narrow(base: &str, tls: &TlsConnector, bytes: &[u8]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(128 << 10).unwrap();
        Self::securely(socket, base, tls, bytes).await
    }

    async fn securely(socket: TcpSocket, base: &str, tls: &TlsConnector, bytes: &[u8]) -> Self {
        let stream = connected(socket, base).await;
        let handshake = tls.connect("localhost".try_into().unwrap(), stream);
        let mut stream = tokio::time::timeout(PATIENCE, handshake).await.expect("in time").unwrap();
        let writing = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        let _ = tokio::time::timeout(PATIENCE, writing).await.expect("written in time");
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    pub(crate) async fn request(
        base: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        Self::send(base, format!("{text}\r\n{body}").as_bytes()).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads until `enough` says so of what is there, or the peer closes.
    pub(crate) async fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> &[u8] {
        let reading = async {
            while !enough(&self.read) {
                let mut piece = [0; 4096];
                match self.stream.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => self.read.extend_from_slice(&piece[..count]),
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("enough, or the end, in time");
        &self.read
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        String::from_utf8_lossy(self.read_until(|_| false).await).into_owned()
    }

    /// The whole answer, which comes in chunks.
    pub(crate) async fn hear_all(&mut self) -> Heard {
        let read = self.read_until(|read| read.ends_with(b"\r\n0\r\n\r\n")).await;
        parse(read).map(|(heard, _)| heard).expect("an answer")
    }

    /// The answer, once `enough` is said of its body, or it is complete.
    pub(crate) async fn hear(&mut self, enough: impl Fn(&Heard) -> bool) -> Heard {
        let done = |read: &[u8]| parse(read).is_some_and(|(heard, complete)| complete || enough(&heard));
        let read = self.read_until(done).await;
        parse(read).map_or(Heard { status: 0, body: Vec::new() }, |(heard, _)| heard)
    }
}

async fn connected(socket: TcpSocket, base: &str) -> TcpStream {
    let address = base.trim_start_matches("http://").trim_start_matches("https://").parse().unwrap();
    let stream = socket.connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Status and body so far, and whether that is all; `None` before the head is complete.
fn parse(read: &[u8]) -> Option<(Heard, bool)> {
    let head_end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&read[..head_end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let head = head.to_ascii_lowercase();
    let mut rest = &read[head_end..];
    if let Some((_, length)) = head.split_once("content-length: ") {
        let length: usize = length.split('\r').next()?.parse().ok()?;
        let complete = rest.len() >= length;
        return Some((Heard { status, body: rest.to_vec() }, complete));
    }
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some((Heard { status, body }, true));
        }
        rest = &rest[line + 2..];
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        if rest.len() < size + 2 {
            break;
        }
        rest = &rest[size + 2..];
    }
    Some((Heard { status, body }, !head.contains("chunked")))
}
