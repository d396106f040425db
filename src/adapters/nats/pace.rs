//! How soon a connection that was lost is made anew. At once, nearly, after a long quiet; but whoever can end the
//! connection with a message could do so each time that it is back, for all nodes together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_millis(100);

/// Between attempts, while the server can't be reached.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);

/// Before the first attempt, if connections are lost again and again.
const LOSS_MAX: Duration = Duration::from_secs(2);

/// A connection that stood for so long is as good as the first.
const QUIET: Duration = Duration::from_secs(30);

/// Of one process, whichever client connects.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Losses>);

#[derive(Debug, Default)]
struct Losses {
    last: Option<Instant>,
    in_a_row: u32,
}

impl Pace {
    /// How long to wait before this attempt to connect, counted from 1 since there was a connection.
    pub(super) fn pause(&self, attempt: usize) -> Duration {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt <= 1 {
            let again = losses.last.is_some_and(|last| last.elapsed() < QUIET);
            losses.in_a_row = if again { losses.in_a_row.saturating_add(1) } else { 0 };
        }
        losses.last = Some(Instant::now());
        let doubled = |times: u32| SHORTEST * 2_u32.pow(times.min(10));
        let attempts = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = doubled(attempts).min(ATTEMPT_MAX).max(doubled(losses.in_a_row).min(LOSS_MAX));
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_about(pause: Duration, longest: Duration) {
        assert!(longest / 2 <= pause && pause <= longest, "{pause:?} for {longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_again_and_again_is_made_anew_ever_later_until_it_has_stood_for_a_while() {
        let pace = Pace::default();
        for longest in [100, 200, 400, 800, 1600, 2000, 2000] {
            is_about(pace.pause(1), Duration::from_millis(longest));
            tokio::time::advance(QUIET / 2).await;
        }
        tokio::time::advance(QUIET).await;
        for (attempt, longest) in [(1, 100), (2, 200), (3, 400), (5, 1000), (100_000, 1000)] {
            is_about(pace.pause(attempt), Duration::from_millis(longest));
        }
        is_about(pace.pause(1), Duration::from_millis(200));
    }
}
