//! What a credential allows, and what a server asks for: scopes (RFC 6749, section 3.3), for all of a
//! server and for single tools.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The scopes of a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Arc<BTreeSet<String>>);

impl Scopes {
    pub fn new<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Arc::new(scopes.into_iter().map(str::to_owned).collect()))
    }

    fn hold(&self, wanted: &[String]) -> bool {
        wanted.iter().all(|scope| self.0.contains(scope))
    }
}

/// What a server asks of who calls it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Requests without a credential are taken, as the anonymous principal's.
    pub anonymous: bool,
    /// All of them are needed for anything.
    pub scopes: Vec<String>,
    /// Who may call which tools. If there is a rule at all, a tool that none of them names is nobody's.
    pub tools: Vec<ToolRule>,
}

/// Tools that need certain scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRule {
    /// A name, in which `*` stands for any characters.
    name: String,
    /// All of them are needed.
    scopes: Vec<String>,
}

impl ToolRule {
    /// The name and the scopes, separated by spaces.
    #[must_use]
    pub fn new(rule: &str) -> Self {
        let mut words = rule.split_ascii_whitespace().map(str::to_owned);
        Self { name: words.next().unwrap_or_default(), scopes: words.collect() }
    }
}

/// What a credential lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lacking {
    /// All of these.
    Scopes(Vec<String>),
    /// No rule names the tool.
    Tool,
}

impl Access {
    pub(super) fn admits(&self, scopes: &Scopes) -> Result<(), Lacking> {
        if scopes.hold(&self.scopes) { Ok(()) } else { Err(Lacking::Scopes(self.scopes.clone())) }
    }

    /// Whether some rule lets these scopes call the tool; if not, what a token needs for the first that names
    /// it, with what it needs for anything: clients ask for exactly what they are told.
    pub(super) fn allows(&self, scopes: &Scopes, tool: &str) -> Result<(), Lacking> {
        let mut naming = self.tools.iter().filter(|rule| matches(&rule.name, tool));
        let Some(first) = naming.next() else {
            return if self.tools.is_empty() { Ok(()) } else { Err(Lacking::Tool) };
        };
        if scopes.hold(&first.scopes) || naming.any(|rule| scopes.hold(&rule.scopes)) {
            return Ok(());
        }
        let more = first.scopes.iter().filter(|scope| !self.scopes.contains(scope));
        Err(Lacking::Scopes(self.scopes.iter().chain(more).cloned().collect()))
    }

    /// Every scope that it may ask for.
    pub(super) fn all_scopes(&self) -> BTreeSet<&str> {
        let tools = self.tools.iter().flat_map(|rule| &rule.scopes);
        self.scopes.iter().chain(tools).map(String::as_str).collect()
    }
}

/// Whether `name` is what `pattern` says, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(before) else { return false };
    let (middles, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place that fits leaves the most for what follows.
    for middle in middles.split('*') {
        let Some(at) = left.find(middle) else { return false };
        left = &left[at + middle.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, fits: bool| {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        };
        check("read", "read", true);
        check("read", "reads", false);
        check("*", "", true);
        check("*", "any", true);
        check("read_*", "read_file", true);
        check("read_*", "read_", true);
        check("read_*", "unread_file", false);
        check("*_file", "read_file", true);
        check("*_file", "read_files", false);
        check("a*b*c", "abc", true);
        check("a*b*c", "a1b2b3c", true);
        check("a*b*c", "acb", false);
        check("a*b*b", "ab", false);
        check("a**c", "abc", true);
        check("aba*aba", "aba", false);
    }

    #[test]
    fn a_tool_is_for_whom_a_rule_that_names_it_says() {
        let tools = ["read_*", "*_file write", " *_file  admin "].map(ToolRule::new).to_vec();
        let access = Access { scopes: vec!["files".to_owned()], tools, ..Access::default() };
        let check = |tool: &str, scopes: &[&str], expected: Result<(), Lacking>| {
            assert_eq!(
                access.allows(&Scopes::new(scopes.iter().copied()), tool),
                expected,
                "{tool} {scopes:?}"
            );
        };
        check("read_file", &[], Ok(()));
        check("drop_file", &["write"], Ok(()));
        check("drop_file", &["admin"], Ok(()));
        check("drop_file", &["other"], Err(Lacking::Scopes(vec!["files".to_owned(), "write".to_owned()])));
        check("format", &["write", "admin"], Err(Lacking::Tool));
        assert_eq!(Access::default().allows(&Scopes::default(), "format"), Ok(()));
    }

    #[test]
    fn a_server_asks_for_all_of_its_scopes() {
        let access = Access { scopes: vec!["a".to_owned(), "b".to_owned()], ..Access::default() };
        assert_eq!(access.admits(&Scopes::new(["b", "a", "c"])), Ok(()));
        assert_eq!(access.admits(&Scopes::new(["a"])), Err(Lacking::Scopes(access.scopes.clone())));
    }
}
