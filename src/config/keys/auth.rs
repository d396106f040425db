//! The keys of who may call, and of what they may call.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use url::{Host, Url};

use super::cluster;
use super::{DAY, HOUR, MINUTE, SHORTEST, ZERO, seconds};
use crate::config::reader::Section;
use crate::config::secret::Secret;
use crate::config::settings::{
    AccessConfig, AuthConfig, AuthMode, Config, IssuerConfig, KeysFrom, TokenConfig,
};
use crate::config::units::Reason;

pub(super) const AUTH: &str = "Who may call. Each caller is a principal: a session belongs to the one that opened it, and to anybody else looks as if it did not exist.";

const TOKENS: &str = "Static tokens, each under the name of who holds it. `holdfast token NAME` makes one.";

const ISSUERS: &str = "Who issues tokens (JWT, RFC 7519) that are taken, each under a name of its own, by which \
    its principals are told apart from those of others. What an issuer's keys are is said by one of `secret`, \
    `keys_file` and `keys_url`, or else found at its metadata (RFC 8414, OpenID Connect Discovery).";

/// What each hash needs of a secret, in bytes (RFC 7518, section 3.2).
const SECRETS: [(&str, usize); 3] = [("HS256", 32), ("HS384", 48), ("HS512", 64)];

/// By their names in RFC 7518, section 3.1.
const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

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

fn issuer(s: &mut Section<'_, '_>) -> Option<IssuerConfig> {
    let issuer = s.optional_text(
        "issuer",
        "must be given",
        "a URL without a query, or a name",
        address_or_name,
        "The `iss` of its tokens, to the letter. As a URL, it is what clients are told to log in at.",
    );
    if !s.was_given("issuer") {
        s.missing("issuer");
    }
    let secret = s.checked_secret(
        "secret",
        "32 bytes or more; for HS384 48, for HS512 64",
        |text| if text.len() < SECRETS[0].1 { Err("is shorter".into()) } else { Ok(()) },
        "What HS256, HS384 and HS512 are verified with. Whoever knows it can be anybody.",
    );
    let keys_file = "A file with its public keys: a JWK set, or PEM. Read again every `auth.keys_ttl`.";
    let file = cluster::file(s, "keys_file", keys_file);
    let url = s.url("keys_url", "Where its JWK set is (`jwks_uri`). `https://`, but for this machine.");
    let algorithms = s.list(
        "algorithms",
        "what its keys are fit for",
        "`HS256` to `HS512`, `RS256` to `RS512`, `PS256` to `PS512`, `ES256`, `ES384`, `EdDSA`",
        |text| match ALGORITHMS.contains(&text) {
            true => Ok(text.to_owned()),
            false => Err(Reason::Borrowed("is no signature algorithm that is supported")),
        },
        "Which signature algorithms are taken. What a token says of itself is never enough.",
    );
    let audiences = s.list(
        "audiences",
        "the addresses of what is called, below `public_url`",
        "URLs without a query, or names",
        address_or_name,
        "Of which a token's `aud` has to name one, whatever it is used for.",
    );
    let subject_claim = s.text(
        "subject_claim",
        "sub",
        "the name of a claim that says who",
        |text| match text {
            "iss" | "aud" | "scope" | "scp" => Err("says something else".into()),
            _ => address_or_name(text),
        },
        "The claim that says who a token is of. Another than `sub` must be as unique, and never given anew.",
    );
    let given = [secret.is_some(), file.is_some(), url.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        s.fault(
            &["keys_url", "keys_file", "secret"],
            "only one of secret, keys_file and keys_url can be used",
        );
    }
    if url.as_ref().is_some_and(|url| !is_safe(url)) {
        s.fault(&["keys_url"], "whoever is on the way could put keys of their own there: use https://");
    }
    // One that is at fault was meant all the same.
    let discovered = !["secret", "keys_file", "keys_url"].iter().any(|key| s.was_given(key));
    let address = issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok());
    if discovered && issuer.is_some() && !address.as_ref().is_some_and(is_safe) {
        let why =
            "its keys can't be found there, as it is no https:// URL: give keys_url, keys_file or secret";
        s.fault(&["issuer"], why);
    } else if address.is_some_and(|url| url.scheme() == "http" && !is_safe(&url)) {
        s.fault(&["issuer"], "clients would be sent there to log in without encryption: use https://");
    }
    check_algorithms(s, secret.as_ref(), &algorithms);
    let keys = match (secret, file, url) {
        (Some(secret), ..) => KeysFrom::Secret(secret),
        (None, Some(file), _) => KeysFrom::File(file),
        (None, None, Some(url)) => KeysFrom::Url(url),
        (None, None, None) => KeysFrom::Metadata,
    };
    Some(IssuerConfig { issuer: issuer?, keys, algorithms, audiences, subject_claim })
}

fn check_algorithms(s: &mut Section<'_, '_>, secret: Option<&Secret>, algorithms: &[String]) {
    for algorithm in algorithms {
        let needed = SECRETS.iter().find(|(name, _)| name == algorithm).map(|(_, bytes)| *bytes);
        match (needed, secret) {
            (Some(_), None) if !s.was_given("secret") => {
                s.fault(&["algorithms"], format!("{algorithm} needs a secret, and there is none"));
            }
            (None, Some(_)) => {
                s.fault(&["algorithms"], format!("{algorithm} needs public keys, and not a secret"))
            }
            (Some(bytes), Some(secret)) if secret.reveal().len() < bytes => {
                s.fault(&["secret"], format!("it is shorter than the {bytes} bytes that {algorithm} needs"));
            }
            _ => {}
        }
    }
}

/// Encrypted, or on this machine.
fn is_safe(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
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
fn address_or_name(text: &str) -> Result<String, Reason> {
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
