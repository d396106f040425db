//! The words of Holdfast as values: ids, principals, sessions, streams, events, bindings.
//! Parsed once at the border; knows no protocol, no backend, no I/O.

mod binding;
mod event;
mod id;
mod limit;
mod rate;
mod session;
mod stream;
mod trace;

pub use binding::{Binding, Fence, RunningRecord};
pub use event::{Event, EventId, EventNumber, InvalidEventId, Payload};
pub use id::{Entropy, InvalidId, NodeId, Principal, RequestId, ServerName, SessionId};
pub use limit::Limit;
pub use rate::Rate;
pub use session::{ClientFacts, Session, SessionPart, Transport, UpstreamHandle};
pub use stream::{StreamId, StreamKey, StreamKind};
pub use trace::TraceContext;
