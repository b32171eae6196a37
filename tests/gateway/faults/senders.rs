//! Senders at the other doors: Kafka producers (librdkafka, with and without idempotence), and senders of telemetry.
//!
//! What always holds: each attempt is in the log before it is sent, and its answer after it was heard; they go on when the gate
//! is another one at the same port. Neither door gives an event's id, so the value alone names it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use prost::Message;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use tokio::task::JoinSet;

use crate::otlp::sender::{span, traces};
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::stopwatch::{Stopwatch, Took};

use super::ledger::{Ledger, Name};
use super::load::{Dice, is_nobody_there};
use super::log::{Attempt, Outcome};
use super::{SENDER, TOPICS};

/// Where telemetry goes.
pub const SPANS: &str = "otlp_spans";

const SENDERS: usize = 6;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Producers of Kafka.
    Kafka {
        /// Whether they number what they send.
        idempotent: bool,
    },
    /// OTLP by HTTP, in protobuf.
    Otlp,
}

impl Door {
    /// Its row in the table.
    pub fn row(self) -> &'static str {
        if self == Self::Otlp { "otlp" } else { "kafka" }
    }

    /// What it is called there.
    pub fn words(self) -> &'static str {
        match self {
            Self::Kafka { idempotent: true } => "idempotent",
            Self::Kafka { idempotent: false } => "not idempotent",
            Self::Otlp => "OTLP",
        }
    }
}

/// What the senders have come to.
#[derive(Debug, Default)]
pub struct Told {
    /// Accepted.
    pub accepted: usize,
    /// The longest time that an answer took.
    pub slowest: Took,
    /// Refused for now.
    pub refused: Vec<String>,
    /// Not answered.
    pub errors: Vec<String>,
}

/// Senders at work; they go on when the gate is another one at the same port.
pub struct Senders {
    tasks: JoinSet<Told>,
    stop: Arc<AtomicBool>,
}

impl Senders {
    /// At about so many events a second in all.
    pub async fn start(door: Door, gate: &Gate, ledger: &Arc<Ledger>, seed: u64, rate: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let bearer = format!("Bearer {}", gate.token(&["--sub", SENDER, "--topics", SPANS]).await);
        for number in 0..SENDERS {
            let sender = Sender::new(number, SENDERS, seed, rate, ledger, &stop);
            match door {
                Door::Kafka { idempotent } => {
                    tasks.spawn(sender.produce(producer(gate, idempotent), idempotent));
                }
                Door::Otlp => {
                    let (client, url) = (Client::trusting(gate.ca().as_deref()), gate.url("/v1/traces"));
                    tasks.spawn(sender.post(client, url, bearer.clone()));
                }
            }
        }
        Self { tasks, stop }
    }

    /// Two producers beside other senders, with numbers from this one on, at about so many records a second in all.
    pub fn producers(gate: &Gate, ledger: &Arc<Ledger>, seed: u64, rate: u64, first: usize, idempotent: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in first..first + 2 {
            tasks.spawn(Sender::new(number, 2, seed, rate, ledger, &stop).produce(producer(gate, idempotent), idempotent));
        }
        Self { tasks, stop }
    }

    /// Waits until all that was sent is answered.
    pub async fn end(mut self) -> Told {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Told::default();
        while let Some(ended) = self.tasks.join_next().await {
            let Told { accepted, slowest, refused, errors } = ended.expect("a sender does not panic");
            all.accepted += accepted;
            all.slowest = all.slowest.max(slowest);
            all.refused.extend(refused);
            all.errors.extend(errors);
        }
        all
    }
}

fn producer(gate: &Gate, idempotent: bool) -> FutureProducer {
    let password = gate.lines().iter().skip_while(|line| !line.starts_with("Development password")).nth(1).cloned();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", gate.https.to_string())
        .set("security.protocol", "SASL_SSL")
        .set("ssl.ca.location", gate.ca().expect("the gate has a certificate").display().to_string())
        .set("sasl.mechanisms", "SCRAM-SHA-256")
        .set("sasl.username", "developer")
        .set("sasl.password", password.expect("the gate says the password"))
        .set("enable.idempotence", idempotent.to_string())
        .set("linger.ms", "2")
        .set("reconnect.backoff.max.ms", "500")
        .set("message.timeout.ms", "120000");
    config.create().expect("a producer")
}

struct Sender {
    number: usize,
    dice: Dice,
    sent: u64,
    ledger: Arc<Ledger>,
    rest: Duration,
    stop: Arc<AtomicBool>,
}

impl Sender {
    fn new(number: usize, of: usize, seed: u64, rate: u64, ledger: &Arc<Ledger>, stop: &Arc<AtomicBool>) -> Self {
        Self {
            number,
            dice: Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64)),
            sent: 0,
            ledger: Arc::clone(ledger),
            rest: Duration::from_secs(of as u64).div_f64(rate as f64),
            stop: Arc::clone(stop),
        }
    }

    async fn produce(mut self, producer: FutureProducer, idempotent: bool) -> Told {
        let mut told = Told::default();
        while !self.stop.load(Ordering::SeqCst) {
            let size = 1 + self.dice.below(20);
            let records: Vec<_> = (0..size).map(|_| self.record(idempotent)).collect();
            let watch = Stopwatch::start();
            let sends = records.iter().map(|(_, topic, key, value)| {
                let record = FutureRecord::to(topic).payload(value);
                producer.send(if let Some(key) = key { record.key(key) } else { record }, Timeout::Never)
            });
            let answers = futures_util::future::join_all(sends).await;
            let took = watch.read();
            told.slowest = told.slowest.max(took);
            for ((name, ..), answer) in records.iter().zip(answers) {
                let outcome = match answer {
                    Ok(delivery) => Outcome::Ack { id: String::new(), inbox: delivery.offset < 0 },
                    Err((error, _)) => outcome_of(&error),
                };
                told.note(&outcome, took);
                self.ledger.outcome(name, outcome, took);
            }
            tokio::time::sleep(self.rest * u32::try_from(size).expect("small")).await;
        }
        tokio::task::spawn_blocking(move || drop(producer)).await.expect("its end does not panic");
        told
    }

    fn record(&mut self, idempotent: bool) -> (Name, &'static str, Option<String>, String) {
        let (number, sent) = (self.number, self.sent);
        self.sent += 1;
        let pad = "x".repeat(usize::try_from(self.dice.below(600)).expect("small"));
        let value = format!(r#"{{"producer":{number},"number":{sent},"pad":"{pad}"}}"#);
        let topic = TOPICS[usize::try_from(self.dice.below(TOPICS.len() as u64)).expect("small")];
        let key = (self.dice.below(4) > 0).then(|| format!("producer-{number}"));
        // Without numbers, what is sent again can overtake.
        let sequence = (idempotent && key.is_some()).then_some(sent);
        let principal = Some(SENDER.to_owned());
        let attempt = Attempt { door: "kafka".to_owned(), principal, topic: topic.to_owned(), key: key.clone(), id: None, sequence };
        (self.ledger.attempt(value.as_bytes(), attempt), topic, key, value)
    }

    async fn post(mut self, client: Client, url: String, bearer: String) -> Told {
        let mut told = Told::default();
        while !self.stop.load(Ordering::SeqCst) {
            let mut one = span(self.number as u32, &format!("span {} of {}", self.sent, self.number));
            one.span_id = (1 + self.sent).to_be_bytes().to_vec();
            self.sent += 1;
            let body = traces(vec![one]).encode_to_vec();
            let principal = Some(SENDER.to_owned());
            let attempt = Attempt { door: "otlp".to_owned(), principal, topic: SPANS.to_owned(), key: None, id: None, sequence: None };
            let name = self.ledger.attempt(&body, attempt);
            let watch = Stopwatch::start();
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf")];
            let outcome = match client.send(Method::POST, &url, &headers, body).await {
                // Which of the two tiers has it is not said: as if it were the later one.
                Ok(answer) if answer.status == 200 && answer.body.is_empty() => Outcome::Ack { id: String::new(), inbox: true },
                Ok(answer) if answer.status == 429 => Outcome::Reject { code: "throttled".to_owned() },
                Ok(answer) if answer.status == 503 && answer.header("retry-after").is_some() => {
                    Outcome::Reject { code: "unavailable".to_owned() }
                }
                Ok(answer) => Outcome::Reject { code: format!("status {}", answer.status) },
                // Nobody was there, and nothing was sent.
                Err(error) if is_nobody_there(&error) => Outcome::Reject { code: "unavailable".to_owned() },
                Err(why) => Outcome::Unknown { why },
            };
            let took = watch.read();
            told.slowest = told.slowest.max(took);
            told.note(&outcome, took);
            self.ledger.outcome(&name, outcome, took);
            tokio::time::sleep(self.rest).await;
        }
        told
    }
}

impl Told {
    fn note(&mut self, outcome: &Outcome, took: Took) {
        match outcome {
            Outcome::Ack { .. } => self.accepted += 1,
            Outcome::Reject { code } => self.refused.push(format!("{code} after {took}")),
            Outcome::Unknown { why } => self.errors.push(format!("{why} after {took}")),
        }
    }
}

fn outcome_of(error: &KafkaError) -> Outcome {
    match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed) => Outcome::Reject { code: "denied".to_owned() },
        _ => Outcome::Unknown { why: error.to_string() },
    }
}
