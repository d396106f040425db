//! The protocol between nodes and the shared state as a small model, explored exhaustively: one stream,
//! one request, two nodes, a client that is cut off and comes back, messages that are lost, nodes that
//! crash and freeze. The steps of the store are those of `ports::SessionStore`, without time.

mod cluster;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use cluster::{Bug, Cluster};

#[test]
fn every_event_arrives_once_and_in_order_whatever_happens() {
    let checker = Cluster::new(None).checker().threads(2).spawn_bfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000);
}

/// The model can fail: each bug breaks a promise.
#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let checker = Cluster::new(Some(bug))
            .checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .threads(2)
            .spawn_bfs()
            .join();
        let found: Vec<_> =
            checker.discoveries().into_keys().filter(|name| !name.starts_with("can ")).collect();
        println!("{bug:?}: {found:?}");
        assert!(!found.is_empty(), "{bug:?} is not found");
    }
}
