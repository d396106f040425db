//! `holdfast demo`: a small MCP server, clients whose streams break on purpose, and the story of what
//! becomes of them. The gateway between the two is the real one.

mod asking;
mod client;
mod server;
mod slow;
mod story;
mod teller;
mod tools;

pub use client::DemoError;
pub use server::serve_upstream;
pub use story::run;
pub use teller::{Summary, invite};
