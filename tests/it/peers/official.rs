//! The official Rust SDK as a client of both eras, against the dual-era server behind the gateway.
#![allow(deprecated, reason = "sampling and logging are deprecated since 2026-07-28, and still in use")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::ClientHandler;
use rmcp::ServiceExt as _;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, GetPromptRequestParams, Implementation,
    LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, ProtocolVersion,
    ReadResourceRequestParams, ResourceUpdatedNotificationParam, SamplingMessage, SetLevelRequestParams,
    SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RequestContext, RoleClient,
    RunningService,
};
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

use super::process::fixture;
use crate::harness::{Gateway, wait_until};

const WATCHED: &str = "test://watched-resource";

/// A client that answers every question and writes down what it is told.
#[derive(Debug, Clone, Default)]
struct Person {
    told: Arc<Mutex<Vec<String>>>,
}

impl Person {
    fn note(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }

    fn was_told(&self, what: &str) -> bool {
        self.told.lock().unwrap().iter().any(|told| told == what)
    }
}

impl ClientHandler for Person {
    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("sampled"), "model".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let content = json!({ "username": "ada", "email": "ada@example.com" });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.note(format!("progress {}", params.progress));
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note(format!("log {:?}", params.level));
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note(format!("updated {}", params.uri));
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.note("tools changed".to_owned());
    }

    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().enable_elicitation().build();
        ClientConfig::new(capabilities, Implementation::new("official", "1"))
    }
}

fn tool(name: &'static str, arguments: &Value) -> CallToolRequestParams {
    CallToolRequestParams::new(name).with_arguments(arguments.as_object().unwrap().clone())
}

async fn text_of(client: &RunningService<RoleClient, Person>, params: CallToolRequestParams) -> String {
    let result = client.call_tool(params).await.unwrap();
    serde_json::to_value(result).unwrap()["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// What is the same in both eras.
async fn uses_everything(client: &RunningService<RoleClient, Person>, person: &Person) {
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "json_schema_2020_12_tool"), "{} tools", tools.len());
    let echoed = text_of(client, tool("echo", &json!({ "text": "grüß\u{1F980}" }))).await;
    assert!(echoed.contains("grüß\u{1F980}"), "{echoed}");
    text_of(client, CallToolRequestParams::new("test_tool_with_progress")).await;
    wait_until("all progress", || person.was_told("progress 100")).await;
    let sampled = text_of(client, tool("test_sampling", &json!({ "prompt": "hi" }))).await;
    assert!(sampled.contains("sampled"), "{sampled}");
    let elicited = text_of(client, tool("test_elicitation", &json!({ "message": "who?" }))).await;
    assert!(elicited.contains("action=accept") && elicited.contains("ada@example.com"), "{elicited}");
    let big = text_of(client, tool("big", &json!({ "bytes": 1_000_000 }))).await;
    assert_eq!(big.len(), 1_000_000);
    assert_eq!(client.list_all_resources().await.unwrap().len(), 3);
    let read = client.read_resource(ReadResourceRequestParams::new("test://static-text")).await.unwrap();
    assert!(serde_json::to_string(&read).unwrap().contains("static text resource"));
    let prompt = client.get_prompt(GetPromptRequestParams::new("test_simple_prompt")).await.unwrap();
    assert!(!prompt.messages.is_empty());
    let unknown = client.call_tool(CallToolRequestParams::new("no_such_tool")).await;
    assert!(unknown.unwrap_err().to_string().contains("unknown tool"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rmcp_uses_everything_in_a_session() {
    let server = fixture(&[]);
    let gateway = Gateway::start(&server.url(), &[]).await;
    let person = Person::default();
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", gateway.url));
    let client = person.clone().serve(transport).await.unwrap();
    uses_everything(&client, &person).await;
    client.set_level(SetLevelRequestParams::new(LoggingLevel::Error)).await.unwrap();
    text_of(&client, CallToolRequestParams::new("test_logging_tool")).await;
    wait_until("the error is logged", || person.was_told("log Error")).await;
    assert!(!person.was_told("log Debug"));
    client.subscribe(SubscribeRequestParams::new(WATCHED)).await.unwrap();
    text_of(&client, tool("touch_resource", &json!({ "uri": WATCHED }))).await;
    wait_until("the change is told", || person.was_told(&format!("updated {WATCHED}"))).await;
    client.unsubscribe(UnsubscribeRequestParams::new(WATCHED)).await.unwrap();
    text_of(&client, CallToolRequestParams::new("test_trigger_tool_change")).await;
    wait_until("the list's change is told", || person.was_told("tools changed")).await;
    // The server hangs up in the middle of this call, and answers later.
    let polled = text_of(&client, tool("test_reconnection", &json!({ "delay_ms": 300 }))).await;
    assert!(polled.contains("Answered after"), "{polled}");
    client.cancel().await.unwrap();
    wait_until("its session ended", || {
        gateway.metric("holdfast_sessions_ended_total{reason=\"deleted\"}") == Some(1.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rmcp_uses_everything_without_a_session() {
    let server = fixture(&[]);
    let gateway = Gateway::start(&server.url(), &[]).await;
    let person = Person::default();
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", gateway.url));
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = person.clone().serve_with_lifecycle(transport, modern).await.unwrap();
    uses_everything(&client, &person).await;
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let mut subscription = client.listen(filter).await.unwrap();
    text_of(&client, CallToolRequestParams::new("test_trigger_tool_change")).await;
    let heard = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await.unwrap().unwrap();
    assert!(heard.is_some());
    subscription.cancel().await.unwrap();
    wait_until("the stream ended", || gateway.metric("holdfast_streams{kind=\"post\"}") == Some(0.0)).await;
    assert_eq!(gateway.metric("holdfast_sessions_opened_total{transport=\"streamable\"}"), Some(0.0));
    client.cancel().await.unwrap();
}
