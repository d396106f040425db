//! Up to three lines of headers (version, method, name), then a message: every refusal is one of the table, and a
//! modern verdict implies what the revision demands.
#![no_main]

use bytes::Bytes;
use holdfast_fuzz::protocol::{
    era::{Era, HeaderEra, Refusal, classify, classify_headers},
    jsonrpc::Message,
    modern::{META_CLIENT_CAPABILITIES, META_PROTOCOL_VERSION, mcp_name, validate_headers},
    version::SUPPORTED_MODERN,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(4, |byte| *byte == b'\n');
    let mut header =
        || parts.next().and_then(|line| std::str::from_utf8(line).ok()).filter(|line| !line.is_empty());
    let (version, method, name) = (header(), header(), header());
    let Some(Ok(message)) = parts.next().map(|body| Message::parse(Bytes::copy_from_slice(body))) else {
        return;
    };

    match classify(&message, version) {
        Err(refusal) => sound(&message, &refusal),
        Ok(Era::Legacy(named)) => {
            assert_eq!(named.map(|named| named.as_str()), named.and(version).map(str::trim))
        }
        Ok(Era::Modern(modern)) => {
            assert!(SUPPORTED_MODERN.contains(&&*modern.version));
            assert_eq!(classify_headers(version), HeaderEra::Modern);
            assert!(!message.is_response());
            if let (true, Ok(tree)) = (message.is_request(), serde_json::from_slice::<Value>(message.raw())) {
                let meta = &tree["params"]["_meta"];
                assert_eq!(meta[META_PROTOCOL_VERSION], modern.version);
                assert!(meta[META_CLIENT_CAPABILITIES].is_object());
            }
        }
    }

    let header = |wanted: &str| if wanted == "mcp-method" { method } else { name };
    if let Err(refusal) = validate_headers(&message, header) {
        sound(&message, &refusal);
    }
    if let Some(method) = message.method() {
        // What we would send ourselves is accepted, unless the body says the name twice.
        let own = mcp_name(&message);
        let own = |wanted: &str| if wanted == "mcp-method" { Some(method) } else { own.as_deref() };
        let plain = method.trim_matches([' ', '\t']) == method;
        if let (true, Err(refusal)) = (plain, validate_headers(&message, own)) {
            assert!(refusal.message.contains("twice"), "{refusal:?}");
        }
    }
});

fn sound(message: &Message, refusal: &Refusal) {
    let known = [(400, -32600), (400, -32602), (400, -32020), (400, -32022), (404, -32601)];
    assert!(known.contains(&(refusal.status, refusal.code)), "{refusal:?}");
    let answer = Message::parse(refusal.body(message.id())).expect("an error response");
    assert_eq!(answer.id(), message.id());
}
