//! Labels of a node itself: its phase, its queues, the statuses that it gives and gets.

use super::Label;

labels! {
    /// The phases of a process.
    pub enum NodePhase {
        Starting = "starting",
        Ready = "ready",
        /// Told to end: not ready, and everything is still served.
        Leaving = "leaving",
        Draining = "draining",
        Stopped = "stopped",
    }

    /// What waits for its turn.
    pub enum Queue {
        /// Messages of other nodes.
        Inbox = "inbox",
        /// Steps of relays, which wait for an answer.
        RelaySteps = "relay_steps",
        /// Events that open streams hold for their readers.
        StreamEvents = "stream_events",
        /// Ended streams whose binding is still to be given back.
        Releases = "releases",
        /// What servers are being told in passing.
        Farewells = "farewells",
    }

    /// An HTTP status, as far as it says whose fault something is.
    pub(in crate::telemetry) enum HttpStatus {
        Success = "2xx",
        Redirection = "3xx",
        Refusal = "4xx",
        Failure = "5xx",
        /// There was no answer.
        None = "none",
        /// Nobody waited for it any more.
        Dropped = "dropped",
    }
}

impl HttpStatus {
    pub(in crate::telemetry) const fn of(status: u16) -> Self {
        match status {
            ..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::Refusal,
            500.. => Self::Failure,
        }
    }
}
