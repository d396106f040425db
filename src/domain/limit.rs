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
    Requests,
    RequestsRunning,
    Bytes,
    PrincipalRequests,
    PrincipalRequestsRunning,
    PrincipalBytes,
    PrincipalStreams,
    PrincipalSessions,
}

impl Limit {
    pub const ALL: [Self; 22] = [
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
        Self::Requests,
        Self::RequestsRunning,
        Self::Bytes,
        Self::PrincipalRequests,
        Self::PrincipalRequestsRunning,
        Self::PrincipalBytes,
        Self::PrincipalStreams,
        Self::PrincipalSessions,
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
            Self::Requests => "limits.requests_per_second",
            Self::RequestsRunning => "limits.requests_running_max",
            Self::Bytes => "limits.bytes_per_minute",
            Self::PrincipalRequests => "limits.principal.requests_per_second",
            Self::PrincipalRequestsRunning => "limits.principal.requests_running_max",
            Self::PrincipalBytes => "limits.principal.bytes_per_minute",
            Self::PrincipalStreams => "limits.principal.streams_max",
            Self::PrincipalSessions => "limits.principal.sessions_max",
        }
    }
}
