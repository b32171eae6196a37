//! Senders: many connections with mixed batches, each attempt in the ledger before it is sent and each answer after it
//! was read.
//!
//! What always holds: a sender waits for each answer, numbers the events of its own key, and stops at the first
//! transport error, after which nothing is known of what it had sent; what it sends follows from the seed alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::{Answer, Client};
use crate::support::gate::Gate;
use crate::support::stopwatch::{Stopwatch, Took};

use super::ledger::{Ledger, Name};
use super::log::{Attempt, Outcome};
use super::senders::Senders;
use super::{DENIED_TOPIC, SENDER, TOPICS, seen};

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall in the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A seed for this run, or the one of an earlier run: `SLUICEGATE_SEED`.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("SLUICEGATE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_secs() ^ u64::from(now.subsec_nanos()) ^ (u64::from(std::process::id()) << 32)
    });
    eprintln!("{test}: SLUICEGATE_SEED={seed}");
    seed
}

/// No refusal for want of time comes earlier than the answer's deadline of 3 s, of which the gate keeps a little for itself.
const RAN_OUT: Duration = Duration::from_millis(2_800);

/// One request in so many shows a credential that must be refused.
const OUTSIDERS: u64 = 20;

/// The least that is left for a commit when the gate has waited for a new producer's first acknowledgement.
const STALL: Duration = Duration::from_millis(300);

/// One that sends over a connection of its own, and keeps its numbers when the gate is another one.
#[derive(Debug)]
struct Sender {
    number: usize,
    dice: Dice,
    sent: u64,
}

/// All senders of a test.
pub struct Load {
    ledger: Arc<Ledger>,
    token: String,
    /// Where to, if not to the gate itself.
    through: Option<String>,
    senders: Vec<Sender>,
    budget: Arc<AtomicU64>,
    /// Events a second over all senders; 0: as fast as they are answered.
    rate: u64,
    largest: u64,
    producers: Option<Producers>,
}

/// Kafka producers that send beside, each time that the senders are started: two new ones.
struct Producers {
    row: &'static str,
    idempotent: bool,
    seed: u64,
    started: usize,
}

/// Records a second of the producers beside.
const BESIDE: u64 = 60;

/// What one run of the senders came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were answered.
    pub answered: usize,
    /// The longest time that an answer took, by our own clock.
    pub slowest: Took,
    /// How long each answer took.
    pub times: Vec<Duration>,
    /// Answers that refuse an event which was not meant to be refused.
    pub refused: Vec<String>,
    /// Those that had to refuse it, because the machine stood still until their deadline was over.
    pub held_up: usize,
    /// Requests without an answer.
    pub errors: Vec<String>,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.slowest = self.slowest.max(other.slowest);
        self.times.extend(other.times);
        self.held_up += other.held_up;
        self.refused.extend(other.refused);
        self.errors.extend(other.errors);
    }
}

/// The time within which 99 of 100 are.
pub fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Senders at work.
pub struct Running {
    tasks: JoinSet<(Sender, Tally)>,
    stop: Arc<AtomicBool>,
    producers: Option<Senders>,
}

impl Load {
    /// So many senders with batches of 1 to `largest` events, all in one ledger.
    pub fn new(ledger: &Arc<Ledger>, token: &str, senders: usize, largest: u64, seed: u64) -> Self {
        let sender = |number: usize| Sender { number, dice: Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64)), sent: 0 };
        Self {
            ledger: Arc::clone(ledger),
            token: token.to_owned(),
            through: None,
            senders: (0..senders).map(sender).collect(),
            budget: Arc::new(AtomicU64::new(u64::MAX)),
            rate: 0,
            largest,
            producers: None,
        }
    }

    /// Senders with numbers from this one on, where others are at work beside them.
    pub fn numbered_from(mut self, first: usize) -> Self {
        self.senders.iter_mut().for_each(|sender| sender.number += first);
        self
    }

    /// At about this many events a second.
    pub fn rate(mut self, events_per_second: u64) -> Self {
        self.rate = events_per_second;
        self
    }

    /// With Kafka producers beside, where `tests/faults/run` asks for it, which has them for every row whose gate lives through it:
    /// what holds for the others has to hold for them. Not for gates that are killed, nor where the senders end before the fault does,
    /// for a producer ends when all is taken: the rows of the Kafka door do those.
    pub fn beside(mut self, row: &'static str, idempotent: bool) -> Self {
        let seed = self.senders.first().map_or(0, |sender| sender.dice.0);
        let wanted = std::env::var_os("SLUICEGATE_KAFKA_BESIDE").is_some();
        self.producers = wanted.then_some(Producers { row, idempotent, seed, started: 0 });
        self
    }

    /// By way of somebody who stands before the gate.
    pub fn through(mut self, url: &str) -> Self {
        self.through = Some(url.to_owned());
        self
    }

    /// Until so many events were sent, or until it is stopped.
    pub fn start(&mut self, gate: &Gate, events: Option<u64>) -> Running {
        self.budget.store(events.unwrap_or(u64::MAX), Ordering::SeqCst);
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let count = self.senders.len() as u64;
        let producers = self.producers.as_mut().map(|producers| {
            producers.started += 1;
            let Producers { seed, started, idempotent, .. } = *producers;
            Senders::producers(gate, &self.ledger, seed, BESIDE, started * 2, idempotent)
        });
        for sender in self.senders.drain(..) {
            let line = Line {
                client: Client::trusting(gate.ca().as_deref()),
                url: self.through.clone().unwrap_or_else(|| gate.url("/v1/events")),
                token: format!("Bearer {}", self.token),
                forged: format!("Bearer {}", forged(&self.token)),
                ledger: Arc::clone(&self.ledger),
                budget: Arc::clone(&self.budget),
                stop: Arc::clone(&stop),
                rest_per_event: (self.rate > 0).then(|| Duration::from_secs(count).div_f64(self.rate as f64)),
                largest: self.largest,
            };
            tasks.spawn(line.run(sender));
        }
        Running { tasks, stop, producers }
    }

    /// Takes the senders back when they have ended.
    pub async fn end(&mut self, mut running: Running) -> Tally {
        running.stop.store(true, Ordering::SeqCst);
        self.join(&mut running).await
    }

    /// Waits until the senders have ended by themselves.
    pub async fn join(&mut self, running: &mut Running) -> Tally {
        let mut all = Tally::default();
        while let Some(ended) = running.tasks.join_next().await {
            let (sender, tally) = ended.expect("a sender does not panic");
            self.senders.push(sender);
            all.add(tally);
        }
        self.senders.sort_by_key(|sender| sender.number);
        if let (Some(running), Some(Producers { row, .. })) = (running.producers.take(), &self.producers) {
            let told = running.end().await;
            let (accepted, slowest, refused, errors) = (told.accepted, told.slowest, told.refused.len(), told.errors.len());
            seen(row, &format!("Kafka door beside: {accepted} accepted, slowest {slowest}, {refused} refused, {errors} unanswered"));
            all.refused.extend(told.refused);
            all.errors.extend(told.errors);
        }
        all
    }
}

/// One sender's way to the gate.
struct Line {
    client: Client,
    url: String,
    token: String,
    /// The same with another signature.
    forged: String,
    ledger: Arc<Ledger>,
    budget: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    rest_per_event: Option<Duration>,
    largest: u64,
}

impl Line {
    async fn run(self, mut sender: Sender) -> (Sender, Tally) {
        let mut tally = Tally::default();
        while !self.stop.load(Ordering::SeqCst) {
            let outsider = sender.dice.below(OUTSIDERS) == 0;
            let size = if outsider { 1 } else { sender.batch_size(self.largest) };
            let Ok(left) =
                self.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left > 0).then(|| left.saturating_sub(size)))
            else {
                break;
            };
            let size = size.min(left);
            let (names, body) = self.batch(&mut sender, size, outsider);
            let watch = Stopwatch::start();
            let headers =
                [("authorization", if outsider { &self.forged } else { &self.token }.as_str()), ("content-type", "application/json")];
            match self.client.send(Method::POST, &self.url, &headers, body).await {
                Ok(answer) => {
                    tally.answered += 1;
                    let took = watch.read();
                    tally.slowest = tally.slowest.max(took);
                    tally.times.push(took.whole);
                    note(&self.ledger, &names, &answer, took, &mut tally);
                    if !outsider && answer.header("connection") == Some("close") {
                        break; // The gate asks its client to go elsewhere.
                    }
                }
                Err(error) => {
                    let took = watch.read();
                    // Where nobody is there to connect to, nothing was sent.
                    let outcome = match is_nobody_there(&error) {
                        true => Outcome::Reject { code: "unavailable".to_owned() },
                        false => Outcome::Unknown { why: error.clone() },
                    };
                    names.iter().for_each(|name| self.ledger.outcome(name, outcome.clone(), took));
                    tally.errors.push(format!("after {took}: {error}"));
                    break;
                }
            }
            if let Some(rest) = self.rest_per_event {
                tokio::time::sleep(rest * u32::try_from(size).expect("a batch is small")).await;
            }
        }
        (sender, tally)
    }

    fn batch(&self, sender: &mut Sender, size: u64, outsider: bool) -> (Vec<Name>, String) {
        let (names, events): (Vec<Name>, Vec<String>) = (0..size).map(|_| sender.event(&self.ledger, outsider)).unzip();
        (names, format!("[{}]", events.join(",")))
    }
}

impl Sender {
    /// Many small ones, some large ones.
    fn batch_size(&mut self, largest: u64) -> u64 {
        let bound = match self.dice.below(4) {
            0 => 1,
            1 => largest.min(10),
            _ => largest,
        };
        1 + self.dice.below(bound)
    }

    /// Makes one event, writes it down, and gives its JSON.
    fn event(&mut self, ledger: &Ledger, outsider: bool) -> (Name, String) {
        let number = self.sent;
        self.sent += 1;
        let pad = "x".repeat(usize::try_from(self.dice.below(600)).expect("small"));
        let value = format!(r#"{{"sender":{},"number":{number},"pad":"{pad}","odd":1.50}}"#, self.number);
        let topic = TOPICS[usize::try_from(self.dice.below(TOPICS.len() as u64)).expect("small")];
        let (key, seq) = match self.dice.below(4) {
            0 => (None, None),
            1 => (Some(format!("shared-{}", self.dice.below(20))), None),
            _ => (Some(format!("sender-{}", self.number)), Some(number)),
        };
        let client_id = (self.dice.below(3) == 0).then(|| format!("mine-{}-{number}", self.number));
        // Some that must never be found: a topic that the token does not name, a header that is the gate's own.
        let (topic, headers) = match self.dice.below(100) {
            0 => (DENIED_TOPIC, json!({})),
            1 => (topic, json!({"x-deml-event-id": "forged"})),
            _ => (topic, json!({"mine": if outsider { "no" } else { "yes" }})),
        };
        let principal = (!outsider).then(|| SENDER.to_owned());
        let (door, topic, key, id) = ("https".to_owned(), topic.to_owned(), key, client_id);
        let attempt = Attempt { door, principal, topic: topic.clone(), key: key.clone(), id: id.clone(), sequence: seq };
        let name = ledger.attempt(value.as_bytes(), attempt);
        let mut event = json!({"topic": topic, "headers": headers});
        if let Some(key) = key {
            event["key"] = key.into();
        }
        if let Some(id) = id {
            event["id"] = id.into();
        }
        let event = event.to_string();
        (name, format!("{},\"data\":{value}}}", &event[..event.len() - 1]))
    }
}

/// Writes down what an answer says of each event.
fn note(ledger: &Ledger, names: &[Name], answer: &Answer, took: Took, tally: &mut Tally) {
    let body = answer.json();
    let results = body["results"].as_array();
    let outcomes: Vec<_> = (0..names.len()).map(|place| outcome(results.map_or(&body, |results| &results[place]))).collect();
    let unexpected = !matches!(answer.status, 200 | 202 | 207) && !all_meant_to_fail(&body);
    let retryable = |outcome: &Outcome| match outcome {
        Outcome::Reject { code } if !outcome.is_final() => Some(code.clone()),
        _ => None,
    };
    let refusals: Vec<String> = outcomes.iter().filter_map(retryable).collect();
    if unexpected || !refusals.is_empty() {
        if is_held_up(took) && !refusals.is_empty() && refusals.iter().all(|code| code == "unavailable") {
            tally.held_up += 1;
        } else {
            tally.refused.push(format!("{} after {took}: {}", answer.status, answer.text().chars().take(300).collect::<String>()));
        }
    }
    names.iter().zip(outcomes).for_each(|(name, outcome)| ledger.outcome(name, outcome, took));
}

/// Whether a client's error says that it was never connected.
pub fn is_nobody_there(error: &str) -> bool {
    error.contains("Error(Connect")
}

/// The inbox has the rest of the answer's deadline for its commit. A refusal is honest when the deadline is over, and the
/// machine has stalled meanwhile; one that comes early, or on a machine that is well, is a fault.
fn is_held_up(took: Took) -> bool {
    took.whole >= RAN_OUT && took.stalled >= STALL
}

/// A batch of which every event was one that must be refused has its refusal's own status.
fn all_meant_to_fail(body: &Value) -> bool {
    matches!(body["code"].as_str(), Some("denied" | "invalid" | "unauthenticated"))
}

/// The same token, signed by nobody we know.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a token has three parts");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    format!("{signed}.{other}{}", &signature[1..])
}

/// What one event's part of an answer says of it.
pub fn outcome(result: &Value) -> Outcome {
    if result["status"] == "accepted" {
        let id = result["id"].as_str().expect("an accepted event has an id").to_owned();
        return Outcome::Ack { id, inbox: result["tier"] == "inbox" };
    }
    Outcome::Reject { code: result["code"].as_str().unwrap_or("none").to_owned() }
}
