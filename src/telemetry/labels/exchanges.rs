//! Labels of requests and what they come to.

use super::Label;

labels! {
    /// How an exchange ended.
    pub enum ExchangeEnd {
        /// A result or error of the server's.
        Answered = "answered",
        UpstreamFailed = "upstream_failed",
        TimedOut = "timed_out",
        Cancelled = "cancelled",
        /// The session or the gateway ended first.
        Abandoned = "abandoned",
        /// Left to another node by one that ended.
        LeftBehind = "left_behind",
        /// Its client left while a long answer passed.
        ClientGone = "client_gone",
    }

    /// Well or not.
    pub enum Outcome {
        Ok = "ok",
        Error = "error",
    }

    /// A generation of MCP revisions.
    pub enum Era {
        /// 2024-11-05 to 2025-11-25.
        Legacy = "legacy",
        /// 2026-07-28.
        Modern = "modern",
    }

    /// What came of a tool's call.
    pub(in crate::telemetry) enum ToolOutcome {
        Ok = "ok",
        /// A result that says `isError`.
        ToolError = "tool_error",
        /// A JSON-RPC error of the server's.
        Error = "error",
        /// There is no answer.
        Failed = "failed",
        /// Its client did not wait for one.
        Cancelled = "cancelled",
    }
}

/// What the client speaks, and what the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eras {
    pub client: Era,
    pub server: Era,
}

impl Eras {
    pub const LEGACY: Self = Self { client: Era::Legacy, server: Era::Legacy };
    pub const MODERN: Self = Self { client: Era::Modern, server: Era::Modern };
}
