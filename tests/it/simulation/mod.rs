//! The cluster in one process on paused time: three nodes over faulty ports, eight clients that behave
//! as the specification allows, a server behind them, and a ledger that knows what promises P1 to P5
//! say about what each of them saw. A seed decides everything, and replays exactly:
//! `SIMULATION_SEED=7 cargo test --test it simulation::replay -- --nocapture`.

mod bugs;
mod client;
mod gate;
mod ledger;
mod ports;
mod schedule;
mod server;
mod tally;
mod watched;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bugs::Bug;
use ledger::Counts;
use schedule::{Outcome, play};
use tally::Tally;

/// What `make test` plays: a few minutes' worth. Others by command.
const SCHEDULES: u64 = 2000;

/// For whatever is not a node's.
#[expect(clippy::disallowed_methods, reason = "what a simulated world does ends with its runtime")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

#[expect(clippy::disallowed_methods, reason = "which schedules are played is up to whoever runs the test")]
fn wish(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Plays schedules on as many threads as there are processors, until so many have something wrong or all
/// are played.
fn play_all(
    seeds: std::ops::Range<u64>,
    bug: Option<Bug>,
    wrong_max: usize,
) -> (Vec<Outcome>, Counts, Tally) {
    let next = AtomicU64::new(seeds.start);
    let wrong = Mutex::new(Vec::new());
    let counts = Mutex::new(Counts::default());
    let tally = Tally::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || wrong.lock().unwrap().len() >= wrong_max {
                        return;
                    }
                    let outcome = play(seed, bug, false);
                    counts.lock().unwrap().add(&outcome.counts);
                    tally.add(&outcome.tally);
                    if !outcome.broken.is_empty() {
                        wrong.lock().unwrap().push(outcome);
                    }
                }
            });
        }
    });
    (wrong.into_inner().unwrap(), counts.into_inner().unwrap(), tally)
}

/// `SIMULATION_SCHEDULES` says how many, `SIMULATION_SEED` where they start.
#[test]
fn p1_to_p5_hold_in_every_schedule() {
    let first = wish("SIMULATION_SEED").unwrap_or(0);
    let schedules = wish("SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let (wrong, counts, tally) = play_all(first..first + schedules, None, 20);
    println!("{schedules} schedules: {counts:?}\n{tally}");
    for outcome in &wrong {
        println!(
            "seed {} (SIMULATION_SEED={} cargo test --test it simulation::replay -- --nocapture):\n  {}",
            outcome.seed,
            outcome.seed,
            outcome.broken.join("\n  ")
        );
    }
    assert!(wrong.is_empty());
    if schedules >= SCHEDULES {
        every_fault_met_every_path(&tally);
    }
}

/// A fault that never met a path says nothing about it.
fn every_fault_met_every_path(tally: &Tally) {
    let steps = [
        "open", "load", "update", "begin", "append", "mark", "steal", "attach", "resync", "release", "close",
        "beat",
    ];
    for path in steps {
        for fault in ["refused", "lost", "late", "twice", "slow", "cut", "silent"] {
            assert!(tally.count(fault, path) > 0, "{fault} never met {path}");
        }
        for fault in ["killed", "frozen"] {
            assert!(tally.count(fault, path) > 0, "no node was {fault} in {path}");
        }
    }
    for path in ["send", "announce"] {
        for fault in ["lost", "late", "twice", "overtaken", "cut"] {
            assert!(tally.count(fault, path) > 0, "{fault} never met {path}");
        }
    }
    for path in ["call", "say", "listen", "resume", "delete"] {
        for fault in ["refused", "broken", "slow", "killed", "frozen"] {
            assert!(tally.count(fault, path) > 0, "{fault} never met {path}");
        }
    }
    for fault in ["killed", "frozen", "drained"] {
        assert!(tally.count(fault, "node") > 0, "no node was {fault}");
    }
}

/// The same seed tells the same story, to the millisecond.
#[test]
fn a_seed_replays_exactly() {
    for seed in 0..3 {
        let (one, other) = (play(seed, None, false), play(seed, None, false));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert!(one.counts.steps >= 200 && one.counts.faults >= 5, "{:?}", one.counts);
    }
}

/// Tells one schedule's story.
#[test]
fn replay() {
    if let Some(seed) = wish("SIMULATION_SEED") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter("holdfast=debug")
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .try_init();
        let bug = wish("SIMULATION_BUG").map(|number| Bug::ALL[number as usize]);
        let outcome = play(seed, bug, true);
        println!("{:?}\n{}", outcome.counts, outcome.broken.join("\n"));
    }
}

/// The simulation can fail: each of these mistakes is found.
#[test]
fn planted_bugs_are_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let (wrong, counts, _) = play_all(0..SCHEDULES, Some(bug), 1);
        match wrong.first() {
            Some(outcome) => println!("{bug:?}: seed {}: {}", outcome.seed, outcome.broken[0]),
            None => missed.push((bug, counts)),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

impl Outcome {
    fn of(seed: u64, world: &Arc<world::World>) -> Self {
        let tally = Tally::default();
        tally.add(&world.tally);
        Self {
            seed,
            broken: world.ledger.broken(),
            trace: world.ledger.trace(),
            counts: world.ledger.counts(),
            tally,
        }
    }
}
