//! What an issuer publishes, and what a client shows.

use jsonwebtoken::{AlgorithmFamily, Validation, dangerous, decode};
use serde_json::Value;

use crate::keys::Keys;

/// Keys for something that can be verified, or none; a token that they fit was not made by chance.
pub fn keys_and_token(document: &str, token: &str) {
    let keys = Keys::of_file(document);
    if let Ok(keys) = &keys {
        // What is published is no secret.
        for algorithm in AlgorithmFamily::Hmac.algorithms() {
            assert!(keys.candidates(None, *algorithm).next().is_none());
        }
    }
    let Ok(read) = dangerous::insecure_decode::<Value>(token) else { return };
    let (id, algorithm) = (read.header.kid.as_deref(), read.header.alg);
    let Ok(keys) = keys else { return };
    for key in keys.candidates(id, algorithm) {
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_aud = false;
        let _ = decode::<Value>(token, &key.key, &validation);
    }
}
