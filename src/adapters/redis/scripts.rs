//! The scripts, each with the parts it begins with.

use fred::util::sha1_hash;

/// A script and its name to Redis.
#[derive(Debug)]
pub(super) struct Script {
    pub text: String,
    pub hash: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let text = parts.concat();
        let hash = sha1_hash(&text);
        Self { text, hash }
    }
}

macro_rules! scripts {
    ($($name:ident: $($part:literal)+;)+) => {
        /// All of them.
        #[derive(Debug)]
        pub(super) struct Scripts { $(pub $name: Script,)+ }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: Script::new(&[$(include_str!(concat!("scripts/", $part, ".lua"))),+]),)+ }
            }
        }
    };
}

scripts! {
    open: "session" "open";
    load: "session" "load";
    update: "session" "update";
    begin: "session" "stream" "begin";
    append: "session" "stream" "append";
    attach: "session" "stream" "attach";
    steal: "session" "stream" "steal";
    mark: "session" "stream" "mark";
    release: "session" "release";
    touch: "session" "touch";
    close: "session" "close";
    reap: "session" "reap";
    inspect: "session" "stream" "inspect";
    index: "index";
    nodes: "nodes";
    hint: "hints";
    rates: "rates";
}
