//! What it costs to find out whose a JWT is, the first time and later:
//! `cargo test --release --lib -- --ignored --nocapture auth::cost`.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::json;
use tokio::time::Instant;

use super::digest::digest;
use super::issuer::{Issuer, IssuerConfig};
use super::issuers::{Issuers, Memory};
use super::source::{Source, Times};
use crate::lifecycle::Tasks;
use crate::telemetry::Metrics;
use crate::upstream::{HttpClient, HttpConfig};

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

/// A key of each kind; the second is what its issuer is told.
fn keys() -> Vec<(Algorithm, EncodingKey, Option<String>)> {
    let node = "process.stdout.write(crypto.generateKeyPairSync('rsa', { modulusLength: 2048 })\
                .privateKey.export({ type: 'pkcs8', format: 'pem' }))";
    let rsa = Command::new("node").args(["-e", node]).output().unwrap().stdout;
    let rsa = EncodingKey::from_rsa_pem(&rsa).unwrap();
    let set = json!({ "keys": [Jwk::from_encoding_key(&rsa, Algorithm::RS256).unwrap()] }).to_string();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    vec![
        (Algorithm::HS256, EncodingKey::from_secret(SECRET), None),
        (Algorithm::RS256, rsa, Some(set)),
        (
            Algorithm::ES256,
            EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap(),
            Some(ec.public_key_pem()),
        ),
        (Algorithm::EdDSA, EncodingKey::from_ed_der(&ed.serialize_der()), Some(ed.public_key_pem())),
    ]
}

fn issuer(public: Option<&str>, tasks: &Tasks) -> Issuer {
    let source = match public {
        None => Source::Secret(SECRET.to_vec()),
        Some(public) => {
            let file = Command::new("mktemp").output().unwrap().stdout;
            let file = String::from_utf8(file).unwrap().trim_end().to_owned();
            std::fs::write(&file, public).unwrap();
            Source::File(file.into())
        }
    };
    let config = IssuerConfig {
        name: "corp".to_owned(),
        issuer: "https://corp.example.com".to_owned(),
        source: Some(source),
        algorithms: Vec::new(),
        audiences: vec!["here".to_owned()],
        subject_claim: "sub".to_owned(),
        leeway: Duration::ZERO,
        times: Times {
            ttl: Duration::from_secs(600),
            stale_max: Duration::from_secs(600),
            timeout: Duration::from_secs(5),
        },
        introspection: None,
    };
    let http = HttpConfig {
        connect_timeout: Duration::from_secs(1),
        idle_connections_max: 1,
        idle_connection_timeout: Duration::from_secs(1),
    };
    let issuer = Issuer::new(config, &HttpClient::new(&http).unwrap(), &Metrics::new()).unwrap();
    issuer.start(tasks);
    issuer
}

#[tokio::test]
#[ignore = "a measurement, of use in release only"]
async fn of_one_token() {
    const TURNS: u32 = 2000;
    println!("algorithm  first  later  (µs per token)");
    for (algorithm, key, public) in keys() {
        let tasks = Tasks::new();
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
        let claims = json!({ "iss": "https://corp.example.com", "sub": "alice", "aud": "here", "exp": end,
            "scope": "files files:write", "client_id": "5f2c7e2a", "jti": "d1f8c5e0a9b34c7f" });
        let token = encode(&Header::new(algorithm), &claims, &key).unwrap();
        let mut cost = Vec::new();
        for tokens_max in [0, 100] {
            let memory = Memory { tokens_max, introspection_ttl: Duration::ZERO };
            let issuers = Issuers::new(vec![issuer(public.as_deref(), &tasks)], memory);
            let resources = HashSet::new();
            issuers.identify(&token, digest(&token), &resources).await.1.unwrap();
            let began = Instant::now();
            for _ in 0..TURNS {
                issuers.identify(&token, digest(&token), &resources).await.1.unwrap();
            }
            cost.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(TURNS));
        }
        println!("{:9}  {:5.1}  {:5.1}", format!("{algorithm:?}"), cost[0], cost[1]);
    }
}
