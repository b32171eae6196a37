//! The sink: the broker, behind a producer, a catalog and a breaker.
//!
//! [`Sink::send`] gives every part exactly one [`Fate`] by its deadline, whatever the broker does. A part that is still
//! with the producer then is handed back with its [`Pending`], so that the inbox can take it and hear of its late report.
//! Nothing is sent behind something that is owed to the same partition.

pub mod breaker;
pub mod catalog;
mod config;
pub mod find;
pub mod flight;
pub mod forward;
mod producer;
pub mod raw;
pub mod report;
mod supervisor;
pub mod topics;
pub mod verdict;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::drain::Drain;
use crate::event::Topic;
use crate::gate::{Gates, NEARLY_OPEN, Owed, UNASSIGNED};
use crate::lane::Lanes;
use crate::partition;
use crate::receipt::{Doubt, Refusal};
use crate::route::Routed;

use breaker::{Breaker, Patience, State};
use catalog::{Catalog, Lookup, Source};
use flight::{Flight, Pending};
use forward::Upstream;
use producer::Producer;
use raw::Raw;
use report::{Never, Report};

pub use config::{Compression, Config, Mechanism, SecurityProtocol};

/// How often a waiting send looks whether its topic is gone.
const GONE_CHECK: Duration = Duration::from_millis(100);

/// How long a refusal for size waits for the catalog, twice.
const LEARN: Duration = Duration::from_millis(500);

/// Keyless records stay on a partition for so many, so that they travel together.
const STICKY: u32 = 64;

/// What of an answer's time is neither the broker's nor the inbox's.
const FOR_THE_ANSWER: Duration = Duration::from_millis(100);

/// A broker whose catalog has not come for so long is out of sight; in an outage it is asked for each second.
const OUT_OF_SIGHT: Duration = Duration::from_secs(10);

/// What became of a part by its deadline.
#[derive(Debug)]
pub enum Fate {
    /// The broker has it.
    Delivered {
        /// The record.
        routed: Arc<Routed>,
        /// The partition.
        partition: i32,
        /// The offset in it.
        offset: i64,
    },
    /// It will never be taken.
    Refused(Refusal),
    /// It is the inbox's now, if its route has one.
    Unsent(Unsent),
}

/// A part that the broker did not acknowledge.
#[derive(Debug)]
pub struct Unsent {
    /// The record.
    pub routed: Arc<Routed>,
    /// Its place in the order of arrivals.
    pub arrival: u64,
    /// The closed gate of its partition.
    pub owed: Owed,
    /// Whether it may be delivered all the same.
    pub doubt: Doubt,
    /// The producer still has it, and will report.
    pub pending: Option<Pending>,
}

/// A part and its place.
struct Placed {
    routed: Arc<Routed>,
    partition: i32,
    arrival: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Sink {
    config: Config,
    gates: Arc<Gates>,
    breaker: Arc<Breaker>,
    catalog: Arc<Catalog>,
    producer: Option<Arc<Producer>>,
    raw: Option<Raw>,
    lanes: Arc<Lanes>,
    sticky: AtomicU32,
    /// How long the inbox may take to store what the broker has not acknowledged; none: as good as no time.
    store_time: Option<Duration>,
}

impl Sink {
    /// A sink; without brokers it refuses everything as not stored.
    pub fn new(config: Config, gates: Arc<Gates>, catalog: Arc<Catalog>) -> Result<Self, String> {
        let patience = Patience {
            failover_after: config.failover_after.get(),
            first_ack: config.first_ack.get(),
            probe_every: Duration::from_secs(1),
        };
        let breaker = Arc::new(Breaker::new(patience, Instant::now()));
        let (producer, upstream) = if config.brokers.is_empty() {
            (None, None)
        } else {
            let settings = config.client().map_err(|(key, what)| format!("sink.{key} {what}"))?;
            let producer = Producer::new(settings, Arc::clone(&breaker)).map_err(|error| error.to_string())?;
            let upstream = Upstream::new(&config).map_err(|(key, what)| format!("sink.{key} {what}"))?;
            (Some(Arc::new(producer)), Some(upstream))
        };
        let lanes = Arc::new(Lanes::default());
        let raw = upstream.map(|upstream| {
            let breaker = Arc::new(Breaker::new(patience, Instant::now()));
            Raw::new(upstream, breaker, Arc::clone(&lanes))
        });
        Ok(Self { config, gates, breaker, catalog, producer, raw, lanes, sticky: AtomicU32::new(0), store_time: None })
    }

    /// The same, and so much of an answer's time is left to the inbox.
    #[must_use]
    pub fn leaving(self, store_time: Option<Duration>) -> Self {
        Self { store_time, ..self }
    }

    /// Starts what keeps it: the catalog's refresh, the watch over the producer, and the raw leg.
    pub fn start(self: &Arc<Self>, drain: &Drain, wanted: catalog::Wanted) -> Result<(), String> {
        let Some(producer) = &self.producer else { return Ok(()) };
        let settings = self.config.client().map_err(|(key, what)| format!("sink.{key} {what}"))?;
        let source = Source::new(&settings, wanted).map_err(|error| error.to_string())?;
        tokio::spawn(Arc::clone(&self.catalog).keep_fresh(source, self.config.catalog_refresh.get(), drain.signal()));
        let breakers =
            supervisor::Breakers { producer: Arc::clone(&self.breaker), raw: self.raw.as_ref().map(|raw| Arc::clone(raw.breaker())) };
        let timeout = self.config.message_timeout.get();
        tokio::spawn(supervisor::watch(breakers, Arc::clone(producer), Arc::clone(&self.catalog), timeout, drain.signal()));
        if let Some(raw) = &self.raw {
            raw.upstream().start(drain);
        }
        Ok(())
    }

    /// The order gates.
    pub fn gates(&self) -> &Arc<Gates> {
        &self.gates
    }

    /// What is remembered of Kafka producers' lanes.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The raw leg, where a broker is configured.
    pub fn raw(&self) -> Option<&Raw> {
        self.raw.as_ref()
    }

    /// Whether a broker is configured.
    pub fn has_broker(&self) -> bool {
        self.producer.is_some()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The breaker.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Records that the producer has and has not reported.
    pub fn queued(&self) -> u64 {
        self.producer.as_ref().map_or(0, |producer| producer.queued())
    }

    /// Bytes that the producer holds, as far as it says.
    pub fn queued_bytes(&self) -> u64 {
        self.producer.as_ref().map_or(0, |producer| producer.queued_bytes())
    }

    /// What the connections to the broker said last, if it was a fault.
    pub fn last_error(&self) -> Option<String> {
        self.producer.as_ref().and_then(|producer| producer.last_error())
    }

    /// Waits for the first catalog and for the producer's own view of the cluster. The caller sets the deadline.
    pub async fn warm_up(&self) {
        let Some(producer) = self.producer.clone() else { return };
        let looked = tokio::task::spawn_blocking(move || producer.look_around());
        while !self.catalog.is_fresh() {
            self.catalog.refreshed(Duration::from_secs(1)).await;
        }
        // A failed look leaves the producer to look by itself when it has something to send.
        let _ = looked.await;
    }

    /// The broker was waited for at the start and did not come: both legs begin without trust.
    pub fn distrust(&self, now: Instant) {
        self.breaker.distrust(now);
        self.raw.iter().for_each(|raw| raw.breaker().distrust(now));
    }

    /// Sends parts, each with its topic's number of partitions (none: no catalog was ever seen), and waits for each
    /// one's fate until the deadline, which counts from `started`.
    pub async fn send(&self, parts: Vec<(Routed, Option<i32>)>, started: Instant) -> Vec<Fate> {
        let placed = self.place(parts);
        self.wait_for_gates(&placed).await;
        let live = self.live(&placed);
        // The turn to probe is for those that can be sent: where all wait behind a gate, another topic's event must have it.
        let may_go = || live.contains(&true) && self.breaker.admits(Instant::now(), self.gates.total() > 0);
        let Some(producer) = self.producer.as_ref().filter(|_| may_go()) else {
            return placed.into_iter().map(|part| self.unsent(part, Doubt::NotStored, None)).collect();
        };
        let flight = Flight::new(live.iter().filter(|live| **live).count());
        let waiting = Waiting::new(&self.breaker, flight.waiting() as u64);
        feed(
            producer,
            &flight,
            placed.iter().zip(&live).filter(|(_, live)| **live).map(|(part, _)| (part.routed.as_ref(), part.partition)),
        );
        self.wait(&flight, &placed, started).await;
        drop(waiting);
        let sent = placed.iter().zip(&live).filter(|(_, live)| **live).map(|(part, _)| part);
        let too_large = |slot| matches!(flight.reported(slot), Some(Report::Permanent(Never::TooLarge)));
        let refused: Vec<&Placed> = sent.enumerate().filter(|(slot, _)| too_large(*slot)).map(|(_, part)| part).collect();
        self.learn_bounds(&refused, started).await;
        self.fates(placed, &live, &flight)
    }

    /// Sends rows of the inbox, all of one partition, in order. The caller waits for the flight; nobody's patience is tried.
    pub fn resend(&self, rows: &[Arc<Routed>], partition: i32) -> Option<Arc<Flight>> {
        let producer = self.producer.as_ref()?;
        let flight = Flight::new(rows.len());
        feed(producer, &flight, rows.iter().map(|routed| (routed.as_ref(), partition)));
        Some(flight)
    }

    /// Waits until both legs have reported everything, at most so long. For the drain; blocks a thread of its own.
    pub async fn flush(&self, limit: Duration) -> bool {
        let Some(producer) = self.producer.clone() else { return true };
        let events = tokio::task::spawn_blocking(move || producer.flush(limit));
        let batches = tokio::time::timeout(limit, async {
            while self.raw.as_ref().is_some_and(|raw| !raw.is_idle()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let (events, batches) = tokio::join!(events, batches);
        events.unwrap_or(false) && batches.is_ok()
    }

    fn place(&self, parts: Vec<(Routed, Option<i32>)>) -> Vec<Placed> {
        let first = self.gates.arrivals(parts.len() as u64);
        let turn = self.sticky.fetch_add(1, Ordering::Relaxed) / STICKY;
        let place = |(arrival, (routed, count)): (u64, (Routed, Option<i32>))| {
            let partition = match count {
                None => UNASSIGNED,
                Some(count) => self.partition(&routed, count, turn),
            };
            Placed { routed: Arc::new(routed), partition, arrival }
        };
        (first..).zip(parts).map(place).collect()
    }

    /// Where its door wants it, if the topic has such a partition; else by the key; without one, a partition that is not gated.
    fn partition(&self, routed: &Routed, count: i32, turn: u32) -> i32 {
        if let Some(wanted) = routed.partition().filter(|wanted| (0..count).contains(wanted)) {
            return wanted;
        }
        if let Some(key) = routed.key() {
            return partition::of_key(key, count);
        }
        let begin = i32::try_from(turn % u32::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0);
        let turns = (0..count).map(|step| (begin + step) % count);
        turns.into_iter().find(|partition| self.gates.is_open(routed.topic(), *partition)).unwrap_or(begin)
    }

    /// Which parts may go to the broker. Each gate is asked once: opened between two parts of one key, it would turn them round.
    fn live(&self, placed: &[Placed]) -> Vec<bool> {
        let mut asked: HashMap<(&Topic, i32), bool> = HashMap::new();
        let mut open = |part: &Placed, lane| *asked.entry(lane).or_insert_with(|| self.gates.is_open(part.routed.topic(), part.partition));
        placed.iter().map(|part| part.partition != UNASSIGNED && open(part, (part.routed.topic(), part.partition))).collect()
    }

    /// Whether a gate is worth waiting for: the broker takes records, and little is owed; or some of it is being paid, by somebody
    /// else whose broker takes them. For while everything is owed here, nothing is sent that could close a breaker.
    pub fn is_opening(&self, breaker: &Breaker, topic: &Topic, partition: i32) -> bool {
        match breaker.state() {
            State::Closed => (1..=NEARLY_OPEN).contains(&self.gates.owed(topic, partition)),
            State::HalfOpen | State::Open => self.gates.is_opening(topic, partition),
        }
    }

    /// Whether the broker was there of late, as far as can be seen: it acknowledges, or its catalog came.
    pub fn is_in_sight(&self) -> bool {
        self.breaker.state() == State::Closed || self.catalog.age().is_some_and(|age| age < OUT_OF_SIGHT)
    }

    /// Gates that are about to open are waited for: else a busy partition would never come home.
    async fn wait_for_gates(&self, placed: &[Placed]) {
        if self.gates.total() == 0 || !self.has_broker() {
            return;
        }
        let deadline = tokio::time::Instant::now() + self.config.failover_after.get();
        for part in placed.iter().filter(|part| part.partition != UNASSIGNED) {
            if self.is_opening(&self.breaker, part.routed.topic(), part.partition) {
                let opened = self.gates.opened(part.routed.topic(), part.partition);
                if tokio::time::timeout_at(deadline, opened).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Until all is reported, the breaker opens, a topic turns out to be gone, or the deadline.
    async fn wait(&self, flight: &Arc<Flight>, placed: &[Placed], started: Instant) {
        let patience = if self.breaker.is_proven() { self.send_deadline() } else { self.first_deadline() };
        let mut state = self.breaker.watch();
        let opened_at_start = *state.borrow_and_update() != State::Closed;
        let deadline = tokio::time::Instant::from_std(started + patience);
        loop {
            tokio::select! {
                biased;
                () = flight.all_reported() => return,
                () = tokio::time::sleep_until(deadline) => return,
                _ = state.wait_for(|state| *state == State::Open), if !opened_at_start => return,
                () = tokio::time::sleep(GONE_CHECK) => {
                    if placed.iter().any(|part| self.is_gone(part.routed.topic())) {
                        return;
                    }
                }
            }
        }
    }

    /// The broker has refused these for their size. Whether each is too large by itself, or was only in large company, the
    /// catalog knows when it is fetched anew: twice, as a fetch that was under way may have looked too early.
    async fn learn_bounds(&self, refused: &[&Placed], started: Instant) {
        for _ in 0..2 {
            let left = self.first_deadline().saturating_sub(started.elapsed()).min(LEARN);
            if left.is_zero() || refused.iter().all(|part| self.oversize(&part.routed).is_some()) {
                return;
            }
            self.catalog.refreshed(left).await;
        }
    }

    /// The refusal of a record that its topic, as it is known now, does not take.
    fn oversize(&self, routed: &Routed) -> Option<Refusal> {
        let Lookup::Known(facts) = self.catalog.peek(routed.topic()) else { return None };
        let (actual, limit) = (routed.size(), facts.bounds.max_message_bytes);
        (actual > limit).then_some(Refusal::TooLarge { what: "the size of the event as a record in bytes", actual, limit })
    }

    /// How long the broker has a part.
    pub fn send_deadline(&self) -> Duration {
        self.latest().map_or(self.config.send_deadline.get(), |latest| latest.min(self.config.send_deadline.get()))
    }

    /// A producer that has not proven itself needs more time, but the answer has a deadline too.
    pub fn first_deadline(&self) -> Duration {
        let answer = self.config.answer_deadline.get();
        self.latest().unwrap_or_else(|| answer.saturating_sub(Duration::from_millis(400)).max(self.config.send_deadline.get()))
    }

    /// After which what goes to the inbox could not be answered for in time; but the breaker is always given its chance to open.
    fn latest(&self) -> Option<Duration> {
        let left = |store_time| self.config.answer_deadline.get().saturating_sub(store_time + FOR_THE_ANSWER);
        self.store_time.map(|store_time| left(store_time).max(self.config.failover_after.get()))
    }

    /// Whether a fresh catalog does not have this topic.
    pub fn is_gone(&self, topic: &Topic) -> bool {
        self.catalog.peek(topic) == Lookup::Absent
    }

    fn fates(&self, placed: Vec<Placed>, live: &[bool], flight: &Arc<Flight>) -> Vec<Fate> {
        let mut slot = 0;
        let fate = |(part, live): (Placed, &bool)| {
            if !live {
                return self.unsent(part, Doubt::NotStored, None);
            }
            slot += 1;
            self.fate(part, flight, slot - 1)
        };
        placed.into_iter().zip(live).map(fate).collect()
    }

    fn fate(&self, part: Placed, flight: &Arc<Flight>, slot: usize) -> Fate {
        let Some(report) = flight.reported(slot) else {
            if self.is_gone(part.routed.topic()) {
                return Fate::Refused(Refusal::Denied { topic: part.routed.topic().to_string() });
            }
            return self.unsent(part, Doubt::MaybeDelivered, Some(Pending::new(flight, slot)));
        };
        self.reported(part, &report)
    }

    fn reported(&self, part: Placed, report: &Report) -> Fate {
        match report {
            Report::Delivered { partition, offset } => Fate::Delivered { routed: part.routed, partition: *partition, offset: *offset },
            Report::NotStored(_) => self.unsent(part, Doubt::NotStored, None),
            Report::Unknown(_) => self.unsent(part, Doubt::MaybeDelivered, None),
            Report::Permanent(never) => match self.refusal(&part.routed, *never) {
                Some(refusal) => Fate::Refused(refusal),
                None => self.unsent(part, Doubt::NotStored, None),
            },
        }
    }

    /// What a record that will never be taken is told; none: it was in too large company, and fits alone.
    pub fn refusal(&self, routed: &Routed, never: Never) -> Option<Refusal> {
        match never {
            Never::NoTopic => {
                self.catalog.want();
                Some(Refusal::Denied { topic: routed.topic().to_string() })
            }
            Never::TooLarge => self.oversize(routed),
            Never::Invalid(reason) => Some(Refusal::Invalid { message: format!("the topic refuses the record: {reason}"), field: None }),
        }
    }

    fn unsent(&self, part: Placed, doubt: Doubt, pending: Option<Pending>) -> Fate {
        let owed = self.gates.owe(part.routed.topic(), part.partition);
        Fate::Unsent(Unsent { routed: part.routed, arrival: part.arrival, owed, doubt, pending })
    }
}

/// Gives the producer its parts in their order. Behind one that it does not take, the rest of the same partition is not
/// offered either: it would be delivered before the one that is left behind.
fn feed<'a>(producer: &Producer, flight: &Arc<Flight>, parts: impl Iterator<Item = (&'a Routed, i32)>) {
    let mut behind: Vec<(&Topic, i32)> = Vec::new();
    for (slot, (routed, partition)) in parts.enumerate() {
        if !behind.is_empty() && behind.contains(&(routed.topic(), partition)) {
            flight.report(slot, Report::NotStored("queue_full"));
        } else if !producer.send(flight, slot, routed, partition) {
            behind.push((routed.topic(), partition));
        }
    }
}

/// Parts that the breaker counts as waiting; they leave when this is dropped.
struct Waiting<'a> {
    breaker: &'a Breaker,
    parts: u64,
}

impl<'a> Waiting<'a> {
    fn new(breaker: &'a Breaker, parts: u64) -> Self {
        breaker.sent(parts, Instant::now());
        Self { breaker, parts }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.breaker.left(self.parts);
    }
}

#[cfg(test)]
mod tests;
