//! Signs what goes out, and believes of what comes in only what a node of this cluster signed. What it refuses
//! is counted, and named in the log now and then, without its contents.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::client::traits::Publisher as _;
use async_nats::message::OutboundMessage;
use async_nats::{Client, HeaderMap, Message, PublishError, PublishErrorKind, Subject};
use bytes::Bytes;
use uuid::Uuid;

use super::age::now_ms;
use super::replays::{Replays, Way};
use super::signature::{Keyring, Keys, Purpose, Signature};
use crate::lifecycle::Seldom;
use crate::ports::{BusError, Refusal, Refusals};

/// In a header, so that a version that knows no signatures reads the message all the same.
const HEADER: &str = "Holdfast-Signature";

/// Of one process; a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Without one nothing is signed, and everything believed.
    keyring: Option<Keyring>,
    accept_unsigned: bool,
    sender: [u8; 16],
    signed: AtomicU64,
    refusals: Refusals,
    said: [Seldom; Refusal::ALL.len()],
}

impl Guard {
    /// `None` if the key that is to sign is not there.
    pub(super) fn new(keys: Option<&Keys>) -> Option<Self> {
        let keyring = match keys {
            Some(keys) => Some(Keyring::new(keys)?),
            None => None,
        };
        Some(Self(Arc::new(Inner {
            keyring,
            accept_unsigned: keys.is_some_and(|keys| keys.accept_unsigned),
            sender: Uuid::new_v4().into_bytes(),
            signed: AtomicU64::new(0),
            refusals: Refusals::default(),
            said: Default::default(),
        })))
    }

    pub(super) fn refusals(&self) -> Refusals {
        self.0.refusals.clone()
    }

    /// Whether anything is to be believed only if it is signed.
    pub(super) fn asks_for_signatures(&self) -> bool {
        self.0.keyring.is_some() && !self.0.accept_unsigned
    }

    /// Just before it is handed over: numbers have to go out nearly in order.
    pub(super) fn sign(&self, purpose: Purpose<'_>, payload: &[u8]) -> Option<Signature> {
        let keyring = self.0.keyring.as_ref()?;
        let number = self.0.signed.fetch_add(1, Ordering::Relaxed) + 1;
        Some(keyring.sign(purpose, self.0.sender, number, now_ms(), payload))
    }

    /// Whether a message may be taken, and by what it was signed: by a node of this cluster, for this way, now,
    /// and not here before.
    pub(super) fn admit(
        &self,
        message: &Message,
        way: Way,
        replays: &Replays,
    ) -> Result<Option<Signature>, Refusal> {
        let signature = self.verified(message, Purpose::To(&message.subject)).and_then(|signature| {
            let Some(signature) = signature else { return Ok(None) };
            let now = now_ms();
            if !signature.is_of(now) {
                return Err(Refusal::Stale);
            }
            replays.note(way, &signature, now).map(|()| Some(signature))
        });
        signature.inspect_err(|refusal| self.refused(message, *refusal))
    }

    /// Whether a message answers the question that was signed so. It needs no time of its own, and comes once:
    /// no other question has that signature, and nobody waits for a second answer.
    pub(super) fn admit_answer(&self, message: &Message, question: Option<&Signature>) -> bool {
        let verified = self.verified(message, Purpose::Answer(question));
        verified.inspect_err(|refusal| self.refused(message, *refusal)).is_ok()
    }

    fn verified(&self, message: &Message, purpose: Purpose<'_>) -> Result<Option<Signature>, Refusal> {
        let Some(keyring) = &self.0.keyring else { return Ok(None) };
        match message.headers.as_ref().and_then(|headers| headers.get(HEADER)) {
            Some(signature) => keyring.verify(purpose, signature.as_str(), &message.payload).map(Some),
            None if self.0.accept_unsigned => {
                self.0.refusals.count_taken_unsigned();
                Ok(None)
            }
            None => Err(Refusal::Unsigned),
        }
    }

    fn refused(&self, message: &Message, refusal: Refusal) {
        self.0.refusals.count(refusal);
        if let Some(unsaid) = self.0.said[refusal as usize].again() {
            tracing::warn!(subject = %message.subject, reason = %refusal, unsaid, "a message between nodes is refused");
        }
    }
}

/// Hands a message to the client.
pub(super) async fn publish(
    client: &Client,
    subject: Subject,
    reply: Option<Subject>,
    signature: Option<&Signature>,
    payload: Bytes,
) -> Result<(), BusError> {
    let headers = signature.map(|signature| {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, signature.to_string());
        headers
    });
    let message = OutboundMessage { subject, reply, payload, headers };
    client.publish_message(message).await.map_err(|error: PublishError| match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => BusError::TooLarge,
        PublishErrorKind::InvalidSubject | PublishErrorKind::Send => BusError::Unavailable,
    })
}

#[cfg(test)]
mod tests {
    use super::super::age::STALE_MS;
    use super::*;

    const SUBJECT: &str = "holdfast.v1.node.b";

    fn keys(accept_unsigned: bool) -> Keys {
        let known = [("a".to_owned(), vec![1; 32])].into();
        Keys { known, signing: "a".to_owned(), accept_unsigned }
    }

    fn guard(accept_unsigned: bool) -> Guard {
        Guard::new(Some(&keys(accept_unsigned))).unwrap()
    }

    fn message(signature: Option<&Signature>) -> Message {
        let headers = signature.map(|signature| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, signature.to_string());
            headers
        });
        let (subject, payload) = (SUBJECT.into(), Bytes::from_static(b"x"));
        Message { subject, reply: None, payload, headers, status: None, description: None, length: 0 }
    }

    fn signed_at(at: u64) -> Message {
        let keyring = Keyring::new(&keys(false)).unwrap();
        message(Some(&keyring.sign(Purpose::To(SUBJECT), [1; 16], at, at, b"x")))
    }

    #[test]
    fn what_is_of_another_time_is_refused_and_what_was_here_before() {
        let (guard, replays, now) = (guard(false), Replays::default(), now_ms());
        let admit = |message: &Message| guard.admit(message, Way::Direct, &replays).map(|_| ());
        // Both ends leave a moment for this test.
        for good in [now - STALE_MS + 5000, now + STALE_MS] {
            assert_eq!(admit(&signed_at(good)), Ok(()));
            assert_eq!(admit(&signed_at(good)), Err(Refusal::Replayed));
        }
        for strange in [now - STALE_MS - 1, now + STALE_MS + 5000, 1, u64::MAX] {
            assert_eq!(admit(&signed_at(strange)), Err(Refusal::Stale));
        }
        let counts = Refusal::ALL.map(|refusal| guard.refusals().of(refusal));
        assert_eq!(counts, [0, 0, 0, 4, 2, 0]);
    }

    #[test]
    fn what_is_not_signed_is_taken_by_those_who_have_no_keys_or_are_told_to() {
        let replays = Replays::default();
        let admit = |guard: &Guard, message| guard.admit(&message, Way::All, &replays).map(|_| ());
        let (open, told) = (Guard::new(None).unwrap(), guard(true));
        assert!(open.sign(Purpose::To(SUBJECT), b"x").is_none());
        assert_eq!((admit(&open, message(None)), admit(&told, message(None))), (Ok(()), Ok(())));
        assert_eq!((open.refusals().taken_unsigned(), told.refusals().taken_unsigned()), (0, 1));
        let strange = Keyring::new(&keys(false)).unwrap().sign(Purpose::To("x"), [1; 16], 1, now_ms(), b"x");
        assert_eq!(admit(&open, message(Some(&strange))), Ok(()));
        let refused = admit(&told, message(Some(&strange)));
        assert_eq!(refused, Err(Refusal::BadSignature), "what is signed is looked at all the same");
        assert_eq!(admit(&guard(false), message(None)), Err(Refusal::Unsigned));
    }

    #[test]
    fn an_answer_belongs_to_one_question() {
        let (guard, other) = (guard(false), guard(false));
        let question = guard.sign(Purpose::To(SUBJECT), b"x").unwrap();
        let again = guard.sign(Purpose::To(SUBJECT), b"x").unwrap();
        let answer = message(other.sign(Purpose::Answer(Some(&question)), b"x").as_ref());
        assert!(guard.admit_answer(&answer, Some(&question)));
        assert!(!guard.admit_answer(&answer, Some(&again)) && !guard.admit_answer(&answer, None));
    }
}
