//! Many events to replay, and senders that go on meanwhile.
//!
//! What always holds: what comes now goes first; the backlog gets what is left.

use std::time::{Duration, Instant};

use crate::support::eventually;

use super::load::{Load, p99, seed};
use super::{SLOWEST_ANSWER, Stage, asked, seen, status, token};

/// Rows of the backlog, unless the whole matrix is asked for.
const BACKLOG: u64 = 20_000;

/// What comes meanwhile, in events a second.
const LIVE: u64 = 300;

/// Scenario: without a broker the inbox fills; with the broker back, it is replayed beside senders that go on at their rate.
/// Guarantees: no answer to them fails or is late; the backlog is delivered; nothing is lost. Reported: how much quicker it
/// is delivered with nobody beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_is_replayed_beside_live_events_which_go_first() {
    let backlog = asked("SLUICEGATE_REPLAY_EVENTS", BACKLOG);
    // A replay of the slowest kind that is still one: 100 events a second.
    let limit = Duration::from_secs(180 + backlog / 100);
    let mut stage = Stage::new().await;
    stage.deadline = SLOWEST_ANSWER;
    let mut gate = stage.setup.start().await;
    let token = token(&gate).await;
    let seed = seed("backlog");
    let rows = async |gate: &_| status(gate).await["inbox"]["rows"].as_u64().expect("a number");
    let mut fill = Load::new(&stage.ledger, &token, 32, 100, seed);
    let mut live = Load::new(&stage.ledger, &token, 16, 10, seed ^ 1).numbered_from(32).rate(LIVE).beside("F30", true);

    // Once with nobody beside it, for the comparison.
    stage.kill_broker();
    let mut running = fill.start(&gate, Some(backlog / 4));
    let filled = fill.join(&mut running).await;
    assert_eq!(filled.errors.len(), 0, "{filled:?}");
    gate.kill_9();
    stage.restart_broker().await;
    let gate_alone = stage.setup.start().await;
    let (before, began) = (rows(&gate_alone).await, Instant::now());
    eventually("the backlog is delivered", limit, async || (rows(&gate_alone).await == 0).then_some(())).await;
    let alone = before as f64 / began.elapsed().as_secs_f64();
    stage.ledger.replayed();
    drop(gate_alone);

    let mut gate = stage.setup.start().await;
    stage.kafka.kill_9();
    let mut running = fill.start(&gate, Some(backlog));
    let filled = fill.join(&mut running).await;
    assert_eq!(filled.errors.len(), 0, "{filled:?}");
    gate.kill_9();
    stage.restart_broker().await;
    let gate = stage.setup.start().await;
    let (before, began) = (rows(&gate).await, Instant::now());
    let running = live.start(&gate, None);
    eventually("the backlog is delivered", limit, async || (rows(&gate).await < before / 50).then_some(())).await;
    let beside = (before - before / 50) as f64 / began.elapsed().as_secs_f64();
    let took = began.elapsed();
    let tally = live.end(running).await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen(
        "F30",
        &format!(
            "{before} rows beside {LIVE} events a second in {took:?}: {beside:.0} rows a second, alone {alone:.0}; live p99 {:?}, slowest {}; {verdict}",
            p99(tally.times.clone()),
            tally.slowest
        ),
    );
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
}
