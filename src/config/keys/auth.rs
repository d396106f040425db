//! The keys of who may call, and of what they may call.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::issuer::issuer;
use super::{DAY, HOUR, MINUTE, SHORTEST, ZERO, seconds};
use crate::config::reader::Section;
use crate::config::secret::Secret;
use crate::config::settings::{AccessConfig, AuthConfig, AuthMode, Config, TokenConfig};
use crate::config::units::Reason;

pub(super) const AUTH: &str = "Who may call. Each caller is a principal: a session belongs to the one that opened it, and to anybody else looks as if it did not exist.";

const TOKENS: &str = "Static tokens, each under the name of who holds it. `holdfast token NAME` makes one.";

const ISSUERS: &str = "Who issues tokens (JWT, RFC 7519) that are taken, each under a name of its own, by which \
    its principals are told apart from those of others. What an issuer's keys are is said by one of `secret`, \
    `keys_file` and `keys_url`, or else found at its metadata (RFC 8414, OpenID Connect Discovery). With \
    `introspection_url` it is asked about tokens that are no JWT (RFC 7662), and about its JWTs, too, unless one of \
    the three says what they are verified with.";

const TTLS: RangeInclusive<Duration> = seconds(10)..=DAY;

pub(super) fn auth(s: &mut Section<'_, '_>) -> AuthConfig {
    AuthConfig {
        mode: s.choice(
            "mode",
            &[("none", AuthMode::None), ("tokens", AuthMode::Tokens)],
            AuthMode::None,
            "`none`: nobody has to log in, and all callers are one. `tokens`: every request needs one of \
             `auth.tokens`, or one of an issuer in `auth.issuers`, as `Authorization: Bearer TOKEN`.",
        ),
        insecure: s.switch(
            "insecure",
            false,
            "`on` lets `auth.mode: none` listen on other addresses than this machine's own: whoever reaches \
             them is everybody.",
        ),
        leeway: s.duration(
            "leeway",
            MINUTE,
            ZERO..=HOUR,
            "What the clocks of an issuer and of this node may differ by.",
        ),
        keys_ttl: s.duration(
            "keys_ttl",
            seconds(600),
            TTLS,
            "How often an issuer's keys are read again. One that a token needs and that is not known is looked \
             for at once, every 2 s at most.",
        ),
        keys_stale_max: s.duration(
            "keys_stale_max",
            DAY,
            seconds(10)..=seconds(7 * 86_400),
            "For how long the keys that were read last are used while an issuer can't be reached. Without any, \
             its tokens are answered with 503.",
        ),
        timeout: s.duration(
            "timeout",
            seconds(5),
            SHORTEST..=MINUTE,
            "For one answer of an issuer. A request that waits for keys waits no longer either.",
        ),
        introspection_ttl: s.duration(
            "introspection_ttl",
            seconds(30),
            ZERO..=HOUR,
            "For how long an issuer's word about a token is taken before it is asked again, and never beyond the \
             token's end: a token that is revoked is good for so long at most. That a token is not active is \
             remembered for 5 s at most.",
        ),
        introspections_max: s.count(
            "introspections_max",
            32,
            1..=10_000,
            "Tokens that one issuer is asked about at the same time. Others wait, for `auth.timeout` in all, and \
             are then answered with 503.",
        ),
        tokens_remembered_max: s.count(
            "tokens_remembered_max",
            10_000,
            0..=10_000_000,
            "Tokens of issuers that are remembered, by a hash, so that they are not verified or asked about at \
             every request. Those that come often stay.",
        ),
        tokens: s.map("tokens", TOKENS, |_, s| Some(token(s))),
        issuers: s.map("issuers", ISSUERS, |_, s| issuer(s)),
    }
}

fn token(s: &mut Section<'_, '_>) -> TokenConfig {
    let sha256 = sha256(s);
    let scopes = scopes(s, "What it allows, where a server or a tool asks for scopes.");
    TokenConfig { sha256, scopes }
}

pub(super) fn sha256(s: &mut Section<'_, '_>) -> Option<Secret> {
    s.required_secret(
        "sha256",
        "64 hexadecimal digits",
        |text| match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(()),
            false => Err(Reason::Borrowed("is no SHA-256")),
        },
        "The SHA-256 of the token, which itself is written nowhere.",
    )
}

pub(super) fn access(s: &mut Section<'_, '_>) -> AccessConfig {
    AccessConfig {
        anonymous: s.switch(
            "anonymous",
            false,
            "`on` takes requests without a token, too, where `auth.mode` asks for one: all of them are of one \
             principal, which has no scopes. A token that is not valid is refused all the same.",
        ),
        scopes: scopes(s, "What a token has to allow, all of it, for anything at this server."),
        tools: s.list(
            "tools",
            "everybody may call every tool",
            "`NAME SCOPE …`, with `*` in names for any characters",
            |text| tool_rule(text).map(|_| text.to_owned()),
            "Who may call which tools: `read_*` everybody, `write_* files:write` whose token allows \
             `files:write`. A call is allowed by any entry that names its tool. If there are entries, nobody \
             may call a tool that none of them names.",
        ),
    }
}

/// The name or pattern, and the scopes.
fn tool_rule(text: &str) -> Result<(), Reason> {
    let mut words = text.split_ascii_whitespace();
    let named =
        words.next().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'='));
    if named && words.all(is_scope) { Ok(()) } else { Err("is no tool with its scopes".into()) }
}

/// What may stand for an issuer, an audience, or a claim.
pub(super) fn address_or_name(text: &str) -> Result<String, Reason> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"\\<>=?#".contains(&byte);
    match !text.is_empty() && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(Reason::Borrowed("is neither")),
    }
}

fn scopes(s: &mut Section<'_, '_>, doc: &'static str) -> Vec<String> {
    let check = |text: &str| if is_scope(text) { Ok(text.to_owned()) } else { Err("is no scope".into()) };
    s.list("scopes", "none", "visible ASCII without `\"`, `\\` and `=`", check, doc)
}

/// RFC 6749, section 3.3; there `=` is allowed, and nobody uses it.
#[must_use]
pub fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\=".contains(&byte))
}

/// What doesn't fit together.
pub(super) fn check(s: &mut Section<'_, '_>, config: &Config) {
    let auth = &config.auth;
    match auth.mode {
        AuthMode::Tokens if auth.tokens.is_empty() && auth.issuers.is_empty() => {
            s.fault(&["auth.mode"], "nobody could log in: there are no auth.tokens and no auth.issuers");
        }
        // One that is at fault is a token all the same, and fault enough.
        AuthMode::None
            if auth.tokens.values().any(|token| token.sha256.is_some()) || !auth.issuers.is_empty() =>
        {
            let why = "there are auth.tokens or auth.issuers, and nobody is asked: set auth.mode to tokens";
            s.fault(&["auth.mode"], why);
        }
        AuthMode::None if !config.listen.ip().is_loopback() && !auth.insecure => s.fault(
            &["listen", "auth.mode"],
            "it is reached from other machines, and nobody has to log in: set auth.mode, or auth.insecure if \
             that is meant",
        ),
        AuthMode::None | AuthMode::Tokens => {}
    }
    if auth.mode == AuthMode::None {
        for (name, server) in &config.servers {
            if server.access != AccessConfig::default() {
                let keys = ["scopes", "tools", "anonymous"].map(|key| format!("servers.{name}.{key}"));
                let keys: Vec<_> = keys.iter().map(String::as_str).collect();
                s.fault(
                    &keys,
                    "nobody is asked for a token, so it would mean nothing: set auth.mode to tokens",
                );
            }
        }
    }
    for (name, _) in config
        .servers
        .iter()
        .filter(|(_, server)| server.access.anonymous && !server.access.scopes.is_empty())
    {
        let keys = ["anonymous", "scopes"].map(|key| format!("servers.{name}.{key}"));
        s.fault(
            &[&keys[0], &keys[1]],
            "requests without a token have no scopes, and this server asks for some",
        );
    }
    for name in auth.issuers.iter().filter(|(_, issuer)| issuer.audiences.is_empty()).map(|(name, _)| name) {
        if config.public_url.is_none() {
            let key = format!("auth.issuers.{name}.issuer");
            s.fault(
                &[&key],
                "without audiences of its own, and without public_url, no token could be meant for this",
            );
        }
    }
    let clients = auth.tokens.iter().map(|(name, token)| ("auth", name, &token.sha256));
    let operators = config.admin.tokens.iter().map(|(name, sha256)| ("admin", name, sha256));
    same(
        s,
        clients.chain(operators).filter_map(|(room, name, sha256)| {
            let digest = sha256.as_ref()?.reveal().to_lowercase();
            Some((format!("{room}.tokens.{name}.sha256"), digest))
        }),
        "is the same token as that of",
    );
    same(
        s,
        auth.issuers
            .iter()
            .map(|(name, issuer)| (format!("auth.issuers.{name}.issuer"), issuer.issuer.clone())),
        "is the same as",
    );
    same(
        s,
        auth.issuers.iter().filter_map(|(name, issuer)| {
            let introspection = issuer.introspection.as_ref()?;
            Some((format!("auth.issuers.{name}.introspection_url"), introspection.token_prefix.clone()))
        }),
        "its tokens would begin like those of another: give token_prefix, as they can't be told from those of",
    );
}

/// Two of them would be one principal with two names.
fn same(s: &mut Section<'_, '_>, values: impl Iterator<Item = (String, String)>, what: &str) {
    let mut known = BTreeMap::new();
    for (key, value) in values {
        if let Some(other) = known.insert(value, key.clone()) {
            s.fault(&[&key, &other], format!("{what} {other}"));
        }
    }
}
