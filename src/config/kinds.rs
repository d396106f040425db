//! The kinds of values a key can have. Each kind checks a value and describes it in one place, so that
//! the check and the reference can't disagree.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use url::Url;

use super::catalogue::Shape;
use super::reader::Section;
use super::secret::Secret;
use super::units::{self, Reason};
use super::web;

impl Section<'_, '_> {
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
        doc: &'static str,
    ) -> Duration {
        let shape = Shape {
            kind: "duration",
            default: units::show_duration(&default),
            range: shown(&range, units::show_duration),
            doc,
        };
        self.single(key, shape, |text| within(units::duration(text)?, &range)).unwrap_or(default)
    }

    /// A duration, or `off` for none.
    pub fn duration_or_off(
        &mut self,
        key: &'static str,
        default: Option<Duration>,
        range: RangeInclusive<Duration>,
        doc: &'static str,
    ) -> Option<Duration> {
        let shape = Shape {
            kind: "duration",
            default: default.as_ref().map_or("off".to_owned(), units::show_duration),
            range: format!("{}, or `off`", shown(&range, units::show_duration)),
            doc,
        };
        self.single(key, shape, |text| or_off(text, units::duration, &range)).unwrap_or(default)
    }

    /// A duration that takes the place of another key's.
    pub fn duration_instead_of(
        &mut self,
        key: &'static str,
        other: &'static str,
        range: RangeInclusive<Duration>,
        doc: &'static str,
    ) -> Option<Duration> {
        let shape = Shape {
            kind: "duration",
            default: format!("`{other}`"),
            range: shown(&range, units::show_duration),
            doc,
        };
        self.single(key, shape, |text| within(units::duration(text)?, &range))
    }

    pub fn bytes(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
        doc: &'static str,
    ) -> usize {
        let shape = Shape {
            kind: "size",
            default: units::show_bytes(&default),
            range: shown(&range, units::show_bytes),
            doc,
        };
        self.single(key, shape, |text| within(units::bytes(text)?, &range)).unwrap_or(default)
    }

    pub fn count(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
        doc: &'static str,
    ) -> usize {
        let shape = Shape {
            kind: "number",
            default: default.to_string(),
            range: shown(&range, usize::to_string),
            doc,
        };
        self.single(key, shape, |text| within(units::count(text)?, &range)).unwrap_or(default)
    }

    /// A number, or `off` for none.
    pub fn count_or_off(
        &mut self,
        key: &'static str,
        default: Option<usize>,
        range: RangeInclusive<usize>,
        doc: &'static str,
    ) -> Option<usize> {
        let shape = Shape {
            kind: "number",
            default: default.map_or("off".to_owned(), |default| default.to_string()),
            range: format!("{}, or `off`", shown(&range, usize::to_string)),
            doc,
        };
        self.single(key, shape, |text| or_off(text, units::count, &range)).unwrap_or(default)
    }

    /// A number that, where it isn't given, is another key's.
    pub fn count_instead_of(
        &mut self,
        key: &'static str,
        other: &'static str,
        range: RangeInclusive<usize>,
        doc: &'static str,
    ) -> Option<usize> {
        let shape = Shape {
            kind: "number",
            default: format!("`{other}`"),
            range: shown(&range, usize::to_string),
            doc,
        };
        self.single(key, shape, |text| within(units::count(text)?, &range))
    }

    /// A size, or `off` (the default) for none.
    pub fn bytes_or_off(
        &mut self,
        key: &'static str,
        range: RangeInclusive<usize>,
        doc: &'static str,
    ) -> Option<usize> {
        let shape = Shape {
            kind: "size",
            default: "off".to_owned(),
            range: format!("{}, or `off`", shown(&range, units::show_bytes)),
            doc,
        };
        self.single(key, shape, |text| or_off(text, units::bytes, &range)).flatten()
    }

    pub fn switch(&mut self, key: &'static str, default: bool, doc: &'static str) -> bool {
        let default_text = if default { "on" } else { "off" };
        let shape =
            Shape { kind: "switch", default: default_text.into(), range: "`on` or `off`".into(), doc };
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" => Ok(true),
            "off" | "false" | "no" => Ok(false),
            _ => Err(Reason::Borrowed("is neither")),
        };
        self.single(key, shape, parse).unwrap_or(default)
    }

    /// One of several words.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
        doc: &'static str,
    ) -> T {
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let default_word = choices.iter().find(|(_, choice)| *choice == default);
        let shape = Shape {
            kind: "choice",
            default: default_word.map_or_else(String::new, |(word, _)| (*word).to_owned()),
            range: words.join(", "),
            doc,
        };
        // Tools that read YAML 1.1, Helm among them, write `off` and `on` like this.
        let written = |text: &str, word: &str| matches!((text, word), ("false", "off") | ("true", "on"));
        let parse = |text: &str| {
            let chosen = choices.iter().find(|(word, _)| *word == text || written(text, word));
            chosen.map(|(_, choice)| *choice).ok_or(Reason::Borrowed("is none of them"))
        };
        self.single(key, shape, parse).unwrap_or(default)
    }

    /// `IP:PORT`, or `localhost:PORT`.
    pub fn address(&mut self, key: &'static str, default: SocketAddr, doc: &'static str) -> SocketAddr {
        let shape = Shape {
            kind: "address",
            default: default.to_string(),
            range: "such as `127.0.0.1:4444`, `[::1]:4444` or `0.0.0.0:4444`".into(),
            doc,
        };
        let parse = |text: &str| match text.strip_prefix("localhost:").map(str::parse) {
            Some(Ok(port)) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            _ => text.parse().map_err(|_| Reason::Borrowed("is not an IP address with a port")),
        };
        self.single(key, shape, parse).unwrap_or(default)
    }

    /// An `http` or `https` URL, without user name, query or fragment. There is no default.
    pub fn url(&mut self, key: &'static str, doc: &'static str) -> Option<Url> {
        let shape = Shape { kind: "URL", default: "none".into(), range: web::RANGE.into(), doc };
        self.single(key, shape, |text| web::url(text).and_then(web::without_query))
    }

    /// An `http` or `https` URL, which may have a query. It is a fault when it isn't given.
    pub fn required_url(&mut self, key: &'static str, doc: &'static str) -> Option<Url> {
        let shape = Shape { kind: "URL", default: "must be given".into(), range: web::RANGE.into(), doc };
        let url = self.single(key, shape, web::url);
        if !self.was_given(key) {
            self.missing(key);
        }
        url
    }

    /// What stands behind a port, chosen by URL. `parse` knows the kinds that are built in.
    pub(super) fn backend<T>(
        &mut self,
        key: &'static str,
        default: &'static str,
        range: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
        doc: &'static str,
    ) -> Option<T> {
        let shape = Shape { kind: "URL", default: default.into(), range: range.into(), doc };
        self.single(key, shape, parse)
    }

    /// Any text that `check` agrees to; `range` says which those are.
    pub fn text(
        &mut self,
        key: &'static str,
        default: &'static str,
        range: &'static str,
        check: impl FnOnce(&str) -> Result<String, Reason>,
        doc: &'static str,
    ) -> String {
        self.optional_text(key, default, range, check, doc).unwrap_or_else(|| default.to_owned())
    }

    /// Like `text`; `otherwise` says what happens when there is none.
    pub fn optional_text(
        &mut self,
        key: &'static str,
        otherwise: &'static str,
        range: &'static str,
        check: impl FnOnce(&str) -> Result<String, Reason>,
        doc: &'static str,
    ) -> Option<String> {
        let shape = Shape { kind: "text", default: otherwise.into(), range: range.into(), doc };
        self.single(key, shape, check)
    }

    /// Texts that `check` agrees to: a list in the file, separated by commas elsewhere.
    pub fn list(
        &mut self,
        key: &'static str,
        otherwise: &'static str,
        range: &'static str,
        check: impl Fn(&str) -> Result<String, Reason>,
        doc: &'static str,
    ) -> Vec<String> {
        let shape = Shape { kind: "list", default: otherwise.into(), range: range.into(), doc };
        self.several(key, shape, check).unwrap_or_default()
    }

    /// A text that no fault and no `Debug` shows.
    pub fn secret(&mut self, key: &'static str, doc: &'static str) -> Option<Secret> {
        let shape = Shape { kind: "secret", default: "none".into(), range: "not empty".into(), doc };
        let parse = |text: &str| match text {
            "" => Err(Reason::Borrowed("is empty")),
            _ => Ok(Secret::new(text)),
        };
        self.single(key, shape, parse)
    }

    /// The same, where `range` says what `check` agrees to.
    pub fn checked_secret(
        &mut self,
        key: &'static str,
        range: &'static str,
        check: impl FnOnce(&str) -> Result<(), Reason>,
        doc: &'static str,
    ) -> Option<Secret> {
        let shape = Shape { kind: "secret", default: "none".into(), range: range.into(), doc };
        self.single(key, shape, |text| check(text).map(|()| Secret::new(text)))
    }

    /// The same. It is a fault when it isn't given.
    pub fn required_secret(
        &mut self,
        key: &'static str,
        range: &'static str,
        check: impl FnOnce(&str) -> Result<(), Reason>,
        doc: &'static str,
    ) -> Option<Secret> {
        let shape = Shape { kind: "secret", default: "must be given".into(), range: range.into(), doc };
        let secret = self.single(key, shape, |text| check(text).map(|()| Secret::new(text)));
        if !self.was_given(key) {
            self.missing(key);
        }
        secret
    }
}

fn or_off<T: PartialOrd>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, Reason>,
    range: &RangeInclusive<T>,
) -> Result<Option<T>, Reason> {
    match text {
        "off" | "false" | "no" => Ok(None),
        _ => within(parse(text)?, range).map(Some),
    }
}

fn within<T: PartialOrd>(value: T, range: &RangeInclusive<T>) -> Result<T, Reason> {
    if value < *range.start() {
        Err("is too small".into())
    } else if value > *range.end() {
        Err("is too large".into())
    } else {
        Ok(value)
    }
}

fn shown<T>(range: &RangeInclusive<T>, show: impl Fn(&T) -> String) -> String {
    format!("{} to {}", show(range.start()), show(range.end()))
}
