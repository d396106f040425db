//! Who issues tokens (JWT, RFC 7519), and what a token has to be for one to be believed (RFC 8725, RFC 9068).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, Header, TokenData, Validation, dangerous, decode};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::keys::Keys;
use super::source::{KeyRing, Source, Times};
use super::{Denied, Flaw, Identity, Scopes};
use crate::domain::Principal;
use crate::lifecycle::Tasks;
use crate::upstream::HttpClient;

/// What a subject may be long (`OpenID` Connect Core, section 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// No stream is open for longer, whatever a token says.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// An issuer as it is configured.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// What its principals are told apart by from another issuer's.
    pub name: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    pub source: Source,
    /// By their names (RFC 7518, section 3.1). Empty: whatever its keys are fit for.
    pub algorithms: Vec<String>,
    /// Of which a token's `aud` has to name one; empty: the resource's own addresses (A7).
    pub audiences: Vec<String>,
    /// The claim that names who the token is of.
    pub subject_claim: String,
    /// What clocks may differ by.
    pub leeway: Duration,
    pub times: Times,
}

/// An algorithm that is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no signature algorithm that is supported")]
pub struct UnknownAlgorithm;

/// The algorithm of that name.
///
/// # Errors
/// [`UnknownAlgorithm`], which `none` is.
pub fn algorithm(name: &str) -> Result<Algorithm, UnknownAlgorithm> {
    name.parse().map_err(|_| UnknownAlgorithm)
}

/// What is too long for a subject, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject has 1 to {SUBJECT_BYTES_MAX} bytes, and no control characters")]
pub struct InvalidSubject;

pub(super) fn checked_subject(subject: &str) -> Result<&str, InvalidSubject> {
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && !subject.contains(char::is_control);
    if fits { Ok(subject) } else { Err(InvalidSubject) }
}

#[derive(Debug, Clone)]
pub(super) struct Issuer {
    config: Arc<IssuerConfig>,
    keys: Arc<KeyRing>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    scope: ScopeClaim,
    /// What some issuers call it.
    #[serde(default)]
    scp: ScopeClaim,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
    #[default]
    Nobody,
}

/// Separated by spaces (RFC 8693, section 4.2), or as a list.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum ScopeClaim {
    Text(String),
    List(Vec<String>),
    #[default]
    Absent,
}

impl ScopeClaim {
    fn iter(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Text(text) => Box::new(text.split(' ').filter(|scope| !scope.is_empty())),
            Self::List(scopes) => Box::new(scopes.iter().map(String::as_str)),
            Self::Absent => Box::new(std::iter::empty()),
        }
    }
}

/// Whether it has the form of a JWT.
pub(super) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Issuer {
    /// # Errors
    /// [`UnknownAlgorithm`].
    pub(super) fn new(config: IssuerConfig, client: HttpClient) -> Result<Self, UnknownAlgorithm> {
        let algorithms = config.algorithms.iter().map(|name| algorithm(name)).collect::<Result<_, _>>()?;
        let keys = KeyRing::new(&config.issuer, config.source.clone(), algorithms, config.times, client);
        Ok(Self { config: Arc::new(config), keys: Arc::new(keys) })
    }

    pub(super) fn start(&self, tasks: &Tasks) {
        tasks.spawn_until_stopped(self.keys.clone().keep());
    }

    pub(super) fn address(&self) -> &str {
        &self.config.issuer
    }

    /// Whose the token is, if it is this issuer's, unexpired, and meant for one of `resources`.
    async fn verify(
        &self,
        token: &str,
        header: &Header,
        resources: &HashSet<String>,
    ) -> Result<Identity, Denied> {
        let (id, algorithm) = (header.kid.as_deref(), header.alg);
        // What is published is no secret.
        let symmetric = AlgorithmFamily::Hmac.algorithms().contains(&algorithm);
        if symmetric != matches!(self.config.source, Source::Secret(_)) {
            return Err(Denied::Invalid(Flaw::Unknown));
        }
        let keys = self.keys.keys(|keys| keys.know(id, algorithm)).await.ok_or(Denied::Unverifiable)?;
        match self.verify_with(&keys, token, header, resources) {
            // Keys without a name may have been exchanged for others: that shows only here.
            Err(Denied::Invalid(Flaw::Unknown)) if keys.are_nameless(id, algorithm) => {
                let newer = self.keys.keys(|now| !std::ptr::eq(now, &raw const *keys)).await;
                self.verify_with(&*newer.ok_or(Denied::Unverifiable)?, token, header, resources)
            }
            verified => verified,
        }
    }

    fn verify_with(
        &self,
        keys: &Keys,
        token: &str,
        header: &Header,
        resources: &HashSet<String>,
    ) -> Result<Identity, Denied> {
        for key in keys.candidates(header.kid.as_deref(), header.alg) {
            let mut validation = Validation::new(header.alg);
            validation.leeway = self.config.leeway.as_secs();
            validation.validate_nbf = true;
            // Against addresses that differ by a slash: below.
            validation.validate_aud = false;
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(TokenData { claims, .. }) => return self.believe(&claims, resources),
                Err(error) => match flaw(&error) {
                    Flaw::Unknown => {}
                    flaw => return Err(Denied::Invalid(flaw)),
                },
            }
        }
        Err(Denied::Invalid(Flaw::Unknown))
    }

    /// For how long the token is still good; as its signature is, it says so.
    fn left(&self, claims: &Claims) -> Duration {
        let end = claims.others.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let left = (end + self.config.leeway.as_secs_f64() - now).clamp(0.0, LONGEST.as_secs_f64());
        Duration::from_secs_f64(left)
    }

    fn believe(&self, claims: &Claims, resources: &HashSet<String>) -> Result<Identity, Denied> {
        // Whoever holds it would have to prove that it is theirs (RFC 7800), and nobody asks them to here.
        if claims.others.contains_key("cnf") {
            return Err(Denied::Invalid(Flaw::Bound));
        }
        let meant = |audience: &String| {
            let audience = audience.strip_suffix('/').unwrap_or(audience);
            match &*self.config.audiences {
                [] => resources.contains(audience),
                only => only.iter().any(|only| only.strip_suffix('/').unwrap_or(only) == audience),
            }
        };
        let for_us = match &claims.aud {
            Audience::One(audience) => meant(audience),
            Audience::Several(audiences) => audiences.iter().any(meant),
            Audience::Nobody => false,
        };
        if !for_us {
            return Err(Denied::Invalid(Flaw::Audience));
        }
        let subject = claims.others.get(&self.config.subject_claim).and_then(Value::as_str);
        let subject = subject.and_then(|subject| checked_subject(subject).ok());
        let subject = subject.ok_or(Denied::Invalid(Flaw::Subject))?;
        Ok(Identity {
            principal: Principal::named(&format!("jwt:{}:{subject}", self.config.name)),
            scopes: Scopes::new(claims.scope.iter().chain(claims.scp.iter())),
            until: Some(Instant::now() + self.left(claims)),
        })
    }
}

/// Asks the issuer that the token names.
pub(super) async fn verify(
    issuers: &[Issuer],
    token: &str,
    resources: &HashSet<String>,
) -> Result<Identity, Denied> {
    const UNKNOWN: Denied = Denied::Invalid(Flaw::Unknown);
    let TokenData { header, claims } = dangerous::insecure_decode::<Claims>(token).map_err(|_| UNKNOWN)?;
    // Nothing critical is understood here (RFC 7515, section 4.1.11).
    if header.crit.is_some() || !is_access_token(header.typ.as_deref()) {
        return Err(UNKNOWN);
    }
    let issuer = issuers.iter().find(|issuer| issuer.config.issuer == claims.iss).ok_or(UNKNOWN)?;
    issuer.verify(token, &header, resources).await
}

/// Whether the type doesn't say that it is something else (RFC 8725, section 3.11; RFC 9068, section 4).
fn is_access_token(kind: Option<&str>) -> bool {
    let kind = kind.unwrap_or("jwt").to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}

/// What is only said of tokens whose signature is good.
fn flaw(error: &Error) -> Flaw {
    match error.kind() {
        ErrorKind::ExpiredSignature => Flaw::Expired,
        ErrorKind::ImmatureSignature => Flaw::Premature,
        ErrorKind::MissingRequiredClaim(_) => Flaw::Lifetime,
        _ => Flaw::Unknown,
    }
}
