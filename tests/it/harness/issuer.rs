//! An authorization server that publishes keys, and signs whatever it is told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::Response;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use super::upstream::{Asked, Upstream, status};

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
    fetched: Arc<AtomicUsize>,
    _server: Upstream,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let signing = Signing::new("first");
        let keys = Arc::new(Mutex::new(vec![signing.public.clone()]));
        let (failing, fetched) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (shown, fails, count) = (keys.clone(), failing.clone(), fetched.clone());
        let answer = move |asked: &Asked| {
            if fails.load(Ordering::SeqCst) {
                return status(500);
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
                _ => status(404),
            }
        };
        let server = Upstream::bare(answer).await;
        let url = server.url.strip_suffix("/mcp").unwrap().to_owned();
        Self { url, signing, keys, failing, fetched, _server: server }
    }

    /// What is published from now on.
    pub(crate) fn publish(&self, keys: &[&Signing]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.public.clone()).collect();
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.failing.store(fails, Ordering::SeqCst);
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

fn document(document: &Value) -> Response<Body> {
    let body = Body::from(document.to_string());
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}
