//! Tokens (JWT) for development, signed as an issuer would sign them, with what RFC 9068, section 2 asks for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::claims::{InvalidSubject, checked_subject};
use super::issuer::algorithm;

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The `iss`, and the claim that names who its tokens are of.
    pub issuer: String,
    pub subject_claim: String,
    pub subject: String,
    pub audiences: Vec<String>,
    pub scopes: Vec<String>,
    pub lifetime: Duration,
    /// The `kid`.
    pub key_id: Option<String>,
    /// With one of these, by name; empty: with whatever the key is fit for.
    pub algorithms: Vec<String>,
}

/// What it is signed with.
#[derive(Clone)]
pub enum SigningKey {
    Secret(Vec<u8>),
    /// A private key: RSA, P-256, P-384 or Ed25519.
    Pem(Vec<u8>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret",
            Self::Pem(_) => "Pem",
        })
    }
}

/// Why it can't be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsignable {
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    #[error(
        "this is no private key in PEM (RSA, or PKCS#8 with P-256, P-384 or Ed25519), or none for an \
         algorithm that the issuer takes"
    )]
    Key,
}

/// Signs it, with the first algorithm that key and issuer have in common.
///
/// # Errors
/// [`Unsignable`].
pub fn sign(grant: &Grant, key: &SigningKey) -> Result<String, Unsignable> {
    let subject = checked_subject(&grant.subject)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let audience = match &*grant.audiences {
        [one] => json!(one),
        several => json!(several),
    };
    let mut claims = Map::from_iter([
        ("iss".to_owned(), json!(grant.issuer)),
        ("sub".to_owned(), json!(subject)),
        ("aud".to_owned(), audience),
        ("client_id".to_owned(), json!("holdfast-token")),
        ("iat".to_owned(), json!(now)),
        ("exp".to_owned(), json!(now + grant.lifetime.as_secs())),
        ("jti".to_owned(), json!(Uuid::new_v4().to_string())),
    ]);
    if !grant.scopes.is_empty() {
        claims.insert("scope".to_owned(), json!(grant.scopes.join(" ")));
    }
    claims.insert(grant.subject_claim.clone(), json!(subject));
    let claims = Value::Object(claims);
    let wanted: Vec<_> = grant.algorithms.iter().filter_map(|name| algorithm(name).ok()).collect();
    let signed = candidates(key).into_iter().find_map(|(algorithm, key)| {
        if !wanted.is_empty() && !wanted.contains(&algorithm) {
            return None;
        }
        let header =
            Header { typ: Some("at+jwt".to_owned()), kid: grant.key_id.clone(), ..Header::new(algorithm) };
        // A key of another curve or kind does not sign.
        encode(&header, &claims, &key).ok()
    });
    signed.ok_or(Unsignable::Key)
}

fn candidates(key: &SigningKey) -> Vec<(Algorithm, EncodingKey)> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let of = |algorithms: &[Algorithm], key: Option<EncodingKey>| {
        let pairs = key.into_iter().flat_map(|key| algorithms.iter().map(move |named| (*named, key.clone())));
        pairs.collect::<Vec<_>>()
    };
    match key {
        SigningKey::Secret(secret) => of(&[HS256, HS384, HS512], Some(EncodingKey::from_secret(secret))),
        SigningKey::Pem(pem) => [
            of(&[ES256, ES384], EncodingKey::from_ec_pem(pem).ok()),
            of(&[EdDSA], EncodingKey::from_ed_pem(pem).ok()),
            of(&[RS256, RS384, RS512, PS256, PS384, PS512], EncodingKey::from_rsa_pem(pem).ok()),
        ]
        .concat(),
    }
}
