//! What is refused may be what a node of this cluster said, with a key or a clock that is wrong. So it counts as
//! missed, but not each time: whoever reaches the NATS must not be able to keep nodes busy reading their logs.

use std::time::Duration;

use tokio::time::Instant;

/// Between two readings of the logs because of what was refused. An event of a node that is not believed is
/// late by as much at most.
const PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Doubt {
    counted: Option<Instant>,
    /// Something was refused since.
    again: bool,
}

impl Doubt {
    /// Something was refused: whether that counts as missed now.
    pub(super) fn arises(&mut self) -> bool {
        let counts = self.counted.is_none_or(|counted| counted.elapsed() >= PAUSE);
        self.again = !counts;
        if counts {
            self.counted = Some(Instant::now());
        }
        counts
    }

    /// Waits until what was refused since the last time counts as missed.
    pub(super) async fn ripens(&self) {
        match self.counted.filter(|_| self.again) {
            Some(counted) => tokio::time::sleep_until(counted + PAUSE).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn however_much_is_refused_it_counts_seldom_and_the_last_one_counts() {
        let (mut doubt, began) = (Doubt::default(), Instant::now());
        let quiet = async |doubt: &Doubt| tokio::time::timeout(PAUSE * 2, doubt.ripens()).await.is_err();
        assert!(quiet(&doubt).await);
        assert!(doubt.arises());
        assert!(quiet(&doubt).await, "nothing came since");
        let began_again = Instant::now();
        assert!(doubt.arises(), "it was long ago: {:?}", began.elapsed());
        for _ in 0..100 {
            assert!(!doubt.arises());
            tokio::time::advance(PAUSE / 200).await;
        }
        doubt.ripens().await;
        assert_eq!(began_again.elapsed(), PAUSE);
        assert!(doubt.arises());
        assert!(quiet(&doubt).await);
    }
}
