//! What deploy/ delivers, as far as it can be run or checked on one machine; docs/testing.md says what can't.

mod compose;
mod examples;
mod proxies;
mod service;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use holdfast::config::{self, Config, Overrides};

/// A file of the repository.
fn delivered(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(delivered(path)).unwrap()
}

/// What holds where nobody says anything else.
fn defaults() -> Config {
    config::load(None, std::iter::empty(), Overrides::default()).unwrap()
}

/// Everything that a program had to say, if it is content.
fn content(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; `make install` installs it"));
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {said}");
    said
}
