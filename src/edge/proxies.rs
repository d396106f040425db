//! Where a client is, when proxies stand in between. What they say counts as far as their own address is
//! trusted (`http.trusted_proxies`), and nothing but an address is taken from it: which Host and Origin
//! are allowed is [`super::origin`]'s matter, whatever `X-Forwarded-Host` says.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::middleware::Next;
use axum::response::Response;
use hyper::service::Service;
use ipnet::IpNet;
use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::lifecycle::Seldom;

/// Of a PROXY header with all that may be added to it; hardly any is longer than some hundred bytes.
const HEADER_BYTES_MAX: usize = 4096;

/// Between two looks at one that comes in pieces.
const PIECE: Duration = Duration::from_millis(10);

/// Leaves the address of its client with each request of a connection.
#[derive(Debug, Clone)]
pub(super) struct Located<S> {
    pub service: S,
    pub proxies: Arc<Proxies>,
    pub nearest: Nearest,
}

/// The other end of a connection, before any header is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    /// A client, or a proxy that says in a header where its client is.
    Known(IpAddr),
    /// Somebody behind this proxy, which was to name them and did not: what they say of themselves, an
    /// `X-Forwarded-For` for example, is not its word.
    Unnamed(IpAddr),
}

impl<B, S: Service<Request<B>>> Service<Request<B>> for Located<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<B>) -> S::Future {
        let client = self.proxies.client(self.nearest, request.headers());
        request.extensions_mut().insert(client);
        self.service.call(request)
    }
}

/// What is refused is worth knowing from where; what is served, and what failed here, is told elsewhere.
pub(super) async fn note_refusals(
    Extension(client): Extension<ClientAddress>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    if response.status().is_client_error() {
        tracing::debug!(%client, status = response.status().as_u16(), "a request was refused");
    }
    response
}

/// Where the client of a request is, as far as it can be known: left with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub IpAddr);

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which header tells of clients; the others mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    #[default]
    None,
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Whose word is taken for where a client is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    pub trusted: Vec<IpNet>,
    /// Connections of theirs begin with a PROXY header.
    pub protocol: bool,
    pub header: ForwardedHeader,
}

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// Where the other end of a connection is; a trusted proxy has to say whose it is.
    pub(super) async fn nearest(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
        faults: &Seldom,
    ) -> io::Result<Nearest> {
        let peer = peer.ip().to_canonical();
        if self.protocol && self.trusts(peer) {
            Ok(told(socket, peer, faults).await?.map_or(Nearest::Unnamed(peer), Nearest::Known))
        } else {
            Ok(Nearest::Known(peer))
        }
    }

    /// From the nearest on, as far as each that names the next is trusted.
    pub(super) fn client(&self, nearest: Nearest, headers: &HeaderMap) -> ClientAddress {
        let nearest = match nearest {
            Nearest::Known(address) => address,
            Nearest::Unnamed(proxy) => return ClientAddress(proxy),
        };
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::None => return ClientAddress(nearest),
            ForwardedHeader::XForwardedFor => ("x-forwarded-for", address),
            ForwardedHeader::Forwarded => ("forwarded", forwarded_for),
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let entries = lines.iter().rev().flat_map(|line| {
            // What is no text ends the walk, as does any other that can't be read.
            line.to_str().unwrap_or("?").rsplit(',')
        });
        let mut client = nearest;
        for entry in entries {
            match read(entry.trim()) {
                Some(next) if self.trusts(client) => client = next,
                Some(_) | None => break,
            }
        }
        ClientAddress(client)
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// The `for` of an element of `Forwarded`. A comma in a quoted text has parted what belongs together:
/// what has half a quotation, or an escaped one, is not read.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    if element.matches('"').count() % 2 == 1 || element.contains('\\') {
        return None;
    }
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(value.trim_matches('"'))
}

/// Takes the PROXY header off a connection; `None` if it names nobody (LOCAL, UNKNOWN, UNSPEC, and what is no
/// Internet address).
async fn told(socket: &mut TcpStream, peer: IpAddr, faults: &Seldom) -> io::Result<Option<IpAddr>> {
    let mut seen = vec![0; HEADER_BYTES_MAX];
    loop {
        let length = socket.peek(&mut seen).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
        let (source, used) = match ProxyHeader::parse(&seen[..length], config) {
            Ok((header, used)) => (header.proxied_address().map(|proxied| proxied.source.ip()), used),
            Err(Error::BufferTooShort) if length < HEADER_BYTES_MAX => {
                tokio::time::sleep(PIECE).await;
                continue;
            }
            Err(error) => {
                if let Some(unsaid) = faults.again() {
                    tracing::warn!(%peer, %error, unsaid, "a trusted proxy does not say whose connection it is (http.proxy_protocol)");
                }
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        socket.read_exact(&mut seen[..used]).await?;
        return Ok(source.map(|source| source.to_canonical()));
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn proxies(header: ForwardedHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        Proxies { trusted, protocol: false, header }
    }

    fn known(address: &str) -> Nearest {
        Nearest::Known(address.parse().unwrap())
    }

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let name = HeaderName::from_static(name);
        lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn x_forwarded_for_is_read_from_its_end_and_as_far_as_it_is_trusted() {
        let check = |nearest: &str, lines: &[&str], client: &str| {
            let found = proxies(ForwardedHeader::XForwardedFor)
                .client(known(nearest), &headers("x-forwarded-for", lines));
            assert_eq!(found.to_string(), client, "{nearest} {lines:?}");
        };
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["203.0.113.7"], "203.0.113.7");
        check("203.0.113.9", &["127.0.0.1"], "203.0.113.9");
        check("10.0.0.1", &["127.0.0.1, 203.0.113.7"], "203.0.113.7");
        check("10.0.0.1", &["127.0.0.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7");
        check("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7");
        check("fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7");
        check("fd00::1", &["2001:db8::7"], "2001:db8::7");
        check("10.0.0.1", &["203.0.113.7, nobody"], "10.0.0.1");
        check("10.0.0.1", &["203.0.113.7,"], "10.0.0.1");
        check("10.0.0.1", &["203.0.113.7, \u{e9}"], "10.0.0.1");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn forwarded_is_read_in_the_same_way() {
        let check = |lines: &[&str], client: &str| {
            let found =
                proxies(ForwardedHeader::Forwarded).client(known("10.0.0.1"), &headers("forwarded", lines));
            assert_eq!(found.to_string(), client, "{lines:?}");
        };
        check(&["for=203.0.113.7"], "203.0.113.7");
        check(&["For=\"[2001:db8::7]:4711\";proto=https"], "2001:db8::7");
        check(&["for=127.0.0.1, by=10.0.0.9;for=203.0.113.7"], "203.0.113.7");
        check(&["for=203.0.113.7, for=_hidden"], "10.0.0.1");
        check(&["for=203.0.113.7, for=unknown"], "10.0.0.1");
        check(&["for=203.0.113.7;host=\"x, for=127.0.0.1;a=\""], "10.0.0.1");
        check(&["for=203.0.113.7;host=\"x\\\", for=127.0.0.1;a=\\\"\""], "10.0.0.1");
    }

    #[test]
    fn the_header_that_is_not_meant_says_nothing() {
        let nearest = "10.0.0.1";
        let both = headers("x-forwarded-for", &["127.0.0.1"]);
        let at = |header, nearest| proxies(header).client(nearest, &both).to_string();
        assert_eq!(at(ForwardedHeader::Forwarded, known(nearest)), nearest);
        assert_eq!(at(ForwardedHeader::None, known(nearest)), nearest);
        let unnamed = Nearest::Unnamed(nearest.parse().unwrap());
        assert_eq!(at(ForwardedHeader::XForwardedFor, unnamed), nearest, "whose word it is, nobody knows");
    }

    proptest! {
        /// Whatever an untrusted client sends, the entry that the trusted proxy added is what counts.
        #[test]
        fn nobody_can_say_more_than_the_nearest_proxy(sent in "[ -~]{0,60}") {
            let line = if sent.is_empty() { "203.0.113.7".to_owned() } else { format!("{sent}, 203.0.113.7") };
            let nearest = known("10.0.0.1");
            let found = proxies(ForwardedHeader::XForwardedFor).client(nearest, &headers("x-forwarded-for", &[&line]));
            prop_assert_eq!(found.to_string(), "203.0.113.7");
        }

        #[test]
        fn no_bytes_break_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for start in [b"".as_slice(), b"PROXY ", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21"] {
                let bytes = [start, &bytes].concat();
                if let Ok((_, used)) = ProxyHeader::parse(&bytes, ParseConfig::default()) {
                    prop_assert!(used <= bytes.len());
                }
            }
        }
    }
}
