//! The quick rows at the OTLP door: see `doors`.

use super::doors::{self, Door};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_every_record_is_there_once() {
    doors::well(Door::Otlp, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_costs_no_record() {
    doors::broker_killed(Door::Otlp, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_costs_no_record() {
    doors::broker_frozen(Door::Otlp, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_tiers_away_nothing_is_accepted() {
    doors::both_away(Door::Otlp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_has_lost_nothing() {
    doors::gate_killed(Door::Otlp, &mut doors::on_disk().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_asked_to_stop_loses_nothing() {
    doors::gate_stopped(Door::Otlp, &mut doors::on_disk().await).await;
}
