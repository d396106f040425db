//! The keys of how much there may be: of everything at once, and of each principal.

use std::ops::RangeInclusive;

use super::{GIB, KIB, MINUTE, SECOND, milliseconds, seconds};
use crate::config::reader::Section;
use crate::config::settings::{Config, LimitsConfig, PrincipalConfig, State, UseConfig};

pub(super) const LIMITS: &str = "How much there may be, at once and in a time, of all clients together. Beyond it \
    they get 503 with a `Retry-After`, or 429 where it is about requests, and what is already open goes on.";

const PRINCIPAL: &str = "How much one principal may use of each node, so that none takes it from the others. Beyond \
    it, it gets 429 with a `Retry-After`. Nothing is limited unless it is set: what is much depends on how many there \
    are, and without `auth` everybody is one. On N nodes a principal gets up to N times as much.";

pub(super) fn limits(s: &mut Section<'_, '_>) -> LimitsConfig {
    LimitsConfig {
        sessions_max: s.count("sessions_max", 100_000, 1..=100_000_000, "Sessions that exist at once."),
        streams_max: s.count(
            "streams_max",
            18_000,
            1..=1_000_000,
            "Open streams of this node. Each takes a file descriptor; the default fits a limit of 20,000.",
        ),
        streams_per_session_max: s.count(
            "streams_per_session_max",
            16,
            1..=1024,
            "Open streams of one session. Ordinary clients have one or two.",
        ),
        requests_per_session_max: s.count(
            "requests_per_session_max",
            64,
            1..=10_000,
            "Requests of one session that run at once.",
        ),
        attaches_max: s.count(
            "attaches_max",
            256,
            1..=65_536,
            "Streams that are being opened or resumed on this node at the same moment. When many clients come back \
             at once, those that resume wait, and are told to come again; the rest get 503.",
        ),
        subscriptions_per_session_max: s.count(
            "subscriptions_per_session_max",
            1000,
            1..=100_000,
            "Resources that one session is subscribed to.",
        ),
        session_bytes_max: s.bytes(
            "session_bytes_max",
            256 * KIB,
            4 * KIB..=GIB,
            "What one session is remembered by, beside its log: its `initialize`, the server's capabilities, log level \
             and subscriptions. A larger `initialize` gets 413; what else has no room is not given back to a server \
             that loses its session.",
        ),
        retry_after: s.duration(
            "retry_after",
            seconds(2),
            SECOND..=5 * MINUTE,
            "What `Retry-After` says; rounded up to whole seconds, as HTTP wants it.",
        ),
        total: total(s),
        shared: s.switch(
            "shared",
            false,
            "`on` counts `limits.principal.requests_per_second` of all nodes together, in the Redis of `state`: one step \
             for each request. While it gives no answer each node counts for itself.",
        ),
        shared_timeout: s.duration(
            "shared_timeout",
            milliseconds(100),
            milliseconds(10)..=10 * SECOND,
            "How long a request waits for that count; then nobody asks for a second.",
        ),
        principal: s.section("principal", PRINCIPAL, principal),
    }
}

const RATES: RangeInclusive<usize> = 1..=10_000_000;
const MANY: RangeInclusive<usize> = 1..=100_000_000;
const BYTES: RangeInclusive<usize> = KIB..=100_000 * GIB;

fn total(s: &mut Section<'_, '_>) -> UseConfig {
    let usage = UseConfig {
        requests_per_second: s.count_or_off(
            "requests_per_second",
            None,
            RATES,
            "Requests per second that a node takes. Every HTTP request of a client that may call is one, whatever it \
             asks for; of a batch, each message is.",
        ),
        requests_burst: s.count_instead_of(
            "requests_burst",
            "limits.requests_per_second",
            RATES,
            "Requests that may come at once after a pause.",
        ),
        requests_running_max: s.count_or_off(
            "requests_running_max",
            Some(100_000),
            MANY,
            "JSON-RPC requests of a node that wait for their server, also if their client has left.",
        ),
        bytes_per_minute: s.bytes_or_off(
            "bytes_per_minute",
            BYTES,
            "Bytes of bodies that a node reads in a minute. A body that says its length is refused before it is read.",
        ),
    };
    check(s, &usage, "limits.requests_burst means nothing without limits.requests_per_second");
    usage
}

fn principal(s: &mut Section<'_, '_>) -> PrincipalConfig {
    let usage = UseConfig {
        requests_per_second: s.count_or_off(
            "requests_per_second",
            None,
            RATES,
            "Requests per second. `Retry-After` says when the next one fits.",
        ),
        requests_burst: s.count_instead_of(
            "requests_burst",
            "limits.principal.requests_per_second",
            RATES,
            "Requests that may come at once after a pause. A larger batch is let in after a pause, and what follows \
             it waits longer.",
        ),
        requests_running_max: s.count_or_off(
            "requests_running_max",
            None,
            MANY,
            "JSON-RPC requests that wait for their server. Notifications, answers and cancels are none.",
        ),
        bytes_per_minute: s.bytes_or_off(
            "bytes_per_minute",
            BYTES,
            "Bytes of bodies that are read in a minute.",
        ),
    };
    check(
        s,
        &usage,
        "limits.principal.requests_burst means nothing without limits.principal.requests_per_second",
    );
    PrincipalConfig {
        usage,
        streams_max: s.count_or_off("streams_max", None, 1..=1_000_000, "Open streams."),
        sessions_max: s.count_or_off(
            "sessions_max",
            None,
            MANY,
            "Sessions that the node opened and that have not ended, whichever node they are used at.",
        ),
    }
}

fn check(s: &mut Section<'_, '_>, usage: &UseConfig, fault: &'static str) {
    if usage.requests_burst.is_some() && usage.requests_per_second.is_none() {
        s.fault(&["requests_burst"], fault);
    }
}

pub(super) fn check_all(s: &mut Section<'_, '_>, config: &Config) {
    let limits = &config.limits;
    if limits.shared && limits.principal.usage.requests_per_second.is_none() {
        let fault = "there is nothing to share: set limits.principal.requests_per_second";
        s.fault(&["limits.shared"], fault);
    }
    if limits.shared && config.state == State::None {
        s.fault(&["limits.shared", "state"], "nodes share nothing: set state to a Redis's URL");
    }
    // A body of the largest size has to fit at some time.
    for (key, bytes) in [
        ("limits.bytes_per_minute", limits.total.bytes_per_minute),
        ("limits.principal.bytes_per_minute", limits.principal.usage.bytes_per_minute),
    ] {
        if bytes.is_some_and(|bytes| bytes < config.http.body_bytes_max) {
            s.fault(
                &[key, "http.body_bytes_max"],
                format!("{key} is less than one body of http.body_bytes_max"),
            );
        }
    }
}
