//! The broker lies to the gate: F10. What becomes of each lie is in `forward_faults.rs`; here it is what the whole gate makes of
//! many, told to the leg of events (librdkafka) and to that of record batches: no memory, and no loss.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use sluicegate::records::RecordBatch;

use crate::support::eventually;
use crate::support::gate::{Gate, Setup};
use crate::support::scripted_broker::{Lie, Scripted, Verdict};
use crate::support::security::{PASSWORD, USER};

use super::disk::{memory_kib, resident_kib};
use super::{CONFIG, REPLAYED, rounds, seen, status};

/// Every lie that there is.
const LIES: [Lie; 8] =
    [Lie::Correlation, Lie::HugeFrame, Lie::NegativeFrame, Lie::LargeFrame, Lie::Short, Lie::OtherPartition, Lie::HostileCount, Lie::Twice];

/// What a gate may have more of after so many lies. One lie of 2 GiB that is believed is more than the second.
const MOST_RESIDENT_MIB: u64 = 192;
const MOST_ASKED_FOR_MIB: u64 = 1_024;

/// A client of Kafka's that numbers nothing: what it was acknowledged is told apart by its value.
fn producer(gate: &Gate) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", gate.https.to_string()).set("security.protocol", "SASL_SSL");
    config.set("sasl.mechanism", "PLAIN").set("sasl.username", USER).set("sasl.password", PASSWORD);
    config.set("ssl.ca.location", gate.ca().expect("it has one").display().to_string());
    config.set("enable.idempotence", "false").set("message.timeout.ms", "60000").create().expect("a producer")
}

/// How often each value is in the broker.
fn copies(cluster: &Scripted) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for stored in cluster.stored("alpha", 0) {
        let batch = RecordBatch::parse(stored.batch).expect("a batch");
        for record in batch.records(1 << 20).expect("records") {
            *copies.entry(String::from_utf8_lossy(&record.value.expect("a value")).into_owned()).or_default() += 1;
        }
    }
    copies
}

/// Sends one record by the Kafka door; true when it was acknowledged.
async fn by_kafka(producer: &FutureProducer, value: &str) -> bool {
    let record = FutureRecord::<(), str>::to("alpha").partition(0).payload(value);
    producer.send(record, Timeout::Never).await.is_ok()
}

/// Sends one event by the HTTPS door; true when it was accepted.
async fn by_https(gate: &Gate, value: &str) -> bool {
    let user = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let headers = [("authorization", user.as_str()), ("content-type", "application/json")];
    let answer = gate.post_with("/v1/events/alpha", &headers, format!("{{\"data\":\"{value}\"}}")).await;
    assert!(matches!(answer.status, 200 | 202 | 503), "{}: {}", answer.status, answer.text());
    answer.status != 503
}

/// Scenario: again and again, by every lie in turn, a broker lies about the next batch that it has of the Kafka door, and about
/// the next event of the HTTPS door; then it tells the truth.
/// Guarantees: the gate serves on, and its memory is what it was; what was acknowledged is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lies_costs_no_memory_and_no_event() {
    let cluster = Scripted::start(1, &[("alpha", 1)]).await;
    let setup = Setup::new().shipped().config(CONFIG).env("REDPANDA_BROKERS", &cluster.brokers());
    let setup = setup.env("SLUICEGATE_KAFKA_USER", USER).env("SLUICEGATE_KAFKA_PASSWORD", PASSWORD);
    let gate = setup.env("SLUICEGATE__SINK__RAW_TIMEOUT", "600ms").start().await;
    let producer = producer(&gate);
    for number in 0..50 {
        let value = format!("before {number}");
        assert!(by_kafka(&producer, &value).await && by_https(&gate, &value).await);
    }
    let (resident, peak) = (resident_kib(&gate), memory_kib(&gate, "VmPeak:"));
    let rounds = rounds(6, 60);
    let (mut acked, mut most) = (Vec::new(), resident);
    for (number, lie) in std::iter::repeat_n(LIES, rounds).flatten().enumerate() {
        let (batch, event) = (format!("batch {number}"), format!("event {number}"));
        cluster.lie(lie);
        if by_kafka(&producer, &batch).await {
            acked.push(batch);
        }
        cluster.lie(lie);
        if by_https(&gate, &event).await {
            acked.push(format!("\"{event}\""));
        }
        most = most.max(resident_kib(&gate));
    }
    // Most of them are told to the replay: after the first ones the breaker is open, and the inbox takes what comes.
    let until = Instant::now() + REPLAYED;
    while status(&gate).await["inbox"]["rows"] != 0 {
        assert!(Instant::now() < until, "the inbox is not empty within {REPLAYED:?}");
        most = most.max(resident_kib(&gate));
        tokio::time::sleep(Duration::from_millis(20)).await; // Between two looks.
    }
    let (grown, asked_for) = (most.saturating_sub(resident) >> 10, (memory_kib(&gate, "VmPeak:") - peak) >> 10);
    let copies = copies(&cluster);
    let lost: Vec<_> = acked.iter().filter(|value| !copies.contains_key(*value)).collect();
    let more: usize = copies.values().map(|count| count - 1).sum();
    let sent = 2 * rounds * LIES.len();
    let lies = sent - cluster.lies_left();
    let accepted = acked.len();
    seen(
        "F10",
        &format!(
            "{lies} lies told, {accepted} of {sent} records accepted, {} lost, {more} copies more; {} MiB resident before, {grown} MiB more at most, {asked_for} MiB more asked for",
            lost.len(),
            resident >> 10
        ),
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(accepted > sent / 2, "it serves on: {accepted} of {sent}");
    assert!(lies > sent / 2, "it lied: {lies} of {sent} times");
    assert!(grown < MOST_RESIDENT_MIB && asked_for < MOST_ASKED_FOR_MIB, "{grown} MiB, {asked_for} MiB");
    assert!(more <= 3 * lies, "{more} copies for {lies} lies");
    drop(producer);
    assert!(tokio::time::timeout(Duration::from_secs(1), status(&gate)).await.is_ok());
}

/// Scenario: a broker falls silent, takes one record of those that wait in the inbox, and nothing more of the same producer, as if that
/// were wedged (confluentinc/librdkafka#5301); nobody sends any more but the replay, which no breaker counts.
/// Guarantees: the producer is replaced, and everything is delivered without a request from outside.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_producer_is_replaced_although_only_replay_uses_it() {
    let cluster = Scripted::start(1, &[("alpha", 1)]).await;
    let setup = Setup::new().shipped().config(CONFIG).env("REDPANDA_BROKERS", &cluster.brokers());
    let setup = setup.env("SLUICEGATE_KAFKA_USER", USER).env("SLUICEGATE_KAFKA_PASSWORD", PASSWORD);
    let gate = setup.env("SLUICEGATE__SINK__MESSAGE_TIMEOUT", "3s").start().await;
    assert!(by_https(&gate, "before").await);
    cluster.script(|_| Verdict::Silence);
    for number in 0..20 {
        assert!(by_https(&gate, &format!("event {number}")).await, "the inbox takes it");
    }
    let answered = AtomicBool::new(false);
    cluster.script(move |_| if answered.swap(true, Ordering::Relaxed) { Verdict::Silence } else { Verdict::Append });
    let closed = async || (status(&gate).await["sink"]["breaker"] == "closed").then_some(());
    eventually("the breaker closes by one acknowledgement", REPLAYED, closed).await;
    assert!(status(&gate).await["inbox"]["rows"].as_u64() > Some(0), "the others wait");
    // On a slow machine it may have been replaced before, while the breaker was open.
    let replaced = || gate.lines().iter().filter(|line| line.contains("the producer is stuck: it is replaced")).count();
    let before = replaced();
    eventually("the producer is replaced", REPLAYED, async || (replaced() > before).then_some(())).await;
    assert_eq!(status(&gate).await["sink"]["breaker"], "closed");
    cluster.script(|_| Verdict::Append);
    let empty = async || (status(&gate).await["inbox"]["rows"] == 0).then_some(());
    eventually("the inbox is empty", REPLAYED, empty).await;
    assert_eq!(copies(&cluster).len(), 21);
}
