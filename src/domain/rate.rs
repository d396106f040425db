//! So much in a time, with a burst.

use std::time::Duration;

/// So many cells in a period, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    cells: u64,
    period: Duration,
    burst: u64,
}

impl Rate {
    #[must_use]
    pub fn per_second(cells: usize, burst: usize) -> Self {
        Self { cells: cells.max(1) as u64, period: Duration::from_secs(1), burst: burst.max(1) as u64 }
    }

    /// A minute's worth may come at once.
    #[must_use]
    pub fn per_minute(cells: usize) -> Self {
        let cells = cells.max(1) as u64;
        Self { cells, period: Duration::from_secs(60), burst: cells }
    }

    /// In how many nanoseconds so many cells come back, rounded up: nobody gets more than the rate.
    #[must_use]
    pub fn nanos(self, cells: u64) -> u64 {
        let nanos = (u128::from(cells) * self.period.as_nanos()).div_ceil(u128::from(self.cells));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How much of the burst has to be left for so many, as the time in which it comes back. More than the
    /// burst are owed, or they would never fit; a cell less does, as the first of a batch was taken with its head.
    #[must_use]
    pub fn needed_nanos(self, cells: u64) -> u64 {
        let burst = self.nanos(self.burst);
        let most = if cells > 1 { burst.saturating_sub(self.nanos(1)) } else { burst };
        self.nanos(cells).min(most)
    }

    /// Cells that may come at once.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }
}
