//! Looking into a broker, and making its topics, with a client of our own.
//!
//! What always holds: nothing here makes a topic by asking for it; a read goes to the end of every partition as it was
//! when the read began.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::kafka::Kafka;
pub use super::kafka_records::Record;
use super::kafka_records::{ASK, read_all};
use super::{START_DEADLINE, eventually};

/// The same for one that may be in vain.
const SHORT_ASK: Duration = Duration::from_millis(500);
/// Who looks into brokers: one, or a cluster.
#[derive(Debug, Clone)]
pub struct Reader {
    brokers: String,
    replicas: i32,
}

impl Kafka {
    /// Makes a topic and waits until its partitions can be written to.
    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.reader().create_topic(name, partitions, configs).await;
    }

    /// Sets configuration of a topic; what is not named goes back to its default.
    pub async fn alter_topic(&self, name: &str, configs: &[(&str, &str)]) {
        self.reader().alter_topic(name, configs).await;
    }

    /// Deletes a topic and waits until it is gone.
    pub async fn delete_topic(&self, name: &str) {
        self.reader().delete_topic(name).await;
    }

    /// The names of all topics but the broker's own, sorted.
    pub async fn topics(&self) -> Vec<String> {
        self.reader().topics().await
    }

    /// Every record of a topic, partition by partition, each in order.
    pub async fn consume_all(&self, topic: &str) -> Vec<Record> {
        self.reader().consume_all(topic).await
    }

    fn reader(&self) -> Reader {
        Reader::of(self.brokers(), 1)
    }
}

impl Reader {
    /// Of the brokers at these addresses; the topics that it makes have so many replicas.
    pub fn of(brokers: String, replicas: i32) -> Self {
        Self { brokers, replicas }
    }

    /// Makes a topic and waits until its partitions can be written to.
    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(self.replicas));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let made = self.admin().create_topics(&[topic], &AdminOptions::new()).await.expect("the broker answers");
        assert!(made.iter().all(Result::is_ok), "the broker made no topic {name}: {made:?}");
        let count = usize::try_from(partitions).expect("a count");
        eventually("a new topic has leaders", START_DEADLINE, async || self.is_led(name, count).await.then_some(())).await;
    }

    /// Sets configuration of a topic; what is not named goes back to its default.
    pub async fn alter_topic(&self, name: &str, configs: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in configs {
            change = change.set(key, value);
        }
        let made = self.admin().alter_configs([&change], &AdminOptions::new()).await.expect("the broker answers");
        assert!(made.iter().all(Result::is_ok), "the broker did not change the topic {name}: {made:?}");
    }

    /// Deletes a topic and waits until it is gone.
    pub async fn delete_topic(&self, name: &str) {
        let gone = self.admin().delete_topics(&[name], &AdminOptions::new()).await.expect("the broker answers");
        assert!(gone.iter().all(Result::is_ok), "the broker kept the topic {name}: {gone:?}");
        eventually("a topic is gone", START_DEADLINE, async || (!self.topics().await.contains(&name.to_owned())).then_some(())).await;
    }

    /// The names of all topics but the broker's own, sorted.
    pub async fn topics(&self) -> Vec<String> {
        let config = self.config();
        blocking(move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let metadata = consumer.fetch_metadata(None, ASK).expect("the broker answers");
            let mut names: Vec<_> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
            names.retain(|name| !name.starts_with("__"));
            names.sort();
            names
        })
        .await
    }

    /// Every record of a topic, partition by partition, each in order.
    pub async fn consume_all(&self, topic: &str) -> Vec<Record> {
        let (config, topic) = (self.config(), topic.to_owned());
        blocking(move || read_all(&config.create().expect("a consumer"), &topic)).await
    }

    /// How many records the one of these topics holds that holds the fewest. What a partition without a leader holds is not seen.
    pub async fn fewest(&self, topics: &[String]) -> usize {
        let (config, topics) = (self.config(), topics.to_vec());
        blocking(move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let metadata = consumer.fetch_metadata(None, ASK).expect("a broker answers");
            let held = |topic: &str, partition: i32| {
                let (low, high) = consumer.fetch_watermarks(topic, partition, SHORT_ASK).unwrap_or_default();
                usize::try_from(high - low).expect("no fewer than none")
            };
            let known = metadata.topics().iter().filter(|known| topics.iter().any(|topic| topic == known.name()));
            known.map(|known| known.partitions().iter().map(|one| held(known.name(), one.id())).sum()).min().unwrap_or(0)
        })
        .await
    }

    /// The leader of each partition of a topic: a broker's id, or -1. Empty while the topic is unknown.
    pub async fn leaders_of(&self, topic: &str) -> Vec<i32> {
        let (config, topic) = (self.config(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            // All topics, not this one: to ask for a topic by name can make it.
            let metadata = consumer.fetch_metadata(None, ASK).expect("the broker answers");
            let known = metadata.topics().iter().find(|known| known.name() == topic);
            known.map(|known| known.partitions().iter().map(|partition| partition.leader()).collect()).unwrap_or_default()
        })
        .await
    }

    /// Whether a topic has so many partitions, each with a leader.
    async fn is_led(&self, topic: &str, partitions: usize) -> bool {
        let leaders = self.leaders_of(topic).await;
        leaders.len() == partitions && leaders.iter().all(|leader| *leader >= 0)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", "the-test").set("enable.auto.commit", "false");
        config
    }
}

/// The clients block, and their end does too: never on a thread of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the client does not panic")
}
