//! A walk through the configuration, key by key. Reading a key takes its value from the flag, the
//! variable or the file, checks it, notes what is wrong, and describes the key; it never stops early.
//! Keys must be read unconditionally: one that is skipped would be unknown and undocumented.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalogue::{Catalogue, KeyEntry, SectionEntry, Shape, join};
use super::document::{Node, Position, Value};
use super::environment::Given;
use super::faults::{Fault, Origin, did_you_mean, quoted};

#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: Arc<str>,
    pub(super) given: &'a Given,
    pub(super) purpose: Purpose<'a>,
    /// Where the value of each key came from, if it was given.
    pub(super) origins: HashMap<String, Origin>,
    faults: Vec<Fault>,
}

#[derive(Debug)]
pub(super) enum Purpose<'a> {
    Describe(Catalogue),
    /// `complete` is false when the file broke off; then a missing key proves nothing.
    Load {
        known: &'a Catalogue,
        complete: bool,
    },
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &str, given: &'a Given, purpose: Purpose<'a>) -> Self {
        Self { file: file.into(), given, purpose, origins: HashMap::new(), faults: Vec::new() }
    }

    /// Reads the whole document.
    pub(super) fn read<T>(
        mut self,
        root: &'a Node,
        doc: &'static str,
        read: impl FnOnce(&mut Section<'_, 'a>) -> T,
    ) -> (T, Vec<Fault>, Purpose<'a>) {
        let value = self.enter(String::new(), Some(root), Origin::Nowhere, doc, read);
        (value, self.faults, self.purpose)
    }

    pub(super) fn enter<T>(
        &mut self,
        path: String,
        node: Option<&'a Node>,
        origin: Origin,
        doc: &'static str,
        read: impl FnOnce(&mut Section<'_, 'a>) -> T,
    ) -> T {
        if let Purpose::Describe(catalogue) = &mut self.purpose {
            catalogue.sections.push(SectionEntry { path: path.clone(), doc });
        }
        if let Some(Node { position, value: value @ (Value::Scalar(_) | Value::List(_)) }) = node {
            let message = format!("found {}; wanted: keys and values", shown(value));
            self.fault(self.at(*position), &path, message);
        }
        let mut section = Section { reader: self, path, node, origin, asked: Vec::new() };
        let value = read(&mut section);
        section.refuse_unknown();
        value
    }

    pub(super) fn at(&self, position: Position) -> Origin {
        Origin::File { file: self.file.clone(), line: position.line, column: position.column }
    }

    pub(super) fn fault(&mut self, origin: Origin, path: &str, message: String) {
        self.faults.push(Fault { origin, path: path.to_owned(), message });
    }
}

/// A place in the configuration: the top, `limits`, `servers.files`.
#[derive(Debug)]
pub struct Section<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    pub(super) path: String,
    pub(super) node: Option<&'a Node>,
    /// Where the section itself was begun.
    pub(super) origin: Origin,
    pub(super) asked: Vec<&'static str>,
}

/// A value as it was written.
pub(super) enum Written<'a> {
    /// In a variable or a flag.
    Text(&'a str),
    Node(&'a Node),
}

impl<'a> Section<'_, 'a> {
    pub(super) fn take(&mut self, key: &'static str, shape: Shape) -> Option<(Written<'a>, Origin)> {
        self.asked.push(key);
        if let Purpose::Describe(catalogue) = &mut self.reader.purpose {
            catalogue.keys.push(KeyEntry { section: self.path.clone(), name: key, shape });
        }
        let path = join(&self.path, key);
        let (written, origin) = match self.reader.given.get(&path) {
            Some(given) => (Written::Text(&given.text), given.origin.clone()),
            None => {
                let node = self.entry(key)?.1;
                (Written::Node(node), self.reader.at(node.position))
            }
        };
        self.reader.origins.insert(path, origin.clone());
        Some((written, origin))
    }

    fn entry(&self, key: &str) -> Option<(Position, &'a Node)> {
        match self.node.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.get(key).map(|entry| (entry.position, &entry.node)),
            _ => None,
        }
    }

    /// The node below a key, and where it was begun: by its key in the file, or by a variable or flag.
    pub(super) fn below(&self, key: &str, path: &str) -> (Option<&'a Node>, Origin) {
        match self.entry(key) {
            Some((position, node)) => (Some(node), self.reader.at(position)),
            None => (None, self.reader.given.origin_below(path).cloned().unwrap_or(Origin::Nowhere)),
        }
    }

    fn refuse_unknown(self) {
        let Some(Node { value: Value::Map(entries), .. }) = self.node else { return };
        let Purpose::Load { known, .. } = self.reader.purpose else { return };
        for (key, entry) in entries.iter().filter(|(key, _)| !self.asked.contains(&key.as_str())) {
            let mut near = did_you_mean(key, self.asked.iter().copied());
            if near.is_empty() {
                let elsewhere = known.keys.iter().find(|known| known.name == key).map(KeyEntry::path);
                near = elsewhere.map(|path| format!("; did you mean `{path}`?")).unwrap_or_default();
            }
            let message = format!("unknown key {}{near}", quoted(key));
            self.reader.fault(self.reader.at(entry.position), &self.path, message);
        }
    }
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Scalar(text) => quoted(text),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "keys and values".to_owned(),
        Value::Nothing | Value::Refused => "nothing".to_owned(),
    }
}
