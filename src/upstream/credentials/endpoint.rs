//! A token endpoint (RFC 6749, section 3.2), and what is asked of it.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::upstream::http_client::HttpClient;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a token is kept whose issuer doesn't say for how long it is good.
const LIFE: Duration = Duration::from_secs(300);

/// The shortest and the longest that one is kept.
const LIFE_MIN: Duration = Duration::from_secs(1);
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Questions at the same time: after a start all clients' tokens are exchanged at once.
const AT_ONCE: usize = 64;

/// Where tokens come from, and for whom.
#[derive(Clone)]
pub struct TokenConfig {
    /// The token endpoint.
    pub endpoint: Uri,
    pub client_id: String,
    pub client_secret: String,
    pub scopes: Vec<String>,
    /// The server, as its authorization server knows it (RFC 8707).
    pub resource: String,
    /// For one answer.
    pub timeout: Duration,
}

/// Why a token is given.
pub(super) enum Grant {
    /// To the gateway itself (RFC 6749, section 4.4).
    ClientCredentials,
    /// For this one, a client's (RFC 8693).
    TokenExchange(String),
}

pub(super) struct Endpoint {
    config: TokenConfig,
    client: HttpClient,
    turns: Semaphore,
}

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    /// A number, or what some make of it.
    #[serde(default)]
    expires_in: Value,
}

impl Granted {
    fn life(&self) -> Duration {
        let seconds = match &self.expires_in {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_f64(),
        };
        let life = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(LIFE);
        life.clamp(LIFE_MIN, LIFE_MAX)
    }
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Endpoint {
    pub(super) fn new(config: TokenConfig, client: HttpClient) -> Self {
        Self { config, client, turns: Semaphore::new(AT_ONCE) }
    }

    /// A token as it stands in a header, and for how long it is good; otherwise why there is none.
    pub(super) async fn ask(&self, grant: &Grant) -> Result<(HeaderValue, Duration), String> {
        let asked = tokio::time::timeout(self.config.timeout, self.ask_now(grant)).await;
        asked.unwrap_or_else(|_| Err("no answer in time (auth.timeout)".to_owned()))
    }

    async fn ask_now(&self, grant: &Grant) -> Result<(HeaderValue, Duration), String> {
        let _turn = self.turns.acquire().await;
        let TokenConfig { endpoint, client_id, client_secret, .. } = &self.config;
        // RFC 6749, section 2.3.1.
        let pair = format!("{}:{}", encoded(client_id), encoded(client_secret));
        let request = Request::post(endpoint.clone())
            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Full::from(self.form(grant)))
            .map_err(|error| error.to_string())?;
        let response = self.client.send(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let granted = serde_json::from_slice::<Granted>(&body).ok();
        let granted = granted.filter(|granted| status == StatusCode::OK && !granted.access_token.is_empty());
        let Some(granted) = granted else {
            let code =
                serde_json::from_slice::<Refused>(&body).ok().filter(|refused| is_code(&refused.error));
            let code = code.map(|refused| format!(" ({})", refused.error)).unwrap_or_default();
            return Err(format!("it answered {status}{code}, and no token"));
        };
        // RFC 6749, section 7.1: what is not understood is not used.
        if granted.token_type.as_ref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err("its token is no bearer token".to_owned());
        }
        let token = HeaderValue::from_str(&format!("Bearer {}", granted.access_token));
        let mut token = token.map_err(|_| "its token can't stand in a header".to_owned())?;
        token.set_sensitive(true);
        Ok((token, granted.life()))
    }

    fn form(&self, grant: &Grant) -> String {
        let mut form = match grant {
            Grant::ClientCredentials => "grant_type=client_credentials".to_owned(),
            // RFC 8693, section 2.1.
            Grant::TokenExchange(token) => format!(
                "grant_type={}&subject_token={}&subject_token_type={}",
                encoded("urn:ietf:params:oauth:grant-type:token-exchange"),
                encoded(token),
                encoded("urn:ietf:params:oauth:token-type:access_token")
            ),
        };
        if !self.config.scopes.is_empty() {
            form.push_str(&format!("&scope={}", encoded(&self.config.scopes.join(" "))));
        }
        form.push_str(&format!("&resource={}", encoded(&self.config.resource)));
        form
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// It stands in logs and in an answer to a client.
fn is_code(error: &str) -> bool {
    error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// As people know it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.config.endpoint)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.config.endpoint).finish()
    }
}

/// Nothing of a secret.
impl fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenConfig").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
