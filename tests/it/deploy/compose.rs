//! deploy/compose.yaml, as Docker Compose understands it without an engine: what it mounts is there, its nodes' variables
//! are keys of the configuration, names fit together, and only this machine reaches it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{content, defaults, delivered, text};
use crate::peers::process::tool;

#[cfg_attr(not(target_arch = "x86_64"), ignore = "Docker Compose comes as a package for x86_64 only")]
#[test]
fn the_try_out_cluster_fits_together() {
    let mut compose = Command::new(tool("docker/compose/docker-compose"));
    compose.arg("-f").arg(delivered("compose.yaml")).args(["config", "--format", "json"]);
    let read: Value = serde_json::from_str(&content(&mut compose)).unwrap();
    let services = read["services"].as_object().unwrap();
    let names: BTreeSet<&str> = services.keys().map(String::as_str).collect();
    for (name, service) in services {
        for volume in list(&service["volumes"]) {
            let source = Path::new(volume["source"].as_str().unwrap());
            assert!(source.exists() && volume["read_only"] == true, "{name}: {volume}");
        }
        for port in list(&service["ports"]) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}: {port}");
        }
        let image = service["image"].as_str().unwrap();
        assert!(image.contains(':') && !image.ends_with(":latest"), "{name}: {image}");
    }
    let nodes: Vec<_> = names.iter().filter(|name| name.starts_with("node-")).copied().collect();
    assert_eq!(nodes, ["node-1", "node-2", "node-3"]);
    for node in nodes {
        check_node(node, &services[node], &names);
        for file in ["proxies/haproxy.cfg", "prometheus/prometheus.yml"] {
            let text = text(file);
            assert!(text.contains(&format!("{node}:444")), "{file} knows {node}");
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn check_node(name: &str, node: &Value, names: &BTreeSet<&str>) {
    let build = &node["build"];
    let dockerfile =
        Path::new(build["context"].as_str().unwrap()).join(build["dockerfile"].as_str().unwrap());
    assert!(dockerfile.is_file(), "{dockerfile:?}");
    let grace = node["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(Duration::from_secs(grace) >= defaults().drain.timeout + Duration::from_secs(5));
    let variables = node["environment"].as_object().unwrap();
    assert_eq!(variables["HOLDFAST_CLUSTER_NODE_NAME"], name);
    let mut check = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    check.arg("check-config");
    for (variable, value) in variables {
        let value = value.as_str().unwrap();
        // Whom it names is there.
        if let Some((_, rest)) = value.split_once("://") {
            let host = rest.split([':', '/']).next().unwrap();
            assert!(names.contains(host), "{variable}: {value}");
        }
        if variable == "OTEL_EXPORTER_OTLP_ENDPOINT" {
            assert!(
                value.ends_with(":4318"),
                "{value}: OTLP over HTTP, where nothing is said of the protocol"
            );
        }
        assert!(variable.starts_with("HOLDFAST_") || variable.starts_with("OTEL_"), "{variable}");
        check.env(variable, value);
    }
    content(&mut check);
}

#[test]
fn nats_takes_its_file() {
    content(Command::new("nats-server").arg("-t").arg("-c").arg(delivered("compose/nats.conf")));
}
