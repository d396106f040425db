//! Messages may have been lost, or what was refused may be what a node said whose key or clock is wrong. Both count
//! as missed, but not each time: whoever reaches the NATS must not be able to keep nodes busy reading their logs.

use std::time::Duration;

use tokio::time::Instant;

/// Between two readings of the logs, at most. An event of a node that is not believed is late by as much.
const LONGEST: Duration = Duration::from_secs(30);

/// Between the first two because of what was lost. Then it doubles, until a long time nothing is.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Doubt {
    shortest: Duration,
    /// Until the next one counts.
    pause: Duration,
    counted: Option<Instant>,
    /// It arose since.
    again: bool,
}

impl Doubt {
    /// Because of what was refused: everybody can send that.
    pub(super) const fn of_refusals() -> Self {
        Self::pausing(LONGEST)
    }

    /// Because of what was lost: that happens by itself, but can be brought about as well.
    pub(super) const fn of_losses() -> Self {
        Self::pausing(SHORTEST)
    }

    const fn pausing(shortest: Duration) -> Self {
        Self { shortest, pause: shortest, counted: None, again: false }
    }

    /// Whether it counts as missed now.
    pub(super) fn arises(&mut self) -> bool {
        let quiet = self.counted.map(|counted| counted.elapsed());
        self.again = quiet.is_some_and(|quiet| quiet < self.pause);
        if !self.again {
            let goes_on = quiet.is_some_and(|quiet| quiet < self.pause + LONGEST);
            self.pause = if goes_on { (self.pause * 2).min(LONGEST) } else { self.shortest };
            self.counted = Some(Instant::now());
        }
        !self.again
    }

    /// Waits until what arose since the last time counts as missed.
    pub(super) async fn ripens(&self) {
        match self.counted.filter(|_| self.again) {
            Some(counted) => tokio::time::sleep_until(counted + self.pause).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn however_much_is_refused_it_counts_seldom_and_the_last_one_counts() {
        let (mut doubt, began) = (Doubt::of_refusals(), Instant::now());
        let quiet = async |doubt: &Doubt| tokio::time::timeout(LONGEST * 2, doubt.ripens()).await.is_err();
        assert!(quiet(&doubt).await);
        assert!(doubt.arises());
        assert!(quiet(&doubt).await, "nothing came since");
        let began_again = Instant::now();
        assert!(doubt.arises(), "it was long ago: {:?}", began.elapsed());
        for _ in 0..100 {
            assert!(!doubt.arises());
            tokio::time::advance(LONGEST / 200).await;
        }
        doubt.ripens().await;
        assert_eq!(began_again.elapsed(), LONGEST);
        assert!(doubt.arises());
        assert!(quiet(&doubt).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_counts_at_once_and_what_is_lost_all_the_time_ever_more_seldom() {
        let (mut doubt, began) = (Doubt::of_losses(), Instant::now());
        let mut counted = Vec::new();
        while began.elapsed() < Duration::from_secs(150) {
            if doubt.arises() {
                counted.push(began.elapsed().as_secs());
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(counted, [0, 1, 3, 7, 15, 31, 61, 91, 121]);
        tokio::time::advance(LONGEST * 2).await;
        assert!(doubt.arises());
        tokio::time::advance(SHORTEST / 2).await;
        assert!(!doubt.arises());
        let since = Instant::now();
        doubt.ripens().await;
        assert_eq!(since.elapsed(), SHORTEST / 2, "after a long quiet it begins anew");
    }
}
