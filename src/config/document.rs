//! YAML text to a tree in which every node and key knows its line and column. Refuses what a
//! configuration doesn't need and an attacker would like: aliases, tags, several documents, great depth.

use std::collections::BTreeMap;
use std::collections::btree_map;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::faults::{escaped, quoted};

pub(super) const BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 32;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub line: usize,
    pub column: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    pub position: Position,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Nothing,
    Scalar(String),
    List(Vec<Node>),
    Map(BTreeMap<String, Entry>),
    /// Not usable, and already reported.
    Refused,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// Of the key.
    pub position: Position,
    pub node: Node,
}

#[derive(Debug)]
pub(super) struct Mistake {
    pub position: Position,
    /// The key around it, such as `limits.sessions_max`.
    pub path: String,
    pub message: String,
}

#[derive(Debug)]
pub(super) struct Document {
    pub root: Node,
    pub mistakes: Vec<Mistake>,
    /// False when the text broke off at a syntax error: what comes after it is unknown.
    pub complete: bool,
}

impl Document {
    pub(super) fn empty() -> Self {
        let position = Position { line: 1, column: 1 };
        let root = Node { position, value: Value::Map(BTreeMap::new()) };
        Self { root, mistakes: Vec::new(), complete: true }
    }

    pub(super) fn parse(bytes: &[u8]) -> Self {
        if bytes.len() > BYTES_MAX {
            return Self::unreadable(b"", "the file is larger than 1MiB".to_owned());
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Builder::default().build(text),
            Err(error) => {
                Self::unreadable(&bytes[..error.valid_up_to()], "this is not UTF-8 text".to_owned())
            }
        }
    }

    /// A document that can't be read beyond `before`.
    pub(super) fn unreadable(before: &[u8], message: String) -> Self {
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        let mistake = Mistake { position: Position { line, column }, path: String::new(), message };
        Self { mistakes: vec![mistake], complete: false, ..Self::empty() }
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Frame>,
    root: Option<Node>,
    mistakes: Vec<Mistake>,
}

enum Frame {
    List(Position, Vec<Node>),
    Map(Position, BTreeMap<String, Entry>, Awaited),
}

/// What the next node of a map is.
enum Awaited {
    Key,
    ValueOf(String, Position),
    /// The value of a key that was refused.
    Ignored,
}

impl Builder {
    fn build(mut self, text: &str) -> Document {
        let mut options = granit_parser::options! {
            emit_unresolved_aliases: true,
            disallow_directives: true,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        options.set_emit_comments(false);
        let mut documents = 0;
        let mut complete = true;
        for next in Parser::new_from_str_with_options(text, options) {
            match next {
                Ok((Event::DocumentStart(..), span)) if documents == 1 => {
                    self.refuse(
                        place(span.start),
                        "a second document begins here; a configuration is one document",
                    );
                    complete = false;
                    break;
                }
                Ok((Event::DocumentStart(..), _)) => documents = 1,
                Ok((event, span)) => self.event(event, span),
                Err(error) => {
                    self.refuse(place(*error.marker()), &format!("this is not valid YAML: {}", error.info()));
                    complete = false;
                    break;
                }
            }
        }
        while !self.open.is_empty() {
            self.close();
        }
        let mut root = self.root.unwrap_or_else(|| Document::empty().root);
        if matches!(root.value, Value::Nothing) {
            root.value = Value::Map(BTreeMap::new());
        }
        Document { root, mistakes: self.mistakes, complete }
    }

    fn event(&mut self, event: Event<'_>, span: Span) {
        let position = place(span.start);
        if event.tag().is_some() {
            let position = span.tag_start().map_or(position, place);
            self.refuse(position, "tags such as `!name` are not supported; remove it");
        }
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = matches!(style, ScalarStyle::Plain);
                let nothing = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if nothing { Value::Nothing } else { Value::Scalar(text.into_owned()) };
                self.place(Node { position, value });
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(position, "aliases such as `*name` are not supported; write the value itself");
                self.place(Node { position, value: Value::Refused });
            }
            Event::SequenceStart(..) => self.open.push(Frame::List(position, Vec::new())),
            Event::MappingStart(..) => {
                self.open.push(Frame::Map(position, BTreeMap::new(), Awaited::Key));
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => {}
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Frame::List(position, nodes)) => self.place(Node { position, value: Value::List(nodes) }),
            Some(Frame::Map(position, entries, _)) => {
                self.place(Node { position, value: Value::Map(entries) })
            }
            None => {}
        }
    }

    fn place(&mut self, node: Node) {
        let Some(frame) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        let (entries, awaited) = match frame {
            Frame::List(_, nodes) => return nodes.push(node),
            Frame::Map(_, entries, awaited) => (entries, awaited),
        };
        match std::mem::replace(awaited, Awaited::Key) {
            Awaited::Ignored => {}
            Awaited::Key => match node.value {
                Value::Scalar(name) => *awaited = Awaited::ValueOf(name, node.position),
                Value::Nothing | Value::List(_) | Value::Map(_) => {
                    *awaited = Awaited::Ignored;
                    self.refuse(node.position, "a key must be a plain name");
                }
                Value::Refused => *awaited = Awaited::Ignored,
            },
            Awaited::ValueOf(name, position) => match entries.entry(name) {
                btree_map::Entry::Vacant(place) => {
                    place.insert(Entry { position, node });
                }
                btree_map::Entry::Occupied(first) => {
                    let line = first.get().position.line;
                    let message = format!("{} was already written on line {line}", quoted(first.key()));
                    self.refuse(position, &message);
                }
            },
        }
    }

    fn refuse(&mut self, position: Position, message: &str) {
        let mut path = String::new();
        for frame in &self.open {
            if let Frame::Map(_, _, Awaited::ValueOf(name, _)) = frame {
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(dot);
                path.push_str(&escaped(name));
            }
        }
        self.mistakes.push(Mistake { position, path, message: message.to_owned() });
    }
}

fn place(marker: Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}
