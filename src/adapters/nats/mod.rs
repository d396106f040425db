//! The bus over NATS: an inbox per node incarnation, one subject for what concerns all nodes. Core
//! NATS only, at most once; what must not be lost stands in the store.

mod age;
mod asking;
mod bus;
mod connect;
mod doubt;
mod ears;
mod guard;
mod line;
mod pace;
mod post;
mod relay;
mod replays;
mod signature;
mod wire;

pub use bus::NatsBus;
pub use connect::{Config, ConnectError};
pub use signature::Keys;
