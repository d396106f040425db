//! An authorization server that publishes keys, signs whatever it is told to, and says what it is told to say of
//! tokens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::Response;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use super::upstream::{Asked, Upstream, sse, status};

/// A private key, and what it is called.
pub(crate) struct Signing {
    pub id: Option<String>,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    /// The other half, as it is published.
    pub public: Value,
}

impl Signing {
    /// A new one for ES256.
    pub(crate) fn new(id: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::of(id, Algorithm::ES256, key)
    }

    pub(crate) fn of(id: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        public["kid"] = json!(id);
        Self { id: Some(id.to_owned()), algorithm, key, public }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.id);
        encode(&header, claims, &self.key).unwrap()
    }
}

pub(crate) struct Issuer {
    pub url: String,
    pub signing: Signing,
    keys: Arc<Mutex<Vec<Value>>>,
    failing: Arc<AtomicBool>,
    hanging: Arc<AtomicBool>,
    fetched: Arc<AtomicUsize>,
    said: Arc<Mutex<BTreeMap<String, Value>>>,
    server: Upstream,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let signing = Signing::new("first");
        let keys = Arc::new(Mutex::new(vec![signing.public.clone()]));
        let (failing, fetched) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (hanging, said) =
            (Arc::<AtomicBool>::default(), Arc::<Mutex<BTreeMap<String, Value>>>::default());
        let (shown, fails, count) = (keys.clone(), failing.clone(), fetched.clone());
        let (hangs, tokens) = (hanging.clone(), said.clone());
        let answer = move |asked: &Asked| {
            if fails.load(Ordering::SeqCst) {
                return status(500);
            }
            if hangs.load(Ordering::SeqCst) {
                let (send, response) = sse();
                std::mem::forget(send);
                return response;
            }
            let host = asked.header("host");
            match &*asked.path {
                "/keys" => {
                    count.fetch_add(1, Ordering::SeqCst);
                    document(&json!({ "keys": *shown.lock().unwrap() }))
                }
                "/.well-known/openid-configuration" => document(&json!({
                    "issuer": format!("http://{host}"),
                    "jwks_uri": format!("http://{host}/keys"),
                })),
                "/introspect" => {
                    let said = tokens.lock().unwrap().get(&introspected(asked)).cloned();
                    document(&said.unwrap_or_else(|| json!({ "active": false })))
                }
                "/elsewhere" => Response::builder()
                    .status(307)
                    .header("location", format!("http://{host}/introspect"))
                    .body(Body::empty())
                    .unwrap(),
                _ => status(404),
            }
        };
        let server = Upstream::bare(answer).await;
        let url = server.url.strip_suffix("/mcp").unwrap().to_owned();
        Self { url, signing, keys, failing, hanging, fetched, said, server }
    }

    /// What is published from now on.
    pub(crate) fn publish(&self, keys: &[&Signing]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.public.clone()).collect();
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.failing.store(fails, Ordering::SeqCst);
    }

    /// Whether it answers, and never to the end.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hanging.store(hangs, Ordering::SeqCst);
    }

    /// What is said of a token from now on; of others, that they are not active.
    pub(crate) fn say(&self, token: &str, what: &Value) {
        self.said.lock().unwrap().insert(token.to_owned(), what.clone());
    }

    /// That a token is active, of that subject and for that audience.
    pub(crate) fn active(&self, subject: &str, audience: &str) -> Value {
        let mut said = self.claims(subject, audience);
        (said["active"], said["token_type"]) = (json!(true), json!("Bearer"));
        said
    }

    /// The tokens that it was asked about, and what was shown for it.
    pub(crate) fn introspections(&self) -> Vec<(String, String)> {
        let asked = self.server.asked().into_iter().filter(|asked| asked.path == "/introspect");
        asked.map(|asked| (introspected(&asked), asked.header("authorization").to_owned())).collect()
    }

    /// How often keys were asked for.
    pub(crate) fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }

    /// Claims that a good token has, for that subject and audience.
    pub(crate) fn claims(&self, subject: &str, audience: &str) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({ "iss": self.url, "sub": subject, "aud": audience, "exp": now + 600, "nbf": now - 10 })
    }
}

/// The token that is asked about (RFC 7662, section 2.1).
fn introspected(asked: &Asked) -> String {
    assert_eq!((asked.method.as_str(), asked.header("accept")), ("POST", "application/json"));
    let form: BTreeMap<_, _> = url::form_urlencoded::parse(&asked.raw).into_owned().collect();
    assert_eq!(form["token_type_hint"], "access_token");
    form["token"].clone()
}

fn document(document: &Value) -> Response<Body> {
    let body = Body::from(document.to_string());
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}
