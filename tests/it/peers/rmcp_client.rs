//! The official Rust SDK's client, through the gateway, with server-everything behind it.
#![allow(deprecated, reason = "the SDK deprecates the legacy era's ways, which are what is tested")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ProgressNotificationParam, ResourceUpdatedNotificationParam,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ErrorData, RoleClient, ServiceExt as _};
use serde_json::{Value, json};

use super::everything;
use super::process::holdfast;
use crate::harness::wait_until;

/// Answers what it is asked, and remembers what it was told.
#[derive(Debug, Clone, Default)]
struct Person {
    progress: Arc<Mutex<Vec<f64>>>,
    updated: Arc<Mutex<Vec<String>>>,
}

fn model<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        model(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "sampling": {}, "elicitation": {} },
            "clientInfo": { "name": "holdfast-test", "version": "1" },
        }))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let content = json!({ "type": "text", "text": "sampled by rmcp" });
        Ok(model(json!({ "model": "test", "role": "assistant", "content": content })))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(model(json!({ "action": "decline" })))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().unwrap().push(params.progress);
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.updated.lock().unwrap().push(params.uri.clone());
    }
}

async fn call(
    client: &RunningService<RoleClient, Person>,
    tool: &str,
    arguments: Value,
) -> (CallToolResult, String) {
    let params: CallToolRequestParams = model(json!({ "name": tool, "arguments": arguments }));
    let called = tokio::time::timeout(Duration::from_secs(20), client.call_tool(params));
    let result = called.await.expect("an answer in time").unwrap_or_else(|error| panic!("{tool}: {error}"));
    let text = serde_json::to_string(&result).unwrap();
    (result, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_uses_server_everything() {
    let (_server, url) = tokio::task::spawn_blocking(everything).await.unwrap();
    let gateway = tokio::task::spawn_blocking(move || holdfast(&["--upstream", &url])).await.unwrap();
    let person = Person::default();
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", gateway.url()));
    let client = person.clone().serve(transport).await.unwrap();

    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "echo"), "{tools:?}");
    let (_, echoed) = call(&client, "echo", json!({ "message": "hold fast" })).await;
    assert!(echoed.contains("hold fast"), "{echoed}");
    let (_, sampled) =
        call(&client, "trigger-sampling-request", json!({ "prompt": "hi", "maxTokens": 5 })).await;
    assert!(sampled.contains("sampled by rmcp"), "{sampled}");
    let (_, declined) = call(&client, "trigger-elicitation-request", json!({})).await;
    assert!(declined.to_lowercase().contains("declin"), "{declined}");
    let (_, slow) =
        call(&client, "trigger-long-running-operation", json!({ "duration": 1, "steps": 4 })).await;
    assert!(slow.contains("completed"), "{slow}");
    wait_until("progress came through", || person.progress.lock().unwrap().len() >= 3).await;
    let progress = person.progress.lock().unwrap().clone();
    assert!(progress.windows(2).all(|pair| pair[0] < pair[1]), "{progress:?}");

    let resources = client.list_all_resources().await.unwrap();
    let uri = resources[0].uri.clone();
    let read = client.read_resource(model(json!({ "uri": uri }))).await.unwrap();
    assert!(!serde_json::to_string(&read).unwrap().is_empty());
    client.subscribe(model(json!({ "uri": uri }))).await.unwrap();
    call(&client, "toggle-subscriber-updates", json!({})).await;
    wait_until("an update came through", || person.updated.lock().unwrap().contains(&uri)).await;

    let prompts = client.list_all_prompts().await.unwrap();
    assert!(prompts.iter().any(|prompt| prompt.name == "simple-prompt"), "{prompts:?}");
    client.get_prompt(model(json!({ "name": "simple-prompt" }))).await.unwrap();
    client.cancel().await.unwrap();
}
