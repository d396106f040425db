//! Looks into the legacy messages that Holdfast takes part in. Fields it doesn't know stay in the text; a text of the
//! wrong shape, or one that says the same thing twice, gives `None`.

use super::jsonrpc::{Id, Message};
use super::peek;

/// The parameters of `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialize {
    /// The version that the client asks for, known or not (L28).
    pub protocol_version: String,
    /// The client's capabilities, the JSON text of an object.
    pub capabilities: String,
    /// Name and version of the client, JSON text.
    pub client_info: Option<String>,
}

/// The result of `initialize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialized {
    /// The version that the server chose.
    pub protocol_version: String,
    /// The server's capabilities, the JSON text of an object.
    pub capabilities: String,
}

/// Reads the parameters of `initialize`; absent capabilities count as none.
#[must_use]
pub fn initialize_params(params: &str) -> Option<Initialize> {
    let [version, capabilities, client_info] =
        peek::object(params, &["protocolVersion", "capabilities", "clientInfo"])?;
    Some(Initialize {
        protocol_version: peek::string(version?)?.into_owned(),
        capabilities: object_or_empty(capabilities)?,
        client_info: client_info.map(str::to_owned),
    })
}

/// Reads the result of `initialize`; absent capabilities count as none.
#[must_use]
pub fn initialize_result(result: &str) -> Option<Initialized> {
    let [version, capabilities] = peek::object(result, &["protocolVersion", "capabilities"])?;
    Some(Initialized {
        protocol_version: peek::string(version?)?.into_owned(),
        capabilities: object_or_empty(capabilities)?,
    })
}

/// The request that `notifications/cancelled` is about (L16).
#[must_use]
pub fn cancelled_request(params: &str) -> Option<Id> {
    id_member(params, "requestId")
}

/// The token that a request wants its progress reported with: `_meta.progressToken` (L31).
#[must_use]
pub fn progress_token(params: &str) -> Option<Id> {
    let [meta] = peek::object(params, &["_meta"])?;
    id_member(meta?, "progressToken")
}

/// The token that `notifications/progress` reports for (L31).
#[must_use]
pub fn progressed(params: &str) -> Option<Id> {
    id_member(params, "progressToken")
}

/// `uri`, of `resources/subscribe`, `resources/unsubscribe`, `resources/read` and `notifications/resources/updated`.
#[must_use]
pub fn resource_uri(params: &str) -> Option<String> {
    string_member(params, "uri")
}

/// `name`, of `tools/call` in either era; `None` also if another parser may take another member for it.
#[must_use]
pub fn tool_name(params: &str) -> Option<String> {
    string_member(params, "name").filter(|_| !peek::has_lookalikes(params, &["name"]))
}

/// Whether the result of a `tools/call` says that the tool failed.
#[must_use]
pub fn is_tool_error(result: &str) -> bool {
    // Most say nothing of it, or are long: the search is the cheaper half.
    result.contains("\"isError\"")
        && peek::object(result, &["isError"]).is_some_and(|[is_error]| is_error == Some("true"))
}

/// `level`, of `logging/setLevel` and `notifications/message`.
#[must_use]
pub fn log_level(params: &str) -> Option<String> {
    string_member(params, "level")
}

/// The parameters or the result of `initialize` with another `protocolVersion`, and every other byte kept. A text
/// that is no object, or has the member twice, comes back as it was.
#[must_use]
pub fn with_protocol_version(params: &str, version: &str) -> String {
    peek::with_member(params, "protocolVersion", &peek::quoted(version)).unwrap_or_else(|| params.to_owned())
}

/// The answer to `initialize` with `value` (JSON text) as the experimental capability `name`, and every other byte kept.
/// `None` if it has no capabilities to add it to.
#[must_use]
pub fn with_experimental(answer: &Message, name: &str, value: &str) -> Option<Message> {
    let raw = std::str::from_utf8(answer.raw()).ok()?;
    let result = answer.result()?;
    let [capabilities] = peek::object(result, &["capabilities"])?;
    let capabilities = capabilities?;
    let [experimental] = peek::object(capabilities, &["experimental"])?;
    let experimental = peek::with_member(experimental.unwrap_or("{}"), name, value)?;
    let capabilities = peek::with_member(capabilities, "experimental", &experimental)?;
    let result = peek::with_member(result, "capabilities", &capabilities)?;
    Message::parse(peek::with_member(raw, "result", &result)?.into()).ok()
}

/// The names of the capabilities in the JSON text of an object; none for any other text.
#[must_use]
pub fn capability_names(capabilities_json: &str) -> Vec<String> {
    peek::names(capabilities_json).unwrap_or_default()
}

fn id_member(json: &str, name: &str) -> Option<Id> {
    let [id] = peek::object(json, &[name])?;
    Id::parse(id?).ok()
}

fn string_member(json: &str, name: &str) -> Option<String> {
    let [text] = peek::object(json, &[name])?;
    peek::string(text?).map(Into::into)
}

fn object_or_empty(json: Option<&str>) -> Option<String> {
    let json = json.unwrap_or("{}");
    peek::is_object(json).then(|| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_named_for_every_parser() {
        let check = |params: &str, tool: Option<&str>| {
            assert_eq!(tool_name(params).as_deref(), tool, "{params}");
        };
        check(r#"{"name":"a","arguments":{"Name":"b"},"names":1}"#, Some("a"));
        for odd in ["Name", "NAME", "na\u{212a}me", "name ", "\\u006eam\\u0045", "nam\\u0065\\u0000"] {
            let differs = odd.contains('\u{212a}');
            check(&format!(r#"{{"name":"a","{odd}":"b"}}"#), differs.then_some("a"));
        }
        check(r#"{"name":"a","name":"b"}"#, None);
        check(r#"["a"]"#, None);
    }

    #[test]
    fn a_capability_is_added_to_what_a_server_has() {
        let check = |result: &str, expected: Option<&str>| {
            let answer = |result: &str| format!(r#"{{"jsonrpc":"2.0", "id":1,"result":{result} }}"#);
            let given = Message::parse(answer(result).into()).unwrap();
            let added = with_experimental(&given, "oauth", r#"{"a":1}"#);
            let added = added.map(|added| String::from_utf8(added.raw().to_vec()).unwrap());
            assert_eq!(added, expected.map(answer), "{result}");
        };
        check(
            r#"{"capabilities": { "tools":{} }, "x": 1}"#,
            Some(r#"{"capabilities": {"experimental":{"oauth":{"a":1}}, "tools":{} }, "x": 1}"#),
        );
        check(
            r#"{"capabilities":{"experimental":{ "b":{}}}}"#,
            Some(r#"{"capabilities":{"experimental":{"oauth":{"a":1}, "b":{}}}}"#),
        );
        check(
            r#"{"capabilities":{"experimental":{"oauth":2}}}"#,
            Some(r#"{"capabilities":{"experimental":{"oauth":{"a":1}}}}"#),
        );
        for odd in [r#"{}"#, r#"{"capabilities":[]}"#, r#"{"capabilities":{},"capabilities":{}}"#] {
            check(odd, None);
        }
    }

    #[test]
    fn the_handshake_is_read() {
        let params = r#"{"protocolVersion":"2025-11-25","capabilities":{ "roots":{} },"clientInfo":{"name":"c"},"x":1}"#;
        let initialize = initialize_params(params).unwrap();
        assert_eq!(initialize.protocol_version, "2025-11-25");
        assert_eq!(initialize.capabilities, r#"{ "roots":{} }"#);
        assert_eq!(initialize.client_info.as_deref(), Some(r#"{"name":"c"}"#));
        let initialized = initialize_result(params).unwrap();
        assert_eq!(initialized.capabilities, initialize.capabilities);
        assert_eq!(initialize_params(r#"{"protocolVersion":"x"}"#).unwrap().capabilities, "{}");
        for odd in
            ["[]", "{}", "", r#"{"protocolVersion":1}"#, r#"{"protocolVersion":"x","capabilities":[]}"#]
        {
            assert_eq!(initialize_params(odd), None, "{odd}");
            assert_eq!(initialize_result(odd), None, "{odd}");
        }
        assert_eq!(initialize_params(r#"["2025-11-25",{},{}]"#), None, "an array is no object");
    }

    #[track_caller]
    fn check(read: fn(&str) -> Option<Id>, params: &str, expected: Option<&str>) {
        assert_eq!(read(params).as_ref().map(Id::as_json), expected, "{params}");
    }

    #[test]
    fn ids_and_tokens_are_found() {
        check(cancelled_request, r#"{"reason":"r","requestId":"a"}"#, Some("\"a\""));
        check(cancelled_request, r#"{"requestId":null}"#, None);
        check(cancelled_request, r#"{"requestId":1,"requestId":2}"#, None);
        check(progress_token, r#"{"_meta":{"progressToken":0}}"#, Some("0"));
        check(progress_token, r#"{"_meta":[],"progressToken":0}"#, None);
        check(progress_token, r#"{"progressToken":0}"#, None);
        check(progressed, r#"{"progress":1,"progressToken":"t"}"#, Some("\"t\""));
        check(progressed, "not JSON", None);
    }

    #[test]
    fn plain_members_are_found() {
        assert_eq!(resource_uri(r#"{"uri":"file:\/\/\/a"}"#).as_deref(), Some("file:///a"));
        assert_eq!(resource_uri(r#"{"uri":1}"#), None);
        assert_eq!(log_level(r#"{"level":"debug","data":{}}"#).as_deref(), Some("debug"));
        assert_eq!(capability_names(r#"{"tools":{},"a\u0062":1}"#), ["tools", "ab"]);
        assert!(capability_names("[]").is_empty());
    }

    #[test]
    fn only_the_version_is_rewritten() {
        let params = r#"{ "protocolVersion" : "2026-07-28", "n":1.0, "protocol":{"protocolVersion":1} }"#;
        let expected = r#"{ "protocolVersion" : "2025-11-25", "n":1.0, "protocol":{"protocolVersion":1} }"#;
        assert_eq!(with_protocol_version(params, "2025-11-25"), expected);
        assert_eq!(with_protocol_version("{ }", "a\"b"), r#"{"protocolVersion":"a\"b" }"#);
        assert_eq!(with_protocol_version("[]", "x"), "[]");
    }
}
