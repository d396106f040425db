//! A crowd of MCP clients in one process, and a small upstream for them in another; what they say is
//! for tests/it/peers/crowd.rs.
//!
//! `crowd HOST:PORT COUNT [SOURCE]` opens COUNT sessions with a GET stream each, from the address
//! SOURCE, prints `open COUNT`, and one line of JSON once all streams have ended.
//! `crowd --upstream` prints `listening on URL`; `GET /counts` there tells what it was asked.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test program: it may panic, and prints its results"
)]

mod client;
mod clients;
mod upstream;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap();
    if first == "--upstream" {
        return upstream::serve().await;
    }
    let count = arguments.next().unwrap().parse().unwrap();
    let source = arguments.next().map_or(std::net::Ipv4Addr::LOCALHOST, |source| source.parse().unwrap());
    clients::run(first.parse().unwrap(), count, source).await;
}
