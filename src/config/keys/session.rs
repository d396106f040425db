//! The keys of sessions: their log, their life, and the time of their requests.

use super::{DAY, GIB, HOUR, KIB, MIB, MINUTE, SHORTEST, TIMEOUTS, TIMEOUTS_MAX, ZERO};
use super::{milliseconds, seconds};
use crate::config::reader::Section;
use crate::config::settings::{LogConfig, RequestsConfig, SessionsConfig};
use crate::config::units::show_bytes;

pub(super) const LOG: &str = "The log of sent events, from which clients resume after a broken connection.";

pub(super) fn log(s: &mut Section<'_, '_>) -> LogConfig {
    let log = LogConfig {
        events_max: s.count(
            "events_max",
            256,
            1..=100_000,
            "Events kept for each stream. The oldest go first; a client that needs them is told that they \
             are gone.",
        ),
        event_ttl: s.duration(
            "event_ttl",
            10 * MINUTE,
            SHORTEST..=DAY,
            "How long an event is kept. Laptops that sleep longer than this start anew.",
        ),
        stream_bytes_max: s.bytes("stream_bytes_max", 4 * MIB, 64 * KIB..=GIB, "Bytes kept for each stream."),
        session_bytes_max: s.bytes(
            "session_bytes_max",
            16 * MIB,
            64 * KIB..=GIB,
            "Bytes kept for all streams of a session.",
        ),
    };
    if log.stream_bytes_max > log.session_bytes_max {
        let [stream, session] = [log.stream_bytes_max, log.session_bytes_max].map(|bytes| show_bytes(&bytes));
        s.fault(
            &["session_bytes_max", "stream_bytes_max"],
            format!("log.stream_bytes_max ({stream}) is larger than log.session_bytes_max ({session})"),
        );
    }
    log
}

pub(super) const SESSIONS: &str = "Sessions of legacy clients (MCP up to 2025-11-25).";

pub(super) fn sessions(s: &mut Section<'_, '_>) -> SessionsConfig {
    let sessions = SessionsConfig {
        idle_timeout: s.duration(
            "idle_timeout",
            HOUR,
            SHORTEST..=30 * DAY,
            "A session that is not used for this long ends, and its upstream session with it. Most clients \
             never say goodbye. An open stream counts as use.",
        ),
        sse_grace: s.duration(
            "sse_grace",
            2 * MINUTE,
            ZERO..=HOUR,
            "How long a session of the old HTTP+SSE transport outlives its stream, so that the client can \
             reconnect to it.",
        ),
        cache_ttl: s.duration(
            "cache_ttl",
            seconds(30),
            ZERO..=10 * MINUTE,
            "How long a node trusts what it last read about a session before it asks again. `0s` always asks.",
        ),
    };
    if sessions.sse_grace > sessions.idle_timeout {
        s.longer(("sse_grace", sessions.sse_grace), ("idle_timeout", sessions.idle_timeout));
    }
    sessions
}

pub(super) const REQUESTS: &str = "Time limits of single requests. Each server can have its own.";

pub(super) fn requests(s: &mut Section<'_, '_>) -> RequestsConfig {
    let requests = RequestsConfig {
        timeout: s.duration(
            "timeout",
            MINUTE,
            TIMEOUTS,
            "How long a request may go without a sign of life from the server. Progress notifications \
             begin it anew.",
        ),
        timeout_max: s.duration(
            "timeout_max",
            10 * MINUTE,
            TIMEOUTS_MAX,
            "How long a request may run in all, with any amount of progress.",
        ),
        json_wait: s.duration(
            "json_wait",
            milliseconds(250),
            ZERO..=MINUTE,
            "How long to wait for an answer before a stream is begun for it. Answers that come sooner are \
             plain JSON, which costs less.",
        ),
        cancel_grace: s.duration(
            "cancel_grace",
            seconds(5),
            ZERO..=MINUTE,
            "How long a cancelled request may still bring an answer before it is forgotten.",
        ),
    };
    if requests.timeout > requests.timeout_max {
        s.longer(("timeout", requests.timeout), ("timeout_max", requests.timeout_max));
    }
    requests
}
