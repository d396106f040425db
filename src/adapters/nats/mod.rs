//! The bus over NATS: an inbox per node incarnation, one subject for what concerns all nodes. Core
//! NATS only, at most once; what must not be lost stands in the store.

mod bus;
mod connect;
mod relay;
mod seldom;
mod wire;

pub use bus::NatsBus;
pub use connect::{Config, ConnectError};
