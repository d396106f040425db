//! `holdfast token --issuer`: a token for development, as an issuer of the configuration would sign it.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{Grant, SigningKey, Unsignable, sign};
use crate::config::{Config, KeysFrom};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The name of one in `auth.issuers`; with a key, also the `iss` of one that isn't there.
    pub issuer: String,
    /// A private key, in place of the issuer's secret, and what it is called.
    pub key_file: Option<PathBuf>,
    pub key_id: Option<String>,
    pub subject: String,
    pub audiences: Vec<String>,
    pub scopes: Vec<String>,
    pub lifetime: Duration,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Unmintable {
    #[error("there is no auth.issuers.{0}: name one of the configuration, or give --key")]
    Issuer(String),
    #[error("auth.issuers.{0} has no secret: give --key, with the private key of one that it publishes")]
    Keyless(String),
    #[error("auth.issuers.{0} has a secret, which is what its tokens are verified with: leave --key out")]
    Keyed(String),
    #[error("--key {path} can't be read", path = .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    #[error("it says nothing of whom it is for: give --audience, or set public_url")]
    Audience,
    #[error(transparent)]
    Unsignable(#[from] Unsignable),
}

/// Signs what is asked for.
///
/// # Errors
/// [`Unmintable`].
pub fn mint_jwt(config: &Config, wish: Wish) -> Result<String, Unmintable> {
    let issuer = config.auth.issuers.get(&wish.issuer);
    let key = match (wish.key_file, issuer.map(|issuer| &issuer.keys)) {
        (Some(_), Some(KeysFrom::Secret(_))) => return Err(Unmintable::Keyed(wish.issuer)),
        (Some(path), _) => match std::fs::read(&path) {
            Ok(pem) => SigningKey::Pem(pem),
            Err(error) => return Err(Unmintable::Unreadable(path, error)),
        },
        (None, Some(KeysFrom::Secret(secret))) => SigningKey::Secret(secret.reveal().as_bytes().to_vec()),
        (None, Some(_)) => return Err(Unmintable::Keyless(wish.issuer)),
        (None, None) => return Err(Unmintable::Issuer(wish.issuer)),
    };
    let own = || issuer.and_then(|issuer| issuer.audiences.first().cloned());
    let gateway = || config.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let audiences = match wish.audiences {
        none if none.is_empty() => vec![own().or_else(gateway).ok_or(Unmintable::Audience)?],
        some => some,
    };
    let grant = Grant {
        issuer: issuer.map_or(wish.issuer, |issuer| issuer.issuer.clone()),
        subject_claim: issuer.map_or_else(|| "sub".to_owned(), |issuer| issuer.subject_claim.clone()),
        subject: wish.subject,
        audiences,
        scopes: wish.scopes,
        lifetime: wish.lifetime,
        key_id: wish.key_id,
        algorithms: issuer.map(|issuer| issuer.algorithms.clone()).unwrap_or_default(),
    };
    Ok(sign(&grant, &key)?)
}
