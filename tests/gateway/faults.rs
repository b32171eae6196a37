//! What is acknowledged is there, whatever breaks meanwhile: the broker, the gate, the disk.
//!
//! What always holds: the ledger is on disk, outside of what is broken; at the end of every scenario the fault is healed,
//! the inbox has been replayed, and the checker (`examples/checker.rs`, `tests/faults`), a process of its own, reads every
//! partition to its end and holds it against the ledger.

mod backlog;
mod broker;
mod clock;
mod disk;
mod doors;
mod firestore;
mod kafka_door;
mod keys;
mod ledger;
mod liar;
mod lies;
mod link;
mod load;
mod loss;
mod nemesis;
mod otlp_door;
mod planted;
mod process;
mod resources;
mod senders;
mod shared;
mod store;
mod three;
mod topics;

// The checker's own: the log that both must agree about, and the rules, whose tests run here.
#[allow(dead_code)]
#[path = "../faults/log.rs"]
mod log;
#[allow(dead_code)]
#[path = "../faults/rules.rs"]
mod rules;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::gate::{Gate, Setup};
use crate::support::kafka::Kafka;
use crate::support::{eventually, full};

use ledger::Ledger;
use log::Attempt;
use rules::Verdict;

/// The topics that senders use, and their partitions.
const TOPICS: [&str; 3] = ["alpha", "beta", "gamma"];
const PARTITIONS: [i32; 3] = [3, 2, 1];

/// A topic that exists, has a route, and is in no token's grants.
const DENIED_TOPIC: &str = "forbidden";

/// Who the senders are.
const SENDER: &str = "sender";

/// The bound on an answer where no tighter one is asked for: beyond what any gate of these tests may take.
const NO_HANG: Duration = Duration::from_secs(45);

/// How long the inbox may take to be empty after a fault is healed. Generous: the machine may be busy.
const REPLAYED: Duration = Duration::from_secs(180);

/// The bound on any answer, less what the machine was late by: 3 s, and half a second for what a `Stopwatch` does not see.
const SLOWEST_ANSWER: Duration = Duration::from_millis(3_500);

/// No quota stands in the way, and every topic has its route.
const CONFIG: &str = r#"
[limits.tiers.standard]
events_per_second = 1000000.0
burst = 1000000
kib_per_second = 1000000.0
kib_burst = 1000000

[[routes]]
topic = "alpha"

[[routes]]
topic = "beta"

[[routes]]
topic = "gamma"

[[routes]]
topic = "forbidden"
"#;

/// Who keeps the records of a scenario.
trait Brokers {
    /// Where they are.
    fn addresses(&self) -> String;
}

impl Brokers for Kafka {
    fn addresses(&self) -> String {
        self.brokers()
    }
}

impl Brokers for Cluster {
    fn addresses(&self) -> String {
        self.brokers()
    }
}

/// A broker or several, what a gate is started with, and the ledger of a scenario.
struct Stage<B = Kafka> {
    kafka: B,
    setup: Setup,
    /// Where the inbox's database is.
    inbox: PathBuf,
    /// Where the inbox's rows are, if they are in Firestore: host, project and database.
    firestore: Option<String>,
    ledger: Arc<Ledger>,
    /// What every answer has to keep to.
    deadline: Duration,
}

impl Stage {
    /// With a broker that runs and has the topics, and a gate as it is shipped: its deadlines are what is tested.
    async fn new() -> Self {
        let kafka = Kafka::start().await;
        create_topics(&kafka).await;
        Self::with(kafka)
    }

    fn kill_broker(&mut self) {
        self.ledger.broken("broker");
        self.kafka.kill_9();
    }

    /// What the gate makes of a broker's return goes on for a while: the window is not closed.
    async fn restart_broker(&mut self) {
        self.kafka.restart().await;
    }
}

impl<B: Brokers> Stage<B> {
    fn with(kafka: B) -> Self {
        let setup = Setup::new().shipped().config(CONFIG).env("REDPANDA_BROKERS", &kafka.addresses());
        Self { kafka, inbox: setup.path("data/inbox.db"), firestore: None, setup, ledger: Ledger::begin(), deadline: NO_HANG }
    }

    /// What the checker says of broker and inbox.
    async fn verdict(&self) -> Verdict {
        self.verdict_of(&[&TOPICS[..], &[DENIED_TOPIC]].concat()).await
    }

    /// The same where all that is in the ledger went to these topics.
    async fn verdict_of(&self, topics: &[&str]) -> Verdict {
        let (brokers, topics, deadline) = (self.kafka.addresses(), topics.join(","), self.deadline.as_millis().to_string());
        let file = self.inbox.display().to_string();
        let (kind, inbox) = self.firestore.as_ref().map_or(("--inbox", &file), |place| ("--firestore", place));
        self.ledger.verdict(&["--brokers", &brokers, "--topics", &topics, kind, inbox, "--deadline-ms", &deadline]).await
    }

    /// Waits until so many events were accepted in all.
    async fn acked(&self, count: usize) {
        let what = format!("{count} events are accepted");
        eventually(&what, REPLAYED, async || (self.ledger.acked() >= count).then_some(())).await;
    }

    /// Waits until everything is replayed; nothing was set aside.
    async fn replayed(&self, gate: &Gate) {
        let until = Instant::now() + REPLAYED;
        loop {
            let status = status(gate).await;
            if status["inbox"]["rows"] == 0 {
                break;
            }
            assert!(Instant::now() < until, "not within {REPLAYED:?}: the inbox is empty: {} {}", status["inbox"], status["sink"]);
            tokio::time::sleep(Duration::from_millis(20)).await; // Between two looks.
        }
        assert_eq!(status(gate).await["inbox"]["poison"], 0);
        self.ledger.replayed();
    }

    /// Waits until the gate trusts the broker.
    async fn trusted(&self, gate: &Gate) {
        let closed = async || (status(gate).await["sink"]["breaker"] == "closed").then_some(());
        eventually("the breaker closes", REPLAYED, closed).await;
    }
}

/// A number that `tests/faults/run` gives for the long form of a row, else this one.
fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

async fn create_topics(kafka: &Kafka) {
    for (topic, partitions) in TOPICS.iter().zip(PARTITIONS).chain([(&DENIED_TOPIC, 1)]) {
        kafka.create_topic(topic, partitions, &[]).await;
    }
}

/// A token for the senders' topics, good for longer than any row takes, which the development key of the gate's folder signs for all its lives.
async fn token(gate: &Gate) -> String {
    gate.token(&["--sub", SENDER, "--topics", &TOPICS.join(","), "--ttl", "1d"]).await
}

/// An event of the senders' to this topic, without a key.
fn attempt(topic: &str) -> Attempt {
    let (door, principal) = ("https".to_owned(), Some(SENDER.to_owned()));
    Attempt { door, principal, topic: topic.to_owned(), key: None, id: None, sequence: None }
}

async fn status(gate: &Gate) -> Value {
    gate.admin_get("/status").await.json()
}

/// How many rounds a fault has: as many as `tests/faults/run` asks for, else few, or many in the long form.
fn rounds(few: usize, many: usize) -> usize {
    let asked = std::env::var("SLUICEGATE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    asked.unwrap_or(if full() { many } else { few })
}

/// Says what was seen of a row of the fault matrix, for the table of `tests/faults/run`.
fn seen(row: &str, what: &str) {
    eprintln!("{row}: {what}");
    if let Some(path) = std::env::var_os("SLUICEGATE_SEEN") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of tests/faults/run can be written");
        writeln!(file, "{row}\t{what}").expect("the file of tests/faults/run can be written");
    }
}
