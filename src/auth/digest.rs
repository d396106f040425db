//! What secrets are known by, instead of by themselves.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(text: &str) -> Digest {
    Sha256::digest(text).into()
}

pub(super) fn hexadecimal(digest: Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
