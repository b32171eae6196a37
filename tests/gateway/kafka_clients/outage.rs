//! All brokers are down for longer than some clients are patient, and no client sees it.

use std::time::Duration;

use crate::support::cluster::FailOver;
use crate::support::full;
use crate::support::kafka_clients::Client;

use super::Target;
use super::failover::Writers;
use super::stage::{Stage, Wish};

/// How long the brokers are down.
const DOWN: Duration = Duration::from_secs(20);

/// Over how many seconds the records are spread: some come before, most while nobody is there, some after.
const SECONDS: u32 = 30;

/// Scenario: clients that number what they send and clients that do not write for half a minute; for 20 s of it all three
/// brokers are dead.
/// Guarantees: every send succeeds, without a closed connection and without error 45; after the replay everything is
/// there, in order, and what the idempotent clients sent is there once, without a gap.
#[tokio::test(flavor = "multi_thread")]
async fn all_brokers_down_for_twenty_seconds_is_seen_by_no_client() {
    let wish = Wish { probe: true, shipped: true, fail_over: FailOver::Quick, ..Wish::default() };
    let mut stage = Stage::new(wish).await;
    let (idempotent, count) = ([(Client::Confluent, Some(true)), (Client::Java4, None)], 600);
    let mut clients = idempotent.to_vec();
    // Only these would sit an outage of the brokers themselves out.
    if Target::chosen() == Target::Gate {
        clients.extend([(Client::Kafkajs, None), (Client::Aiokafka, None)]);
    }
    if full() {
        clients.extend([(Client::KafkaPython, None), (Client::Java3, None)]);
    }
    let writers = Writers::new(&stage, &clients, count, SECONDS).await;
    let topics = writers.topics();
    let fault = async {
        stage.cluster.holds(&topics, count / 10).await;
        stage.cluster.kill_9_all();
        tokio::time::sleep(DOWN).await; // The fault's own length, which is waited for by nobody.
        stage.cluster.restart_all().await;
    };
    let (summaries, ()) = tokio::join!(writers.write(), fault);
    writers.assert_kept(&stage, &summaries).await;
    if stage.gate.is_some() {
        // What the inbox takes has no offset yet: the outage was met by all of them.
        assert!(summaries.iter().all(|summary| summary.by_inbox() > 0));
    }
    stage.assert_nobody_was_hung_up_on();
}
