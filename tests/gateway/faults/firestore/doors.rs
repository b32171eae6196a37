//! The Kafka door and the OTLP door with Firestore as the inbox: the rows of `super::super::doors`.
//!
//! What always holds: Firestore takes 20 ms for a call that nothing else befalls.

use std::time::Duration;

use crate::support::faulty_firestore::{ANY, FaultyFirestore, RESOURCE_EXHAUSTED, Times, UNAVAILABLE};

use super::super::doors::{self, Door};
use super::Clouded;

const NEAR: Duration = Duration::from_millis(20);
const IDEMPOTENT: Door = Door::Kafka { idempotent: true };
const WITHOUT_NUMBERS: Door = Door::Kafka { idempotent: false };

/// A stage whose gate has the same port all its lives, whose leases are found free soon after a kill, and whose inbox takes what has
/// a producer's numbers: there is one gate behind the address.
async fn clouded() -> Option<Clouded> {
    let mut clouded = Clouded::new().await?;
    clouded.set("LEASE", "5s");
    let setup = clouded.stage.setup.clone().env("SLUICEGATE__INBOX__IDEMPOTENT", "true");
    clouded.stage.setup = setup.env("SLUICEGATE__KAFKA__PRODUCER_ID_KEY", "canary of thirty-two characters.");
    doors::prepare(&mut clouded.stage).await;
    clouded.faulty.delay(NEAR);
    Some(clouded)
}

async fn broker_killed(door: Door) {
    let Some(mut clouded) = clouded().await else { return };
    doors::broker_killed(door, &mut clouded.stage).await;
}

async fn broker_frozen(door: Door) {
    let Some(mut clouded) = clouded().await else { return };
    doors::broker_frozen(door, &mut clouded.stage).await;
}

async fn gate_killed(door: Door) {
    let Some(mut clouded) = clouded().await else { return };
    doors::gate_killed(door, &mut clouded.stage).await;
}

async fn gate_stopped(door: Door) {
    let Some(mut clouded) = clouded().await else { return };
    doors::gate_stopped(door, &mut clouded.stage).await;
}

/// The broker is away, and so is Firestore, in one way.
async fn in_trouble(door: Door, row: &str, trouble: impl FnOnce(&FaultyFirestore)) {
    let Some(mut clouded) = clouded().await else { return };
    let Clouded { stage, faulty, .. } = &mut clouded;
    let heal = |()| {
        faulty.heal();
        faulty.delay(NEAR);
    };
    doors::inbox_away(door, row, stage, || trouble(faulty), heal).await;
}

fn away(faulty: &FaultyFirestore) {
    faulty.fail(ANY, UNAVAILABLE, "nobody is there", Times::UntilHealed);
}

fn slow(faulty: &FaultyFirestore) {
    faulty.answer_late(Duration::from_secs(5));
}

fn exhausted(faulty: &FaultyFirestore) {
    faulty.fail("BatchWrite", RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED", Times::UntilHealed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_no_record_of_an_idempotent_producer() {
    broker_killed(IDEMPOTENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_no_record_of_a_producer_without_numbers() {
    broker_killed(WITHOUT_NUMBERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_no_span() {
    broker_killed(Door::Otlp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_no_record_of_an_idempotent_producer() {
    broker_frozen(IDEMPOTENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_no_span() {
    broker_frozen(Door::Otlp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_has_lost_nothing_of_an_idempotent_producer() {
    gate_killed(IDEMPOTENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_has_lost_nothing_of_a_producer_without_numbers() {
    gate_killed(WITHOUT_NUMBERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_has_lost_no_span() {
    gate_killed(Door::Otlp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_asked_to_stop_loses_nothing_of_an_idempotent_producer() {
    gate_stopped(IDEMPOTENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_asked_to_stop_loses_no_span() {
    gate_stopped(Door::Otlp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_firestore_away_too_nothing_is_accepted_of_an_idempotent_producer() {
    in_trouble(IDEMPOTENT, "F15", away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_firestore_away_too_nothing_is_accepted_of_a_producer_without_numbers() {
    in_trouble(WITHOUT_NUMBERS, "F15", away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_firestore_away_too_no_span_is_accepted() {
    in_trouble(Door::Otlp, "F15", away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_takes_five_seconds_costs_no_record_of_an_idempotent_producer() {
    in_trouble(IDEMPOTENT, "F11", slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_takes_five_seconds_costs_no_record_of_a_producer_without_numbers() {
    in_trouble(WITHOUT_NUMBERS, "F11", slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_takes_five_seconds_costs_no_span() {
    in_trouble(Door::Otlp, "F11", slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_firestore_costs_no_record_of_an_idempotent_producer() {
    in_trouble(IDEMPOTENT, "F12", exhausted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_firestore_costs_no_span() {
    in_trouble(Door::Otlp, "F12", exhausted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_firestore_does_not_let_in_accepts_nothing_of_an_idempotent_producer() {
    in_trouble(IDEMPOTENT, "F13", |faulty| faulty.admit_only(&["another"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_firestore_does_not_let_in_accepts_no_span() {
    in_trouble(Door::Otlp, "F13", |faulty| faulty.admit_only(&["another"])).await;
}
