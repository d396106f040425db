//! What a server is shown, and what goes on to it: faults that hang together.

use super::faults::faults;

#[test]
fn what_a_server_is_shown() {
    fn check(rest: &str, expected: &[&str]) {
        let file = format!("servers: {{a: {{upstream: 'https://a/mcp', {rest}}}}}");
        let found = faults(&file);
        let found: Vec<_> = found.iter().map(|fault| fault.split_once(' ').unwrap().1).collect();
        assert_eq!(found, expected, "{rest}");
    }
    const TOKEN: &str = "token_url: 'https://login/token', client_id: gate, client_secret: hunter2";
    check("credentials: {header: 'Authorization: Bearer x'}", &[]);
    check(&format!("credentials: {{{TOKEN}}}"), &[]);
    check(
        "credentials: {header: 'no header'}",
        &[
            "servers.a.credentials.header: the secret is no header; wanted: secret, `NAME: VALUE`, such as `Authorization: Bearer TOKEN`",
        ],
    );
    check(
        "credentials: {header: 'Mcp-Session-Id: x'}",
        &[
            "servers.a.credentials.header: the secret is one that requests have of their own; wanted: secret, `NAME: VALUE`, such as `Authorization: Bearer TOKEN`",
        ],
    );
    check(
        "credentials: {client_id: gate}",
        &["servers.a.credentials.client_id: a token needs token_url, client_id and client_secret"],
    );
    check(
        &format!("credentials: {{header: 'a: b', {TOKEN}}}"),
        &["servers.a.credentials.header: a server is shown a header or a token, not both"],
    );
    check(
        "credentials: {token_url: 'http://login/token', client_id: gate, client_secret: hunter2}",
        &[
            "servers.a.credentials.token_url: whoever is on the way could read the client's secret: use https://",
        ],
    );
    check(
        &format!("credentials: {{grant: token_exchange, {TOKEN}}}"),
        &["servers.a.credentials.grant: only tokens of auth.issuers can be exchanged, and there are none"],
    );
    check(
        &format!("pinned: on, credentials: {{grant: token_exchange, {TOKEN}}}"),
        &[
            "servers.a.credentials.grant: a client's token is not sent to another node to be exchanged there",
            "servers.a.credentials.grant: only tokens of auth.issuers can be exchanged, and there are none",
        ],
    );
    for name in ["Authorization", "cookie"] {
        check(
            &format!("pass_headers: [{name}]"),
            &[&format!(
                "servers.a.pass_headers: `{name}` stands for a client's credential, which is for the gateway; wanted: list, names of headers that requests don't have of their own, and that are no credentials"
            )],
        );
    }
    check(
        "pass_headers: [x-tenant], credentials: {header: 'X-Tenant: x'}",
        &["servers.a.pass_headers: a header that the gateway sets itself can't be a client's"],
    );
    let plain = faults("servers: {a: {upstream: 'http://a', tls: {ca_file: 'Cargo.toml'}}}");
    assert_eq!(
        plain,
        [
            "holdfast.yaml:1:25: servers.a.upstream: no TLS is spoken with a server whose address is http://, and it has `tls`"
        ]
    );
    let shared = faults("{state: 'redis://a', servers: {a: {upstream: 'http://a', pass_headers: [x-a]}}}");
    assert!(shared.iter().any(|fault| fault.contains("is kept encrypted: set cluster.keys")), "{shared:?}");
}
