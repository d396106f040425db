//! How sessions end: closed by somebody, or idle for too long. One caller is told what is left.

use std::time::Duration;

use holdfast::domain::{Principal, SessionId, SessionPart, StreamId, Transport};
use holdfast::ports::{Attached, CloseIf, Opened, Query};

use super::sessions::{handle, updated};
use super::{
    Harness, attach, begin, begun, bound, bounds, get_stream, logged, message, opened, request, server,
};

pub(crate) async fn closing_answers_one_caller_with_what_was_bound(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let (get, post) = (get_stream(&id), begin(&id, &[request(1)]));
    let (fence, _) = bound(&*store, &attach(&get, "a", None)).await;
    let (post_fence, _) = begun(&*store, &post).await;
    let released = begin(&id, &[request(2)]);
    let (own, _) = begun(&*store, &released).await;
    store.release(&released.stream, own).await.unwrap();
    let session = updated(&*store, &id, SessionPart::LogLevel("info".to_owned())).await;
    let closed = store.close(&id, &CloseIf::Always).await.unwrap().unwrap();
    assert_eq!(closed.session, session);
    let mut held: Vec<_> = closed.bound.iter().map(|(name, binding)| (name.clone(), binding.fence)).collect();
    held.sort();
    assert_eq!(held, [(StreamId::get(), fence), (post.stream.stream, post_fence)]);
    assert_eq!(store.close(&id, &CloseIf::Always).await.unwrap(), None);
}

pub(crate) async fn nothing_of_a_closed_session_is_left(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let stream = get_stream(&id);
    let (old, _) = bound(&*store, &attach(&stream, "a", None)).await;
    let position = logged(&*store, &message(&stream, "old")).await;
    let post = begin(&id, &[request(1)]);
    begun(&*store, &post).await;
    store.close(&id, &CloseIf::Always).await.unwrap();
    harness.pass(Duration::from_millis(2)).await;
    let other = Principal::named("other");
    let opened = store.open(&id, &server(), &other, Transport::HttpSse).await.unwrap();
    assert_eq!(opened, Opened::Owned(other), "who closed it gave it up");
    assert_eq!(store.attach(&attach(&post.stream, "a", None)).await.unwrap(), Attached::Unknown);
    let resumed = store.attach(&attach(&stream, "a", Some(position))).await.unwrap();
    assert!(matches!(resumed, Attached::Lost { .. }), "{resumed:?}");
    let (new, tail) = bound(&*store, &attach(&stream, "a", None)).await;
    assert!(new > old && tail.events.is_empty());
    assert!(store.load(&id).await.unwrap().unwrap().log_level.is_none());
}

/// Its upstream session is to be ended, and its streams are to be told, whoever has the id by now.
pub(crate) async fn a_session_whose_id_was_opened_anew_is_reaped_as_well(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    updated(&*store, &id, SessionPart::Upstream(handle(1, "u1"))).await;
    let (fence, _) = bound(&*store, &attach(&get_stream(&id), "a", None)).await;
    harness.pass(Duration::from_secs(3700)).await;
    let owner = Principal::named("next");
    store.open(&id, &server(), &owner, Transport::Streamable).await.unwrap();
    let mut reaped = Vec::new();
    for _ in 0..3 {
        reaped.extend(store.reap(10).await.unwrap());
    }
    let old: Vec<_> =
        reaped.iter().map(|closed| (&closed.session.upstream, closed.bound[0].1.fence)).collect();
    assert_eq!(old, [(&Some(handle(1, "u1")), fence)]);
    assert_eq!(store.load(&id).await.unwrap().unwrap().owner, owner);
}

pub(crate) async fn an_idle_session_is_gone_before_it_is_reaped(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let stream = get_stream(&id);
    harness.pass(Duration::from_secs(3700)).await;
    assert_eq!(store.load(&id).await.unwrap(), None);
    assert_eq!(store.touch(std::slice::from_ref(&id)).await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(store.attach(&attach(&stream, "a", None)).await.unwrap(), Attached::Gone);
    assert_eq!(store.close(&id, &CloseIf::Always).await.unwrap(), None, "the reaper is told");
    assert!(store.find(&Query { limit: 9, ..Query::default() }).await.unwrap().sessions.is_empty());
    assert!(store.reap(0).await.unwrap().is_empty());
    assert_eq!(store.reap(9).await.unwrap().len(), 1);
    assert!(store.reap(9).await.unwrap().is_empty());
}

/// Each is answered once, few at a time.
pub(crate) async fn many_idle_sessions_are_reaped_in_portions(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(opened(&*store).await);
    }
    harness.pass(Duration::from_secs(3700)).await;
    let mut reaped = Vec::new();
    for _ in 0..10 {
        let some = store.reap(7).await.unwrap();
        assert!(some.len() <= 7);
        reaped.extend(some.into_iter().map(|closed| closed.session.id));
    }
    idle.sort();
    reaped.sort();
    assert_eq!(reaped, idle);
}

pub(crate) async fn idle_sessions_are_reaped_once(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let (idle, used) = (opened(&*store).await, opened(&*store).await);
    harness.pass(Duration::from_secs(3000)).await;
    store.append(&message(&get_stream(&used), "x")).await.unwrap();
    harness.pass(Duration::from_secs(700)).await;
    let mut reaped = Vec::new();
    for _ in 0..200 {
        reaped.extend(store.reap(10).await.unwrap());
    }
    let ids: Vec<_> = reaped.iter().map(|closed| closed.session.id.clone()).collect();
    assert_eq!(ids, [idle]);
    assert!(store.load(&used).await.unwrap().is_some());
}

pub(crate) async fn touching_prolongs_and_names_the_gone(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let (kept, gone) = (opened(&*store).await, SessionId::mint());
    for _ in 0..3 {
        harness.pass(Duration::from_secs(3000)).await;
        let touched = store.touch(&[kept.clone(), gone.clone()]).await.unwrap();
        assert_eq!(touched, std::slice::from_ref(&gone));
    }
    assert!(store.load(&kept).await.unwrap().is_some());
}

pub(crate) async fn closed_only_if_abandoned(harness: &impl Harness) {
    let store = harness.store(bounds()).await;
    let id = opened(&*store).await;
    let stream = get_stream(&id);
    let abandoned = |since| CloseIf::Abandoned(StreamId::get(), since);
    let (first, _) = bound(&*store, &attach(&stream, "a", None)).await;
    assert_eq!(store.close(&id, &abandoned(first)).await.unwrap(), None);
    store.release(&stream, first).await.unwrap();
    let (second, _) = bound(&*store, &attach(&stream, "b", None)).await;
    store.release(&stream, second).await.unwrap();
    assert_eq!(store.close(&id, &abandoned(first)).await.unwrap(), None, "somebody came back since");
    assert!(store.close(&id, &abandoned(second)).await.unwrap().is_some());
}
