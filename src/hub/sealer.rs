//! Sealing what the shared state keeps and nobody but the nodes may read: AES-256-GCM (RFC 5116) with a key that is
//! derived (HKDF, RFC 5869) for what it belongs to, so that it can't be given to anything else.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

/// No other use of a cluster's key makes the same keys.
const DOMAIN: &[u8] = b"holdfast sealed 1";

/// The format of what is sealed.
const FORMAT: &str = "1";

/// The keys of a cluster; whatever one of them sealed can be opened.
pub struct Sealer {
    known: BTreeMap<String, Prk>,
    sealing: String,
    random: SystemRandom,
}

impl Sealer {
    /// Seals with the key of the name `sealing`. Without any, with one that ends with this process.
    #[must_use]
    pub fn new<'a>(known: impl Iterator<Item = (&'a str, &'a [u8])>, sealing: Option<&str>) -> Self {
        let random = SystemRandom::new();
        let salt = Salt::new(HKDF_SHA256, DOMAIN);
        let mut known: BTreeMap<_, _> =
            known.map(|(name, secret)| (name.to_owned(), salt.extract(secret))).collect();
        let sealing = sealing.filter(|name| known.contains_key(*name)).unwrap_or_default().to_owned();
        if sealing.is_empty() {
            let mut secret = [0; 32];
            random.fill(&mut secret).expect("the system has random bytes");
            known.insert(String::new(), salt.extract(&secret));
        }
        Self { known, sealing, random }
    }

    /// What only [`Self::open`] reads, and only as belonging to `what`.
    pub(super) fn seal(&self, what: &str, plain: &[u8]) -> String {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the system has random bytes");
        let mut bytes = plain.to_vec();
        let key = derived(&self.known[&self.sealing], what);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)
            .expect("it is shorter than 64 GiB");
        format!("{FORMAT} {} {}", self.sealing, URL_SAFE_NO_PAD.encode([&nonce[..], &bytes].concat()))
    }

    /// `None` if it was not sealed as that, or with a key that is no longer known.
    pub(super) fn open(&self, what: &str, sealed: &str) -> Option<Vec<u8>> {
        let (name, text) = sealed.strip_prefix(FORMAT)?.strip_prefix(' ')?.split_once(' ')?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, bytes) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = bytes.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain =
            derived(self.known.get(name)?, what).open_in_place(nonce, Aad::empty(), &mut bytes).ok()?;
        Some(plain.to_vec())
    }
}

fn derived(key: &Prk, what: &str) -> LessSafeKey {
    let info = [what.as_bytes()];
    let key = key.expand(&info, &AES_256_GCM).expect("a key is shorter than what HKDF makes at most");
    LessSafeKey::new(UnboundKey::from(key))
}

/// Names only.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("known", &self.known.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: (&str, &[u8]) = ("old", &[1; 32]);
    const NEW: (&str, &[u8]) = ("new", &[2; 32]);

    fn of(known: &[(&'static str, &'static [u8])], sealing: Option<&str>) -> Sealer {
        Sealer::new(known.iter().copied(), sealing)
    }

    #[test]
    fn what_was_sealed_is_opened_as_long_as_its_key_is_known() {
        let sealed = of(&[OLD], Some("old")).seal("a", b"secret");
        assert_eq!(of(&[OLD, NEW], Some("new")).open("a", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(of(&[NEW], Some("new")).open("a", &sealed), None);
        assert!(!sealed.contains("secret") && !format!("{:?}", of(&[OLD], Some("old"))).contains('1'));
    }

    #[test]
    fn it_is_nobody_elses_and_not_changed() {
        let sealer = of(&[OLD], Some("old"));
        let sealed = sealer.seal("a", b"secret");
        assert_ne!(sealed, sealer.seal("a", b"secret"));
        assert_eq!(sealer.open("b", &sealed), None);
        assert_eq!(of(&[("old", &[3; 32])], Some("old")).open("a", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8_lossy(&changed).into_owned();
            assert_eq!(sealer.open("a", &changed), None, "{changed}");
        }
        for text in ["", "1", "1 ", "1 old", "1 old ", "1 old AAAA", "2 old AAAA"] {
            assert_eq!(sealer.open("a", text), None, "{text}");
        }
    }

    #[test]
    fn without_keys_it_is_this_processs_own() {
        let (one, other) = (of(&[], None), of(&[], None));
        let sealed = one.seal("a", b"");
        assert_eq!(one.open("a", &sealed).as_deref(), Some(&b""[..]));
        assert_eq!(other.open("a", &sealed), None);
    }
}
