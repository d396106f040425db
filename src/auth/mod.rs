//! Who a credential speaks for, and what it allows (A2 to A7). What they own is asked elsewhere.

mod claims;
#[cfg(test)]
mod cost;
mod digest;
mod introspection;
mod issuer;
mod issuers;
mod keys;
mod minting;
mod operators;
mod resource;
mod scope;
mod source;
mod token;

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};
use tokio::time::Instant;

use crate::domain::Principal;
use crate::lifecycle::Tasks;
use crate::telemetry::{AuthOutcome, Credential, Metrics};
use crate::upstream::HttpClient;

use issuer::Issuer;
use issuers::Issuers;
use resource::Resources;

pub use claims::InvalidSubject;
pub use introspection::IntrospectionConfig;
pub use issuer::{IssuerConfig, UnknownAlgorithm, algorithm};
pub use issuers::Memory;
pub use minting::{Grant, SigningKey, Unsignable, sign};
pub use operators::Operators;
pub use resource::{Metadata, Offered};
pub use scope::{Access, Lacking, Scopes, ToolRule};
pub use source::{Source, Times, is_safe};
pub use token::{InvalidDigest, Token, mint};

/// Finds out whose a request is, from its `Authorization` header alone: a credential in a URL would
/// stand in logs (A3), and what else a client says of itself proves nothing.
#[derive(Debug, Clone)]
pub enum Authenticator {
    /// Nobody is asked: everybody is the one anonymous principal.
    Nobody,
    /// By bearer tokens (RFC 6750).
    Bearer(Box<Bearer>),
}

/// Which tokens are taken, and for what.
#[derive(Debug, Clone)]
pub struct Bearer {
    tokens: Vec<Token>,
    issuers: Arc<Issuers>,
    resources: Resources,
    metrics: Metrics,
}

/// Who asks, and what the credential allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub principal: Principal,
    pub scopes: Scopes,
    /// When the credential expires.
    pub until: Option<Instant>,
    /// What the request came with.
    pub credential: Credential,
}

impl Identity {
    /// Whether the token is one of an issuer's, which its authorization server knows.
    #[must_use]
    pub const fn is_of_an_issuer(&self) -> bool {
        matches!(self.credential, Credential::Jwt | Credential::Introspected)
    }
}

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// 401 (A2).
    #[error("a bearer token is needed: send the header Authorization: Bearer TOKEN")]
    Missing,
    /// 401 (RFC 6750, section 3.1).
    #[error("the header Authorization has another scheme than Bearer")]
    Scheme,
    /// 401: others may call it, with these scopes.
    #[error("a bearer token is needed for this, with the scope {}", .0.join(" "))]
    Anonymous(Vec<String>),
    /// 400 (A2).
    #[error("the header Authorization must come once, as Bearer TOKEN")]
    Malformed,
    /// 401 (A2).
    #[error("this token is not valid{0}")]
    Invalid(Flaw),
    /// 403 (A6), to whom it speaks for.
    #[error("this token does not allow it{}", lacking(.1))]
    Insufficient(Principal, Lacking),
    /// 503: it may be good, and there are no keys to tell, or its issuer doesn't.
    #[error("whether this token is good can't be found out now")]
    Unverifiable,
}

impl Denied {
    const fn verdict(&self) -> AuthOutcome {
        match self {
            Self::Missing | Self::Scheme => AuthOutcome::Missing,
            Self::Malformed => AuthOutcome::Malformed,
            Self::Invalid(Flaw::Unknown) => AuthOutcome::Invalid,
            Self::Invalid(Flaw::Expired) => AuthOutcome::Expired,
            Self::Invalid(Flaw::Premature) => AuthOutcome::Premature,
            Self::Invalid(Flaw::Lifetime) => AuthOutcome::Endless,
            Self::Invalid(Flaw::Audience) => AuthOutcome::WrongAudience,
            Self::Invalid(Flaw::Subject) => AuthOutcome::NoSubject,
            Self::Invalid(Flaw::Bound) => AuthOutcome::Bound,
            Self::Anonymous(_) | Self::Insufficient(..) => AuthOutcome::InsufficientScope,
            Self::Unverifiable => AuthOutcome::Unavailable,
        }
    }
}

fn lacking(lacking: &Lacking) -> String {
    match lacking {
        Lacking::Scopes(scopes) => format!(": it needs the scope {}", scopes.join(" ")),
        Lacking::Tool => ": nobody may call this tool here".to_owned(),
    }
}

/// What is wrong with a token. All but the first are said only of one that an issuer did sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    Unknown,
    Expired,
    Premature,
    /// It never expires.
    Lifetime,
    /// It is meant for something else (A7).
    Audience,
    /// It doesn't say whose it is.
    Subject,
    /// Its holder would have to prove that it is theirs.
    Bound,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "",
            Self::Expired => ": it has expired",
            Self::Premature => ": it is not valid yet",
            Self::Lifetime => ": it says no time at which it expires",
            Self::Audience => ": it is meant for another resource",
            Self::Subject => ": it names no subject that could be used",
            Self::Bound => ": it is bound to a key, of which no proof is taken here",
        })
    }
}

impl Authenticator {
    /// By static tokens and those of issuers, for what is `offered`.
    ///
    /// # Errors
    /// [`UnknownAlgorithm`].
    pub fn bearer(
        tokens: Vec<Token>,
        issuers: Vec<IssuerConfig>,
        memory: Memory,
        offered: Offered,
        client: &HttpClient,
        metrics: Metrics,
    ) -> Result<Self, UnknownAlgorithm> {
        let issuers = issuers.into_iter().map(|issuer| Issuer::new(issuer, client, &metrics));
        let issuers = Arc::new(Issuers::new(issuers.collect::<Result<_, _>>()?, memory));
        let resources = Resources::new(offered, issuers.addresses());
        Ok(Self::Bearer(Box::new(Bearer { tokens, issuers, resources, metrics })))
    }

    /// Keeps the issuers' keys fresh, until the tasks are told to stop.
    pub fn start(&self, tasks: &Tasks) {
        if let Self::Bearer(bearer) = self {
            bearer.issuers.start(tasks);
        }
    }

    /// Who asks the server of that name, or the default one, as far as the credential shows it, if they may
    /// ask it anything. How long it takes says nothing about the static tokens that there are.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn authenticate(&self, server: Option<&str>, headers: &HeaderMap) -> Result<Identity, Denied> {
        let Self::Bearer(bearer) = self else { return Ok(anonymous()) };
        let (credential, found) = bearer.identify(server, headers).await;
        let verdict = found.as_ref().map_or_else(Denied::verdict, |_| AuthOutcome::Accepted);
        bearer.metrics.authenticated(credential, verdict);
        found
    }

    /// Whether they may call that tool of the server.
    ///
    /// # Errors
    /// [`Denied::Insufficient`]; [`Denied::Anonymous`] if a token may help.
    pub fn permit(&self, server: Option<&str>, identity: &Identity, tool: &str) -> Result<(), Denied> {
        let Self::Bearer(bearer) = self else { return Ok(()) };
        bearer.resources.access(server).allows(&identity.scopes, tool).map_err(|lacking| {
            bearer.metrics.authenticated(identity.credential, AuthOutcome::InsufficientScope);
            match lacking {
                Lacking::Scopes(scopes) if identity.credential == Credential::Anonymous => {
                    Denied::Anonymous(scopes)
                }
                lacking => Denied::Insufficient(identity.principal.clone(), lacking),
            }
        })
    }

    /// Whether single tools of the server need something.
    #[must_use]
    pub fn has_tool_rules(&self, server: Option<&str>) -> bool {
        match self {
            Self::Nobody => false,
            Self::Bearer(bearer) => !bearer.resources.access(server).tools.is_empty(),
        }
    }

    /// What there is at a path, as a client asks that looks for its authorization server (RFC 9728, section
    /// 3.2): an ingress may have stripped the path of the public URL. `None` if there is nothing, or no issuer.
    #[must_use]
    pub fn metadata_at(&self, path: &str) -> Option<Metadata<'_>> {
        match self {
            Self::Nobody => None,
            Self::Bearer(bearer) => bearer.resources.metadata_at(path),
        }
    }

    /// The same of a path below the public URL.
    #[must_use]
    pub fn metadata_of(&self, path: &str) -> Option<Metadata<'_>> {
        match self {
            Self::Nobody => None,
            Self::Bearer(bearer) => bearer.resources.metadata_of(path),
        }
    }
}

impl Bearer {
    async fn identify(
        &self,
        server: Option<&str>,
        headers: &HeaderMap,
    ) -> (Credential, Result<Identity, Denied>) {
        let access = self.resources.access(server);
        let token = match bearer_token(headers) {
            Ok(token) => token,
            // What it needs, a token may have.
            Err(Denied::Missing) if access.anonymous && access.scopes.is_empty() => {
                return (Credential::Anonymous, Ok(anonymous()));
            }
            Err(denied) => return (Credential::None, Err(denied)),
        };
        let digest = digest::digest(token);
        let (credential, found) = match token::find(&self.tokens, &digest) {
            Some(identity) => (Credential::Static, Ok(identity)),
            None => self.issuers.identify(token, digest, self.resources.audiences(server)).await,
        };
        let admitted = found.and_then(|identity| match access.admits(&identity.scopes) {
            Ok(()) => Ok(identity),
            Err(lacking) => Err(Denied::Insufficient(identity.principal, lacking)),
        });
        (credential, admitted)
    }
}

fn anonymous() -> Identity {
    Identity {
        principal: Principal::anonymous(),
        scopes: Scopes::default(),
        until: None,
        credential: Credential::Anonymous,
    }
}

/// The token of RFC 6750, section 2.1.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    if values.next().is_some() {
        return Err(Denied::Malformed);
    }
    let text = value.to_str().map_err(|_| Denied::Malformed)?;
    let text = text.trim_matches(' ');
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Scheme);
    }
    let token = token.trim_start_matches(' ');
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let body = token.trim_end_matches('=');
    let fits = !body.is_empty() && body.bytes().all(is_token);
    if fits { Ok(token) } else { Err(Denied::Malformed) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use http::HeaderValue;

    use super::*;

    fn asked(values: &[&'static [u8]]) -> Result<Principal, Denied> {
        let digest = |token| digest::hexadecimal(digest::digest(token));
        let token = Token::new("ci", &digest("s3cret"), &[]).unwrap();
        let other = Token::new("dev", &digest("0ther="), &[]).unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        let resources = Resources::new(Offered::default(), Vec::new());
        let memory = Memory { tokens_max: 0, introspection_ttl: Duration::ZERO };
        let issuers = Arc::new(Issuers::new(Vec::new(), memory));
        let bearer = Bearer { tokens: vec![token, other], issuers, resources, metrics: Metrics::new() };
        let asked = Authenticator::Bearer(Box::new(bearer));
        asked.authenticate(None, &headers).now_or_never().unwrap().map(|identity| identity.principal)
    }

    #[test]
    fn a_credential_is_read_exactly() {
        for good in [&b"Bearer s3cret"[..], b"bearer   s3cret", b" BEARER s3cret "] {
            assert_eq!(asked(&[good]), Ok(Principal::named("token:ci")), "{good:?}");
        }
        assert_eq!(asked(&[b"Bearer 0ther="]), Ok(Principal::named("token:dev")));
        assert_eq!(asked(&[]), Err(Denied::Missing));
        for other in [&b""[..], b"Basic s3cret", b"s3cret"] {
            assert_eq!(asked(&[other]), Err(Denied::Scheme), "{other:?}");
        }
        for malformed in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearer =",
            b"Bearer s3cret s3cret",
            b"Bearer s3cret,",
            b"Bearer \xff",
        ] {
            assert_eq!(asked(&[malformed]), Err(Denied::Malformed), "{malformed:?}");
        }
        assert_eq!(asked(&[b"Bearer s3cret", b"Bearer s3cret"]), Err(Denied::Malformed));
        for invalid in [&b"Bearer s3cre"[..], b"Bearer s3crets", b"Bearer S3cret", b"Bearer s3cret="] {
            assert_eq!(asked(&[invalid]), Err(Denied::Invalid(Flaw::Unknown)), "{invalid:?}");
        }
    }

    #[test]
    fn where_nobody_is_asked_a_credential_means_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        let asked = Authenticator::Nobody.authenticate(None, &headers).now_or_never().unwrap();
        assert_eq!(asked.map(|identity| identity.principal), Ok(Principal::anonymous()));
    }
}
