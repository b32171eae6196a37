//! Many rows in Firestore, and live events beside their replay.

use std::time::{Duration, Instant};

use crate::support::eventually;

use super::super::backlog::{by_broker, live_token};
use super::super::load::{Load, p99, seed};
use super::super::{DENIED_TOPIC, REPLAYED, TOPICS, seen, status, token};
use super::{Clouded, for_now};

/// How many events the inbox holds when the broker comes back: `SLUICEGATE_FIRESTORE_EVENTS`, 2,000 unless it says more.
fn backlog() -> u64 {
    std::env::var("SLUICEGATE_FIRESTORE_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// Rows a second, at least: the emulator looks through all of them for each window.
const SLOWEST_REPLAY: u64 = 40;

/// Scenario: the inbox has taken many events in an outage; the broker is back; events of another topic come meanwhile.
/// Guarantees: all is delivered, in order for each key; live events go by the broker. Reported: the rates of storing and of
/// replaying, and what the replay does to live events (goal: their p99 at most doubles).
#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_stored_and_replayed_beside_live_ones() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("RAMP_FROM", "100000");
    clouded.set("WRITES_PER_SECOND", "100000");
    let gate = clouded.stage.setup.start().await;
    let (token, live_token) = (token(&gate).await, live_token(&gate).await);
    let calm = by_broker(&gate, &live_token, async |sent| sent >= 300).await;
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
    let end = since + Duration::from_secs(600 + events / SLOWEST_REPLAY);
    let left = status(&gate).await["inbox"]["rows"].as_u64().expect("a number");
    let busy = by_broker(&gate, &live_token, async |sent| {
        assert!(Instant::now() < end, "the replay comes to no end");
        sent >= 100 && status(&gate).await["inbox"]["rows"] == 0
    })
    .await;
    let replayed = since.elapsed();
    clouded.replayed(&gate).await;
    clouded.stage.ledger.healed("broker");
    let verdict = clouded.stage.verdict_of(&TOPICS).await;
    let (before, during) = (p99(calm), p99(busy));
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
    // How much of it is refused for now, where a machine has no time for Firestore's emulator, is reported.
    assert!(rows > 0 && for_now(&tally.refused) as u64 <= events, "the inbox took {rows} of {events}");
}
