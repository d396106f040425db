//! `holdfast sessions`, `publish` and `nodes`: clients of a node's admin API, with tables for people and
//! JSON for scripts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use url::Url;

use super::{fail, run, say};
use crate::certificates::{self, PemFile};
use crate::config::Secret;
use crate::upstream::{HttpClient, HttpConfig};

/// A node's admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Such as `http://127.0.0.1:4445`.
    pub url: String,
    /// Certificates in PEM, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where it asks for one.
    pub token: Option<Secret>,
}

const PATIENCE: Duration = Duration::from_secs(10);

/// What an operator asks for.
#[derive(Debug, Clone)]
pub enum Operation {
    List { filter: Vec<(&'static str, String)> },
    Show { id: String },
    End { id: String },
    CloseStreams { id: String },
    Publish { audience: Value, method: String, params: Option<Value> },
    Nodes,
}

/// Why it did not work out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}: not a URL")]
    Url(String),
    #[error(transparent)]
    Roots(certificates::Fault),
    #[error("the token has characters that no token has")]
    Token,
    #[error("no node answers at {0}: {1}")]
    Unreachable(String, String),
    #[error("{0}")]
    Refused(String),
}

/// Asks the node at `admin`; 0 if it did what was asked.
#[must_use]
pub fn operate(admin: Admin, operation: Operation, json: bool) -> ExitCode {
    run(async move {
        match ask(&admin, &operation).await {
            Ok(answer) if json => say(&format!("{answer:#}")),
            Ok(answer) => say(shown(&operation, &answer).trim_end_matches('\n')),
            Err(error) => fail("that did not work", &error),
        }
    })
}

async fn ask(Admin { url: admin, ca_file, token }: &Admin, operation: &Operation) -> Result<Value, Failure> {
    let mut url = Url::parse(admin).map_err(|_| Failure::Url(admin.clone()))?;
    let (method, path, body) = match operation {
        Operation::List { filter } => {
            url.query_pairs_mut().extend_pairs(filter);
            (Method::GET, "/api/sessions".to_owned(), None)
        }
        Operation::Show { id } => (Method::GET, format!("/api/sessions/{id}"), None),
        Operation::End { id } => (Method::DELETE, format!("/api/sessions/{id}"), None),
        Operation::CloseStreams { id } => {
            (Method::POST, format!("/api/sessions/{id}/close-streams"), Some(json!({})))
        }
        Operation::Publish { audience, method, params } => {
            let mut message = json!({ "jsonrpc": "2.0", "method": method });
            if let Some(params) = params {
                message["params"] = params.clone();
            }
            let mut body = audience.clone();
            body["message"] = message;
            (Method::POST, "/api/publish".to_owned(), Some(body))
        }
        Operation::Nodes => (Method::GET, "/api/nodes".to_owned(), None),
    };
    url.set_path(&path);
    let unreachable = |why: String| Failure::Unreachable(admin.clone(), why);
    let mut request =
        Request::builder().method(method).uri(url.as_str()).header("content-type", "application/json");
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
        request = request.header("authorization", value.map_err(|_| Failure::Token)?);
    }
    let request = request.body(Full::new(Bytes::from(body.map(|body| body.to_string()).unwrap_or_default())));
    let request = request.map_err(|_| Failure::Url(admin.clone()))?;
    let config =
        HttpConfig { connect_timeout: PATIENCE, idle_connections_max: 1, idle_connection_timeout: PATIENCE };
    let client = match ca_file {
        Some(path) => {
            let file = PemFile { key: "--ca-file".to_owned(), path: path.clone() };
            let roots = certificates::roots(&file).map_err(Failure::Roots)?;
            HttpClient::secured(&config, Some(roots), None)
        }
        None => HttpClient::new(&config),
    };
    let client = client.map_err(|error| unreachable(error.to_string()))?;
    let answered = tokio::time::timeout(PATIENCE, async {
        let response = client.send(request).await.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| unreachable(error.to_string()))?;
        Ok((status, body.to_bytes()))
    });
    let (status, body) = answered.await.map_err(|_| unreachable("it takes too long".into()))??;
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    Err(Failure::Refused(match (status, value["error"].as_str()) {
        (StatusCode::UNAUTHORIZED, why) => {
            format!("{} (HOLDFAST_ADMIN_TOKEN, or --token-file)", why.unwrap_or("it asks for a token"))
        }
        (_, Some(why)) => why.to_owned(),
        (StatusCode::NOT_FOUND, None) => {
            format!("no admin API at {admin}: set admin.tokens (a listener beyond loopback has none without)")
        }
        (_, None) => format!("it answers {status}"),
    }))
}

fn shown(operation: &Operation, answer: &Value) -> String {
    match operation {
        Operation::List { .. } => {
            let rows = rows(&answer["sessions"], &["id", "server", "owner", "transport", "protocol_version"]);
            let more = if answer["more"] == true { "… and more: --after the last id\n" } else { "" };
            table(&["SESSION", "SERVER", "OWNER", "TRANSPORT", "VERSION"], &rows) + more
        }
        Operation::Nodes => {
            let nodes = answer["nodes"].as_array().cloned().unwrap_or_default();
            let rows: Vec<Vec<String>> = nodes
                .iter()
                .map(|node| {
                    let own = if node["self"] == true { " (asked)" } else { "" };
                    let fact = |name: &str| text(&node["facts"][name]);
                    vec![
                        text(&node["node"]) + own,
                        fact("version"),
                        fact("phase"),
                        fact("streams"),
                        fact("requests"),
                    ]
                })
                .collect();
            table(&["NODE", "VERSION", "PHASE", "STREAMS", "REQUESTS"], &rows)
        }
        Operation::Show { .. } => {
            let streams = answer["streams"].as_array().cloned().unwrap_or_default();
            let rows: Vec<Vec<String>> = streams
                .iter()
                .map(|stream| {
                    let holder = text(&stream["holder"]["node"]);
                    vec![text(&stream["stream"]), holder, text(&stream["events"]), text(&stream["top"])]
                })
                .collect();
            let running = rows_of_running(answer);
            let named = [
                "id",
                "fingerprint",
                "server",
                "owner",
                "transport",
                "protocol_version",
                "capabilities",
                "subscriptions",
            ];
            let facts: String =
                named.iter().map(|name| format!("{name:<18}{}\n", text(&answer[*name]))).collect();
            facts
                + "\n"
                + &table(&["STREAM", "HELD BY", "EVENTS", "TOP"], &rows)
                + "\n"
                + &table(&["RUNNING", "AT", "RESUMABLE"], &running)
        }
        Operation::Publish { .. } if answer["hinted"] == true => "every open stream hears it\n".to_owned(),
        Operation::Publish { .. } => format!("logged for {} session(s)\n", text(&answer["sessions"])),
        Operation::End { .. } => "ended\n".to_owned(),
        Operation::CloseStreams { .. } => "closed\n".to_owned(),
    }
}

fn rows_of_running(answer: &Value) -> Vec<Vec<String>> {
    rows(&answer["running"], &["request", "runner", "resumable"])
}

fn rows(list: &Value, fields: &[&str]) -> Vec<Vec<String>> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|entry| fields.iter().map(|field| text(&entry[*field])).collect()).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // A client may have chosen it, and a terminal may obey it.
        Value::String(text) => text.replace(char::is_control, "\u{fffd}"),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(heads[column].len())
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let head = line(heads.to_vec());
    rows.iter().fold(head, |table, row| table + &line(row.iter().map(String::as_str).collect()))
}
