//! Labels of credentials and what is found of them.

use super::Label;

labels! {
    /// What a request came with.
    pub enum Credential {
        /// Nothing that could be looked at.
        None = "none",
        /// A token that no issuer here could know.
        Unknown = "unknown",
        Static = "static",
        Jwt = "jwt",
        /// An issuer was asked about it.
        Introspected = "introspected",
        /// Nothing, where that is enough.
        Anonymous = "anonymous",
    }

    /// What was found of a credential.
    pub enum AuthOutcome {
        Accepted = "accepted",
        /// There is none, or it has another scheme than Bearer.
        Missing = "missing",
        Malformed = "malformed",
        /// Nobody here knows it, its signature is not good, or it is no longer active.
        Invalid = "invalid",
        Expired = "expired",
        Premature = "premature",
        /// It never expires.
        Endless = "endless",
        WrongAudience = "wrong_audience",
        NoSubject = "no_subject",
        /// It needs a proof that is not taken here.
        Bound = "bound",
        InsufficientScope = "insufficient_scope",
        /// It may be good: whoever could tell can't be reached.
        Unavailable = "unavailable",
    }

    /// What an issuer said of a token.
    pub enum Introspected {
        Active = "active",
        Inactive = "inactive",
        /// It could not be asked, or said nothing that could be used.
        Failed = "failed",
        /// Nothing in time.
        Late = "late",
    }
}

impl Credential {
    pub(in crate::telemetry) const fn can_be(self, verdict: AuthOutcome) -> bool {
        match self {
            Self::None => matches!(verdict, AuthOutcome::Missing | AuthOutcome::Malformed),
            Self::Unknown => matches!(verdict, AuthOutcome::Invalid),
            Self::Static | Self::Anonymous => {
                matches!(verdict, AuthOutcome::Accepted | AuthOutcome::InsufficientScope)
            }
            Self::Jwt | Self::Introspected => {
                !matches!(verdict, AuthOutcome::Missing | AuthOutcome::Malformed)
            }
        }
    }
}
