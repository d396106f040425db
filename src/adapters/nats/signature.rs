//! Signatures of messages between nodes: HMAC-SHA256 under a key that only the cluster's nodes have, over what
//! the message is for, who sent it as which, when, and its bytes. Whether it came before is asked elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::age::STALE_MS;
use crate::ports::Refusal;

/// What is signed begins with it, so that no other use of the key makes the same bytes.
const DOMAIN: &[u8] = b"holdfast between nodes 1";

/// The format of a signature's text.
const FORMAT: &str = "1";

const SENDER: usize = 16;
const CODE: usize = 32;
const WHOLE: usize = SENDER + 8 + 8 + CODE;

/// The keys of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// By name; whatever one of them signed is taken.
    pub known: BTreeMap<String, Vec<u8>>,
    /// Which of them signs.
    pub signing: String,
    /// What is not signed is taken as well, while not every node signs yet.
    pub accept_unsigned: bool,
}

/// Names only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("known", &self.known.keys())
            .field("signing", &self.signing)
            .field("accept_unsigned", &self.accept_unsigned)
            .finish()
    }
}

/// What a message is for. A signature holds for nothing else.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// It goes to this subject, which names its receiver and its kind.
    To(&'a str),
    /// It answers the question that was signed so. The subject on which it comes is left out: NATS renames
    /// those of answers where accounts meet.
    Answer(Option<&'a Signature>),
}

impl Purpose<'_> {
    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::To(subject) => (0, subject.as_bytes()),
            Self::Answer(question) => (1, question.map_or(&[], |question| &question.code)),
        }
    }
}

/// Who sent a message, as its how manieth, and when; and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    key: String,
    /// One connected process, for as long as it lives.
    pub sender: [u8; SENDER],
    /// No message of the sender's has the same.
    pub number: u64,
    /// The sender's Unix time in ms.
    pub at: u64,
    code: [u8; CODE],
}

impl Signature {
    /// Whether it is of now, give or take what clocks may differ.
    pub(super) const fn is_of(&self, now: u64) -> bool {
        self.at.abs_diff(now) <= STALE_MS
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (format, key, rest) = (words.next()?, words.next()?, words.next()?);
        if format != FORMAT || words.next().is_some() {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(rest).ok().filter(|bytes| bytes.len() == WHOLE)?;
        let (sender, bytes) = bytes.split_first_chunk()?;
        let (number, bytes) = bytes.split_first_chunk()?;
        let (at, code) = bytes.split_first_chunk()?;
        let (number, at) = (u64::from_be_bytes(*number), u64::from_be_bytes(*at));
        Some(Self { key: key.to_owned(), sender: *sender, number, at, code: code.try_into().ok()? })
    }
}

/// As it travels.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, sender, number, at, code } = self;
        let bytes = [&sender[..], &number.to_be_bytes(), &at.to_be_bytes(), code].concat();
        write!(f, "{FORMAT} {key} {}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Signs, and looks at signatures.
pub(super) struct Keyring {
    known: BTreeMap<String, Hmac<Sha256>>,
    signing: (String, Hmac<Sha256>),
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("known", &self.known.keys()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// `None` if the key that is to sign is not there.
    pub(super) fn new(keys: &Keys) -> Option<Self> {
        let ready = |(name, secret): (&String, &Vec<u8>)| {
            let code = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
            (name.clone(), code)
        };
        let known: BTreeMap<_, _> = keys.known.iter().map(ready).collect();
        let signing = known.get_key_value(&keys.signing).map(|(name, code)| (name.clone(), code.clone()))?;
        Some(Self { known, signing })
    }

    pub(super) fn sign(
        &self,
        purpose: Purpose<'_>,
        sender: [u8; SENDER],
        number: u64,
        at: u64,
        payload: &[u8],
    ) -> Signature {
        let (name, key) = &self.signing;
        let mut signature = Signature { key: name.clone(), sender, number, at, code: [0; CODE] };
        signature.code = stated(key, purpose, &signature, payload).finalize().into_bytes().into();
        signature
    }

    /// Whether a node of this cluster signed this, at whatever time. Takes as long for a wrong signature as for
    /// a right one.
    pub(super) fn verify(
        &self,
        purpose: Purpose<'_>,
        signature: &str,
        payload: &[u8],
    ) -> Result<Signature, Refusal> {
        let signature = Signature::parse(signature).ok_or(Refusal::BadSignature)?;
        let key = self.known.get(&signature.key).ok_or(Refusal::UnknownKey)?;
        match stated(key, purpose, &signature, payload).verify_slice(&signature.code) {
            Ok(()) => Ok(signature),
            Err(_) => Err(Refusal::BadSignature),
        }
    }
}

/// Every part but the last has a length that is known or stated: no two messages make the same bytes.
fn stated(key: &Hmac<Sha256>, purpose: Purpose<'_>, signature: &Signature, payload: &[u8]) -> Hmac<Sha256> {
    let (kind, of) = purpose.parts();
    let mut code = key.clone();
    code.update(DOMAIN);
    code.update(&[kind]);
    code.update(&(of.len() as u64).to_be_bytes());
    code.update(of);
    code.update(&signature.sender);
    code.update(&signature.number.to_be_bytes());
    code.update(&signature.at.to_be_bytes());
    code.update(payload);
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENDER_ONE: [u8; SENDER] = [7; SENDER];
    const NODE: Purpose<'_> = Purpose::To("holdfast.v1.node.b");

    fn keys(named: &[(&str, u8)], signing: &str) -> Keys {
        let known = named.iter().map(|(name, byte)| ((*name).to_owned(), vec![*byte; 32])).collect();
        Keys { known, signing: signing.to_owned(), accept_unsigned: false }
    }

    fn keyring(named: &[(&str, u8)], signing: &str) -> Keyring {
        Keyring::new(&keys(named, signing)).unwrap()
    }

    fn signed(keyring: &Keyring, purpose: Purpose<'_>) -> Signature {
        keyring.sign(purpose, SENDER_ONE, 1, 1_000_000, b"payload")
    }

    #[test]
    fn each_node_takes_what_any_of_its_keys_signed() {
        let (old, new) = (keyring(&[("a", 1), ("b", 2)], "a"), keyring(&[("a", 1), ("b", 2)], "b"));
        for (sender, receiver) in [(&old, &new), (&new, &old), (&old, &old)] {
            let signature = signed(sender, NODE);
            assert_eq!(receiver.verify(NODE, &signature.to_string(), b"payload"), Ok(signature));
        }
        let gone = keyring(&[("b", 2)], "b");
        let refused = gone.verify(NODE, &signed(&old, NODE).to_string(), b"payload");
        assert_eq!(refused, Err(Refusal::UnknownKey));
        let namesake = keyring(&[("a", 3)], "a");
        let refused = namesake.verify(NODE, &signed(&old, NODE).to_string(), b"payload");
        assert_eq!(refused, Err(Refusal::BadSignature));
        assert!(Keyring::new(&keys(&[("a", 1)], "b")).is_none());
    }

    #[test]
    fn it_holds_for_one_purpose_only() {
        let keyring = keyring(&[("a", 1)], "a");
        let (question, other) = (signed(&keyring, NODE), keyring.sign(NODE, SENDER_ONE, 2, 1, b"payload"));
        let purposes = [
            NODE,
            Purpose::To("holdfast.v1.node.c"),
            Purpose::To("holdfast.v1.all"),
            Purpose::To("holdfast.v1.relay.b"),
            Purpose::To("holdfast.v1.node."),
            Purpose::To(""),
            Purpose::Answer(None),
            Purpose::Answer(Some(&question)),
            Purpose::Answer(Some(&other)),
        ];
        for (index, signed_for) in purposes.into_iter().enumerate() {
            let signature = signed(&keyring, signed_for).to_string();
            for (taken, taken_for) in purposes.into_iter().enumerate() {
                let verified = keyring.verify(taken_for, &signature, b"payload");
                assert_eq!(verified.is_ok(), taken == index, "{signed_for:?} {taken_for:?}");
            }
        }
    }

    /// As another implementation of HMAC-SHA256 makes it.
    #[test]
    fn what_is_signed_stays_what_it_is() {
        let keyring = keyring(&[("a", 1)], "a");
        let signature = keyring.sign(NODE, SENDER_ONE, 5, 1_000_000, b"payload");
        let code: String = signature.code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(code, "904760a2eb85defa470199b9094eab06470465968bb6e7cab5c39d23c6d1ab05");
    }

    #[test]
    fn text_that_is_no_signature_is_a_bad_one() {
        let keyring = keyring(&[("a", 1)], "a");
        let good = signed(&keyring, NODE).to_string();
        let cut = &good[..good.len() - 1];
        for text in ["", "1", "1 a", "1 a ", &good[2..], cut, &format!("{good} "), &format!("{good}AAAA")] {
            assert_eq!(keyring.verify(NODE, text, b"payload"), Err(Refusal::BadSignature), "{text:?}");
        }
        let later = good.replacen('1', "2", 1);
        assert_eq!(keyring.verify(NODE, &later, b"payload"), Err(Refusal::BadSignature));
    }

    #[test]
    fn it_is_of_its_time() {
        let signature = signed(&keyring(&[("a", 1)], "a"), NODE);
        let at = signature.at;
        for now in [at, at + STALE_MS, at - STALE_MS] {
            assert!(signature.is_of(now));
        }
        for now in [at + STALE_MS + 1, at - STALE_MS - 1, 0, u64::MAX] {
            assert!(!signature.is_of(now));
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let keys = keys(&[("a", 222)], "a");
        let printed = format!("{keys:?} {:?}", Keyring::new(&keys));
        assert!(printed.contains('a') && !printed.contains("222"), "{printed}");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(1 a )?.{0,100}") {
            prop_assert!(keyring(&[("a", 1)], "a").verify(NODE, &text, b"payload").is_err());
        }

        #[test]
        fn a_flipped_bit_is_noticed(
            payload in prop::collection::vec(any::<u8>(), 0..64),
            number: u64,
            at: u64,
            bit: prop::sample::Index,
        ) {
            let keyring = keyring(&[("a", 1), ("b", 2)], "a");
            let signature = keyring.sign(NODE, SENDER_ONE, number, at, &payload);
            prop_assert_eq!(keyring.verify(NODE, &signature.to_string(), &payload), Ok(signature.clone()));
            let mut bytes = [payload.clone(), signature.to_string().into_bytes()].concat();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (payload, text) = bytes.split_at(payload.len());
            // What is no text is no signature either.
            if let Ok(text) = std::str::from_utf8(text) {
                prop_assert!(keyring.verify(NODE, text, payload).is_err());
            }
        }
    }
}
