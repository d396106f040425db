//! What operators see: metric verbs, spans, logs, and error chains. Logic says what happened; names and
//! labels are decided here.

mod audit;
mod audited;
mod believed;
mod chain;
mod labels;
mod logging;
mod metrics;
mod spans;
mod traces;

pub use crate::ports::{AuditEvent, Deed, Verdict};
pub use audit::{Audit, LogAudit};
pub use chain::chain;
pub use labels::{
    AuthOutcome, Credential, ExchangeEnd, Introspected, Outcome, RelayEnd, RelaySide, ResumeEnd, SessionEnd,
    SharedRate, StreamEnd, TakeoverEnd,
};
pub use logging::{Config as LogConfig, Format as LogFormat, init as init_logging};
pub use metrics::{Gauged, Metrics};
pub use spans::{
    Asked, OperationEnd, Reader, context_of, failed, http_answered, http_request, is_traced, link_reader,
    message_received, message_sent, operation, operation_ended, reader, store_call, upstream_operation,
};
pub use traces::{Config as TracesConfig, Protocol as TracesProtocol, Traces, TracesError};
