//! One issuer of tokens: whether a JWT is its own (RFC 8725, RFC 9068), and what it says of one that says
//! nothing by itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Header, TokenData, Validation, decode, decode_header};

use super::claims::{Claims, Facts, Rules};
use super::introspection::{Introspection, IntrospectionConfig};
use super::keys::Keys;
use super::source::{KeyRing, Source, Times};
use super::{Denied, Flaw, Identity};
use crate::domain::Principal;
use crate::lifecycle::Tasks;
use crate::telemetry::{Credential, Metrics};
use crate::upstream::HttpClient;

/// An issuer as it is configured.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// What its principals are told apart by from another issuer's.
    pub name: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Of the keys that its JWTs are signed with; `None`: it is asked about them, too.
    pub source: Option<Source>,
    /// By their names (RFC 7518, section 3.1). Empty: whatever its keys are fit for.
    pub algorithms: Vec<String>,
    /// Of which a token's `aud` has to name one; empty: the resource's own addresses (A7).
    pub audiences: Vec<String>,
    /// The claim that names who the token is of.
    pub subject_claim: String,
    /// What clocks may differ by.
    pub leeway: Duration,
    pub times: Times,
    pub introspection: Option<IntrospectionConfig>,
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

#[derive(Debug)]
pub(super) struct Issuer {
    name: String,
    /// The `iss` of its tokens.
    pub address: String,
    rules: Rules,
    subject_claim: String,
    pub signatures: Option<Signatures>,
    pub introspection: Option<Introspection>,
}

/// How its JWTs are verified.
#[derive(Debug)]
pub(super) struct Signatures {
    keys: Arc<KeyRing>,
    /// What they are verified with is no public key.
    symmetric: bool,
}

impl Issuer {
    /// # Errors
    /// [`UnknownAlgorithm`].
    pub(super) fn new(
        config: IssuerConfig,
        client: &HttpClient,
        metrics: &Metrics,
    ) -> Result<Self, UnknownAlgorithm> {
        let algorithms = config.algorithms.iter().map(|name| algorithm(name)).collect::<Result<_, _>>()?;
        let signatures = config.source.map(|source| Signatures {
            symmetric: matches!(source, Source::Secret(_)),
            keys: Arc::new(KeyRing::new(
                &config.issuer,
                source,
                algorithms,
                config.times,
                client.clone(),
                metrics.clone(),
            )),
        });
        let introspection =
            config.introspection.map(|asked| Introspection::new(asked, client.clone(), metrics.clone()));
        Ok(Self {
            name: config.name,
            address: config.issuer,
            rules: Rules { audiences: config.audiences, leeway: config.leeway },
            subject_claim: config.subject_claim,
            signatures,
            introspection,
        })
    }

    pub(super) fn start(&self, tasks: &Tasks) {
        if let Some(signatures) = &self.signatures {
            tasks.spawn_until_stopped(signatures.keys.clone().keep());
        }
    }

    /// What the token says, if this issuer signed it, and the keys that show it.
    ///
    /// # Errors
    /// [`Denied::Invalid`]; [`Denied::Unverifiable`] if there are no keys.
    pub(super) async fn verify(
        &self,
        Signatures { keys: ring, symmetric }: &Signatures,
        token: &str,
    ) -> Result<(Facts, Arc<Keys>), Denied> {
        const UNKNOWN: Denied = Denied::Invalid(Flaw::Unknown);
        let header = decode_header(token).map_err(|_| UNKNOWN)?;
        let (id, algorithm) = (header.kid.as_deref(), header.alg);
        // Nothing critical is understood here (RFC 7515, section 4.1.11), and what is published is no secret.
        if header.crit.is_some()
            || !is_access_token(header.typ.as_deref())
            || AlgorithmFamily::Hmac.algorithms().contains(&algorithm) != *symmetric
        {
            return Err(UNKNOWN);
        }
        let keys = ring.keys(|keys| keys.know(id, algorithm)).await.ok_or(Denied::Unverifiable)?;
        if let Some(facts) = self.verify_with(&keys, token, &header) {
            return Ok((facts, keys));
        }
        // Keys without a name may have been exchanged for others: that shows only here.
        if !keys.are_nameless(id, algorithm) {
            return Err(UNKNOWN);
        }
        let newer = ring.keys(|now| !std::ptr::eq(now, &raw const *keys)).await;
        let newer = newer.ok_or(Denied::Unverifiable)?;
        let facts = self.verify_with(&newer, token, &header).ok_or(UNKNOWN)?;
        Ok((facts, newer))
    }

    /// The facts of a token with a good signature.
    fn verify_with(&self, keys: &Keys, token: &str, header: &Header) -> Option<Facts> {
        for key in keys.candidates(header.kid.as_deref(), header.alg) {
            let mut validation = Validation::new(header.alg);
            // What it says is checked where all tokens are: `Facts::check`.
            validation.required_spec_claims.clear();
            validation.validate_exp = false;
            validation.validate_aud = false;
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(TokenData { claims, .. }) => return Some(claims.facts(&self.subject_claim)),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Whether these are still its keys, and recent enough.
    pub(super) fn has(&self, keys: &Arc<Keys>) -> bool {
        let signatures = self.signatures.as_ref();
        signatures.and_then(|own| own.keys.current()).is_some_and(|now| Arc::ptr_eq(&now, keys))
    }

    /// What this issuer says of a token.
    ///
    /// # Errors
    /// [`Denied::Unverifiable`] if it says nothing.
    pub(super) async fn ask(
        &self,
        introspection: &Introspection,
        token: &str,
    ) -> Result<Result<Facts, Flaw>, Denied> {
        let said = introspection.ask(token, &self.address, &self.subject_claim).await;
        said.map_err(|_| Denied::Unverifiable)
    }

    /// Whose the token is, if what is true of it makes it good for one of `resources` now.
    ///
    /// # Errors
    /// [`Denied::Invalid`].
    pub(super) fn identity(
        &self,
        facts: &Facts,
        credential: Credential,
        resources: &HashSet<String>,
    ) -> Result<Identity, Denied> {
        let (subject, until) = facts.check(&self.rules, resources).map_err(Denied::Invalid)?;
        // One subject is one principal, however its tokens look. Sessions are kept under this name.
        let principal = Principal::named(&format!("jwt:{}:{subject}", self.name));
        Ok(Identity { principal, scopes: facts.scopes.clone(), until: Some(until), credential })
    }

    /// How long it matters what is true of the token.
    pub(super) fn matters_for(&self, facts: &Facts) -> Duration {
        facts.left() + self.rules.leeway
    }
}

/// Whether the type doesn't say that it is something else (RFC 8725, section 3.11; RFC 9068, section 4).
fn is_access_token(kind: Option<&str>) -> bool {
    let kind = kind.unwrap_or("jwt").to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}
