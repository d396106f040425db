//! Running records: what was promised to a client, and who keeps it.

use std::time::Duration;

use holdfast::domain::{Fence, RequestId, SessionId, StreamId, StreamKey};
use holdfast::ports::{Append, Appended, Attached, Begin, Begun, Producer, Steal, Stolen};

use super::{Harness, attach, begin, begun, bound, bounds, logged, message, node, opened, request, texts};

fn answer(begin: &Begin, index: usize, fence: holdfast::domain::Fence, sequence: u64, last: bool) -> Append {
    Append {
        producer: Producer { id: 5, sequence },
        request: Some((begin.requests[index].clone(), fence)),
        last,
        ..message(&begin.stream, &format!("{sequence}"))
    }
}

pub(crate) async fn recorded_all_or_none(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    begun(&*store, &begin(&session, &[request(1)])).await;
    let both = begin(&session, &[request(2), request(1)]);
    assert_eq!(store.begin(&both).await.unwrap(), Begun::Duplicate(request(1)));
    begun(&*store, &begin(&session, &[request(2)])).await;
    let gone = begin(&SessionId::mint(), &[request(1)]);
    assert_eq!(store.begin(&gone).await.unwrap(), Begun::Gone);
}

pub(crate) async fn repeating_begin_is_harmless(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = begin(&session, &[request(1)]);
    let first = store.begin(&begin).await.unwrap();
    assert_eq!(store.begin(&begin).await.unwrap(), first);
    let Begun::Recorded { fence, binding, .. } = first else { panic!("{first:?}") };
    assert_eq!(binding.map(|binding| binding.node), Some(node("a")));
    assert!(matches!(
        store.append(&answer(&begin, 0, fence, 1, true)).await.unwrap(),
        Appended::Logged { .. }
    ));
}

pub(crate) async fn only_the_runner_appends(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = begin(&session, &[request(1)]);
    let (fence, _) = begun(&*store, &begin).await;
    let stale = holdfast::domain::Fence(fence.0 - 1);
    assert_eq!(store.append(&answer(&begin, 0, stale, 1, false)).await.unwrap(), Appended::StaleFence);
    assert!(matches!(
        store.append(&answer(&begin, 0, fence, 1, false)).await.unwrap(),
        Appended::Logged { .. }
    ));
}

pub(crate) async fn the_last_answer_ends_the_stream(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = begin(&session, &[request(1), request(2)]);
    let (fence, top) = begun(&*store, &begin).await;
    let ended = |appended| match appended {
        Appended::Logged { ended, .. } => ended,
        other => panic!("{other:?}"),
    };
    assert!(!ended(store.append(&answer(&begin, 0, fence, 1, true)).await.unwrap()));
    let last = answer(&begin, 1, fence, 2, true);
    assert!(ended(store.append(&last).await.unwrap()));
    assert!(ended(store.append(&last).await.unwrap()), "a repeated last answer is answered alike");
    let after = store.append(&answer(&begin, 1, fence, 3, false)).await.unwrap();
    assert!(matches!(after, Appended::Ended | Appended::StaleFence), "{after:?}");
    let (_, tail) = bound(&*store, &attach(&begin.stream, "b", Some(top))).await;
    assert_eq!((texts(&tail), tail.ended), (vec!["1".to_owned(), "2".to_owned()], true));
    let position = tail.events.last().unwrap().number;
    let attached = store.attach(&attach(&begin.stream, "b", Some(position))).await.unwrap();
    assert_eq!(attached, Attached::Ended);
}

pub(crate) async fn a_stream_nobody_knows_is_unknown(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let never = begin(&session, &[request(1)]);
    let position = Some(holdfast::domain::EventNumber::new(1, 0));
    assert_eq!(store.attach(&attach(&never.stream, "a", position)).await.unwrap(), Attached::Unknown);
}

pub(crate) async fn a_dead_runner_is_robbed_once(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = begin(&session, &[request(1)]);
    let (fence, _) = begun(&*store, &begin).await;
    let mut append = answer(&begin, 0, fence, 1, false);
    append.upstream_event = Some("u-7".to_owned());
    logged(&*store, &append).await;
    let steal =
        |by: &str| Steal { stream: begin.stream.clone(), request: request(1), from: fence, by: node(by) };
    let Stolen::Taken(record) = store.steal(&steal("b")).await.unwrap() else { panic!("not taken") };
    assert!(record.fence > fence);
    assert_eq!(record.upstream_event.as_deref(), Some("u-7"));
    assert_eq!(store.steal(&steal("c")).await.unwrap(), Stolen::Lost);
    assert_eq!(store.append(&answer(&begin, 0, fence, 2, true)).await.unwrap(), Appended::StaleFence);
    let by_thief = answer(&begin, 0, record.fence, 3, true);
    assert!(matches!(store.append(&by_thief).await.unwrap(), Appended::Logged { ended: true, .. }));
}

pub(crate) async fn a_repeated_steal_is_answered_alike(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let begin = begin(&opened(&*store).await, &[request(1)]);
    let (fence, _) = begun(&*store, &begin).await;
    let steal =
        |from, by: &str| Steal { stream: begin.stream.clone(), request: request(1), from, by: node(by) };
    let first = store.steal(&steal(fence, "b")).await.unwrap();
    assert_eq!(store.steal(&steal(fence, "b")).await.unwrap(), first);
    let Stolen::Taken(record) = first else { panic!("{first:?}") };
    assert!(matches!(store.steal(&steal(record.fence, "c")).await.unwrap(), Stolen::Taken(_)));
    assert_eq!(store.steal(&steal(fence, "b")).await.unwrap(), Stolen::Lost, "it was taken on since");
    store.close(&begin.stream.session, &holdfast::ports::CloseIf::Always).await.unwrap();
    assert_eq!(store.steal(&steal(fence, "b")).await.unwrap(), Stolen::Gone);
}

pub(crate) async fn records_end_at_their_deadline(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = Begin { lifetime: Duration::from_secs(1), ..begin(&session, &[request(1)]) };
    let (fence, top) = begun(&*store, &begin).await;
    harness.pass(Duration::from_millis(1100)).await;
    let late = store.append(&answer(&begin, 0, fence, 1, true)).await.unwrap();
    assert!(matches!(late, Appended::StaleFence | Appended::Ended), "{late:?}");
    match store.attach(&attach(&begin.stream, "a", Some(top))).await.unwrap() {
        Attached::Bound { running, .. } => assert!(running.is_empty()),
        Attached::Ended | Attached::Unknown => {}
        other => panic!("{other:?}"),
    }
    begun(&*store, &super::begin(&session, &[request(1)])).await;
}

/// A write that timed out may run after its request was answered.
pub(crate) async fn a_begin_that_runs_late_records_nothing(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = begin(&session, &[request(1), request(2)]);
    let (fence, top) = begun(&*store, &begin).await;
    logged(&*store, &answer(&begin, 0, fence, 1, true)).await;
    assert!(matches!(store.begin(&begin).await.unwrap(), Begun::Duplicate(_)), "one of two was answered");
    let last = logged(&*store, &answer(&begin, 1, fence, 2, true)).await;
    assert!(matches!(store.begin(&begin).await.unwrap(), Begun::Duplicate(_)));
    let attached = store.attach(&attach(&begin.stream, "a", Some(last))).await.unwrap();
    assert_eq!(attached, Attached::Ended);
    let (_, tail) = bound(&*store, &attach(&begin.stream, "a", Some(top))).await;
    assert!(tail.ended);
    begun(&*store, &super::begin(&session, &[request(1)])).await;
}

pub(crate) async fn a_request_is_named_once(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let twice = begin(&session, &[request(1), request(1)]);
    assert_eq!(store.begin(&twice).await.unwrap(), Begun::Duplicate(request(1)));
    let by_another = begin(&session, &[request(1)]);
    begun(&*store, &by_another).await;
    let by_another = Begin { runner: node("b"), ..by_another };
    assert_eq!(store.begin(&by_another).await.unwrap(), Begun::Duplicate(request(1)));
    let text = RequestId::from_json("\"1\"");
    begun(&*store, &begin(&session, &[text])).await;
}

pub(crate) async fn begun_without_a_socket_nobody_holds_the_stream(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = Begin { bind: false, ..begin(&session, &[request(1)]) };
    let begun = store.begin(&begin).await.unwrap();
    let Begun::Recorded { fence, binding: None, top } = begun else { panic!("{begun:?}") };
    logged(&*store, &answer(&begin, 0, fence, 1, false)).await;
    let (newer, tail) = bound(&*store, &attach(&begin.stream, "b", None)).await;
    assert!(newer > fence, "one line of fences for sockets and runners");
    assert_eq!((tail.after, texts(&tail)), (top, vec!["1".to_owned()]));
}

/// What a holder watches over (P5).
pub(crate) async fn attach_names_what_still_runs(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let begin = begin(&session, &[request(1), request(2)]);
    begun(&*store, &super::begin(&session, &[request(3)])).await;
    let (fence, top) = begun(&*store, &begin).await;
    let mut append = answer(&begin, 0, fence, 1, false);
    append.upstream_event = Some("u-1".to_owned());
    logged(&*store, &append).await;
    logged(&*store, &answer(&begin, 0, fence, 2, false)).await;
    let running = |attached| match attached {
        Attached::Bound { mut running, .. } => {
            running.sort_by(|one, other| one.request.as_json().cmp(other.request.as_json()));
            running
        }
        other => panic!("{other:?}"),
    };
    let records = running(store.attach(&attach(&begin.stream, "b", Some(top))).await.unwrap());
    assert!(records.iter().all(|record| (record.runner.as_str(), record.fence) == ("a", fence)));
    assert!(records.iter().all(|record| record.stream == begin.stream.stream && record.deadline_ms > 0));
    let upstream: Vec<_> = records.iter().map(|record| record.upstream_event.as_deref()).collect();
    assert_eq!(upstream, [Some("u-1"), None], "a later event without one leaves the last");
    logged(&*store, &answer(&begin, 0, fence, 3, true)).await;
    let records = running(store.attach(&attach(&begin.stream, "b", Some(top))).await.unwrap());
    let left: Vec<_> = records.into_iter().map(|record| record.request).collect();
    assert_eq!(left, [request(2)]);
}

pub(crate) async fn an_unrecorded_post_takes_no_events(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let never = begin(&session, &[request(1)]);
    assert_eq!(store.append(&message(&never.stream, "x")).await.unwrap(), Appended::Ended);
    let for_request = answer(&never, 0, holdfast::domain::Fence(1), 1, true);
    let refused = store.append(&for_request).await.unwrap();
    assert!(matches!(refused, Appended::StaleFence | Appended::Ended), "{refused:?}");
    assert_eq!(store.attach(&attach(&never.stream, "a", None)).await.unwrap(), Attached::Unknown);
}

/// On a stream that outlives its requests. Whoever runs one that a failover forgot has to say its answer
/// all the same; of one that may have ended it must not be said twice.
pub(crate) async fn p5_a_request_that_was_forgotten_is_told_from_one_that_ended(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let session = opened(&*store).await;
    let stream = StreamKey { session: session.clone(), stream: StreamId::http_sse() };
    let begin = |id: u64, seconds| Begin {
        stream: stream.clone(),
        bind: false,
        lifetime: Duration::from_secs(seconds),
        ..begin(&session, &[request(id)])
    };
    let say = |id: u64, fence, producer: u64| Append {
        producer: Producer { id: producer, sequence: 1 },
        request: Some((request(id), fence)),
        last: true,
        ..message(&stream, "said")
    };
    let (first, _) = begun(&*store, &begin(1, 60)).await;
    let forgotten = say(9, first, 9);
    assert_eq!(store.append(&forgotten).await.unwrap(), Appended::Forgotten);
    let unrecorded = Append { request: None, last: false, ..forgotten.clone() };
    let number = logged(&*store, &unrecorded).await;
    assert_eq!(logged(&*store, &unrecorded).await, number, "its producer is known");
    assert_eq!(logged(&*store, &forgotten).await, number);
    let stale = Fence(first.0 - 1);
    assert_eq!(store.append(&say(1, stale, 1)).await.unwrap(), Appended::StaleFence, "it runs");
    // Taken over and ended there.
    let steal = Steal { stream: stream.clone(), request: request(1), from: first, by: node("b") };
    let Stolen::Taken(taken) = store.steal(&steal).await.unwrap() else { panic!("not taken") };
    assert_eq!(store.append(&say(1, first, 1)).await.unwrap(), Appended::StaleFence);
    logged(&*store, &say(1, taken.fence, 2)).await;
    assert_eq!(store.append(&say(1, first, 1)).await.unwrap(), Appended::StaleFence);
    // Out of time.
    let (brief, _) = begun(&*store, &begin(2, 1)).await;
    harness.pass(Duration::from_millis(1100)).await;
    assert_eq!(store.append(&say(2, brief, 3)).await.unwrap(), Appended::StaleFence);
    let (again, _) = begun(&*store, &begin(2, 60)).await;
    logged(&*store, &say(2, again, 5)).await;
    assert_eq!(store.append(&say(2, brief, 3)).await.unwrap(), Appended::StaleFence, "its id was another's");
    // Ended so long ago that its producer is not remembered.
    let (last, _) = begun(&*store, &begin(3, 60)).await;
    let said = say(3, last, 4);
    let number = logged(&*store, &said).await;
    assert_eq!(logged(&*store, &said).await, number);
    for _ in 0..70 {
        logged(&*store, &message(&stream, "more")).await;
    }
    assert_eq!(store.append(&said).await.unwrap(), Appended::StaleFence);
}
