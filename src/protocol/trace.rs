//! The trace context that a message carries itself: `traceparent` and `tracestate` in its `_meta` (M26).

use bytes::Bytes;

use super::jsonrpc::Message;
use super::peek;

/// What `params._meta` names as its parent, and the state beside it.
#[must_use]
pub fn parent(params: &str) -> Option<(String, Option<String>)> {
    let [meta] = peek::object(params, &["_meta"])?;
    let [parent, state] = peek::object(meta?, &["traceparent", "tracestate"])?;
    let text = |json: &str| peek::string(json).map(|text| text.into_owned());
    Some((text(parent?)?, state.and_then(text)))
}

/// The message with another parent in its `_meta`, and every other byte kept; `None` where it names none.
#[must_use]
pub fn with_parent(message: &Message, parent: &str, state: Option<&str>) -> Option<Bytes> {
    let params = message.params()?;
    let (_, had_state) = self::parent(params)?;
    let [meta] = peek::object(params, &["_meta"])?;
    let mut meta = peek::with_member(meta?, "traceparent", &peek::quoted(parent))?;
    if had_state.is_some() || state.is_some() {
        meta = peek::with_member(&meta, "tracestate", &peek::quoted(state.unwrap_or_default()))?;
    }
    let params = peek::with_member(params, "_meta", &meta)?;
    let raw = std::str::from_utf8(message.raw()).ok()?;
    peek::with_member(raw, "params", &params).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(meta: &str) -> Message {
        let raw = format!(
            r#"{{"jsonrpc":"2.0", "id":1,"method":"tools/call","params":{{ "name":"t","_meta":{meta}}}}}"#
        );
        Message::parse(raw.into()).unwrap()
    }

    #[test]
    fn a_parent_is_read_and_replaced_and_every_other_byte_kept() {
        let check = |meta: &str, expected: Option<&str>| {
            let replaced = with_parent(&message(meta), "new", Some("a=b"));
            assert_eq!(replaced, expected.map(|meta| message(meta).raw().clone()), "{meta}");
        };
        check(
            r#"{"x":[1, 2],"traceparent":"old"}"#,
            Some(r#"{"tracestate":"a=b","x":[1, 2],"traceparent":"new"}"#),
        );
        check(
            r#"{"traceparent":"old","tracestate":"c=d","y":0}"#,
            Some(r#"{"traceparent":"new","tracestate":"a=b","y":0}"#),
        );
        check(r#"{"x":1}"#, None);
        check(r#"{"traceparent":1}"#, None);
        check(r#"{"traceparent":"a","traceparent":"b"}"#, None);
        let (parent, state) =
            parent(message(r#"{"traceparent":"p","tracestate":"s"}"#).params().unwrap()).unwrap();
        assert_eq!((parent.as_str(), state.as_deref()), ("p", Some("s")));
    }
}
