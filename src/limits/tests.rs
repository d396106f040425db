//! Each limit, exactly; two principals; and how much is remembered of many.

use super::*;

fn alice() -> Principal {
    Principal::named("token:alice")
}

fn bob() -> Principal {
    Principal::named("token:bob")
}

fn limits(principal: Allowance, total: Allowance) -> Limits {
    Limits::new(Config { principal, total })
}

fn refused(limit: Limit, wait_ms: u64) -> Exceeded {
    Exceeded { limit, wait: Some(Duration::from_millis(wait_ms)) }
}

async fn pass(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_are_not_those_of_another() {
    let own = Allowance { requests: Some(Rate::per_second(10, 20)), ..Allowance::default() };
    let limits = limits(own, Allowance::default());
    assert_eq!(limits.requests(&alice(), 20), Ok(()));
    assert_eq!(limits.requests(&alice(), 1), Err(refused(Limit::PrincipalRequests, 100)));
    assert_eq!(limits.requests(&bob(), 20), Ok(()));
    pass(100).await;
    assert_eq!(limits.requests(&alice(), 1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_all_together_may_not_costs_nobody_his_own() {
    let own = Allowance { requests: Some(Rate::per_second(1, 2)), ..Allowance::default() };
    let total = Allowance { requests: Some(Rate::per_second(10, 3)), ..Allowance::default() };
    let limits = limits(own, total);
    assert_eq!(limits.requests(&alice(), 2), Ok(()));
    assert_eq!(limits.requests(&alice(), 1), Err(refused(Limit::PrincipalRequests, 1000)));
    assert_eq!(
        limits.requests(&bob(), 2),
        Err(refused(Limit::Requests, 100)),
        "alice's refusals cost nothing"
    );
    pass(100).await;
    assert_eq!(limits.requests(&bob(), 2), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_once_and_as_they_come() {
    let own = Allowance { bytes: Some(Rate::per_minute(6000)), ..Allowance::default() };
    let limits = limits(own, Allowance::default());
    let mut announced = limits.intake(&alice(), Some(4000)).unwrap();
    assert_eq!(limits.intake(&alice(), Some(2001)).unwrap_err(), refused(Limit::PrincipalBytes, 10));
    assert_eq!((announced.read(1000), announced.read(2000)), (Ok(()), Ok(())));
    drop(announced);
    // It broke off: 1000 never came.
    let mut chunked = limits.intake(&alice(), None).unwrap();
    assert_eq!(chunked.read(3000), Ok(()));
    assert_eq!(chunked.read(1), Err(refused(Limit::PrincipalBytes, 10)));
    drop(chunked);
    assert_eq!(
        limits.intake(&alice(), Some(1)).unwrap_err(),
        refused(Limit::PrincipalBytes, 10),
        "they came"
    );
    assert!(limits.intake(&bob(), Some(6000)).is_ok());
    pass(60_000).await;
    assert!(limits.intake(&alice(), Some(6000)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn bytes_that_all_together_may_not_send_cost_nobody_his_own() {
    let bytes = |bytes| Allowance { bytes: Some(Rate::per_minute(bytes)), ..Allowance::default() };
    let limits = limits(bytes(6000), bytes(9000));
    let whole = limits.intake(&alice(), Some(6000)).unwrap();
    let mut chunked = limits.intake(&bob(), None).unwrap();
    assert_eq!(chunked.read(3001).unwrap_err().limit, Limit::Bytes);
    assert_eq!(limits.intake(&bob(), Some(3001)).unwrap_err().limit, Limit::Bytes);
    drop(whole);
    assert!(limits.intake(&bob(), Some(6000)).is_ok(), "alice's never came");
}

#[tokio::test(start_paused = true)]
async fn places_are_given_back() {
    let own = Allowance {
        running_max: Some(1),
        streams_max: Some(1),
        sessions_max: Some(1),
        ..Allowance::default()
    };
    let limits = limits(own, Allowance { running_max: Some(2), ..Allowance::default() });
    let full = |limit| Exceeded { limit, wait: None };
    let held = (limits.running(&alice()).unwrap(), limits.stream(&alice(), false), limits.session(&alice()));
    assert_eq!(limits.running(&alice()).unwrap_err(), full(Limit::PrincipalRequestsRunning));
    assert_eq!(limits.stream(&alice(), false).unwrap_err(), full(Limit::PrincipalStreams));
    assert_eq!(limits.session(&alice()).unwrap_err(), full(Limit::PrincipalSessions));
    assert!(limits.stream(&alice(), true).is_ok(), "in the place of one that ends");
    let others = limits.running(&bob()).unwrap();
    assert_eq!(limits.running(&Principal::anonymous()).unwrap_err(), full(Limit::RequestsRunning));
    drop(others);
    assert!(limits.running(&Principal::anonymous()).is_ok());
    drop(held);
    assert!(limits.running(&alice()).is_ok() && limits.stream(&alice(), false).is_ok());
    assert!(limits.session(&alice()).is_ok_and(|place| place.is_some()));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_limited_nobody_is_remembered() {
    let limits = limits(Allowance::default(), Allowance::default());
    let held = (limits.requests(&alice(), 1_000_000), limits.running(&alice()), limits.session(&alice()));
    let body = limits.intake(&alice(), None).unwrap().read(usize::MAX);
    assert_eq!((limits.sweep(), body), (0, Ok(())));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn who_is_as_good_as_new_is_forgotten() {
    let own = Allowance {
        requests: Some(Rate::per_second(10, 20)),
        bytes: Some(Rate::per_minute(6000)),
        streams_max: Some(1),
        ..Allowance::default()
    };
    let limits = limits(own, Allowance::default());
    let name = |number| Principal::named(&format!("token:{number}"));
    for number in 0..100_000 {
        assert_eq!(limits.requests(&name(number), 1), Ok(()));
        limits.intake(&name(number), Some(600)).unwrap().read(600).unwrap();
    }
    let streams = limits.stream(&name(7), false).unwrap();
    let all = || (0..ROUNDS).fold(0, |_, _| limits.sweep());
    assert_eq!(all(), 100_000, "each owes something");
    pass(5999).await;
    assert_eq!(all(), 100_000);
    pass(1).await;
    assert_eq!(all(), 1, "one has a stream");
    drop(streams);
    assert_eq!(all(), 0);
    let room: usize = (0..SHARDS).map(|index| limits.shard(index).capacity()).sum();
    assert!(room < 1000, "{room} places are kept for nobody");
}

#[tokio::test(start_paused = true)]
async fn more_principals_than_are_told_apart_share_one_account() {
    let own = Allowance { requests: Some(Rate::per_second(1, 1)), ..Allowance::default() };
    let limits = Limits::telling_apart(SHARDS, Config { principal: own, total: Allowance::default() });
    let come = |number| limits.requests(&Principal::named(&format!("token:{number}")), 1);
    let let_in = (0..10_000).filter(|number| come(*number).is_ok()).count();
    assert_eq!(let_in, SHARDS + 1);
    assert_eq!(limits.sweep(), SHARDS);
}
