//! Firestore is slow, exhausted, lets nobody in, or is away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::faulty_firestore::{ABORTED, ANY, RESOURCE_EXHAUSTED, Times, UNAVAILABLE};
use crate::support::{DEADLINE, eventually};

use super::super::disk::resident_kib;
use super::super::load::{Load, seed};
use super::super::{DENIED_TOPIC, SLOWEST_ANSWER, TOPICS, asked, seen, status, token};
use super::{Clouded, denied, for_now};

/// How long a fault of Firestore lasts.
const FAULT: Duration = Duration::from_secs(8);

/// What a gate may take more while it refuses: a few buffers of each connection, and what waits for Firestore.
const MOST_GROWTH_MIB: u64 = 96;

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
    assert!(for_now(&tally.refused) > 0);
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
    let verdict = clouded.stage.verdict().await;
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

/// Scenario: rows of six partitions wait, and Firestore works on one query after the other, to the end of those that were given
/// up too: six at once take longer than the gate waits for one.
/// Guarantees: it is asked less, and all rows are replayed.
#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_takes_its_time_for_each_query_is_asked_less_and_gives_all_rows() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("CALL_TIMEOUT", "300ms"); // A query has five times as long.
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.until(&gate, &token, 200).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    let mut load = Load::new(&clouded.stage.ledger, &token, 16, 20, seed("slow queries"));
    let mut running = load.start(&gate, Some(200));
    let tally = load.join(&mut running).await;
    assert_eq!(tally.errors, Vec::<String>::new());
    let rows = status(&gate).await["inbox"]["rows"].as_u64().expect("a number");
    clouded.faulty.work_through_queries(Duration::from_millis(600));
    clouded.stage.restart_broker().await;
    let (asked, since) = (clouded.faulty.count("RunQuery"), Instant::now());
    clouded.stage.replayed(&gate).await;
    let (asked, took) = (clouded.faulty.count("RunQuery") - asked, since.elapsed());
    clouded.faulty.heal();
    clouded.replayed(&gate).await;
    let verdict = clouded.stage.verdict().await;
    seen("F11", &format!("queries that take 600 ms, one by one: {rows} rows replayed in {took:.0?} by {asked} of them; {verdict}"));
    verdict.assert_clean();
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
        assert!(for_now(&tally.refused) > 0);
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
    let verdict = clouded.stage.verdict().await;
    seen(
        "F12",
        &format!("{:.1} and {:.1} calls a second once it has backed off, {more} while the broker takes all; {verdict}", rates[0], rates[1]),
    );
    verdict.assert_clean();
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
    assert_eq!(denied(&gate).await, None);
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.broken("locked out");
    clouded.faulty.admit_only(&["another"]);
    for _ in 0..3 {
        clouded.is_refused(&gate, &token).await;
    }
    let said = eventually("the gate says that it is locked out", DEADLINE, async || denied(&gate).await).await;
    let calls = clouded.faulty.count(ANY);
    let mut load = Load::new(&clouded.stage.ledger, &token, 16, 20, seed("locked out")).rate(400);
    let running = load.start(&gate, None);
    tokio::time::sleep(FAULT).await; // The fault's own length, which is waited for by nobody.
    let tally = load.end(running).await;
    assert_eq!(tally.errors, Vec::<String>::new());
    assert!(for_now(&tally.refused) > 0);
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
    let calls = (clouded.faulty.count(ANY) - calls) as f64 / FAULT.as_secs_f64();
    let healed = Instant::now();
    clouded.faulty.admit_only(&["another", "owner"]);
    clouded.until(&gate, &token, 202).await;
    let healed = healed.elapsed();
    clouded.stage.ledger.healed("locked out");
    let silent = async || denied(&gate).await.is_none().then_some(());
    eventually("the gate says nothing any more", DEADLINE, silent).await;
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.stage.verdict().await;
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
    let length = Duration::from_secs(asked("SLUICEGATE_BOTH_AWAY_SECONDS", FAULT.as_secs()));
    tokio::time::sleep(length).await; // The fault's own length, which is waited for by nobody.
    let tally = load.end(running).await;
    let grown = resident_kib(&gate).saturating_sub(before) >> 10;
    assert_eq!((clouded.stage.ledger.acked(), &tally.errors), (acked, &Vec::new()), "nothing is accepted, everything is answered");
    assert!(for_now(&tally.refused) > 0);
    assert!(tally.slowest.own() <= SLOWEST_ANSWER && grown <= MOST_GROWTH_MIB, "{}, {grown} MiB more", tally.slowest);
    clouded.faulty.heal();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.healed("Firestore away");
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    clouded.until(&gate, &token, 200).await;
    let verdict = clouded.stage.verdict().await;
    seen(
        "F15",
        &format!(
            "{length:?} without broker and Firestore: {} requests refused, slowest {}, {grown} MiB more; {verdict}",
            tally.refused.len(),
            tally.slowest
        ),
    );
    verdict.assert_clean();
}

/// Scenario: events of one key wait in Firestore, which takes more, but answers no query; the broker comes back; events of that
/// key go on, and one of a topic comes to which nothing is owed.
/// Guarantees: those of the key go behind what waits, and none is refused; the other takes the broker at the first try, however
/// many of those come before it; Firestore well again, all of it is replayed.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_firestore_that_answers_no_query_other_topics_go_back_to_the_broker() {
    let Some(mut clouded) = Clouded::new().await else { return };
    let gate = clouded.stage.setup.start().await;
    let (token, other) = (token(&gate).await, gate.token(&["--sub", "other", "--topics", DENIED_TOPIC]).await);
    clouded.until(&gate, &token, 200).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    clouded.faulty.ignore("RunQuery");
    clouded.faulty.ignore("RunAggregationQuery");
    clouded.stage.ledger.broken("no query");
    // The breaker has been open for longer than it lets a live event wait for its turn, and no late report closes it.
    let open = async || {
        let sink = status(&gate).await["sink"].clone();
        (sink["since_s"].as_u64()? >= 6 && sink["queue_messages"] == 0).then_some(())
    };
    eventually("the producer gives up", DEADLINE, open).await;
    clouded.stage.restart_broker().await;
    let (behind, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let owed = async {
        while !over.load(Ordering::Relaxed) {
            assert_eq!(clouded.next(&gate, &token).await, 202, "it goes behind what waits");
            behind.fetch_add(1, Ordering::Relaxed);
        }
    };
    let comes_home = async {
        let there = async || {
            let sink = status(&gate).await["sink"].clone();
            (sink["catalog"]["age_s"].as_u64()? <= 1 && behind.load(Ordering::Relaxed) > 20).then_some(())
        };
        eventually("the broker is seen", DEADLINE, there).await;
        let mut tiers = Vec::new();
        for _ in 0..20 {
            let answer = gate.post(&format!("/v1/events/{DENIED_TOPIC}"), &other, "{\"data\":\"other\"}").await;
            tiers.push(answer.json()["results"][0]["tier"].to_string());
        }
        over.store(true, Ordering::Relaxed);
        tiers
    };
    let ((), tiers) = tokio::join!(owed, comes_home);
    assert!(tiers.iter().all(|tier| tier == "\"broker\""), "{tiers:?}");
    clouded.faulty.heal();
    clouded.stage.ledger.healed("no query");
    clouded.replayed(&gate).await;
    clouded.until(&gate, &token, 200).await;
    let verdict = clouded.stage.verdict_of(&TOPICS).await;
    seen(
        "F12",
        &format!(
            "without an answer to queries: {} events by the broker, {} of the key that waits stored; {verdict}",
            tiers.len(),
            behind.into_inner()
        ),
    );
    verdict.assert_clean();
}
