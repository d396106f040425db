//! Who may call from a browser, and under which host name (L2, L3, M2: DNS rebinding), and the CORS
//! headers that let those who may.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::Edge;
use super::audit::address;
use super::response::refuse;
use crate::telemetry::{AuditEvent, Deed};

/// Which pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// The gateway's own (`public_url`); on loopback, any loopback page.
    Own,
    Any,
    /// As browsers send them.
    Only(Vec<String>),
}

/// Which host names a request may be addressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// Loopback names when listening on loopback, otherwise any.
    Own,
    Any,
    /// With or without a port; one without stands for every port.
    Only(Vec<String>),
}

/// What is accepted of `Origin` and `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub origins: Origins,
    pub hosts: Hosts,
    /// The listener is reached from this machine only.
    pub loopback: bool,
    /// Host, and port where it has one, of `public_url`; its origin.
    pub public: Option<(String, String)>,
}

impl Policy {
    fn allows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        if self.public.as_ref().is_some_and(|(public, _)| names(public, &host)) {
            return true;
        }
        match &self.hosts {
            Hosts::Any => true,
            Hosts::Own => !self.loopback || is_loopback(without_port(&host)),
            Hosts::Only(allowed) => allowed.iter().any(|allowed| names(allowed, &host)),
        }
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        if self.public.as_ref().is_some_and(|(_, public)| *public == origin) {
            return true;
        }
        match &self.origins {
            Origins::Any => true,
            Origins::Own => self.loopback && loopback_origin(&origin),
            Origins::Only(allowed) => allowed.contains(&origin),
        }
    }

    /// CORS for the origins that are allowed, with MCP's headers (and none for the others).
    pub(super) fn cors(&self) -> CorsLayer {
        let policy = self.clone();
        let allowed = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
            origin.to_str().is_ok_and(|origin| policy.allows_origin(origin))
        };
        let exposed = ["mcp-session-id", "www-authenticate", "retry-after"].map(HeaderName::from_static);
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allowed))
            .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
            // What a page asks for: `Mcp-Param-*` can't be listed beforehand.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed)
            .max_age(Duration::from_secs(3600))
    }
}

/// Refuses what comes from, or is addressed to, elsewhere: 403 before anything is looked at.
pub(super) async fn guard(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let policy = &edge.config.policy;
    let Some(host) = host(&request) else {
        let why = "a request is addressed to one Host";
        return refuse(&edge.hub, StatusCode::BAD_REQUEST, why);
    };
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let refused = if host.is_some_and(|host| !policy.allows_host(&host)) {
        Some(("host", "this Host is not allowed (http.allowed_hosts)"))
    } else if !origins.all(|origin| origin.to_str().is_ok_and(|origin| policy.allows_origin(origin))) {
        Some(("origin", "this Origin is not allowed (http.allowed_origins)"))
    } else {
        None
    };
    match refused {
        Some((reason, why)) => {
            let event = AuditEvent::new(Deed::OriginRefused).reason(reason);
            edge.hub.audit().record(&AuditEvent { address: address(&request), ..event });
            refuse(&edge.hub, StatusCode::FORBIDDEN, why)
        }
        None => next.run(request).await,
    }
}

/// Whom a request is addressed to: nobody over HTTP/1.0, if it likes; otherwise one (RFC 9112, 3.2).
#[expect(clippy::option_option, reason = "not saying it and not being allowed to differ")]
fn host(request: &Request) -> Option<Option<Cow<'_, str>>> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let named = request.uri().authority().map(|authority| Cow::Borrowed(authority.as_str()));
    let named = named.or_else(|| host.map(|host| String::from_utf8_lossy(host.as_bytes())));
    (more.is_none() && (named.is_some() || request.version() <= Version::HTTP_10)).then_some(named)
}

/// By a name that no page of another site can have (DNS rebinding).
pub(super) fn is_addressed_to_this_machine(request: &Request) -> bool {
    host(request).flatten().is_some_and(|host| is_loopback(without_port(&host.to_ascii_lowercase())))
}

fn names(allowed: &str, host: &str) -> bool {
    allowed == host || allowed == without_port(host)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn is_loopback(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn loopback_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(|host| is_loopback(without_port(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Policy {
        Policy { origins: Origins::Own, hosts: Hosts::Own, loopback: true, public: None }
    }

    #[test]
    fn on_loopback_only_loopback_names_are_served() {
        let check = |host: &str, allowed: bool| assert_eq!(loopback().allows_host(host), allowed, "{host}");
        check("127.0.0.1:4444", true);
        check("localhost", true);
        check("[::1]:4444", true);
        check("evil.example.com", false);
        check("localhost.evil.example.com:4444", false);
        check("127.0.0.1.evil.example.com", false);
    }

    #[test]
    fn origins_are_matched_whole() {
        let check =
            |origin: &str, allowed: bool| assert_eq!(loopback().allows_origin(origin), allowed, "{origin}");
        check("http://localhost:3000", true);
        check("http://127.0.0.1:4444", true);
        check("http://evil.example.com", false);
        check("http://localhost.evil.example.com", false);
        check("null", false);
    }

    #[test]
    fn public_url_is_always_ones_own() {
        let public = Some(("mcp.example.com".to_owned(), "https://mcp.example.com".to_owned()));
        let policy = Policy { public, ..loopback() };
        assert!(policy.allows_host("mcp.example.com:443"));
        assert!(policy.allows_origin("https://mcp.example.com"));
        assert!(!policy.allows_origin("http://mcp.example.com"));
    }
}
