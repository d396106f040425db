//! Every file of deploy/examples is a configuration without a fault, with the variables and files that it names.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::{content, delivered};
use crate::harness::Certificates;
use crate::servers::Folder;

/// The words of a text that begin like this, as far as they are names of files or variables.
fn words(text: &str, start: &str) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    text.match_indices(start)
        .map(|(at, _)| text[at..].split(|c| !part(c)).next().unwrap().to_owned())
        .collect()
}

/// Something of the kind that a variable with such a name wants.
fn value(variable: &str) -> String {
    match variable.rsplit('_').next().unwrap() {
        // Each another's.
        "SHA256" => format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
        "SECRET" => "what only the two of them know".to_owned(),
        "HEADER" => "Authorization: Bearer what-only-the-two-of-them-know".to_owned(),
        "STATE" => "rediss://user:password@redis.internal:6379".to_owned(),
        "NAME" => "node-1".to_owned(),
        _ => panic!("{variable}: say here what it is set to"),
    }
}

/// The same of a file.
fn write(certificates: &Certificates, file: &std::path::Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = match file.file_name().unwrap().to_str().unwrap() {
        name if name.ends_with(".crt") => fs::read_to_string(certificates.file("certificate.pem")).unwrap(),
        name if name.ends_with(".key") => fs::read_to_string(certificates.file("key.pem")).unwrap(),
        "cluster-key" => "5f".repeat(32),
        "machines.jwks.json" => r#"{ "keys": [] }"#.to_owned(),
        "nats.creds" | "audit.log" => String::new(),
        name => panic!("{name}: say here what is in it"),
    };
    fs::write(file, text).unwrap();
}

#[test]
fn every_example_is_without_a_fault() {
    let certificates = Certificates::new();
    let mut seen = 0;
    for entry in fs::read_dir(delivered("examples")).unwrap() {
        let path = entry.unwrap().path();
        let example = fs::read_to_string(&path).unwrap();
        let folder = Folder::new();
        let own = |file: &str| folder.path().join(file.trim_start_matches('/'));
        let mut placed = example.clone();
        for file in ["/etc/holdfast/", "/var/log/holdfast/"].iter().flat_map(|start| words(&example, start)) {
            write(&certificates, &own(&file));
            placed = placed.replace(&file, own(&file).to_str().unwrap());
        }
        let variables = words(&example, "HOLDFAST_");
        let check = |without: Option<&String>| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
            command.args(["check-config", "--config"]).arg(folder.write("holdfast.yaml", &placed));
            let given = variables.iter().filter(|name| Some(*name) != without);
            command.envs(given.map(|name| (name, value(name))));
            command
        };
        content(&mut check(None));
        // What it says that it needs, it needs.
        for variable in
            variables.iter().filter(|name| name.ends_with("CLIENT_SECRET") || name.ends_with("STATE"))
        {
            assert!(!check(Some(variable)).output().unwrap().status.success(), "{path:?} without {variable}");
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}
