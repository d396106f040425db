//! The rooms that read bytes from outside, without what they stand on, so that a fuzz build takes a minute.

#[path = "../../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../../src/ports/mod.rs"]
pub mod ports;
#[path = "../../../src/protocol/mod.rs"]
pub mod protocol;

#[path = "../../../src/auth/digest.rs"]
mod digest;
#[path = "../../../src/auth/keys.rs"]
mod keys;
#[path = "../../../src/hub/head.rs"]
mod head;
#[path = "../../../src/adapters/nats/age.rs"]
mod age;
#[path = "../../../src/adapters/nats/signature.rs"]
mod signature;
#[path = "../../../src/adapters/nats/wire.rs"]
mod wire;

pub mod bus;
pub mod tokens;
