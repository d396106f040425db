//! The keys that tokens are verified with: what a JWK set or a PEM file holds, and for which algorithms each
//! may be used. A token chooses among these, and adds none (RFC 8725, section 3.1).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;

/// A set with more is a mistake, or an attack.
const KEYS_MAX: usize = 100;

/// Shorter ones are no longer safe (RFC 7518, section 3.3).
const RSA_BYTES_MIN: usize = 256;

/// A key and what it is for.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// The keys of one issuer.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Vec<Key>);

/// Why a text holds no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("is neither a JWK set nor PEM")]
    Form,
    #[error("has more than {KEYS_MAX} keys")]
    TooMany,
    #[error(
        "has no key for a signature algorithm that is supported: RS, PS (2048 bits or more), ES256, ES384 or EdDSA (Ed25519)"
    )]
    NoKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// A secret that the issuer shares.
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self(vec![Key {
            id: None,
            algorithms: AlgorithmFamily::Hmac.algorithms().to_vec(),
            key: DecodingKey::from_secret(secret),
        }])
    }

    /// Public keys: a JWK set (RFC 7517), or PEM blocks. Keys for something else are left out.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(super) fn read(text: &str) -> Result<Self, Unusable> {
        let text = text.trim_start();
        let keys: Vec<Key> = if text.starts_with('{') {
            let Set { keys } = serde_json::from_str(text).map_err(|_| Unusable::Form)?;
            if keys.len() > KEYS_MAX {
                return Err(Unusable::TooMany);
            }
            keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).filter_map(of_jwk).collect()
        } else {
            pem_blocks(text).ok_or(Unusable::Form)?.into_iter().filter_map(of_pem).collect()
        };
        if keys.is_empty() { Err(Unusable::NoKey) } else { Ok(Self(keys)) }
    }

    /// Only for these algorithms.
    pub(super) fn limited(mut self, algorithms: &[Algorithm]) -> Self {
        for key in &mut self.0 {
            key.algorithms.retain(|algorithm| algorithms.contains(algorithm));
        }
        self
    }

    /// Those that may have signed a token with this head.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| {
            let named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            named && key.algorithms.contains(&algorithm)
        })
    }
}

fn of_jwk(jwk: Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if long_enough(&rsa.n) => AlgorithmFamily::Rsa.algorithms().to_vec(),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        // A secret has no place where keys are published.
        _ => return None,
    };
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| Algorithm::try_from(only).ok() == Some(*algorithm));
    }
    (!algorithms.is_empty()).then_some(Key { id: jwk.common.key_id, algorithms, key })
}

fn long_enough(modulus: &str) -> bool {
    // In base64url without padding, and without leading zeros (RFC 7518, section 6.3.1.1).
    modulus.len() * 3 / 4 >= RSA_BYTES_MIN
}

/// Blocks of any kind; only public keys among them are used.
fn pem_blocks(text: &str) -> Option<Vec<&str>> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        let end = rest[start..].find("-----END ")? + start + "-----END ".len();
        let end = rest[end..].find("-----")? + end + "-----".len();
        blocks.push(&rest[start..end]);
        rest = &rest[end..];
    }
    (!blocks.is_empty() && blocks.len() <= KEYS_MAX).then_some(blocks)
}

fn of_pem(block: &str) -> Option<Key> {
    if !["-----BEGIN PUBLIC KEY", "-----BEGIN RSA PUBLIC KEY"].iter().any(|tag| block.starts_with(tag)) {
        return None;
    }
    let bytes = block.as_bytes();
    let length = |key: &DecodingKey| key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let (key, algorithms) = if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        (length(&key) > RSA_BYTES_MIN).then(|| (key, AlgorithmFamily::Rsa.algorithms().to_vec()))?
    } else if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        // An uncompressed point: a byte, and two coordinates.
        let algorithm = match length(&key) {
            65 => Algorithm::ES256,
            97 => Algorithm::ES384,
            _ => return None,
        };
        (key, vec![algorithm])
    } else {
        (DecodingKey::from_ed_pem(bytes).ok()?, vec![Algorithm::EdDSA])
    };
    Some(Key { id: None, algorithms, key })
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn algorithms(text: &str) -> Result<Vec<Vec<Algorithm>>, Unusable> {
        Keys::read(text).map(|keys| keys.0.into_iter().map(|key| key.algorithms).collect())
    }

    #[test]
    fn pem_blocks_are_for_what_their_keys_fit() {
        let made = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519]
            .map(|kind| KeyPair::generate_for(kind).unwrap());
        let blocks: String = made.iter().map(KeyPair::public_key_pem).collect();
        let expected = vec![vec![Algorithm::ES256], vec![Algorithm::ES384], vec![Algorithm::EdDSA]];
        assert_eq!(algorithms(&format!("# of ours\n{blocks}")), Ok(expected));
        assert_eq!(algorithms(&made[0].serialize_pem()), Err(Unusable::NoKey), "a private one");
        assert_eq!(algorithms("-----BEGIN PUBLIC KEY-----\nx"), Err(Unusable::Form));
        assert_eq!(algorithms("keys"), Err(Unusable::Form));
    }

    #[test]
    fn only_keys_for_signatures_are_taken_of_a_set() {
        let check = |key: &str, expected: Option<Vec<Algorithm>>| {
            let found = algorithms(&format!(r#"{{"keys":[{key}]}}"#));
            assert_eq!(found, expected.map(|found| vec![found]).ok_or(Unusable::NoKey), "{key}");
        };
        let point = |more: &str| {
            format!(
                r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"{more}}}"#,
                "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
            )
        };
        check(&point(""), Some(vec![Algorithm::ES256]));
        check(&point(r#","use":"sig","alg":"ES256","kid":"a""#), Some(vec![Algorithm::ES256]));
        check(&point(r#","use":"enc""#), None);
        check(&point(r#","alg":"ES384""#), None);
        check(&point(r#","alg":"of tomorrow""#), None);
        let rsa = |bytes: usize, more: &str| {
            format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}Q"{more}}}"#, "u".repeat(bytes * 4 / 3))
        };
        check(&rsa(256, r#","alg":"RS256""#), Some(vec![Algorithm::RS256]));
        check(&rsa(256, ""), Some(AlgorithmFamily::Rsa.algorithms().to_vec()));
        check(&rsa(128, ""), None);
        check(r#"{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}"#, None);
        check(r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#, None);
        check("1", None);
        let many = vec!["1"; KEYS_MAX + 1].join(",");
        assert_eq!(algorithms(&format!(r#"{{"keys":[{many}]}}"#)), Err(Unusable::TooMany));
        assert_eq!(algorithms("{}"), Err(Unusable::Form));
    }
}
