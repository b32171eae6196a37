//! What clients are put on: a broker, a gate before it, and a Collector behind it.

use crate::support::collector::Collector;
use crate::support::eventually;
use crate::support::gate::{Gate, Setup};
use crate::support::kafka::Kafka;
use crate::support::otlp_clients::{Endpoint, Order};

use super::{PARTITIONS, REPLAYED, TOPICS};

/// Makes the three topics.
pub async fn make_topics(kafka: &Kafka) {
    for topic in TOPICS {
        kafka.create_topic(topic, PARTITIONS, &[]).await;
    }
}

/// A gate before a broker, with quotas that nobody feels.
pub fn setup(kafka: &Kafka) -> Setup {
    Setup::new().broker(kafka).config(
        "[limits.tiers.standard]\nevents_per_second = 1000000.0\nburst = 1000000\nkib_per_second = 1000000.0\nkib_burst = 1000000\n",
    )
}

/// Where clients send to: a gate, with a token for its three topics.
pub async fn endpoint(gate: &Gate) -> Endpoint {
    Endpoint::gate(gate, &token(gate, "an-sdk").await)
}

/// The same for one client alone.
pub async fn endpoint_of(gate: &Gate, order: &Order) -> Endpoint {
    Endpoint::gate(gate, &token(gate, &order.run()).await)
}

/// A token for the three topics.
pub async fn token(gate: &Gate, subject: &str) -> String {
    gate.token(&["--sub", subject, "--topics", &TOPICS.join(",")]).await
}

/// A broker with its topics, a gate, and two Collectors: one that is sent to directly, one that reads the broker.
pub struct Stage {
    pub gate: Option<Gate>, // Before the broker: it is the one that would complain.
    pub endpoint: Endpoint,
    pub direct: Collector,
    pub behind: Collector,
    _kafka: Kafka,
}

impl Stage {
    /// All of it running.
    pub async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    /// All of it running, with a gate that is told more.
    pub async fn with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let kafka = Kafka::start().await;
        make_topics(&kafka).await;
        let brokers = kafka.brokers();
        let (direct, behind) = tokio::join!(Collector::of_otlp(), Collector::of_kafka(&brokers));
        if std::env::var("OTLP_TARGET").as_deref() == Ok("direct") {
            let endpoint = Endpoint::collector(&direct);
            let behind = Collector::of_otlp().await;
            return Self { gate: None, endpoint, direct: behind, behind: direct, _kafka: kafka };
        }
        let gate = more(setup(&kafka)).start().await;
        let endpoint = endpoint(&gate).await;
        Self { gate: Some(gate), endpoint, direct, behind, _kafka: kafka }
    }
}

/// Waits until everything is replayed; nothing was set aside.
pub async fn replayed(gate: &Gate) {
    let status = async || gate.admin_get("/status").await.json();
    eventually("the inbox is empty", REPLAYED, async || (status().await["inbox"]["rows"] == 0).then_some(())).await;
    assert_eq!(status().await["inbox"]["poison"], 0);
}

/// Sums a metric of the gate over the lines that hold all of these words.
pub async fn metric(gate: &Gate, name: &str, words: &[&str]) -> f64 {
    let text = gate.admin_get("/metrics").await.text();
    let lines = text.lines().filter(|line| line.starts_with(name) && words.iter().all(|word| line.contains(word)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
