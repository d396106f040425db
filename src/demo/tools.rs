//! What the demo's server can do: `echo`, a `slow` tool with progress, and one that asks back.

use std::time::Duration;

use serde_json::{Value, json};

/// A call of a tool that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tool {
    Echo { text: String },
    Slow { steps: u64, interval: Duration },
    Elicit,
    Cancelled,
}

impl Tool {
    pub(super) fn parse(params: &Value) -> Option<Self> {
        let arguments = &params["arguments"];
        let number =
            |name: &str, default: u64, most: u64| arguments[name].as_u64().unwrap_or(default).min(most);
        match params["name"].as_str()? {
            "echo" => Some(Self::Echo { text: arguments["text"].as_str().unwrap_or_default().to_owned() }),
            "slow" => Some(Self::Slow {
                steps: number("steps", 8, 1000),
                interval: Duration::from_millis(number("interval_ms", 250, 10_000)),
            }),
            "elicit" => Some(Self::Elicit),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

pub(super) fn list() -> Value {
    let tool = |name: &str, description: &str, properties: Value| {
        json!({
            "name": name,
            "description": description,
            "inputSchema": { "type": "object", "properties": properties },
        })
    };
    json!([
        tool("echo", "Says what it is told.", json!({ "text": { "type": "string" } })),
        tool(
            "slow",
            "Takes its time, and tells how far it is.",
            json!({ "steps": { "type": "integer" }, "interval_ms": { "type": "integer" } })
        ),
        tool("elicit", "Asks the person behind the client for a name.", json!({})),
        tool("cancelled", "How many calls were cancelled so far.", json!({})),
    ])
}

pub(super) fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

/// A result that says that the call failed.
pub(super) fn failed(reason: &str) -> Value {
    let mut result = text(reason);
    result["isError"] = json!(true);
    result
}

/// The question of `elicit`.
pub(super) fn question() -> Value {
    json!({
        "mode": "form",
        "message": "What is your name?",
        "requestedSchema": {
            "type": "object",
            "properties": { "name": { "type": "string" } },
            "required": ["name"],
        },
    })
}

/// What `elicit` makes of the answer.
pub(super) fn greeting(answer: &Value) -> Value {
    match (answer["action"].as_str(), answer["content"]["name"].as_str()) {
        (Some("accept"), Some(name)) => text(&format!("Hello, {name}!")),
        _ => text("Hello, whoever you are."),
    }
}
