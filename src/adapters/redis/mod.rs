//! Sessions in Redis, shared by all nodes. Each step is one script on the keys of one session, which
//! share a slot; the scripts are text that any node may send again, so they survive restarts,
//! failovers and clusters.

mod answer;
mod connect;
mod link;
mod port;
mod presence;
mod rates;
mod scripts;
mod servers;
mod steps;
mod store;
mod tls;
mod topology;

pub use connect::{Config, ConnectError};
pub use store::RedisSessionStore;
