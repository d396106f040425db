//! The protocol room alone, so that a fuzz build takes seconds: it knows nothing else of Holdfast.

#[path = "../../../src/protocol/mod.rs"]
pub mod protocol;
