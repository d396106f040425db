//! Messages of Holdfast's own, written as JSON text. Parts that come from elsewhere go in byte for byte.

use bytes::Bytes;

use super::Id;
use crate::protocol::peek::quoted;

/// An error response. Without an id it says `"id":null` (JSON-RPC 2.0, section 5).
#[must_use]
pub fn error(id: Option<&Id>, code: i64, message: &str, data: Option<&serde_json::Value>) -> Bytes {
    let id = id.map_or("null", Id::as_json);
    let data = data.map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
    let message = quoted(message);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}{data}}}}}"#).into()
}

/// A result response. `result_json` has to be JSON text; it is not checked.
#[must_use]
pub fn result(id: &Id, result_json: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result_json}}}"#).into()
}

/// A response that carries an error (its JSON text).
#[must_use]
pub fn failure(id: &Id, error_json: &str) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error_json}}}"#, id.as_json()))
}

/// A notification. `params_json` has to be the JSON text of an object; it is not checked.
#[must_use]
pub fn notification(method: &str, params_json: Option<&str>) -> Bytes {
    let (method, params) = (quoted(method), params_member(params_json));
    format!(r#"{{"jsonrpc":"2.0","method":{method}{params}}}"#).into()
}

/// A request. `params_json` has to be the JSON text of an object; it is not checked.
#[must_use]
pub fn request(id: &Id, method: &str, params_json: Option<&str>) -> Bytes {
    let (method, params) = (quoted(method), params_member(params_json));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}{params}}}"#).into()
}

/// A batch: a JSON array of messages that are JSON text already. It may be empty, which JSON-RPC forbids to send.
#[must_use]
pub fn batch(messages: &[Bytes]) -> Bytes {
    let mut array = Vec::with_capacity(messages.iter().map(|message| message.len() + 1).sum::<usize>() + 2);
    array.push(b'[');
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            array.push(b',');
        }
        array.extend_from_slice(message);
    }
    array.push(b']');
    array.into()
}

fn params_member(params_json: Option<&str>) -> String {
    params_json.map(|params| format!(r#","params":{params}"#)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(built: &Bytes, expected: &serde_json::Value) {
        assert_eq!(&serde_json::from_slice::<serde_json::Value>(built).unwrap(), expected);
    }

    #[test]
    fn each_is_the_json_it_stands_for() {
        let id = Id::string("a\"b");
        check(&result(&id, "{}"), &json!({"jsonrpc": "2.0", "id": "a\"b", "result": {}}));
        check(&request(&Id::number(1), "ping", None), &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
        check(
            &notification("n/\n", Some(r#"{"a":1}"#)),
            &json!({"jsonrpc": "2.0", "method": "n/\n", "params": {"a": 1}}),
        );
        check(
            &error(None, -32700, "not \"JSON\"", None),
            &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "not \"JSON\""}}),
        );
        check(
            &error(Some(&id), -32022, "no", Some(&json!({"supported": ["x"]}))),
            &json!({"jsonrpc": "2.0", "id": "a\"b",
                "error": {"code": -32022, "message": "no", "data": {"supported": ["x"]}}}),
        );
        check(&batch(&[]), &json!([]));
        check(&batch(&["1".into(), "{}".into()]), &json!([1, {}]));
    }
}
