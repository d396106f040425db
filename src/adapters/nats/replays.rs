//! Which signed messages were here before. A sender's numbers only rise, and each subject brings them nearly in
//! order: so the highest one and a window below it are all that is to be remembered (as in RFC 4303, 3.4.3).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::age::STALE_MS;
use super::signature::Signature;
use crate::ports::{Lane, Refusal};

/// By how much a message may be overtaken. Tasks of one node that send at the same moment overtake each other
/// by a few; one that is held up for long between its number and the client's queue, by some thousands.
const WINDOW: u64 = 8192;

const WORD: u64 = u64::BITS as u64;

/// Where a message came in. Each way keeps its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Direct,
    All,
    Relays,
    Pings,
}

impl Way {
    pub(super) const fn of(lane: Lane) -> Self {
        match lane {
            Lane::Direct => Self::Direct,
            Lane::All => Self::All,
        }
    }
}

/// What one node was sent. As much is kept as there are nodes that sent something lately, since nobody else can
/// make a sender.
#[derive(Debug, Default)]
pub(super) struct Replays(Mutex<HashMap<(Way, [u8; 16]), Sender>>);

#[derive(Debug)]
struct Sender {
    window: Window,
    /// The latest time of its messages: once that is stale, all of them are.
    at: u64,
}

impl Replays {
    /// Notes a message that is of now, unless it was noted before, or is too far behind to tell.
    pub(super) fn note(&self, way: Way, signature: &Signature, now: u64) -> Result<(), Refusal> {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (way, signature.sender);
        if !senders.contains_key(&key) {
            senders.retain(|_, sender| sender.at.saturating_add(STALE_MS) >= now);
        }
        let sender = senders.entry(key).or_insert_with(|| Sender { window: Window::new(), at: 0 });
        sender.at = sender.at.max(signature.at);
        sender.window.note(signature.number)
    }
}

/// The highest number, and which of those below it there were: a ring of bits.
#[derive(Debug)]
struct Window {
    top: u64,
    seen: Box<[u64]>,
}

impl Window {
    /// Numbers begin at 1.
    fn new() -> Self {
        Self { top: 0, seen: vec![0; (WINDOW / WORD) as usize].into() }
    }

    fn note(&mut self, number: u64) -> Result<(), Refusal> {
        if number == 0 || self.top.saturating_sub(number) >= WINDOW {
            return Err(Refusal::Overtaken);
        }
        // What takes the place of a number that left the window has not been seen.
        for passed in self.top.max(number.saturating_sub(WINDOW))..number {
            *self.word(passed + 1) &= !bit(passed + 1);
        }
        self.top = self.top.max(number);
        let word = self.word(number);
        let new = *word & bit(number) == 0;
        *word |= bit(number);
        if new { Ok(()) } else { Err(Refusal::Replayed) }
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        &mut self.seen[(number % WINDOW / WORD) as usize]
    }
}

const fn bit(number: u64) -> u64 {
    1 << (number % WORD)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::signature::{Keyring, Keys, Purpose};
    use super::*;

    fn message(sender: u8, number: u64, at: u64) -> Signature {
        let known = BTreeMap::from([("a".to_owned(), vec![1; 32])]);
        let keyring = Keyring::new(&Keys { known, signing: "a".to_owned(), accept_unsigned: false }).unwrap();
        keyring.sign(Purpose::To("x"), [sender; 16], number, at, b"")
    }

    proptest! {
        #[test]
        fn a_window_takes_each_number_once(
            numbers in prop::collection::vec(
                prop_oneof![1..50_u64, 1..20_000_u64, u64::MAX - 9_000..=u64::MAX],
                1..60,
            ),
        ) {
            let (mut window, mut seen, mut top) = (Window::new(), BTreeSet::new(), 0);
            for number in numbers {
                let in_window = number > top || top - number < WINDOW;
                let expected = match in_window {
                    false => Err(Refusal::Overtaken),
                    true if seen.insert(number) => Ok(()),
                    true => Err(Refusal::Replayed),
                };
                prop_assert_eq!(window.note(number), expected, "{}", number);
                top = top.max(number);
            }
        }
    }

    #[test]
    fn what_was_overtaken_is_taken_once_and_what_is_far_behind_never_though_it_may_be_new() {
        let replays = Replays::default();
        let note = |number| replays.note(Way::Direct, &message(1, number, 1_000_000), 1_000_000);
        let (replayed, overtaken) = (Err(Refusal::Replayed), Err(Refusal::Overtaken));
        assert_eq!([WINDOW + 10, 11, 10, WINDOW + 9].map(note), [Ok(()), Ok(()), overtaken, Ok(())]);
        assert_eq!([WINDOW + 10, 11, WINDOW + 9, 0].map(note), [replayed, replayed, replayed, overtaken]);
    }

    #[test]
    fn senders_and_ways_are_apart_and_forgotten_once_all_of_theirs_is_stale() {
        let replays = Replays::default();
        let at = 1_000_000;
        for (sender, way) in [(1, Way::Direct), (1, Way::All), (2, Way::Direct)] {
            assert_eq!(replays.note(way, &message(sender, 1, at), at), Ok(()));
            assert_eq!(replays.note(way, &message(sender, 1, at), at), Err(Refusal::Replayed));
        }
        // The latest one counts, even of a clock that is ahead.
        assert_eq!(replays.note(Way::Direct, &message(1, 2, at + STALE_MS), at), Ok(()));
        let later = at + 2 * STALE_MS;
        assert_eq!(replays.note(Way::Direct, &message(3, 1, later), later), Ok(()));
        let left: Vec<_> = replays.0.lock().unwrap().keys().map(|(_, sender)| sender[0]).collect();
        assert_eq!(left.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&1, &3]));
        let again = replays.note(Way::Direct, &message(1, 1, at + STALE_MS), later);
        assert_eq!(again, Err(Refusal::Replayed));
    }
}
