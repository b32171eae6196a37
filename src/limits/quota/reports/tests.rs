//! Gates that share accounts through a store that is a number, by a clock that is moved by hand.

use super::super::tests::{SECOND, a_minute, quotas, waits};
use super::*;
use crate::limits::{Config, Tier, Verdict};
use governor::clock::FakeRelativeClock;
use std::collections::HashMap;

const INTERVAL: Duration = Duration::from_millis(100);
const ALL: usize = 1_024;

/// Two gates, the store between them, and the one clock of all three.
struct Stage {
    clock: FakeRelativeClock,
    gates: Vec<Quotas<FakeRelativeClock>>,
    rounds: Vec<Rounds<Nanos>>,
    /// When each account is as good as new, in microseconds since the start.
    store: HashMap<String, [u64; 2]>,
    passed: Duration,
}

impl Stage {
    fn new(tier: Tier) -> Self {
        let (first, clock) = quotas(&[("standard", tier)]);
        let mut stage = Self { clock, gates: Vec::new(), rounds: Vec::new(), store: HashMap::new(), passed: Duration::ZERO };
        let second = stage.fresh(tier);
        stage.gates = vec![first, second];
        stage.rounds = vec![Rounds::new(INTERVAL), Rounds::new(INTERVAL)];
        stage
    }

    /// A gate that has just started.
    fn fresh(&self, tier: Tier) -> Quotas<FakeRelativeClock> {
        let tiers = [("standard".to_owned(), tier)].into();
        Quotas::with_clock(&Config { tiers, ..Config::default() }, self.clock.clone())
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.passed += time;
    }

    /// One gate's turn; gives how many accounts it spoke of.
    fn turn(&mut self, gate: usize) -> usize {
        let reports = self.gates[gate].reports(&mut self.rounds[gate], ALL);
        let now = u64::try_from(self.passed.as_micros()).expect("small");
        for report in &reports {
            let shared = self.store.entry(report.name().to_owned()).or_default();
            for (at, used) in shared.iter_mut().zip(report.used()) {
                *at = now + used.added_to(at.saturating_sub(now));
            }
            self.gates[gate].settle(report, shared.map(|at| at - now));
        }
        reports.len()
    }

    /// A turn whose store is away.
    fn failed_turn(&mut self, gate: usize) {
        let reports = self.gates[gate].reports(&mut self.rounds[gate], ALL);
        reports.iter().for_each(|report| self.gates[gate].give_back(report));
    }

    fn back(&mut self) {
        let now = self.clock.now();
        self.rounds.iter_mut().for_each(|rounds| rounds.back(now));
    }

    fn turns(&mut self) {
        for gate in 0..self.gates.len() {
            self.turn(gate);
        }
    }

    fn failed_turns(&mut self) {
        (0..self.gates.len()).for_each(|gate| self.failed_turn(gate));
    }

    /// As many single events as this gate admits now.
    fn admitted(&self, gate: usize, asked: u32) -> u32 {
        (0..asked).map(|_| u32::from(self.gates[gate].charge_named("a", "standard", 1, 10) == Verdict::Admit)).sum()
    }

    fn wait(&self, gate: usize) -> Duration {
        waits(self.gates[gate].charge_named("a", "standard", 1, 10))
    }
}

#[test]
fn two_gates_together_admit_one_quota_and_say_the_same_wait() {
    let mut stage = Stage::new(a_minute());
    let mut admitted = 0;
    for _ in 0..20 {
        admitted += stage.admitted(0, 3) + stage.admitted(1, 3);
        stage.turns();
    }
    assert!((60..=63).contains(&admitted), "one quota, and what the one admits before it hears of the other: {admitted}");
    stage.pass(ASK_EVERY);
    (0..SHARDS).for_each(|_| stage.turns());
    assert_eq!(stage.wait(0), stage.wait(1));
    stage.pass(stage.wait(0) + 4 * SECOND);
    assert_eq!(stage.admitted(0, 10), 5);
    stage.turns();
    // Whether it asks without a charge depends on where in its table the account is.
    let before_it_heard = stage.admitted(1, 1);
    stage.turns();
    assert_eq!((stage.admitted(1, 10), stage.wait(1)), (0, SECOND * (1 + before_it_heard)), "and what it admitted is owed");
}

#[test]
fn on_the_long_run_the_rate_is_exact_and_only_one_interval_is_ever_ahead() {
    let tier = Tier { events_per_second: 50.0, burst: 100, ..Tier::default() };
    let mut stage = Stage::new(tier);
    let mut admitted = 0;
    for turn in 1..=10_000_u32 {
        admitted += stage.admitted(0, 20) + stage.admitted(1, 20);
        stage.pass(INTERVAL);
        stage.turns();
        stage.turn(0);
        // The burst, the rate, and what the second gate admits before it hears of the first: in the first turns a burst.
        let most = 100.0 + 50.0 * f64::from(turn) / 10.0 + 20.0 + 5.0;
        assert!(f64::from(admitted) <= most, "{admitted} of {most} after {turn} turns");
    }
    assert!(f64::from(admitted) >= 100.0 + 50.0 * 1_000.0 - 10.0, "and nothing is lost: {admitted}");
}

#[test]
fn a_gate_that_has_just_started_has_no_burst_for_whom_the_others_know() {
    let mut stage = Stage::new(a_minute());
    assert_eq!(stage.admitted(0, 60), 60);
    stage.turn(0);
    stage.gates[0] = stage.fresh(a_minute());
    stage.rounds[0] = Rounds::new(INTERVAL);
    assert_eq!(stage.admitted(0, 1), 1, "the first one, before it has asked");
    stage.turn(0);
    assert_eq!((stage.admitted(0, 1), stage.wait(0)), (0, 2 * SECOND), "and that one is owed");
}

#[test]
fn a_store_that_has_forgotten_everything_is_told_all_that_is_in_use() {
    let mut stage = Stage::new(a_minute());
    assert_eq!(stage.admitted(0, 60), 60);
    stage.turns();
    stage.store.clear();
    stage.pass(2 * SECOND);
    assert_eq!(stage.admitted(0, 5), 2);
    stage.turn(0);
    assert_eq!((stage.admitted(0, 1), stage.wait(0)), (0, SECOND));
}

#[test]
fn a_time_alone_makes_no_debts() {
    let mut stage = Stage::new(a_minute());
    for _ in 0..300 {
        assert!(stage.admitted(0, 60) >= 1 && stage.admitted(1, 60) >= 1, "each has the whole quota meanwhile");
        stage.pass(SECOND);
        stage.failed_turns();
    }
    stage.back();
    stage.turns();
    stage.turn(0);
    assert!(stage.admitted(0, 60) <= 1 && stage.admitted(1, 60) <= 1, "each goes on where it was");
    stage.turns();
    assert!(stage.wait(0) <= 2 * SECOND && stage.wait(1) <= 2 * SECOND, "{:?} {:?}", stage.wait(0), stage.wait(1));
    let mut admitted = 0;
    for _ in 0..100 {
        stage.pass(SECOND);
        admitted += stage.admitted(0, 20);
        stage.turns();
        admitted += stage.admitted(1, 20);
        stage.turns();
    }
    assert!((97..=103).contains(&admitted), "and from there the rate is that of one quota: {admitted}");
}

#[test]
fn what_is_no_longer_in_use_is_not_told_after_a_time_alone() {
    let mut stage = Stage::new(a_minute());
    assert_eq!((stage.admitted(0, 60), stage.admitted(1, 30)), (60, 30));
    stage.failed_turns();
    stage.pass(61 * SECOND);
    stage.back();
    assert_eq!((stage.turn(0), stage.turn(1)), (0, 0), "everything has come back");
    assert_eq!(stage.admitted(0, 60), 60);
}

#[test]
fn a_debt_is_everybodys_and_outlives_a_time_alone() {
    let mut stage = Stage::new(a_minute());
    assert_eq!(stage.gates[0].draw_named("a", "standard", 160, 0), 100 * SECOND);
    stage.failed_turn(0);
    stage.back();
    stage.pass(SECOND);
    stage.turn(0);
    assert_eq!(stage.admitted(1, 1), 1);
    stage.turn(1);
    assert_eq!(stage.gates[1].owed_named("a", "standard"), 100 * SECOND, "what was owed, and that one");
    stage.pass(90 * SECOND);
    stage.gates[1].tidy();
    assert_eq!(stage.gates[1].owed_named("a", "standard"), 10 * SECOND, "and is not forgotten there before it is paid");
}

#[test]
fn what_others_use_is_seen_without_a_charge_here_and_asked_for_only_as_long_as_it_matters() {
    let mut stage = Stage::new(a_minute());
    assert_eq!((stage.admitted(0, 10), stage.admitted(1, 10)), (10, 10));
    stage.turns();
    assert_eq!(stage.admitted(0, 40), 40);
    let mut asked = 0;
    for _ in 0..20 {
        stage.turn(0);
        asked += stage.turn(1);
        stage.pass(INTERVAL);
    }
    assert!((1..=2).contains(&asked), "at most each second: {asked}");
    assert_eq!(stage.admitted(1, 10), 2, "40 and 20 are used, and two have come back");
    for _ in 0..1_400 {
        stage.turns();
        stage.pass(INTERVAL);
    }
    assert_eq!((stage.turn(0), stage.turn(1)), (0, 0), "whoever sends nothing is asked about no more");
}

#[test]
fn the_way_to_the_store_and_back_is_not_charged_to_anybody() {
    let mut stage = Stage::new(a_minute());
    assert_eq!(stage.admitted(0, 30), 30);
    stage.turn(0);
    let before = stage.store["a"][0];
    for _ in 0..100 {
        stage.pass(ASK_EVERY / 20);
        let reports = stage.gates[0].reports(&mut stage.rounds[0], ALL);
        let asked_at = u64::try_from(stage.passed.as_micros()).expect("small");
        stage.pass(Duration::from_millis(40)); // The way there and back.
        for report in &reports {
            let shared = stage.store.get_mut("a").expect("told above");
            let used = [0, 1].map(|at| report.used()[at].added_to(shared[at].saturating_sub(asked_at)));
            *shared = used.map(|used| asked_at + used);
            stage.gates[0].settle(report, used);
        }
    }
    assert_eq!(stage.store["a"][0], before, "asking moves nothing on");
}

#[test]
fn a_turn_has_a_bound_and_everybody_has_a_turn() {
    let (quotas, clock) = quotas(&[("standard", a_minute())]);
    let mut rounds = Rounds::new(INTERVAL);
    let mut seen: HashMap<String, u32> = HashMap::new();
    for _ in 0..60 {
        for n in 0..300 {
            let _ = quotas.charge_named(&n.to_string(), "standard", 1, 0);
        }
        let reports = quotas.reports(&mut rounds, 50);
        assert!(reports.len() <= 50);
        reports.iter().for_each(|report| *seen.entry(report.name().to_owned()).or_default() += 1);
        clock.advance(INTERVAL);
    }
    assert_eq!(seen.len(), 300, "nobody waits for ever");
    assert!(seen.values().all(|turns| *turns >= 4), "{:?}", seen.values().min());
}

#[test]
fn a_rate_whose_period_is_no_whole_number_of_microseconds_is_told_exactly() {
    let (quotas, _) = quotas(&[("standard", Tier { events_per_second: 300_000.0, burst: 1_000_000, ..Tier::default() })]);
    let mut rounds = Rounds::new(INTERVAL);
    let mut told = 0;
    for _ in 0..300 {
        let _ = quotas.draw_named("a", "standard", 1_000, 0);
        told += quotas.reports(&mut rounds, ALL).iter().map(|report| report.used()[0].cost).sum::<u64>();
    }
    assert!((999_000..=1_000_000).contains(&told), "{told}: 300,000 events are a second");
}

#[test]
fn what_is_added_never_goes_beyond_its_bounds() {
    let used = Used { own: 50, cost: 20, cap: 100, most: 200 };
    for (ahead, expected) in [(0, 50), (40, 60), (50, 70), (90, 100), (150, 150), (1_000, 200), (u64::MAX, 200)] {
        assert_eq!(used.added_to(ahead), expected, "{ahead}");
    }
}
