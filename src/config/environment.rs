//! What was given outside the file: environment variables and flags, by the keys they mean.
//! A variable that means no key is a fault.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::catalogue::Catalogue;
use super::faults::{Fault, Origin, escaped, quoted};
use super::variables::{PREFIX, added_by_kubernetes, find};

/// Names the file when no `--config` does.
pub(super) const FILE_VARIABLE: &str = "HOLDFAST_CONFIG";

/// What operators' tools log in with at a node. It is no setting, and may stand beside a node's.
pub(super) const TOKEN_VARIABLE: &str = "HOLDFAST_ADMIN_TOKEN";

/// What the command line says: the key, its value, and the flag it came from.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub entries: Vec<(&'static str, String, &'static str)>,
}

#[derive(Debug)]
pub(super) struct Text {
    pub text: String,
    pub origin: Origin,
}

/// Values given outside the file, by key path. A flag has already won over a variable.
#[derive(Debug, Default)]
pub(super) struct Given {
    entries: BTreeMap<String, Text>,
    pub faults: Vec<Fault>,
}

impl Given {
    pub(super) fn get(&self, path: &str) -> Option<&Text> {
        self.entries.get(path)
    }

    /// The names below a map: `files` for `servers` when `servers.files.upstream` is given.
    pub(super) fn names(&self, map: &str) -> BTreeSet<String> {
        self.below(map).filter_map(|(rest, _)| rest.split('.').next()).map(str::to_owned).collect()
    }

    /// Where anything below a path was given first.
    pub(super) fn origin_below(&self, path: &str) -> Option<&Origin> {
        self.below(path).next().map(|(_, text)| &text.origin)
    }

    fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Text)> + use<'_> {
        let prefix = format!("{path}.");
        self.entries.iter().filter_map(move |(key, text)| Some((key.strip_prefix(&prefix)?, text)))
    }

    /// `names_in_file` answers which names a map such as `servers` has in the file, so that
    /// `HOLDFAST_SERVERS_MY_FILES_…` finds the server `my-files`.
    pub(super) fn gather(
        variables: &[(OsString, OsString)],
        overrides: Overrides,
        catalogue: &Catalogue,
        names_in_file: impl Fn(&str) -> Vec<String>,
    ) -> Self {
        let mut given = Self::default();
        for (name, value) in variables {
            given.variable(name, value, catalogue, &names_in_file);
        }
        for (path, text, flag) in overrides.entries {
            let origin = Origin::Flag(flag);
            if catalogue.knows(path) {
                given.entries.insert(path.to_owned(), Text { text, origin });
            } else {
                given.fault(origin, path, format!("this build has no key {}", quoted(path)));
            }
        }
        given
    }

    fn variable(
        &mut self,
        name: &OsString,
        value: &OsString,
        catalogue: &Catalogue,
        names_in_file: impl Fn(&str) -> Vec<String>,
    ) {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE || name == TOKEN_VARIABLE {
            return;
        }
        let origin = Origin::Environment(escaped(&name));
        let path = match find(&name, catalogue, names_in_file) {
            Ok(path) => path,
            Err(_) if added_by_kubernetes(&name, &value.to_string_lossy()) => return,
            Err(message) => return self.fault(origin, "", message),
        };
        let Some(text) = value.to_str() else {
            return self.fault(origin, &path, "the value is not UTF-8 text".to_owned());
        };
        if text.is_empty() {
            return;
        }
        let text = Text { text: text.to_owned(), origin };
        match self.entries.entry(path.clone()) {
            Entry::Vacant(place) => {
                place.insert(text);
            }
            Entry::Occupied(first) => {
                let message = format!("{} gives the same key", first.get().origin);
                self.fault(text.origin, &path, message);
            }
        }
    }

    fn fault(&mut self, origin: Origin, path: &str, message: String) {
        self.faults.push(Fault { origin, path: path.to_owned(), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::catalogue;

    fn gather(variables: &[(&str, &str)]) -> Given {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Given::gather(&variables, Overrides::default(), &catalogue(), |_| {
            ["my-files", "a-b", "a_b"].map(str::to_owned).to_vec()
        })
    }

    #[test]
    fn each_variable_means_one_key() {
        fn check(name: &str, expected: &str) {
            let given = gather(&[(name, "1")]);
            assert_eq!(given.faults, [], "{name}");
            assert_eq!(given.entries.keys().collect::<Vec<_>>(), [expected], "{name}");
        }
        check("HOLDFAST_LISTEN", "listen");
        check("HOLDFAST_LIMITS_SESSIONS_MAX", "limits.sessions_max");
        check("HOLDFAST_STREAMS_KEEP_ALIVE", "streams.keep_alive");
        check("HOLDFAST_SERVERS_FILES_UPSTREAM", "servers.files.upstream");
        check("HOLDFAST_SERVERS_MY_FILES_UPSTREAM", "servers.my-files.upstream");
        check("HOLDFAST_SERVERS_X_TIMEOUT_MAX", "servers.x.timeout_max");
        check("HOLDFAST_SERVERS_X_TIMEOUT", "servers.x.timeout");
        check("HOLDFAST_SERVERS_UPSTREAM_UPSTREAM", "servers.upstream.upstream");
    }

    #[test]
    fn other_variables_are_faults() {
        fn check(name: &str, expected: &str) {
            let given = gather(&[(name, "1")]);
            let messages: Vec<_> = given.faults.iter().map(ToString::to_string).collect();
            assert_eq!(messages, [format!("{name}: {expected}")]);
        }
        check(
            "HOLDFAST_LIMIT_SESSIONS_MAX",
            "no key has this variable; did you mean `HOLDFAST_LIMITS_SESSIONS_MAX`?",
        );
        check("HOLDFAST_COLOUR", "no key has this variable");
        check("HOLDFAST_SERVERS_UPSTREAM", "a name is missing; wanted: `HOLDFAST_SERVERS_<NAME>_UPSTREAM`");
        check(
            "HOLDFAST_SERVERS_A_B_TIMEOT_MAX",
            "no key has this variable; did you mean `HOLDFAST_SERVERS_A_B_TIMEOUT_MAX`?",
        );
        check("HOLDFAST_SERVERS_A_B_UPSTREAM", "this may mean `a-b` or `a_b`");
        check("HOLDFAST_PORT", "no key has this variable");
        check("HOLDFAST_SERVERS_FILES_URL", "no key has this variable");
    }

    #[test]
    fn foreign_variables_are_left_alone() {
        fn check(name: &str, value: &str) {
            let given = gather(&[(name, value)]);
            assert!(given.faults.is_empty() && given.entries.is_empty(), "{name}: {given:?}");
        }
        check("PATH", "/bin");
        check("HOLDFAST", "1");
        check("holdfast_listen", "1");
        check("HOLDFAST_CONFIG", "holdfast.yaml");
        check("HOLDFAST_LISTEN", "");
        check("HOLDFAST_SERVICE_HOST", "10.0.0.1");
        check("HOLDFAST_SERVICE_PORT", "4444");
        check("HOLDFAST_SERVICE_PORT_HTTP", "4444");
        check("HOLDFAST_PORT", "tcp://10.0.0.1:4444");
        check("HOLDFAST_ADMIN_PORT_4445_TCP", "tcp://10.0.0.1:4445");
        check("HOLDFAST_PORT_4444_TCP_ADDR", "10.0.0.1");
    }

    #[test]
    fn one_key_given_twice_is_a_fault() {
        let given = gather(&[
            ("HOLDFAST_SERVERS_FILES_UPSTREAM", "http://a"),
            ("HOLDFAST_SERVERS_files_UPSTREAM", "http://b"),
        ]);
        assert_eq!(
            given.faults[0].to_string(),
            "HOLDFAST_SERVERS_files_UPSTREAM: servers.files.upstream: \
             HOLDFAST_SERVERS_FILES_UPSTREAM gives the same key"
        );
    }

    #[cfg(unix)]
    #[test]
    fn text_that_is_not_utf8_is_a_fault() {
        use std::os::unix::ffi::OsStringExt;
        let bad = || OsString::from_vec(b"HOLDFAST_\xff".to_vec());
        let variables = [(bad(), "1".into()), ("HOLDFAST_LISTEN".into(), bad()), ("OTHER".into(), bad())];
        let given = Given::gather(&variables, Overrides::default(), &catalogue(), |_| Vec::new());
        let messages: Vec<_> = given.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "HOLDFAST_\u{fffd}: no key has this variable",
                "HOLDFAST_LISTEN: listen: the value is not UTF-8 text"
            ]
        );
    }
}
