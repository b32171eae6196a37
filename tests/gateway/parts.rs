//! The parts that all other tests lean on do what those think they do.

use std::process::Command;
use std::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use super::support::client::Client;
use super::support::fault::Fault;
use super::support::issuer::Issuer;
use super::support::kafka::{Kafka, Options};
use super::support::process::Process;
use super::support::security::{PASSWORD, USER};
use super::support::{DEADLINE, not_run};

async fn send(config: &mut ClientConfig, topic: &str, values: &[&str]) {
    let producer: FutureProducer = config.set("message.timeout.ms", "60000").create().expect("a producer");
    for value in values {
        let headers = OwnedHeaders::new().insert(Header { key: "x-deml-event-id", value: Some(*value) });
        let record = FutureRecord::to(topic).key("k").payload(*value).headers(headers);
        producer.send(record, Timeout::Never).await.expect("the broker takes it");
    }
}

fn plain(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_found_after_the_broker_was_killed_frozen_and_stopped() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic("events", 3, &[("max.message.bytes", "2000000")]).await;
    assert_eq!(kafka.topics().await, ["events"]);

    send(&mut plain(&kafka), "events", &["a", "b"]).await;
    kafka.kill_9();
    kafka.restart().await;
    kafka.stop();
    let (mut config, thaw) = (plain(&kafka), async { kafka.cont() });
    tokio::join!(send(&mut config, "events", &["c"]), thaw);
    kafka.shutdown().await;
    kafka.restart().await;

    let records = kafka.consume_all("events").await;
    assert_eq!(records.iter().map(|record| record.event_id()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(records.iter().all(|record| record.key.as_deref() == Some(b"k") && record.partition == records[0].partition));
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);

    kafka.delete_topic("events").await;
    assert_eq!(kafka.topics().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_broker_takes_its_user_by_every_mechanism_and_nobody_else() {
    let kafka = Kafka::start_with(Options { secure: true, ..Options::default() }).await;
    kafka.create_topic("events", 1, &[]).await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.sasl_brokers()).set("security.protocol", "SASL_PLAINTEXT");
        config.set("sasl.mechanism", mechanism).set("sasl.username", USER).set("sasl.password", PASSWORD);
        send(&mut config, "events", &["clear"]).await;
        config.set("bootstrap.servers", kafka.sasl_tls_brokers()).set("security.protocol", "SASL_SSL");
        config.set("ssl.ca.location", kafka.ca().display().to_string());
        send(&mut config, "events", &["tls"]).await;

        let stranger: FutureProducer = config.set("sasl.password", "wrong").set("message.timeout.ms", "1500").create().expect("a producer");
        let refused = stranger.send(FutureRecord::<str, str>::to("events").payload("no"), Timeout::Never).await;
        assert!(refused.is_err(), "{mechanism} let a wrong password in");
    }
    assert_eq!(kafka.consume_all("events").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_makes_topics_by_itself_only_when_told_to() {
    let kafka = Kafka::start_with(Options { auto_create: true, ..Options::default() }).await;
    send(&mut plain(&kafka), "made", &["a"]).await;
    assert_eq!(kafka.topics().await, ["made"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_publishes_the_key_it_signs_with_and_forgets_it_when_it_rotates() {
    let issuer = Issuer::start();
    let client = Client::trusting(None);
    let ask = async || client.send(http::Method::GET, &issuer.jwks_url(), &[], "").await.expect("an answer");
    let first = ask().await;
    assert_eq!(first.header("cache-control"), Some("public, max-age=3600"));
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(first.json()["keys"][0].clone()).expect("a JWK");
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect("a key");
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    rules.set_audience(&["demo"]);
    let token = issuer.firebase_token("demo", "u1");
    let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).expect("the key fits").claims;
    assert_eq!(claims["iss"], "https://securetoken.google.com/demo");

    assert_eq!(issuer.rotate(), "k2");
    assert_eq!(ask().await.json()["keys"][0]["kid"], "k2");
    assert!(jsonwebtoken::decode::<serde_json::Value>(issuer.firebase_token("demo", "u1"), &key, &rules).is_err());
    issuer.answer_with(503);
    assert_eq!((ask().await.status, issuer.requests()), (503, 3));
}

#[test]
fn an_injected_fault_is_seen_by_the_process_and_ends_with_its_value() {
    if !Fault::possible() {
        return not_run(1, "no strace that may trace");
    }
    // Syncs a file for ever and says how it went whenever that changes.
    let script = "\
import os, tempfile
file, was = tempfile.TemporaryFile(), None
while True:
    try: os.fsync(file); now = 'fine'
    except OSError as error: now = error.strerror
    if now != was: print(now, flush=True)
    was = now
";
    let mut process = Process::spawn("python", Command::new("python3").args(["-c", script]));
    let deadline = DEADLINE;
    let said = |word: &'static str| move |line: &str| (line == word).then_some(());
    process.wait_for_line("fine", deadline, said("fine"));
    let mut fault = Fault::inject(process.id(), "fsync", "error=EIO", None);
    process.wait_for_line("the fault", deadline, said("Input/output error"));
    fault.wait_for_one();
    drop(fault);
    let lines = || process.lines();
    let end = Instant::now() + deadline;
    while lines().last().is_none_or(|line| line != "fine") {
        assert!(Instant::now() < end, "the fault stayed: {:?}", lines());
        std::thread::yield_now();
    }
}
