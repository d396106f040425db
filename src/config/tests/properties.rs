//! What holds for every key, and for every file whatever is in it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::catalogue::{KeyEntry, NAME};
use super::super::*;
use super::{load_all, loaded};
use crate::config::variables::variable_name;

/// A server that lacks nothing but the key in question.
const SERVER: &[u8] = b"servers: {name: {upstream: 'http://name/mcp'}}";

/// The same for whoever may call.
const CALLERS: &[u8] =
    b"{public_url: 'https://name', auth: {mode: tokens, issuers: {name: {issuer: 'https://name'}}, \
    tokens: {name: {sha256: '0000000000000000000000000000000000000000000000000000000000000000'}}}}";

/// The same with what a token needs.
const SHOWN: &[u8] =
    b"servers: {name: {upstream: 'http://name/mcp', credentials: {token_url: 'https://name', \
    client_id: name, client_secret: name}}}";

fn beside(key: &KeyEntry) -> &'static [u8] {
    match &*key.section {
        "auth.issuers.<name>" | "auth.tokens.<name>" => CALLERS,
        "servers.<name>.credentials" if !key.path().ends_with(".header") => SHOWN,
        _ => SERVER,
    }
}

fn variable_of(key: &KeyEntry) -> String {
    variable_name(&key.path().replace(NAME, "name"))
}

#[test]
fn every_key_has_a_variable_of_its_own_and_a_meaning() {
    let catalogue = catalogue();
    let names: BTreeSet<_> = catalogue.keys.iter().map(variable_of).collect();
    assert_eq!(names.len(), catalogue.keys.len());
    for key in &catalogue.keys {
        assert!(key.shape.doc.ends_with('.') && !key.shape.range.is_empty(), "{}", key.path());
    }
    for section in &catalogue.sections {
        assert!(section.doc.ends_with('.'), "{}", section.path);
    }
}

#[test]
fn nonsense_is_refused_for_every_key() {
    // A password may be any.
    for key in catalogue().keys.into_iter().filter(|key| key.name != "client_secret") {
        let variable = variable_of(&key);
        let faults = load_all(beside(&key), &[(&variable, "=nonsense=")], &[]).expect_err(&variable);
        let origins: Vec<_> = faults.iter().map(|fault| fault.origin.to_string()).collect();
        assert_eq!(origins, [variable]);
    }
}

#[test]
fn every_default_may_be_written_down() {
    for key in catalogue().keys {
        let text = &key.shape.default;
        let written = text != "none" && !text.starts_with('`') && !text.contains(' ');
        if written {
            let default = load_all(beside(&key), &[], &[]).unwrap();
            let config = load_all(beside(&key), &[(&variable_of(&key), text)], &[])
                .unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(config, default, "{}", key.path());
        }
    }
}

#[test]
fn the_example_is_good() {
    let config = loaded(reference::EXAMPLE);
    assert_eq!(config.servers.len(), 2);
    assert!(reference().contains(reference::EXAMPLE));
}

#[test]
fn the_reference_is_up_to_date() {
    let renew = "renew it: cargo test --lib config -- --ignored renew_the_reference";
    assert!(
        include_str!("../../../docs/configuration.md") == reference(),
        "docs/configuration.md is old; {renew}"
    );
}

#[test]
#[ignore = "writes docs/configuration.md"]
fn renew_the_reference() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    std::fs::write(file, reference()).unwrap();
}

/// Pieces of YAML in any order: deeper into the parser and the reader than bytes alone.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "listen",
        "servers",
        "limits",
        "upstream",
        "sessions_max",
        ": ",
        ":",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "!b ",
        "|\n",
        ">-\n",
        "'",
        "\"",
        "#",
        "---\n",
        "...",
        "? ",
        "<<",
        "~",
        "5",
        "1h",
        "http://a",
        "\t",
        "\r\n",
        "%YAML 1.2\n",
        "\\",
        "\u{feff}",
        "é",
        "\u{85}",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn load_and_print(file: &[u8], variables: &[(&str, &str)]) {
    match load_all(file, variables, &[]) {
        Ok(config) => assert!(!format!("{config:?}").is_empty()),
        Err(faults) => assert_eq!(faults.to_string().lines().count(), faults.iter().count() + 1),
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(file in prop::collection::vec(any::<u8>(), 0..300)) {
        load_and_print(&file, &[]);
    }

    #[test]
    fn any_pieces_of_yaml_are_answered(file in pieces()) {
        load_and_print(file.as_bytes(), &[]);
    }

    #[test]
    fn any_value_of_any_key_is_answered(index in any::<prop::sample::Index>(), value in ".{0,40}") {
        let keys = catalogue().keys;
        load_and_print(SERVER, &[(&variable_of(index.get(&keys)), &value)]);
    }

    #[test]
    fn any_variable_is_answered(name in "HOLDFAST_(SERVERS_)?[A-Z_é<>.]{0,20}(_PORT|_UPSTREAM|_TIMEOUT_MAX)?", value in ".{0,10}") {
        load_and_print(b"", &[(&name, &value)]);
    }
}
