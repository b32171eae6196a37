//! Faults of the Redis through which gates share quotas.
//!
//! What always holds: beside the gate that shares stands one that does not, with the same broker, the same load and the
//! same machine at the same time; what an answer takes is compared between the two.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::eventually;
use crate::support::gate::{Gate, Setup};
use crate::support::link::{Cable, Link};
use crate::support::redis::Redis;

use super::load::{Load, Tally, p99, seed};
use super::{CONFIG, REPLAYED, SLOWEST_ANSWER, Stage, seen, status, token};

/// Events of each gate in each phase, and how many come in a second.
const EVENTS: u64 = 1_000;
const RATE: u64 = 350;

/// What Redis may cost an answer, whatever is wrong with it.
const MOST: Duration = Duration::from_millis(5);

/// How often a phase is looked at.
const TRIES: usize = 3;

/// A way on which everything is much later than a call may take.
const SLOW: Duration = Duration::from_secs(9);

/// A gate and its senders.
struct Side {
    gate: Gate,
    load: Load,
}

impl Side {
    async fn start(stage: &Stage, setup: &Setup, seed: u64, first: usize) -> Self {
        let gate = setup.start().await;
        let load = Load::new(&stage.ledger, &token(&gate).await, 16, 10, seed).numbered_from(first).rate(RATE);
        Self { gate, load }
    }

    async fn phase(&mut self) -> Tally {
        let mut running = self.load.start(&self.gate, Some(EVENTS));
        self.load.join(&mut running).await
    }
}

/// A time in which something was the matter with Redis.
struct Phase {
    name: &'static str,
    with: Tally,
    without: Tally,
}

impl Phase {
    /// What Redis costs, it costs each time; what the machine does to one of two gates, it does to the other the next time.
    async fn pass(name: &'static str, with: &mut Side, without: &mut Side) -> Self {
        for _ in 1..TRIES {
            let phase = Self::once(name, with, without).await;
            if phase.excess() <= MOST {
                return phase;
            }
            eprintln!("{}; once more", phase.said());
        }
        Self::once(name, with, without).await
    }

    async fn once(name: &'static str, with: &mut Side, without: &mut Side) -> Self {
        let (with, without) = tokio::join!(with.phase(), without.phase());
        let phase = Self { name, with, without };
        phase.answers();
        phase
    }

    fn excess(&self) -> Duration {
        p50(&self.with).saturating_sub(p50(&self.without))
    }

    fn answers(&self) {
        for tally in [&self.with, &self.without] {
            assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{}: {tally:?}", self.name);
        }
        assert!(self.with.slowest.own() <= SLOWEST_ANSWER, "{}: {}", self.name, self.with.slowest);
    }

    fn said(&self) -> String {
        let times = |tally: &Tally| format!("p50 {:.1?} p99 {:.1?}", p50(tally), p99(tally.times.clone()));
        format!("{}: {}, without Redis {}", self.name, times(&self.with), times(&self.without))
    }
}

fn p50(tally: &Tally) -> Duration {
    let mut times = tally.times.clone();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn shared(gate: &Gate) -> Value {
    status(gate).await["limits"]["shared"].clone()
}

/// Waits until the gate says so; gives how long that took.
async fn is(gate: &Gate, state: &str) -> Duration {
    let since = Instant::now();
    eventually(&format!("quotas are {state}"), REPLAYED, async || (shared(gate).await["state"] == state).then_some(())).await;
    since.elapsed()
}

/// Scenario: under load Redis is killed, started again, frozen, thawed, and then at the end of a way that takes 9 s.
/// Guarantees: no answer is later than without Redis by more than 5 ms (the median of each phase, beside a gate without), none
/// is refused, nothing is lost; the gate says that it is alone, and shares again when Redis is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_or_silent_costs_no_answer_anything() {
    let Some(mut redis) = Redis::start().await else { return };
    let cable = Cable::new().await;
    cable.lead_to(redis.port());
    let mut stage = Stage::new().await;
    stage.deadline = SLOWEST_ANSWER;
    let brokers = stage.kafka.brokers();
    let seed = seed("Redis");
    let sharing = stage.setup.clone().env("REDIS_URL", &format!("redis://127.0.0.1:{}", cable.port()));
    let mut with = Side::start(&stage, &sharing, seed, 0).await;
    let other = Setup::new().shipped().config(CONFIG).env("REDPANDA_BROKERS", &brokers);
    let mut without = Side::start(&stage, &other, seed ^ 1, 16).await;
    is(&with.gate, "shared").await;
    let (mut phases, mut alone, mut back) = (Vec::new(), Vec::new(), Vec::new());
    // The first is everybody's warming up.
    for name in ["warming up", "well", "killed", "back", "frozen", "thawed", "9 s away", "near again"] {
        match name {
            "killed" => redis.kill_9(),
            "back" => redis.restart().await,
            "frozen" => redis.stop(),
            "thawed" => redis.cont(),
            "9 s away" => cable.turn(Link::Slow(SLOW)),
            "near again" => cable.turn(Link::Well),
            _ => {}
        }
        if matches!(name, "back" | "thawed" | "near again") {
            back.push(is(&with.gate, "shared").await);
        }
        phases.push(Phase::pass(name, &mut with, &mut without).await);
        if matches!(name, "killed" | "frozen" | "9 s away") {
            alone.push(is(&with.gate, "alone").await);
            assert_eq!(with.gate.admin_get("/readyz").await.status, 200, "it serves on");
            assert!(shared(&with.gate).await["last_error"].is_string());
        }
    }
    for side in [&with, &without] {
        stage.replayed(&side.gate).await;
    }
    let verdict = stage.verdict().await;
    let said: Vec<_> = phases.iter().skip(1).map(Phase::said).collect();
    seen("F24", &format!("{}; shared again after {back:.1?}; {verdict}", said.join("; ")));
    verdict.assert_clean();
    assert_eq!(verdict.unknown, 0, "{verdict}");
    let late: Vec<_> = phases.iter().skip(1).filter(|phase| phase.excess() > MOST).map(Phase::said).collect();
    assert!(late.is_empty(), "later than without Redis: {late:?}");
    assert!(alone.iter().all(|late| *late < Duration::from_secs(5)), "it notices while it is asked: {alone:?}");
    let changes = with.gate.lines().iter().filter(|line| line.contains("quotas are ")).count();
    // A machine that stands still for 50 ms is a Redis that is away for a second.
    assert!((7..=25).contains(&changes), "one line for each change of state, not for each turn: {changes}");
}
