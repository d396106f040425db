//! What is left of a rate: the generic cell rate algorithm. A bucket is one number, the moment at which it
//! is full again, and changes in one atomic step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::Rate;

/// What is left of a rate. Times are since any one moment.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    full_at_ns: AtomicU64,
}

impl Bucket {
    /// Takes all cells or none; refused, it says after how long they are there. More than the burst are
    /// given out of a bucket that is full but for one, and are owed: no size of a batch gets around the rate,
    /// and none never fits.
    pub(super) fn take(&self, rate: Rate, now: Duration, cells: u64) -> Result<(), Duration> {
        let now_ns = nanos(now);
        let (cost, needed, burst) = (rate.nanos(cells), rate.needed_nanos(cells), rate.nanos(rate.burst()));
        let mut wait_ns = 0;
        let taken = self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
            let full_at_ns = full_at_ns.max(now_ns);
            wait_ns = full_at_ns.saturating_add(needed).saturating_sub(now_ns.saturating_add(burst));
            (wait_ns == 0).then(|| full_at_ns.saturating_add(cost))
        });
        taken.map(drop).map_err(|_| Duration::from_nanos(wait_ns))
    }

    /// Takes back what was taken and not used.
    pub(super) fn give_back(&self, rate: Rate, cells: u64) {
        let cost = rate.nanos(cells);
        let less = |full_at_ns: u64| Some(full_at_ns.saturating_sub(cost));
        let _ = self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// A bucket that is full is as good as a new one.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.full_at_ns.load(Ordering::Relaxed) <= nanos(now)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10, 3));
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, ms(0), 1), Ok(()));
        }
        assert_eq!(bucket.take(rate, ms(0), 1), Err(ms(100)));
        assert_eq!(bucket.take(rate, ms(60), 1), Err(ms(40)));
        assert_eq!(bucket.take(rate, ms(60), 2), Err(ms(140)));
        assert_eq!(bucket.take(rate, ms(100), 1), Ok(()));
        assert_eq!(bucket.take(rate, ms(100), 1), Err(ms(100)));
        assert!(!bucket.is_full(ms(399)) && bucket.is_full(ms(400)));
        // A pause earns the burst, and no more.
        assert_eq!(bucket.take(rate, ms(90_000), 3), Ok(()));
        assert_eq!(bucket.take(rate, ms(90_000), 1), Err(ms(100)));
    }

    #[test]
    fn more_than_the_burst_is_owed() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10, 3));
        assert_eq!(bucket.take(rate, ms(0), 20), Ok(()), "the bucket is full");
        assert_eq!(bucket.take(rate, ms(0), 1), Err(ms(1800)));
        assert_eq!(bucket.take(rate, ms(1800), 1), Ok(()));
        assert_eq!(bucket.take(rate, ms(1900), 20), Err(ms(100)), "it is not");
        assert_eq!(bucket.take(rate, ms(2100), 1), Ok(()), "it came with the head of a batch");
        assert_eq!(bucket.take(rate, ms(2100), 19), Ok(()));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (bucket, rate) = (Bucket::default(), Rate::per_minute(6000));
        assert_eq!(bucket.take(rate, ms(0), 6000), Ok(()));
        bucket.give_back(rate, 1000);
        assert_eq!(bucket.take(rate, ms(0), 1001), Err(ms(10)));
        assert_eq!(bucket.take(rate, ms(0), 1000), Ok(()));
        bucket.give_back(rate, 6000);
        bucket.give_back(rate, 6000);
        assert_eq!(bucket.take(rate, ms(0), 6000), Ok(()));
        assert_eq!(bucket.take(rate, ms(0), 1), Err(ms(10)), "a bucket holds no more than its burst");
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_burst_and_rate_or_waits_in_vain(
            cells in 1..5_000_usize,
            burst in 1..500_usize,
            tries in prop::collection::vec((0..50_000_000_u64, 1..600_u64), 1..200),
        ) {
            let (bucket, rate) = (Bucket::default(), Rate::per_second(cells, burst));
            let (mut now_ns, mut taken, mut most) = (0, 0, 0);
            for (pause_ns, wanted) in tries {
                now_ns += pause_ns;
                let now = Duration::from_nanos(now_ns);
                match bucket.take(rate, now, wanted) {
                    Ok(()) => {
                        taken += wanted;
                        most = most.max(wanted);
                    }
                    Err(wait) => {
                        prop_assert!(bucket.take(rate, now + wait - Duration::from_nanos(1), wanted).is_err());
                        prop_assert_eq!(bucket.take(rate, now + wait, wanted), Ok(()));
                        bucket.give_back(rate, wanted);
                    }
                }
                // Cells are given in whole nanoseconds.
                let earned = u128::from(now_ns + 1) * cells as u128;
                let most_at_once = u128::from(most.max(burst as u64)) + 1;
                prop_assert!(u128::from(taken) * 1_000_000_000 <= earned + most_at_once * 1_000_000_000);
            }
        }
    }
}
