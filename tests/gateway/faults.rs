//! What is acknowledged is there, whatever breaks meanwhile: the broker, the gate, the disk.
//!
//! What always holds: the ledger is kept by this process, outside of what is broken; at the end of every scenario the
//! fault is healed, the inbox has been replayed, and every partition is read to its end and held against the ledger.

mod broker;
mod disk;
mod ledger;
mod load;
mod process;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::support::eventually;
use crate::support::gate::{Gate, Setup};
use crate::support::kafka::Kafka;

use ledger::{Found, Ledger, Verdict};

/// The topics that senders use, and their partitions.
const TOPICS: [&str; 3] = ["alpha", "beta", "gamma"];
const PARTITIONS: [i32; 3] = [3, 2, 1];

/// A topic that exists, has a route, and is in no token's grants.
const DENIED_TOPIC: &str = "forbidden";

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

/// A broker, what a gate is started with, and the ledger of a scenario.
struct Stage {
    kafka: Kafka,
    setup: Setup,
    ledger: Arc<Ledger>,
}

impl Stage {
    /// With a broker that runs and has the topics, and a gate as it is shipped: its deadlines are what is tested.
    async fn new() -> Self {
        let kafka = Kafka::start().await;
        create_topics(&kafka).await;
        Self::with(kafka)
    }

    fn with(kafka: Kafka) -> Self {
        let setup = Setup::new().shipped().config(CONFIG).broker(&kafka);
        Self { kafka, setup, ledger: Arc::default() }
    }

    /// Holds broker and inbox against the ledger.
    async fn verdict(&self) -> Verdict {
        let mut found = Vec::new();
        for topic in TOPICS.iter().chain([&DENIED_TOPIC]) {
            found.extend(self.found(topic).await);
        }
        self.ledger.check(&found, &inbox_ids(&self.setup).await)
    }

    /// The same where all that is in the ledger went to one topic.
    async fn verdict_of(&self, topic: &str) -> Verdict {
        self.ledger.check(&self.found(topic).await, &inbox_ids(&self.setup).await)
    }

    async fn found(&self, topic: &str) -> Vec<Found> {
        self.kafka.consume_all(topic).await.iter().map(|record| Found::new(topic, record)).collect()
    }

    /// Waits until so many events were accepted in all.
    async fn acked(&self, count: usize) {
        let what = format!("{count} events are accepted");
        eventually(&what, REPLAYED, async || (self.ledger.acked() >= count).then_some(())).await;
    }
}

async fn create_topics(kafka: &Kafka) {
    for (topic, partitions) in TOPICS.iter().zip(PARTITIONS).chain([(&DENIED_TOPIC, 1)]) {
        kafka.create_topic(topic, partitions, &[]).await;
    }
}

/// A token for the senders' topics, which the development key of the gate's folder signs for all its lives.
async fn token(gate: &Gate) -> String {
    gate.token(&["--sub", "sender", "--topics", &TOPICS.join(",")]).await
}

/// The ids of the rows in the inbox, those set aside too.
async fn inbox_ids(setup: &Setup) -> Vec<String> {
    let listed = setup.run(&["inbox", "list", "--json", "--limit", "0"]).await;
    assert_eq!(listed.status, 0, "{listed:?}");
    let id = |line: &str| serde_json::from_str::<Value>(line).ok()?["id"].as_str().map(str::to_owned);
    listed.stdout.lines().filter_map(id).collect()
}

async fn status(gate: &Gate) -> Value {
    gate.admin_get("/status").await.json()
}

/// Waits until everything is replayed; nothing was set aside.
async fn replayed(gate: &Gate) {
    eventually("the inbox is empty", REPLAYED, async || (status(gate).await["inbox"]["rows"] == 0).then_some(())).await;
    assert_eq!(status(gate).await["inbox"]["poison"], 0);
}
