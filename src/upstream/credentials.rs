//! What a server is shown of who asks: the gateway's own credential, or one that the server's authorization server
//! gives for a client's (RFC 8693); never a client's own (A8).

mod endpoint;
mod exchange;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http_client::{BoxError, HttpClient};

use endpoint::{Endpoint, Grant};
use exchange::Exchange;

pub use endpoint::TokenConfig;

/// A failure is told to all who ask so soon after it.
const PAUSE: Duration = Duration::from_secs(1);

/// So soon after a token was replaced because its server had refused it, the next is not: it is not the token then
/// that the server refuses.
const PATIENCE: Duration = Duration::from_secs(5);

/// What requests to one server carry.
#[derive(Clone)]
pub struct Credentials(Kind);

#[derive(Clone)]
enum Kind {
    Header(HeaderName, HeaderValue),
    Own(Arc<Endpoint>, Arc<Kept>),
    Exchanged(Arc<Exchange>),
}

/// A token, fetched by one for all who wait.
#[derive(Default)]
pub(super) struct Kept(Mutex<Held>);

#[derive(Default)]
struct Held {
    token: Option<(HeaderValue, Instant)>,
    /// Its server has refused it, since when; it is used as long as no other can be had.
    refused: bool,
    replaced: Option<Instant>,
    failed: Option<(Arc<Failure>, Instant)>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[error("no token for it from {endpoint}: {why}")]
struct Failure {
    endpoint: String,
    why: String,
}

/// What was put on a request.
pub(super) enum Shown {
    Fixed,
    /// A token that its server may refuse, and where another one comes from.
    Token(Arc<Kept>, HeaderValue),
}

impl Credentials {
    /// The same header always.
    #[must_use]
    pub const fn header(name: HeaderName, value: HeaderValue) -> Self {
        Self(Kind::Header(name, value))
    }

    /// A bearer token of the gateway's own, which `client` gets with the client credentials grant (RFC 6749,
    /// section 4.4); kept until shortly before it expires.
    #[must_use]
    pub fn token(config: TokenConfig, client: HttpClient) -> Self {
        Self(Kind::Own(Arc::new(Endpoint::new(config, client)), Arc::default()))
    }

    /// For each client's bearer token another one, which `client` gets by token exchange (RFC 8693); kept as
    /// well. The client's is shown to the authorization server only.
    #[must_use]
    pub fn exchanged(config: TokenConfig, client: HttpClient) -> Self {
        Self(Kind::Exchanged(Arc::new(Exchange::new(Endpoint::new(config, client)))))
    }

    /// Whether a request has to come with its client's token.
    #[must_use]
    pub(super) const fn exchanges(&self) -> bool {
        matches!(self.0, Kind::Exchanged(_))
    }

    /// Puts the credential on a request, in place of the client's if that is there, and says which it is.
    pub(super) async fn put(&self, request: &mut Request<Full<Bytes>>) -> Result<Shown, BoxError> {
        let clients = request.headers_mut().remove(AUTHORIZATION);
        let (endpoint, kept, grant) = match &self.0 {
            Kind::Header(name, value) => {
                request.headers_mut().insert(name, value.clone());
                return Ok(Shown::Fixed);
            }
            Kind::Own(endpoint, kept) => (&**endpoint, kept.clone(), Grant::ClientCredentials),
            // The end of a session, of which no client's request is left.
            Kind::Exchanged(_) if clients.is_none() && request.method() == Method::DELETE => {
                return Ok(Shown::Fixed);
            }
            Kind::Exchanged(exchange) => {
                let token = exchange::bearer(clients.as_ref()).ok_or(
                    "what it is shown is exchanged for a client's token, and this request has none of an issuer's",
                )?;
                (exchange.endpoint(), exchange.kept(token), Grant::TokenExchange(token.to_owned()))
            }
        };
        let token = kept.token(endpoint, &grant).await?;
        request.headers_mut().insert(AUTHORIZATION, token.clone());
        Ok(Shown::Token(kept, token))
    }
}

impl Shown {
    /// Whether there may be a better one than this, which the server did not take.
    pub(super) async fn renews(&self) -> bool {
        match self {
            Self::Fixed => false,
            Self::Token(kept, refused) => {
                let mut held = kept.0.lock().await;
                if held.token.as_ref().is_none_or(|(token, _)| token != refused) {
                    // Somebody else was told so before.
                    return true;
                }
                let renews = held.replaced.is_none_or(|replaced| replaced.elapsed() >= PATIENCE);
                if renews {
                    (held.refused, held.replaced) = (true, Some(Instant::now()));
                }
                renews
            }
        }
    }
}

impl Kept {
    async fn token(&self, endpoint: &Endpoint, grant: &Grant) -> Result<HeaderValue, BoxError> {
        // Whoever waits here meanwhile needs what is being fetched.
        let mut held = self.0.lock().await;
        let token = held.token.as_ref().filter(|(_, until)| Instant::now() < *until);
        let token = token.map(|(token, _)| token.clone());
        if let Some(token) = token.clone().filter(|_| !held.refused) {
            return Ok(token);
        }
        let failed = held.failed.as_ref().filter(|(_, at)| at.elapsed() < PAUSE);
        let failure = match failed {
            Some((failure, _)) => failure.clone(),
            None => match endpoint.ask(grant).await {
                Ok((token, life)) => {
                    // Shortly before its end it might arrive too late.
                    let until = Instant::now() + life - (life / 10).min(Duration::from_secs(30));
                    let replaced = held.replaced;
                    *held = Held { token: Some((token.clone(), until)), replaced, ..Held::default() };
                    return Ok(token);
                }
                Err(why) => {
                    let failure = Arc::new(Failure { endpoint: endpoint.to_string(), why });
                    held.failed = Some((failure.clone(), Instant::now()));
                    failure
                }
            },
        };
        // What was refused once may be good for others.
        token.ok_or_else(|| failure.into())
    }
}

/// Nothing of a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Header(name, _) => f.debug_tuple("Header").field(name).finish(),
            Kind::Own(endpoint, _) => f.debug_tuple("Own").field(endpoint).finish(),
            Kind::Exchanged(exchange) => f.debug_tuple("Exchanged").field(exchange.endpoint()).finish(),
        }
    }
}
