//! One backend each, behind the ports. What an adapter must keep stands on the traits; the tests in
//! tests/it/contract hold each of them to it.

pub mod file;
pub mod memory;
pub mod nats;
pub mod redis;
