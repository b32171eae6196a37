//! Answers of Firestore's that are lost, and calls that it refuses whole: what an event costs, and what not.

use std::collections::HashSet;

use crate::support::eventually;
use crate::support::faulty_firestore::{DELETES, INVALID_ARGUMENT, Loss, Times, UNAVAILABLE};

use super::stage::{REPLAYED, Stage, status, store};

/// Scenario: in an outage of the broker Firestore does what it is asked for, and its answers are lost: twice by a reset of
/// the stream, once in silence.
/// Guarantees: each event is accepted once a repetition says that it is there; it is one document, and one record after
/// the replay; the gate's count of what it owes is right.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_makes_no_second_document_and_costs_no_event() {
    let Some(mut stage) = Stage::routed(&[("events", 1)]).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    store(&gate, &token, "events", "{\"data\":0}").await;
    for (n, (loss, times)) in (1..).zip([(Loss::Reset, 2), (Loss::Silence, 1)]) {
        stage.faulty.answer_then_lose(loss, Times::Only(times));
        let answered = store(&gate, &token, "events", &format!("{{\"key\":\"k\",\"data\":{n}}}")).await;
        assert!(stage.rows().await.iter().any(|row| row.name == answered["document"]));
        stage.faulty.heal();
    }
    stage.has_rows(3).await;
    assert_eq!(status(&gate).await["inbox"]["rows"], 3);
    stage.kafka.restart().await;
    stage.replayed(&gate).await;
    let mut values: Vec<_> = stage.kafka.consume_all("events").await.iter().map(|record| record.json().as_u64()).collect();
    values.sort();
    assert_eq!(values, [Some(0), Some(1), Some(2)]);
}

/// Scenario: Firestore refuses calls whole, as it does when one of their writes is nothing that it can take; a request of
/// many events is among them.
/// Guarantees: the call is cut until the culprit is alone, so that all that is fine is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_refused_whole_is_cut_until_what_is_fine_is_stored() {
    let Some(mut stage) = Stage::routed(&[("events", 1)]).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    store(&gate, &token, "events", "{\"data\":0}").await;
    let rows = stage.rows().await.len();
    stage.faulty.fail("BatchWrite", INVALID_ARGUMENT, "one of them is wrong", Times::Only(3));
    let events: Vec<_> = (1..=64).map(|n| format!("{{\"key\":\"k{}\",\"data\":{n}}}", n % 5)).collect();
    let answer = gate.post("/v1/events/events", &token, format!("[{}]", events.join(","))).await;
    let accepted = answer.json()["accepted"].as_u64().expect("a number");
    // A call of one that is refused is a culprit, as far as the gate can know.
    assert!((61..=64).contains(&accepted), "{}: {}", answer.status, answer.text());
    stage.faulty.heal();
    let rows = stage.has_rows(rows + usize::try_from(accepted).expect("small")).await;
    assert_eq!(rows.iter().map(|row| &row.name).collect::<HashSet<_>>().len(), rows.len());
    stage.kafka.restart().await;
    stage.replayed(&gate).await;
    assert_eq!(stage.kafka.consume_all("events").await.len(), rows.len());
}

/// Scenario: the replay has delivered rows, and Firestore cannot delete them for a while.
/// Guarantees: they are not delivered again and again meanwhile; when it can, they are gone.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_deleted_for_a_while_are_not_sent_again_and_again() {
    let Some(mut stage) = Stage::routed(&[("events", 1)]).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    for n in 0..20 {
        store(&gate, &token, "events", &format!("{{\"key\":\"k\",\"data\":{n}}}")).await;
    }
    stage.faulty.fail(DELETES, UNAVAILABLE, "away", Times::UntilHealed);
    stage.kafka.restart().await;
    let tried = async || (stage.faulty.count(DELETES) >= 8).then_some(());
    eventually("it is tried to delete what is delivered", REPLAYED, tried).await;
    assert_eq!(stage.rows().await.len(), 20);
    let meanwhile = stage.kafka.consume_all("events").await.len();
    assert!((1..=20).contains(&meanwhile), "{meanwhile} copies of 20");
    stage.faulty.heal();
    stage.replayed(&gate).await;
    let records = stage.kafka.consume_all("events").await;
    assert!(records.len() <= 40, "{} copies of 20", records.len());
    let mut first: Vec<_> = records.iter().map(|record| record.json().as_u64().expect("a number")).collect();
    let mut seen = HashSet::new();
    first.retain(|n| seen.insert(*n));
    assert_eq!(first, (0..20).collect::<Vec<_>>());
}
