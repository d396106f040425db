//! `holdfast demo`: a small MCP server, clients whose streams break on purpose, and the story of what
//! becomes of them. The gateway between the two is the real one.

mod asking;
mod balancer;
mod client;
mod server;
mod slow;
mod story;
mod teller;
mod tools;

pub use balancer::balance;
pub use client::DemoError;
pub use server::serve_upstream;
pub use story::run;
pub use teller::{Summary, invite};

/// Kills a node without a word, by its number.
pub type Kill<'k> = dyn FnMut(usize) + Send + 'k;
