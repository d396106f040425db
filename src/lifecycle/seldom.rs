//! What would flood the log is said seldom.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(5);

/// Lets one line through in a while, and counts the others.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// How many lines were left out since the last one, if it is time for another.
    #[must_use]
    pub fn again(&self) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < PAUSE) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(Instant::now());
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_a_while_counts_the_others() {
        let seldom = Seldom::default();
        assert_eq!(seldom.again(), Some(0));
        assert_eq!((seldom.again(), seldom.again()), (None, None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(seldom.again(), Some(2));
        assert_eq!(seldom.again(), None);
    }
}
