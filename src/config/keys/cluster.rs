//! The keys of what nodes share, and of what they know of each other.

use std::path::PathBuf;

use super::{MINUTE, SHORTEST, milliseconds, seconds};
use crate::config::reader::Section;
use crate::config::settings::{ClusterConfig, NatsConfig, RedisConfig};
use crate::config::units::Reason;

pub(super) const REDIS: &str = "How the Redis of `state` is used. It must run with `maxmemory-policy noeviction`; behind Sentinels also with `min-replicas-to-write 1`, or a failover forgets what the old primary acknowledged meanwhile.";

pub(super) fn redis(s: &mut Section<'_, '_>) -> RedisConfig {
    RedisConfig {
        prefix: s.text(
            "prefix",
            "hf",
            "1 to 32 letters, digits, `_` and `-`",
            plain_word,
            "What every key begins with. Gateways that are to share nothing share a Redis with different ones.",
        ),
        timeout: s.duration(
            "timeout",
            seconds(2),
            SHORTEST..=MINUTE,
            "Time for one step. Whoever waited longer gets 503; the step may still be done, without harm.",
        ),
        pending_max: s.count(
            "pending_max",
            10_000,
            100..=1_000_000,
            "Steps of this node that may wait for an answer at once. Beyond it requests get 503.",
        ),
        ca_file: file(s, "ca_file", "A file with PEM certificates that are trusted instead of the system's."),
    }
}

pub(super) const NATS: &str = "How the NATS of `bus` is used. User and password stand in its URL, with `%40` for `@` and so on; the other kinds of credentials in files.";

pub(super) fn nats(s: &mut Section<'_, '_>) -> NatsConfig {
    NatsConfig {
        prefix: s.text(
            "prefix",
            "holdfast",
            "1 to 32 letters, digits, `_` and `-`",
            plain_word,
            "What every subject begins with. Gateways that are to share nothing share a NATS with different ones.",
        ),
        timeout: s.duration(
            "timeout",
            seconds(2),
            SHORTEST..=MINUTE,
            "Time to connect, and for what is waited for.",
        ),
        inbox_max: s.count(
            "inbox_max",
            65_536,
            64..=1_000_000,
            "Messages of other nodes that may wait for this one. What finds it full is read from the log.",
        ),
        token_file: file(s, "token_file", "A file with a token."),
        nkey_file: file(s, "nkey_file", "A file with the seed of an nkey."),
        credentials_file: file(s, "credentials_file", "A file with a user's JWT and seed, as `nsc` writes it."),
        ca_file: file(s, "ca_file", "A file with PEM certificates that are trusted instead of the system's."),
    }
}

pub(super) fn file(s: &mut Section<'_, '_>, key: &'static str, doc: &'static str) -> Option<PathBuf> {
    let exists = |text: &str| match std::path::Path::new(text).is_file() {
        true => Ok(text.to_owned()),
        false => Err(Reason::Borrowed("is no file")),
    };
    s.optional_text(key, "none", "the path of a file", exists, doc).map(PathBuf::from)
}

fn plain_word(text: &str) -> Result<String, Reason> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("has other characters, or too many".into())
    }
}

pub(super) const CLUSTER: &str = "What nodes that share `state` and `bus` know of each other.";

pub(super) fn cluster(s: &mut Section<'_, '_>) -> ClusterConfig {
    ClusterConfig {
        node_name: s.text(
            "node_name",
            "node",
            "a host name",
            node_name,
            "What this node is called in logs and in `holdfast nodes`, such as its pod's name; what tells its \
             starts apart is added.",
        ),
        lease: s.duration(
            "lease",
            seconds(2),
            milliseconds(200)..=MINUTE,
            "A node without a sign of life for this long, which does not answer the others either, is dead: \
             they take over what it ran. It gives four signs in that time.",
        ),
    }
}

fn node_name(text: &str) -> Result<String, Reason> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let named = text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    if named && text.len() <= 253 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("is not a host name".into())
    }
}
