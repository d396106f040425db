//! What is protected, under the addresses that clients and authorization servers know it by (RFC 8707,
//! RFC 9728): the gateway, and each server at each of its endpoints.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;
use url::Url;

use super::scope::Access;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What a gateway offers.
#[derive(Debug, Clone, Default)]
pub struct Offered {
    /// What clients call it from outside. Needed for tokens of issuers that name no audience.
    pub public_url: Option<Url>,
    pub servers: BTreeMap<String, Access>,
    /// The server at the paths without a name.
    pub default_server: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Resources {
    servers: BTreeMap<String, Resource>,
    default: Option<String>,
    /// The gateway itself, and what isn't there.
    gateway: Resource,
    /// Scheme and authority of the public URL, and its path without a slash at its end.
    origin: String,
    prefix: String,
    issuers: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Resource {
    access: Access,
    /// What a token that is meant for it may name.
    audiences: HashSet<String>,
}

/// The document of RFC 9728, section 2.
#[derive(Debug, Serialize)]
pub struct Metadata<'a> {
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<&'a str>,
    authorization_servers: &'a [String],
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    scopes_supported: BTreeSet<&'a str>,
    bearer_methods_supported: [&'static str; 1],
    /// Where this document is.
    #[serde(skip)]
    pub address: String,
    /// What is needed for anything at all.
    #[serde(skip)]
    pub scopes: &'a [String],
}

impl Metadata<'_> {
    /// The document.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }
}

impl Resources {
    pub(super) fn new(offered: Offered, mut issuers: Vec<String>) -> Self {
        let Offered { public_url, servers, default_server } = offered;
        let origin = public_url.as_ref().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let prefix = public_url.as_ref().map(|url| url.path().trim_end_matches('/').to_owned());
        let prefix = prefix.unwrap_or_default();
        let base = format!("{origin}{prefix}");
        // Without a public URL nothing has an address, and no token can be meant for it.
        let addresses = |paths: &[String]| -> HashSet<String> {
            let paths = paths.iter().filter(|_| public_url.is_some());
            paths.map(|path| format!("{base}{path}")).collect()
        };
        let servers = servers.into_iter().map(|(name, access)| {
            let own = format!("/servers/{name}");
            let mut paths = vec![String::new(), format!("{own}/mcp"), format!("{own}/sse"), own];
            if default_server.as_ref() == Some(&name) {
                paths.extend(["/mcp".to_owned(), "/sse".to_owned()]);
            }
            let audiences = addresses(&paths);
            (name, Resource { access, audiences })
        });
        let servers = servers.collect();
        let gateway = Resource { access: Access::default(), audiences: addresses(&[String::new()]) };
        // One that is no address can't be asked for a token.
        issuers.retain(|issuer| issuer.starts_with("https://") || issuer.starts_with("http://"));
        if public_url.is_none() {
            issuers.clear();
        }
        Self { servers, default: default_server, gateway, origin, prefix, issuers }
    }

    fn named(&self, server: Option<&str>) -> Option<(&String, &Resource)> {
        self.servers.get_key_value(server.or(self.default.as_deref())?)
    }

    fn of(&self, server: Option<&str>) -> &Resource {
        self.named(server).map_or(&self.gateway, |(_, resource)| resource)
    }

    pub(super) fn access(&self, server: Option<&str>) -> &Access {
        &self.of(server).access
    }

    pub(super) fn audiences(&self, server: Option<&str>) -> &HashSet<String> {
        &self.of(server).audiences
    }

    /// Of what is at `path`, with or without the prefix: an ingress may strip it.
    pub(super) fn metadata_at(&self, path: &str) -> Option<Metadata<'_>> {
        let path = path.trim_end_matches('/');
        let stripped =
            path.strip_prefix(&*self.prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        // What a client was told begins with the prefix; the other only fits where it was stripped.
        stripped.and_then(|path| self.metadata_of(path)).or_else(|| self.metadata_of(path))
    }

    /// Of what is at `path` below the public URL.
    pub(super) fn metadata_of(&self, path: &str) -> Option<Metadata<'_>> {
        if self.issuers.is_empty() {
            return None;
        }
        let (name, resource) = match path.strip_prefix("/servers/").map(|rest| rest.split_once('/')) {
            _ if path.is_empty() => (None, &self.gateway),
            Some(Some((name, "mcp" | "sse"))) => self.named(Some(name)).map(|(name, of)| (Some(name), of))?,
            None if matches!(path, "/mcp" | "/sse") => self.named(None).map(|(name, of)| (Some(name), of))?,
            Some(Some(_) | None) | None => return None,
        };
        let scopes_supported = match name {
            Some(_) => resource.access.all_scopes(),
            None => self.servers.values().flat_map(|resource| resource.access.all_scopes()).collect(),
        };
        let (origin, prefix) = (&self.origin, &self.prefix);
        Some(Metadata {
            resource: format!("{origin}{prefix}{path}"),
            resource_name: name.map(String::as_str),
            authorization_servers: &self.issuers,
            scopes_supported,
            bearer_methods_supported: ["header"],
            address: format!("{origin}{WELL_KNOWN}{prefix}{path}"),
            scopes: &resource.access.scopes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(public_url: &str) -> Resources {
        let access = Access { scopes: vec!["files".to_owned()], ..Access::default() };
        let offered = Offered {
            public_url: Some(public_url.parse().unwrap()),
            servers: [("files".to_owned(), access), ("other".to_owned(), Access::default())].into(),
            default_server: Some("files".to_owned()),
        };
        Resources::new(offered, vec!["https://login.example.com".to_owned(), "shared".to_owned()])
    }

    #[test]
    fn each_endpoint_has_metadata_of_its_own() {
        let resources = resources("https://mcp.example.com/gate/");
        let check = |path: &str, expected: Option<(&str, &str)>| {
            let metadata = resources.metadata_at(path);
            let seen = metadata.as_ref().map(|found| (&*found.resource, &*found.address));
            assert_eq!(seen, expected, "{path}");
        };
        let well_known = "https://mcp.example.com/.well-known/oauth-protected-resource/gate";
        let base = "https://mcp.example.com/gate";
        check("", Some((base, well_known)));
        check("/gate", Some((base, well_known)));
        for path in ["/mcp", "/sse", "/servers/files/mcp", "/servers/other/sse"] {
            let (resource, address) = (format!("{base}{path}"), format!("{well_known}{path}"));
            check(path, Some((&resource, &address)));
            check(&format!("/gate{path}/"), Some((&resource, &address)));
        }
        for none in
            ["/gates", "/servers", "/servers/files", "/servers/none/mcp", "/servers/files/x", "/health"]
        {
            check(none, None);
        }
        // A prefix that looks like a path of ours.
        let tricky = self::resources("https://mcp.example.com/mcp");
        let found = tricky.metadata_of("/mcp").unwrap();
        assert_eq!(found.resource, "https://mcp.example.com/mcp/mcp");
        assert_eq!(tricky.metadata_at("/mcp/mcp").unwrap().resource, found.resource);
        assert_eq!(tricky.metadata_at("/mcp").unwrap().resource, "https://mcp.example.com/mcp");
        let metadata = serde_json::to_value(resources.metadata_of("/servers/files/mcp").unwrap()).unwrap();
        let expected = serde_json::json!({
            "resource": "https://mcp.example.com/gate/servers/files/mcp",
            "resource_name": "files",
            "authorization_servers": ["https://login.example.com"],
            "scopes_supported": ["files"],
            "bearer_methods_supported": ["header"],
        });
        assert_eq!(metadata, expected);
    }

    #[test]
    fn a_token_for_one_server_is_not_for_another() {
        let resources = resources("https://mcp.example.com");
        let check = |server: Option<&str>, audience: &str, meant: bool| {
            assert_eq!(resources.audiences(server).contains(audience), meant, "{server:?} {audience}");
        };
        for server in [None, Some("files"), Some("other"), Some("none")] {
            check(server, "https://mcp.example.com", true);
            check(server, "https://evil.example.com", false);
        }
        check(None, "https://mcp.example.com/mcp", true);
        check(None, "https://mcp.example.com/servers/files/sse", true);
        check(Some("files"), "https://mcp.example.com/mcp", true);
        check(Some("other"), "https://mcp.example.com/mcp", false);
        check(Some("other"), "https://mcp.example.com/servers/other", true);
        check(Some("other"), "https://mcp.example.com/servers/files", false);
    }
}
