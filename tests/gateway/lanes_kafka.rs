//! Lanes before a real Kafka: what it demands of records, what it forgets of producers, and what it does when it thaws.

use sluicegate::config::Config;
use sluicegate::ingest::Landed;
use sluicegate::receipt::Refusal;
use sluicegate::route::RouteConfig;
use tempfile::TempDir;

use super::support::batches::{Producer, batch_of, dated};
use super::support::kafka::Kafka;
use super::support::trunk::{Answer, TOPIC, Trunk, settings};
use super::support::{DEADLINE, eventually};

const HOUR_MS: i64 = 3_600_000;

fn routed(dir: &TempDir, kafka: &Kafka, topics: &[&str]) -> Config {
    let route = |name: &&str| RouteConfig { topic: name.parse().expect("a topic"), ..RouteConfig::default() };
    Config { routes: topics.iter().map(route).collect(), ..settings(dir, &kafka.brokers()) }
}

fn producer(trunk: &Trunk, sequence: i32) -> Producer {
    Producer { id: trunk.ingest.producer_id(&trunk.principal), epoch: 0, sequence }
}

async fn values(kafka: &Kafka, topic: &str) -> Vec<String> {
    let value = |record: super::support::kafka_read::Record| String::from_utf8(record.value.to_vec()).expect("text");
    kafka.consume_all(topic).await.into_iter().map(value).collect()
}

fn field(answer: &Answer) -> Option<&str> {
    match answer {
        Err(Refusal::Invalid { field, .. }) => field.as_deref(),
        _ => None,
    }
}

/// Scenario: topics that do not take every record; batches that they do not take, with the broker up and with it dead.
/// Guarantees: each is refused for good and before any acknowledgement, by the same words; what is fine is taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_demands_of_records_is_asked_before_they_are_acknowledged_broker_up_or_down() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic("small", 1, &[("max.message.bytes", "20000")]).await;
    kafka.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let bounds = [("message.timestamp.before.max.ms", "7200000"), ("message.timestamp.after.max.ms", "60000")];
    kafka.create_topic("timely", 1, &bounds).await;
    let dir = tempfile::tempdir().expect("a folder");
    let trunk = Trunk::start(routed(&dir, &kafka, &["small", "compacted", "timely"])).await;
    for up in [true, false] {
        if !up {
            kafka.kill_9();
            assert_eq!(trunk.send_to("timely", dated(None, None, 0, "stored")).await, Ok(Landed::Inbox));
        }
        let large = "x".repeat(30_000);
        let refused = trunk.send_to("small", dated(None, None, 0, &large)).await;
        assert!(matches!(refused, Err(Refusal::TooLarge { limit: 20_000, .. })), "up: {up}: {refused:?}");
        for (ahead, taken) in [(0, true), (-HOUR_MS, true), (-3 * HOUR_MS, false), (600_000, false)] {
            let answer = trunk.send_to("timely", dated(None, None, ahead, "x")).await;
            assert_eq!((answer.is_ok(), field(&answer)), (taken, (!taken).then_some("time")), "up: {up}, {ahead}: {answer:?}");
        }
        let keyless = trunk.send_to("compacted", dated(None, None, 0, "x")).await;
        assert!(field(&keyless).is_some(), "up: {up}: {keyless:?}");
        assert!(trunk.send_to("compacted", dated(None, Some("k"), 0, "x")).await.is_ok(), "up: {up}");
    }
}

/// Scenario: an idempotent producer sends what is two days old; the broker, which forgets producers by the time of their
/// records, starts again in the middle.
/// Guarantees: every batch is acknowledged and there once, in order; no 45 and no 59 is seen.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_two_days_old_outlive_the_brokers_memory_of_their_producer() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic(TOPIC, 1, &[("retention.ms", "-1")]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let trunk = Trunk::start(routed(&dir, &kafka, &[TOPIC])).await;
    let mine = producer(&trunk, 0);
    let old = |sequence: i32| dated(Some(Producer { sequence, ..mine }), None, -48 * HOUR_MS, &sequence.to_string());
    for sequence in 0..3 {
        assert!(matches!(trunk.send(0, old(sequence)).await, Ok(Landed::Broker { .. })), "{sequence}");
    }
    kafka.shutdown().await;
    assert_eq!(trunk.send(0, old(3)).await, Ok(Landed::Inbox));
    kafka.restart().await;
    trunk.is_replayed().await;
    for sequence in 4..7 {
        let answer = trunk.send(0, old(sequence)).await;
        assert!(answer.is_ok(), "{sequence}: {answer:?}");
    }
    trunk.is_replayed().await;
    assert_eq!(values(&kafka, TOPIC).await, (0..7).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Scenario: the broker is stopped by SIGSTOP with batches on their way, and goes on by SIGCONT: it appends what it had.
/// Guarantees: everything is acknowledged, from the inbox, and is there once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_broker_that_thaws_appends_nothing_twice_of_an_idempotent_producer() {
    let kafka = Kafka::start().await;
    kafka.create_topic(TOPIC, 1, &[]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let trunk = Trunk::start(routed(&dir, &kafka, &[TOPIC])).await;
    let mine = producer(&trunk, 0);
    let numbered = |sequence: i32| batch_of(Producer { sequence, ..mine }, &[sequence.to_string()]);
    assert!(trunk.send(0, numbered(0)).await.is_ok());
    kafka.stop();
    for sequence in 1..6 {
        assert_eq!(trunk.send(0, numbered(sequence)).await, Ok(Landed::Inbox), "{sequence}");
    }
    kafka.cont();
    trunk.is_replayed().await;
    eventually("the broker is trusted again", DEADLINE, async || {
        trunk.tiers.sink.raw().is_some_and(|raw| raw.breaker().is_proven()).then_some(())
    })
    .await;
    assert!(trunk.send(0, numbered(6)).await.is_ok());
    trunk.is_replayed().await;
    assert_eq!(values(&kafka, TOPIC).await, (0..7).map(|n| n.to_string()).collect::<Vec<_>>());
}
