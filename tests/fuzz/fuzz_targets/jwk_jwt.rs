//! A token on the first line, then a JWK set or PEM blocks.
#![no_main]

use holdfast_fuzz::tokens;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (token, document) = input.split_once('\n').unwrap_or((input, ""));
    tokens::keys_and_token(document, token);
});
