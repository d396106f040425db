//! The NATS adapter keeps the bus's promises, on a real server, and behaves when the server does not.

use std::time::Duration;

use holdfast::adapters::nats::{ConnectError, NatsBus};
use holdfast::ports::{Bus as _, BusError};
use tokio::time::Instant;

use super::bus::{from, next, promises};
use super::node;
use crate::servers::Nats;

#[tokio::test]
async fn the_bus_keeps_its_promises() {
    let nats = Nats::start();
    promises(&async || nats.bus().await).await;
}

#[tokio::test]
async fn clusters_with_other_prefixes_do_not_hear_each_other() {
    let nats = Nats::start();
    let (one, config) = (nats.bus().await, nats.config());
    let other = NatsBus::connect(&holdfast::adapters::nats::Config { prefix: "other".into(), ..config })
        .await
        .unwrap();
    let mut own = one.open_inbox(&node("a")).await.unwrap();
    let mut foreign = other.open_inbox(&node("b")).await.unwrap();
    other.announce(from("b")).await.unwrap();
    one.announce(from("c")).await.unwrap();
    assert_eq!(next(&mut own).await.from, node("c"));
    assert!(foreign.messages.try_recv().is_err());
    assert_eq!(other.ping(&node("a"), Duration::from_secs(1)).await, Err(BusError::NoResponders));
}

#[tokio::test]
async fn while_it_is_away_nothing_is_taken_and_after_it_nothing_stale_arrives() {
    let mut nats = Nats::start();
    let (a, b) = (nats.bus().await, nats.bus().await);
    let mut inbox = b.open_inbox(&node("b")).await.unwrap();
    inbox.missed.mark_unchanged();
    nats.kill();
    let away = Instant::now();
    while a.send(&node("b"), from("a")).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(away.elapsed() < Duration::from_secs(2), "that it is away is noticed");
    }
    let asked = Instant::now();
    assert_eq!(a.ping(&node("b"), Duration::from_secs(2)).await, Err(BusError::Unavailable));
    assert_eq!(a.announce(from("a")).await, Err(BusError::Unavailable));
    assert!(asked.elapsed() < Duration::from_millis(100), "and said at once");
    nats.restart();
    let back = Instant::now();
    while a.ping(&node("b"), Duration::from_millis(200)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(back.elapsed() < Duration::from_secs(5), "both are back");
    }
    assert!(inbox.missed.has_changed().unwrap(), "the receiver knows that it may have missed something");
    let fresh = from("fresh");
    a.send(&node("b"), fresh.clone()).await.unwrap();
    loop {
        let heard = next(&mut inbox).await;
        if heard == fresh {
            break;
        }
        // What left before the loss was noticed may have been on its way.
        assert_eq!(heard.from, node("a"));
    }
}

#[tokio::test]
async fn a_frozen_server_is_no_answer() {
    let nats = Nats::start();
    let bus = nats.bus().await;
    let _inbox = bus.open_inbox(&node("a")).await.unwrap();
    nats.freeze();
    let asked = Instant::now();
    assert_eq!(bus.ping(&node("a"), Duration::from_millis(300)).await, Err(BusError::Unavailable));
    assert!(asked.elapsed() < Duration::from_secs(1));
    nats.thaw();
    assert_eq!(bus.ping(&node("a"), Duration::from_secs(2)).await, Ok(()));
}

#[tokio::test]
async fn credentials_are_sent_and_their_refusal_is_clear() {
    let nats = Nats::with(&["--user", "hold", "--pass", "fast"]);
    let refused = NatsBus::connect(&nats.config()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Login(_)), "{refused}");
    assert!(!refused.may_pass());
    let mut config = nats.config();
    config.url = config.url.replace("nats://", "nats://hold:fast@");
    NatsBus::connect(&config).await.unwrap().ping(&node("nobody"), Duration::from_secs(1)).await.unwrap_err();

    let token = Nats::with(&["--auth", "t0ken"]);
    let config = holdfast::adapters::nats::Config { token: Some("t0ken".into()), ..token.config() };
    assert_eq!(
        NatsBus::connect(&config).await.unwrap().ping(&node("nobody"), Duration::from_secs(1)).await,
        Err(BusError::NoResponders)
    );
    drop(token);
    let away = NatsBus::connect(&config).await.unwrap_err();
    assert!(away.may_pass(), "{away}");
}
