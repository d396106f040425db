//! How often each fault met each path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub(super) struct Tally {
    met: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Tally {
    pub(super) fn met(&self, fault: &'static str, path: &'static str) {
        *self.met.lock().unwrap().entry((fault, path)).or_default() += 1;
    }

    pub(super) fn add(&self, other: &Self) {
        for (cell, count) in &*other.met.lock().unwrap() {
            *self.met.lock().unwrap().entry(*cell).or_default() += count;
        }
    }

    pub(super) fn count(&self, fault: &'static str, path: &'static str) -> u64 {
        self.met.lock().unwrap().get(&(fault, path)).copied().unwrap_or(0)
    }
}

/// As a table: faults across, paths down.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = self.met.lock().unwrap();
        let faults: BTreeSet<_> = met.keys().map(|(fault, _)| *fault).collect();
        let paths: BTreeSet<_> = met.keys().map(|(_, path)| *path).collect();
        write!(f, "{:<12}", "")?;
        for fault in &faults {
            write!(f, "{fault:>10}")?;
        }
        for path in paths {
            write!(f, "\n{path:<12}")?;
            for fault in &faults {
                write!(f, "{:>10}", met.get(&(*fault, path)).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}
