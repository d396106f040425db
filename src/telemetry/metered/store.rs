//! The session store and the rates beside it, measured. What their answers say of claims and fences is counted
//! here too: whoever asks, it is said nowhere else.

use super::Metered;
use crate::domain::{
    Fence, NodeId, Principal, Rate, ServerName, SessionId, SessionPart, StreamKey, Transport,
};
use crate::ports::{
    Append, Appended, Attach, Attached, Beat, Begin, Begun, CloseIf, Closed, Durability, Inspected, Lease,
    Mark, Opened, Page, PortFuture, Query, RateLimits, SeenNode, SessionStore, Steal, Stolen, StoreError,
    Taken, Updated,
};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{Claim, FenceOutcome, FenceStep, StoreOutcome, StoreStep};

type Answer<'a, T> = PortFuture<'a, Result<T, StoreError>>;

/// Waits for the answer; `look` sees it.
fn passed<'a, T: 'a>(
    metrics: &'a Metrics,
    step: StoreStep,
    asked: Answer<'a, T>,
    look: impl FnOnce(&Result<T, StoreError>) + Send + 'a,
) -> Answer<'a, T> {
    Box::pin(async move {
        let timed = metrics.store_step(step);
        let answer = asked.await;
        let outcome = match &answer {
            Ok(_) => StoreOutcome::Ok,
            Err(StoreError::Unavailable) => StoreOutcome::Unavailable,
            Err(StoreError::Unknown) => StoreOutcome::Unknown,
        };
        timed.ended(metrics.store_outcome(step, outcome));
        look(&answer);
        answer
    })
}

impl<S: SessionStore + ?Sized> Metered<S> {
    fn passed<'a, T: 'a>(&'a self, step: StoreStep, asked: Answer<'a, T>) -> Answer<'a, T> {
        passed(&self.metrics, step, asked, |_| ())
    }

    /// With what it says of a fence.
    fn fenced<'a, T: 'a>(
        &'a self,
        step: StoreStep,
        asked: Answer<'a, T>,
        fence: FenceStep,
        of: impl FnOnce(&T) -> Option<FenceOutcome> + Send + 'a,
    ) -> Answer<'a, T> {
        passed(&self.metrics, step, asked, move |answer| {
            if let Some(outcome) = answer.as_ref().ok().and_then(of) {
                self.metrics.fenced(fence, outcome);
            }
        })
    }
}

impl<S: SessionStore + ?Sized> SessionStore for Metered<S> {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn known_sessions(&self) -> usize {
        self.inner.known_sessions()
    }

    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> Answer<'a, Opened> {
        let asked = self.inner.open(id, server, owner, transport);
        passed(&self.metrics, StoreStep::Open, asked, move |answer| {
            self.metrics.claimed(match answer {
                Ok(Opened::Owned(effective)) if effective == owner => Claim::Claimed,
                Ok(Opened::Owned(_)) => Claim::Foreign,
                Ok(Opened::Full) => Claim::Full,
                Err(StoreError::Unavailable | StoreError::Unknown) => Claim::Unavailable,
            });
        })
    }

    fn load<'a>(&'a self, id: &'a SessionId) -> Answer<'a, Option<crate::domain::Session>> {
        self.passed(StoreStep::Load, self.inner.load(id))
    }

    fn update<'a>(&'a self, id: &'a SessionId, part: SessionPart) -> Answer<'a, Updated> {
        self.passed(StoreStep::Update, self.inner.update(id, part))
    }

    fn begin<'a>(&'a self, begin: &'a Begin) -> Answer<'a, Begun> {
        self.fenced(StoreStep::Begin, self.inner.begin(begin), FenceStep::Begin, |begun| match begun {
            Begun::Recorded { .. } => Some(FenceOutcome::Granted),
            Begun::Duplicate(_) | Begun::Gone => None,
        })
    }

    fn append<'a>(&'a self, append: &'a Append) -> Answer<'a, Appended> {
        let shown = append.request.is_some() || append.reader.is_some();
        self.fenced(StoreStep::Append, self.inner.append(append), FenceStep::Append, move |appended| {
            match appended {
                Appended::Logged { .. } => shown.then_some(FenceOutcome::Held),
                Appended::StaleFence => Some(FenceOutcome::Refused),
                Appended::Forgotten | Appended::Ended | Appended::Gone => None,
            }
        })
    }

    fn mark<'a>(&'a self, mark: &'a Mark) -> Answer<'a, ()> {
        self.passed(StoreStep::Mark, self.inner.mark(mark))
    }

    fn steal<'a>(&'a self, steal: &'a Steal) -> Answer<'a, Stolen> {
        self.fenced(StoreStep::Steal, self.inner.steal(steal), FenceStep::Steal, |stolen| match stolen {
            Stolen::Taken(_) => Some(FenceOutcome::Granted),
            Stolen::Lost => Some(FenceOutcome::Refused),
            Stolen::Gone => None,
        })
    }

    fn attach<'a>(&'a self, attach: &'a Attach) -> Answer<'a, Attached> {
        let (step, good) = match attach.reassert {
            Some(_) => (FenceStep::Reassert, FenceOutcome::Held),
            None => (FenceStep::Attach, FenceOutcome::Granted),
        };
        self.fenced(StoreStep::Attach, self.inner.attach(attach), step, move |attached| match attached {
            Attached::Bound { .. } => Some(good),
            Attached::TooLate | Attached::Superseded(_) => Some(FenceOutcome::Refused),
            Attached::Ended | Attached::Lost { .. } | Attached::Unknown | Attached::Gone => None,
        })
    }

    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> Answer<'a, ()> {
        self.passed(StoreStep::Release, self.inner.release(stream, fence))
    }

    fn touch<'a>(&'a self, sessions: &'a [SessionId]) -> Answer<'a, Vec<SessionId>> {
        self.passed(StoreStep::Touch, self.inner.touch(sessions))
    }

    fn close<'a>(&'a self, id: &'a SessionId, condition: &'a CloseIf) -> Answer<'a, Option<Closed>> {
        self.passed(StoreStep::Close, self.inner.close(id, condition))
    }

    fn reap<'a>(&'a self, limit: usize) -> Answer<'a, Vec<Closed>> {
        self.passed(StoreStep::Reap, self.inner.reap(limit))
    }

    fn find<'a>(&'a self, query: &'a Query) -> Answer<'a, Page> {
        self.passed(StoreStep::Find, self.inner.find(query))
    }

    fn inspect<'a>(&'a self, id: &'a SessionId) -> Answer<'a, Option<Inspected>> {
        self.passed(StoreStep::Inspect, self.inner.inspect(id))
    }

    fn hint<'a>(&'a self, server: &'a ServerName, method: &'a str) -> Answer<'a, ()> {
        self.passed(StoreStep::Hint, self.inner.hint(server, method))
    }

    fn hints<'a>(&'a self, server: &'a ServerName) -> Answer<'a, Vec<(String, u64)>> {
        self.passed(StoreStep::Hints, self.inner.hints(server))
    }

    fn beat<'a>(&'a self, lease: &'a Lease) -> Answer<'a, Beat> {
        self.passed(StoreStep::Beat, self.inner.beat(lease))
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> Answer<'a, ()> {
        self.passed(StoreStep::Leave, self.inner.leave(node))
    }

    fn nodes(&self) -> Answer<'_, Vec<SeenNode>> {
        self.passed(StoreStep::Nodes, self.inner.nodes())
    }
}

impl<R: RateLimits + ?Sized> RateLimits for Metered<R> {
    fn take<'a>(&'a self, principal: &'a Principal, rate: Rate, requests: u64) -> Answer<'a, Taken> {
        passed(&self.metrics, StoreStep::Rate, self.inner.take(principal, rate, requests), |_| ())
    }
}
