//! What is said of a token, by itself (JWT, RFC 7519) or by whom it is asked about (RFC 7662, section 2.2),
//! and what of it has to be true for the token to be taken. Both by the same rules.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Flaw, Scopes};

/// What a subject may be long (`OpenID` Connect Core, section 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// What is too long for a subject, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject has 1 to {SUBJECT_BYTES_MAX} bytes, and no control characters")]
pub struct InvalidSubject;

pub(super) fn checked_subject(subject: &str) -> Result<&str, InvalidSubject> {
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && !subject.contains(char::is_control);
    if fits { Ok(subject) } else { Err(InvalidSubject) }
}

/// No stream is open for longer, whatever a token says.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    pub iss: Option<String>,
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    scope: ScopeClaim,
    /// What some issuers call it.
    #[serde(default)]
    scp: ScopeClaim,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
    #[default]
    Nobody,
}

/// Separated by spaces (RFC 8693, section 4.2), or as a list.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum ScopeClaim {
    Text(String),
    List(Vec<String>),
    #[default]
    Absent,
}

impl ScopeClaim {
    fn iter(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Text(text) => Box::new(text.split(' ').filter(|scope| !scope.is_empty())),
            Self::List(scopes) => Box::new(scopes.iter().map(String::as_str)),
            Self::Absent => Box::new(std::iter::empty()),
        }
    }
}

/// What of the claims matters here; true whatever the token is used for, and whenever.
#[derive(Debug)]
pub(super) struct Facts {
    /// Without a slash at their ends.
    audiences: Vec<String>,
    pub scopes: Scopes,
    subject: Option<String>,
    /// Seconds since 1970, as all NumericDates.
    end: Option<u64>,
    start: Start,
    bound: bool,
}

#[derive(Debug, Clone, Copy)]
enum Start {
    Ever,
    At(u64),
    Unreadable,
}

/// What an issuer's tokens have to be.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Of which one has to be named; empty: the resource's own addresses (A7).
    pub audiences: Vec<String>,
    /// What clocks may differ by.
    pub leeway: Duration,
}

impl Claims {
    /// The claim `subject` says who the token is of.
    pub(super) fn facts(self, subject: &str) -> Facts {
        let scopes = Scopes::new(self.scope.iter().chain(self.scp.iter()));
        let audiences = match self.aud {
            Audience::One(audience) => vec![audience],
            Audience::Several(audiences) => audiences,
            Audience::Nobody => Vec::new(),
        };
        let subject = self
            .others
            .get(subject)
            .and_then(Value::as_str)
            .filter(|subject| checked_subject(subject).is_ok());
        Facts {
            audiences: audiences.iter().map(|audience| bare(audience).to_owned()).collect(),
            scopes,
            subject: subject.map(str::to_owned),
            end: self.others.get("exp").and_then(seconds),
            start: match self.others.get("nbf").map(seconds) {
                None => Start::Ever,
                Some(Some(start)) => Start::At(start),
                Some(None) => Start::Unreadable,
            },
            // Whoever holds it would have to prove that it is theirs (RFC 7800), and nobody asks them to here.
            bound: self.others.contains_key("cnf"),
        }
    }

    /// What kind of token an issuer says that it is.
    pub(super) fn token_type(&self) -> Option<&str> {
        self.others.get("token_type").and_then(Value::as_str)
    }
}

impl Facts {
    /// Whose the token is, and until when, if it is good now and meant for one of `resources`.
    ///
    /// # Errors
    /// [`Flaw`].
    pub(super) fn check(&self, rules: &Rules, resources: &HashSet<String>) -> Result<(&str, Instant), Flaw> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (now, leeway) = (since.as_secs(), rules.leeway.as_secs());
        let end = self.end.ok_or(Flaw::Lifetime)?;
        match self.start {
            Start::Unreadable => return Err(Flaw::Unknown),
            _ if end < now.saturating_sub(leeway) => return Err(Flaw::Expired),
            Start::At(start) if start > now + leeway => return Err(Flaw::Premature),
            Start::At(_) | Start::Ever => {}
        }
        if self.bound {
            return Err(Flaw::Bound);
        }
        let meant = |audience: &String| match &*rules.audiences {
            [] => resources.contains(audience),
            only => only.iter().any(|only| bare(only) == audience),
        };
        if !self.audiences.iter().any(meant) {
            return Err(Flaw::Audience);
        }
        let subject = self.subject.as_deref().ok_or(Flaw::Subject)?;
        let left = Duration::from_secs(end.saturating_add(leeway)).saturating_sub(since).min(LONGEST);
        Ok((subject, Instant::now() + left))
    }

    /// How long until the end that the token says, without any leeway.
    pub(super) fn left(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(self.end.unwrap_or_default()).saturating_sub(now)
    }
}

/// Addresses that differ by a slash at their end are the same.
fn bare(audience: &str) -> &str {
    audience.strip_suffix('/').unwrap_or(audience)
}

/// A NumericDate (RFC 7519, section 2), to the second.
fn seconds(date: &Value) -> Option<u64> {
    let whole = |date: f64| (0.0..u64::MAX as f64).contains(&date).then(|| date.round() as u64);
    date.as_u64().or_else(|| date.as_f64().and_then(whole))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(change: impl FnOnce(&mut Value)) -> Result<(String, Duration), Flaw> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims =
            json!({ "sub": "alice", "aud": ["a/", "b"], "exp": now + 60, "nbf": now, "scope": "x y" });
        change(&mut claims);
        let rules = Rules { audiences: Vec::new(), leeway: Duration::from_secs(30) };
        let facts = serde_json::from_value::<Claims>(claims).map_err(|_| Flaw::Unknown)?.facts("sub");
        let (subject, until) = facts.check(&rules, &HashSet::from(["a".to_owned()]))?;
        Ok((subject.to_owned(), until - Instant::now()))
    }

    #[test]
    fn what_has_to_be_true_of_a_token() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (subject, left) = checked(|_| {}).unwrap();
        assert_eq!(subject, "alice");
        assert!((88..=90).contains(&left.as_secs()), "{left:?}");
        let check = |name: &str, to: Value, expected: Result<(), Flaw>| {
            let found = checked(|claims| claims[name] = to.clone()).map(|_| ());
            assert_eq!(found, expected, "{name}: {to}");
        };
        check("exp", json!(now - 20), Ok(()));
        check("exp", json!(now as f64 + 0.5), Ok(()));
        check("exp", json!(1e300), Err(Flaw::Lifetime));
        check("exp", json!(u64::MAX), Ok(()));
        check("exp", json!(now - 40), Err(Flaw::Expired));
        check("exp", json!("tomorrow"), Err(Flaw::Lifetime));
        check("exp", Value::Null, Err(Flaw::Lifetime));
        check("exp", json!(-1), Err(Flaw::Lifetime));
        check("nbf", json!(now + 20), Ok(()));
        check("nbf", json!(now + 40), Err(Flaw::Premature));
        check("nbf", json!("yesterday"), Err(Flaw::Unknown));
        check("aud", json!("a"), Ok(()));
        check("aud", json!("b"), Err(Flaw::Audience));
        check("aud", Value::Null, Err(Flaw::Audience));
        check("sub", json!(""), Err(Flaw::Subject));
        check("sub", json!("a\nb"), Err(Flaw::Subject));
        check("sub", json!("x".repeat(256)), Err(Flaw::Subject));
        check("cnf", json!({}), Err(Flaw::Bound));
        check("scope", json!({ "x": true }), Err(Flaw::Unknown));
    }
}
