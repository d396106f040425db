//! What Holdfast asks of its shared state and its bus: two traits, with the promises that every
//! adapter keeps (tests/it/contract holds each adapter to them).

mod bus;
mod store;

use std::future::Future;
use std::pin::Pin;

pub use bus::{Bus, BusError, Envelope, Inbox, Takeover};
pub use store::{
    Append, Appended, Attach, Attached, Begin, Begun, Bounds, CloseIf, Closed, Durability, LogBounds, Opened,
    Page, Producer, Query, SessionStore, Steal, Stolen, StoreError, Tail, Updated,
};

/// A port call boxes one future.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
