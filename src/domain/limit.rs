//! The bounds that somebody can run into. Each has a name in the configuration, which is also what
//! errors and metrics call it (P8).

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    Sessions,
    Streams,
    StreamsPerSession,
    RequestsPerSession,
    Attaches,
    SubscriptionsPerSession,
    SessionBytes,
    HeaderBytes,
    HeaderTime,
    BodyBytes,
    Connections,
    SlowReader,
    RequestTime,
    StuckWrite,
}

impl Limit {
    pub const ALL: [Self; 14] = [
        Self::Sessions,
        Self::Streams,
        Self::StreamsPerSession,
        Self::RequestsPerSession,
        Self::Attaches,
        Self::SubscriptionsPerSession,
        Self::SessionBytes,
        Self::HeaderBytes,
        Self::HeaderTime,
        Self::BodyBytes,
        Self::Connections,
        Self::SlowReader,
        Self::RequestTime,
        Self::StuckWrite,
    ];

    /// The key that sets it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Sessions => "limits.sessions_max",
            Self::Streams => "limits.streams_max",
            Self::StreamsPerSession => "limits.streams_per_session_max",
            Self::RequestsPerSession => "limits.requests_per_session_max",
            Self::Attaches => "limits.attaches_max",
            Self::SubscriptionsPerSession => "limits.subscriptions_per_session_max",
            Self::SessionBytes => "limits.session_bytes_max",
            Self::HeaderBytes => "http.header_bytes_max",
            Self::HeaderTime => "http.header_timeout",
            Self::BodyBytes => "http.body_bytes_max",
            Self::Connections => "http.connections_max",
            Self::SlowReader => "streams.buffer_events_max",
            Self::RequestTime => "requests.timeout",
            Self::StuckWrite => "http.write_timeout",
        }
    }
}
