//! What operators see: metric verbs, logs, and error chains. Logic says what happened; names and
//! labels are decided here.

mod audit;
mod audited;
mod believed;
mod chain;
mod labels;
mod logging;
mod metrics;

pub use crate::ports::{AuditEvent, Deed, Verdict};
pub use audit::{Audit, LogAudit};
pub use chain::chain;
pub use labels::{
    AuthOutcome, Credential, ExchangeEnd, Introspected, Outcome, RelayEnd, RelaySide, ResumeEnd, SessionEnd,
    SharedRate, StreamEnd, TakeoverEnd,
};
pub use logging::{Config as LogConfig, Format as LogFormat, init as init_logging};
pub use metrics::{Gauged, Metrics};
