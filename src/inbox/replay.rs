//! Replay: from the inbox to the sink, in the order of arrival within a partition, many partitions at a time.
//!
//! Each partition that is owed rows has a task: read a window, send it, delete what was acknowledged, again. Events go by
//! the producer, batches of Kafka producers by the raw leg, byte for byte and one behind the other; a window is of one kind.
//! While the breaker of a leg is open, one ready row at a time is the probe that closes it. Live traffic comes first: while
//! requests wait for the broker, replay takes a small window and rests as long as it has worked.
//! A row is deleted only after the broker's acknowledgement; a crash between the two makes a duplicate, never a loss.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use tokio::task::JoinSet;

use crate::drain::{Phase, Signal};
use crate::event::Topic;
use crate::gate::{TopicPartition, UNASSIGNED};
use crate::partition;
use crate::route::{Routed, RoutedRecords};
use crate::sink::Sink;
use crate::sink::breaker::{Breaker, State};
use crate::sink::catalog::Lookup;
use crate::sink::flight::Flight;
use crate::sink::report::{Never, Report};
use crate::sink::verdict::Verdict;
use crate::telemetry::metrics;

use super::Inbox;
use super::firestore::Hand;
use super::row::{Content, Place, Row};

/// Between looks for work.
const TICK: Duration = Duration::from_millis(50);

/// Between probes while the breaker is open.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Rows a window, alone and beside live traffic.
const WINDOW: usize = 2_000;
const WINDOW_BESIDE_LIVE: usize = 200;

/// Partitions that are replayed at the same time.
const MAX_LANES: usize = 16;

/// What a stopping gate still waits for the reports of rows on their way.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// So many batches are sent one behind the other before those that have landed are deleted.
const DELETE_EVERY: usize = 64;

/// So much longer than its own timeout a producer may have had a record whose row is held.
const HELD_LONGER: Duration = Duration::from_secs(2);

/// A lane that has met a fault rests so long.
const REST: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Replay {
    inbox: Arc<Inbox>,
    sink: Arc<Sink>,
    busy: Mutex<Busy>,
    replayed: AtomicU64,
    /// Who probes a leg holds its turn.
    event_probe: tokio::sync::Mutex<()>,
    records_probe: tokio::sync::Mutex<()>,
}

/// What came of a share of the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Rows that this gate has delivered and deleted meanwhile.
    pub replayed: u64,
    /// Rows that wait still, as far as can be seen.
    pub left: u64,
    /// Whether nothing waits any more.
    pub complete: bool,
    /// What the rest waits for, where that is to be seen: `broker`, `topic` (the broker has none of its topics), `lease` (another
    /// gate has, or had, the rows in hand), or `inbox` (it cannot be read or deleted from).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<&'static str>,
}

/// Rows of one kind.
enum Run {
    Events(Vec<Arc<Routed>>),
    Records(Vec<Arc<RoutedRecords>>),
}

/// The lanes that have a task, those whose last window failed, and those that rest, which keeps no task.
#[derive(Debug, Default)]
struct Busy {
    lanes: HashSet<TopicPartition>,
    ill: HashSet<TopicPartition>,
    resting: HashMap<TopicPartition, Instant>,
}

/// A lane's turn: ended when it is dropped, by a panic too.
struct Turn {
    replay: Arc<Replay>,
    lane: TopicPartition,
    ill: bool,
    rest: Duration,
    _hand: Option<Hand>,
}

impl Turn {
    async fn take(mut self, term: Term) {
        (self.ill, self.rest) = self.replay.lane(&self.lane, self.ill, term).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut busy = self.replay.busy();
        busy.lanes.remove(&self.lane);
        busy.resting.insert(self.lane.clone(), Instant::now() + self.rest);
        if self.ill {
            busy.ill.insert(self.lane.clone());
        } else {
            busy.ill.remove(&self.lane);
        }
    }
}

/// What came of a window.
enum Round {
    /// So many rows are gone from the lane.
    Moved,
    /// Nothing is ready: held rows first, or none at all.
    Quiet,
    /// The broker did not take it; later.
    Rest,
}

/// How long replay goes on.
#[derive(Clone)]
struct Term {
    signal: Signal,
    until: Option<Instant>,
}

impl Term {
    fn is_over(&self) -> bool {
        self.signal.phase() >= Phase::Finishing || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Waits, at most until it is over.
    async fn rest(&mut self, rest: Duration) {
        let until = self.until.map_or(rest, |until| rest.min(until.saturating_duration_since(Instant::now())));
        tokio::select! {
            () = self.signal.reached(Phase::Finishing) => {}
            () = tokio::time::sleep(until) => {}
        }
    }

    /// A moment after the end: for reports that are on their way.
    async fn ended(&mut self) {
        self.signal.reached(Phase::Finishing).await;
        tokio::time::sleep(LAST_WAIT).await;
    }
}

impl Replay {
    /// A replay of everything that the inbox holds.
    pub fn new(inbox: Arc<Inbox>, sink: Arc<Sink>) -> Arc<Self> {
        Arc::new(Self {
            inbox,
            sink,
            busy: Mutex::default(),
            replayed: AtomicU64::new(0),
            event_probe: tokio::sync::Mutex::default(),
            records_probe: tokio::sync::Mutex::default(),
        })
    }

    /// Replays until the drain begins to finish.
    pub async fn run(self: Arc<Self>, signal: Signal) {
        self.work(Term { signal, until: None }, || false).await;
    }

    /// Replays for at most so long, for those who ask for it: whoever else replays goes on beside.
    pub async fn share(self: &Arc<Self>, limit: Duration, signal: Signal) -> Share {
        let before = self.replayed.load(Ordering::Relaxed);
        self.inbox.look().await;
        self.work(Term { signal, until: Some(Instant::now() + limit) }, || self.inbox.is_done()).await;
        let left = self.inbox.left().await;
        let waiting_for = if left == 0 { None } else { self.waits_for() };
        Share { replayed: self.replayed.load(Ordering::Relaxed) - before, left, complete: left == 0, waiting_for }
    }

    /// What keeps rows here, where that is to be seen.
    fn waits_for(&self) -> Option<&'static str> {
        let raw_is_open = self.sink.raw().is_some_and(|raw| raw.breaker().state() != State::Closed);
        let is_gone = |lane: &TopicPartition| self.sink.catalog().peek(&lane.0) == Lookup::Absent;
        let lanes = self.inbox.lanes();
        match () {
            () if self.inbox.is_latched() || self.inbox.is_away() => Some("inbox"),
            () if !self.sink.has_broker() || raw_is_open || self.sink.breaker().state() != State::Closed => Some("broker"),
            () if !lanes.is_empty() && lanes.iter().all(is_gone) => Some("topic"),
            () if self.inbox.is_in_other_hands() => Some("lease"),
            () => None,
        }
    }

    async fn work(self: &Arc<Self>, mut term: Term, done: impl Fn() -> bool) {
        let mut lanes: JoinSet<()> = JoinSet::new();
        let mut turn: usize = 0;
        while !(term.is_over() || lanes.is_empty() && done()) {
            while lanes.try_join_next().is_some() {}
            // A store that cannot delete what was delivered would send it again and again.
            if self.sink.has_broker() && !self.inbox.is_latched() {
                turn = turn.wrapping_add(1);
                self.begin(&mut lanes, &term, turn);
            }
            term.rest(TICK).await;
        }
        // What was sent and is acknowledged in time is deleted, and will not be sent twice.
        while lanes.join_next().await.is_some() {}
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        // Nothing panics under this lock.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, lanes: &mut JoinSet<()>, term: &Term, turn: usize) {
        let mut closed = self.inbox.lanes();
        self.awake();
        if closed.is_empty() {
            return;
        }
        // Each in its turn: a partition without a leader must not be the only probe.
        let first = turn % closed.len();
        closed.rotate_left(first);
        let (homeless, at_home): (Vec<&TopicPartition>, Vec<&TopicPartition>) = closed.iter().partition(|lane| self.is_homeless(lane));
        // A topic's older rows find their partitions, it may be by another's hand, before its newer ones move.
        let unplaced: HashSet<Topic> =
            self.inbox.all_lanes().into_iter().filter(|lane| self.is_homeless(lane)).map(|(topic, _)| topic).collect();
        let waits = |lane: &TopicPartition| unplaced.contains(&lane.0);
        let at_home = at_home.into_iter().filter(|lane| !waits(lane));
        for lane in homeless.iter().copied().chain(at_home) {
            if lanes.len() >= MAX_LANES {
                break;
            }
            if self.sink.catalog().peek(&lane.0) == Lookup::Absent {
                self.strand(&lane.0); // The rows stay; `/status` shows them.
                continue;
            }
            if let Some(turn) = self.turn(lane) {
                lanes.spawn(turn.take(term.clone()));
            }
        }
    }

    /// Those that have rested long enough.
    fn awake(&self) {
        let now = Instant::now();
        self.busy().resting.retain(|_, until| *until > now);
    }

    /// The turn of a lane that nobody in this process has now.
    fn turn(self: &Arc<Self>, lane: &TopicPartition) -> Option<Turn> {
        let mut busy = self.busy();
        if busy.resting.contains_key(lane) || !busy.lanes.insert(lane.clone()) {
            return None;
        }
        let (ill, hand) = (busy.ill.contains(lane), self.inbox.hand(lane));
        Some(Turn { replay: Arc::clone(self), lane: lane.clone(), ill, rest: REST, _hand: hand })
    }

    /// Replays one partition until there is nothing ready, or something is wrong: then it is ill, and begins with one row
    /// the next time, so that dead partitions do not fill the producer's queue. Also says how long it rests then.
    async fn lane(&self, lane: &TopicPartition, mut ill: bool, mut term: Term) -> (bool, Duration) {
        while !term.is_over() {
            let started = Instant::now();
            let claimed = self.inbox.claim(lane).await;
            let (round, beside_live) = if claimed { self.round(lane, ill, &mut term).await } else { (Round::Quiet, false) };
            match round {
                Round::Moved => {
                    ill = false;
                    self.float(&lane.0);
                    let rest = if beside_live { started.elapsed() } else { Duration::ZERO };
                    term.rest(rest).await;
                }
                Round::Quiet => return (ill, self.inbox.rest()),
                Round::Rest => return (true, REST),
            }
        }
        (ill, Duration::ZERO)
    }

    /// Whether a row may be sent now. How long one of another process is held, that one's clock has said: it is not believed
    /// beyond the time for which its producer can have had the record.
    fn is_ready(&self, row: &Row) -> bool {
        let held = self.sink.config().message_timeout.get() + HELD_LONGER;
        let latest = row.at_ms.saturating_add(i64::try_from(held.as_millis()).unwrap_or(i64::MAX));
        let not_before = if row.place.ours { row.not_before_ms } else { row.not_before_ms.min(latest) };
        not_before <= super::not_before_ms(Duration::ZERO)
    }

    /// One window; also whether it went beside live traffic.
    async fn round(&self, lane: &TopicPartition, ill: bool, term: &mut Term) -> (Round, bool) {
        if self.is_homeless(lane) {
            return (self.assign(lane).await, false);
        }
        let Some(head) = self.inbox.rows(lane, 1).await.into_iter().next().filter(|row| self.is_ready(row)) else {
            return (Round::Quiet, false);
        };
        let Some(content) = &head.content else {
            tracing::error!(topic = %lane.0, name = %head.place.name, "a row of the inbox cannot be read: it is set aside");
            self.inbox.refused(&head, Some("unreadable")).await;
            return (Round::Rest, false);
        };
        let Some((breaker, probe)) = self.leg(content) else { return (Round::Quiet, false) };
        let beside_live = breaker.is_waited_for();
        if breaker.state() != State::Closed {
            // One probe at a time, and a pause behind each.
            let Ok(_turn) = probe.try_lock() else { return (Round::Quiet, beside_live) };
            let round = self.send(lane, 1, term).await;
            if matches!(round, Round::Rest) {
                term.rest(PROBE_EVERY).await;
            }
            return (round, beside_live);
        }
        let window = match (ill, beside_live) {
            (true, _) => 1,
            (false, true) => WINDOW_BESIDE_LIVE,
            (false, false) => WINDOW,
        };
        (self.send(lane, window, term).await, beside_live)
    }

    /// By which leg a row goes: its breaker, and the turn of its probe.
    fn leg(&self, content: &Content) -> Option<(&Arc<Breaker>, &tokio::sync::Mutex<()>)> {
        match content {
            Content::Event(_) => Some((self.sink.breaker(), &self.event_probe)),
            Content::Records(_) => Some((self.sink.raw()?.breaker(), &self.records_probe)),
        }
    }

    async fn send(&self, lane: &TopicPartition, window: usize, term: &mut Term) -> Round {
        let rows = self.inbox.rows(lane, window).await;
        // A row that was refused goes alone: the batch it travelled in may have been what did not fit.
        let alone = rows.first().is_some_and(|row| row.attempts > 0);
        let window = if alone { 1 } else { window };
        let ready = rows.into_iter().take(window).take_while(|row| self.is_ready(row) && (alone || row.attempts == 0));
        let (run, rows) = run_of(ready);
        match run {
            _ if rows.is_empty() => Round::Quiet,
            Run::Events(events) => {
                let Some(flight) = self.sink.resend(&events, lane.1) else { return Round::Quiet };
                self.land(lane, &flight, &rows, term).await
            }
            Run::Records(batches) => self.resend(lane, &batches, &rows, term).await,
        }
    }

    /// Sends batches one behind the other, as long as the lane is ours, and deletes those that have landed.
    async fn resend(&self, lane: &TopicPartition, batches: &[Arc<RoutedRecords>], rows: &[Row], term: &mut Term) -> Round {
        let Some(raw) = self.sink.raw() else { return Round::Quiet };
        let (mut landed, mut moved) = (Vec::new(), false);
        for (records, row) in batches.iter().zip(rows) {
            if !self.inbox.holds(lane) {
                break;
            }
            let verdict = tokio::select! {
                verdict = raw.replay(records) => verdict,
                () = term.ended() => break,
            };
            match verdict {
                Verdict::Landed(_) => landed.push(row.place.clone()),
                Verdict::Permanent(never) => {
                    self.not_delivered(row, Some(Report::Permanent(never))).await;
                    break;
                }
                Verdict::NotStored(_) | Verdict::Unknown(_) | Verdict::Strip(_) | Verdict::Predecessor => break,
            }
            if landed.len() >= DELETE_EVERY {
                moved |= self.delete(std::mem::take(&mut landed)).await;
            }
        }
        moved |= self.delete(landed).await;
        if moved { Round::Moved } else { Round::Rest }
    }

    /// Deletes what has landed; false when there was nothing, or it could not be promised.
    async fn delete(&self, landed: Vec<Place>) -> bool {
        let some = !landed.is_empty();
        self.count(landed.len());
        some && self.inbox.remove(landed).await
    }

    fn count(&self, delivered: usize) {
        self.replayed.fetch_add(delivered as u64, Ordering::Relaxed);
        metrics().inbox_replayed.inc_by(delivered as u64);
    }

    /// Waits for the reports, deletes what was acknowledged, counts what was refused.
    async fn land(&self, lane: &TopicPartition, flight: &Arc<Flight>, rows: &[Row], term: &mut Term) -> Round {
        let limit = self.sink.config().message_timeout.get() + Duration::from_secs(5);
        tokio::select! {
            () = flight.all_reported() => {}
            () = tokio::time::sleep(limit) => {
                tracing::warn!(topic = %lane.0, partition = lane.1, "the producer does not report replayed records; they are sent again");
            }
            () = term.ended() => {}
        }
        let mut delivered = Vec::new();
        let mut clean = true;
        for (slot, row) in rows.iter().enumerate() {
            match flight.reported(slot) {
                Some(Report::Delivered { .. }) => delivered.push(row.place.clone()),
                report => {
                    clean = false;
                    self.not_delivered(row, report).await;
                }
            }
        }
        let moved = !delivered.is_empty();
        self.count(delivered.len());
        if moved && !self.inbox.remove(delivered).await {
            return Round::Rest;
        }
        if clean && moved { Round::Moved } else { Round::Rest }
    }

    /// A fault of the broker or the way to it is nobody's attempt; a refusal of the record is one.
    async fn not_delivered(&self, row: &Row, report: Option<Report>) {
        let reason = match report {
            Some(Report::Permanent(Never::TooLarge)) => "too_large",
            Some(Report::Permanent(Never::Invalid(reason))) => reason,
            Some(Report::Permanent(Never::NoTopic)) => return self.strand(&row.place.lane.0),
            _ => return,
        };
        let last = row.attempts + 1 >= self.inbox.config().max_attempts;
        if last {
            tracing::error!(topic = %row.place.lane.0, name = %row.place.name, reason, "the broker will not take a row of the inbox: it is set aside");
        }
        self.inbox.refused(row, last.then_some(reason)).await;
    }

    /// Once for each topic: acknowledged events wait for a person.
    fn strand(&self, topic: &Topic) {
        if self.sink.gates().strand(topic) {
            tracing::error!(%topic, "acknowledged events wait in the inbox for a topic that the broker does not have, or does not let us write to");
        }
    }

    fn float(&self, topic: &Topic) {
        if self.sink.gates().float(topic) {
            tracing::info!(%topic, "the topic takes the inbox's events again");
        }
    }

    /// Stored before any catalog was seen, or for a partition that the topic, made anew, has no more.
    fn is_homeless(&self, lane: &TopicPartition) -> bool {
        lane.1 == UNASSIGNED || matches!(self.sink.catalog().peek(&lane.0), Lookup::Known(facts) if lane.1 >= facts.partitions)
    }

    /// Gives homeless rows their partitions.
    async fn assign(&self, lane: &TopicPartition) -> Round {
        let Lookup::Known(facts) = self.sink.catalog().peek(&lane.0) else { return Round::Quiet };
        let rows = self.inbox.rows(lane, WINDOW).await;
        let placed = rows.iter().map(|row| {
            let key = match &row.content {
                Some(Content::Event(routed)) => routed.key().cloned(),
                _ => None,
            };
            // Keyless rows go in turn, and so do batches, whose partition is gone; one that cannot be read is set aside in its lane.
            let spread = i32::try_from(row.place.arrival % u64::from(facts.partitions.unsigned_abs().max(1))).unwrap_or(0);
            (row.place.clone(), key.map_or(spread, |key| partition::of_key(&key, facts.partitions)))
        });
        let placed: Vec<_> = placed.collect();
        match placed.is_empty() {
            true => Round::Quiet,
            false if self.inbox.assign(lane, placed).await => Round::Moved,
            false => Round::Rest,
        }
    }
}

/// The rows at the head that are of the first one's kind, as far as they can be read.
fn run_of(rows: impl Iterator<Item = Row>) -> (Run, Vec<Row>) {
    let (mut events, mut batches, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match &row.content {
            Some(Content::Event(routed)) if batches.is_empty() => events.push(Arc::clone(routed)),
            Some(Content::Records(records)) if events.is_empty() => batches.push(Arc::clone(records)),
            // Another kind, or a row that its turn as the first will set aside.
            Some(_) | None => break,
        }
        taken.push(row);
    }
    (if batches.is_empty() { Run::Events(events) } else { Run::Records(batches) }, taken)
}
