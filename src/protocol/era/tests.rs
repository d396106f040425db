//! The section "Which era is a request?", line by line, and the probes of the official conformance suite.

use serde_json::json;

use super::*;
use crate::protocol::{modern::*, version::MODERN};

const OLD: &str = "2025-06-18";

fn message(json: &Value) -> Message {
    Message::parse(json.to_string().into()).unwrap()
}

fn request(method: &str, meta: &Value) -> Message {
    message(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta, "x": 1}}))
}

fn full(version: &str) -> Value {
    json!({META_PROTOCOL_VERSION: version, META_CLIENT_CAPABILITIES: {}})
}

/// Expected is an era in short, or status and code.
#[track_caller]
fn check(message: &Message, header: Option<&str>, expected: Result<&str, (u16, i64)>) {
    let outcome = classify(message, header).map(|era| match era {
        Era::Legacy(None) => "legacy",
        Era::Legacy(Some(version)) => version.as_str(),
        Era::Modern(_) => "modern",
    });
    let short = outcome.as_ref().map(|era| *era).map_err(|refusal| (refusal.status, refusal.code));
    assert_eq!(short, expected, "{outcome:?}");
}

#[test]
fn initialize_without_modern_meta_is_legacy_whatever_it_names() {
    let initialize = |params: &Value| {
        message(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}))
    };
    for params in
        [json!({"protocolVersion": MODERN}), json!({"protocolVersion": OLD, "_meta": {"a": 1}}), json!({})]
    {
        check(&initialize(&params), None, Ok("legacy"));
        check(&initialize(&params), Some(OLD), Ok(OLD));
        check(&initialize(&params), Some(MODERN), Ok("legacy"));
        check(&initialize(&params), Some("1999-01-01"), Ok("legacy"));
    }
    check(&request("initialize", &full(OLD)), Some(MODERN), Ok("legacy"));
    check(&request("initialize", &full(MODERN)), Some(MODERN), Err((404, codes::METHOD_NOT_FOUND)));
    check(&request("initialize", &full(MODERN)), None, Err((400, codes::HEADER_MISMATCH)));
}

#[test]
fn without_meta_the_header_decides() {
    let bare = message(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    check(&bare, None, Ok("legacy"));
    check(&bare, Some(OLD), Ok(OLD));
    check(&bare, Some(" 2025-11-25\t"), Ok("2025-11-25"));
    check(&bare, Some(MODERN), Err((400, codes::INVALID_PARAMS)));
    check(&bare, Some("1999-01-01"), Err((400, codes::INVALID_PARAMS)));
    check(&bare, Some(""), Err((400, codes::INVALID_PARAMS)));
    check(&request("tools/list", &json!({"progressToken": 1})), Some(OLD), Ok(OLD));
}

#[test]
fn a_legacy_version_in_meta_is_legacy() {
    check(&request("tools/list", &full(OLD)), None, Ok("legacy"));
    check(&request("tools/list", &full(OLD)), Some("2025-11-25"), Ok("2025-11-25"));
    check(&request("tools/list", &full(OLD)), Some(MODERN), Err((400, codes::HEADER_MISMATCH)));
}

#[test]
fn the_modern_ladder_is_climbed_in_order() {
    let ladder = |meta: &Value, header, expected| check(&request("tools/list", meta), header, expected);
    ladder(&full(MODERN), Some(MODERN), Ok("modern"));
    for incomplete in [
        json!({META_PROTOCOL_VERSION: MODERN}),
        json!({META_CLIENT_CAPABILITIES: {}}),
        json!({META_PROTOCOL_VERSION: MODERN, META_CLIENT_CAPABILITIES: []}),
        json!({META_PROTOCOL_VERSION: 123, META_CLIENT_CAPABILITIES: {}}),
        json!({META_PROTOCOL_VERSION: "v999"}),
        json!({}),
        json!(null),
        json!("text"),
    ] {
        ladder(&incomplete, Some(MODERN), Err((400, codes::INVALID_PARAMS)));
    }
    ladder(&json!({META_PROTOCOL_VERSION: 123}), None, Err((400, codes::INVALID_PARAMS)));
    ladder(&full("v999"), Some(MODERN), Err((400, codes::HEADER_MISMATCH)));
    ladder(&full(MODERN), Some(OLD), Err((400, codes::HEADER_MISMATCH)));
    ladder(&full(MODERN), None, Err((400, codes::HEADER_MISMATCH)));
    ladder(&full("v999"), Some("v999"), Err((400, codes::UNSUPPORTED_VERSION)));
    for method in REMOVED_METHODS {
        check(&request(method, &full("v999")), Some("v999"), Err((400, codes::UNSUPPORTED_VERSION)));
        check(&request(method, &full(MODERN)), Some(MODERN), Err((404, codes::METHOD_NOT_FOUND)));
    }
}

#[test]
fn what_is_said_twice_is_not_believed() {
    let twice = [
        format!(r#"{{"_meta":{0},"_meta":{0}}}"#, full(MODERN)),
        format!(r#"{{"_meta":{{"{META_PROTOCOL_VERSION}":"{MODERN}","{META_PROTOCOL_VERSION}":"{OLD}"}}}}"#),
    ];
    for params in twice {
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{params}}}"#);
        let message = Message::parse(json.into()).unwrap();
        check(&message, Some(MODERN), Err((400, codes::INVALID_PARAMS)));
        check(&message, Some(OLD), Err((400, codes::INVALID_PARAMS)));
    }
}

#[test]
fn notifications_need_no_meta() {
    let bare = message(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled"}));
    check(&bare, None, Ok("legacy"));
    check(&bare, Some(OLD), Ok(OLD));
    check(&bare, Some(MODERN), Ok("modern"));
    check(&bare, Some("v999"), Err((400, codes::UNSUPPORTED_VERSION)));
    let tagged = message(&json!({"jsonrpc": "2.0", "method": "n", "params": {"_meta": full(MODERN)}}));
    check(&tagged, Some(MODERN), Ok("modern"));
    check(&tagged, None, Err((400, codes::HEADER_MISMATCH)));
    check(&tagged, Some(OLD), Err((400, codes::HEADER_MISMATCH)));
}

#[test]
fn m3_responses_are_legacy() {
    let response = message(&json!({"jsonrpc": "2.0", "id": 1, "result": {"_meta": full(MODERN)}}));
    check(&response, None, Ok("legacy"));
    check(&response, Some(OLD), Ok(OLD));
    check(&response, Some(MODERN), Err((400, codes::INVALID_REQUEST)));
    check(&response, Some("v999"), Err((400, codes::UNSUPPORTED_VERSION)));
}

#[test]
fn headers_alone_decide_for_get_and_delete() {
    assert_eq!(classify_headers(None), HeaderEra::Legacy(None));
    assert_eq!(classify_headers(Some(OLD)), HeaderEra::Legacy(LegacyVersion::parse(OLD)));
    assert_eq!(classify_headers(Some(" 2026-07-28")), HeaderEra::Modern);
    assert_eq!(classify_headers(Some("v999")), HeaderEra::Unknown("v999".into()));
}

#[test]
fn the_client_is_described_by_its_request() {
    let meta = json!({
        META_PROTOCOL_VERSION: MODERN,
        META_CLIENT_CAPABILITIES: {"sampling": {}},
        META_CLIENT_INFO: {"name": "c", "version": "1"},
        META_LOG_LEVEL: "debug",
    });
    let era = classify(&request("tools/list", &meta), Some(MODERN));
    let expected = Modern {
        version: MODERN.to_owned(),
        capabilities: r#"{"sampling":{}}"#.to_owned(),
        client_info: Some(r#"{"name":"c","version":"1"}"#.to_owned()),
        log_level: Some("debug".to_owned()),
    };
    assert_eq!(era, Ok(Era::Modern(expected)));
}

#[test]
fn refusals_carry_what_the_suite_looks_for() {
    let refusal = classify(&request("server/discover", &full("v999.0.0")), Some("v999.0.0")).unwrap_err();
    let body: Value = serde_json::from_slice(&refusal.body(Some(&Id::number(301)))).unwrap();
    let data = json!({"supported": [MODERN], "requested": "v999.0.0"});
    let error = json!({"code": -32022, "message": "Unsupported protocol version", "data": data});
    assert_eq!(body, json!({"jsonrpc": "2.0", "id": 301, "error": error}));
    let refusal = classify(&request("server/discover", &json!({})), Some(MODERN)).unwrap_err();
    assert!(
        refusal.message.contains(META_PROTOCOL_VERSION) && refusal.message.contains(META_CLIENT_CAPABILITIES)
    );
}
