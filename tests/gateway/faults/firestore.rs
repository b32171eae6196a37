//! Faults of a Firestore inbox, and of broker and gate before one: slow, exhausted, locked out, lying, away.
//!
//! What always holds: the checker reads Firestore by its REST API; without an emulator a test says NOT RUN.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::firestore::stage::with_firestore;
use crate::support::faulty_firestore::{ABORTED, ANY, FaultyFirestore, Lie, RESOURCE_EXHAUSTED, Times, UNAVAILABLE};
use crate::support::firestore::{DATABASE, Firestore, PROJECT};
use crate::support::gate::Gate;
use crate::support::stopwatch::Took;
use crate::support::{DEADLINE, eventually};

use super::disk::{assert_unavailable, post, resident_kib};
use super::load::{Dice, Load, seed};
use super::rules::Verdict;
use super::{DENIED_TOPIC, REPLAYED, SLOWEST_ANSWER, Stage, TOPICS, rounds, seen, status, token};

/// Firestore in a region near by, as its own documentation has it.
const NEAR: Duration = Duration::from_millis(50);

/// How long a fault of Firestore lasts.
const FAULT: Duration = Duration::from_secs(8);

/// What a gate may take more while it refuses: a few buffers of each connection, and what waits for Firestore.
const MOST_GROWTH_MIB: u64 = 96;

/// The collection of the gate's rows, as the checker asks for it.
fn place(firestore: &Firestore) -> String {
    format!("{}/{PROJECT}/{DATABASE}", firestore.address())
}

/// A stage whose inbox is Firestore, behind the proxy that can break it.
struct Clouded {
    stage: Stage,
    firestore: Firestore,
    faulty: FaultyFirestore,
    number: AtomicU64,
}

impl Clouded {
    async fn new() -> Option<Self> {
        let firestore = Firestore::start().await?;
        let faulty = FaultyFirestore::before(&firestore.address()).await;
        let mut stage = Stage::new().await;
        stage.setup = with_firestore(stage.setup.clone(), &faulty.address());
        stage.deadline = SLOWEST_ANSWER;
        Some(Self { stage, firestore, faulty, number: AtomicU64::new(0) })
    }

    fn set(&mut self, name: &str, value: &str) {
        self.stage.setup = self.stage.setup.clone().env(&format!("SLUICEGATE__INBOX__FIRESTORE__{name}"), value);
    }

    /// What the checker says of broker and Firestore.
    async fn verdict(&self) -> Verdict {
        self.verdict_of(&[&TOPICS[..], &[DENIED_TOPIC]].concat()).await
    }

    async fn verdict_of(&self, topics: &[&str]) -> Verdict {
        let (brokers, topics) = (self.stage.kafka.brokers(), topics.join(","));
        let (place, deadline) = (place(&self.firestore), self.stage.deadline.as_millis().to_string());
        self.stage.ledger.verdict(&["--brokers", &brokers, "--topics", &topics, "--firestore", &place, "--deadline-ms", &deadline]).await
    }

    /// Sends the next event of one key, and gives the status.
    async fn next(&self, gate: &Gate, token: &str) -> u16 {
        post(gate, token, &self.stage.ledger, "alpha", self.number.fetch_add(1, Ordering::Relaxed), 100).await.status
    }

    /// The next event is refused for now, with a time to come back.
    async fn is_refused(&self, gate: &Gate, token: &str) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        assert_unavailable(&post(gate, token, &self.stage.ledger, "alpha", number, 100).await);
    }

    /// Waits until an event has this status.
    async fn until(&self, gate: &Gate, token: &str, wanted: u16) {
        let answered = async || (self.next(gate, token).await == wanted).then_some(());
        eventually(&format!("an event is answered {wanted}"), DEADLINE, answered).await;
    }

    /// Waits until Firestore holds nothing, and the gate knows.
    async fn replayed(&self, gate: &Gate) {
        self.stage.replayed(gate).await;
        let empty = async || self.firestore.documents("sluicegate_inbox").await.is_empty().then_some(());
        eventually("no document is left", REPLAYED, empty).await;
    }
}

fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
    sorted[(sorted.len() * hundredths / 100).min(sorted.len() - 1)]
}

/// Scenario: Firestore takes 50 ms for every call; under load the broker is killed and started again, again and again.
/// Guarantees: no answer takes longer than 3 s, and nothing is lost. Goal, reported: the first answer from the inbox comes
/// within a second of the kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_again_and_again_is_stood_in_for_by_firestore() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.faulty.delay(NEAR);
    let gate = clouded.stage.setup.start().await;
    let mut load = Load::new(&clouded.stage.ledger, &token(&gate).await, 16, 20, seed("broker killed, Firestore")).rate(250);
    let (mut firsts, mut slowest, mut held_up) = (Vec::new(), Took::default(), 0);
    for round in 0..rounds(3, 50) {
        let running = load.start(&gate, None);
        clouded.stage.acked(clouded.stage.ledger.acked() + 100).await;
        let fault = format!("broker killed, {round}");
        clouded.stage.ledger.broken(&fault);
        let killed = Instant::now();
        clouded.stage.kafka.kill_9();
        let first = async || clouded.stage.ledger.first_inbox_answer(killed);
        let first = eventually("the inbox answers", DEADLINE, first).await;
        clouded.stage.acked(clouded.stage.ledger.acked() + 100).await;
        clouded.stage.kafka.restart().await;
        let closed = async || (status(&gate).await["sink"]["breaker"] == "closed").then_some(());
        eventually("the breaker closes", REPLAYED, closed).await;
        let tally = load.end(running).await;
        assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
        eprintln!("broker killed, round {round}: first inbox answer after {first:?}, slowest answer {}", tally.slowest);
        firsts.push(first);
        slowest = slowest.max(tally.slowest);
        held_up += tally.held_up;
        clouded.replayed(&gate).await;
        clouded.stage.ledger.healed(&fault);
    }
    let verdict = clouded.verdict().await;
    firsts.sort();
    let (p50, p99) = (percentile(&firsts, 50), percentile(&firsts, 99));
    seen(
        "F1",
        &format!(
            "Firestore at 50 ms, {} kills: first inbox answer p50 {p50:?}, p99 {p99:?} (goal 1 s), slowest answer {slowest}, {held_up} refused as the machine stalled; {verdict}",
            firsts.len()
        ),
    );
    verdict.assert_clean();
    assert!(verdict.by_inbox > 0 && verdict.unknown == 0, "{verdict}");
    assert!(p99 <= SLOWEST_ANSWER && slowest.own() <= SLOWEST_ANSWER, "{p99:?}, {slowest}");
}

/// Scenario: the broker is away, and every answer of Firestore comes 5 s late, though what was asked for is done.
/// Guarantees: every event is refused with 503 and Retry-After within the deadline, and none accepted; calls and memory are
/// bounded; well again, the inbox takes events, and nothing is found that was not sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_takes_five_seconds_is_given_up_in_time_and_costs_a_bounded_sum() {
    let Some(mut clouded) = Clouded::new().await else { return };
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    let mut load = Load::new(&clouded.stage.ledger, &token, 32, 20, seed("Firestore slow")).rate(400);
    let mut running = load.start(&gate, Some(200));
    load.join(&mut running).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.broken("Firestore slow");
    clouded.faulty.answer_late(Duration::from_secs(5));
    clouded.is_refused(&gate, &token).await;
    let (acked, before) = (clouded.stage.ledger.acked(), resident_kib(&gate));
    let running = load.start(&gate, None);
    tokio::time::sleep(FAULT).await; // The fault's own length, which is waited for by nobody.
    let tally = load.end(running).await;
    let grown = resident_kib(&gate).saturating_sub(before) >> 10;
    assert_eq!((clouded.stage.ledger.acked(), &tally.errors), (acked, &Vec::new()), "nothing is accepted, everything is answered");
    assert_all_refused(&tally.refused);
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
    assert!(grown <= MOST_GROWTH_MIB, "{grown} MiB more");
    let in_flight = clouded.faulty.most_in_flight();
    assert!(in_flight <= 64, "{in_flight} calls at a time");
    clouded.faulty.heal();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.healed("Firestore slow");
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    clouded.until(&gate, &token, 200).await;
    let verdict = clouded.verdict().await;
    seen(
        "F11",
        &format!(
            "{} requests refused, slowest {}, at most {in_flight} calls at a time, {grown} MiB more; {verdict}",
            tally.refused.len(),
            tally.slowest
        ),
    );
    verdict.assert_clean();
}

/// Where a batch holds what can never be accepted beside what can, each event has its own refusal, and the status is 207.
fn assert_all_refused(refused: &[String]) {
    let other: Vec<_> = refused.iter().filter(|refused| !refused.starts_with("503 ") && !refused.starts_with("207 ")).collect();
    assert!(!refused.is_empty() && other.is_empty(), "{} refused, {other:?}", refused.len());
}

/// Scenario: the broker is away, and Firestore answers RESOURCE_EXHAUSTED, then ABORTED, to every write; then the broker is
/// back, and Firestore is not; then Firestore is.
/// Guarantees: events are refused with 503 and Retry-After; the gate backs off, however many wait; the broker's path goes on
/// without Firestore; both back, the inbox takes events by itself when it is needed.
#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_firestore_is_backed_off_from_and_the_brokers_path_goes_on() {
    let Some(mut clouded) = Clouded::new().await else { return };
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.until(&gate, &token, 200).await;
    let mut load = Load::new(&clouded.stage.ledger, &token, 32, 20, seed("Firestore exhausted")).rate(400);
    clouded.stage.kill_broker();
    clouded.stage.ledger.broken("Firestore exhausted");
    let mut rates = Vec::new();
    for (code, name) in [(RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"), (ABORTED, "ABORTED")] {
        clouded.faulty.heal();
        clouded.faulty.fail("BatchWrite", code, name, Times::UntilHealed);
        clouded.is_refused(&gate, &token).await;
        let acked = clouded.stage.ledger.acked();
        let running = load.start(&gate, None);
        tokio::time::sleep(FAULT / 2).await; // The fault's own length: time to have backed off.
        let (calls, since) = (clouded.faulty.count("BatchWrite"), Instant::now());
        tokio::time::sleep(FAULT / 2).await; // As before.
        rates.push((clouded.faulty.count("BatchWrite") - calls) as f64 / since.elapsed().as_secs_f64());
        let tally = load.end(running).await;
        assert_eq!(
            (clouded.stage.ledger.acked(), &tally.errors),
            (acked, &Vec::new()),
            "{name}: nothing is accepted, everything is answered"
        );
        assert_all_refused(&tally.refused);
        assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{name}: {}", tally.slowest);
    }
    // As many requests a second come: each of them with a call of its own would be more.
    assert!(rates.iter().all(|rate| *rate <= 20.0), "{rates:?} calls a second");
    clouded.stage.restart_broker().await;
    clouded.until(&gate, &token, 200).await;
    let before = clouded.faulty.count("BatchWrite");
    let mut running = load.start(&gate, Some(1_000));
    let tally = load.join(&mut running).await;
    assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "the broker's path needs no Firestore: {tally:?}");
    let more = clouded.faulty.count("BatchWrite") - before;
    clouded.faulty.heal();
    clouded.stage.ledger.healed("Firestore exhausted");
    clouded.stage.kafka.kill_9();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.verdict().await;
    seen(
        "F12",
        &format!("{:.1} and {:.1} calls a second once it has backed off, {more} while the broker takes all; {verdict}", rates[0], rates[1]),
    );
    verdict.assert_clean();
}

/// What the gate says of its inbox's trouble.
async fn alarm(gate: &Gate) -> Option<String> {
    let inbox = status(gate).await["inbox"].clone();
    inbox["alarm"].as_str().map(str::to_owned)
}

/// Scenario: the broker is away, and Firestore lets nobody in; later it does.
/// Guarantees: events are refused with 503 and Retry-After within the deadline; `/status` says why; let in again the inbox
/// takes events by itself, and says nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_firestore_does_not_let_in_refuses_says_so_and_recovers_by_itself() {
    let Some(mut clouded) = Clouded::new().await else { return };
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.until(&gate, &token, 200).await;
    assert_eq!(alarm(&gate).await, None);
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.broken("locked out");
    clouded.faulty.admit_only(&["another"]);
    for _ in 0..3 {
        clouded.is_refused(&gate, &token).await;
    }
    let said = eventually("the gate says that it is locked out", DEADLINE, async || alarm(&gate).await).await;
    let calls = clouded.faulty.count(ANY);
    let mut load = Load::new(&clouded.stage.ledger, &token, 16, 20, seed("locked out")).rate(400);
    let running = load.start(&gate, None);
    tokio::time::sleep(FAULT).await; // The fault's own length, which is waited for by nobody.
    let tally = load.end(running).await;
    assert_eq!(tally.errors, Vec::<String>::new());
    assert_all_refused(&tally.refused);
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
    let calls = (clouded.faulty.count(ANY) - calls) as f64 / FAULT.as_secs_f64();
    let healed = Instant::now();
    clouded.faulty.admit_only(&["another", "owner"]);
    clouded.until(&gate, &token, 202).await;
    let healed = healed.elapsed();
    clouded.stage.ledger.healed("locked out");
    let silent = async || alarm(&gate).await.is_none().then_some(());
    eventually("the gate says nothing any more", DEADLINE, silent).await;
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.verdict().await;
    seen(
        "F13",
        &format!(
            "`{said}`; {} requests refused, slowest {}, {calls:.1} calls a second; takes events {healed:?} after it is let in; {verdict}",
            tally.refused.len(),
            tally.slowest
        ),
    );
    verdict.assert_clean();
    let lines = gate.lines().iter().filter(|line| line.contains("\"ERROR\"") && line.to_lowercase().contains("firestore")).count();
    assert!((1..=20).contains(&lines), "it is said aloud, and not for every event: {lines}");
}

/// Scenario: the broker is away; every write is read back, and of Firestore's OKs to calls one in four is a lie.
/// Guarantees: no event is accepted that is not there; the gate says what it has found.
#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_lies_is_found_out_before_the_answer_where_everything_is_read_back() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("AUDIT_ONE_IN", "1");
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    assert_eq!(alarm(&gate).await, None);
    clouded.stage.ledger.broken("Firestore lies");
    clouded.faulty.lie(Lie::Every(4));
    let mut load = Load::new(&clouded.stage.ledger, &token, 8, 10, seed("Firestore lies")).rate(200);
    let mut running = load.start(&gate, Some(600));
    let tally = load.join(&mut running).await;
    assert_eq!(tally.errors, Vec::<String>::new());
    let said = eventually("the gate says what it has found", DEADLINE, async || alarm(&gate).await).await;
    let lies = clouded.faulty.lied().len();
    assert!(lies > 0, "it has lied");
    clouded.faulty.heal();
    clouded.stage.ledger.healed("Firestore lies");
    clouded.until(&gate, &token, 202).await;
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.verdict().await;
    seen("F14", &format!("everything read back: {lies} lies, `{said}`; {} requests refused; {verdict}", tally.refused.len()));
    verdict.assert_clean();
}

/// Scenario: the broker is away; one write in a thousand is read back, and from some moment on every OK of Firestore's is a lie.
/// Guarantees: it is found within a thousand writes, more or less; from then on nothing is accepted that is not there. (What
/// was accepted before is lost, which nothing can help: the checker counts exactly that.)
#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_lies_is_found_out_within_a_thousand_writes_where_one_in_a_thousand_is_read_back() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("AUDIT_ONE_IN", "1000");
    clouded.set("RAMP_FROM", "5000");
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.broken("Firestore lies");
    clouded.faulty.lie(Lie::Every(1));
    let mut load = Load::new(&clouded.stage.ledger, &token, 16, 50, seed("Firestore lies, 1000"));
    let running = load.start(&gate, None);
    let said = eventually("the gate says what it has found", REPLAYED, async || alarm(&gate).await).await;
    load.end(running).await;
    let (acked, lies) = (clouded.stage.ledger.acked(), clouded.faulty.lied().len());
    for _ in 0..5 {
        clouded.is_refused(&gate, &token).await;
    }
    let mut running = load.start(&gate, Some(200));
    let tally = load.join(&mut running).await;
    assert_eq!((clouded.stage.ledger.acked(), &tally.errors), (acked, &Vec::new()), "nothing more is accepted on its word");
    clouded.faulty.heal();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.healed("Firestore lies");
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.verdict().await;
    seen(
        "F14",
        &format!("one in 1,000 read back: found after {lies} lies, `{said}`, {} were accepted before; {verdict}", verdict.lost.len()),
    );
    // One in a thousand by chance is found after a thousand on average: seven times as many happen once in a thousand runs.
    assert!(!verdict.lost.is_empty() && verdict.lost.len() <= 7_000, "{verdict}");
    assert!(verdict.lost.len() <= lies, "{verdict}");
    let others: usize = verdict.rules().iter().map(|(_, offenders)| offenders.len()).sum::<usize>() - verdict.lost.len();
    assert_eq!(others, 0, "{}", verdict.table());
}

/// Scenario: broker and Firestore are both away; senders go on for eight seconds; then both come back.
/// Guarantees: every event is refused with 503 and Retry-After within the deadline, and none accepted; memory does not
/// grow with what is refused; with the faults gone events are accepted again.
#[tokio::test(flavor = "multi_thread")]
async fn with_broker_and_firestore_away_everything_is_refused_in_time_and_memory_stays_flat() {
    let Some(mut clouded) = Clouded::new().await else { return };
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    let mut load = Load::new(&clouded.stage.ledger, &token, 16, 20, seed("broker and Firestore away")).rate(400);
    let mut running = load.start(&gate, Some(500));
    load.join(&mut running).await;
    clouded.faulty.fail(ANY, UNAVAILABLE, "nobody is there", Times::UntilHealed);
    clouded.stage.kill_broker();
    clouded.stage.ledger.broken("Firestore away");
    clouded.is_refused(&gate, &token).await;
    let (acked, before) = (clouded.stage.ledger.acked(), resident_kib(&gate));
    let running = load.start(&gate, None);
    tokio::time::sleep(FAULT).await; // The fault's own length, which is waited for by nobody.
    let tally = load.end(running).await;
    let grown = resident_kib(&gate).saturating_sub(before) >> 10;
    assert_eq!((clouded.stage.ledger.acked(), &tally.errors), (acked, &Vec::new()), "nothing is accepted, everything is answered");
    assert_all_refused(&tally.refused);
    assert!(tally.slowest.own() <= SLOWEST_ANSWER && grown <= MOST_GROWTH_MIB, "{}, {grown} MiB more", tally.slowest);
    clouded.faulty.heal();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.healed("Firestore away");
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    clouded.until(&gate, &token, 200).await;
    let verdict = clouded.verdict().await;
    seen(
        "F15",
        &format!(
            "{FAULT:?} without broker and Firestore: {} requests refused, slowest {}, {grown} MiB more; {verdict}",
            tally.refused.len(),
            tally.slowest
        ),
    );
    verdict.assert_clean();
}

/// Scenario: the broker is away; the gate is killed at random moments while it stores, and started again; then the broker
/// is back.
/// Guarantees: every event that was accepted is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_of_an_outage_has_lost_nothing_that_firestore_has_taken() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("LEASE", "2s");
    clouded.faulty.delay(Duration::from_millis(10));
    let seed = seed("gate killed, Firestore");
    let mut dice = Dice::new(seed);
    let mut gate = clouded.stage.setup.start().await;
    let mut load = Load::new(&clouded.stage.ledger, &token(&gate).await, 32, 20, seed).rate(450);
    clouded.stage.kill_broker();
    let rounds = rounds(3, 20);
    for round in 0..rounds {
        let running = load.start(&gate, None);
        let more = usize::try_from(1 + dice.below(300)).expect("small");
        clouded.stage.acked(clouded.stage.ledger.acked() + more).await;
        let fault = format!("gate killed, {round}");
        clouded.stage.ledger.broken(&fault);
        // One time in three it is killed while it replays.
        let replaying = round % 3 == 2;
        if replaying {
            clouded.stage.restart_broker().await;
            let closed = async || (status(&gate).await["sink"]["breaker"] == "closed").then_some(());
            eventually("the breaker closes", REPLAYED, closed).await;
        }
        gate.kill_9();
        let tally = load.end(running).await;
        assert_eq!(tally.refused.len(), 0, "{tally:?}");
        if replaying {
            clouded.stage.kafka.kill_9();
        }
        gate = clouded.stage.setup.start().await;
        clouded.stage.ledger.healed(&fault);
    }
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.verdict().await;
    seen("F20", &format!("Firestore, {rounds} kills in an outage: {verdict}"));
    verdict.assert_clean();
    assert!(verdict.by_inbox > 0, "{verdict}");
}

/// How many events the inbox holds when the broker comes back: `SLUICEGATE_EVENTS`, 2,000 unless it says more.
fn backlog() -> u64 {
    std::env::var("SLUICEGATE_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// What live events take, one after the other, until `over`.
async fn live(gate: &Gate, token: &str, over: impl AsyncFn(usize) -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !over(took.len()).await {
        let sent = Instant::now();
        let answer = gate.post(&format!("/v1/events/{DENIED_TOPIC}"), token, "{\"data\":\"live\"}").await;
        took.push(sent.elapsed());
        assert_eq!((answer.status, &answer.json()["results"][0]["tier"]), (200, &"broker".into()), "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(5)).await; // Its own rate.
    }
    took.sort();
    took
}

/// Scenario: the inbox has taken many events in an outage; the broker is back; events of another topic come meanwhile.
/// Guarantees: all is delivered, in order for each key; live events go by the broker. Reported: the rates of storing and of
/// replaying, and what the replay does to live events (goal: their p99 at most doubles).
#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_stored_and_replayed_beside_live_ones() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("RAMP_FROM", "100000");
    clouded.set("WRITES_PER_SECOND", "100000");
    let gate = clouded.stage.setup.start().await;
    let (token, live_token) = (token(&gate).await, gate.token(&["--sub", "live", "--topics", DENIED_TOPIC]).await);
    let calm = live(&gate, &live_token, async |sent| sent >= 300).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    let mut load = Load::new(&clouded.stage.ledger, &token, 16, 100, seed("many events"));
    let (events, since) = (backlog(), Instant::now());
    let mut running = load.start(&gate, Some(events));
    let tally = load.join(&mut running).await;
    let stored = since.elapsed();
    assert_eq!(tally.errors, Vec::<String>::new());
    let rows = status(&gate).await["inbox"]["rows"].as_u64().expect("a number");
    clouded.stage.restart_broker().await;
    let open = async || {
        let answer = gate.post(&format!("/v1/events/{DENIED_TOPIC}"), &live_token, "{\"data\":\"open\"}").await;
        (answer.status == 200).then_some(())
    };
    eventually("the broker takes events again", REPLAYED, open).await;
    let since = Instant::now();
    let end = since + Duration::from_secs(600);
    let left = status(&gate).await["inbox"]["rows"].as_u64().expect("a number");
    let busy = live(&gate, &live_token, async |sent| {
        assert!(Instant::now() < end, "the replay comes to no end");
        sent >= 100 && status(&gate).await["inbox"]["rows"] == 0
    })
    .await;
    let replayed = since.elapsed();
    clouded.replayed(&gate).await;
    clouded.stage.ledger.healed("broker");
    let verdict = clouded.verdict_of(&TOPICS).await;
    let (before, during) = (percentile(&calm, 99), percentile(&busy, 99));
    seen(
        "F30",
        &format!(
            "Firestore: {rows} rows stored in {stored:.1?} ({:.0}/s, {} refused), {left} replayed in {replayed:.1?} ({:.0}/s); live p99 {before:.1?} without, {during:.1?} beside the replay (goal: twice); {verdict}",
            rows as f64 / stored.as_secs_f64(),
            tally.refused.len(),
            left as f64 / replayed.as_secs_f64()
        ),
    );
    verdict.assert_clean();
    assert!(rows > events / 2, "the inbox took them: {rows} of {events}");
}
