//! Looks for an event among the records that the broker has, for `sluicegate trace`: the likeliest time first.
//!
//! What always holds: nothing is committed, no group is joined and nobody's topic is made; what is read is bounded in time and
//! in bytes; a value is kept only where it is asked for; a partition that cannot be read ends the search, and is not passed
//! over. Whatever ends it, the copies that were found are given back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use super::{Config, catalog};
use crate::event::{Topic, is_called, time_in};
use crate::route::{self, RouteConfig};
use crate::units::{ByteSize, Span};

/// How long one question to the broker may take.
const ASK: Duration = Duration::from_secs(5);

/// A read that brings nothing for so long is given up.
const STALL: Duration = Duration::from_secs(15);

/// Between two words about the progress.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// How far back the search goes where nobody says.
const SINCE: u64 = 3_600_000;

/// The first step back from now; each further one is four times as far.
const STEP: u64 = 60_000;

/// An id with a time in it is looked for around that time first: so long before, and so long behind.
const AROUND: (u64, u64) = (10_000, 60_000);

/// What the OTLP door writes where a request is several records.
const FRAGMENT: &str = "x-sluicegate-fragment";

/// The offsets of a topic's partitions.
type Offsets = BTreeMap<i32, i64>;

/// What is left of them to read: from an offset to before another.
type Left = BTreeMap<i32, (i64, i64)>;

/// What is looked for, and how far.
#[derive(Debug, Clone)]
pub struct Search {
    /// The event's id, or the client's key in it.
    pub wanted: String,
    /// In this topic alone; none: in those of the routes.
    pub topic: Option<Topic>,
    /// How far back, by the records' time; none: an hour, or as far as the time that the id has in it.
    pub since: Option<Span>,
    /// Bytes of records that are read at most.
    pub max_bytes: ByteSize,
    /// Whether the search goes on behind the first copy.
    pub all_copies: bool,
    /// Whether values are kept.
    pub values: bool,
}

/// A record of the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// The event's id.
    pub id: String,
    /// The topic that it is in.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Who sent it, where records say so.
    pub principal: Option<String>,
    /// The door that it came in by, where records say so.
    pub source: Option<String>,
    /// Which part of a request of OTLP it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment: Option<String>,
    /// Its value, as text as far as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Records.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
}

/// Where the search is.
#[derive(Debug)]
pub struct Progress<'a> {
    /// What was read so far.
    pub read: Read,
    /// The topic that is read.
    pub topic: &'a str,
    /// The partitions that are not read to their end, each with the records that may be left.
    pub left: Vec<(i32, i64)>,
}

/// How the search ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// At the first copy.
    Found,
    /// At the end of what was to be looked at.
    Through,
    /// At the bound of bytes.
    Bound,
    /// By the person who waited.
    Stopped,
    /// The broker does not answer, or does not let us read: its words.
    Unreachable(String),
}

/// What the search has brought.
#[derive(Debug)]
pub struct Findings {
    /// The copies, by topic, partition and offset.
    pub copies: Vec<Copy>,
    /// The topics that were, or were to be, looked at.
    pub topics: Vec<String>,
    /// The time of the oldest record that was to be looked at, in milliseconds since 1970.
    pub since_ms: u64,
    /// What was read.
    pub read: Read,
    /// How it ended.
    pub ended: Ended,
}

impl ConsumerContext for catalog::Quiet {}

/// Searches until `stop` is set; blocks. `now_ms` is the time of the call. An error is one of the settings or the arguments.
pub fn find(
    (config, routes, headers): (&Config, &[RouteConfig], &route::Config),
    search: &Search,
    now_ms: u64,
    stop: &AtomicBool,
    progress: impl FnMut(&Progress<'_>),
) -> Result<Findings, String> {
    let settings = config.client().map_err(|(key, what)| format!("sink.{key} {what}"))?;
    let consumer = consumer(&settings).map_err(|error| format!("librdkafka refuses the settings: {error}"))?;
    let made_at = time_in(&search.wanted);
    let since_ms = now_ms.saturating_sub(span(search.since, now_ms, made_at));
    let mut findings = Findings { copies: Vec::new(), topics: Vec::new(), since_ms, read: Read::default(), ended: Ended::Through };
    let known = match topics(&consumer) {
        Ok(known) => known,
        Err(error) => {
            findings.ended = Ended::Unreachable(format!("the broker at {} does not answer: {error}", config.brokers.join(",")));
            return Ok(findings);
        }
    };
    let known = wanted_topics(known, search, routes)?;
    findings.topics = known.iter().map(|(topic, _)| topic.clone()).collect();
    let mut reader = Reader { consumer, search, headers, stop, progress, told: Instant::now(), found: Found::default() };
    if let Err(ended) = reader.run(&known, &windows(now_ms, since_ms, made_at)) {
        findings.ended = ended;
    }
    findings.read = reader.found.read;
    findings.copies = reader.found.copies.into_values().collect();
    Ok(findings)
}

/// A reader with the producer's address and credentials. Its group is a name that librdkafka wants before it lets anything be
/// assigned: it asks who would coordinate it, and never joins it.
fn consumer(settings: &ClientConfig) -> KafkaResult<BaseConsumer<catalog::Quiet>> {
    let mut settings = catalog::without_producers_own(settings);
    settings
        .set("group.id", "sluicegate-trace")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What lies in the log is looked for, whatever becomes of somebody's transaction beside it.
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        // What retention has taken meanwhile is not there to be found.
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "32768");
    BaseConsumer::from_config_and_context(&settings, catalog::Quiet)
}

/// All topics and their partitions. All, because asking for one by its name is what makes a broker create it.
fn topics(consumer: &BaseConsumer<catalog::Quiet>) -> KafkaResult<Vec<(String, Vec<i32>)>> {
    let metadata = consumer.fetch_metadata(None, ASK)?;
    let partitions = |topic: &rdkafka::metadata::MetadataTopic| topic.partitions().iter().map(|partition| partition.id()).collect();
    Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), partitions(topic))).collect())
}

/// The topics to look at: the one that was named, else those that a route is for.
fn wanted_topics(known: Vec<(String, Vec<i32>)>, search: &Search, routes: &[RouteConfig]) -> Result<Vec<(String, Vec<i32>)>, String> {
    let of_a_route = |topic: &Topic| routes.iter().any(|route| route.topic.covers(topic));
    let is_wanted = |topic: &Topic| search.topic.as_ref().map_or_else(|| of_a_route(topic), |named| named == topic);
    let mut wanted: Vec<_> = known.into_iter().filter(|(name, _)| Topic::new(name).is_ok_and(|topic| is_wanted(&topic))).collect();
    wanted.sort();
    match &search.topic {
        Some(named) if wanted.is_empty() => Err(format!("the broker has no topic `{named}`; `sluicegate topics` shows the routes' topics")),
        _ => Ok(wanted),
    }
}

/// How far back from now.
fn span(since: Option<Span>, now_ms: u64, made_at: Option<u64>) -> u64 {
    let since_made = made_at.map_or(0, |at| now_ms.saturating_sub(at) + AROUND.0);
    since.map_or_else(|| SINCE.max(since_made), Span::as_millis)
}

/// Spans of records' time, the likeliest first: around the time in the id, then back from now in steps that grow. The steps
/// leave nothing out; the last one begins at `since_ms`, and the first one has no end.
fn windows(now_ms: u64, since_ms: u64, made_at: Option<u64>) -> Vec<(u64, Option<u64>)> {
    let around = made_at.map(|at| (at.saturating_sub(AROUND.0).max(since_ms), at + AROUND.1));
    let mut windows: Vec<_> =
        around.filter(|(from, to)| from < to && *to < now_ms.saturating_sub(STEP)).map(|(from, to)| (from, Some(to))).into_iter().collect();
    let (mut to, mut age) = (None, STEP);
    loop {
        let from = now_ms.saturating_sub(age).max(since_ms);
        windows.push((from, to));
        if from == since_ms {
            return windows;
        }
        (to, age) = (Some(from), age.saturating_mul(4));
    }
}

/// Who reads.
struct Reader<'a, P> {
    consumer: BaseConsumer<catalog::Quiet>,
    search: &'a Search,
    headers: &'a route::Config,
    stop: &'a AtomicBool,
    progress: P,
    told: Instant,
    found: Found,
}

/// What was read, and found in it.
#[derive(Default)]
struct Found {
    copies: BTreeMap<(String, i32, i64), Copy>,
    read: Read,
}

impl<P: FnMut(&Progress<'_>)> Reader<'_, P> {
    /// One topic at a time, because the word that a partition is at its end does not say of which topic.
    fn run(&mut self, topics: &[(String, Vec<i32>)], windows: &[(u64, Option<u64>)]) -> Result<(), Ended> {
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
        // A topic whose partitions cannot be listed at this moment has none.
        let found = if partitions.is_empty() { list } else { self.consumer.offsets_for_times(list, ASK).map_err(failed)? };
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
        self.consumer.assign(&TopicPartitionList::from_topic_map(&begin).map_err(failed)?).map_err(failed)?;
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

    fn tell(&mut self, topic: &str, left: &BTreeMap<i32, (i64, i64)>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn the_steps_back_begin_small_and_leave_nothing_out() {
        let steps = windows(NOW, NOW - SINCE, None);
        assert_eq!(steps.first(), Some(&(NOW - STEP, None)));
        assert_eq!(steps.last().map(|(from, _)| *from), Some(NOW - SINCE));
        assert!(steps.windows(2).all(|pair| pair[1].1 == Some(pair[0].0) && pair[1].0 < pair[0].0), "{steps:?}");
        assert_eq!(windows(NOW, NOW - 1_000, None), [(NOW - 1_000, None)]);
        assert!(windows(NOW, 0, None).len() < 20, "the whole past is few steps");
    }

    #[test]
    fn an_id_with_a_time_in_it_is_looked_for_there_first_and_as_far_back() {
        let at = NOW - 86_400_000;
        let since = NOW - span(None, NOW, Some(at));
        assert!(since < at, "as far back as the id is old");
        let steps = windows(NOW, since, Some(at));
        assert!(steps[0].0 <= at && steps[0].1 > Some(at), "{steps:?}");
        assert_eq!((steps[1], steps.last().map(|(from, _)| *from)), ((NOW - STEP, None), Some(since)));
        assert_eq!(span(Some(Span::secs(60)), NOW, Some(at)), 60_000, "who says how far back is taken at their word");
        assert_eq!(windows(NOW, NOW - 60_000, Some(at)), [(NOW - 60_000, None)], "and nothing older is looked at");
        assert_eq!(windows(NOW, NOW - SINCE, Some(NOW + SINCE)).len(), windows(NOW, NOW - SINCE, None).len(), "a time to come is none");
    }
}
