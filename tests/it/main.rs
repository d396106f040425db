//! All integration tests, in one binary: it links once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that fails may panic, and prints figures"
)]

mod cluster;
mod contract;
mod deploy;
mod features;
mod harness;
mod kubernetes;
mod manual;
mod model;
mod peers;
mod servers;
mod simulation;
mod tidy;
