//! What Holdfast asks of its shared state and its bus: traits, with the promises that every adapter
//! keeps (tests/it/contract holds each adapter to them).

mod audit;
mod bus;
mod inspect;
mod node;
mod rates;
mod refusal;
mod relay;
mod store;

use std::future::Future;
use std::pin::Pin;

pub use audit::{AuditEvent, AuditSink, Deed, Verdict};
pub use bus::{Bus, BusError, Envelope, Inbox, Lane, Parcel, Takeover};
pub use inspect::{Inspected, SEEN_EVENTS, SeenStream};
pub use node::{Beat, LEFT_FOR, Lease, SeenNode};
pub use rates::{RateLimits, Taken};
pub use refusal::{Refusal, Refusals};
pub use relay::{RelayAnswer, RelayAsk, RelayId, RelayRefusal, RelayStep, Relayed};
pub use store::{
    Append, Appended, Attach, Attached, Begin, Begun, Bounds, CloseIf, Closed, Durability, LogBounds, Mark,
    Opened, Page, Producer, Query, Reader, SessionStore, Steal, Stolen, StoreError, Tail, Updated,
};

/// A port call boxes one future.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
