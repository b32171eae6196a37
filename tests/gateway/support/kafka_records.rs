//! The records of a topic, read to the end of every partition as it was when the read began.
//!
//! What always holds: nothing here makes a topic by asking for it, and nothing of the tests is needed: the checker, which
//! is a program of its own, reads with it too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

/// How long one question to the broker may take.
pub const ASK: Duration = Duration::from_secs(60);
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

/// Every record of a topic, partition by partition, each in order.
pub fn read_all(consumer: &BaseConsumer, topic: &str) -> Vec<Record> {
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
