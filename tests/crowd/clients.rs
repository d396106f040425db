//! All clients of a process: opened a few at a time, one in a hundred used, all listening to the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::stream::{StreamExt as _, iter};
use tokio::time::Instant;

use super::client::{Client, End};

const AT_ONCE: usize = 32;

/// One client in this many calls a tool, and then hears from the server on its GET stream.
const SAMPLE: usize = 100;

/// How long a stream is listened to once all are open.
const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) async fn run(gateway: SocketAddr, count: usize, source: Ipv4Addr) {
    let opening = iter(0..count).map(|number| Client::open(gateway, source, number % SAMPLE == 0));
    let mut clients: Vec<_> = opening.buffer_unordered(AT_ONCE).collect().await;
    println!("open {}", clients.len());
    let mut echoes = 0;
    for (number, client) in clients.iter_mut().enumerate() {
        if client.is_sample() {
            echoes += usize::from(client.echoes(&format!("hello {number}")).await);
            client.hear(1).await;
        }
    }
    println!("used {echoes}");
    let deadline = Instant::now() + DEADLINE;
    let listening = iter(clients).map(|mut client| async move {
        let end = client.listen(deadline.saturating_duration_since(Instant::now())).await;
        (client, end, Instant::now())
    });
    let ended: Vec<_> = listening.buffer_unordered(count.max(1)).collect().await;
    let counted = |wanted: End| ended.iter().filter(|(_, end, _)| *end == wanted).count();
    let told = ended.iter().filter(|(client, _, _)| client.retries() >= 2).count();
    let events: usize = ended.iter().map(|(client, _, _)| client.events()).sum();
    let first = ended.iter().map(|(_, _, at)| *at).min().unwrap_or(deadline);
    let last = ended.iter().map(|(_, _, at)| *at).max().unwrap_or(deadline);
    let results = serde_json::json!({
        "orderly": counted(End::Orderly),
        "cut": counted(End::Cut),
        "still_open": counted(End::Deadline),
        "told_when_to_retry": told,
        "events": events,
        "ending_ms": u64::try_from((last - first).as_millis()).unwrap(),
    });
    println!("ended {results}");
}
