//! The promises on the ports' traits, as tests that every adapter has to pass. An adapter brings a
//! [`Harness`]; the macro at the end gives it all of them.

mod attach;
mod bus;
mod ends;
mod formats;
mod log;
mod memory;
mod model;
mod nats;
mod nats_access;
mod nats_harm;
mod nats_signed;
mod operate;
mod rates;
mod redis;
mod redis_access;
mod redis_cluster;
mod redis_faults;
mod redis_races;
mod redis_sentinel;
mod relay;
mod relay_faults;
mod running;
mod serial;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::domain::{
    EventNumber, Fence, NodeId, Payload, Principal, RequestId, ServerName, SessionId, StreamId, StreamKey,
    Transport,
};
use holdfast::ports::{
    Append, Appended, Attach, Attached, Begin, Begun, Bounds, LogBounds, Opened, Producer, SessionStore, Tail,
};

/// Makes stores of one kind.
pub(crate) trait Harness {
    /// A fresh one.
    async fn store(&self, bounds: Bounds) -> Arc<dyn SessionStore>;

    /// Lets the store's time pass.
    async fn pass(&self, time: Duration);
}

pub(crate) fn bounds() -> Bounds {
    Bounds {
        log: LogBounds {
            events_max: 4,
            event_ttl: Duration::from_secs(600),
            stream_bytes_max: 1 << 20,
            session_bytes_max: 1 << 20,
        },
        session_idle_timeout: Duration::from_secs(3600),
        sessions_max: 100,
        subscriptions_per_session_max: 2,
    }
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub(crate) fn server() -> ServerName {
    ServerName::parse("files").unwrap()
}

pub(crate) async fn opened(store: &dyn SessionStore) -> SessionId {
    let id = SessionId::mint();
    let owner = Principal::anonymous();
    let opened = store.open(&id, &server(), &owner, Transport::Streamable).await.unwrap();
    assert_eq!(opened, Opened::Owned(owner));
    id
}

pub(crate) fn get_stream(session: &SessionId) -> StreamKey {
    StreamKey { session: session.clone(), stream: StreamId::get() }
}

pub(crate) fn request(id: u64) -> RequestId {
    RequestId::from_json(&id.to_string())
}

pub(crate) fn begin(session: &SessionId, requests: &[RequestId]) -> Begin {
    Begin {
        stream: StreamKey { session: session.clone(), stream: StreamId::post(requests, fastrand::u128(..)) },
        requests: requests.to_vec(),
        runner: node("a"),
        lifetime: Duration::from_secs(60),
        bind: true,
        upstream_event: None,
    }
}

pub(crate) async fn begun(store: &dyn SessionStore, begin: &Begin) -> (Fence, EventNumber) {
    match store.begin(begin).await.unwrap() {
        Begun::Recorded { fence, top, .. } => (fence, top),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn message(to: &StreamKey, text: &str) -> Append {
    Append {
        to: to.clone(),
        payload: Payload::from(text.to_owned()),
        producer: Producer { id: fastrand::u64(..), sequence: 1 },
        request: None,
        last: false,
        upstream_event: None,
        reader: None,
    }
}

pub(crate) async fn logged(store: &dyn SessionStore, append: &Append) -> EventNumber {
    match store.append(append).await.unwrap() {
        Appended::Logged { number, .. } => number,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn attach(to: &StreamKey, by: &str, position: Option<EventNumber>) -> Attach {
    Attach { stream: to.clone(), node: node(by), position, reassert: None, not_after_ms: None }
}

pub(crate) async fn bound(store: &dyn SessionStore, attach: &Attach) -> (Fence, Tail) {
    match store.attach(attach).await.unwrap() {
        Attached::Bound { fence, tail, .. } => (fence, tail),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn texts(tail: &Tail) -> Vec<String> {
    let text = |payload: &Bytes| String::from_utf8(payload.to_vec()).unwrap();
    tail.events.iter().map(|event| text(&event.payload)).collect()
}

/// What concerns open, load, update, begin, append, attach, release and close: every adapter has it.
macro_rules! core_contract {
    (#[$test:meta] $harness:expr) => {
        $crate::contract::instantiate! { #[$test] $harness;
            sessions: one_owner_for_good, an_absent_session_is_none_and_a_gone_one_too,
                client_facts_are_set_once, of_two_upstream_handles_the_first_wins,
                of_many_handles_one_is_adopted_by_all, attributes_are_kept_as_they_came,
                sessions_are_counted_and_know_when_they_were_opened;
            ends: closing_answers_one_caller_with_what_was_bound, nothing_of_a_closed_session_is_left,
                closed_only_if_abandoned;
            log: numbers_rise_and_name_their_predecessor, a_repeated_append_changes_nothing,
                a_repeat_that_was_overtaken_is_not_logged_again, a_gone_session_takes_nothing,
                what_was_read_before_the_stream_moved_is_refused,
                a_stream_keeps_so_many_bytes, an_event_beyond_all_bounds_is_lost_and_not_a_hole,
                the_oldest_events_of_a_session_go_first, events_live_so_long;
            attach: a_client_that_comes_back_gets_the_rest, positions_that_cannot_be_resumed_are_lost,
                a_position_that_no_event_has_is_lost,
                without_a_position_the_tail_starts_where_nobody_held_the_stream,
                what_was_trimmed_while_nobody_held_the_stream_is_no_silent_hole,
                a_newer_binding_supersedes, a_released_binding_is_not_reasserted,
                a_fence_that_the_store_forgot_is_taken_up, the_holder_before_is_named,
                only_the_own_binding_is_released, a_late_attach_is_refused, a_refused_attach_binds_nothing;
            running: recorded_all_or_none, repeating_begin_is_harmless, a_begin_that_runs_late_records_nothing,
                a_request_is_named_once, begun_without_a_socket_nobody_holds_the_stream,
                only_the_runner_appends, the_last_answer_ends_the_stream, attach_names_what_still_runs,
                records_end_at_their_deadline, a_stream_nobody_knows_is_unknown,
                an_unrecorded_post_takes_no_events, p5_a_request_that_was_forgotten_is_told_from_one_that_ended;
            operate: nodes_are_alive_while_they_beat, hints_are_kept_with_their_time,
                a_mark_tells_a_thief_where_to_go_on, what_operators_see;
            serial: appends_and_attaches_are_serial, of_many_owners_one_gets_the_session,
                of_many_begins_one_is_recorded, of_many_closes_one_gets_the_rest;
        }
    };
}

macro_rules! instantiate {
    (#[$test:meta] $harness:expr; $($module:ident: $($name:ident),+;)+) => {
        $($(
            #[$test]
            async fn $name() {
                $crate::contract::$module::$name(&$harness).await;
            }
        )+)+
    };
}

pub(crate) use {core_contract, instantiate};
