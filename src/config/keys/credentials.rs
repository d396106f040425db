//! The keys of what a server is shown of who asks, of what goes on to it, and of how TLS is spoken with it.

use super::auth::{address_or_name, is_scope};
use super::cluster::file;
use super::issuer::is_safe;
use super::tls;
use crate::config::reader::Section;
use crate::config::secret::Secret;
use crate::config::settings::{AuthMode, Config, CredentialsConfig, Grant, ServerTlsConfig, State};
use crate::config::units::Reason;

pub(super) const CREDENTIALS: &str = "What this server is shown of who asks. A client's own credential never goes on to a server. Nothing by default; a fixed `header`; or a token that the server's authorization server gives \
    to `client_id`, kept until shortly before it expires and replaced when the server refuses it.";

pub(super) const TLS: &str = "How TLS is spoken with this server, where its address is `https://`.";

/// Headers that requests have of their own, and what stands for a credential.
const OURS: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "last-event-id",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What goes on to every server.
const PASSED: [&str; 4] = ["accept-language", "baggage", "traceparent", "tracestate"];

/// Clients' credentials, which are for the gateway (A8).
const CREDENTIAL: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

pub(super) fn credentials(s: &mut Section<'_, '_>) -> CredentialsConfig {
    let header = s.checked_secret(
        "header",
        "`NAME: VALUE`, such as `Authorization: Bearer TOKEN`",
        |text| match header(text) {
            Some((name, _)) if is_ours(&name) => Err("is one that requests have of their own".into()),
            Some(_) => Ok(()),
            None => Err("is no header".into()),
        },
        "A header that each request to this server has.",
    );
    let grant = s.choice(
        "grant",
        &[("client_credentials", Grant::ClientCredentials), ("token_exchange", Grant::TokenExchange)],
        Grant::ClientCredentials,
        "What the token is given for: `client_credentials`, for the gateway itself (RFC 6749), whoever its client is; \
         `token_exchange`, for the token that the client came with (RFC 8693), so that the server knows its client. \
         That token is shown to the authorization server only; it has to be one of `auth.issuers`.",
    );
    let endpoint = s.url(
        "token_url",
        "The token endpoint of its authorization server. `https://`, but for this machine.",
    );
    let client_id =
        s.optional_text("client_id", "none", "a name", address_or_name, "Who the gateway is there.");
    let client_secret = s.checked_secret(
        "client_secret",
        "visible ASCII and spaces",
        |text| match text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            true => Ok(()),
            false => Err("has other characters".into()),
        },
        "What it proves that with.",
    );
    let scopes = s.list(
        "scopes",
        "none",
        "visible ASCII without `\"`, `\\` and `=`",
        |text| if is_scope(text) { Ok(text.to_owned()) } else { Err("is no scope".into()) },
        "What the token shall allow.",
    );
    let resource = s.optional_text(
        "resource",
        "the address of the server",
        "a URL without a query, or a name",
        address_or_name,
        "What the token is for, as the authorization server knows it (RFC 8707).",
    );
    if endpoint.as_ref().is_some_and(|url| !is_safe(url)) {
        s.fault(&["token_url"], "whoever is on the way could read the client's secret: use https://");
    }
    let token = ["token_url", "client_id", "client_secret"];
    let given = token.iter().filter(|key| s.was_given(key)).count();
    if given > 0 && s.was_given("header") {
        s.fault(&["header"], "a server is shown a header or a token, not both");
    }
    if (given > 0 || grant == Grant::TokenExchange) && given < token.len() {
        s.fault(&token, "a token needs token_url, client_id and client_secret");
    }
    match (header.as_ref().and_then(|text| self::header(text.reveal())), endpoint, client_id, client_secret) {
        (Some((name, value)), ..) => CredentialsConfig::Header(name, Secret::new(value)),
        (None, Some(endpoint), Some(client_id), Some(client_secret)) => {
            CredentialsConfig::Token { grant, endpoint, client_id, client_secret, scopes, resource }
        }
        _ => CredentialsConfig::None,
    }
}

pub(super) fn pass_headers(s: &mut Section<'_, '_>) -> Vec<String> {
    s.list(
        "pass_headers",
        "none",
        "names of headers that requests don't have of their own, and that are no credentials",
        passed,
        "Headers of clients that go on to this server as they are, such as `x-tenant`, beside those of tracing. They \
         prove nothing: any client can send them. A session of HTTP+SSE has those of the GET that opened it, kept \
         encrypted under `cluster.keys`.",
    )
}

fn passed(text: &str) -> Result<String, Reason> {
    let name = text.to_ascii_lowercase();
    match name.as_str() {
        name if !is_name(name) => Err("is no name of a header".into()),
        name if CREDENTIAL.contains(&name) => {
            Err("stands for a client's credential, which is for the gateway".into())
        }
        name if is_ours(name) => Err("is one that requests have of their own".into()),
        name if PASSED.contains(&name) => Err("goes on to every server".into()),
        _ => Ok(name),
    }
}

pub(super) fn tls(s: &mut Section<'_, '_>) -> ServerTlsConfig {
    ServerTlsConfig {
        ca_file: file(s, "ca_file", "A file with PEM certificates that are trusted instead of the system's."),
        shown: tls::files(
            s,
            "A file with the certificate that the server is shown where it asks for one (mTLS), in PEM, followed by \
             those that lead to its root. It is looked at every two seconds: new connections show the new one.",
        ),
    }
}

/// What hangs on other sections.
pub(super) fn check(s: &mut Section<'_, '_>, config: &Config) {
    for (name, server) in &config.servers {
        let exchanges =
            matches!(&server.credentials, CredentialsConfig::Token { grant: Grant::TokenExchange, .. });
        if exchanges && (config.auth.mode == AuthMode::None || config.auth.issuers.is_empty()) {
            let grant = format!("servers.{name}.credentials.grant");
            s.fault(
                &[&grant, "auth.issuers"],
                "only tokens of auth.issuers can be exchanged, and there are none",
            );
        }
        let shared = matches!(config.state, State::Redis(_)) && config.cluster.keys.is_empty();
        if shared && !server.pass_headers.is_empty() {
            let passed = format!("servers.{name}.pass_headers");
            s.fault(
                &[&passed, "cluster.keys"],
                "what a session's client sent is kept encrypted: set cluster.keys",
            );
        }
    }
}

fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("mcp-")
}

fn is_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// The name in lower case, and the value.
fn header(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once(':')?;
    let value = value.trim();
    let visible = !value.is_empty() && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    (is_name(name) && visible).then(|| (name.to_ascii_lowercase(), value))
}
