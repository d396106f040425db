//! Sessions and bus in this process: the default, and what simulated clusters share. Nothing here
//! waits: every step is a few lines under one lock.

mod bus;
mod delivery;
mod log;
mod nodes;
mod rates;
mod session;
mod shard;
mod store;
mod stream;
#[cfg(test)]
mod tests;

pub use bus::MemoryBus;
pub use rates::MemoryRates;
pub use store::MemorySessionStore;
