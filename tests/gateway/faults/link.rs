//! Faults of the way to the broker: answers lost, a black hole, resets, delay.
//!
//! What always holds: broker and gate are well all the time, and only what lies between them is not; the broker is known by the
//! cable's port, so that nobody goes past it.

use std::time::{Duration, Instant};

use crate::support::kafka::{Kafka, Options};
use crate::support::link::{Cable, Link};
use crate::support::{DEADLINE, eventually};

use super::load::{Dice, Load, p99, seed};
use super::{SLOWEST_ANSWER, Stage, create_topics, rounds, seen, token};

/// What an outage of the way may last until it is found out.
const DETECTED: Duration = Duration::from_secs(30);

/// A broker at the end of a cable, and a gate before it.
pub async fn at_a_cable() -> (Stage, Cable) {
    let cable = Cable::new().await;
    let kafka = Kafka::start_with(Options { properties: vec![cable.advertised()], ..Options::default() }).await;
    cable.lead_to(kafka.brokers().rsplit(':').next().expect("a port").parse().expect("a number"));
    create_topics(&kafka).await;
    let mut stage = Stage::with(kafka);
    stage.setup = stage.setup.env("REDPANDA_BROKERS", &format!("127.0.0.1:{}", cable.port()));
    stage.deadline = SLOWEST_ANSWER;
    (stage, cable)
}

/// Scenario: under load the broker appends what it gets and its answers are lost, for a while, again and again.
/// Guarantees: no request fails or is late; nothing is lost; no event is there more than twice, and each copy has its id.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_cost_nothing_and_make_one_copy_at_most() {
    let (stage, cable) = at_a_cable().await;
    let gate = stage.setup.clone().env("SLUICEGATE__SINK__MESSAGE_TIMEOUT", "60s").start().await;
    let seed = seed("answers lost");
    let mut dice = Dice::new(seed);
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 16, 20, seed).rate(500).beside("F3", true);
    let running = load.start(&gate, None);
    for _ in 0..rounds(3, 10) {
        stage.acked(stage.ledger.acked() + 300).await;
        stage.ledger.broken("answers");
        cable.turn(Link::Deaf);
        tokio::time::sleep(Duration::from_millis(200 + dice.below(3_000))).await; // The fault's own length.
        cable.turn(Link::Well);
        stage.trusted(&gate).await;
        stage.replayed(&gate).await;
        stage.ledger.healed("answers");
    }
    let tally = load.end(running).await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen("F3", &format!("HTTPS door: slowest answer {}; {verdict}", tally.slowest));
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
    assert!(verdict.most_copies <= 2, "{verdict}");
}

/// Scenario: under load the way to the broker becomes a black hole: connections stand and are taken, and nothing passes.
/// Guarantees: it is found out, the inbox answers, no request fails or is late; when the way is there again it is used.
#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_on_the_way_to_the_broker_is_found_out_and_nothing_is_lost() {
    let (stage, cable) = at_a_cable().await;
    let gate = stage.setup.start().await;
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 16, 20, seed("black hole")).rate(500).beside("F28", true);
    let running = load.start(&gate, None);
    stage.acked(500).await;
    stage.ledger.broken("the way");
    let since = Instant::now();
    cable.turn(Link::BlackHole);
    let first = async || stage.ledger.first_inbox_answer(since);
    let first = eventually("the inbox answers", DETECTED, first).await;
    tokio::time::sleep(Duration::from_secs(8)).await; // The fault's own length.
    cable.turn(Link::Well);
    let healed = Instant::now();
    stage.trusted(&gate).await;
    let trusted = healed.elapsed();
    let more = stage.ledger.acked() + 500;
    stage.acked(more).await;
    let tally = load.end(running).await;
    stage.replayed(&gate).await;
    stage.ledger.healed("the way");
    let verdict = stage.verdict().await;
    seen(
        "F28",
        &format!(
            "black hole: first inbox answer after {first:?}, trusted again {trusted:?} after its end, slowest answer {}; {verdict}",
            tally.slowest
        ),
    );
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(first < DETECTED && trusted < DETECTED && verdict.by_inbox > 0, "{verdict}");
    assert!(verdict.most_copies <= 5, "{verdict}");
}

/// Scenario: under load all connections to the broker are reset, again and again, and sometimes refused for a moment.
/// Guarantees: no request fails or is late; nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_are_made_again_and_nothing_is_lost() {
    let (stage, cable) = at_a_cable().await;
    let gate = stage.setup.start().await;
    let seed = seed("resets");
    let mut dice = Dice::new(seed);
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 16, 20, seed).rate(500).beside("F28", true);
    let running = load.start(&gate, None);
    stage.acked(300).await;
    stage.ledger.broken("the way");
    let resets = rounds(20, 60);
    for _ in 0..resets {
        cable.turn(Link::Cut);
        tokio::time::sleep(Duration::from_millis(1 + dice.below(300))).await; // The fault's own length.
        cable.turn(Link::Well);
        tokio::time::sleep(Duration::from_millis(dice.below(600))).await; // Until the next one.
    }
    stage.trusted(&gate).await;
    let more = stage.ledger.acked() + 300;
    stage.acked(more).await;
    let tally = load.end(running).await;
    stage.replayed(&gate).await;
    stage.ledger.healed("the way");
    let verdict = stage.verdict().await;
    seen("F28", &format!("{resets} resets: slowest answer {}; {verdict}", tally.slowest));
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
}

/// Scenario: the way to the broker is quick, and then 50 ms longer each way.
/// Guarantees: everything still goes to the broker, as many as senders who wait for each answer can send; how long an answer
/// takes follows the delay and is no multiple of it.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_milliseconds_each_way_are_added_to_answers_and_not_multiplied() {
    const DELAY: Duration = Duration::from_millis(50);
    const RATE: u64 = 500;
    let (stage, cable) = at_a_cable().await;
    let gate = stage.setup.start().await;
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 32, 10, seed("delay")).rate(RATE).beside("F29", true);
    let mut running = load.start(&gate, Some(2_000));
    load.join(&mut running).await; // Warm.
    let mut phase = async || {
        let began = Instant::now();
        let mut running = load.start(&gate, Some(4_000));
        let tally = load.join(&mut running).await;
        assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
        (p99(tally.times), 4_000.0 / began.elapsed().as_secs_f64())
    };
    let (near, before) = phase().await;
    // What a longer way does to a gate as it is shipped is no fault, but a producer that has to get used to it may send
    // what it has sent: a window.
    stage.ledger.broken("delay");
    cable.turn(Link::Slow(DELAY));
    let first = phase().await;
    let (far, rate) = phase().await;
    cable.turn(Link::Well);
    eventually("the broker takes all", DEADLINE, async || Some(())).await;
    stage.replayed(&gate).await;
    stage.ledger.healed("delay");
    let verdict = stage.verdict().await;
    seen(
        "F29",
        &format!(
            "p99 {near:?} before, {:?} in the first 4,000 events with 100 ms more, {far:?} in the next; {before:.0} events a second before, {rate:.0} after, by senders who wait for each answer; {verdict}",
            first.0
        ),
    );
    verdict.assert_clean();
    assert!(far >= 2 * DELAY, "{far:?}");
    // Loose: the machine is shared. Goal: the delay itself, once or twice.
    assert!(far <= near + 20 * DELAY, "{far:?} after {near:?}");
    assert!(rate * 3.0 >= before, "{rate} events a second after {before}");
}
