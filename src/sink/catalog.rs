//! The topics as the broker has them: partitions and bounds; refreshed, and kept on disk for starts during an outage.
//!
//! It is asked before anything is sent: a topic that a fresh catalog does not have is refused like one without a grant.
//! (librdkafka would wait 30 s for it and report a timeout, which looks like "unknown".) Nothing here ever creates a topic.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::drain::{Phase, Signal};
use crate::event::Topic;
use crate::route::Bounds;

/// How long a question may wait for a fresh answer.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Refreshes on demand are at least so far apart.
const MIN_BETWEEN: Duration = Duration::from_millis(200);

/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// librdkafka keeps its timeouts by the wall clock: when that is set back, a fetch does not end. After so long its connection
/// is given up for a new one.
const STUCK_AFTER: Duration = Duration::from_secs(8);

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// How many partitions it has.
    pub partitions: i32,
    /// What it demands of its records.
    pub bounds: Bounds,
}

/// An answer of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It exists.
    Known(Facts),
    /// A fresh catalog does not have it.
    Absent,
    /// The last catalog did not have it, and there is no fresh one.
    Unsure,
    /// No catalog was ever seen.
    NeverSeen,
}

#[derive(Debug, Default)]
struct Snapshot {
    topics: HashMap<Topic, Facts>,
    /// When it was fetched from the broker by this process.
    fetched: Option<Instant>,
    /// Whether anything was ever seen, by this process or one before it.
    seen: bool,
}

/// How fetching goes.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    /// Whether there is a broker to fetch from.
    begun: bool,
    ended: u64,
    last_failed: bool,
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    topics: HashMap<Topic, Facts>,
}

/// See the module.
#[derive(Debug)]
pub struct Catalog {
    snapshot: ArcSwap<Snapshot>,
    wanted: Notify,
    /// The attempts to fetch, so that who waits sees that one has ended.
    attempts: watch::Sender<Attempts>,
    file: Option<PathBuf>,
    max_age: Duration,
}

/// Quiet logs for the catalog's own connection.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka, catalog");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the catalog's connection reports an error");
    }
}

impl Catalog {
    /// A catalog that begins with what an earlier process has kept in `file`. Older than `max_age`, it is not fresh.
    pub fn open(file: Option<PathBuf>, max_age: Duration) -> Arc<Self> {
        let kept = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok()).filter(|kept| kept.version == 1);
        let snapshot = kept.map_or_else(Snapshot::default, |kept| Snapshot { topics: kept.topics, fetched: None, seen: true });
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            wanted: Notify::new(),
            attempts: watch::Sender::new(Attempts::default()),
            file,
            max_age,
        })
    }

    /// What is known of a topic; an absent one is asked for again, but nobody waits longer than half a second after `begun`,
    /// however many topics a batch has.
    pub async fn look(&self, topic: &Topic, begun: Instant) -> Lookup {
        let now = self.peek(topic);
        if matches!(now, Lookup::Known(_)) || !self.is_worth_waiting() {
            return now;
        }
        let left = MAX_WAIT.saturating_sub(begun.elapsed());
        if !left.is_zero() {
            self.refreshed(left).await;
        }
        match self.peek(topic) {
            // A slow broker's topic may have been made since.
            Lookup::Absent if self.is_older_than(begun) => Lookup::Unsure,
            known => known,
        }
    }

    /// Whether the catalog was fetched well before a question, and its broker still answers: it may be otherwise by now.
    fn is_older_than(&self, begun: Instant) -> bool {
        self.is_worth_waiting() && self.age().is_none_or(|age| age > begun.elapsed() + MIN_BETWEEN)
    }

    /// A catalog of this very moment need not be asked for again: a flood of unknown names costs one fetch each 200 ms. And
    /// in an outage, or without a broker, nobody waits for what does not come; the outage's end brings a fresh one.
    fn is_worth_waiting(&self) -> bool {
        let attempts = *self.attempts.borrow();
        attempts.begun && !attempts.last_failed && self.age().is_none_or(|age| age >= MIN_BETWEEN)
    }

    /// What is known now.
    pub fn peek(&self, topic: &Topic) -> Lookup {
        let snapshot = self.snapshot.load();
        match snapshot.topics.get(topic) {
            Some(facts) => Lookup::Known(*facts),
            None if !snapshot.seen => Lookup::NeverSeen,
            None if self.is_fresh() => Lookup::Absent,
            None => Lookup::Unsure,
        }
    }

    /// Asks for a refresh, without waiting for it.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits for a refresh's end, at most so long.
    pub async fn refreshed(&self, limit: Duration) {
        let mut attempts = self.attempts.subscribe();
        let ended = attempts.borrow().ended;
        self.want();
        // A timeout only means that what is known stays as it is.
        let _ = tokio::time::timeout(limit, attempts.wait_for(|now| now.ended > ended)).await;
    }

    /// Since when the catalog has been as it is: none, when this process has not fetched it.
    pub fn age(&self) -> Option<Duration> {
        self.snapshot.load().fetched.map(|at| at.elapsed())
    }

    /// Whether this process has fetched it lately.
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < self.max_age)
    }

    /// Whether any catalog was ever seen.
    pub fn is_seen(&self) -> bool {
        self.snapshot.load().seen
    }

    /// The topics and what is known of them.
    pub fn topics(&self) -> Vec<(Topic, Facts)> {
        let mut topics: Vec<_> = self.snapshot.load().topics.iter().map(|(topic, facts)| (topic.clone(), *facts)).collect();
        topics.sort_by(|a, b| a.0.cmp(&b.0));
        topics
    }

    /// Fetches at the start, each `every`, and on demand, until the drain's end.
    pub(super) async fn keep_fresh(self: Arc<Self>, source: Source, every: Duration, mut signal: Signal) {
        let mut source = Arc::new(source);
        self.attempts.send_modify(|attempts| attempts.begun = true);
        loop {
            let before = Instant::now();
            let known = self.topics().into_iter().collect();
            let fetched = tokio::time::timeout(STUCK_AFTER, source.fetch(&known)).await.unwrap_or_else(|_| {
                tracing::warn!("the catalog's connection is stuck: it is replaced");
                let fresh = Arc::new(source.again()?);
                let stuck = std::mem::replace(&mut source, fresh);
                // Its end blocks.
                std::thread::spawn(move || drop(stuck));
                Err(KafkaError::Canceled)
            });
            let last_failed = fetched.is_err();
            match fetched {
                Ok(topics) => self.replace(topics),
                Err(error) => tracing::debug!(%error, "the catalog could not be fetched"),
            }
            self.attempts.send_modify(|attempts| {
                attempts.ended += 1;
                attempts.last_failed = last_failed;
            });
            tokio::select! {
                () = signal.reached(Phase::Storing) => return,
                () = self.wanted.notified() => tokio::time::sleep(MIN_BETWEEN.saturating_sub(before.elapsed())).await,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    fn replace(&self, topics: HashMap<Topic, Facts>) {
        let changed = !self.is_seen() || self.snapshot.load().topics != topics;
        if changed {
            tracing::info!(topics = topics.len(), "the catalog of topics has changed");
            self.keep(&topics);
        }
        self.snapshot.store(Arc::new(Snapshot { topics, fetched: Some(Instant::now()), seen: true }));
    }

    /// A catalog that cannot be kept is a catalog that the next start does not have; nothing else depends on it.
    fn keep(&self, topics: &HashMap<Topic, Facts>) {
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(&Kept { version: 1, topics: topics.clone() }).map_err(std::io::Error::other).and_then(|bytes| {
            let next = file.with_extension("json.new");
            std::fs::write(&next, bytes)?;
            std::fs::rename(&next, file)
        });
        if let Err(error) = written {
            tracing::warn!(%error, file = %file.display(), "the catalog could not be kept on disk");
        }
    }
}

/// Where the catalog comes from: a connection of its own, which never creates a topic by asking.
pub(super) struct Source {
    settings: ClientConfig,
    admin: Arc<AdminClient<Quiet>>,
    wanted: Wanted,
}

/// Whether a topic is to be listed.
pub type Wanted = Arc<dyn Fn(&Topic) -> bool + Send + Sync>;

impl Source {
    /// A source; only topics for which `wanted` says yes are listed.
    pub(super) fn new(settings: &ClientConfig, wanted: Wanted) -> KafkaResult<Self> {
        Ok(Self { settings: settings.clone(), admin: Arc::new(admin(settings)?), wanted })
    }

    /// The same over a new connection.
    fn again(&self) -> KafkaResult<Self> {
        Self::new(&self.settings, Arc::clone(&self.wanted))
    }

    async fn fetch(self: &Arc<Self>, before: &HashMap<Topic, Facts>) -> KafkaResult<HashMap<Topic, Facts>> {
        let source = Arc::clone(self);
        let before = before.clone();
        let fetched = tokio::task::spawn_blocking(move || source.partitions(&before)).await;
        let counts = fetched.map_err(|_| KafkaError::Canceled)??;
        let bounds = self.bounds(counts.keys()).await;
        let facts = |(topic, (partitions, known)): (Topic, (i32, Option<Bounds>))| {
            let bounds = bounds.get(&topic).copied().or(known).unwrap_or_default();
            (topic, Facts { partitions, bounds })
        };
        Ok(counts.into_iter().map(facts).collect())
    }

    /// Topics with their partitions, and the bounds known before. All topics are asked for, because asking for one by its
    /// name is what makes a broker create it.
    fn partitions(&self, before: &HashMap<Topic, Facts>) -> KafkaResult<HashMap<Topic, (i32, Option<Bounds>)>> {
        let metadata = self.admin.inner().fetch_metadata(None, FETCH_TIMEOUT)?;
        let mut found = HashMap::new();
        for listed in metadata.topics() {
            let Some(topic) = Topic::new(listed.name()).ok().filter(|topic| (self.wanted)(topic)) else { continue };
            let known = before.get(&topic).copied();
            let partitions = i32::try_from(listed.partitions().len()).unwrap_or(i32::MAX);
            // A topic whose partitions cannot be listed at this moment keeps those that it had.
            let partitions = if partitions == 0 { known.map_or(0, |facts| facts.partitions) } else { partitions };
            if partitions > 0 {
                found.insert(topic, (partitions, known.map(|facts| facts.bounds)));
            }
        }
        Ok(found)
    }

    async fn bounds(&self, topics: impl Iterator<Item = &Topic>) -> HashMap<Topic, Bounds> {
        let topics: Vec<&Topic> = topics.collect();
        if topics.is_empty() {
            return HashMap::new();
        }
        let asked = topics.iter().map(|topic| ResourceSpecifier::Topic(topic.as_str())).collect::<Vec<_>>();
        let options = AdminOptions::new().request_timeout(Some(FETCH_TIMEOUT));
        match self.admin.describe_configs(&asked, &options).await {
            Ok(answers) => {
                topics.into_iter().zip(answers).filter_map(|(topic, answer)| Some((topic.clone(), bounds_of(&answer.ok()?)))).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "the topics' bounds could not be fetched");
                HashMap::new()
            }
        }
    }
}

/// An administrative connection with the producer's address and credentials.
pub(super) fn admin(settings: &ClientConfig) -> KafkaResult<AdminClient<Quiet>> {
    AdminClient::from_config_and_context(&without_producers_own(settings), Quiet)
}

/// The address and the credentials, without what a producer alone has a use for.
pub(super) fn without_producers_own(settings: &ClientConfig) -> ClientConfig {
    let mut settings = settings.clone();
    for producers_own in ["acks", "enable.idempotence", "message.timeout.ms", "compression.type", "linger.ms"] {
        settings.remove(producers_own);
    }
    settings
}

fn bounds_of(config: &ConfigResource) -> Bounds {
    let value = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref());
    let number = |name: &str| value(name).and_then(|text| text.parse::<i64>().ok()).and_then(|n| u64::try_from(n).ok());
    let known = Bounds::default();
    // Before Kafka 3.6, and at Redpanda, one setting stands for both directions.
    let difference = number("message.timestamp.difference.max.ms");
    Bounds {
        max_message_bytes: number("max.message.bytes").unwrap_or(known.max_message_bytes),
        before_max_ms: number("message.timestamp.before.max.ms").or(difference).unwrap_or(known.before_max_ms),
        after_max_ms: number("message.timestamp.after.max.ms").or(difference).unwrap_or(known.after_max_ms),
        log_append_time: value("message.timestamp.type") == Some("LogAppendTime"),
        compacted: value("cleanup.policy").is_some_and(|policy| policy.split(',').any(|part| part.trim() == "compact")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        Topic::new("t").expect("a topic")
    }

    #[tokio::test]
    async fn without_a_broker_nothing_was_ever_seen_and_nobody_waits() {
        let catalog = Catalog::open(None, Duration::from_secs(30));
        assert!(!catalog.is_worth_waiting());
        assert_eq!(catalog.look(&topic(), Instant::now()).await, Lookup::NeverSeen);
    }

    #[test]
    fn a_catalog_is_kept_for_the_next_start_which_does_not_take_it_for_fresh() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("catalog.json");
        let facts = Facts { partitions: 3, bounds: Bounds { compacted: true, ..Bounds::default() } };
        let first = Catalog::open(Some(file.clone()), Duration::from_secs(30));
        first.replace(HashMap::from([(topic(), facts)]));
        assert_eq!(first.peek(&Topic::new("other").expect("a topic")), Lookup::Absent);
        let second = Catalog::open(Some(file.clone()), Duration::from_secs(30));
        assert_eq!(second.peek(&topic()), Lookup::Known(facts));
        assert_eq!(second.peek(&Topic::new("other").expect("a topic")), Lookup::Unsure);
        std::fs::write(&file, b"{").expect("a torn file");
        assert_eq!(Catalog::open(Some(file), Duration::from_secs(30)).peek(&topic()), Lookup::NeverSeen);
    }
}
