//! What people read when something is wrong, word for word.

use super::super::*;
use super::load_all;

pub(super) fn faults(file: &str) -> Vec<String> {
    match load_all(file.as_bytes(), &[], &[]) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn ten_mistakes_are_ten_faults() {
    let file = "\
listen: localhost
public_url: https://mcp.example.com/?tenant=1
state: mysql://holdfast:hunter2@redis:6379
lmits:
  sessions_max: 5
http:
  body_bytes_max: 4MB
  allowed_origins: [https://app.example.com/index.html]
requests:
  timeout: 60
limits:
  streams_max: 0
  streams_max: 100
servers:
  Files:
    upstream: http://files:3001/mcp
  search:
    era: modem
";
    let expected = "\
12 faults in the configuration:
  holdfast.yaml:1:9: listen: `localhost` is not an IP address with a port; wanted: address, such as `127.0.0.1:4444`, `[::1]:4444` or `0.0.0.0:4444`
  holdfast.yaml:2:13: public_url: `https://mcp.example.com/?…` has a query; wanted: URL, `http://` or `https://`
  holdfast.yaml:3:8: state: `mysql://…@redis:6379` is not supported by this build; wanted: URL, `memory`, `none`, or a Redis's URL, such as `redis://127.0.0.1:6379`
  holdfast.yaml:4:1: unknown key `lmits`; did you mean `limits`?
  holdfast.yaml:7:19: http.body_bytes_max: `4MB` is not a size; units are B, KiB, MiB and GiB; wanted: size, 1KiB to 1GiB
  holdfast.yaml:8:21: http.allowed_origins: `https://app.example.com/index.html` is not an origin; wanted: list, such as `https://app.example.com`; `*` for any
  holdfast.yaml:10:12: requests.timeout: `60` has no unit; wanted: duration, 100ms to 1d
  holdfast.yaml:12:16: limits.streams_max: `0` is too small; wanted: number, 1 to 1000000
  holdfast.yaml:13:3: limits: `streams_max` was already written on line 12
  holdfast.yaml:15:3: servers: `Files` is not a name; wanted: a-z, 0-9, `_` and `-`, beginning with a letter or digit, 63 characters at most
  holdfast.yaml:17:3: servers.search.upstream: must be given
  holdfast.yaml:18:10: servers.search.era: `modem` is none of them; wanted: choice, `auto`, `legacy`, `modern`, `both`";
    let found = load_all(file.as_bytes(), &[], &[]).unwrap_err().to_string();
    assert_eq!(found, expected);
    assert!(!found.contains("hunter2"));
}

#[test]
fn what_does_not_fit_together() {
    fn check(file: &str, expected: &str) {
        assert_eq!(faults(file), [format!("holdfast.yaml:{expected}")]);
    }
    check(
        "http:\n  proxy_protocol: on",
        "2:19: http.proxy_protocol: nobody is asked for it: http.trusted_proxies has none",
    );
    check(
        "http:\n  trusted_proxies: [10.0.0.0/8, 192.0.2.7, fd00::/8, 10.1.2.3/8]",
        "2:54: http.trusted_proxies: `10.1.2.3/8` has bits beyond its prefix; wanted: list, such as \
         `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`",
    );
    check("audit:\n  to: file", "2:7: audit.to: no file is named: set audit.file");
    check(
        "audit:\n  file: audit.json",
        "2:9: audit.file: nothing would be written to it: set audit.to to `file`",
    );
    check(
        "audit:\n  to: file\n  file: /nowhere/audit.json",
        "3:9: audit.file: `/nowhere/audit.json` can't be one; wanted: text, the path of a file, in a folder that is there",
    );
    check(
        "admin: {tokens: {a: {sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}}}\nauth: {mode: tokens, tokens: {b: {sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}}}",
        "1:30: admin.tokens.a.sha256: is the same token as that of auth.tokens.b.sha256",
    );
    check(
        "admin:\n  listen: 0.0.0.0:4445",
        "2:11: admin.listen: other machines can reach this address; set admin.expose to `on` if they should",
    );
    check(
        "listen: 0.0.0.0:4444",
        "1:9: listen: it is reached from other machines, and nobody has to log in: set auth.mode, or \
         auth.insecure if that is meant",
    );
    let same = "5".repeat(64);
    check(
        &format!("auth: {{mode: tokens, tokens: {{a: {{sha256: '{same}'}}, b: {{sha256: '{same}'}}}}}}"),
        "1:124: auth.tokens.b.sha256: is the same token as that of auth.tokens.a.sha256",
    );
    check(
        "auth: {mode: tokens}",
        "1:14: auth.mode: nobody could log in: there are no auth.tokens and no auth.issuers",
    );
    let digest = "0".repeat(64);
    check(
        &format!("auth:\n  tokens: {{ci: {{sha256: '{digest}'}}}}\n  mode: none"),
        "3:9: auth.mode: there are auth.tokens or auth.issuers, and nobody is asked: set auth.mode to tokens",
    );
    check(
        "auth: {mode: tokens, tokens: {ci: {sha256: s3cret}}}",
        "1:44: auth.tokens.ci.sha256: the secret is no SHA-256; wanted: secret, 64 hexadecimal digits",
    );
    let issuer = |issuer: &str| {
        format!("public_url: https://gate\nauth:\n  mode: tokens\n  issuers: {{a: {{{issuer}}}}}\n")
    };
    check(
        &issuer("issuer: corp"),
        "4:25: auth.issuers.a.issuer: its keys can't be found there, as it is no https:// URL: give keys_url, \
         keys_file, secret or introspection_url",
    );
    check(
        &issuer("issuer: corp, introspection_url: 'http://corp/ask', client_id: a, client_secret: b"),
        "4:50: auth.issuers.a.introspection_url: whoever is on the way could read tokens, or answer: use https://",
    );
    check(
        &issuer("issuer: corp, introspection_url: 'https://corp/ask', client_id: a"),
        "4:50: auth.issuers.a.introspection_url: nobody may ask there without client_secret",
    );
    check(
        &issuer("issuer: 'https://corp', token_prefix: x_"),
        "4:55: auth.issuers.a.token_prefix: nobody is asked: there is no introspection_url",
    );
    let asked = "introspection_url: 'https://corp/ask', client_id: a, client_secret: b";
    check(
        &issuer(&format!("issuer: corp, {asked}, token_prefix: hf_x")),
        "4:116: auth.issuers.a.token_prefix: `hf_x` is not, or stands for tokens of `holdfast token`; wanted: text, \
         what may stand in a token",
    );
    check(
        &issuer(&format!("issuer: corp, {asked}, algorithms: [RS256]")),
        "4:114: auth.issuers.a.algorithms: nothing is verified here without keys_url, keys_file or secret",
    );
    check(
        &issuer(&format!("issuer: corp, {asked}}}, b: {{issuer: other, {asked}")),
        "4:141: auth.issuers.b.introspection_url: its tokens would begin like those of another: give token_prefix, \
         as they can't be told from those of auth.issuers.a.introspection_url",
    );
    check(
        &issuer("issuer: corp, keys_url: 'http://corp/keys'"),
        "4:41: auth.issuers.a.keys_url: whoever is on the way could put keys of their own there: use https://",
    );
    let secret = "x".repeat(32);
    check(
        &issuer(&format!("issuer: corp, keys_url: 'https://corp/keys', secret: {secret}")),
        "4:41: auth.issuers.a.keys_url: only one of secret, keys_file and keys_url can be used",
    );
    check(
        &issuer("issuer: corp, secret: hunter2hunter2"),
        "4:39: auth.issuers.a.secret: the secret is shorter; wanted: secret, 32 bytes or more; for \
         HS384 48, for HS512 64",
    );
    check(
        &issuer(&format!("issuer: corp, secret: {secret}, algorithms: [none]")),
        "4:86: auth.issuers.a.algorithms: `none` is no signature algorithm that is supported; wanted: list, \
         `HS256` to `HS512`, `RS256` to `RS512`, `PS256` to `PS512`, `ES256`, `ES384`, `EdDSA`",
    );
    check(
        &issuer(&format!("issuer: corp, secret: {secret}, algorithms: [HS256, HS512]")),
        "4:39: auth.issuers.a.secret: it is shorter than the 64 bytes that HS512 needs",
    );
    check(
        &issuer(&format!("issuer: corp, secret: {secret}, algorithms: [RS256]")),
        "4:85: auth.issuers.a.algorithms: RS256 needs public keys, and not a secret",
    );
    check(
        &issuer("issuer: 'https://corp', algorithms: [HS256]"),
        "4:53: auth.issuers.a.algorithms: HS256 needs a secret, and there is none",
    );
    check(
        &issuer("issuer: 'http://corp', keys_url: 'https://corp/keys'"),
        "4:25: auth.issuers.a.issuer: clients would be sent there to log in without encryption: use https://",
    );
    check(
        &format!(
            "{}servers: {{a: {{upstream: 'http://a/mcp', anonymous: on, scopes: [b]}}}}",
            issuer("issuer: 'https://corp'")
        ),
        "5:52: servers.a.anonymous: requests without a token have no scopes, and this server asks for some",
    );
    check(
        &format!("auth: {{mode: tokens, issuers: {{a: {{issuer: corp, secret: {secret}}}}}}}"),
        "1:44: auth.issuers.a.issuer: without audiences of its own, and without public_url, no token could be \
         meant for this",
    );
    check(
        "servers: {a: {upstream: 'http://a/mcp', scopes: [files]}}",
        "1:49: servers.a.scopes: nobody is asked for a token, so it would mean nothing: set auth.mode to tokens",
    );
    check(
        "requests: {timeout: 20m}",
        "1:21: requests.timeout: requests.timeout (20m) is longer than requests.timeout_max (10m)",
    );
    check(
        "streams: {retry: 3s, retry_max: 2s}",
        "1:33: streams.retry_max: streams.retry (3s) is longer than streams.retry_max (2s)",
    );
    check(
        "log: {session_bytes_max: 1MiB}",
        "1:26: log.session_bytes_max: log.stream_bytes_max (4MiB) is larger than log.session_bytes_max (1MiB)",
    );
    check(
        "limits: {principal: {bytes_per_minute: 1MiB}}",
        "1:40: limits.principal.bytes_per_minute: limits.principal.bytes_per_minute is less than one body of http.body_bytes_max",
    );
    check(
        "limits: {requests_burst: 5}",
        "1:26: limits.requests_burst: limits.requests_burst means nothing without limits.requests_per_second",
    );
    check(
        "servers: {a: {upstream: 'http://a', timeout: 11m}}",
        "1:46: servers.a.timeout: this server's timeout (11m) is longer than its timeout_max (10m)",
    );
    check(
        "servers: {files: {upstream: 'http://a'}}\ndefault_server: file",
        "2:17: default_server: there is no such server; did you mean `files`?",
    );
    check(
        "http: {allowed_origins: ['*', 'https://a.example.com']}",
        "1:25: http.allowed_origins: `*` allows every origin; write it alone, or remove it",
    );
    assert_eq!(faults("admin: {listen: '0.0.0.0:4445', expose: on}"), [""; 0]);
    assert_eq!(faults("audit: {to: file, file: audit.json}"), [""; 0]);
    // What operators' tools log in with may stand beside a node's variables.
    assert!(load_all(b"", &[("HOLDFAST_ADMIN_TOKEN", "hf_x")], &[]).is_ok());
    assert_eq!(faults("{listen: '0.0.0.0:4444', auth: {insecure: on}}"), [""; 0]);
}

#[test]
fn the_wrong_kind_of_value() {
    fn check(file: &str, expected: &str) {
        assert_eq!(faults(file), [format!("holdfast.yaml:{expected}")]);
    }
    check("- listen", "1:1: found a list; wanted: keys and values");
    check("listen", "1:1: found `listen`; wanted: keys and values");
    check("limits: 5", "1:9: limits: found `5`; wanted: keys and values");
    check("limits: [sessions_max]", "1:9: limits: found a list; wanted: keys and values");
    check(
        "limits:\n  sessions_max:\n    - 5",
        "3:5: limits.sessions_max: found a list; wanted: number, 1 to 100000000",
    );
    check(
        "limits: {sessions_max: {max: 5}}",
        "1:24: limits.sessions_max: found keys and values; wanted: number, 1 to 100000000",
    );
    check(
        "limits:\n  sessions_max:\n",
        "2:15: limits.sessions_max: has no value; give one, or remove the line for the default",
    );
    check(
        "http: {allowed_hosts: localhost}",
        "1:23: http.allowed_hosts: found `localhost`; write `[localhost]`; wanted: list, `host` or `host:port`; `*` for any",
    );
    check(
        "http: {allowed_hosts: [[localhost]]}",
        "1:24: http.allowed_hosts: found a list; wanted: list, `host` or `host:port`; `*` for any",
    );
    check("servers: [files]", "1:10: servers: found a list; wanted: names, each with its keys below it");
    check("servers: {files: }", "1:11: servers.files.upstream: must be given");
    check("sessions_max: 5", "1:1: unknown key `sessions_max`; did you mean `limits.sessions_max`?");
    check(
        "servers: {a: {upstream: 'http://a', tiemout: 5s}}",
        "1:37: servers.a: unknown key `tiemout`; did you mean `timeout`?",
    );
    check(
        "servers: {<name>: {upstream: 'http://a'}}",
        "1:11: servers: `<name>` is not a name; wanted: a-z, 0-9, `_` and `-`, beginning with a letter or digit, 63 characters at most",
    );
    check(
        "telemetry: {log_filter: 'info,=='}",
        "1:25: telemetry.log_filter: `info,==` is not a filter; wanted: text, `error`, `warn`, `info`, `debug`, `trace`, `off`, or `target=level` pairs with commas",
    );
}

#[test]
fn what_is_not_a_document() {
    fn check(file: &[u8], expected: &[&str]) {
        let found = load_all(file, &[], &[]).unwrap_err();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let expected: Vec<_> = expected.iter().map(|text| format!("holdfast.yaml:{text}")).collect();
        assert_eq!(found, expected);
    }
    check(
        b"listen: '127.0.0.1:1\n",
        &["2:1: listen: this is not valid YAML: invalid indentation in multiline quoted scalar"],
    );
    check(
        b"limits:\n\tsessions_max: 5",
        &["2:2: limits: this is not valid YAML: tabs disallowed within this context (block indentation)"],
    );
    check(
        b"limits:\n  sessions_max: 0\n bad",
        &[
            "2:17: limits.sessions_max: `0` is too small; wanted: number, 1 to 100000000",
            "3:2: this is not valid YAML: while parsing a block mapping, did not find expected key",
        ],
    );
    check(
        b"a: *b",
        &[
            "1:1: unknown key `a`",
            "1:4: a: aliases such as `*name` are not supported; write the value itself",
        ],
    );
    check(
        b"limits: &a {}\nhttp: *a",
        &["2:7: http: aliases such as `*name` are not supported; write the value itself"],
    );
    check(b"limits: !a {}", &["1:9: limits: tags such as `!name` are not supported; remove it"]);
    check(
        b"limits:\n  sessions_max: 5\n  sessions_max: 6\n",
        &["3:3: limits: `sessions_max` was already written on line 2"],
    );
    check(b"? [a]\n: 5\n", &["1:3: a key must be a plain name"]);
    check(b"<<: {}\n", &["1:1: unknown key `<<`"]);
    check(b"---\n---\n", &["2:1: a second document begins here; a configuration is one document"]);
    check(b"%YAML 1.2\n---\n", &["1:1: this is not valid YAML: YAML directives are disallowed"]);
    check(b"limits:\n  sess\xff", &["2:7: this is not UTF-8 text"]);
    check("[".repeat(100).as_bytes(), &["1:33: this is not valid YAML: recursion limit exceeded"]);
    check(&[b'#'; document::BYTES_MAX + 1], &["1:1: the file is larger than 1MiB"]);
}

#[test]
fn each_source_is_named() {
    let variables = [
        ("HOLDFAST_LIMITS_SESSIONS_MAX", "many"),
        ("HOLDFAST_LISTN", "127.0.0.1:1"),
        ("HOLDFAST_SERVERS_SEARCH_ERA", "legacy"),
        ("HOLDFAST_HTTP_ALLOWED_ORIGINS", "https://a.example.com,b"),
    ];
    let flags = [
        ("servers.default.upstream", "http://user:hunter2@host/mcp", "--upstream"),
        ("limits.colour", "red", "--colour"),
    ];
    let found = load_all(b"state: disk", &variables, &flags).unwrap_err().to_string();
    let expected = "\
7 faults in the configuration:
  holdfast.yaml:1:8: state: `disk` is no URL; wanted: URL, `memory`, `none`, or a Redis's URL, such as `redis://127.0.0.1:6379`
  HOLDFAST_HTTP_ALLOWED_ORIGINS: http.allowed_origins: `b` is not an origin; wanted: list, such as `https://app.example.com`; `*` for any
  HOLDFAST_LIMITS_SESSIONS_MAX: limits.sessions_max: `many` is not a whole number; wanted: number, 1 to 100000000
  HOLDFAST_LISTN: no key has this variable; did you mean `HOLDFAST_LISTEN`?
  HOLDFAST_SERVERS_SEARCH_ERA: servers.search.upstream: must be given
  --colour: limits.colour: this build has no key `limits.colour`
  --upstream: servers.default.upstream: `http://…@host/mcp` has a user name or password in it; wanted: URL, `http://` or `https://`";
    assert_eq!(found, expected);
}

#[test]
fn a_value_that_is_replaced_is_not_judged() {
    let variables = [("HOLDFAST_LISTEN", "127.0.0.1:1")];
    assert!(load_all(b"listen: nonsense", &variables, &[]).is_ok());
}

#[test]
fn secrets_stay_out_of_faults() {
    let (document, given) = (Document::parse(b"good: hunter2\nempty: ''\nlist: [hunter2]"), Given::default());
    let catalogue = Catalogue::default();
    let purpose = Purpose::Load { known: &catalogue, complete: true };
    let reader = Reader::new("holdfast.yaml", &given, purpose);
    let (secrets, faults, _) = reader.read(&document.root, "", |s| {
        ["good", "empty", "list", "absent"].map(|key| s.secret(key, "A password."))
    });
    assert_eq!(secrets[0].as_ref().map(Secret::reveal), Some("hunter2"));
    assert_eq!(
        Faults::new(faults).to_string(),
        "2 faults in the configuration:\n  \
         holdfast.yaml:2:8: empty: the secret is empty; wanted: secret, not empty\n  \
         holdfast.yaml:3:7: list: found a list; wanted: secret, not empty"
    );
    assert!(!format!("{secrets:?}").contains("hunter2"));
}
