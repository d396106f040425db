//! MCP's methods, of both eras. A client may call anything: what is none of these is `other`.

use super::Label;

labels! {
    /// A method of MCP.
    pub enum Method {
        Initialize = "initialize",
        Ping = "ping",
        Discover = "server/discover",
        ToolsList = "tools/list",
        ToolsCall = "tools/call",
        PromptsList = "prompts/list",
        PromptsGet = "prompts/get",
        ResourcesList = "resources/list",
        ResourceTemplatesList = "resources/templates/list",
        ResourcesRead = "resources/read",
        ResourcesSubscribe = "resources/subscribe",
        ResourcesUnsubscribe = "resources/unsubscribe",
        Complete = "completion/complete",
        SetLevel = "logging/setLevel",
        Listen = "subscriptions/listen",
        TasksGet = "tasks/get",
        TasksResult = "tasks/result",
        TasksList = "tasks/list",
        TasksCancel = "tasks/cancel",
        TasksUpdate = "tasks/update",
        Initialized = "notifications/initialized",
        Cancelled = "notifications/cancelled",
        Progress = "notifications/progress",
        RootsChanged = "notifications/roots/list_changed",
        Other = "other",
    }
}

impl Method {
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self::ALL.iter().copied().find(|known| known.label() == name).unwrap_or(Self::Other)
    }
}
