//! What callers that act at once may rely on: one wins, and between append and attach nothing falls
//! through. On a store that runs on threads these are races; elsewhere they are interleaved.

use std::collections::HashSet;
use std::sync::Arc;

use holdfast::domain::{EventNumber, Fence, Principal, SessionId, Transport};
use holdfast::ports::{
    Append, Appended, Attached, Begin, Begun, Bounds, CloseIf, LogBounds, Opened, Producer, SessionStore,
    Stolen,
};
use tokio::task::JoinSet;

use super::{Harness, attach, begin, begun, bounds, get_stream, message, node, opened, request, server};

const CALLERS: u64 = 8;

/// Lets every caller act at once, and collects their answers.
async fn all<F, T>(caller: impl Fn(Arc<dyn SessionStore>, u64) -> F, store: &Arc<dyn SessionStore>) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let mut callers = JoinSet::new();
    for index in 0..CALLERS {
        callers.spawn(caller(store.clone(), index));
    }
    callers.join_all().await
}

/// Every event is in an attach's tail, or its append names the binding that attach made.
pub(crate) async fn appends_and_attaches_are_serial(harness: &impl Harness) {
    let roomy = Bounds { log: LogBounds { events_max: 10_000, ..bounds().log }, ..bounds() };
    let store = harness.store(roomy).await;
    for _ in 0..20 {
        let stream = get_stream(&opened(&*store).await);
        let (appending, attaching) = (stream.clone(), stream.clone());
        let appends = all(
            |store, index| {
                let stream = appending.clone();
                async move {
                    let mut appended = Vec::new();
                    for sequence in 1..=25 {
                        let producer = Producer { id: index, sequence };
                        let append = Append { producer, ..message(&stream, "x") };
                        match store.append(&append).await.unwrap() {
                            Appended::Logged { number, previous, binding, .. } => {
                                appended.push((number, previous, binding.map(|binding| binding.fence)));
                            }
                            other => panic!("{other:?}"),
                        }
                        tokio::task::yield_now().await;
                    }
                    appended
                }
            },
            &store,
        );
        let attaches = all(
            |store, index| {
                let stream = attaching.clone();
                async move {
                    let mut attached = Vec::new();
                    for _ in 0..6 {
                        let answer = store.attach(&attach(&stream, "a", None)).await.unwrap();
                        let Attached::Bound { fence, tail, .. } = answer else { panic!("{answer:?}") };
                        attached.push((fence, tail));
                        if index % 2 == 0 {
                            store.release(&stream, fence).await.unwrap();
                        }
                        tokio::task::yield_now().await;
                    }
                    attached
                }
            },
            &store,
        );
        let (appended, attached) = futures::join!(appends, attaches);
        let last = super::bound(&*store, &attach(&stream, "a", None)).await;
        let attached: Vec<_> = attached.into_iter().flatten().chain([last]).collect();
        let appended: Vec<_> = appended.into_iter().flatten().collect();
        nothing_fell_through(&appended, &attached);
    }
}

fn nothing_fell_through(
    appended: &[(EventNumber, EventNumber, Option<Fence>)],
    attached: &[(Fence, holdfast::ports::Tail)],
) {
    let fences: HashSet<_> = attached.iter().map(|(fence, _)| *fence).collect();
    assert_eq!(fences.len(), attached.len(), "no fence is given twice");
    let mut delivered = HashSet::new();
    for event in attached.iter().flat_map(|(_, tail)| &tail.events) {
        assert!(delivered.insert(event.number), "in two tails: {}", event.number);
    }
    for (number, _, fence) in appended.iter().filter(|(_, _, fence)| fence.is_some()) {
        assert!(fences.contains(&fence.unwrap()), "sent to nobody: {number}");
        assert!(delivered.insert(*number), "in a tail, and sent: {number}");
    }
    let numbers: HashSet<_> = appended.iter().map(|(number, _, _)| *number).collect();
    assert_eq!(numbers.len(), appended.len(), "no number is given twice");
    assert_eq!(delivered, numbers, "nothing is lost between an append and an attach");
    let mut chain: Vec<_> = appended.iter().map(|(number, previous, _)| (*number, *previous)).collect();
    chain.sort_unstable();
    assert!(chain.windows(2).all(|pair| pair[1].1 == pair[0].0), "each names its predecessor");
}

pub(crate) async fn of_many_owners_one_gets_the_session(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    for _ in 0..10 {
        let id = SessionId::mint();
        let name = id.clone();
        let answers = all(
            |store, index| {
                let (id, owner) = (name.clone(), Principal::named(&format!("p{index}")));
                async move { store.open(&id, &server(), &owner, Transport::Streamable).await.unwrap() }
            },
            &store,
        )
        .await;
        let owner = store.load(&id).await.unwrap().unwrap().owner;
        assert!(answers.iter().all(|answer| *answer == Opened::Owned(owner.clone())), "{answers:?}");
    }
}

pub(crate) async fn of_many_begins_one_is_recorded(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    for _ in 0..10 {
        let session = opened(&*store).await;
        let answers = all(
            |store, index| {
                let runner = node(&format!("n{index}"));
                let begin = Begin { runner, ..begin(&session, &[request(1)]) };
                async move { store.begin(&begin).await.unwrap() }
            },
            &store,
        )
        .await;
        let recorded = answers.iter().filter(|begun| matches!(begun, Begun::Recorded { .. })).count();
        assert_eq!(recorded, 1, "{answers:?}");
        let refused = answers.iter().filter(|begun| **begun == Begun::Duplicate(request(1))).count();
        assert_eq!(refused, answers.len() - 1, "{answers:?}");
    }
}

pub(crate) async fn of_many_closes_one_gets_the_rest(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    for _ in 0..10 {
        let id = opened(&*store).await;
        let answers = all(
            |store, _| {
                let id = id.clone();
                async move { store.close(&id, &CloseIf::Always).await.unwrap() }
            },
            &store,
        )
        .await;
        assert_eq!(answers.iter().flatten().count(), 1);
    }
}

pub(crate) async fn of_many_thieves_one_takes_the_record(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    for _ in 0..10 {
        let begin = begin(&opened(&*store).await, &[request(1)]);
        let (from, _) = begun(&*store, &begin).await;
        let stream = begin.stream.clone();
        let answers = all(
            |store, index| {
                let (stream, by) = (stream.clone(), node(&format!("n{index}")));
                let steal = holdfast::ports::Steal { stream, request: request(1), from, by };
                async move { store.steal(&steal).await.unwrap() }
            },
            &store,
        )
        .await;
        assert_eq!(answers.iter().filter(|stolen| **stolen != Stolen::Lost).count(), 1, "{answers:?}");
    }
}

pub(crate) async fn no_more_sessions_than_there_is_room_for(harness: &impl Harness) {
    let store = harness.store(Bounds { sessions_max: 3, ..bounds() }).await;
    let answers = all(
        |store, _| async move {
            let owner = Principal::anonymous();
            store.open(&SessionId::mint(), &server(), &owner, Transport::Streamable).await.unwrap()
        },
        &store,
    )
    .await;
    assert_eq!(answers.iter().filter(|opened| **opened != Opened::Full).count(), 3, "{answers:?}");
}
