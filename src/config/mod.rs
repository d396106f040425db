//! From a file, environment variables and flags to typed settings, with every fault reported at once.
//! One pass of `keys.rs` takes, checks and describes each key, so the reference, the variable names and
//! the check are the same code. The environment is read here and nowhere else.

mod catalogue;
mod document;
mod environment;
mod faults;
mod key_bytes;
mod keys;
mod kinds;
mod otel;
mod reader;
mod reference;
mod secret;
mod section;
mod settings;
mod units;
mod upstream_url;
mod variables;
mod web;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalogue::Catalogue;
use document::{Document, Node, Value};
use environment::{FILE_VARIABLE, Given, TOKEN_VARIABLE};
use reader::{Purpose, Reader};
use variables::PREFIX;

pub use environment::Overrides;
pub use faults::{Fault, Faults, Origin};
pub use key_bytes::KeyBytes;
pub use keys::is_scope;
pub use reader::Section;
pub use reference::reference;
pub use secret::Secret;
pub use section::is_name;
pub use settings::*;
pub use upstream_url::UpstreamUrl;

/// Reads the configuration: a flag wins over an environment variable, that over the file, and that over
/// the default. Without `file`, the variable `HOLDFAST_CONFIG` may name one.
///
/// # Errors
/// Everything that is wrong, in all of them, sorted by where it was written.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    overrides: Overrides,
) -> Result<Config, Faults> {
    let variables = ours(environment);
    let named = variables.iter().find(|(name, path)| name == FILE_VARIABLE && !path.is_empty());
    let file = file.map(Path::to_owned).or_else(|| named.map(|(_, path)| PathBuf::from(path)));
    let Some(file) = file else { return load_document("", &Document::empty(), &variables, overrides) };
    let label = faults::escaped(&file.display().to_string());
    match read(&file) {
        Ok(bytes) => load_document(&label, &Document::parse(&bytes), &variables, overrides),
        Err(error) => {
            let message = format!("{label} can't be read: {error}");
            Err(Faults::new(vec![Fault { origin: Origin::Nowhere, path: String::new(), message }]))
        }
    }
}

/// A time as the configuration has it: `90s`, `1h`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|reason| reason.to_string())
}

/// The environment of this process, for `load`.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// The token of the variable `HOLDFAST_ADMIN_TOKEN`, for the tools of the admin API.
#[must_use]
pub fn admin_token() -> Option<Secret> {
    let (_, token) = environment().find(|(name, _)| name == TOKEN_VARIABLE)?;
    Some(Secret::new(token.to_str()?.trim())).filter(|token| !token.reveal().is_empty())
}

/// The same from a file.
///
/// # Errors
/// If it can't be read.
pub fn token_of(file: &Path) -> std::io::Result<Secret> {
    std::fs::read_to_string(file).map(|token| Secret::new(token.trim()))
}

fn ours(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> = environment.filter(|(name, _)| is_ours(&name.to_string_lossy())).collect();
    variables.sort();
    variables
}

/// Also what the standard for traces names.
fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with(otel::PREFIX)
}

/// Reads one byte more than a document may have, so that it can tell.
fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(document::BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn load_document(
    file: &str,
    document: &Document,
    variables: &[(OsString, OsString)],
    overrides: Overrides,
) -> Result<Config, Faults> {
    let catalogue = catalogue();
    let mut given = Given::gather(variables, overrides, &catalogue, |map| names(&document.root, map));
    let mut faults = std::mem::take(&mut given.faults);
    faults.extend(document.mistakes.iter().map(|mistake| Fault {
        origin: Origin::File {
            file: file.into(),
            line: mistake.position.line,
            column: mistake.position.column,
        },
        path: mistake.path.clone(),
        message: mistake.message.clone(),
    }));
    let purpose = Purpose::Load { known: &catalogue, complete: document.complete };
    let reader = Reader::new(file, &given, purpose);
    let (mut config, found, _) = reader.read(&document.root, keys::TOP, keys::config);
    faults.extend(found);
    let (traces, found) = otel::traces(variables);
    config.telemetry.traces = traces;
    faults.extend(found);
    if faults.is_empty() { Ok(config) } else { Err(Faults::new(faults)) }
}

/// What the reading code says about its keys.
fn catalogue() -> Catalogue {
    let (document, given) = (Document::empty(), Given::default());
    let reader = Reader::new("", &given, Purpose::Describe(Catalogue::default()));
    match reader.read(&document.root, keys::TOP, keys::config) {
        (_, _, Purpose::Describe(catalogue)) => catalogue,
        (_, _, Purpose::Load { .. }) => Catalogue::default(),
    }
}

/// The names below a map of the document, such as `servers` or `cluster.keys`.
fn names(root: &Node, map: &str) -> Vec<String> {
    let below = map.split('.').try_fold(root, |node, key| match &node.value {
        Value::Map(entries) => entries.get(key).map(|entry| &entry.node),
        _ => None,
    });
    match below.map(|node| &node.value) {
        Some(Value::Map(named)) => named.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
