//! One schedule: what goes wrong and when, who does what, and what has to hold at the end.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use holdfast::domain::{Principal, ServerName, SessionId, Transport};
use holdfast::ports::{Opened, SessionStore as _};
use hyper::Request;
use tokio::time::Instant;

use super::bugs::Bug;
use super::client::{Client, Speaks};
use super::ledger::{Counts, Ledger};
use super::ports::{Harm, Trap};
use super::spawn;
use super::tally::Tally;
use super::world::{NODES, Way, World};

const CLIENTS: usize = 8;
const STEPS: u64 = 25;

/// When all is well again, what still runs may take this long.
const PATIENCE: Duration = Duration::from_secs(90);

/// Long enough for what was said last to arrive.
const CALM: Duration = Duration::from_secs(6);

/// What a node caches of a session that ended is served for no longer.
const CACHED: Duration = Duration::from_secs(11);

/// What a schedule came to.
pub(super) struct Outcome {
    pub seed: u64,
    pub broken: Vec<String>,
    pub trace: u64,
    pub counts: Counts,
    pub tally: Tally,
}

/// Steps in which a node may be killed, frozen or cut off on purpose.
const TRAPS: [&str; 18] = [
    "open", "load", "update", "begin", "append", "append", "mark", "steal", "attach", "resync", "release",
    "close", "beat", "call", "resume", "listen", "say", "delete",
];

/// Plays a schedule to its end.
pub(super) fn play(seed: u64, bug: Option<Bug>, told: bool) -> Outcome {
    fastrand::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(act(seed, bug, told))
}

async fn act(seed: u64, bug: Option<Bug>, told: bool) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let resumes = rng.u8(0..4) > 0;
    let forgets = rng.u8(0..5) == 0;
    let server_fails = rng.u8(0..3) == 0;
    let ledger = Arc::new(Ledger::new(told));
    let world = World::new(seed, bug, ledger.clone(), resumes && !server_fails, forgets, resumes);
    ledger
        .tell(format_args!("seed {seed}: resumes {resumes}, forgets {forgets}, server fails {server_fails}"));
    for index in 0..NODES {
        world.start(index);
    }
    tokio::time::sleep(Duration::from_millis(rng.u64(0..3000))).await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let speaks = match number % 4 {
                0 | 1 => Speaks::Streamable,
                2 => Speaks::StreamableOld,
                _ => Speaks::HttpSse,
            };
            Client::new(&world, number, speaks, rng.u64(..))
        })
        .collect();
    let living = clients.iter().map(|client| client.clone().live(STEPS));
    let living = futures::future::join_all(living);
    let thieving = steal_sessions(&world, &clients, rng.u64(..));
    let going_wrong = go_wrong(&world, &mut rng, server_fails);
    let all = async {
        tokio::join!(biased; living, going_wrong, thieving);
    };
    let began = Instant::now();
    tokio::pin!(all);
    let ended = tokio::time::timeout(Duration::from_secs(30) + PATIENCE, &mut all).await;
    ledger.tell(format_args!("it took {:?}", began.elapsed()));
    if ended.is_err() {
        for client in &clients {
            for what in client.waits_for() {
                ledger.wrong(format_args!("P5: {} still waits for {what}", client.name));
            }
        }
        return Outcome::of(seed, &world);
    }
    world.server.falls_silent();
    tokio::time::sleep(CALM).await;
    for client in &clients {
        for session in world.server.sessions_of(&client.name) {
            ledger.all_heard(&session);
        }
    }
    nothing_is_left(&world, &clients).await;
    Outcome::of(seed, &world)
}

/// Faults, at least five, one after the other or at once.
async fn go_wrong(world: &Arc<World>, rng: &mut Rng, server_fails: bool) {
    let mut at: Vec<u64> = (0..rng.usize(5..10)).map(|_| rng.u64(200..18_000)).collect();
    at.sort_unstable();
    let began = Instant::now();
    for at in at {
        tokio::time::sleep_until(began + Duration::from_millis(at)).await;
        let index = rng.usize(0..NODES);
        let time = Duration::from_millis(rng.u64(200..6000));
        match rng.u8(0..16) {
            0 | 1 => world.kill(index, time),
            2 => world.freeze(index, time),
            15 => world.freeze(index, Duration::from_millis(rng.u64(3000..7000))),
            3 | 4 => world.drain(index, time),
            5..=8 => {
                let harm = match rng.u8(0..4) {
                    0 => Harm::Cut(time),
                    1 => Harm::Kill,
                    _ => Harm::Freeze(time),
                };
                let path = TRAPS[rng.usize(0..TRAPS.len())];
                // Cut off after it, it would meet nothing.
                let trap = Trap { path, after: rng.bool() && !matches!(harm, Harm::Cut(_)), harm };
                lay(world, index, trap);
            }
            9 | 10 => {
                let way = if rng.bool() { Way::Refused } else { Way::Silent };
                let whole = rng.u8(0..3) == 0;
                for index in (0..NODES).filter(|other| whole || *other == index) {
                    world.cut_store(index, time, way);
                }
            }
            11 | 12 => {
                let whole = rng.u8(0..3) == 0;
                for index in (0..NODES).filter(|other| whole || *other == index) {
                    world.for_a_while(
                        index,
                        time,
                        |node| node.links.cut_bus(true),
                        |node| node.links.cut_bus(false),
                    );
                }
            }
            13 if server_fails && rng.bool() => {
                if world.server.forget(rng.usize(..)) {
                    world.tally.met("forgotten", "session");
                    world.fault(Duration::from_millis(500));
                }
            }
            _ => {
                let server = if server_fails { rng.u32(0..30) } else { 0 };
                let (store, bus) = (rng.u32(0..25), rng.u32(0..40));
                for index in 0..NODES {
                    let on = move |node: &super::world::Node| node.links.set_noise(store, bus, server);
                    world.for_a_while(index, time, on, |node| node.links.set_noise(0, 0, 0));
                }
            }
        }
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
}

/// A node is killed, frozen or cut off in the middle of a step; or soon, if it doesn't take that step.
fn lay(world: &Arc<World>, index: usize, trap: Trap) {
    let Some(node) = world.node(index) else { return };
    world.ledger.tell(format_args!("{}: {trap:?} is laid", node.id));
    node.links.set_trap(trap);
    let world = world.clone();
    spawn(async move {
        tokio::time::sleep(Duration::from_secs(4)).await;
        if let Some(trap) = node.links.take_trap() {
            world.spring(&node.id, trap);
        }
    });
}

/// P2: somebody claims what is another's, and two claim the same at two nodes.
async fn steal_sessions(world: &Arc<World>, clients: &[Arc<Client>], seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let (thief, server) = (Principal::named("thief"), ServerName::parse("default").unwrap());
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(rng.u64(200..4000))).await;
        let nodes = world.nodes();
        if nodes.is_empty() {
            continue;
        }
        let one = nodes[rng.usize(0..nodes.len())].clone();
        let other = nodes[rng.usize(0..nodes.len())].clone();
        let held = clients.iter().filter(|client| client.speaks == Speaks::HttpSse);
        for client in held {
            let Some(session) = client.session() else { continue };
            let id = SessionId::parse(&session).unwrap();
            let claimed = world.port(&one).open(&id, &server, &thief, Transport::HttpSse).await;
            if claimed == Ok(Opened::Owned(thief.clone())) && client.session().as_ref() == Some(&session) {
                world.ledger.wrong(format_args!("P2: {session} of {} was given to another", client.name));
            }
        }
        let id = SessionId::parse(&format!("race-{seed}-{round}")).unwrap();
        let (first, second) = (Principal::named("first"), Principal::named("second"));
        let (at_one, at_other) = (world.port(&one), world.port(&other));
        let (one, other) = tokio::join!(
            biased;
            at_one.open(&id, &server, &first, Transport::Streamable),
            at_other.open(&id, &server, &second, Transport::Streamable),
        );
        if let (Ok(one), Ok(other)) = (&one, &other)
            && one != other
        {
            world.ledger.wrong(format_args!("P2: {id} has two owners: {one:?} and {other:?}"));
        }
    }
}

/// Once all is calm: no record without a request, no session that ended and is still served, no place
/// that was not given back.
async fn nothing_is_left(world: &Arc<World>, clients: &[Arc<Client>]) {
    for client in clients {
        for (session, request) in client.answered() {
            let id = SessionId::parse(&session).unwrap();
            let Ok(Some(inspected)) = world.store.inspect(&id).await else { continue };
            if inspected.running.iter().any(|record| record.request.as_json() == request.to_string()) {
                world
                    .ledger
                    .wrong(format_args!("P5: request {request} of {session} was answered, and still runs"));
            }
        }
        client.stop();
    }
    tokio::time::sleep(CACHED).await;
    for client in clients {
        for session in client.ended() {
            for node in world.nodes() {
                let ping = Request::post("/mcp")
                    .header("host", "localhost:4444")
                    .header("content-type", "application/json")
                    .header("accept", "application/json, text/event-stream")
                    .header("mcp-session-id", &session)
                    .body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into())
                    .unwrap();
                match world.request_at(&node, ping).await {
                    Ok(answer) if answer.status == 404 => {}
                    Ok(answer) => world.ledger.wrong(format_args!(
                        "P2: {session} ended, and {} answers with {}",
                        node.id, answer.status
                    )),
                    Err(_) => {}
                }
            }
        }
    }
    for node in world.nodes() {
        match node.streams() {
            None | Some(0) => {}
            Some(streams) => world.ledger.wrong(format_args!("{} still holds {streams} streams", node.id)),
        }
    }
}
