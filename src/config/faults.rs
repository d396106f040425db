//! What is wrong with a configuration, and where it was written. Whoever finds a fault says what was
//! found and what is wanted; sorting and printing happen here.

use std::fmt;
use std::sync::Arc;

/// Where a value was written. The order of the variants is the order in which faults are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody wrote it: the fault concerns the configuration as a whole.
    Nowhere,
    /// Line and column count from 1.
    File {
        file: Arc<str>,
        line: usize,
        column: usize,
    },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("configuration"),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong, on one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub origin: Origin,
    /// The key, such as `limits.sessions_max`; empty when no key is meant.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration, sorted by where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort();
        faults.dedup();
        Self(faults)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 fault in the configuration:")?,
            count => write!(f, "{count} faults in the configuration:")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

/// Text that somebody wrote, fit for a fault: in backticks, escaped, cut when long, and without what a
/// URL may hide (user name and password, query).
pub(super) fn quoted(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let text = redacted(text);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("`{}…`", escaped(&text[..end])),
        None => format!("`{}`", escaped(&text)),
    }
}

/// Fit for one line of a terminal: without control characters and those that reorder text.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                shown.extend(character.escape_unicode());
            }
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    match rest.split_once(['?', '#']) {
        Some((rest, _)) => format!("{scheme}://{user}{rest}?…"),
        None => format!("{scheme}://{user}{rest}"),
    }
}

/// `; did you mean …?` when a candidate is near, otherwise nothing.
pub(super) fn did_you_mean<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(written, candidates).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

pub(super) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    const DISTANCE_MAX: usize = 4;
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(written.len()) <= DISTANCE_MAX)
        .map(|candidate| (strsim::osa_distance(written, candidate), candidate))
        .filter(|&(distance, candidate)| {
            distance <= (candidate.len().min(written.len()) / 3).clamp(1, DISTANCE_MAX)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_shown_safely() {
        fn check(text: &str, expected: &str) {
            assert_eq!(quoted(text), expected);
        }
        check("plain", "`plain`");
        check("two\nlines\u{1b}[31m", "`two\\nlines\\u{1b}[31m`");
        check("turned \u{202e}round", "`turned \\u{202e}round`");
        check("redis://user:secret@host:6379/0", "`redis://…@host:6379/0`");
        check("redis://user:se@cret@host", "`redis://…@host`");
        check("http://host/mcp?api_key=secret", "`http://host/mcp?…`");
        check("redis://user:sec?r#et@host", "`redis://…@host`");
        check(&"x".repeat(200), &format!("`{}…`", "x".repeat(80)));
    }

    #[test]
    fn suggestions_are_near() {
        fn check(written: &str, expected: &str) {
            assert_eq!(did_you_mean(written, ["listen", "limits", "state"]), expected);
        }
        check("lisen", "; did you mean `listen`?");
        check("limit", "; did you mean `limits`?");
        check("Listen", "; did you mean `listen`?");
        check("colour", "");
        check("", "");
    }
}
