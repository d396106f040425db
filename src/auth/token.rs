//! Static tokens. Only their SHA-256 is known here; as they are random, that is enough.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::digest::{Digest, digest, hexadecimal};
use super::{Identity, Scopes};
use crate::domain::Principal;
use crate::telemetry::Credential;

/// What a token that was made here begins with: nobody else is asked about one.
pub(super) const PREFIX: &str = "hf_";

/// A token by its digest, who it speaks for, and what it allows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    identity: Identity,
    digest: Digest,
}

/// What is no SHA-256 in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the SHA-256 of a token in 64 hexadecimal digits")]
pub struct InvalidDigest;

impl Token {
    /// The token of the client called `name`, by its SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// [`InvalidDigest`].
    pub fn new(name: &str, sha256: &str, scopes: &[String]) -> Result<Self, InvalidDigest> {
        Self::of(Principal::named(&format!("token:{name}")), sha256, scopes)
    }

    /// The same of an operator.
    ///
    /// # Errors
    /// [`InvalidDigest`].
    pub fn operators(name: &str, sha256: &str) -> Result<Self, InvalidDigest> {
        Self::of(Principal::named(&format!("admin:{name}")), sha256, &[])
    }

    fn of(principal: Principal, sha256: &str, scopes: &[String]) -> Result<Self, InvalidDigest> {
        let mut digest = [0; 32];
        let digits: Option<Vec<_>> = sha256.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 2 * digest.len()).ok_or(InvalidDigest)?;
        for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::try_from(pair[0] * 16 + pair[1]).map_err(|_| InvalidDigest)?;
        }
        let scopes = Scopes::new(scopes.iter().map(String::as_str));
        let identity = Identity { principal, scopes, until: None, credential: Credential::Static };
        Ok(Self { identity, digest })
    }
}

/// A new random token (244 bits), and its SHA-256 in hexadecimal.
#[must_use]
pub fn mint() -> (String, String) {
    let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let digest = hexadecimal(digest(&token));
    (token, digest)
}

/// Compares with every token, and each to its end.
pub(super) fn find(tokens: &[Token], digest: &Digest) -> Option<Identity> {
    tokens.iter().fold(None, |found, token| {
        if bool::from(token.digest.ct_eq(digest)) { Some(token.identity.clone()) } else { found }
    })
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_is_found_by_its_digest() {
        let ((one, digest), (other, _)) = (mint(), mint());
        let tokens = [Token::new("one", &digest.to_uppercase(), &["a".to_owned()]).unwrap()];
        let identity = Identity {
            principal: Principal::named("token:one"),
            scopes: Scopes::new(["a"]),
            until: None,
            credential: Credential::Static,
        };
        assert_eq!(find(&tokens, &super::digest(&one)), Some(identity));
        assert_eq!(find(&tokens, &super::digest(&other)), None);
        assert_ne!(one, other);
        assert_eq!(one.len(), 46);
    }

    #[test]
    fn a_digest_is_known_by_what_others_make_of_the_same_text() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hexadecimal(digest("abc")), abc);
        for wrong in [&abc[1..], "", &abc.replace('b', "g"), &format!("{abc}00"), "ä"] {
            assert_eq!(Token::new("x", wrong, &[]), Err(InvalidDigest), "{wrong}");
        }
    }
}
