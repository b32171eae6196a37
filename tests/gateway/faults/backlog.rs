//! Many events to replay, and senders that go on meanwhile.
//!
//! What always holds: what comes now goes first; the backlog gets what is left.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::gate::Gate;

use super::load::{Load, p99, seed};
use super::{DENIED_TOPIC, SLOWEST_ANSWER, Stage, TOPICS, asked, seen, status, token};

/// Rows of the backlog, unless the whole matrix is asked for.
const BACKLOG: u64 = 20_000;

/// Events of which it is said how long they take without a backlog.
const CALM: usize = 300;

/// What comes meanwhile, in events a second.
const LIVE: u64 = 300;

/// What events take that go by the broker, one after the other, until `over`: their topic is owed nothing.
pub async fn by_broker(gate: &Gate, token: &str, over: impl AsyncFn(usize) -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !over(took.len()).await {
        let sent = Instant::now();
        let answer = gate.post(&format!("/v1/events/{DENIED_TOPIC}"), token, "{\"data\":\"live\"}").await;
        took.push(sent.elapsed());
        assert_eq!((answer.status, &answer.json()["results"][0]["tier"]), (200, &"broker".into()), "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(5)).await; // Its own rate.
    }
    took
}

/// Who sends them.
pub async fn live_token(gate: &Gate) -> String {
    gate.token(&["--sub", "live", "--topics", DENIED_TOPIC, "--ttl", "1d"]).await
}

/// Scenario: without a broker the inbox fills; with the broker back, it is replayed beside senders that go on at their rate.
/// Guarantees: no answer to them fails or is late; events of a topic that is owed nothing go by the broker; the backlog is
/// delivered; nothing is lost. Reported: how much quicker it is delivered with nobody beside it, and what it does to live
/// events (goal: the p99 of those by the broker at most doubles).
#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_is_replayed_beside_live_events_which_go_first() {
    let backlog = asked("SLUICEGATE_REPLAY_EVENTS", BACKLOG);
    // A replay of the slowest kind that is still one: 100 events a second.
    let limit = Duration::from_secs(180 + backlog / 100);
    let mut stage = Stage::new().await;
    stage.deadline = SLOWEST_ANSWER;
    let mut gate = stage.setup.start().await;
    let (token, live_token) = (token(&gate).await, live_token(&gate).await);
    let seed = seed("backlog");
    let rows = async |gate: &_| status(gate).await["inbox"]["rows"].as_u64().expect("a number");
    let mut fill = Load::new(&stage.ledger, &token, 32, 100, seed);
    let mut live = Load::new(&stage.ledger, &token, 16, 10, seed ^ 1).numbered_from(32).rate(LIVE).beside("F30", true);

    // Live events without a backlog, beside the same senders.
    let running = live.start(&gate, None);
    let calm = by_broker(&gate, &live_token, async |sent| sent >= CALM).await;
    live.end(running).await;

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
    let end = began + limit;
    let busy = by_broker(&gate, &live_token, async |_| {
        assert!(Instant::now() < end, "the backlog is not delivered");
        rows(&gate).await < before / 50
    })
    .await;
    let beside = (before - before / 50) as f64 / began.elapsed().as_secs_f64();
    let took = began.elapsed();
    let tally = live.end(running).await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict_of(&TOPICS).await;
    seen(
        "F30",
        &format!(
            "{before} rows beside {LIVE} events a second in {took:?}: {beside:.0} rows a second, alone {alone:.0}; live p99 {:?}, slowest {}; of a topic without rows {:?} before, {:?} beside (goal: twice); {verdict}",
            p99(tally.times.clone()),
            tally.slowest,
            p99(calm),
            p99(busy)
        ),
    );
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
}
