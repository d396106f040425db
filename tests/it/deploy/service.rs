//! deploy/systemd, as far as systemd checks it without being there; and that what is delivered fits the defaults of the
//! configuration: ends that are waited for, silences that are borne, bodies that pass.

use std::process::Command;
use std::time::Duration;

use super::{content, defaults, text};
use crate::peers::process::holdfast;
use crate::servers::{Folder, Kind};

/// What follows the first `key` of a file, up to the end of the value.
fn value_of<'a>(text: &'a str, key: &str) -> &'a str {
    let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("no {key}"));
    rest.trim_start().split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap()
}

fn duration(text: &str) -> Duration {
    let number = text.trim_end_matches(char::is_alphabetic);
    let minutes = text.ends_with('m');
    Duration::from_secs(number.parse::<u64>().unwrap() * if minutes { 60 } else { 1 })
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let folder = Folder::new();
    let unit = text("systemd/holdfast.service");
    let here = unit.replace("/usr/local/bin/holdfast", env!("CARGO_BIN_EXE_holdfast"));
    let path = folder.write("holdfast.service", &here);
    std::fs::create_dir(folder.path().join("holdfast.service.d")).unwrap();
    folder.write("holdfast.service.d/credentials.conf", &text("systemd/credentials.conf"));
    assert_eq!(content(Command::new("systemd-analyze").arg("verify").arg(&path)), "");
    // 1.5 of 10; what is left is the network, which it is for.
    content(Command::new("systemd-analyze").args(["security", "--offline=yes", "--threshold=15"]).arg(&path));
    let stop = duration(value_of(&unit, "TimeoutStopSec="));
    assert!(stop >= defaults().drain.timeout + Duration::from_secs(5), "it ends in order: {stop:?}");
    let files: usize = value_of(&unit, "LimitNOFILE=").parse().unwrap();
    assert!(files > defaults().http.connections_max * 2);
}

#[test]
fn a_reload_ends_no_node() {
    let mut node = holdfast(&["--upstream", "http://127.0.0.1:9/mcp"]);
    node.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.terminate(Duration::from_secs(10)), Some(0));
}

#[test]
fn proxies_fit_the_defaults() {
    let config = defaults();
    for kind in Kind::ALL {
        let (silence, _) = kind.silence();
        assert!(duration(silence) > config.requests.timeout_max, "{kind:?}: answers in JSON");
        assert!(duration(silence) > config.streams.keep_alive_interval * 2, "{kind:?}: streams");
    }
    let nginx = Kind::Nginx.file();
    assert_eq!(value_of(&nginx, "client_max_body_size"), format!("{}m", config.http.body_bytes_max >> 20));
    // Nobody sends a request on a connection that the node is about to close.
    assert!(duration(value_of(&nginx, "keepalive_timeout")) < config.http.idle_timeout);
    let envoy = Kind::Envoy.file();
    assert!(
        duration(value_of(&envoy, "common_http_protocol_options: { idle_timeout:"))
            < config.http.idle_timeout
    );
    // They notice a node that leaves before it does.
    for (file, key) in [(Kind::HaProxy.file(), "inter "), (envoy, "interval:")] {
        assert!(duration(value_of(&file, key)) * 3 < config.drain.notice);
    }
}
