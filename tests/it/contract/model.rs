//! One stream against a model that is too simple to be wrong: a list of all events ever appended, each
//! with its age and cost. A client that resumes at any position it was given gets exactly what
//! followed, or is told; and it is told only if the bounds say so.

use std::time::Duration;

use holdfast::domain::{EventNumber, Fence};
use holdfast::ports::{Append, Appended, Attached, Bounds, LogBounds, SessionStore};
use proptest::prelude::*;

use super::{attach, bounds, get_stream, message, opened};

/// What every adapter reckons an event to cost beside its payload.
const EVENT_COST_BYTES: usize = 64;

pub(crate) const LOG: LogBounds = LogBounds {
    events_max: 6,
    event_ttl: Duration::from_secs(600),
    stream_bytes_max: 600,
    session_bytes_max: 1 << 20,
};

#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// So many bytes.
    Append(usize),
    /// The last append comes again.
    Repeat,
    /// Resume at one of the positions seen so far.
    Resume(prop::sample::Index),
    /// Attach without a position.
    Attach,
    Release,
    /// So many seconds.
    Pass(u64),
}

/// Time is passed only where it is free.
pub(crate) fn actions(passing: bool) -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        8 => (0usize..250).prop_map(Action::Append),
        2 => Just(Action::Repeat),
        8 => any::<prop::sample::Index>().prop_map(Action::Resume),
        3 => Just(Action::Attach),
        2 => Just(Action::Release),
        u32::from(passing) * 3 => (0u64..400).prop_map(Action::Pass),
    ];
    prop::collection::vec(action, 1..60)
}

struct Appending {
    number: EventNumber,
    cost: usize,
    at: tokio::time::Instant,
}

/// The first entry is the position that the stream started with.
struct Model {
    all: Vec<Appending>,
    kept: usize,
    fence: Option<Fence>,
    newest: Fence,
    /// After which entry nobody held the stream.
    unheld: Option<usize>,
}

impl Model {
    fn trim(&mut self) {
        let bytes = |model: &Self| model.all[model.kept..].iter().map(|event| event.cost).sum::<usize>();
        while self.all.len() - self.kept > LOG.events_max
            || bytes(self) > LOG.stream_bytes_max
            || self.all.get(self.kept).is_some_and(|event| event.at.elapsed() >= LOG.event_ttl)
        {
            self.kept += 1;
        }
    }

    fn numbers(&self, after: usize) -> Vec<EventNumber> {
        self.all[after + 1..].iter().map(|event| event.number).collect()
    }

    /// What an attach must answer from this entry on.
    fn bound(&mut self, attached: &Attached, start: usize) {
        let Attached::Bound { fence, tail, previous, .. } = attached else { panic!("{attached:?}") };
        assert!(*fence > self.newest, "fences grow");
        assert_eq!(previous.as_ref().map(|binding| binding.fence), self.fence);
        assert_eq!(tail.after, self.all[start].number);
        let got: Vec<_> = tail.events.iter().map(|event| event.number).collect();
        assert_eq!(got, self.numbers(start));
        let chain = std::iter::once(tail.after).chain(got);
        assert!(tail.events.iter().zip(chain).all(|(event, before)| event.previous == before));
        (self.fence, self.newest, self.unheld) = (Some(*fence), *fence, None);
    }
}

pub(crate) async fn run(store: &dyn SessionStore, actions: Vec<Action>) {
    let stream = get_stream(&opened(store).await);
    let Attached::Bound { fence, tail, .. } = store.attach(&attach(&stream, "a", None)).await.unwrap() else {
        panic!("not bound")
    };
    let start = Appending { number: tail.after, cost: 0, at: tokio::time::Instant::now() };
    let mut model = Model { all: vec![start], kept: 1, fence: Some(fence), newest: fence, unheld: None };
    let mut last: Option<Append> = None;
    for action in actions {
        model.trim();
        match action {
            Action::Append(bytes) => {
                let append = message(&stream, &"x".repeat(bytes));
                let appended = store.append(&append).await.unwrap();
                let Appended::Logged { number, previous, binding, ended } = appended else {
                    panic!("{appended:?}")
                };
                let top = model.all.last().unwrap().number;
                assert!(number > top && previous == top && !ended);
                assert_eq!(binding.map(|binding| binding.fence), model.fence);
                if model.fence.is_none() {
                    model.unheld.get_or_insert(model.all.len() - 1);
                }
                let cost = bytes + EVENT_COST_BYTES;
                model.all.push(Appending { number, cost, at: tokio::time::Instant::now() });
                last = Some(append);
            }
            Action::Repeat => {
                let Some(append) = &last else { continue };
                let appended = store.append(append).await.unwrap();
                let Appended::Logged { number, .. } = appended else { panic!("{appended:?}") };
                assert_eq!(number, model.all.last().unwrap().number);
            }
            Action::Resume(index) => {
                let at = index.index(model.all.len());
                let position = Some(model.all[at].number);
                let attached = store.attach(&attach(&stream, "a", position)).await.unwrap();
                if at + 1 >= model.kept {
                    model.bound(&attached, at);
                } else {
                    let (top, rest) = (model.all.last().unwrap().number, model.all[model.kept - 1].number);
                    assert_eq!(attached, Attached::Lost { top, rest });
                }
            }
            Action::Attach => {
                let top = model.all.len() - 1;
                let start = model.unheld.map_or(top, |unheld| unheld.max(model.kept - 1));
                let attached = store.attach(&attach(&stream, "a", None)).await.unwrap();
                model.bound(&attached, start);
            }
            Action::Release => {
                store.release(&stream, model.newest).await.unwrap();
                model.fence = None;
            }
            Action::Pass(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn resuming_anywhere_gives_exactly_the_rest_or_says_lost(actions in actions(true)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            // Made in here: its clock must be the paused one.
            let store = holdfast::adapters::memory::MemorySessionStore::new(Bounds { log: LOG, ..bounds() });
            run(&store, actions).await;
        });
    }
}
