//! A body: never a panic; what is read agrees with `serde_json`; what is refused as no JSON is none.
#![no_main]

use bytes::Bytes;
use holdfast_fuzz::protocol::{
    jsonrpc::{Body, Id, Malformed, Message, Passing, batch},
    legacy,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let tree = serde_json::from_slice::<Value>(text);
    match Body::parse(Bytes::copy_from_slice(input), 8) {
        Ok(body) => {
            body.messages().iter().for_each(agrees);
            let raws: Vec<Bytes> = body.messages().iter().map(|message| message.raw().clone()).collect();
            let again = Body::parse(batch(&raws), raws.len()).expect("valid messages make a valid batch");
            assert!(again.messages().iter().map(Message::raw).eq(&raws));
        }
        Err(Malformed::NotJson) => assert!(tree.is_err()),
        Err(Malformed::NotJsonRpc { .. }) => {}
    }
    passes(input);
});

/// However it is cut, the same passes; and a result does, unless its envelope is written with escapes.
fn passes(input: &[u8]) {
    let whole = passed([input]);
    let cut = passed(input.chunks(1));
    assert_eq!(whole.as_ref().ok(), cut.as_ref().ok());
    if let Ok(message) = Message::parse(Bytes::copy_from_slice(input))
        && message.result().is_some()
        && input.starts_with(b"{")
        && !input.contains(&b'\\')
    {
        assert_eq!(whole.expect("a result").as_ref(), message.id());
    }
}

fn passed<'i>(pieces: impl IntoIterator<Item = &'i [u8]>) -> Result<Option<Id>, Malformed> {
    let mut passing = Passing::default();
    pieces.into_iter().try_for_each(|piece| passing.push(piece))?;
    passing.finish()?;
    Ok(passing.id().cloned())
}

fn agrees(message: &Message) {
    peeks(message.params().or(message.result()).unwrap_or_default());
    assert_eq!(Message::parse(message.one_line()).expect("the same message").kind(), message.kind());
    // A tree can't hold every valid text: numbers out of range, escapes that are no Unicode, deep nesting.
    let Ok(tree) = serde_json::from_slice::<Value>(message.raw()) else { return };
    let part = |json: Option<&str>| {
        json.map(|json| serde_json::from_str::<Value>(json).expect("part of a valid text"))
    };
    assert_eq!(message.method(), tree.get("method").and_then(Value::as_str));
    assert_eq!(part(message.params()), tree.get("params").filter(|params| !params.is_null()).cloned());
    assert_eq!(part(message.result()), tree.get("result").cloned());
    assert_eq!(part(message.error()), tree.get("error").cloned());
    assert_eq!(part(message.id().map(Id::as_json)), tree.get("id").filter(|id| !id.is_null()).cloned());
}

fn peeks(json: &str) {
    let _ =
        (legacy::initialize_params(json), legacy::initialize_result(json), legacy::cancelled_request(json));
    let _ = (legacy::progress_token(json), legacy::progressed(json), legacy::resource_uri(json));
    let _ = (legacy::log_level(json), legacy::capability_names(json));
    if legacy::initialize_params(json).is_some() {
        let rewritten = legacy::with_protocol_version(json, "v");
        let read = legacy::initialize_params(&rewritten).expect("only the version changed");
        assert_eq!(read.protocol_version, "v");
    }
}
