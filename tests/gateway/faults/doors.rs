//! The quick rows at the other doors: Kafka producers (librdkafka, with and without idempotence) and senders of telemetry.
//!
//! What always holds: the same log, the same checker, the same faults as at the HTTPS door; what differs is who sends, and what
//! an answer looks like. Neither door gives an event's id, so the value alone names it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
use crate::support::{DEADLINE, eventually, free_port, not_run};

use super::disk::{SmallDisk, resident_kib};
use super::ledger::{Ledger, Name};
use super::load::{Dice, is_nobody_there, seed};
use super::log::{Attempt, Outcome};
use super::{CONFIG, SENDER, Stage, TOPICS, rounds, seen};

/// Where telemetry goes.
const SPANS: &str = "otlp_spans";

/// What a stop may take, less what the machine was late by.
const STOP: Duration = Duration::from_secs(8);

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
    fn row(self) -> &'static str {
        if self == Self::Otlp { "otlp" } else { "kafka" }
    }

    fn words(self) -> &'static str {
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
    accepted: usize,
    slowest: Took,
    /// Refused for now.
    refused: Vec<String>,
    /// Not answered.
    errors: Vec<String>,
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
            let sender = Sender {
                number,
                dice: Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64)),
                sent: 0,
                ledger: Arc::clone(ledger),
                rest: Duration::from_secs(SENDERS as u64).div_f64(rate as f64),
                stop: Arc::clone(&stop),
            };
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

/// A stage whose gate has the same port all its lives.
async fn stage() -> Stage {
    let mut stage = Stage::new().await;
    stage.kafka.create_topic(SPANS, 3, &[]).await;
    stage.setup = stage.setup.config(&format!("{CONFIG}\n[[routes]]\ntopic = \"{SPANS}\"\n"));
    stage.setup = stage.setup.env("SLUICEGATE__LISTENERS__BIND", &format!("127.0.0.1:{}", free_port()));
    stage
}

async fn judged(stage: &Stage, gate: &Gate, door: Door, row: &str, told: &Told, more: &str) {
    stage.replayed(gate).await;
    let verdict = stage.verdict_of(&[&TOPICS[..], &[SPANS]].concat()).await;
    let (slowest, refused, errors) = (told.slowest, told.refused.len(), told.errors.len());
    seen(
        door.row(),
        &format!("{row}, {}: {more}slowest answer {slowest}, {refused} refused, {errors} unanswered; {verdict}", door.words()),
    );
    verdict.assert_clean();
    assert!(verdict.acked > 0, "{verdict}");
}

/// F1. No request fails; what was accepted is all found.
pub async fn broker_killed(door: Door) {
    let mut stage = stage().await;
    let gate = stage.setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed("broker killed"), 500).await;
    stage.acked(500).await;
    stage.ledger.broken("broker killed");
    stage.kafka.kill_9();
    stage.acked(stage.ledger.acked() + 1_000).await;
    stage.kafka.restart().await;
    stage.trusted(&gate).await;
    stage.acked(stage.ledger.acked() + 500).await;
    let told = senders.end().await;
    stage.replayed(&gate).await;
    stage.ledger.healed("broker killed");
    judged(&stage, &gate, door, "F1", &told, "").await;
    assert_eq!((told.refused.len(), told.errors.len()), (0, 0), "{told:?}");
}

/// F2. The same with a broker that freezes for 1 to 6 s.
pub async fn broker_frozen(door: Door) {
    let stage = stage().await;
    let gate = stage.setup.clone().env("SLUICEGATE__SINK__MESSAGE_TIMEOUT", "120s").start().await;
    let seed = seed("broker frozen");
    let mut dice = Dice::new(seed);
    let senders = Senders::start(door, &gate, &stage.ledger, seed, 300).await;
    for _ in 0..rounds(2, 10) {
        stage.acked(stage.ledger.acked() + 200).await;
        stage.ledger.broken("broker frozen");
        stage.kafka.stop();
        tokio::time::sleep(Duration::from_millis(1_000 + dice.below(5_000))).await; // The fault's own length.
        stage.kafka.cont();
        stage.trusted(&gate).await;
        stage.acked(stage.ledger.acked() + 100).await;
        stage.replayed(&gate).await;
        stage.ledger.healed("broker frozen");
    }
    let told = senders.end().await;
    judged(&stage, &gate, door, "F2", &told, "").await;
    assert_eq!((told.refused.len(), told.errors.len()), (0, 0), "{told:?}");
}

/// F15. Nothing is accepted while both tiers are away; senders hear so in time, or wait; everything goes on afterwards.
pub async fn both_away(door: Door) {
    let Some(disk) = SmallDisk::mount("32m") else { return not_run(1, "nobody may mount a small disk here") };
    let mut stage = stage().await;
    let data = disk.path().join("data");
    let setup = stage.setup.clone().env("SLUICEGATE__INBOX__DIR", &data.display().to_string());
    stage.setup = setup.env("SLUICEGATE__INBOX__ALLOW_VOLATILE", "true").env("SLUICEGATE__INBOX__MIN_FREE", "8 MiB");
    stage.inbox = data.join("inbox.db");
    let gate = stage.setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed("both away"), 300).await;
    stage.acked(300).await;
    stage.ledger.broken("both away");
    let file = disk.fill(0);
    stage.kafka.kill_9();
    // What was on its way when the disk filled up is answered by then.
    let still = async || {
        let before = stage.ledger.acked();
        tokio::time::sleep(Duration::from_secs(1)).await;
        (stage.ledger.acked() == before).then_some(before)
    };
    let acked = eventually("nothing is accepted any more", DEADLINE, still).await;
    let memory = resident_kib(&gate);
    tokio::time::sleep(Duration::from_secs(8)).await; // The fault's own length.
    assert_eq!(stage.ledger.acked(), acked, "nothing is accepted");
    let grown = resident_kib(&gate).saturating_sub(memory) >> 10;
    std::fs::remove_file(&file).expect("a file of ours");
    stage.kafka.restart().await;
    stage.trusted(&gate).await;
    stage.acked(acked + 300).await;
    let told = senders.end().await;
    stage.replayed(&gate).await;
    stage.ledger.healed("both away");
    judged(&stage, &gate, door, "F15", &told, &format!("{grown} MiB more; ")).await;
    assert!(told.errors.is_empty() && grown <= 64, "{grown} MiB more, {:?}", told.errors.first());
    assert_eq!(door == Door::Otlp, !told.refused.is_empty(), "{:?}", told.refused.first());
}

/// F20. Killed at random moments, with a broker that is well or frozen; what it had accepted is found.
pub async fn gate_killed(door: Door) {
    let stage = stage().await;
    let seed = seed("gate killed");
    let mut dice = Dice::new(seed);
    let mut gate = stage.setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed, 500).await;
    let kills = rounds(6, 30);
    for round in 0..kills {
        let frozen = round % 3 == 1;
        if frozen {
            stage.ledger.broken("broker frozen");
            stage.kafka.stop();
        }
        stage.acked(stage.ledger.acked() + 1 + usize::try_from(dice.below(400)).expect("small")).await;
        stage.ledger.broken("gate killed");
        gate.kill_9();
        if frozen {
            stage.kafka.cont();
        }
        gate = stage.setup.start().await;
        stage.acked(stage.ledger.acked() + 10).await;
        stage.ledger.healed("gate killed");
        if frozen {
            stage.ledger.healed("broker frozen");
        }
    }
    stage.ledger.broken("what the last kill has left");
    let told = senders.end().await;
    stage.replayed(&gate).await;
    stage.ledger.healed("what the last kill has left");
    judged(&stage, &gate, door, "F20", &told, &format!("{kills} kills; ")).await;
    if door != Door::Otlp {
        assert_eq!(told.errors.len(), 0, "a producer tries again: {:?}", told.errors.first());
    }
}

/// F21. Asked to stop under load, and started again; no request that was sent goes unanswered.
pub async fn gate_stopped(door: Door) {
    let stage = stage().await;
    let seed = seed("gate stopped");
    let setup = stage.setup.clone().env("SLUICEGATE__DRAIN__LIMIT", "60s");
    let mut gate = setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed, 400).await;
    let stops = rounds(4, 10);
    let mut slowest = Took::default();
    for round in 0..stops {
        let frozen = round % 2 == 1;
        stage.acked(stage.ledger.acked() + 200).await;
        stage.ledger.broken("gate stopped");
        if frozen {
            stage.kafka.stop();
        }
        gate.sigterm();
        let watch = Stopwatch::start();
        let status = gate.wait(DEADLINE).await;
        let took = watch.read();
        assert_eq!(status.code(), Some(0));
        assert!(took.own() <= STOP, "{took}");
        slowest = slowest.max(took);
        if frozen {
            stage.kafka.cont();
        }
        gate = setup.start().await;
        let began = Instant::now();
        stage.acked(stage.ledger.acked() + 50).await;
        eprintln!("gate stopped, round {round}: after {took}, 50 more accepted {:?} after it was ready again", began.elapsed());
        stage.replayed(&gate).await;
        stage.ledger.healed("gate stopped");
    }
    let told = senders.end().await;
    judged(&stage, &gate, door, "F21", &told, &format!("{stops} stops, the slowest {slowest}; ")).await;
    assert_eq!(told.errors.len(), 0, "what was sent is answered: {:?}", told.errors.first());
}

/// Nothing is broken: every event is there once.
pub async fn well(door: Door) {
    let stage = stage().await;
    let gate = stage.setup.clone().patient().start().await;
    stage.ledger.patient();
    let senders = Senders::start(door, &gate, &stage.ledger, seed("well"), 1_000).await;
    stage.acked(3_000).await;
    let told = senders.end().await;
    judged(&stage, &gate, door, "no fault", &told, "").await;
    assert_eq!((told.refused.len(), told.errors.len()), (0, 0), "{told:?}");
}
