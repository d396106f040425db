//! Texts that come from the web: URLs, origins, hosts. Each is checked and brought into the form in which
//! browsers and clients send it.

use url::{Host, Url};

use super::units::Reason;

pub(super) const RANGE: &str = "`http://` or `https://`";

pub(super) fn url(text: &str) -> Result<Url, Reason> {
    let url = Url::parse(text).map_err(|_| Reason::Borrowed("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("has another scheme".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it".into());
    }
    if url.fragment().is_some() {
        return Err("has a fragment".into());
    }
    Ok(url)
}

pub(super) fn without_query(url: Url) -> Result<Url, Reason> {
    if url.query().is_some() { Err("has a query".into()) } else { Ok(url) }
}

/// An origin as browsers send it: lower case, no trailing slash, no default port. `*` stands for any.
pub(super) fn origin(text: &str) -> Result<String, Reason> {
    const NOT_ONE: Reason = Reason::Borrowed("is not an origin");
    if text == "*" {
        return Ok(text.to_owned());
    }
    let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://").ok_or(NOT_ONE)?;
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', '\\', ',', '*']) {
        return Err(NOT_ONE);
    }
    let url = Url::parse(&text).map_err(|_| NOT_ONE)?;
    let plain = url.host().is_some_and(|host| is_plain(&host.to_owned()));
    match scheme {
        "http" | "https" if plain => Ok(url.origin().ascii_serialization()),
        "http" | "https" => Err(NOT_ONE),
        _ => Ok(text),
    }
}

/// `host` or `host:port` in lower case. `*` stands for any.
pub(super) fn host(text: &str) -> Result<String, Reason> {
    const NOT_ONE: Reason = Reason::Borrowed("is not a host");
    if text == "*" {
        return Ok(text.to_owned());
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let name = Host::parse(name).ok().filter(is_plain).ok_or(NOT_ONE)?;
    match port.map(str::parse::<u16>) {
        None => Ok(name.to_string()),
        Some(Ok(port)) => Ok(format!("{name}:{port}")),
        Some(Err(_)) => Err(NOT_ONE),
    }
}

/// The URL standard lets names have characters that no host has.
fn is_plain(host: &Host) -> bool {
    match host {
        Host::Domain(name) => {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        }
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(origin(text).ok().as_deref(), expected, "{text}");
        }
        check("https://App.example.com/", Some("https://app.example.com"));
        check("https://app.example.com:443", Some("https://app.example.com"));
        check("http://localhost:3000", Some("http://localhost:3000"));
        check("vscode-webview://abc", Some("vscode-webview://abc"));
        check("*", Some("*"));
        check("https://*.example.com", None);
        check("https://app.example.com/path", None);
        check("https://user@app.example.com", None);
        check("app.example.com", None);
        check("https://", None);
        check("null", None);
        check("https://a=b", None);
        check("", None);
    }

    #[test]
    fn hosts() {
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(host(text).ok().as_deref(), expected, "{text}");
        }
        check("MCP.example.com", Some("mcp.example.com"));
        check("mcp.example.com:8443", Some("mcp.example.com:8443"));
        check("[::1]:4444", Some("[::1]:4444"));
        check("[::1]", Some("[::1]"));
        check("127.0.0.1", Some("127.0.0.1"));
        check("*", Some("*"));
        check("http://mcp.example.com", None);
        check("mcp.example.com:many", None);
        check("a=b", None);
        check("mcp.example.com/path", None);
        check("", None);
    }

    #[test]
    fn urls() {
        fn check(text: &str, expected: Result<&str, &str>) {
            let found = url(text).and_then(without_query);
            assert_eq!(found.as_ref().map(Url::as_str).map_err(AsRef::as_ref), expected, "{text}");
        }
        check("https://mcp.example.com/tools", Ok("https://mcp.example.com/tools"));
        check("http://127.0.0.1:3001", Ok("http://127.0.0.1:3001/"));
        check("ftp://host", Err("has another scheme"));
        check("host:80", Err("has another scheme"));
        check("host", Err("is not a URL"));
        check("http://user:secret@host", Err("has a user name or password in it"));
        check("http://host/?a=b", Err("has a query"));
        check("http://host/#a", Err("has a fragment"));
    }
}
