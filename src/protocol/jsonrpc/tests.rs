//! Cases of the envelope, and properties: the peek agrees with `serde_json`, keeps every byte, and needs no stack.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, string::string_regex};
use serde_json::{Map, Value, json};

use super::*;

fn parse(json: &str) -> Result<Message, Malformed> {
    Message::parse(Bytes::copy_from_slice(json.as_bytes()))
}

fn value(json: Option<&str>) -> Option<Value> {
    json.map(|json| serde_json::from_str(json).unwrap())
}

#[track_caller]
fn check(json: &str, expected: &Kind) {
    assert_eq!(parse(json).map(|message| message.kind).as_ref(), Ok(expected), "{json}");
}

/// `id` is what the error names.
#[track_caller]
fn check_malformed(json: &str, code: i64, id: Option<&str>) {
    let malformed = parse(json).unwrap_err();
    assert_eq!((malformed.code(), malformed.id().map(Id::as_json)), (code, id), "{json}: {malformed}");
}

#[test]
fn kinds_are_told_apart() {
    let (id, method) = (Id::number(1), Arc::from("ping"));
    check(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, &Kind::Request { id, method });
    let method = Arc::from("a/b");
    check(r#" {"method":"a\/b", "\u006asonrpc":"2.\u0030","params":null} "#, &Kind::Notification { method });
    let response = |id, is_error| Kind::Response { id, is_error };
    check(r#"{"jsonrpc":"2.0","id":"x","result":null}"#, &response(Some(Id::string("x")), false));
    check(r#"{"jsonrpc":"2.0","id":1,"error":{},"extra":[]}"#, &response(Some(Id::number(1)), true));
    check(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, &response(None, true));
    check(r#"{"jsonrpc":"2.0","error":{}}"#, &response(None, true));
}

#[test]
fn broken_envelopes_are_refused_and_the_id_is_named() {
    for json in
        ["", " ", "{", "{}}", "{'a':1}", "[1,", "nul", "\u{feff}\u{feff}{}", "{\"a\":\"\n\"}", "{\"a\":01}"]
    {
        check_malformed(json, codes::PARSE_ERROR, None);
    }
    for json in ["{}", "[]", "1", "\"a\"", "null", r#"[{"jsonrpc":"2.0","method":"m"}]"#] {
        check_malformed(json, codes::INVALID_REQUEST, None);
    }
    for rest in [
        r#""method":"m""#,
        r#""jsonrpc":"1.0","method":"m""#,
        r#""jsonrpc":2.0,"method":"m""#,
        r#""jsonrpc":"2.0""#,
        r#""jsonrpc":"2.0","method":1"#,
        r#""jsonrpc":"2.0","method":"m","params":"p""#,
        r#""jsonrpc":"2.0","method":"m","result":1"#,
        r#""jsonrpc":"2.0","method":"m","error":{}"#,
        r#""jsonrpc":"2.0","result":1,"error":{}"#,
        r#""jsonrpc":"2.0","error":"e""#,
        r#""jsonrpc":"2.0","error":null"#,
    ] {
        check_malformed(&format!(r#"{{"id":7,{rest}}}"#), codes::INVALID_REQUEST, Some("7"));
    }
    for json in [
        r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":[],"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":1}"#,
        r#"{"jsonrpc":"2.0","result":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","method":"m","m\u0065thod":"n"}"#,
    ] {
        check_malformed(json, codes::INVALID_REQUEST, None);
    }
    assert_eq!(Message::parse(Bytes::from_static(b"{\"a\":\"\xff\"}")).unwrap_err(), Malformed::NotJson);
}

#[test]
fn bodies_are_one_or_many() {
    let one = r#"{"jsonrpc":"2.0","method":"m"}"#;
    let body = |json: &str, max| Body::parse(Bytes::copy_from_slice(json.as_bytes()), max);
    assert!(
        matches!(body(&format!("\u{feff}\r\n {one}\n"), 0), Ok(Body::One(message)) if message.raw() == one)
    );
    let batch = body(&format!("[{one} ,\n{one}]"), 2).unwrap();
    assert!(matches!(&batch, Body::Batch(messages) if messages.len() == 2));
    assert!(batch.messages().iter().all(|message| message.raw() == one));
    for (json, max) in [("[]", 9), ("[1]", 9), (&*format!("[{one},{one}]"), 1), (&*format!("[[{one}]]"), 9)] {
        assert_eq!(body(json, max).unwrap_err().code(), codes::INVALID_REQUEST, "{json}");
    }
    for json in [format!("[{one}"), format!("[{one},]"), format!("[{one}] x"), format!("[{one},{{}}")] {
        assert_eq!(body(&json, 1).unwrap_err(), Malformed::NotJson, "{json}");
    }
    let named = body(&format!(r#"[{one},{{"jsonrpc":"2.0","id":"x"}}]"#), 9).unwrap_err();
    assert_eq!(named.id(), Some(&Id::string("x")));
}

#[test]
fn one_line_changes_white_space_only() {
    let json = "{\"jsonrpc\": \"2.0\",\r\n\"method\":\n\"a\\nb\"}";
    let line = parse(json).unwrap().one_line();
    assert_eq!(line, "{\"jsonrpc\": \"2.0\",  \"method\": \"a\\nb\"}");
}

#[test]
fn a_hundred_thousand_brackets_need_no_stack() {
    const DEPTH: usize = 100_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
        let params = format!(r#"{{"_meta":{deep},"uri":{deep}}}"#);
        let message =
            parse(&format!(r#"{{"jsonrpc":"2.0","x":{deep},"method":"m","params":{params}}}"#)).unwrap();
        assert_eq!(message.params(), Some(&*params));
        assert!(parse(&deep).is_err());
        assert!(Body::parse(deep.clone().into(), 9).is_err());
        assert!(Body::parse(open.repeat(DEPTH).into(), 9).is_err());
        assert!(Id::parse(&deep).is_err());
        assert_eq!(crate::protocol::legacy::progress_token(&params), None);
        assert!(crate::protocol::era::classify(&message, None).is_ok());
    }
}

#[test]
fn what_passes_is_known_by_its_envelope() {
    let read = |json: &str| {
        let mut passing = Passing::default();
        passing.push(json.as_bytes()).and_then(|()| passing.finish())
    };
    for json in [
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#" { "result" : [{"a":"}]\\\""}, "]"], "jsonrpc" : "2.0" , "id" : "x\"y" , "_" : -1.5e3 } "#,
        r#"{"x":null,"result":"\\","a name longer than any of the envelope":true,"id":-1,"jsonrpc":"2.0"}"#,
    ] {
        assert_eq!(read(json), Ok(()), "{json}");
        assert!(parse(json).unwrap().result().is_some(), "{json}");
        let cut = &json[..json.trim_end().len() - 1];
        assert_eq!(read(cut), Err(Malformed::NotJson), "{cut}");
        assert!(read(&format!("{json}x")).is_err(), "{json}x");
    }
    for json in [
        "",
        "[",
        "1",
        r#"{"jsonrpc":"2.0","id":1,"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,"result":2}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":1,"result":1}"#,
        r#"{"jsonrpc":"2.0","result":1,"\u0069d":1}"#,
        r#"{"jsonrpc":"1.0","id":1,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","result":1}"#,
        r#"{"id":1,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,}"#,
        r#"{"jsonrpc":"2.0" "id":1,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":}"#,
        r#"{,"jsonrpc":"2.0","id":1,"result":1}"#,
    ] {
        assert!(read(json).is_err(), "{json}");
    }
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":1}}"#, "x".repeat(Id::BYTES_MAX));
    assert!(read(&long).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_id() -> impl Strategy<Value = Value> {
    prop_oneof![any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)]
}

/// A valid message as a tree, with unknown members in any place.
fn any_message() -> impl Strategy<Value = Value> {
    let params =
        prop_oneof![any_json().prop_filter("structured", |params| params.is_object()), Just(json!({}))];
    let call = (any::<String>(), proptest::option::of(any_id()), proptest::option::of(params)).prop_map(
        |(method, id, params)| json!({"jsonrpc": "2.0", "method": method, "id": id, "params": params}),
    );
    let response = (any_id(), any_json(), any::<bool>()).prop_map(|(id, value, is_error)| {
        let name = if is_error { "error" } else { "result" };
        json!({"jsonrpc": "2.0", "id": id, name: if is_error { json!({"data": value}) } else { value }})
    });
    let extra = vec((string_regex("[A-Z_]{1,5}").unwrap(), any_json()), 0..4);
    (prop_oneof![call, response], extra).prop_map(|(message, extra)| {
        let Value::Object(members) = message else { unreachable!("built as objects") };
        // `id` and `params` that were not drawn are left out, not null.
        let members = members.into_iter().filter(|(name, value)| name == "result" || !value.is_null());
        Value::Object(members.chain(extra).collect::<Map<_, _>>())
    })
}

fn written(value: &Value, pretty: bool) -> String {
    if pretty { serde_json::to_string_pretty(value).unwrap() } else { value.to_string() }
}

proptest! {
    #[test]
    fn agrees_with_a_tree(tree in any_message(), pretty: bool) {
        let json = written(&tree, pretty);
        // What was printed, read again: floats may lose a digit on the way.
        let tree: Value = serde_json::from_str(&json).unwrap();
        let message = parse(&json).unwrap();
        prop_assert_eq!(message.raw(), json.as_bytes());
        prop_assert_eq!(message.method(), tree.get("method").and_then(Value::as_str));
        prop_assert_eq!(value(message.id().map(Id::as_json)), tree.get("id").cloned());
        prop_assert_eq!(value(message.params()), tree.get("params").cloned());
        prop_assert_eq!(value(message.result()), tree.get("result").cloned());
        prop_assert_eq!(value(message.error()), tree.get("error").cloned());
        prop_assert_eq!(message.is_response(), tree.get("method").is_none());
    }

    /// However it is cut, a result passes with its id, and nothing else does.
    #[test]
    fn what_passes_is_what_would_be_read(tree in any_message(), pretty: bool, cuts in vec(any::<prop::sample::Index>(), 0..9)) {
        let json = written(&tree, pretty);
        let message = parse(&json).unwrap();
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(json.len() + 1)).chain([0, json.len()]).collect();
        at.sort_unstable();
        let mut passing = Passing::default();
        let read = at.windows(2).try_for_each(|cut| passing.push(&json.as_bytes()[cut[0]..cut[1]]));
        let read = read.and_then(|()| passing.finish());
        prop_assert_eq!(read.is_ok(), message.result().is_some(), "{:?}: {}", read, json);
        if message.result().is_some() {
            prop_assert_eq!(passing.id(), message.id());
        }
    }

    /// Whatever lies in it, what is a result to a reader of the whole passes, and nothing panics.
    #[test]
    fn what_is_a_result_passes(json in r#"\{"jsonrpc":"2.0","id":1,"result":[\[\]{}:,"\\\\u0-9a-e.+\- \n]{0,16}\}"#) {
        let mut passing = Passing::default();
        let passes = passing.push(json.as_bytes()).and_then(|()| passing.finish()).is_ok();
        if parse(&json).is_ok_and(|message| message.result().is_some()) {
            prop_assert!(passes, "{}", json);
        }
    }

    #[test]
    fn batches_keep_every_message(trees in vec(any_message(), 1..5), pretty: bool) {
        let raws: Vec<String> = trees.iter().map(|tree| written(tree, pretty)).collect();
        let joined = batch(&raws.iter().map(|raw| Bytes::from(raw.clone())).collect::<Vec<_>>());
        let body = Body::parse(joined, raws.len()).unwrap();
        prop_assert!(matches!(body, Body::Batch(_)));
        let kept: Vec<_> = body.messages().iter().map(|message| message.raw().clone()).collect();
        prop_assert_eq!(kept, raws);
    }

    /// Whatever is refused as no JSON is refused by `serde_json` too, and nothing panics.
    #[test]
    fn agrees_about_what_is_json(json in r#"[\[\]{}:,"\\\\u0-9a-e.+\- \n]{0,24}"#) {
        let outcome = parse(&json);
        let tree = serde_json::from_str::<Value>(&json);
        if outcome == Err(Malformed::NotJson) {
            prop_assert!(tree.is_err());
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..64)) {
        let _outcome = Body::parse(bytes.into(), 4);
    }

    #[test]
    fn ids_are_equal_by_value(text: String, number: u64) {
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        prop_assume!(escaped.len() + 2 <= Id::BYTES_MAX);
        prop_assert_eq!(Id::parse(&format!("\"{escaped}\"")), Ok(Id::string(&text)));
        prop_assert_eq!(Id::parse(Id::string(&text).as_json()), Ok(Id::string(&text)));
        prop_assert_eq!(Id::parse(&number.to_string()), Ok(Id::number(number)));
    }

    #[test]
    fn what_is_built_can_be_read(id in any_id(), method: String, params in any_json(), message: String) {
        let id = Id::parse(&id.to_string()).unwrap();
        let params = json!({ "p": params }).to_string();
        let built = Message::parse(request(&id, &method, Some(&params))).unwrap();
        prop_assert_eq!((built.id(), built.method(), built.params()), (Some(&id), Some(&*method), Some(&*params)));
        let built = Message::parse(notification(&method, Some(&params))).unwrap();
        prop_assert_eq!((built.method(), built.params()), (Some(&*method), Some(&*params)));
        let built = Message::parse(result(&id, &params)).unwrap();
        prop_assert_eq!((built.id(), built.result()), (Some(&id), Some(&*params)));
        let built = Message::parse(error(None, -32000, &message, None)).unwrap();
        let expected = json!({"code": -32000, "message": message});
        prop_assert_eq!(value(built.error()), Some(expected));
    }
}
