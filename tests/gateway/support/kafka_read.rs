//! Looking into a broker, and making its topics, with a client of our own.
//!
//! What always holds: nothing here makes a topic by asking for it; a read goes to the end of every partition as it was
//! when the read began.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::kafka::Kafka;
use super::{DEADLINE, START_DEADLINE, eventually};

/// How long one question to the broker may take.
const ASK: Duration = DEADLINE;
/// The same for one that may be in vain.
const SHORT_ASK: Duration = Duration::from_millis(500);
/// How long a read of a whole topic may take.
const READ: Duration = Duration::from_secs(240);

/// One record as it lies in the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition it lies in.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Record {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The event's one name.
    pub fn event_id(&self) -> &str {
        self.header("x-deml-event-id").expect("every record of the gate names its event")
    }

    /// Its value as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value).expect("the value is JSON")
    }

    fn new(message: &BorrowedMessage<'_>) -> Self {
        let header = |h: rdkafka::message::Header<'_, &[u8]>| (h.key.to_owned(), h.value.unwrap_or_default().to_vec());
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            headers: message.headers().map(|all| all.iter().map(header).collect()).unwrap_or_default(),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}

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

/// A topic that is new to a client may have no partitions in its eyes for a moment.
fn ends_of(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    let deadline = Instant::now() + ASK;
    loop {
        match consumer.fetch_watermarks(topic, partition, ASK) {
            Ok(ends) => return ends,
            Err(error) => assert!(Instant::now() < deadline, "a partition has its ends: {error}"),
        }
        consumer.fetch_metadata(Some(topic), ASK).expect("the broker answers");
    }
}

fn read_all(consumer: &BaseConsumer, topic: &str) -> Vec<Record> {
    let metadata = consumer.fetch_metadata(None, ASK).expect("the broker answers");
    let known = metadata.topics().iter().find(|known| known.name() == topic).unwrap_or_else(|| panic!("there is no topic {topic}"));
    let mut ends = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in known.partitions() {
        let (low, high) = ends_of(consumer, topic, partition.id());
        if low < high {
            ends.insert(partition.id(), high);
            assignment.add_partition_offset(topic, partition.id(), Offset::Offset(low)).expect("an offset");
        }
    }
    consumer.assign(&assignment).expect("partitions that exist");
    let deadline = Instant::now() + READ;
    let mut records = Vec::new();
    while !ends.is_empty() {
        assert!(Instant::now() < deadline, "{topic} could not be read to its end: left {ends:?}");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                ends.remove(&message.partition());
            }
            records.push(Record::new(&message));
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}
