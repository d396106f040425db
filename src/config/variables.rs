//! The names of variables: which key each means, which was probably meant, and which are not ours.

use super::catalogue::{Catalogue, NAME};
use super::faults::{nearest, quoted};

pub(super) const PREFIX: &str = "HOLDFAST_";

/// The variable of a key path: `limits.sessions_max` → `HOLDFAST_LIMITS_SESSIONS_MAX`.
pub(super) fn variable_name(path: &str) -> String {
    format!("{PREFIX}{}", spelled(path))
}

fn spelled(path: &str) -> String {
    path.to_uppercase().replace(['.', '-'], "_")
}

/// The key path that a variable means, or why there is none.
pub(super) fn find(
    name: &str,
    catalogue: &Catalogue,
    names_in_file: impl Fn(&str) -> Vec<String>,
) -> Result<String, String> {
    let paths = || catalogue.keys.iter().map(|key| key.path());
    if let Some(path) = paths().find(|path| !path.contains(NAME) && variable_name(path) == name) {
        return Ok(path);
    }
    let mut matches: Vec<(String, &str, String)> = Vec::new();
    for path in paths() {
        let Some((map, key)) = path.split_once(NAME) else { continue };
        let Some(rest) = name.strip_prefix(&variable_name(map)) else { continue };
        if let Some(middle) = rest.strip_suffix(&spelled(key)).filter(|middle| !middle.is_empty()) {
            matches.push((map.trim_end_matches('.').to_owned(), middle, key.to_owned()));
        }
    }
    let Some((map, middle, key)) = matches.into_iter().max_by_key(|(_, _, key)| key.len()) else {
        return Err(unknown(name, paths()));
    };
    let mut meant = names_in_file(&map);
    meant.retain(|named| spelled(named) == spelled(middle));
    match meant.as_slice() {
        [] => Ok(format!("{map}.{}{key}", middle.to_lowercase())),
        [one] => Ok(format!("{map}.{one}{key}")),
        [one, two, ..] => Err(format!("this may mean {} or {}", quoted(one), quoted(two))),
    }
}

/// Why a variable means no key, with the one that may have been meant.
fn unknown(name: &str, paths: impl Iterator<Item = String>) -> String {
    let mut known = Vec::new();
    for path in paths {
        let Some((map, key)) = path.split_once(NAME) else {
            known.push(spelled(&path));
            continue;
        };
        let Some(rest) = name.strip_prefix(&variable_name(map)) else { continue };
        let (words, key) = (rest.split('_').count(), spelled(key));
        if rest == &key[1..] {
            return format!(
                "a name is missing; wanted: `{}{}{key}`",
                variable_name(map),
                NAME.to_uppercase()
            );
        }
        // The same name with this key in place of as many words as it has.
        if let Some(kept) = words.checked_sub(key[1..].split('_').count()).filter(|kept| *kept > 0) {
            let written: Vec<_> = rest.split('_').collect();
            let (middle, last) = written.split_at(kept);
            // The name fits in any case, and must not make up for a key that does not.
            if nearest(&last.join("_"), [&key[1..]]).is_some() {
                known.push(format!("{}{}{key}", spelled(map), middle.join("_")));
            }
        }
    }
    match nearest(&name[PREFIX.len()..], known.iter().map(String::as_str)) {
        Some(near) => format!("no key has this variable; did you mean `{PREFIX}{near}`?"),
        None => "no key has this variable".to_owned(),
    }
}

/// Kubernetes describes every Service of the namespace in variables; those of a Service that is called
/// `holdfast…` look like ours: `HOLDFAST_SERVICE_HOST`, `HOLDFAST_PORT_4444_TCP_ADDR`.
pub(super) fn added_by_kubernetes(name: &str, value: &str) -> bool {
    let link = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let after_port = name.rsplit_once("_PORT_").map_or("", |(_, rest)| rest);
    let mut words = after_port.split('_');
    let number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
    let protocol = words.next().is_some_and(|word| matches!(word, "TCP" | "UDP" | "SCTP"));
    let part = words.next().is_none_or(|word| matches!(word, "PROTO" | "PORT" | "ADDR"));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && link
        || number && protocol && part && words.next().is_none()
}
