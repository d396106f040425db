//! How many refusals are written one by one: in every window of time so many of one kind from one source,
//! and so many in all of each kind, of strangers and of who is known apart. The others are counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Principal;
use crate::ports::{AuditEvent, Deed};

pub(super) const WINDOW: Duration = Duration::from_secs(10);
pub(super) const OF_A_SOURCE: usize = 10;
const OF_ALL: usize = 200;

/// What is paced by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Source {
    deed: Deed,
    address: Option<IpAddr>,
    principal: Option<Principal>,
    /// One of many may be the one that matters.
    reason: Option<&'static str>,
}

impl Source {
    pub(super) fn of(event: &AuditEvent) -> Self {
        // Whoever has one address of IPv6 has a whole /64.
        let address = event.address.map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        });
        Self { deed: event.deed, address, principal: event.principal.clone(), reason: event.reason }
    }
}

/// One window, of which no more sources are remembered than are written.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// Of each kind, from strangers or not.
    written: HashMap<(Deed, bool), usize>,
    sources: HashMap<Source, usize>,
    left_out: HashMap<Deed, u64>,
}

impl Pace {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, written: HashMap::new(), sources: HashMap::new(), left_out: HashMap::new() }
    }

    /// Whether it is written; otherwise it is counted.
    pub(super) fn lets_through(&mut self, source: Source) -> bool {
        let deed = source.deed;
        let all = self.written.entry((deed, source.principal.is_some())).or_default();
        if *all < OF_ALL {
            let written = self.sources.entry(source).or_default();
            if *written < OF_A_SOURCE {
                *written += 1;
                *all += 1;
                return true;
            }
        }
        *self.left_out.entry(deed).or_default() += 1;
        false
    }

    /// What was left out, if the window is over; then the next one begins.
    pub(super) fn turn(&mut self, now: Instant) -> HashMap<Deed, u64> {
        if now < self.began + WINDOW {
            return HashMap::new();
        }
        std::mem::replace(self, Self::new(now)).left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: u128) -> Source {
        let address = Some(Ipv6Addr::from_bits(address).into());
        Source::of(&AuditEvent { address, ..AuditEvent::new(Deed::CredentialRefused) })
    }

    #[tokio::test(start_paused = true)]
    async fn many_sources_together_get_no_more_than_all_may() {
        let mut pace = Pace::new(Instant::now());
        let mut written = |sources: &mut dyn Iterator<Item = u128>| {
            sources.filter(|address| pace.lets_through(source(*address))).count()
        };
        assert_eq!(written(&mut (0..1000)), OF_A_SOURCE, "one network is one source");
        assert_eq!(written(&mut (1..1_000_u128).map(|network| network << 64)), OF_ALL - OF_A_SOURCE);
        assert!(pace.sources.len() <= OF_ALL);
        assert!(pace.turn(Instant::now()).is_empty());
        tokio::time::advance(WINDOW).await;
        let left_out = 1000 + 999 - OF_ALL as u64;
        assert_eq!(pace.turn(Instant::now()), HashMap::from([(Deed::CredentialRefused, left_out)]));
        assert!(pace.lets_through(source(1)));
    }
}
