//! What operators see: metric verbs, logs, and error chains. Logic says what happened; names and
//! labels are decided here.

mod audit;
mod buckets;
mod catalogue;
mod chain;
mod labels;
mod logging;
mod metered;
mod metrics;
mod reference;

pub use crate::ports::{AuditEvent, Deed, Verdict};
pub use audit::{Audit, LogAudit};
pub use chain::chain;
pub use labels::{
    AuthOutcome, Credential, Era, Eras, ExchangeEnd, Introspected, Lookup, Method, NodePhase, Outcome, Queue,
    RelayEnd, RelaySide, ResumeEnd, Said, SessionEnd, SharedRate, StreamEnd, TakeoverEnd, UpstreamFault,
};
pub use logging::{Config as LogConfig, Format as LogFormat, init as init_logging};
pub use metered::Metered;
pub use metrics::{Gauged, Measured, Metrics, Requested, ServerMetrics};
pub use reference::reference as metrics_reference;
