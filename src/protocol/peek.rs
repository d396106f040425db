//! Reading single members out of a JSON text without building a tree: every value stays a slice of the input, so
//! what is passed on is passed on byte for byte (P9), and nesting costs no stack.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{error::Category, value::RawValue};

/// The members of one object that were asked for, as JSON text.
#[derive(Debug)]
pub(super) struct Members<'a, const N: usize> {
    pub(super) values: [Option<&'a str>; N],
    /// A name that was asked for occurs twice: parsers differ in which one they believe, so nobody should.
    pub(super) duplicate: bool,
}

/// Why a text has no members.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotAnObject {
    /// Not JSON at all.
    NotJson,
    /// JSON, but another kind of value.
    OtherValue,
}

/// The elements of an array that were wanted, as JSON text, and whether there were more.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    pub(super) values: Vec<&'a str>,
    pub(super) more: bool,
}

/// Reads the members called `names` of the object `json`. The whole text is checked against JSON's grammar.
pub(super) fn members<'a, const N: usize>(
    json: &'a str,
    names: &[&str; N],
) -> Result<Members<'a, N>, NotAnObject> {
    read(json, Pick { names })
}

/// The members called `names`, or nothing unless `json` is an object in which each occurs at most once.
pub(super) fn object<'a, const N: usize>(json: &'a str, names: &[&str; N]) -> Option<[Option<&'a str>; N]> {
    members(json, names).ok().filter(|members| !members.duplicate).map(|members| members.values)
}

/// All member names of the object `json`, in their order.
pub(super) fn names(json: &str) -> Option<Vec<String>> {
    read(json, Names).ok()
}

/// Whether a member of the object `json` has a name that some parsers take for one of `known`, and others don't:
/// they fold letters, or drop what can't be seen.
pub(super) fn has_lookalikes(json: &str, known: &[&str]) -> bool {
    let plain = |name: &str| -> String {
        let seen = name.chars().filter(|letter| !letter.is_control() && !letter.is_whitespace());
        // By way of upper case: `ſ` has no other lower case than itself.
        seen.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
    };
    let names = names(json).unwrap_or_default();
    names.iter().any(|name| !known.contains(&&**name) && known.contains(&&*plain(name)))
}

/// The first `max` elements of the array `json`; `OtherValue` if it is no array.
pub(super) fn elements(json: &str, max: usize) -> Result<Elements<'_>, NotAnObject> {
    read(json, List { max })
}

/// The value of a JSON string; nothing for any other value and for escapes that form no Unicode text.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr2(b'\\', b'"', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// Whether a JSON text without outer white space is an object.
pub(super) fn is_object(json: &str) -> bool {
    json.starts_with('{')
}

/// `json` with its member `name` set to `value` (JSON text) and every other byte kept; `None` if it is no object or
/// has the member twice.
pub(super) fn with_member(json: &str, name: &str, value: &str) -> Option<String> {
    let [found] = object(json, &[name])?;
    let mut text = String::with_capacity(json.len() + name.len() + value.len() + 8);
    if let Some(old) = found {
        let start = offset(json, old);
        text.push_str(&json[..start]);
        text.push_str(value);
        text.push_str(&json[start + old.len()..]);
        return Some(text);
    }
    let (before, rest) = json.split_once('{')?;
    text.push_str(before);
    text.push('{');
    text.push_str(&quoted(name));
    text.push(':');
    text.push_str(value);
    if !rest.trim_start().starts_with('}') {
        text.push(',');
    }
    text.push_str(rest);
    Some(text)
}

/// The JSON string for `text`.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Where `part`, a slice of `whole`, begins.
pub(super) fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

fn read<'a, S: DeserializeSeed<'a>>(json: &'a str, seed: S) -> Result<S::Value, NotAnObject> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let outcome = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    outcome.map_err(|err| match err.classify() {
        // The wrong kind is noticed at the first byte; whether the rest is JSON is still open.
        Category::Data if serde_json::from_str::<IgnoredAny>(json).is_ok() => NotAnObject::OtherValue,
        Category::Data | Category::Syntax | Category::Eof | Category::Io => NotAnObject::NotJson,
    })
}

struct Pick<'n, const N: usize> {
    names: &'n [&'n str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Pick<'_, N> {
    type Value = Members<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = Members<'de, N>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members { values: [None; N], duplicate: false };
        while let Some(index) = map.next_key_seed(NameIndex { names: self.names })? {
            let Some(index) = index else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &'de RawValue = map.next_value()?;
            members.duplicate |= members.values[index].replace(value.get()).is_some();
        }
        Ok(members)
    }
}

struct NameIndex<'n> {
    names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for NameIndex<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIndex<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|wanted| *wanted == name))
    }
}

struct Names;

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Vec<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            names.push(name);
        }
        Ok(names)
    }
}

struct List {
    max: usize,
}

impl<'de> DeserializeSeed<'de> for List {
    type Value = Elements<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Elements<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while values.len() < self.max {
            let Some(value) = sequence.next_element::<&'de RawValue>()? else {
                return Ok(Elements { values, more: false });
            };
            values.push(value.get());
        }
        let mut more = false;
        while sequence.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(Elements { values, more })
    }
}
