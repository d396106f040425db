//! The revisions of MCP that Holdfast speaks, and what differs between the legacy ones.

use std::fmt;

/// The modern revision: every request carries its own version and capabilities.
pub const MODERN: &str = "2026-07-28";

/// All modern revisions that are served, newest first.
pub const SUPPORTED_MODERN: &[&str] = &[MODERN];

/// A revision that begins with an `initialize` handshake. They are ordered by date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LegacyVersion {
    /// HTTP+SSE.
    V2024_11_05,
    /// Streamable HTTP, with batches.
    V2025_03_26,
    /// Without batches, with the version header.
    V2025_06_18,
    /// With priming events and polling.
    V2025_11_25,
}

impl LegacyVersion {
    /// What `initialize` is answered with if the client's own version is unknown (L28).
    pub const LATEST: Self = Self::V2025_11_25;
    /// What a request without any version is taken for (L27).
    pub const DEFAULT: Self = Self::V2025_03_26;
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25];

    /// The revision of exactly this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    /// Whether batches are accepted: required in 2025-03-26, not forbidden before, forbidden since (L6).
    #[must_use]
    pub fn allows_batches(self) -> bool {
        self <= Self::V2025_03_26
    }

    /// Whether streams begin with an event with empty data; older clients choke on it (L12).
    #[must_use]
    pub fn primes(self) -> bool {
        self >= Self::V2025_11_25
    }
}

impl fmt::Display for LegacyVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_exactly() {
        for version in LegacyVersion::ALL {
            assert_eq!(LegacyVersion::parse(version.as_str()), Some(version));
        }
        for text in ["", "2025-11-25 ", MODERN, "2025-3-26", "latest"] {
            assert_eq!(LegacyVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn features_follow_the_date() {
        assert!(LegacyVersion::ALL.is_sorted());
        let batches = LegacyVersion::ALL.map(LegacyVersion::allows_batches);
        assert_eq!(batches, [true, true, false, false]);
        assert_eq!(LegacyVersion::ALL.map(LegacyVersion::primes), [false, false, false, true]);
    }
}
