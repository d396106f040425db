//! What can be done at one place in the configuration: read a key, a list, a section or a map of them,
//! and note what is wrong. The kinds of values are in `kinds.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::catalogue::{NAME, Shape, join};
use super::document::{Node, Value};
use super::faults::{Origin, escaped, quoted};
use super::reader::{Purpose, Section, Written, shown};
use super::units::{Reason, show_duration};

impl<'a> Section<'_, 'a> {
    /// Reads one key whose value is a single text; `None` when it isn't given or is wrong.
    pub(super) fn single<T>(
        &mut self,
        key: &'static str,
        shape: Shape,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Option<T> {
        let wanted = Wanted::of(&shape);
        let (written, origin) = self.take(key, shape)?;
        let path = join(&self.path, key);
        let text = match written {
            Written::Text(text) => text.trim(),
            Written::Node(Node { value: Value::Scalar(text), .. }) => text.as_str(),
            Written::Node(node) => {
                self.wrong_kind(origin, &path, node, &wanted);
                return None;
            }
        };
        parse(text).map_err(|reason| self.reader.fault(origin, &path, wanted.refuse(text, &reason))).ok()
    }

    /// Reads one key whose value is a list: of the file, or separated by commas.
    pub(super) fn several<T>(
        &mut self,
        key: &'static str,
        shape: Shape,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Option<Vec<T>> {
        let wanted = Wanted::of(&shape);
        let (written, origin) = self.take(key, shape)?;
        let path = join(&self.path, key);
        let texts: Vec<(&str, Origin)> = match written {
            Written::Text(text) => text
                .split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(|text| (text, origin.clone()))
                .collect(),
            Written::Node(Node { value: Value::List(nodes), .. }) => {
                let mut texts = Vec::new();
                for node in nodes {
                    let origin = self.reader.at(node.position);
                    match &node.value {
                        Value::Scalar(text) => texts.push((text.as_str(), origin)),
                        _ => self.wrong_kind(origin, &path, node, &wanted),
                    }
                }
                texts
            }
            Written::Node(Node { value: Value::Scalar(text), .. }) => {
                let (found, list) = (wanted.show(text), wanted.show(&format!("[{text}]")));
                let message = format!("found {found}; write {list}; wanted: {}", wanted.text);
                self.reader.fault(origin, &path, message);
                return None;
            }
            Written::Node(node) => {
                self.wrong_kind(origin, &path, node, &wanted);
                return None;
            }
        };
        let mut values = Vec::new();
        for (text, origin) in texts {
            match parse(text) {
                Ok(value) => values.push(value),
                Err(reason) => self.reader.fault(origin, &path, wanted.refuse(text, &reason)),
            }
        }
        Some(values)
    }

    /// Reads the section below a key.
    pub fn section<T>(
        &mut self,
        key: &'static str,
        doc: &'static str,
        read: impl FnOnce(&mut Section<'_, 'a>) -> T,
    ) -> T {
        self.asked.push(key);
        let path = join(&self.path, key);
        let (node, origin) = self.below(key, &path);
        self.reader.enter(path, node, origin, doc, read)
    }

    /// Reads a section for every name below a key. `read` answers `None` for one that is wrong.
    pub fn map<T>(
        &mut self,
        key: &'static str,
        doc: &'static str,
        mut read: impl FnMut(&str, &mut Section<'_, 'a>) -> Option<T>,
    ) -> BTreeMap<String, T> {
        self.asked.push(key);
        let path = join(&self.path, key);
        let (node, _) = self.below(key, &path);
        let mut names = self.reader.given.names(&path);
        match node.map(|node| (node, &node.value)) {
            Some((_, Value::Map(entries))) => names.extend(entries.keys().cloned()),
            Some((node, value @ (Value::Scalar(_) | Value::List(_)))) => {
                let message = format!("found {}; wanted: names, each with its keys below it", shown(value));
                self.reader.fault(self.reader.at(node.position), &path, message);
            }
            Some((_, Value::Nothing | Value::Refused)) | None => {}
        }
        let describing = matches!(self.reader.purpose, Purpose::Describe(_));
        if describing {
            names = BTreeSet::from([NAME.to_owned()]);
        }
        let mut values = BTreeMap::new();
        for name in names {
            let inner = Section {
                reader: &mut *self.reader,
                path: path.clone(),
                node,
                origin: Origin::Nowhere,
                asked: Vec::new(),
            };
            let inner_path = join(&path, &name);
            let (node, origin) = inner.below(&name, &inner_path);
            let valid = describing || is_name(&name);
            if !valid {
                let message = format!(
                    "{} is not a name; wanted: a-z, 0-9, `_` and `-`, beginning with a letter or digit, \
                     63 characters at most",
                    quoted(&name)
                );
                self.reader.fault(origin.clone(), &path, message);
            }
            let inner_path = if valid { inner_path } else { join(&path, &escaped(&name)) };
            let value = self.reader.enter(inner_path, node, origin, doc, |section| read(&name, section));
            if let Some(value) = value.filter(|_| valid) {
                values.insert(name, value);
            }
        }
        values
    }

    /// Notes that a key must be given and isn't.
    pub(super) fn missing(&mut self, key: &'static str) {
        if let Purpose::Load { complete: true, .. } = self.reader.purpose {
            let path = join(&self.path, key);
            self.reader.fault(self.origin.clone(), &path, "must be given".to_owned());
        }
    }

    pub(super) fn was_given(&self, key: &str) -> bool {
        self.reader.origins.contains_key(&join(&self.path, key))
    }

    /// Notes that values don't fit together. `keys` are those that could be changed, relative to this
    /// section (`timeout_max`, `servers.files.timeout`); the fault points at the first that was given.
    pub fn fault(&mut self, keys: &[&str], message: impl Into<String>) {
        if !matches!(self.reader.purpose, Purpose::Load { complete: true, .. }) {
            return;
        }
        let paths = keys.iter().map(|key| join(&self.path, key));
        let mut given = paths.filter_map(|path| Some((self.reader.origins.get(&path)?.clone(), path)));
        let (origin, path) = given.next().unwrap_or_else(|| {
            (self.origin.clone(), keys.first().map_or_else(String::new, |key| join(&self.path, key)))
        });
        drop(given);
        self.reader.fault(origin, &path, message.into());
    }

    /// Notes that one time of this section is longer than another that bounds it.
    pub fn longer(&mut self, (key, time): (&str, Duration), (max_key, max): (&str, Duration)) {
        let [path, max_path] = [key, max_key].map(|key| join(&self.path, key));
        let [time, max] = [time, max].map(|time| show_duration(&time));
        self.fault(&[max_key, key], format!("{path} ({time}) is longer than {max_path} ({max})"));
    }

    fn wrong_kind(&mut self, origin: Origin, path: &str, node: &Node, wanted: &Wanted) {
        let found = match &node.value {
            Value::Refused => return,
            Value::Scalar(text) => wanted.show(text),
            Value::Nothing => {
                let message = "has no value; give one, or remove the line for the default".to_owned();
                return self.reader.fault(origin, path, message);
            }
            value @ (Value::List(_) | Value::Map(_)) => shown(value),
        };
        self.reader.fault(origin, path, format!("found {found}; wanted: {}", wanted.text));
    }
}

/// What a key takes, for the text of a fault.
struct Wanted {
    text: String,
    secret: bool,
}

impl Wanted {
    fn of(shape: &Shape) -> Self {
        let Shape { kind, range, .. } = shape;
        let text = if range.is_empty() { (*kind).to_owned() } else { format!("{kind}, {range}") };
        Self { text, secret: *kind == "secret" }
    }

    fn show(&self, text: &str) -> String {
        if self.secret { "the secret".to_owned() } else { quoted(text) }
    }

    fn refuse(&self, text: &str, reason: &str) -> String {
        format!("{} {reason}; wanted: {}", self.show(text), self.text)
    }
}

/// Whether entries of a map may be called so: a-z, 0-9, `_` and `-`, beginning with a letter or digit, 63
/// characters at most.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
        && name.len() <= 63
}
