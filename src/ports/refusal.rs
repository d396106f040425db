//! What a bus did not believe: messages that nothing shows to come from a node of this cluster. They are
//! dropped and counted; the counts are what operators see of an attack, or of keys that don't match. So are messages
//! that not even its client could read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a message was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is not signed")]
    Unsigned,
    #[error("it is signed with a key that this node does not have")]
    UnknownKey,
    #[error("its signature belongs to something else")]
    BadSignature,
    #[error("it is too old, or a clock is wrong")]
    Stale,
    #[error("it has been here before")]
    Replayed,
    #[error("too many overtook it to tell whether it has been here before")]
    Overtaken,
}

impl Refusal {
    pub const ALL: [Self; 6] =
        [Self::Unsigned, Self::UnknownKey, Self::BadSignature, Self::Stale, Self::Replayed, Self::Overtaken];
}

/// How many messages were refused, how many were taken that prove nothing, and how many clients gave up; a cheap
/// handle.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    refused: [AtomicU64; Refusal::ALL.len()],
    unsigned: AtomicU64,
    replaced: AtomicU64,
}

impl Refusals {
    pub fn count(&self, refusal: Refusal) {
        self.0.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0.refused[refusal as usize].load(Ordering::Relaxed)
    }

    /// Counts an unsigned message that is taken all the same, while not every node signs yet.
    pub fn count_taken_unsigned(&self) {
        self.0.unsigned.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn taken_unsigned(&self) -> u64 {
        self.0.unsigned.load(Ordering::Relaxed)
    }

    /// Counts a client of the bus that gave up, and whose place another takes.
    pub fn count_replaced_client(&self) {
        self.0.replaced.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn replaced_clients(&self) -> u64 {
        self.0.replaced.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_apart() {
        let refusals = Refusals::default();
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| refusals.clone().count(refusal));
        }
        assert_eq!(Refusal::ALL.map(|refusal| refusals.of(refusal)), [1, 2, 3, 4, 5, 6]);
    }
}
