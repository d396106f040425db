//! The bytes of one body. What its head announces is counted at once, so that it is refused whole and before
//! it is read; what comes unannounced (chunked) as it is read.

use std::sync::Arc;

use super::bucket::Bucket;
use super::{Account, Exceeded, Limits};
use crate::domain::{Limit, Rate};

/// Counts what is read of a body.
#[derive(Debug)]
pub struct Intake {
    limits: Limits,
    account: Option<(Rate, Arc<Account>)>,
    /// Counted, and not read yet.
    ahead: u64,
}

impl Intake {
    pub(super) fn begin(
        limits: Limits,
        account: Option<(Rate, Arc<Account>)>,
        announced: Option<u64>,
    ) -> Result<Self, Exceeded> {
        let mut intake = Self { limits, account, ahead: 0 };
        intake.count(announced.unwrap_or_default())?;
        intake.ahead = announced.unwrap_or_default();
        Ok(intake)
    }

    /// So many bytes came.
    ///
    /// # Errors
    /// [`Exceeded`]: no more may come.
    pub fn read(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let bytes = bytes as u64;
        let known = bytes.min(self.ahead);
        self.ahead -= known;
        self.count(bytes - known)
    }

    fn count(&self, bytes: u64) -> Result<(), Exceeded> {
        if bytes == 0 {
            return Ok(());
        }
        let now = self.limits.now();
        let take = |bucket: &Bucket, rate, limit| {
            bucket.take(rate, now, bytes).map_err(|wait| Exceeded { limit, wait: Some(wait) })
        };
        if let Some((rate, account)) = &self.account {
            take(&account.bytes, *rate, Limit::PrincipalBytes)?;
        }
        let Some(rate) = self.limits.inner.config.total.bytes else { return Ok(()) };
        let counted = take(&self.limits.inner.total.bytes, rate, Limit::Bytes);
        counted.inspect_err(|_| self.give_back_own(bytes))
    }

    fn give_back_own(&self, bytes: u64) {
        if let Some((rate, account)) = &self.account {
            account.bytes.give_back(*rate, bytes);
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.ahead > 0 {
            self.give_back_own(self.ahead);
            if let Some(rate) = self.limits.inner.config.total.bytes {
                self.limits.inner.total.bytes.give_back(rate, self.ahead);
            }
        }
    }
}
