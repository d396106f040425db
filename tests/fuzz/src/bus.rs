//! What nodes tell each other, as anybody who reaches the NATS may send it.

use bytes::Bytes;

use crate::signature::{Keyring, Keys, Purpose};
use crate::{head, wire};

fn keyring() -> Keyring {
    let known = [("a".to_owned(), vec![1; 32])].into();
    Keyring::new(&Keys { known, signing: "a".to_owned(), accept_unsigned: false }).expect("it has that key")
}

/// Nothing that was not signed here is believed, and what was is.
pub fn signatures(text: &str, payload: &[u8]) {
    let (keyring, purpose) = (keyring(), Purpose::To("holdfast.v1.node.b"));
    assert!(keyring.verify(purpose, text, payload).is_err(), "nobody can have signed it");
    let good = keyring.sign(purpose, [7; 16], 1, 2, payload);
    assert_eq!(keyring.verify(purpose, &good.to_string(), payload), Ok(good));
}

/// A parcel that can be read is the same after it was written.
pub fn parcels(bytes: &[u8]) {
    let Ok((parcel, at)) = wire::decode(&Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(wire::decode(&wire::encode(&parcel, at)), Ok((parcel, at)));
}

/// The same of the head of a relayed request or answer.
pub fn heads(bytes: &[u8]) {
    let Some((first, headers)) = head::decode(bytes) else { return };
    let again = head::encode(first, &headers);
    assert_eq!(head::decode(&again), Some((first, headers)));
}
