//! The keys of the node itself: its connections to servers, its end, and what it says.

use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{DAY, GIB, HOUR, KIB, MIB, MINUTE, SHORTEST, ZERO, seconds};
use crate::config::faults::{did_you_mean, quoted};
use crate::config::reader::Section;
use crate::config::settings::{
    AuditTo, DrainConfig, LogFormat, MetricsConfig, TelemetryConfig, UpstreamConfig,
};
use crate::config::units::Reason;

pub(super) const UPSTREAM: &str = "Connections to the MCP servers. The certificates of `https://` servers are checked \
    against the system's trusted roots, or against those in the file that the variable `SSL_CERT_FILE` names.";

pub(super) fn upstream(s: &mut Section<'_, '_>) -> UpstreamConfig {
    let upstream = UpstreamConfig {
        connect_timeout: s.duration(
            "connect_timeout",
            seconds(5),
            SHORTEST..=5 * MINUTE,
            "Time for a new connection, TLS included. After it clients get 502.",
        ),
        idle_connections_max: s.count(
            "idle_connections_max",
            256,
            0..=65_536,
            "Unused connections kept open to each server. 0 opens one for each request. Over HTTP/2 requests share \
             connections, as many as the server lets them.",
        ),
        idle_connection_timeout: s.duration(
            "idle_connection_timeout",
            seconds(90),
            SHORTEST..=HOUR,
            "How long an unused connection is kept. It should be shorter than what the server itself \
             allows, or requests meet closed connections.",
        ),
        message_bytes_max: s.bytes(
            "message_bytes_max",
            16 * MIB,
            KIB..=GIB,
            "Size of one message from a server. Larger ones end the request with 502; a result in JSON of more \
             than 64 KiB is passed on as it comes, and breaks off there.",
        ),
        era_ttl: s.duration(
            "era_ttl",
            5 * MINUTE,
            SHORTEST..=DAY,
            "How long it is remembered which revisions of MCP a server speaks. A server that was updated \
             is noticed after this time.",
        ),
        reconnect_delay: s.duration(
            "reconnect_delay",
            seconds(1),
            SHORTEST..=10 * MINUTE,
            "Wait before a broken stream of a server is opened again. It doubles with every failure.",
        ),
        reconnect_delay_max: s.duration(
            "reconnect_delay_max",
            seconds(30),
            SHORTEST..=HOUR,
            "The longest such wait.",
        ),
        close_timeout: s.duration(
            "close_timeout",
            seconds(5),
            SHORTEST..=MINUTE,
            "Time to tell a server that a session has ended.",
        ),
    };
    if upstream.reconnect_delay > upstream.reconnect_delay_max {
        let (delay, max) = (upstream.reconnect_delay, upstream.reconnect_delay_max);
        s.longer(("reconnect_delay", delay), ("reconnect_delay_max", max));
    }
    upstream
}

pub(super) const DRAIN: &str = "What happens on SIGTERM, and in which order. The same times apply to the streams of a node that alone can't reach `state` or `bus`.";

pub(super) fn drain(s: &mut Section<'_, '_>) -> DrainConfig {
    DrainConfig {
        notice: s.duration(
            "notice",
            seconds(5),
            ZERO..=10 * MINUTE,
            "How long everything is still served after `/readyz` said no. Longer than the balancer takes to \
             notice. With `state: memory` there is nobody else to serve, and no notice.",
        ),
        handover: s.duration(
            "handover",
            seconds(5),
            ZERO..=10 * MINUTE,
            "Time over which open streams are then ended, spread evenly, so that their clients don't come back \
             to the other nodes all at once.",
        ),
        timeout: s.duration(
            "timeout",
            seconds(25),
            ZERO..=HOUR,
            "How long all of it may take; requests that still run then are left to other nodes or end with an \
             error. Kubernetes kills a pod 30s after SIGTERM unless told otherwise, so the default leaves 5s for \
             the rest.",
        ),
    }
}

pub(super) const TELEMETRY: &str = "What the process says about itself. Traces are configured by the standard variables \
    `OTEL_*`: [tracing](tracing.md).";

pub(super) fn telemetry(s: &mut Section<'_, '_>) -> TelemetryConfig {
    TelemetryConfig {
        log_format: s.choice(
            "log_format",
            &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)],
            LogFormat::Auto,
            "How log lines look. `auto` writes text to a terminal and JSON to anything else.",
        ),
        log_filter: s.text(
            "log_filter",
            "info",
            "`error`, `warn`, `info`, `debug`, `trace`, `off`, or `target=level` pairs with commas",
            log_filter,
            "Which log lines are written: those of a level and above; `info,holdfast::hub=debug` for more from one part.",
        ),
        // Those of the standard stand beside our keys (`otel`).
        traces: None,
    }
}

pub(super) const METRICS: &str = "What `/metrics` tells apart; [all there is](metrics.md).";

pub(super) fn metrics(s: &mut Section<'_, '_>) -> MetricsConfig {
    MetricsConfig {
        tools_max: s.count(
            "tools_max",
            200,
            0..=10_000,
            "Tools that have a label of their own in a process; calls of others are counted as `other`. Each makes \
             some 60 series at every node: 200 are as much as a Prometheus takes without being asked.",
        ),
    }
}

pub(super) const AUDIT: &str = "Who did what: sessions opened, claimed, refused and closed, credentials and calls \
    that were refused, limits that were met, and what operators did. Never a payload, never a credential; [the \
    events](security.md#the-audit-log).";

pub(super) fn audit(s: &mut Section<'_, '_>) -> AuditTo {
    let to = s.choice(
        "to",
        &[("log", AuditWord::Log), ("file", AuditWord::File), ("off", AuditWord::Off)],
        AuditWord::Log,
        "`log`: to the log, as the target `holdfast::audit`, whatever `telemetry.log_filter` says. `file`: to \
         `audit.file`. `off`: nowhere.",
    );
    let file = s.optional_text(
        "file",
        "none",
        "the path of a file, in a folder that is there",
        audit_file,
        "Where one JSON object a line is added. It is made for this user alone if it isn't there, and opened anew \
         when it was moved away, and at SIGHUP.",
    );
    match (to, file) {
        (AuditWord::File, Some(file)) => return AuditTo::File(file.into()),
        (AuditWord::File, None) if !s.was_given("file") => {
            s.fault(&["to"], "no file is named: set audit.file")
        }
        (AuditWord::Log | AuditWord::Off, Some(_)) => {
            s.fault(&["file"], "nothing would be written to it: set audit.to to `file`");
        }
        (AuditWord::Off, None) => return AuditTo::Nowhere,
        (AuditWord::File | AuditWord::Log, None) => {}
    }
    AuditTo::Log
}

#[derive(Clone, Copy, PartialEq)]
enum AuditWord {
    Off,
    Log,
    File,
}

fn audit_file(text: &str) -> Result<String, Reason> {
    let path = Path::new(text);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() && !path.is_dir() {
        true => Ok(text.to_owned()),
        false => Err(Reason::Borrowed("can't be one")),
    }
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A word alone would be taken for a target, and a misspelled level would silence everything else.
fn log_filter(text: &str) -> Result<String, Reason> {
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if word.parse::<LevelFilter>().is_err()
            && !word.contains("::")
            && !word.contains(['=', '[', '{', '}', ']'])
        {
            let near = did_you_mean(word, LEVELS);
            let which = if word == text { String::new() } else { format!("is no filter: {} ", quoted(word)) };
            return Err(format!("{which}is no level{near}").into());
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is not a filter".into()),
    }
}
