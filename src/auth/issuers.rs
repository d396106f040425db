//! All issuers: whose a token may be, who is asked about it, and what is known of those that came before. A
//! token is remembered by its digest, and what is remembered is only what is true of it anywhere: what it is
//! used for and what time it is are looked at each time.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::Expiry;
use moka::future::Cache;
use serde_json::{Map, Value};

use super::claims::{Claims, Facts};
use super::digest::Digest;
use super::introspection::Introspection;
use super::issuer::{Issuer, Signatures};
use super::keys::Keys;
use super::token;
use super::{Denied, Flaw, Identity};
use crate::lifecycle::Tasks;
use crate::telemetry::Credential;

/// So long it is remembered that a token is not active, or less: it may be one that is about to become so.
const INACTIVE: Duration = Duration::from_secs(5);

/// Nothing is remembered for longer: what lives longer is verified again.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How long, and how much, is known of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Tokens that are remembered.
    pub tokens_max: usize,
    /// For how long an issuer's word is taken.
    pub introspection_ttl: Duration,
}

pub(super) struct Issuers {
    all: Vec<Arc<Issuer>>,
    known: Cache<Digest, Known>,
    introspection_ttl: Duration,
}

/// What is known of a token.
#[derive(Clone)]
struct Known {
    issuer: Arc<Issuer>,
    word: Word,
    keeps: Duration,
}

#[derive(Clone)]
enum Word {
    /// By these keys; it means nothing without them.
    Verified(Arc<Facts>, Arc<Keys>),
    /// By the issuer.
    Said(Result<Arc<Facts>, Flaw>),
}

/// Who can tell whether a token is good.
enum Way<'a> {
    Verify(&'a Arc<Issuer>, &'a Signatures),
    Ask(&'a Arc<Issuer>, &'a Introspection),
    Nobody(Credential),
}

struct Keeping;

impl Expiry<Digest, Known> for Keeping {
    fn expire_after_create(&self, _: &Digest, known: &Known, _: Instant) -> Option<Duration> {
        Some(known.keeps)
    }

    fn expire_after_update(
        &self,
        _: &Digest,
        known: &Known,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(known.keeps)
    }
}

impl Known {
    fn credential(&self) -> Credential {
        match self.word {
            Word::Verified(..) => Credential::Jwt,
            Word::Said(_) => Credential::Introspected,
        }
    }

    /// `None` if what it was verified with is no longer an issuer's.
    fn identity(&self, resources: &HashSet<String>) -> Option<Result<Identity, Denied>> {
        let facts = match &self.word {
            Word::Verified(_, keys) if !self.issuer.has(keys) => return None,
            Word::Verified(facts, _) | Word::Said(Ok(facts)) => facts,
            Word::Said(Err(flaw)) => return Some(Err(Denied::Invalid(*flaw))),
        };
        Some(self.issuer.identity(facts, self.credential(), resources))
    }
}

impl Issuers {
    pub(super) fn new(all: Vec<Issuer>, memory: Memory) -> Self {
        let known = Cache::builder().max_capacity(memory.tokens_max as u64).expire_after(Keeping).build();
        let all = all.into_iter().map(Arc::new).collect();
        Self { all, known, introspection_ttl: memory.introspection_ttl }
    }

    pub(super) fn start(&self, tasks: &Tasks) {
        self.all.iter().for_each(|issuer| issuer.start(tasks));
    }

    /// Where clients are told to log in.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.all.iter().map(|issuer| issuer.address.clone()).collect()
    }

    /// Whose the token with this digest is, if it is meant for one of `resources`; and how that was found out.
    pub(super) async fn identify(
        &self,
        token: &str,
        digest: Digest,
        resources: &HashSet<String>,
    ) -> (Credential, Result<Identity, Denied>) {
        if let Some(known) = self.known.get(&digest).await
            && let Some(identity) = known.identity(resources)
        {
            return (known.credential(), identity);
        }
        match self.way(token) {
            Way::Nobody(credential) => (credential, Err(Denied::Invalid(Flaw::Unknown))),
            Way::Verify(issuer, signatures) => {
                let verified = issuer.verify(signatures, token).await;
                let identity = match verified {
                    Err(denied) => Err(denied),
                    Ok((facts, keys)) => {
                        let identity = issuer.identity(&facts, Credential::Jwt, resources);
                        let keeps = issuer.matters_for(&facts).min(LONGEST);
                        let word = Word::Verified(Arc::new(facts), keys);
                        self.known.insert(digest, Known { issuer: issuer.clone(), word, keeps }).await;
                        identity
                    }
                };
                (Credential::Jwt, identity)
            }
            Way::Ask(issuer, introspection) => {
                let asked = async {
                    let said = issuer.ask(introspection, token).await?;
                    let keeps = match &said {
                        // Also one that can only be refused: whoever has it is not to have the issuer asked each time.
                        Ok(facts) if facts.left().is_zero() => INACTIVE,
                        Ok(facts) => facts.left(),
                        Err(_) => INACTIVE,
                    };
                    let keeps = keeps.min(self.introspection_ttl);
                    Ok(Known { issuer: issuer.clone(), word: Word::Said(said.map(Arc::new)), keeps })
                };
                // However many come with it at once, one of them asks.
                let known = self.known.try_get_with(digest, asked).await;
                let identity = known.map_err(|denied: Arc<Denied>| (*denied).clone());
                let identity =
                    identity.and_then(|known| known.identity(resources).unwrap_or(Err(Denied::Unverifiable)));
                (Credential::Introspected, identity)
            }
        }
    }

    /// A JWT is the business of the issuer that it names, and of nobody else; any other token that of the one
    /// whose prefix fits best; ours are nobody else's.
    fn way(&self, token: &str) -> Way<'_> {
        let issuer = match jwt(token) {
            Some(claims) => {
                let named = claims.and_then(|claims| claims.iss);
                self.all.iter().find(|issuer| Some(&issuer.address) == named.as_ref())
            }
            None if token.starts_with(token::PREFIX) => return Way::Nobody(Credential::Unknown),
            None => {
                let fits = |issuer: &&Arc<Issuer>| {
                    issuer.introspection.as_ref().filter(|asked| token.starts_with(asked.prefix())).is_some()
                };
                let length =
                    |issuer: &&Arc<Issuer>| issuer.introspection.as_ref().map(|asked| asked.prefix().len());
                let issuer = self.all.iter().filter(fits).max_by_key(length);
                return match issuer.and_then(|issuer| Some((issuer, issuer.introspection.as_ref()?))) {
                    Some((issuer, introspection)) => Way::Ask(issuer, introspection),
                    None => Way::Nobody(Credential::Unknown),
                };
            }
        };
        match issuer.map(|issuer| (issuer, &issuer.signatures, &issuer.introspection)) {
            Some((issuer, Some(signatures), _)) => Way::Verify(issuer, signatures),
            Some((issuer, None, Some(introspection))) => Way::Ask(issuer, introspection),
            Some((_, None, None)) | None => Way::Nobody(Credential::Jwt),
        }
    }
}

/// What the token claims, or doesn't, if it has the form of a JWT: nothing of it is believed yet.
fn jwt(token: &str) -> Option<Option<Claims>> {
    let mut parts = token.split('.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let read = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    serde_json::from_slice::<Map<String, Value>>(&read(header)?).ok()?;
    Some(read(payload).and_then(|payload| serde_json::from_slice(&payload).ok()))
}

/// Without what is known of tokens.
impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuers").field("all", &self.all).finish_non_exhaustive()
    }
}
