//! The checker's own proof: bugs planted between the log and the broker, each of which it must find.

use std::time::Duration;

use crate::support::gate::Gate;
use crate::support::stopwatch::{Stopwatch, Took};

use super::liar::{Liar, Lie};
use super::load::{Load, seed};
use super::rules::Verdict;
use super::{Stage, seen, token};

/// More than one event in which one is lied about, from each place where the first lie may be.
const EVENTS: u64 = 12_000;

/// How soon a bug must be found.
const FOUND: Duration = Duration::from_secs(60);

/// Sends by way of the lying door, which then dies, and asks the checker. Gives how many events were lied about, and how long
/// it took until the verdict.
async fn verdict(lie: Lie, events: u64) -> (Verdict, usize, Took) {
    let stage = Stage::new().await;
    let gate: Gate = stage.setup.clone().patient().start().await;
    stage.ledger.patient();
    let seed = seed(&format!("{lie:?}"));
    let liar = Liar::before(&gate, lie, seed).await;
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 32, 100, seed).through(&liar.url());
    let watch = Stopwatch::start();
    let mut running = load.start(&gate, Some(events));
    let tally = load.join(&mut running).await;
    assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
    let lies = liar.lies();
    drop(liar);
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    let took = watch.read();
    (verdict, lies, took)
}

/// A bug is planted, and one rule at least must have offenders.
async fn is_found(lie: Lie, offenders: impl Fn(&Verdict) -> &[String]) {
    let (verdict, lies, took) = verdict(lie, EVENTS).await;
    assert!(lies > 0, "it has lied: {verdict}");
    let found = offenders(&verdict).len();
    seen("planted", &format!("{lie:?}: {lies} lies in {EVENTS} events, {found} found {took} after the first event was sent"));
    assert!(found > 0, "{lie:?} is not found: {verdict}\n{}", verdict.table());
    assert!(took.own() <= FOUND, "{took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_door_that_does_not_lie_is_clean() {
    let (verdict, lies, _) = verdict(Lie::None, 2_000).await;
    assert_eq!(lies, 0);
    assert!(verdict.is_clean() && verdict.acked > 1_500, "{verdict}\n{}", verdict.table());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_accepted_event_in_ten_thousand_that_is_dropped_is_found() {
    is_found(Lie::Drop, |verdict| &verdict.lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_before_the_commit_is_found_after_a_crash() {
    is_found(Lie::AckBeforeCommit, |verdict| &verdict.lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_delivered_twice_although_nothing_was_broken_is_found() {
    is_found(Lie::Duplicate, |verdict| &verdict.twice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_under_another_topic_is_found() {
    is_found(Lie::SwapTopics, |verdict| &verdict.mismatched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found() {
    is_found(Lie::FlipBit, |verdict| &verdict.mismatched).await;
}

/// Scenario: without a broker the inbox takes events, and the gate dies, so that they stay there; the broker comes back.
/// Then, by hand, one row is set aside, one taken out, one put under another topic, and one has a byte more.
/// Guarantees: what the inbox holds is not lost, nor is what was set aside; each of the others is found, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_inbox_holds_is_not_lost_and_what_is_taken_out_of_it_is() {
    let mut stage = Stage::new().await;
    let mut gate = stage.setup.start().await;
    let token = token(&gate).await;
    stage.kill_broker();
    let mut load = Load::new(&stage.ledger, &token, 8, 10, seed("inbox"));
    let mut running = load.start(&gate, Some(200));
    load.join(&mut running).await;
    gate.kill_9();
    stage.restart_broker().await;
    let verdict = stage.verdict().await;
    verdict.assert_clean();
    assert!(verdict.acked > 100, "{verdict}");
    assert_eq!((verdict.by_inbox, verdict.rows, verdict.records), (verdict.acked, verdict.acked, 0), "{verdict}");

    let inbox = rusqlite::Connection::open(&stage.inbox).expect("nobody else has it");
    let by_hand = |sql: &str| inbox.execute_batch(sql).expect("its tables are known");
    by_hand(
        "INSERT INTO poison SELECT seq, name, topic, partition, arrival, attempts, at, at, 'by hand', body FROM rows ORDER BY seq LIMIT 1;
         DELETE FROM rows WHERE seq = (SELECT min(seq) FROM rows);",
    );
    let verdict = stage.verdict().await;
    verdict.assert_clean();
    assert_eq!(verdict.rows, verdict.acked, "{verdict}");
    let planted = [
        ("DELETE FROM rows WHERE seq = (SELECT min(seq) FROM rows)", (1, 0)),
        ("UPDATE rows SET topic = iif(topic = 'alpha', 'beta', 'alpha') WHERE seq = (SELECT min(seq) FROM rows)", (1, 1)),
        ("UPDATE rows SET body = CAST(body || 'x' AS BLOB) WHERE seq = (SELECT max(seq) FROM rows)", (2, 2)),
    ];
    for (sql, (lost, mismatched)) in planted {
        by_hand(sql);
        let verdict = stage.verdict().await;
        assert_eq!((verdict.lost.len(), verdict.mismatched.len()), (lost, mismatched), "{sql}: {}", verdict.table());
        assert!(verdict.strangers.is_empty(), "{}", verdict.table());
    }
}
