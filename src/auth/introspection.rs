//! Asking an issuer about a token that says nothing by itself (RFC 7662).

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::form_urlencoded;

use super::Flaw;
use super::claims::{Claims, Facts};
use crate::telemetry::{Introspected, Metrics};
use crate::upstream::{BoxError, HttpClient};

/// The largest answer that is read.
const BYTES_MAX: usize = 64 * 1024;

/// A failure is logged so often, however many tokens meet it.
const LOGGED_EVERY: Duration = Duration::from_secs(2);

/// Where an issuer is asked about tokens, and as whom.
#[derive(Clone)]
pub struct IntrospectionConfig {
    pub uri: Uri,
    pub client_id: String,
    pub client_secret: String,
    /// What its opaque tokens begin with.
    pub prefix: String,
    /// For one answer, and for the wait until it can be asked for.
    pub timeout: Duration,
    /// Asked for at the same time.
    pub asked_max: usize,
}

pub(super) struct Introspection {
    uri: Uri,
    authorization: HeaderValue,
    prefix: String,
    timeout: Duration,
    places: Semaphore,
    client: HttpClient,
    metrics: Metrics,
    logged: Mutex<Option<Instant>>,
}

/// Why an issuer's word about a token can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it can't be asked: {0}")]
    Http(BoxError),
    #[error("its answer has status {0}")]
    Status(StatusCode),
    #[error("no answer in time (auth.timeout)")]
    Late,
    #[error("its answer does not say whether the token is active")]
    Unusable,
}

#[derive(Deserialize)]
struct Active {
    active: bool,
}

impl Introspection {
    pub(super) fn new(config: IntrospectionConfig, client: HttpClient, metrics: Metrics) -> Self {
        let IntrospectionConfig { uri, client_id, client_secret, prefix, timeout, asked_max } = config;
        // RFC 6749, section 2.3.1: each half is encoded by itself.
        let half = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let login = STANDARD.encode(format!("{}:{}", half(&client_id), half(&client_secret)));
        let mut authorization =
            HeaderValue::try_from(format!("Basic {login}")).expect("base64 is visible ASCII");
        authorization.set_sensitive(true);
        let (places, logged) = (Semaphore::new(asked_max), Mutex::default());
        Self { uri, authorization, prefix, timeout, places, client, metrics, logged }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the issuer says of the token, if it is active and a token of `issuer`'s that may be used as it is;
    /// the claim `subject` says whose it is.
    ///
    /// # Errors
    /// [`Failure`]; then nothing is known of the token.
    pub(super) async fn ask(
        &self,
        token: &str,
        issuer: &str,
        subject: &str,
    ) -> Result<Result<Facts, Flaw>, Failure> {
        let began = Instant::now();
        let asked = async {
            let _place = self.places.acquire().await.map_err(|closed| Failure::Http(closed.into()))?;
            self.fetch(token).await
        };
        let answer = tokio::time::timeout(self.timeout, asked).await.unwrap_or(Err(Failure::Late));
        let answer = answer.and_then(|answer| read(&answer, issuer, subject));
        let outcome = match &answer {
            Ok(Ok(_)) => Introspected::Active,
            Ok(Err(_)) => Introspected::Inactive,
            Err(Failure::Late) => Introspected::Late,
            Err(_) => Introspected::Failed,
        };
        self.metrics.introspected(outcome, began.elapsed());
        if let Err(failure) = &answer {
            self.log(issuer, failure);
        }
        answer
    }

    async fn fetch(&self, token: &str) -> Result<Bytes, Failure> {
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, self.authorization.clone())
            .body(Full::from(form(token)))
            .map_err(|error| Failure::Http(error.into()))?;
        let response = self.client.send(request).await.map_err(Failure::Http)?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(Failure::Http)?;
        Ok(body.to_bytes())
    }

    fn log(&self, issuer: &str, failure: &Failure) {
        let mut logged = self.logged.lock().expect("no panic while holding it");
        if logged.is_none_or(|at| at.elapsed() >= LOGGED_EVERY) {
            *logged = Some(Instant::now());
            tracing::warn!(issuer, uri = %self.uri, error = %failure, "an issuer can't be asked about a token");
        }
    }
}

/// What is asked (RFC 7662, section 2.1).
fn form(token: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", token).append_pair("token_type_hint", "access_token").finish()
}

fn read(answer: &[u8], issuer: &str, subject: &str) -> Result<Result<Facts, Flaw>, Failure> {
    let Active { active } = serde_json::from_slice(answer).map_err(|_| Failure::Unusable)?;
    if !active {
        return Ok(Err(Flaw::Unknown));
    }
    let Ok(claims) = serde_json::from_slice::<Claims>(answer) else { return Ok(Err(Flaw::Unknown)) };
    if claims.iss.as_deref().is_some_and(|iss| iss != issuer) {
        return Ok(Err(Flaw::Unknown));
    }
    match claims.token_type().map(str::to_ascii_lowercase).as_deref() {
        // Some say what it is, and not how it is used.
        None | Some("bearer" | "access_token") => Ok(Ok(claims.facts(subject))),
        Some("dpop" | "pop" | "mac") => Ok(Err(Flaw::Bound)),
        Some(_) => Ok(Err(Flaw::Unknown)),
    }
}

/// Without the secret.
impl fmt::Debug for IntrospectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionConfig").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("uri", &self.uri).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_active_or_it_says_nothing() {
        let said = |answer: &str| match read(answer.as_bytes(), "https://corp", "sub") {
            Ok(Ok(_)) => "good".to_owned(),
            Ok(Err(flaw)) => format!("{flaw:?}"),
            Err(failure) => format!("{failure}"),
        };
        let check = |answer: &str, expected: &str| assert_eq!(said(answer), expected, "{answer}");
        check(r#"{"active":true}"#, "good");
        check(r#"{"active":true,"iss":"https://corp","token_type":"BEARER"}"#, "good");
        check(r#"{"active":false,"sub":"alice"}"#, "Unknown");
        check(r#"{"active":true,"iss":"https://evil"}"#, "Unknown");
        check(r#"{"active":true,"iss":["https://corp"]}"#, "Unknown");
        check(r#"{"active":true,"scope":{"files":true}}"#, "Unknown");
        check(r#"{"active":true,"token_type":"DPoP"}"#, "Bound");
        check(r#"{"active":true,"token_type":"refresh_token"}"#, "Unknown");
        let unusable = "its answer does not say whether the token is active";
        for answer in ["", "{}", "[]", r#"{"active":"true"}"#, r#"{"active":true,"active":false}"#] {
            check(answer, unusable);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let config = IntrospectionConfig {
            uri: Uri::from_static("https://corp/introspect"),
            client_id: "gate".to_owned(),
            client_secret: "hunter2".to_owned(),
            prefix: String::new(),
            timeout: Duration::from_secs(1),
            asked_max: 1,
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
