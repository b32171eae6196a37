//! The raw leg against a real Kafka: every way in, order, a broker that dies and comes back. `forward_faults` has what a
//! real broker cannot be told to do.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluicegate::drain::Drain;
use sluicegate::event::Topic;
use sluicegate::records::RecordBatch;
use sluicegate::sink::forward::{Answer, Ticket, Upstream};
use sluicegate::sink::{Config, Mechanism, SecurityProtocol};
use sluicegate::units::Secret;

use super::support::batches::{Producer, batch, batch_of};
use super::support::kafka::{Kafka, Options};
use super::support::security::{Certificates, PASSWORD, USER};
use super::support::{DEADLINE, eventually};

/// The raw leg alone, and the signal that ends it.
pub struct Leg {
    pub upstream: Arc<Upstream>,
    pub drain: Drain,
}

impl Leg {
    pub fn new(config: &Config) -> Self {
        let leg = Self { upstream: Upstream::new(config).expect("a configuration that is right"), drain: Drain::default() };
        leg.upstream.start(&leg.drain);
        leg
    }

    pub fn send(&self, name: &str, partition: i32, batch: RecordBatch) -> Ticket {
        self.upstream.send(&topic(name), partition, batch)
    }

    /// Sends one batch with one value and waits for its answer.
    pub async fn ask(&self, topic: &str, partition: i32, value: &str) -> Answer {
        answer(&mut self.send(topic, partition, batch(&[value]))).await
    }

    /// Sends again and again until a batch is appended, and gives its offset.
    pub async fn until_appended(&self, topic: &str, partition: i32, value: &str) -> i64 {
        eventually("a batch is appended", DEADLINE, async || offset(self.ask(topic, partition, value).await)).await
    }
}

pub fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a topic")
}

/// The answer; that there is one in time is promised.
pub async fn answer(ticket: &mut Ticket) -> Answer {
    tokio::time::timeout(DEADLINE, ticket.answer()).await.expect("every batch is answered")
}

/// The offset of a batch that was appended.
pub fn offset(answer: Answer) -> Option<i64> {
    match answer {
        Answer::Answered { code: 0, base_offset, .. } => Some(base_offset),
        _ => None,
    }
}

pub fn config(brokers: &str) -> Config {
    Config { brokers: brokers.split(',').map(str::to_owned).collect(), ..Config::default() }
}

fn secure(kafka: &Kafka, protocol: SecurityProtocol, mechanism: Mechanism) -> Config {
    let brokers = if protocol == SecurityProtocol::SaslSsl { kafka.sasl_tls_brokers() } else { kafka.sasl_brokers() };
    Config {
        security_protocol: protocol,
        sasl_mechanism: mechanism,
        sasl_username: USER.into(),
        sasl_password: Secret::new(PASSWORD),
        ssl_ca_b64: STANDARD.encode(std::fs::read(kafka.ca()).expect("the broker's authority")),
        ..config(&brokers)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_arrives_byte_for_byte_over_every_way_in() {
    let kafka = Kafka::start_with(Options { secure: true, ..Options::default() }).await;
    kafka.create_topic("raw", 1, &[]).await;
    let ways = [
        (SecurityProtocol::SaslPlaintext, Mechanism::ScramSha256),
        (SecurityProtocol::SaslPlaintext, Mechanism::Plain),
        (SecurityProtocol::SaslSsl, Mechanism::ScramSha256),
        (SecurityProtocol::SaslSsl, Mechanism::ScramSha512),
        (SecurityProtocol::SaslSsl, Mechanism::Plain),
    ];
    let mut configs: Vec<Config> = ways.into_iter().map(|(protocol, mechanism)| secure(&kafka, protocol, mechanism)).collect();
    configs.push(config(&kafka.brokers()));
    for (at, config) in (0..).zip(&configs) {
        let leg = Leg::new(config);
        let large = "x".repeat(300_000);
        let answer = answer(&mut leg.send("raw", 0, batch(&[&format!("{at}"), &large]))).await;
        assert_eq!(offset(answer), Some(at * 2), "{:?}: {answer:?}, {:?}", config.security_protocol, leg.upstream.status());
    }
    let records = kafka.consume_all("raw").await;
    let small: Vec<_> = records.iter().step_by(2).map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect();
    assert_eq!(small, ["0", "1", "2", "3", "4", "5"]);
    assert!(records.iter().all(|record| record.header("made-by") == Some("a test")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_wants_our_certificate_gets_it() {
    let dir = tempfile::tempdir().expect("a folder");
    // The certificate that is made for a broker is as good for a client.
    let ours = Certificates::make(dir.path());
    let properties = vec![
        ("listener.name.saslssl.ssl.client.auth", "required".to_owned()),
        ("listener.name.saslssl.ssl.truststore.type", "PEM".to_owned()),
        ("listener.name.saslssl.ssl.truststore.location", ours.ca.display().to_string()),
    ];
    let kafka = Kafka::start_with(Options { secure: true, properties, ..Options::default() }).await;
    kafka.create_topic("raw", 1, &[]).await;
    let without = Config { raw_timeout: sluicegate::units::Span::secs(1), ..secure(&kafka, SecurityProtocol::SaslSsl, Mechanism::Plain) };
    let pem = std::fs::read(&ours.broker).expect("our key and certificate");
    let with = Config { ssl_cert_b64: STANDARD.encode(&pem), ssl_key_b64: Secret::new(STANDARD.encode(&pem)), ..without.clone() };
    assert_eq!(Leg::new(&without).ask("raw", 0, "without").await, Answer::NotSent("no_leader"));
    let leg = Leg::new(&with);
    assert_eq!(leg.until_appended("raw", 0, "with").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_us_gets_no_batch_and_no_password_in_the_clear() {
    let kafka = Kafka::start_with(Options { secure: true, ..Options::default() }).await;
    kafka.create_topic("raw", 1, &[]).await;
    let right = secure(&kafka, SecurityProtocol::SaslSsl, Mechanism::ScramSha256);
    let wrong_password = Config { sasl_password: Secret::new("wrong-canary-1"), ..right.clone() };
    let wrong_authority = Config { ssl_ca_b64: String::new(), ..right.clone() };
    let plain = Config { sasl_mechanism: Mechanism::Plain, ..wrong_password.clone() };
    for config in [wrong_password, wrong_authority, plain] {
        let leg = Leg::new(&config);
        assert_eq!(leg.ask("raw", 0, "x").await, Answer::NotSent("no_leader"));
        assert!(!format!("{:?}", leg.upstream).contains("canary"));
    }
    assert_eq!(kafka.consume_all("raw").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_batches_over_six_partitions_are_all_found_in_order() {
    let kafka = Kafka::start().await;
    kafka.create_topic("raw", 6, &[]).await;
    let leg = Leg::new(&config(&kafka.brokers()));
    let partition = |n: usize| (n % 6) as i32;
    let send = |n: usize| {
        let producer = Producer { id: 7_000 + n as i64 % 6, epoch: 0, sequence: n as i32 / 6 };
        leg.send("raw", partition(n), batch_of(producer, &[format!("{n}")]))
    };
    let mut tickets: Vec<Ticket> = (0..1_000).map(send).collect();
    for (n, ticket) in tickets.iter_mut().enumerate() {
        let answer = answer(ticket).await;
        assert_eq!(offset(answer), Some(n as i64 / 6), "batch {n}: {answer:?}");
    }
    let records = kafka.consume_all("raw").await;
    assert_eq!(records.len(), 1_000);
    for record in records {
        let n: usize = String::from_utf8_lossy(&record.value).parse().expect("a number");
        assert_eq!((record.partition, record.offset), (partition(n), n as i64 / 6));
    }
    let status = leg.upstream.status();
    assert!(status.len() == 1 && status[0].in_flight == 0 && (1..=4).contains(&status[0].connections), "{status:?}");
    assert_eq!(leg.upstream.waiting_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_and_comes_back_loses_nothing_that_was_acknowledged() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic("raw", 3, &[]).await;
    let leg = Arc::new(Leg::new(&config(&kafka.brokers())));
    leg.until_appended("raw", 0, "first").await;

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let senders: Vec<_> = (0..3)
        .map(|partition| {
            let (leg, stopped) = (Arc::clone(&leg), stopped.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut others, mut n) = (Vec::new(), Vec::new(), 0);
                while !*stopped.borrow() {
                    let value = format!("{partition}-{n}");
                    match leg.ask("raw", partition, &value).await {
                        Answer::Answered { code: 0, .. } => acknowledged.push(value),
                        other => others.push(other),
                    }
                    n += 1;
                }
                (acknowledged, others)
            })
        })
        .collect();
    let appended = async || leg.ask("raw", 0, "between").await;
    for _ in 0..20 {
        appended().await;
    }
    kafka.kill_9();
    eventually("the leg notices", DEADLINE, async || offset(appended().await).is_none().then_some(())).await;
    kafka.restart().await;
    leg.until_appended("raw", 1, "again").await;
    leg.until_appended("raw", 2, "again").await;
    stop.send_replace(true);

    let found: std::collections::HashSet<_> =
        kafka.consume_all("raw").await.into_iter().map(|record| String::from_utf8(record.value).expect("text")).collect();
    for sender in senders {
        let (acknowledged, others) = sender.await.expect("the sender ends");
        assert!(!others.is_empty(), "it was in the middle of it");
        assert!(others.iter().all(|other| !matches!(other, Answer::Answered { .. }) || retryable(*other)), "{others:?}");
        let lost: Vec<_> = acknowledged.iter().filter(|value| !found.contains(*value)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

/// A broker that comes back may lead nothing yet, and know no topic.
fn retryable(answer: Answer) -> bool {
    matches!(answer, Answer::Answered { code: 3 | 5 | 6 | 9 | 19 | 20, .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_not_made_and_its_batches_are_not_sent() {
    let kafka = Kafka::start_with(Options { auto_create: true, ..Options::default() }).await;
    let leg = Leg::new(&config(&kafka.brokers()));
    assert_eq!(leg.ask("nowhere", 0, "x").await, Answer::NotSent("no_leader"));
    assert!(!leg.upstream.leader_changed(&topic("nowhere"), 0, Duration::from_secs(5)).await);
    assert_eq!(kafka.topics().await, Vec::<String>::new());
    kafka.create_topic("later", 1, &[]).await;
    assert_eq!(leg.until_appended("later", 0, "x").await, 0);
}
