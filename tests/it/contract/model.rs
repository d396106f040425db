//! One stream against a model that is too simple to be wrong: a list of all events ever appended. A
//! client that resumes at any position it was given gets exactly what followed, or is told.

use holdfast::domain::EventNumber;
use holdfast::ports::{Attached, Bounds, LogBounds, SessionStore as _};
use proptest::prelude::*;

use super::{attach, bounds, get_stream, logged, message, opened};

#[derive(Debug, Clone)]
enum Action {
    Append(usize),
    /// Resume at one of the positions seen so far.
    Resume(prop::sample::Index),
    Release,
    Pass(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1usize..40).prop_map(Action::Append),
        3 => any::<prop::sample::Index>().prop_map(Action::Resume),
        1 => Just(Action::Release),
        1 => (0u64..400).prop_map(Action::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn resuming_anywhere_gives_exactly_the_rest_or_says_lost(actions in prop::collection::vec(action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(actions));
    }
}

async fn run(actions: Vec<Action>) {
    let log = LogBounds { events_max: 6, stream_bytes_max: 120, ..bounds().log };
    let store = holdfast::adapters::memory::MemorySessionStore::new(Bounds { log, ..bounds() });
    let stream = get_stream(&opened(&store).await);
    let Attached::Bound { mut fence, tail, .. } = store.attach(&attach(&stream, "a", None)).await.unwrap()
    else {
        panic!("not bound")
    };
    let mut all: Vec<(EventNumber, String)> = vec![(tail.after, String::new())];
    for action in actions {
        match action {
            Action::Append(length) => {
                let text = format!("{}{}", all.len(), "x".repeat(length));
                let number = logged(&store, &message(&stream, &text)).await;
                assert!(number > all.last().unwrap().0);
                all.push((number, text));
            }
            Action::Resume(index) => {
                let at = index.index(all.len());
                match store.attach(&attach(&stream, "a", Some(all[at].0))).await.unwrap() {
                    Attached::Bound { fence: newer, tail, .. } => {
                        assert!(newer > fence);
                        fence = newer;
                        let got: Vec<_> = tail.events.iter().map(|event| event.number).collect();
                        let expected: Vec<_> = all[at + 1..].iter().map(|(number, _)| *number).collect();
                        assert_eq!(got, expected);
                    }
                    Attached::Lost { top } => {
                        assert_eq!(top, all.last().unwrap().0);
                        assert!(at + 1 < all.len(), "the top is never lost");
                    }
                    other => panic!("{other:?}"),
                }
            }
            Action::Release => store.release(&stream, fence).await.unwrap(),
            Action::Pass(seconds) => tokio::time::advance(std::time::Duration::from_secs(seconds)).await,
        }
    }
}
