//! `holdfast token --issuer`: tokens for development, which a node takes like those of the issuer itself.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json as value};

use crate::harness::{Gateway, Upstream, configured, initialize, json};
use crate::servers::Folder;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn minted(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let output = command.arg("token").args(arguments).output().unwrap();
    let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    if output.status.success() { Ok(said.trim_end().to_owned()) } else { Err(said + &complained) }
}

/// Its head and its claims.
fn read(token: &str) -> [Value; 2] {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap_or_default());
    [(); 2].map(|()| serde_json::from_slice(&parts.next().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_what_is_minted_with_an_issuers_secret_or_key() {
    let upstream = Upstream::start(|asked| json(asked, &value!({}))).await;
    let folder = Folder::new();
    let (mut keys, mut public) = (Vec::new(), String::new());
    for (name, kind) in
        [("ES256", &PKCS_ECDSA_P256_SHA256), ("ES384", &PKCS_ECDSA_P384_SHA384), ("EdDSA", &PKCS_ED25519)]
    {
        let pair = KeyPair::generate_for(kind).unwrap();
        keys.push((name, folder.write(name, &pair.serialize_pem())));
        public += &pair.public_key_pem();
    }
    let published = folder.write("public.pem", &public);
    let settings = [
        ("public_url", "http://localhost/mcp-gateway"),
        ("auth.mode", "tokens"),
        ("auth.issuers.dev.issuer", "https://dev.example"),
        ("auth.issuers.dev.secret", SECRET),
        ("auth.issuers.dev.subject_claim", "email"),
        ("auth.issuers.keys.issuer", "https://keys.example"),
        ("auth.issuers.keys.keys_file", published.to_str().unwrap()),
        ("servers.default.scopes", "files"),
    ];
    let gateway = Gateway::start_on(
        &configured(&upstream.url, &settings),
        holdfast::app::Shared::memory(&configured(&upstream.url, &settings)),
    )
    .await;
    let issuer = |name: &str| format!("    {name}:\n      issuer: https://{name}.example\n");
    let config = folder.write(
        "holdfast.yaml",
        &format!(
            "public_url: http://localhost/mcp-gateway\nauth:\n  mode: tokens\n  issuers:\n{}      secret: {SECRET}\n      \
             subject_claim: email\n{}      keys_file: {}\n",
            issuer("dev"),
            issuer("keys"),
            published.display()
        ),
    );
    let config = config.to_str().unwrap();
    let asking = async |token: &str| {
        let client = gateway.client().with_token(token);
        client.posted(&initialize("2025-11-25")).await.status
    };
    let by_secret =
        minted(&["alice", "--issuer", "dev", "--config", config, "--scope", "files other"]).unwrap();
    let [head, claims] = read(&by_secret);
    assert_eq!((&head["typ"], &head["alg"]), (&value!("at+jwt"), &value!("HS256")));
    for (name, wanted) in [
        ("iss", value!("https://dev.example")),
        ("sub", value!("alice")),
        ("email", value!("alice")),
        ("aud", value!("http://localhost/mcp-gateway")),
        ("scope", value!("files other")),
        ("client_id", value!("holdfast-token")),
    ] {
        assert_eq!(claims[name], wanted, "{claims}");
    }
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    assert!(claims["jti"].is_string());
    assert_eq!(asking(&by_secret).await, 200);
    let unscoped = minted(&["--issuer", "dev", "--config", config]).unwrap();
    assert_eq!(asking(&unscoped).await, 403);
    let elsewhere = minted(&[
        "--issuer",
        "dev",
        "--config",
        config,
        "--scope",
        "files",
        "--audience",
        "https://x.example",
    ]);
    assert_eq!(asking(&elsewhere.unwrap()).await, 401);
    for (name, key) in &keys {
        let options =
            ["--issuer", "keys", "--config", config, "--key", key.to_str().unwrap(), "--scope", "files"];
        let own = ["--subject", "a b@c", "--key-id", "k", "--expires-in", "2m"];
        let token = minted(&[options.as_slice(), &own].concat()).unwrap();
        let [head, claims] = read(&token);
        assert_eq!(
            (&head["alg"], &head["kid"], &claims["sub"]),
            (&value!(name), &value!("k"), &value!("a b@c"))
        );
        assert_eq!(asking(&token).await, 200, "{name}");
    }
    // Of an issuer that is in no configuration.
    let (_, key) = &keys[0];
    let other = ["--issuer", "https://keys.example", "--key", key.to_str().unwrap(), "--scope", "files"];
    let audience = ["--audience", "http://localhost/mcp-gateway/mcp"];
    assert_eq!(asking(&minted(&[other.as_slice(), &audience].concat()).unwrap()).await, 200);
    let public = published.to_str().unwrap();
    for (arguments, why) in [
        (vec!["--issuer", "nobody", "--config", config], "there is no auth.issuers.nobody"),
        (vec!["--issuer", "keys", "--config", config], "has no secret"),
        (vec!["--issuer", "keys", "--config", config, "--key", public], "this is no private key"),
        (vec!["--issuer", "keys", "--config", config, "--key", "nowhere"], "can't be read"),
        (vec!["--issuer", "dev", "--config", config, "--key", "any"], "has a secret"),
        (other.to_vec(), "--audience"),
        (vec!["--issuer", "dev", "--config", config, "--subject", ""], "a subject has 1 to 255 bytes"),
        (vec!["--issuer", "dev", "--config", config, "--expires-in", "0s"], "wanted: 1s to 365d"),
        (vec!["--issuer", "dev", "--config", config, "--expires-in", "366d"], "wanted: 1s to 365d"),
        (vec!["--issuer", "dev", "--config", config, "--scope", "a\"b"], "wanted: visible ASCII"),
        (vec!["--issuer", "dev", "--config", config, "--audience", "a b"], "wanted: a URL or a name"),
        (vec!["--subject", "x"], "--issuer"),
    ] {
        let refused = minted(&arguments).unwrap_err();
        assert!(refused.contains(why) && !refused.contains(SECRET), "{arguments:?}: {refused}");
    }
}
