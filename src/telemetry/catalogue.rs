//! Every metric there is: registered and described in one step, so that docs/metrics.md, which is written from
//! here, can't say anything else than `/metrics`.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::core::{Atomic, Collector, GenericCounter};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::labels::Labels;

/// What a family's name is, and what its labels may say.
#[derive(Debug)]
pub(super) struct Described {
    pub section: &'static str,
    pub name: String,
    pub kind: &'static str,
    pub labels: Vec<(&'static str, Values)>,
    pub help: String,
}

/// What a label may say.
#[derive(Debug)]
pub(super) enum Values {
    Closed(Vec<&'static str>),
    /// In words.
    Open(&'static str),
}

/// The name under `servers`.
pub(super) const SERVER: (&str, Values) = ("server", Values::Open("a name under `servers`"));

/// A tool's name.
pub(super) fn tool(name: &'static str) -> (&'static str, Values) {
    (name, Values::Open("a tool's name, or `other`"))
}

/// What is shown before it is used: a counter that was never touched is absent, and an alert on it blind. It is made
/// when somebody looks, so that a node at which nobody does costs nothing for it.
#[derive(Clone, Default)]
pub(super) struct Later(Arc<Mutex<Vec<Make>>>);

type Make = Box<dyn FnOnce() + Send>;

impl Later {
    pub(super) fn push(&self, make: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(make));
    }

    /// Somebody looks.
    pub(super) fn make(&self) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(|make| make());
    }
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").finish_non_exhaustive()
    }
}

/// Registers and describes.
#[derive(Debug)]
pub(super) struct Catalogue {
    registry: Registry,
    pub(super) later: Later,
    pub(super) described: Vec<Described>,
    section: &'static str,
}

/// One metric for each value of a closed set. It is looked up by its place, not by its texts.
#[derive(Clone)]
pub(super) struct Table<L, F: Family> {
    family: F,
    /// Labels that come first and are the same for all.
    fixed: Vec<String>,
    known: Arc<[OnceLock<F::Metric>]>,
    labels: PhantomData<fn(L)>,
}

pub(super) type Counters<L> = Table<L, IntCounterVec>;
pub(super) type Gauges<L> = Table<L, IntGaugeVec>;
pub(super) type Histograms<L> = Table<L, HistogramVec>;

/// Metrics of one name.
pub(super) trait Family: Clone {
    type Metric: Clone + Send + Sync + 'static;

    fn with(&self, labels: &[&str]) -> Self::Metric;
}

macro_rules! families {
    ($($family:ident of $metric:ident),+) => {$(
        impl Family for $family {
            type Metric = $metric;

            fn with(&self, labels: &[&str]) -> $metric {
                self.with_label_values(labels)
            }
        }
    )+};
}

families!(IntCounterVec of IntCounter, IntGaugeVec of IntGauge, HistogramVec of Histogram);

impl<L: Labels, F: Family + Send + 'static> Table<L, F> {
    /// Those of `family` whose first labels are `fixed`. None is shown before it is used.
    pub(super) fn of_some(family: &F, fixed: &[&str]) -> Self {
        let known = (0..L::count()).map(|_| OnceLock::new()).collect();
        let fixed = fixed.iter().map(|&text| text.to_owned()).collect();
        Self { family: family.clone(), fixed, known, labels: PhantomData }
    }

    /// Shows these before they are used.
    pub(super) fn shown(self, later: &Later, shown: impl Fn(L) -> bool + Send + 'static) -> Self {
        let table = self.clone();
        later.push(move || {
            L::all().into_iter().filter(|value| shown(*value)).for_each(|value| _ = table.of(value))
        });
        self
    }

    pub(super) fn is_shown(&self, value: L) -> bool {
        self.known[value.index()].get().is_some()
    }

    pub(super) fn of(&self, value: L) -> &F::Metric {
        self.known[value.index()].get_or_init(|| {
            let own = value.texts();
            let all: Vec<_> = self.fixed.iter().map(String::as_str).chain(own).collect();
            self.family.with(&all)
        })
    }
}

impl<L, F: Family> std::fmt::Debug for Table<L, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

impl Catalogue {
    pub(super) fn new() -> Self {
        Self { registry: Registry::new(), later: Later::default(), described: Vec::new(), section: "" }
    }

    /// What is registered from here on belongs there.
    pub(super) fn section(&mut self, title: &'static str) {
        self.section = title;
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        self.add("counter", name, Vec::new(), help, IntCounter::with_opts)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        self.add("gauge", name, Vec::new(), help, IntGauge::with_opts)
    }

    /// One that need not be whole.
    pub(super) fn real_gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add("gauge", name, Vec::new(), help, Gauge::with_opts)
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", name, Vec::new(), help, |_| Histogram::with_opts(options))
    }

    /// All of them shown from the beginning.
    pub(super) fn counters<L: Labels>(
        &mut self,
        name: &str,
        labels: &[&'static str],
        help: &str,
    ) -> Counters<L> {
        let vec = self.counter_vec(name, closed::<L>(labels), help);
        Table::of_some(&vec, &[]).shown(&self.later, |_| true)
    }

    pub(super) fn gauges<L: Labels>(&mut self, name: &str, labels: &[&'static str], help: &str) -> Gauges<L> {
        let vec = self.gauge_vec(name, closed::<L>(labels), help);
        Table::of_some(&vec, &[]).shown(&self.later, |_| true)
    }

    /// None is shown before it is used.
    pub(super) fn histograms<L: Labels>(
        &mut self,
        name: &str,
        labels: &[&'static str],
        help: &str,
        buckets: &[f64],
    ) -> Histograms<L> {
        Table::of_some(&self.histogram_vec(name, closed::<L>(labels), help, buckets), &[])
    }

    pub(super) fn counter_vec(
        &mut self,
        name: &str,
        labels: Vec<(&'static str, Values)>,
        help: &str,
    ) -> IntCounterVec {
        let names = names(&labels);
        self.add("counter", name, labels, help, |opts| IntCounterVec::new(opts, &names))
    }

    pub(super) fn gauge_vec(
        &mut self,
        name: &str,
        labels: Vec<(&'static str, Values)>,
        help: &str,
    ) -> IntGaugeVec {
        let names = names(&labels);
        self.add("gauge", name, labels, help, |opts| IntGaugeVec::new(opts, &names))
    }

    pub(super) fn real_gauge_vec(
        &mut self,
        name: &str,
        labels: Vec<(&'static str, Values)>,
        help: &str,
    ) -> GaugeVec {
        let names = names(&labels);
        self.add("gauge", name, labels, help, |opts| GaugeVec::new(opts, &names))
    }

    pub(super) fn histogram_vec(
        &mut self,
        name: &str,
        labels: Vec<(&'static str, Values)>,
        help: &str,
        buckets: &[f64],
    ) -> HistogramVec {
        let names = names(&labels);
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", name, labels, help, |_| HistogramVec::new(options, &names))
    }

    /// Metrics that describe themselves; those whose name ends in `_total` are counters.
    pub(super) fn foreign(&mut self, collector: impl Collector + 'static) {
        let mut described: Vec<_> = collector.desc().into_iter().cloned().collect();
        described.sort_by(|one, other| one.fq_name.cmp(&other.fq_name));
        for foreign in described {
            let kind = if foreign.fq_name.ends_with("_total") { "counter" } else { "gauge" };
            let (section, name, help) = (self.section, foreign.fq_name, foreign.help);
            self.described.push(Described { section, name, kind, labels: Vec::new(), help });
        }
        self.registry.register(Box::new(collector)).expect("each metric has a name of its own");
    }

    /// Where all of them are.
    pub(super) fn registry(&self) -> Registry {
        self.registry.clone()
    }

    fn add<C: Collector + Clone + 'static>(
        &mut self,
        kind: &'static str,
        name: &str,
        labels: Vec<(&'static str, Values)>,
        help: &str,
        make: impl FnOnce(Opts) -> prometheus::Result<C>,
    ) -> C {
        let collector = make(Opts::new(name, help)).expect("a valid metric");
        self.registry.register(Box::new(collector.clone())).expect("each metric has a name of its own");
        let (section, name, help) = (self.section, name.to_owned(), help.to_owned());
        self.described.push(Described { section, name, kind, labels, help });
        collector
    }
}

/// The labels of a closed set, each with what it may say.
pub(super) fn closed<L: Labels>(names: &[&'static str]) -> Vec<(&'static str, Values)> {
    names.iter().copied().zip(L::columns().into_iter().map(Values::Closed)).collect()
}

/// The same behind labels of other kinds.
pub(super) fn behind<L: Labels, const N: usize>(
    first: [(&'static str, Values); N],
    names: &[&'static str],
) -> Vec<(&'static str, Values)> {
    first.into_iter().chain(closed::<L>(names)).collect()
}

fn names(labels: &[(&'static str, Values)]) -> Vec<&'static str> {
    labels.iter().map(|(name, _)| *name).collect()
}

/// Raises a counter to what was counted elsewhere.
pub(super) fn raise<P: Atomic<T = u64>>(counter: &GenericCounter<P>, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
