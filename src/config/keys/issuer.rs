//! The keys of one issuer of tokens.

use url::{Host, Url};

use super::auth::address_or_name;
use super::cluster;
use crate::config::reader::Section;
use crate::config::secret::Secret;
use crate::config::settings::{IntrospectionConfig, IssuerConfig, KeysFrom};
use crate::config::units::Reason;

/// What each hash needs of a secret, in bytes (RFC 7518, section 3.2).
const SECRETS: [(&str, usize); 3] = [("HS256", 32), ("HS384", 48), ("HS512", 64)];

/// By their names in RFC 7518, section 3.1.
const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

/// What stands in the form of RFC 6749, section 2.3.1, before it is encoded.
const VISIBLE: &str = "visible ASCII";

pub(super) fn issuer(s: &mut Section<'_, '_>) -> Option<IssuerConfig> {
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
            "iss" | "aud" | "scope" | "scp" | "exp" | "nbf" | "iat" | "jti" | "cnf" | "token_type"
            | "active" => Err("says something else".into()),
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
    let introspection = introspection(s);
    // One that is at fault was meant all the same.
    let given = ["secret", "keys_file", "keys_url"].iter().any(|key| s.was_given(key));
    let discovered = !given && !s.was_given("introspection_url");
    let address = issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok());
    if discovered && issuer.is_some() && !address.as_ref().is_some_and(is_safe) {
        let why = "its keys can't be found there, as it is no https:// URL: give keys_url, keys_file, secret or \
                   introspection_url";
        s.fault(&["issuer"], why);
    } else if address.is_some_and(|url| url.scheme() == "http" && !is_safe(&url)) {
        s.fault(&["issuer"], "clients would be sent there to log in without encryption: use https://");
    }
    if !discovered && !given && !algorithms.is_empty() {
        s.fault(&["algorithms"], "nothing is verified here without keys_url, keys_file or secret");
    }
    check_algorithms(s, secret.as_ref(), &algorithms);
    let keys = match (secret, file, url) {
        (Some(secret), ..) => KeysFrom::Secret(secret),
        (None, Some(file), _) => KeysFrom::File(file),
        (None, None, Some(url)) => KeysFrom::Url(url),
        (None, None, None) if discovered => KeysFrom::Metadata,
        (None, None, None) => KeysFrom::Nowhere,
    };
    Some(IssuerConfig { issuer: issuer?, keys, algorithms, audiences, subject_claim, introspection })
}

fn introspection(s: &mut Section<'_, '_>) -> Option<IntrospectionConfig> {
    let url = s.url(
        "introspection_url",
        "Where it is asked about tokens (RFC 7662). `https://`, but for this machine. Sent there are tokens that are \
         no JWT and begin with `token_prefix`, and JWTs that name this issuer, if nothing says what they are \
         verified with; nothing else.",
    );
    let client_id = s.optional_text(
        "client_id",
        "none",
        VISIBLE,
        |text| if is_visible(text) { Ok(text.to_owned()) } else { Err("is none".into()) },
        "What this gateway is called there.",
    );
    let client_secret = s.checked_secret(
        "client_secret",
        VISIBLE,
        |text| if is_visible(text) { Ok(()) } else { Err("is not".into()) },
        "What it shows there that it is that client (HTTP Basic).",
    );
    let token_prefix = s.optional_text(
        "token_prefix",
        "those that no other issuer's prefix fits",
        "what may stand in a token",
        |text| match text.starts_with("hf_") || !text.bytes().all(is_of_token) {
            true => Err("is not, or stands for tokens of `holdfast token`".into()),
            false => Ok(text.to_owned()),
        },
        "What tokens begin with that are no JWT and that this issuer is asked about. Of several issuers it is the one \
         with the longest that fits, and nobody else; about tokens of `holdfast token` nobody is asked.",
    );
    if url.as_ref().is_some_and(|url| !is_safe(url)) {
        s.fault(&["introspection_url"], "whoever is on the way could read tokens, or answer: use https://");
    }
    if url.is_some() {
        for needed in ["client_id", "client_secret"] {
            if !s.was_given(needed) {
                s.fault(&["introspection_url"], format!("nobody may ask there without {needed}"));
            }
        }
    } else if !s.was_given("introspection_url") {
        let given = [
            ("client_id", client_id.is_some()),
            ("client_secret", client_secret.is_some()),
            ("token_prefix", token_prefix.is_some()),
        ];
        if let Some((useless, _)) = given.into_iter().find(|(_, given)| *given) {
            s.fault(&[useless], "nobody is asked: there is no introspection_url");
        }
    }
    let token_prefix = token_prefix.unwrap_or_default();
    Some(IntrospectionConfig {
        url: url?,
        client_id: client_id?,
        client_secret: client_secret?,
        token_prefix,
    })
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 6750, section 2.1.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
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
pub(super) fn is_safe(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}
