//! Labels of what went wrong.

use super::{ExchangeEnd, Label, ToolOutcome};

labels! {
    /// Why a server gave no answer.
    pub enum UpstreamFault {
        Unreachable = "unreachable",
        /// A status that is no success, and no JSON-RPC error with it.
        Refused = "refused",
        /// It is not MCP, or too large.
        Invalid = "invalid",
        /// It broke off.
        Interrupted = "interrupted",
        Late = "late",
        /// It forgot the session.
        SessionGone = "session_gone",
    }

    /// `error.type` of the conventions of OpenTelemetry: codes of JSON-RPC as they are, `tool_error` for a result that
    /// says `isError`, and words for what has no answer.
    pub(in crate::telemetry) enum ErrorType {
        None = "",
        ToolError = "tool_error",
        ParseError = "-32700",
        InvalidRequest = "-32600",
        MethodNotFound = "-32601",
        InvalidParams = "-32602",
        Internal = "-32603",
        Server = "-32000",
        Server1 = "-32001",
        ResourceNotFound = "-32002",
        HeaderMismatch = "-32020",
        MissingCapability = "-32021",
        UnsupportedVersion = "-32022",
        UrlElicitation = "-32042",
        Other = "_OTHER",
        UpstreamFailed = "upstream_failed",
        TimedOut = "timeout",
        Cancelled = "cancelled",
        Abandoned = "abandoned",
        ClientGone = "client_gone",
    }
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Fine,
    /// A tool's result that says `isError`.
    ToolError,
    /// The code of a JSON-RPC error.
    Code(i64),
}

impl ErrorType {
    pub(in crate::telemetry) fn of(end: ExchangeEnd, said: Said) -> Self {
        match end {
            ExchangeEnd::Answered => match said {
                Said::Fine => Self::None,
                Said::ToolError => Self::ToolError,
                Said::Code(code) => Self::coded(code),
            },
            ExchangeEnd::UpstreamFailed => Self::UpstreamFailed,
            ExchangeEnd::TimedOut => Self::TimedOut,
            ExchangeEnd::Cancelled => Self::Cancelled,
            ExchangeEnd::Abandoned | ExchangeEnd::LeftBehind => Self::Abandoned,
            ExchangeEnd::ClientGone => Self::ClientGone,
        }
    }

    fn coded(code: i64) -> Self {
        let text = code.to_string();
        Self::ALL.iter().copied().find(|known| known.label() == text).unwrap_or(Self::Other)
    }
}

impl ToolOutcome {
    pub(in crate::telemetry) const fn of(end: ExchangeEnd, said: Said) -> Self {
        match (end, said) {
            (ExchangeEnd::Answered, Said::Fine) => Self::Ok,
            (ExchangeEnd::Answered, Said::ToolError) => Self::ToolError,
            (ExchangeEnd::Answered, Said::Code(_)) => Self::Error,
            (ExchangeEnd::Cancelled | ExchangeEnd::ClientGone, _) => Self::Cancelled,
            (
                ExchangeEnd::UpstreamFailed
                | ExchangeEnd::TimedOut
                | ExchangeEnd::Abandoned
                | ExchangeEnd::LeftBehind,
                _,
            ) => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_nobody_knows_have_one_label() {
        let of = |code| ErrorType::of(ExchangeEnd::Answered, Said::Code(code)).label();
        assert_eq!(of(-32602), "-32602");
        assert_eq!(of(-31999), "_OTHER");
        assert_eq!(of(7), "_OTHER");
    }
}
