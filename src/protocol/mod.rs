//! JSON-RPC, MCP of both eras, and Server-Sent Events: bytes in, values out. No I/O and no state but a decoder's own;
//! what to do with a message is decided by `hub`, how it travels by `edge` and `upstream`.

pub mod era;
pub mod jsonrpc;
pub mod legacy;
pub mod modern;
mod peek;
pub mod sse;
pub mod trace;
pub mod version;
