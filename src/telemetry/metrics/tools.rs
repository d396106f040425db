//! Calls of tools, by name. Names are what clients say: one gets a label of its own with its first call that
//! succeeds, so that made-up ones take no room, and only as long as there are places.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::{Histogram, HistogramVec, IntCounterVec};

use super::super::buckets::REQUEST;
use super::super::catalogue::{Catalogue, Counters, Later, SERVER, Table, behind, tool};
use super::super::labels::{ErrorType, ToolOutcome};
use super::operations::{OfTool, Operations};

/// What those without a label of their own are called.
const OTHER: &str = "other";

#[derive(Debug)]
pub(super) struct Tools {
    calls: IntCounterVec,
    seconds: HistogramVec,
    places: AtomicUsize,
    later: Later,
}

impl Tools {
    pub(super) fn new(catalogue: &mut Catalogue, tools_max: usize) -> Self {
        let labels = behind::<ToolOutcome, 2>([SERVER, tool("tool")], &["outcome"]);
        Self {
            calls: catalogue.counter_vec(
                "holdfast_tool_calls_total",
                labels,
                "Calls of tools that ended. A tool has its name here from its first call that succeeds, if there is \
                 room (`metrics.tools_max`); until then, and else, it is `other`. A long result that passes as it \
                 comes is not looked into: it is `ok`.",
            ),
            seconds: catalogue.histogram_vec(
                "holdfast_tool_call_duration_seconds",
                vec![SERVER, tool("tool")],
                "From a call of a tool to its end, whatever that is.",
                REQUEST,
            ),
            places: AtomicUsize::new(tools_max),
            later: catalogue.later.clone(),
        }
    }
}

/// What is counted of one tool.
#[derive(Debug)]
pub(super) struct Tool {
    calls: Counters<ToolOutcome>,
    seconds: Histogram,
    operations: [OfTool; 2],
}

impl Tool {
    fn new(tools: &Tools, operations: &Operations, server: &str, name: &str) -> Self {
        Self {
            calls: Table::of_some(&tools.calls, &[server, name]).shown(&tools.later, |_| true),
            seconds: tools.seconds.with_label_values(&[server, name]),
            operations: operations.of_tool(server, name),
        }
    }

    pub(super) fn called(&self, outcome: ToolOutcome, error: ErrorType, seconds: f64) {
        self.calls.of(outcome).inc();
        self.seconds.observe(seconds);
        self.operations.iter().for_each(|operation| operation.of(error).observe(seconds));
    }
}

/// Whether a name can be a label: a page of metrics should stay one, whatever tools are called.
fn is_plain(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./:".contains(&byte))
}

/// The tools of one server.
#[derive(Debug)]
pub(super) struct OfServer {
    named: RwLock<HashMap<Box<str>, Arc<Tool>>>,
    other: Tool,
}

impl OfServer {
    pub(super) fn new(tools: &Tools, operations: &Operations, server: &str) -> Self {
        Self { named: RwLock::default(), other: Tool::new(tools, operations, server, OTHER) }
    }

    /// Counts a call's end.
    pub(super) fn called(
        &self,
        (tools, operations, server): (&Tools, &Operations, &str),
        name: &str,
        outcome: ToolOutcome,
        count: impl Fn(&Tool),
    ) {
        let known = self.named.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(tool) = known {
            return count(&tool);
        }
        let place = |places: usize| places.checked_sub(1);
        if outcome != ToolOutcome::Ok
            || name == OTHER
            || !is_plain(name)
            || tools.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).is_err()
        {
            return count(&self.other);
        }
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if named.contains_key(name) {
            // Two first calls at once.
            tools.places.fetch_add(1, Ordering::Relaxed);
        }
        let tool =
            named.entry(name.into()).or_insert_with(|| Arc::new(Tool::new(tools, operations, server, name)));
        count(tool);
    }
}
