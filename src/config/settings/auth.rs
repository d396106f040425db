//! Who may call, and what.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::config::secret::Secret;

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    pub mode: AuthMode,
    /// Nobody has to log in, and it is reached from elsewhere.
    pub insecure: bool,
    /// What clocks may differ by.
    pub leeway: Duration,
    pub keys_ttl: Duration,
    pub keys_stale_max: Duration,
    /// For one answer of an issuer.
    pub timeout: Duration,
    /// For how long what an issuer says of a token is believed.
    pub introspection_ttl: Duration,
    /// Tokens that one issuer is asked about at the same time.
    pub introspections_max: usize,
    /// Tokens of issuers of which something is known without looking again.
    pub tokens_remembered_max: usize,
    /// By the name of who holds it.
    pub tokens: BTreeMap<String, TokenConfig>,
    pub issuers: BTreeMap<String, IssuerConfig>,
}

/// A static token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// Absent only beside a fault.
    pub sha256: Option<Secret>,
    pub scopes: Vec<String>,
}

/// Who issues tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    pub issuer: String,
    pub keys: KeysFrom,
    /// By name; empty: whatever the keys are fit for.
    pub algorithms: Vec<String>,
    /// Empty: the addresses of what is called.
    pub audiences: Vec<String>,
    pub subject_claim: String,
    pub introspection: Option<IntrospectionConfig>,
}

/// Where an issuer is asked about tokens, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionConfig {
    pub url: Url,
    pub client_id: String,
    pub client_secret: Secret,
    /// What its opaque tokens begin with.
    pub token_prefix: String,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysFrom {
    Secret(Secret),
    File(PathBuf),
    Url(Url),
    /// Where the issuer's metadata says.
    Metadata,
    /// None: the issuer is asked about every token.
    Nowhere,
}

/// What a server asks of who calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    pub anonymous: bool,
    pub scopes: Vec<String>,
    /// A name or pattern, and the scopes that it needs, separated by spaces.
    pub tools: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    None,
    Tokens,
}
