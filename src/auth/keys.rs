//! The keys that tokens are verified with: what a JWK set or a PEM file holds, and for which algorithms each
//! may be used. A token chooses among these, and adds none (RFC 8725, section 3.1).

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;

use super::digest::{Digest, digest};

/// A set with more is a mistake, or an attack.
const KEYS_MAX: usize = 100;

/// Shorter ones are no longer safe (RFC 7518, section 3.3), longer ones nobody has, and they can't be used.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// Longer than any public key; what nests in a longer one could exhaust the stack.
const PEM_BYTES_MAX: usize = 8 * 1024;

/// A token without a key's id is tried with so many.
const CANDIDATES_MAX: usize = 8;

/// A key and what it is for.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// The keys of one issuer. Two are the same if they come from the same text.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    all: Vec<Key>,
    digest: Digest,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// Why a text holds no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("is no JWK set")]
    NoSet,
    #[error("is neither a JWK set nor PEM with a public key")]
    NeitherForm,
    #[error("has more than {KEYS_MAX} keys")]
    TooMany,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// A secret that the issuer shares, for hashes that are not longer (RFC 7518, section 3.2).
    pub(super) fn secret(secret: &[u8]) -> Self {
        let sizes = [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];
        let fits = sizes.into_iter().filter(|(_, bytes)| secret.len() >= *bytes);
        let algorithms = fits.map(|(algorithm, _)| algorithm).collect();
        let all = vec![Key { id: None, algorithms, key: DecodingKey::from_secret(secret) }];
        // There is never another.
        Self { all, digest: Digest::default() }
    }

    /// The public keys of a JWK set (RFC 7517). Keys for something else are left out; none may be left.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(super) fn of_set(text: &str) -> Result<Self, Unusable> {
        let Set { keys } = serde_json::from_str(text).map_err(|_| Unusable::NoSet)?;
        if keys.len() > KEYS_MAX {
            return Err(Unusable::TooMany);
        }
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).filter_map(of_jwk);
        Ok(Self { all: keys.collect(), digest: digest(text) })
    }

    /// The same from a file, which may hold PEM blocks instead.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(super) fn of_file(text: &str) -> Result<Self, Unusable> {
        if text.trim_start().starts_with('{') {
            return Self::of_set(text);
        }
        let blocks = pem_blocks(text).ok_or(Unusable::NeitherForm)?;
        if blocks.len() > KEYS_MAX {
            return Err(Unusable::TooMany);
        }
        let keys: Vec<_> = blocks.into_iter().filter_map(of_pem).collect();
        if keys.is_empty() {
            Err(Unusable::NeitherForm)
        } else {
            Ok(Self { all: keys, digest: digest(text) })
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.iter().all(|key| key.algorithms.is_empty())
    }

    /// Only for these algorithms.
    pub(super) fn limited(mut self, algorithms: &[Algorithm]) -> Self {
        for key in &mut self.all {
            key.algorithms.retain(|algorithm| algorithms.contains(algorithm));
        }
        self
    }

    /// Those that may have signed a token with this head.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let may = move |key: &&Key| {
            let named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            named && key.algorithms.contains(&algorithm)
        };
        self.all.iter().filter(may).take(CANDIDATES_MAX)
    }

    /// Whether there is no use in looking for a key that may have signed a token with this head.
    pub(super) fn know(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let named = id.is_some() && self.all.iter().any(|key| key.id.as_deref() == id);
        named || self.candidates(id, algorithm).next().is_some()
    }

    /// Whether one of these may be another than the token's by chance.
    pub(super) fn are_nameless(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        id.is_none() || self.candidates(id, algorithm).any(|key| key.id.is_none())
    }
}

fn of_jwk(jwk: Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let bytes = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if RSA_BITS.contains(&bits(&rsa.n)?) => {
            AlgorithmFamily::Rsa.algorithms().to_vec()
        }
        AlgorithmParameters::EllipticCurve(point) => vec![on_curve(&point.curve, bytes)?],
        AlgorithmParameters::OctetKeyPair(pair) => vec![on_curve(&pair.curve, bytes)?],
        // A secret has no place where keys are published.
        _ => return None,
    };
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| Algorithm::try_from(only).ok() == Some(*algorithm));
    }
    (!algorithms.is_empty()).then_some(Key { id: jwk.common.key_id, algorithms, key })
}

/// An uncompressed point is a byte and two coordinates; one of Ed25519 is one. What has another size is no
/// key, and a library may panic at it.
fn on_curve(curve: &EllipticCurve, bytes: usize) -> Option<Algorithm> {
    match (curve, bytes) {
        (EllipticCurve::P256, 65) => Some(Algorithm::ES256),
        (EllipticCurve::P384, 97) => Some(Algorithm::ES384),
        (EllipticCurve::Ed25519, 32) => Some(Algorithm::EdDSA),
        _ => None,
    }
}

/// How long the modulus is, of which no leading zeros count.
fn bits(modulus: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(modulus).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some((bytes.len() - first) * 8 - bytes[first].leading_zeros() as usize)
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
    (!blocks.is_empty()).then_some(blocks)
}

fn of_pem(block: &str) -> Option<Key> {
    let public =
        ["-----BEGIN PUBLIC KEY", "-----BEGIN RSA PUBLIC KEY"].iter().any(|tag| block.starts_with(tag));
    if !public || block.len() > PEM_BYTES_MAX {
        return None;
    }
    let bytes = block.as_bytes();
    let length = |key: &DecodingKey| key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let (key, algorithms) = if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        // In DER: the modulus, the exponent, and up to a dozen bytes around them.
        let fits = (RSA_BITS.start() / 8 + 9..=RSA_BITS.end() / 8 + 24).contains(&length(&key));
        fits.then(|| (key, AlgorithmFamily::Rsa.algorithms().to_vec()))?
    } else if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        let curves = [EllipticCurve::P256, EllipticCurve::P384];
        let algorithm = curves.iter().find_map(|curve| on_curve(curve, length(&key)))?;
        (key, vec![algorithm])
    } else {
        let key = DecodingKey::from_ed_pem(bytes).ok()?;
        let algorithm = on_curve(&EllipticCurve::Ed25519, length(&key))?;
        (key, vec![algorithm])
    };
    Some(Key { id: None, algorithms, key })
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn algorithms(text: &str) -> Result<Vec<Vec<Algorithm>>, Unusable> {
        Keys::of_file(text).map(|keys| keys.all.into_iter().map(|key| key.algorithms).collect())
    }

    #[test]
    fn pem_blocks_are_for_what_their_keys_fit() {
        let made = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519]
            .map(|kind| KeyPair::generate_for(kind).unwrap());
        let blocks: String = made.iter().map(KeyPair::public_key_pem).collect();
        let expected = vec![vec![Algorithm::ES256], vec![Algorithm::ES384], vec![Algorithm::EdDSA]];
        assert_eq!(algorithms(&format!("# of ours\n{blocks}")), Ok(expected));
        assert_eq!(algorithms(&made[0].serialize_pem()), Err(Unusable::NeitherForm), "a private one");
        assert_eq!(algorithms("-----BEGIN PUBLIC KEY-----\nx"), Err(Unusable::NeitherForm));
        assert_eq!(algorithms("keys"), Err(Unusable::NeitherForm));
        let nested =
            format!("-----BEGIN PUBLIC KEY-----\n{}-----END PUBLIC KEY-----", "MIMwgzCD\n".repeat(100_000));
        assert_eq!(algorithms(&nested), Err(Unusable::NeitherForm));
        assert!(matches!(Keys::of_set(&made[0].public_key_pem()), Err(Unusable::NoSet)), "only in a file");
    }

    #[test]
    fn only_keys_for_signatures_are_taken_of_a_set() {
        let check = |key: &str, expected: Option<Vec<Algorithm>>| {
            let found = algorithms(&format!(r#"{{"keys":[{key}]}}"#));
            assert_eq!(found, Ok(expected.into_iter().collect()), "{key}");
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
            let modulus = [vec![0; 300], vec![0xb7; bytes]].concat();
            let modulus = URL_SAFE_NO_PAD.encode(&modulus);
            format!(r#"{{"kty":"RSA","e":"AQAB","n":"{modulus}"{more}}}"#)
        };
        check(&rsa(256, r#","alg":"RS256""#), Some(vec![Algorithm::RS256]));
        check(&rsa(256, ""), Some(AlgorithmFamily::Rsa.algorithms().to_vec()));
        check(&rsa(255, ""), None);
        check(&rsa(513, ""), None);
        check(r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#, None);
        check(r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, None);
        check(r#"{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}"#, None);
        check(r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#, None);
        check("1", None);
        let many = vec!["1"; KEYS_MAX + 1].join(",");
        assert_eq!(algorithms(&format!(r#"{{"keys":[{many}]}}"#)), Err(Unusable::TooMany));
        assert_eq!(algorithms("{}"), Err(Unusable::NoSet));
    }
}
