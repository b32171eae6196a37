//! Faults of the broker and of the gate, with Firestore as the inbox.

use std::time::{Duration, Instant};

use crate::support::stopwatch::Took;
use crate::support::{DEADLINE, eventually};

use super::super::load::{Dice, Load, seed};
use super::super::{REPLAYED, SLOWEST_ANSWER, rounds, seen, status, token};
use super::{Clouded, for_now, percentile};

/// Firestore in a region near by, as its own documentation has it.
const NEAR: Duration = Duration::from_millis(50);

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
    let verdict = clouded.stage.verdict().await;
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

/// Scenario: the broker is away; the gate is killed at random moments while it stores, and started again; then the broker
/// is back.
/// Guarantees: every event that was accepted is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_of_an_outage_has_lost_nothing_that_firestore_has_taken() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("LEASE", "5s");
    clouded.faulty.delay(Duration::from_millis(10));
    let seed = seed("gate killed, Firestore");
    let mut dice = Dice::new(seed);
    let mut gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    let mut load = Load::new(&clouded.stage.ledger, &token, 32, 20, seed).rate(300);
    // A producer that was never acknowledged is waited for longer: the breaker is open before the load comes.
    clouded.until(&gate, &token, 200).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    let rounds = rounds(3, 20).min(50);
    let mut refused = 0;
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
        refused += for_now(&load.end(running).await.refused);
        if replaying {
            clouded.stage.kafka.kill_9();
        }
        gate = clouded.stage.setup.start().await;
        clouded.stage.ledger.healed(&fault);
    }
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.stage.verdict().await;
    seen("F20", &format!("Firestore, {rounds} kills in an outage, {refused} requests refused for now: {verdict}"));
    verdict.assert_clean();
    assert!(verdict.by_inbox > 0, "{verdict}");
}
