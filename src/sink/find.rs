//! Looks for an event among the records that the broker has, for `sluicegate trace`: the likeliest time first.
//!
//! What always holds: nothing is committed, no group is joined and nobody's topic is made; what is read is bounded in time and
//! in bytes; a value is kept only where it is asked for; a partition that cannot be read ends the search, and is not passed
//! over. Whatever ends it, the copies that were found are given back.

mod reader;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use serde::Serialize;

use super::{Config, catalog};
use crate::event::{Topic, time_in};
use crate::route::{self, RouteConfig};
use crate::units::{ByteSize, Span};
use reader::{Found, Reader};

/// How long one question to the broker may take.
const ASK: Duration = Duration::from_secs(5);

/// How far back the search goes where nobody says.
const SINCE: u64 = 3_600_000;

/// The first step back from now; each further one is four times as far.
const STEP: u64 = 60_000;

/// An id with a time in it is looked for around that time first: so long before, and so long behind.
const AROUND: (u64, u64) = (10_000, 60_000);

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

impl Findings {
    /// Of a search that has brought nothing.
    pub const fn nothing(since_ms: u64, ended: Ended) -> Self {
        Self { copies: Vec::new(), topics: Vec::new(), since_ms, read: Read { records: 0, bytes: 0 }, ended }
    }
}

impl ConsumerContext for catalog::Quiet {}

/// Searches back from `now`, until `stop` is set; blocks. An error is one of the settings or the arguments.
pub fn find(
    (config, routes, headers): (&Config, &[RouteConfig], &route::Config),
    search: &Search,
    now: SystemTime,
    stop: &AtomicBool,
    progress: impl FnMut(&Progress<'_>),
) -> Result<Findings, String> {
    let settings = config.client().map_err(|(key, what)| format!("sink.{key} {what}"))?;
    let consumer = consumer(&settings).map_err(|error| format!("librdkafka refuses the settings: {error}"))?;
    let now_ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let made_at = time_in(&search.wanted);
    let since_ms = now_ms.saturating_sub(span(search.since, now_ms, made_at));
    let known = match topics(&consumer) {
        Ok(known) => known,
        Err(error) => {
            let why = format!("the broker at {} does not answer: {error}", config.brokers.join(","));
            return Ok(Findings::nothing(since_ms, Ended::Unreachable(why)));
        }
    };
    let known = wanted_topics(known, search, routes)?;
    let mut reader = Reader { consumer, search, headers, stop, progress, told: Instant::now(), found: Found::default() };
    let ended = reader.run(&known, &windows(now_ms, since_ms, made_at)).err().unwrap_or(Ended::Through);
    let Found { copies, read } = reader.found;
    let topics = known.into_iter().map(|(topic, _)| topic).collect();
    Ok(Findings { copies: copies.into_values().collect(), topics, since_ms, read, ended })
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
