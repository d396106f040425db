//! Who a credential speaks for. What they may do, and what they own, is asked elsewhere.

mod token;

use http::header::{AUTHORIZATION, HeaderMap};

use crate::domain::Principal;

pub use token::{InvalidDigest, Token, mint};

/// Finds the principal of a request, from its `Authorization` header alone: a credential in a URL would
/// stand in logs (A3), and what else a client says of itself proves nothing.
#[derive(Debug, Clone)]
pub enum Authenticator {
    /// Nobody is asked: everybody is the one anonymous principal.
    Nobody,
    /// By static tokens.
    Tokens(Vec<Token>),
}

/// Why a request speaks for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// 401 (A2), also for a scheme that is not asked for (RFC 6750, section 3.1).
    #[error("a bearer token is needed: send the header Authorization: Bearer TOKEN")]
    Missing,
    /// 400 (A2).
    #[error("the header Authorization must come once, as Bearer TOKEN")]
    Malformed,
    /// 401 (A2).
    #[error("this token is not valid")]
    Invalid,
}

impl Authenticator {
    /// Who asks, as far as the credential shows it. How long it takes says nothing about the tokens that
    /// there are.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Denied> {
        match self {
            Self::Nobody => Ok(Principal::anonymous()),
            Self::Tokens(tokens) => token::find(tokens, bearer(headers)?).ok_or(Denied::Invalid),
        }
    }
}

/// The token of RFC 6750, section 2.1.
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    if values.next().is_some() {
        return Err(Denied::Malformed);
    }
    let text = value.to_str().map_err(|_| Denied::Malformed)?;
    let text = text.trim_matches(' ');
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Missing);
    }
    let token = token.trim_start_matches(' ');
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let body = token.trim_end_matches('=');
    let fits = !body.is_empty() && body.bytes().all(is_token);
    if fits { Ok(token) } else { Err(Denied::Malformed) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(values: &[&'static [u8]]) -> Result<Principal, Denied> {
        let token = Token::new("ci", &token::digest("s3cret")).unwrap();
        let other = Token::new("dev", &token::digest("0ther=")).unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        Authenticator::Tokens(vec![token, other]).authenticate(&headers)
    }

    #[test]
    fn a_credential_is_read_exactly() {
        for good in [&b"Bearer s3cret"[..], b"bearer   s3cret", b" BEARER s3cret "] {
            assert_eq!(asked(&[good]), Ok(Principal::named("token:ci")), "{good:?}");
        }
        assert_eq!(asked(&[b"Bearer 0ther="]), Ok(Principal::named("token:dev")));
        assert_eq!(asked(&[]), Err(Denied::Missing));
        for other in [&b""[..], b"Basic s3cret", b"s3cret"] {
            assert_eq!(asked(&[other]), Err(Denied::Missing), "{other:?}");
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
            assert_eq!(asked(&[invalid]), Err(Denied::Invalid), "{invalid:?}");
        }
    }

    #[test]
    fn where_nobody_is_asked_a_credential_means_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert_eq!(Authenticator::Nobody.authenticate(&headers), Ok(Principal::anonymous()));
    }
}
