//! What the reading code says about each key when nothing is given: the source of the reference, of the
//! variable names and of the suggestions in faults.

/// Stands for any name in the path of a key below a map: `servers.<name>.upstream`.
pub(super) const NAME: &str = "<name>";

#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// In the order in which they are read, the top of the document first.
    pub sections: Vec<SectionEntry>,
    pub keys: Vec<KeyEntry>,
}

#[derive(Debug)]
pub(super) struct SectionEntry {
    pub path: String,
    pub doc: &'static str,
}

#[derive(Debug)]
pub(super) struct KeyEntry {
    pub section: String,
    pub name: &'static str,
    pub shape: Shape,
}

/// What a key takes, in words.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// `duration`, `size`, `URL`.
    pub kind: &'static str,
    pub default: String,
    pub range: String,
    pub doc: &'static str,
}

impl Catalogue {
    pub(super) fn knows(&self, path: &str) -> bool {
        self.keys.iter().any(|key| {
            let known = key.path();
            match known.split_once(NAME) {
                None => known == path,
                Some((map, key)) => path
                    .strip_prefix(map)
                    .and_then(|rest| rest.strip_suffix(key))
                    .is_some_and(|name| !name.is_empty() && !name.contains('.')),
            }
        })
    }
}

impl KeyEntry {
    pub(super) fn path(&self) -> String {
        join(&self.section, self.name)
    }
}

pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}
