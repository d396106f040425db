//! MCP servers behind Holdfast. One file per kind of server; Streamable HTTP of both eras for now.
//! What to do about an answer is the hub's matter.

mod answers;
mod connector;
mod credentials;
mod era;
mod error;
mod http2;
mod http_client;
mod long;
mod probe;
mod received;
mod session;
mod streamable;

pub use answers::{Answer, Answers, Heard, Position};
pub use credentials::{Credentials, TokenConfig};
pub use era::{EraPolicy, Eras};
pub use error::Error;
pub use http_client::{BoxError, Config as HttpConfig, HttpClient, Movable, Transport};
pub use long::Long;
pub use received::Received;
pub use session::Opened;
pub use streamable::{Config, Streamable as Upstream};
