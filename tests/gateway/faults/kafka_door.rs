//! The quick rows at the Kafka door: see `doors`.

use super::doors::{self, Door};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_every_record_is_there_once_of_an_idempotent_producer() {
    doors::well(Door::Kafka { idempotent: true }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_every_record_is_there_once_of_a_producer_without_numbers() {
    doors::well(Door::Kafka { idempotent: false }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_no_record_of_an_idempotent_producer() {
    doors::broker_killed(Door::Kafka { idempotent: true }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_no_record_of_a_producer_without_numbers() {
    doors::broker_killed(Door::Kafka { idempotent: false }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_no_record_of_an_idempotent_producer() {
    doors::broker_frozen(Door::Kafka { idempotent: true }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_no_record_of_a_producer_without_numbers() {
    doors::broker_frozen(Door::Kafka { idempotent: false }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_tiers_away_nothing_is_accepted_of_an_idempotent_producer() {
    doors::both_away(Door::Kafka { idempotent: true }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_tiers_away_nothing_is_accepted_of_a_producer_without_numbers() {
    doors::both_away(Door::Kafka { idempotent: false }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_has_lost_nothing_of_an_idempotent_producer() {
    doors::gate_killed(Door::Kafka { idempotent: true }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_has_lost_nothing_of_a_producer_without_numbers() {
    doors::gate_killed(Door::Kafka { idempotent: false }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_asked_to_stop_loses_nothing_of_an_idempotent_producer() {
    doors::gate_stopped(Door::Kafka { idempotent: true }, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_asked_to_stop_loses_nothing_of_a_producer_without_numbers() {
    doors::gate_stopped(Door::Kafka { idempotent: false }, &mut doors::on_disk().await).await;
}
