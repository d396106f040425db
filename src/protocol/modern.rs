//! What the modern era (2026-07-28) adds to messages: `_meta`, headers that repeat the body, and its errors.

mod headers;

use serde_json::{Value, json};

use super::{
    era::Refusal,
    jsonrpc::{Id, Message, codes},
    peek,
};

pub(super) use self::headers::trimmed;
pub use self::headers::{decode_header_value, encode_header_value, mcp_name, validate_headers};

/// `_meta`: the version of this request; required (M16).
pub const META_PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// `_meta`: name and version of the client.
pub const META_CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta`: the client's capabilities; required (M16).
pub const META_CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta`: the least level of log messages wanted (M20).
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// `_meta` of a notification: the id of the `subscriptions/listen` request it belongs to (M19).
pub const META_SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// `_meta` of a result: name and version of the server (M18).
pub const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Requests that legacy revisions know and this era answers with -32601 (M11).
pub const REMOVED_METHODS: &[&str] =
    &["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// What the `_meta` of a call says, as slices of it.
#[derive(Debug)]
pub(super) struct RequestMeta<'a> {
    pub(super) version: Declared,
    pub(super) capabilities: Option<&'a str>,
    pub(super) client_info: Option<&'a str>,
    pub(super) log_level: Option<String>,
    /// A member that matters occurs twice, or `_meta` is no object: readers would disagree about it.
    pub(super) ambiguous: bool,
}

/// A protocol version, as far as there is one.
#[derive(Debug)]
pub(super) enum Declared {
    Absent,
    Text(String),
    /// The member is there, but no string, or not the only one.
    Unreadable,
}

impl<'a> RequestMeta<'a> {
    /// Reads `params._meta`.
    pub(super) fn of(params: Option<&'a str>) -> Self {
        let mut meta = Self {
            version: Declared::Absent,
            capabilities: None,
            client_info: None,
            log_level: None,
            ambiguous: false,
        };
        let Some(params) = params.and_then(|params| peek::members(params, &["_meta"]).ok()) else {
            return meta;
        };
        let [Some(text)] = params.values else {
            return meta;
        };
        let names = [META_PROTOCOL_VERSION, META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL];
        let Ok(members) = peek::members(text, &names) else {
            meta.ambiguous = true;
            return meta;
        };
        let [version, capabilities, client_info, log_level] = members.values;
        meta.ambiguous = params.duplicate || members.duplicate;
        meta.version = match version.map(peek::string) {
            _ if meta.ambiguous => Declared::Unreadable,
            None => Declared::Absent,
            Some(None) => Declared::Unreadable,
            Some(Some(version)) => Declared::Text(version.into_owned()),
        };
        meta.capabilities = capabilities.filter(|capabilities| peek::is_object(capabilities));
        meta.client_info = client_info;
        meta.log_level = log_level.and_then(peek::string).map(Into::into);
        meta
    }

    /// The required members that are absent or of the wrong kind.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let version = matches!(self.version, Declared::Text(_));
        let required =
            [(version, META_PROTOCOL_VERSION), (self.capabilities.is_some(), META_CLIENT_CAPABILITIES)];
        required.into_iter().filter(|(present, _)| !present).map(|(_, name)| name).collect()
    }
}

/// The subscription that a notification of a `subscriptions/listen` stream, or the result at its end, belongs to.
#[must_use]
pub fn subscription_id(message: &Message) -> Option<Id> {
    let [meta] = peek::object(message.params().or(message.result())?, &["_meta"])?;
    let [id] = peek::object(meta?, &[META_SUBSCRIPTION_ID])?;
    Id::parse(id?).ok()
}

/// `object` (the JSON text of `params` or of a result) with the member `key` of its `_meta` set to `value_json`, and
/// every other byte kept. `None` if `object` or its `_meta` is no object, or has the member in question twice.
#[must_use]
pub fn with_meta(object: &str, key: &str, value_json: &str) -> Option<String> {
    let [meta] = peek::object(object, &["_meta"])?;
    let meta = peek::with_member(meta.unwrap_or("{}"), key, value_json)?;
    peek::with_member(object, "_meta", &meta)
}

/// -32022 with 400: the client may choose one of `supported` (M10).
#[must_use]
pub fn unsupported_version(requested: &str, supported: &[&str]) -> Refusal {
    let data = json!({ "supported": supported, "requested": requested });
    refusal(400, codes::UNSUPPORTED_VERSION, "Unsupported protocol version".to_owned(), Some(data))
}

/// -32021 with 400: `required` is an object shaped like `ClientCapabilities`, for example `{"sampling": {}}` (M17).
#[must_use]
pub fn missing_capability(required: Value) -> Refusal {
    let data = Value::Object([("requiredCapabilities".to_owned(), required)].into_iter().collect());
    refusal(400, codes::MISSING_CAPABILITY, "Missing required client capability".to_owned(), Some(data))
}

/// -32020 with 400: what a header says differs from what the body says; `None` is absent (M9, M13).
#[must_use]
pub fn header_mismatch(name: &str, header: Option<&str>, body: Option<&str>) -> Refusal {
    let message = match (header, body) {
        (None, _) => format!("the header {name} is missing"),
        (Some(header), None) => format!("the header {name} says {}, the body nothing", shown(header)),
        (Some(header), Some(body)) => {
            format!("the header {name} says {}, the body {}", shown(header), shown(body))
        }
    };
    refusal(400, codes::HEADER_MISMATCH, format!("Header mismatch: {message}"), None)
}

/// -32601 with 404: nobody here knows the method (M11).
#[must_use]
pub fn method_not_found(method: &str) -> Refusal {
    refusal(404, codes::METHOD_NOT_FOUND, format!("Method not found: {}", shown(method)), None)
}

/// -32602 with 400: `_meta` lacks something, or says it twice (M16).
pub(super) fn incomplete_meta(meta: &RequestMeta<'_>) -> Refusal {
    let message = if meta.ambiguous {
        "Invalid params: _meta has to be an object that says everything once".to_owned()
    } else {
        format!("Invalid params: _meta lacks {}", meta.missing().join(", "))
    };
    refusal(400, codes::INVALID_PARAMS, message, None)
}

fn refusal(status: u16, code: i64, message: String, data: Option<Value>) -> Refusal {
    Refusal { status, code, message, data }
}

/// A client's own words inside an error: quoted, and not at any length.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 100;
    let cut = text.char_indices().nth(CHARACTERS_MAX).map(|(at, _)| &text[..at]);
    cut.map_or_else(|| format!("'{text}'"), |cut| format!("'{cut}…'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        let message = Message::parse(json.to_owned().into()).unwrap();
        assert_eq!(subscription_id(&message).as_ref().map(Id::as_json), expected, "{json}");
    }

    #[test]
    fn m19_subscription_ids_are_found() {
        let meta = r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":"a"}}"#;
        check(&format!(r#"{{"jsonrpc":"2.0","method":"n","params":{meta}}}"#), Some("\"a\""));
        check(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{meta}}}"#), Some("\"a\""));
        check(r#"{"jsonrpc":"2.0","method":"n","params":{"_meta":{}}}"#, None);
        check(r#"{"jsonrpc":"2.0","method":"n","params":[]}"#, None);
        check(r#"{"jsonrpc":"2.0","method":"n"}"#, None);
    }

    #[test]
    fn meta_is_set_and_the_rest_kept() {
        assert_eq!(with_meta("{}", "k", "1").as_deref(), Some(r#"{"_meta":{"k":1}}"#));
        assert_eq!(
            with_meta(r#"{ "a" : 1.0 }"#, "k", "1").as_deref(),
            Some(r#"{"_meta":{"k":1}, "a" : 1.0 }"#)
        );
        let kept = with_meta(r#"{"_meta": { "k" : 2, "x":3 }, "a":1}"#, "k", "[]");
        assert_eq!(kept.as_deref(), Some(r#"{"_meta": { "k" : [], "x":3 }, "a":1}"#));
        for odd in
            ["[]", "1", r#"{"_meta":1}"#, r#"{"_meta":{},"_meta":{}}"#, r#"{"_meta":{"k":1,"k":2}}"#, "{"]
        {
            assert_eq!(with_meta(odd, "k", "1"), None, "{odd}");
        }
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let refusal = missing_capability(json!({"sampling": {}}));
        assert_eq!((refusal.status, refusal.code), (400, -32021));
        assert_eq!(refusal.data, Some(json!({"requiredCapabilities": {"sampling": {}}})));
        let refusal = header_mismatch("Mcp-Name", Some("foo"), Some(&"b".repeat(200)));
        let expected =
            format!("Header mismatch: the header Mcp-Name says 'foo', the body '{}…'", "b".repeat(100));
        assert_eq!(refusal.message, expected);
    }
}
