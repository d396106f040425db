//! The address of a server, which may have a secret in it.

use std::fmt;

use url::Url;

/// Where a server is. Its query may hold a key, so `Debug` and `Display` leave it out.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamUrl(Url);

impl UpstreamUrl {
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL, query included: for requests, not for logs.
    pub fn reveal(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(url) = self;
        write!(f, "{}{}", url.origin().ascii_serialization(), url.path())?;
        if url.query().is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
