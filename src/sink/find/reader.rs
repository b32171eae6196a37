//! Reads partitions between two offsets, and keeps the records of one event.
//!
//! One topic at a time, because the word that a partition is at its end does not say of which topic. A partition is read to
//! its end when the offset before it was seen, or one behind it, or the end of the log: the marks of transactions and what
//! compaction took have offsets too, and no record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::{ASK, Copy, Ended, Progress, Read, Search};
use crate::event::is_called;
use crate::route;
use crate::sink::catalog::Quiet;

/// A read that brings nothing for so long is given up.
const STALL: Duration = Duration::from_secs(15);

/// Between two words about the progress.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What the OTLP door writes where a request is several records.
const FRAGMENT: &str = "x-sluicegate-fragment";

/// The offsets of a topic's partitions.
type Offsets = BTreeMap<i32, i64>;

/// What is left of them to read: from an offset to before another.
type Left = BTreeMap<i32, (i64, i64)>;

/// Who reads.
pub(super) struct Reader<'a, P> {
    pub(super) consumer: BaseConsumer<Quiet>,
    pub(super) search: &'a Search,
    pub(super) headers: &'a route::Config,
    pub(super) stop: &'a AtomicBool,
    pub(super) progress: P,
    pub(super) told: Instant,
    pub(super) found: Found,
}

/// What was read, and found in it.
#[derive(Default)]
pub(super) struct Found {
    pub(super) copies: BTreeMap<(String, i32, i64), Copy>,
    pub(super) read: Read,
}

impl<P: FnMut(&Progress<'_>)> Reader<'_, P> {
    /// Reads the windows of all topics, one after the other. An error: how the search has ended before.
    pub(super) fn run(&mut self, topics: &[(String, Vec<i32>)], windows: &[(u64, Option<u64>)]) -> Result<(), Ended> {
        let mut ends = Vec::new();
        for (topic, partitions) in topics {
            ends.push(self.offsets(topic, partitions, Offset::End)?);
        }
        for (from, to) in windows {
            for ((topic, partitions), ends) in topics.iter().zip(&ends) {
                let from = self.offsets_at(topic, partitions, *from, ends)?;
                let to = match to {
                    Some(to) => self.offsets_at(topic, partitions, *to, ends)?,
                    None => ends.clone(),
                };
                let window = from.into_iter().filter_map(|(partition, from)| Some((partition, (from, *to.get(&partition)?))));
                self.read(topic, window.filter(|(_, (from, to))| from < to).collect())?;
            }
        }
        Ok(())
    }

    /// The first offsets whose records are of that time or later; where there are none, the ends.
    fn offsets_at(&self, topic: &str, partitions: &[i32], ms: u64, ends: &Offsets) -> Result<Offsets, Ended> {
        let found = self.offsets(topic, partitions, Offset::Offset(i64::try_from(ms).unwrap_or(i64::MAX)))?;
        Ok(ends.iter().map(|(partition, end)| (*partition, found.get(partition).map_or(*end, |offset| *offset.min(end)))).collect())
    }

    /// The offsets of a time in milliseconds, or of the end, where the partitions have them.
    fn offsets(&self, topic: &str, partitions: &[i32], time: Offset) -> Result<Offsets, Ended> {
        self.enough()?;
        let asked = partitions.iter().map(|partition| ((topic.to_owned(), *partition), time)).collect();
        let failed = |error: KafkaError| Ended::Unreachable(format!("the broker does not say what topic `{topic}` has: {error}"));
        let list = TopicPartitionList::from_topic_map(&asked).map_err(failed)?;
        if partitions.is_empty() {
            return Err(Ended::Unreachable(format!("the broker does not say which partitions topic `{topic}` has; try again")));
        }
        let found = self.consumer.offsets_for_times(list, ASK).map_err(failed)?;
        let mut offsets = Offsets::new();
        for partition in found.elements() {
            // One that cannot be asked must not pass for one that has nothing.
            partition.error().map_err(failed)?;
            if let Offset::Offset(offset) = partition.offset() {
                offsets.insert(partition.partition(), offset);
            }
        }
        Ok(offsets)
    }

    /// Reads a topic's partitions, each from an offset to before another.
    fn read(&mut self, topic: &str, mut left: Left) -> Result<(), Ended> {
        if left.is_empty() {
            return Ok(());
        }
        let failed = |error: KafkaError| Ended::Unreachable(format!("topic `{topic}` cannot be read: {error}"));
        let begin = left.iter().map(|(partition, (from, _))| ((topic.to_owned(), *partition), Offset::Offset(*from))).collect();
        let begin = TopicPartitionList::from_topic_map(&begin).map_err(failed)?;
        self.consumer.assign(&begin).map_err(failed)?;
        // One that rested in the window before would rest in this one too.
        self.consumer.resume(&begin).map_err(failed)?;
        let mut moved = Instant::now();
        while !left.is_empty() {
            self.enough()?;
            self.tell(topic, &left);
            let done = match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => self.found.take(&message, self.headers, self.search, &mut left),
                Some(Err(KafkaError::PartitionEOF(partition))) => Some(partition),
                Some(Err(error)) if is_final(&error) => return Err(failed(error)),
                // librdkafka tries again by itself, and the clock runs.
                _ if moved.elapsed() > STALL => {
                    return Err(Ended::Unreachable(format!("the broker stopped answering while topic `{topic}` was read")));
                }
                _ => continue,
            };
            moved = Instant::now();
            if let Some(partition) = done.filter(|partition| left.remove(partition).is_some()) {
                self.rest(topic, partition).map_err(failed)?;
            }
        }
        self.enough()
    }

    /// What lies behind the window is not fetched for nothing.
    fn rest(&self, topic: &str, partition: i32) -> KafkaResult<()> {
        let mut read = TopicPartitionList::new();
        read.add_partition(topic, partition);
        self.consumer.pause(&read)
    }

    /// An error: the search ends here.
    fn enough(&self) -> Result<(), Ended> {
        if !self.found.copies.is_empty() && !self.search.all_copies {
            return Err(Ended::Found);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Ended::Stopped);
        }
        if self.found.read.bytes >= self.search.max_bytes.get() {
            return Err(Ended::Bound);
        }
        Ok(())
    }

    fn tell(&mut self, topic: &str, left: &Left) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let left = left.iter().map(|(partition, (from, to))| (*partition, to - from)).collect();
        (self.progress)(&Progress { read: self.found.read, topic, left });
    }
}

impl Found {
    /// Counts a record, and keeps it if it is one of the event's; the partition that is read to its end with it.
    fn take(&mut self, message: &BorrowedMessage<'_>, names: &route::Config, search: &Search, left: &mut Left) -> Option<i32> {
        let (partition, offset) = (message.partition(), message.offset());
        let Some((at, to)) = left.get_mut(&partition).filter(|(_, to)| offset < *to) else { return Some(partition) };
        *at = offset + 1;
        self.read.records += 1;
        self.read.bytes += size(message);
        if let Some(copy) = copy_of(message, names, search) {
            self.copies.insert((copy.topic.clone(), partition, offset), copy);
        }
        (*at == *to).then_some(partition)
    }
}

/// Whether trying again brings nothing.
fn is_final(error: &KafkaError) -> bool {
    let refused = [Code::TopicAuthorizationFailed, Code::Authentication, Code::SaslAuthenticationFailed, Code::UnknownTopicOrPartition];
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(error, KafkaError::MessageConsumption(code) if refused.contains(code))
}

fn size(message: &BorrowedMessage<'_>) -> u64 {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers: usize = headers.map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len)).sum();
    // A record is never nothing: a tombstone without a key counts too.
    (message.key_len() + message.payload_len() + headers).max(1) as u64
}

/// The record as a copy, if it is one of the event that is looked for.
fn copy_of(message: &BorrowedMessage<'_>, names: &route::Config, search: &Search) -> Option<Copy> {
    let headers = message.headers()?;
    let header = |name: &str| headers.iter().filter(|_| !name.is_empty()).find(|header| header.key == name)?.value;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let id = std::str::from_utf8(header(&names.id)?).ok().filter(|id| is_called(id, &search.wanted))?;
    Some(Copy {
        id: id.to_owned(),
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        principal: header(&names.principal).map(text),
        source: header(&names.source).map(text),
        fragment: header(FRAGMENT).map(text),
        value: message.payload().filter(|_| search.values).map(text),
    })
}
