//! Headers that repeat parts of the body, so that a router need not read it (2026-07-28, Streamable HTTP, "Request
//! Metadata"). `Mcp-Param-*` depends on a tool's schema and is checked where that is known.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Refusal, header_mismatch, refusal};
use crate::protocol::{
    jsonrpc::{Kind, Message, codes},
    peek,
};

const ENCODED_PREFIX: &str = "=?base64?";
const ENCODED_SUFFIX: &str = "?=";

/// Checks `Mcp-Method` and `Mcp-Name` of a modern message against its body (M13). `header` gives the raw value of a
/// header by its name, in lower case.
///
/// The revision asks for both headers on requests only, and leaves notifications open: there they may be absent, but
/// if present have to be right. Responses repeat nothing.
///
/// # Errors
/// 400 with -32020 if a required header is absent, can't be decoded, or differs from the body; also if `params` name
/// the thing twice.
pub fn validate_headers<'h>(
    message: &Message,
    header: impl Fn(&str) -> Option<&'h str>,
) -> Result<(), Refusal> {
    let (method, required) = match message.kind() {
        Kind::Request { method, .. } => (&**method, true),
        Kind::Notification { method } => (&**method, false),
        Kind::Response { .. } => return Ok(()),
    };
    match header("mcp-method").map(trimmed) {
        Some(value) if value == method => {}
        None if !required => {}
        value => return Err(header_mismatch("Mcp-Method", value, Some(method))),
    }
    let Some(member) = name_member(method) else {
        return Ok(());
    };
    let name = name_in(message.params(), member)?;
    let Some(raw) = header("mcp-name").map(trimmed) else {
        return match name {
            Some(name) if required => Err(header_mismatch("Mcp-Name", None, Some(&name))),
            _ => Ok(()),
        };
    };
    let value = decode_header_value(raw).ok_or_else(|| mismatch("the header Mcp-Name can't be decoded"))?;
    if Some(&value) != name.as_ref() {
        return Err(header_mismatch("Mcp-Name", Some(&value), name.as_deref()));
    }
    Ok(())
}

/// The value of `Mcp-Name` that belongs to a request, encoded for sending; `None` if it has none.
#[must_use]
pub fn mcp_name(message: &Message) -> Option<String> {
    let name = name_in(message.params(), name_member(message.method()?)?).ok()??;
    Some(encode_header_value(&name).into_owned())
}

/// The text that a header's value stands for: itself, or what `=?base64?…?=` wraps. The markers are case-sensitive.
/// `None` if that is no canonical Base64 of UTF-8, or the value has other characters than printable ASCII and tab.
#[must_use]
pub fn decode_header_value(value: &str) -> Option<Cow<'_, str>> {
    if !value.bytes().all(is_plain) {
        return None;
    }
    let Some(encoded) = value.strip_prefix(ENCODED_PREFIX).and_then(|rest| rest.strip_suffix(ENCODED_SUFFIX))
    else {
        return Some(Cow::Borrowed(value));
    };
    String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned)
}

/// `text` as the value of a header: wrapped as `=?base64?…?=` if it could not travel as it is.
#[must_use]
pub fn encode_header_value(text: &str) -> Cow<'_, str> {
    let looks_encoded = text.starts_with(ENCODED_PREFIX) && text.ends_with(ENCODED_SUFFIX);
    if text.bytes().all(is_plain) && trimmed(text) == text && !looks_encoded {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{ENCODED_PREFIX}{}{ENCODED_SUFFIX}", BASE64_STANDARD.encode(text)))
}

/// The member of `params` that `Mcp-Name` repeats.
fn name_member(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        // Not the other `tasks/*`: the revision removed them, and says so by -32601 (conformance suite).
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// The name in the body; whatever is no string counts as absent, since no header can repeat it.
fn name_in<'a>(params: Option<&'a str>, member: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(Ok(members)) = params.map(|params| peek::members(params, &[member])) else {
        return Ok(None);
    };
    if members.duplicate {
        return Err(mismatch("the body has the value of Mcp-Name twice"));
    }
    let [name] = members.values;
    Ok(name.and_then(peek::string))
}

fn mismatch(message: &str) -> Refusal {
    refusal(400, codes::HEADER_MISMATCH, format!("Header mismatch: {message}"), None)
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

/// Without the white space that may surround a header's value (RFC 9110, section 5.5).
pub(in crate::protocol) fn trimmed(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(method: &str, params: &str) -> Message {
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Message::parse(json.into()).unwrap()
    }

    /// Headers as (`Mcp-Method`, `Mcp-Name`); expected is whether they are accepted.
    #[track_caller]
    fn check(message: &Message, headers: (Option<&str>, Option<&str>), expected: bool) {
        let outcome = validate_headers(message, |name| match name {
            "mcp-method" => headers.0,
            "mcp-name" => headers.1,
            _ => None,
        });
        if let Err(refusal) = &outcome {
            assert_eq!((refusal.status, refusal.code), (400, codes::HEADER_MISMATCH));
        }
        assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
    }

    #[test]
    fn m13_method_is_required_and_exact() {
        let list = message("tools/list", "{}");
        check(&list, (Some("tools/list"), None), true);
        check(&list, (Some(" \ttools/list "), Some("anything")), true);
        check(&list, (None, None), false);
        check(&list, (Some("TOOLS/LIST"), None), false);
        check(&list, (Some("=?base64?dG9vbHMvbGlzdA==?="), None), false);
    }

    #[test]
    fn m13_name_is_taken_from_the_right_member() {
        for (method, member) in [
            ("tools/call", "name"),
            ("prompts/get", "name"),
            ("resources/read", "uri"),
            ("tasks/get", "taskId"),
            ("tasks/cancel", "taskId"),
        ] {
            let call = message(method, &format!(r#"{{"{member}":"a b"}}"#));
            check(&call, (Some(method), Some("  a b  ")), true);
            check(&call, (Some(method), Some("a B")), false);
            check(&call, (Some(method), None), false);
        }
    }

    #[test]
    fn m13_encoded_names_are_decoded_first() {
        let call = message("tools/call", r#"{"name":"h\u00e9llo"}"#);
        check(&call, (Some("tools/call"), Some("=?base64?aMOpbGxv?=")), true);
        check(&call, (Some("tools/call"), Some("=?BASE64?aMOpbGxv?=")), false);
        check(&call, (Some("tools/call"), Some("héllo")), false);
        let call = message("tools/call", r#"{"name":"Hello"}"#);
        check(&call, (Some("tools/call"), Some("=?base64?SGVsbG8=?=")), true);
        check(&call, (Some("tools/call"), Some("=?base64?SGVsbG8?=")), false);
        check(&call, (Some("tools/call"), Some("=?base64?SGVs!!!bG8=?=")), false);
        check(&call, (Some("tools/call"), Some("=?base64?/w==?=")), false);
    }

    #[test]
    fn m13_a_body_without_the_name_has_no_header_for_it() {
        for params in ["{}", r#"{"name":1}"#, "[1]"] {
            check(&message("tools/call", params), (Some("tools/call"), None), true);
            check(&message("tools/call", params), (Some("tools/call"), Some("1")), false);
        }
        let twice = message("tools/call", r#"{"name":"a","name":"b"}"#);
        check(&twice, (Some("tools/call"), Some("b")), false);
    }

    #[test]
    fn notifications_may_omit_headers_but_not_contradict() {
        let json = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
        let notification = Message::parse(json.into()).unwrap();
        check(&notification, (None, None), true);
        check(&notification, (Some("notifications/cancelled"), None), true);
        check(&notification, (Some("notifications/progress"), None), false);
    }

    #[test]
    fn values_travel_as_the_specification_shows() {
        for (text, value) in [
            ("us-west1", "us-west1"),
            ("", ""),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode_header_value(text), value);
            assert_eq!(decode_header_value(value).as_deref(), Some(text));
        }
        assert_eq!(
            decode_header_value("=?base64?=").as_deref(),
            Some("=?base64?="),
            "the markers may not overlap"
        );
        let call = message("resources/read", r#"{"uri":"file:///\u00e9"}"#);
        assert_eq!(mcp_name(&call).as_deref(), Some("=?base64?ZmlsZTovLy/DqQ==?="));
        assert_eq!(mcp_name(&message("tools/list", "{}")), None);
    }
}
