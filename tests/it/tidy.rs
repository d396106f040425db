//! Holds the import map of docs/architecture.md: which room may know which, where a library may be
//! named, and how long a file may get.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms of ours that it may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("protocol", &[]),
    ("lifecycle", &[]),
    ("auth", &["domain", "lifecycle", "telemetry", "upstream"]),
    ("certificates", &["lifecycle", "telemetry"]),
    ("limits", &["domain"]),
    ("ports", &["domain"]),
    ("adapters", &["domain", "ports", "lifecycle"]),
    ("telemetry", &["domain", "ports"]),
    ("upstream", &["certificates", "domain", "protocol", "lifecycle"]),
    ("hub", &["ports", "upstream", "protocol", "domain", "telemetry", "lifecycle", "limits"]),
    (
        "edge",
        &[
            "auth",
            "certificates",
            "hub",
            "limits",
            "protocol",
            "domain",
            "lifecycle",
            "telemetry",
            "upstream",
        ],
    ),
    ("config", &[]),
    ("cli", &["app", "config"]),
    ("demo", &["protocol", "lifecycle", "upstream"]),
    (
        "app",
        &[
            "adapters",
            "auth",
            "certificates",
            "config",
            "demo",
            "domain",
            "edge",
            "hub",
            "lifecycle",
            "limits",
            "ports",
            "telemetry",
            "upstream",
        ],
    ),
];

/// Each library that has a home, and its home.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["edge", "demo"]),
    ("tower_http", &["edge"]),
    ("hyper_util", &["edge", "telemetry", "upstream"]),
    ("hyper_rustls", &["telemetry", "upstream"]),
    ("tokio_rustls", &["edge"]),
    ("proxy_header", &["edge"]),
    ("ipnet", &["config", "edge"]),
    ("sha2", &["auth", "adapters", "domain", "upstream"]),
    ("humantime", &["ports"]),
    ("hmac", &["adapters"]),
    ("subtle", &["auth"]),
    ("jsonwebtoken", &["auth"]),
    ("moka", &["auth"]),
    ("prometheus", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("tracing_subscriber", &["telemetry", "config"]),
    ("clap", &["cli"]),
    ("granit_parser", &["config"]),
    ("rlimit", &["app"]),
    ("fred", &["adapters"]),
    ("async_nats", &["adapters"]),
];

/// Past this, a second subject hides in a file.
const LINES_MAX: usize = 400;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let rooms: BTreeSet<_> = ROOMS.iter().map(|(room, _)| *room).collect();
    let mut files = Vec::new();
    for path in found {
        let inside = path.strip_prefix(&root).unwrap().display().to_string();
        let room = inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if rooms.contains(&*room) {
            let text = fs::read_to_string(&path).unwrap();
            files.push((room, path, text));
        } else {
            assert!(inside == "lib.rs" || inside == "main.rs", "{inside} is in no room of the import map");
        }
    }
    files
}

/// Code only: what stands before the tests, without comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn names_room(code: &str, room: &str) -> bool {
    let mut grouped = code.split("use crate::{").skip(1).filter_map(|rest| rest.split(';').next());
    let in_group =
        grouped.any(|group| group.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == room));
    let path = format!("crate::{room}");
    let direct = code.match_indices(&path).any(|(at, _)| {
        code[at + path.len()..].chars().next().is_none_or(|next| !next.is_alphanumeric() && next != '_')
    });
    in_group || direct
}

#[test]
fn rooms_import_only_what_the_map_allows() {
    let mut wrong = Vec::new();
    for (room, path, text) in all_sources() {
        let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == room).unwrap();
        let code = code(&text);
        for (other, _) in ROOMS {
            if *other != room && !allowed.contains(other) && names_room(&code, other) {
                wrong.push(format!("{}: {room} may not know {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_are_named_in_their_homes_only() {
    let mut wrong = Vec::new();
    for (room, path, text) in all_sources() {
        let code = code(&text);
        for (library, homes) in HOMES {
            if !homes.contains(&&*room) && code.contains(&format!("{library}::")) {
                wrong.push(format!("{}: {library} is named outside {homes:?}", path.display()));
            }
        }
        if room != "config" && code.contains("std::env::") {
            wrong.push(format!("{}: the environment is read in config only", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_are_for_and_stay_short() {
    let mut wrong = Vec::new();
    for (_, path, text) in all_sources() {
        let header = text.lines().take_while(|line| line.starts_with("//!")).count();
        let lines = text.lines().count();
        if !(1..=12).contains(&header) {
            wrong.push(format!("{}: begins with {header} lines of //!", path.display()));
        }
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Documents that name the tests which show what they say.
const EVIDENT: [&str; 5] = [
    "docs/security.md",
    "docs/failure-modes.md",
    "docs/operating.md",
    "docs/testing.md",
    ".github/SECURITY.md",
];

#[test]
fn tests_that_documents_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for document in EVIDENT {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let mut parts = name.trim_end_matches('…').split("::");
            let room = parts.next().unwrap_or_default();
            let Some(file) = parts
                .next()
                .filter(|_| ["features", "cluster", "contract", "deploy", "peers"].contains(&room))
            else {
                continue;
            };
            let folder = root.join("tests/it").join(room);
            let found = [folder.join(format!("{file}.rs")), folder.join("mod.rs")].into_iter().any(|path| {
                let text = fs::read_to_string(&path).unwrap_or_default();
                match parts.clone().last() {
                    Some(test) => text.contains(&format!("fn {test}")),
                    None => {
                        path.ends_with(format!("{file}.rs")) && !text.is_empty()
                            || text.contains(&format!("fn {file}"))
                    }
                }
            });
            if !found {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
