//! Replay: from the inbox to the sink, in the order of arrival within a partition, many partitions at a time.
//!
//! Each partition that is owed rows has a task: read a window, send it, delete what was acknowledged, again. Events go by
//! the producer, batches of Kafka producers by the raw leg, byte for byte and one behind the other; a window is of one kind.
//! While the breaker of a leg is open, one ready row at a time is the probe that closes it. Live traffic comes first: while
//! requests wait for the broker, replay takes a small window and rests as long as it has worked.
//! A row is deleted only after the broker's acknowledgement; a crash between the two makes a duplicate, never a loss.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::drain::{Phase, Signal};
use crate::event::Topic;
use crate::gate::{Gates, TopicPartition, UNASSIGNED};
use crate::partition;
use crate::route::{DocumentName, Routed, RoutedRecords};
use crate::sink::Sink;
use crate::sink::breaker::{Breaker, State};
use crate::sink::catalog::Lookup;
use crate::sink::flight::Flight;
use crate::sink::report::{Never, Report};
use crate::sink::verdict::Verdict;
use crate::telemetry::metrics;

use super::Inbox;
use super::row::{Content, Row};

/// Between looks for work.
const TICK: Duration = Duration::from_millis(50);

/// Between probes while the breaker is open.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Rows a window, alone and beside live traffic.
const WINDOW: usize = 2_000;
const WINDOW_BESIDE_LIVE: usize = 200;

/// Partitions that are replayed at the same time.
const MAX_LANES: usize = 16;

/// A lane whose oldest row is held rests so long.
const HELD_REST: Duration = Duration::from_millis(100);

/// What a stopping gate still waits for the reports of rows on their way.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// So many batches are sent one behind the other before those that have landed are deleted.
const DELETE_EVERY: usize = 64;

/// A lane that has met a fault rests so long.
const REST: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Replay {
    inbox: Arc<Inbox>,
    sink: Arc<Sink>,
    gates: Arc<Gates>,
    /// Who probes a leg holds its turn.
    event_probe: tokio::sync::Mutex<()>,
    records_probe: tokio::sync::Mutex<()>,
}

/// Rows of one kind.
enum Run {
    Events(Vec<Arc<Routed>>),
    Records(Vec<Arc<RoutedRecords>>),
}

/// The lanes that have a task, and those whose last window failed.
#[derive(Default)]
struct Busy {
    lanes: HashSet<TopicPartition>,
    ill: HashSet<TopicPartition>,
}

impl Busy {
    fn ended(&mut self, lane: TopicPartition, ill: bool) {
        self.lanes.remove(&lane);
        if ill {
            self.ill.insert(lane);
        } else {
            self.ill.remove(&lane);
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

impl Replay {
    /// A replay of everything that the inbox holds.
    pub fn new(inbox: Arc<Inbox>, sink: Arc<Sink>, gates: Arc<Gates>) -> Arc<Self> {
        Arc::new(Self { inbox, sink, gates, event_probe: tokio::sync::Mutex::default(), records_probe: tokio::sync::Mutex::default() })
    }

    /// Replays until the drain begins to finish.
    pub async fn run(self: Arc<Self>, mut signal: Signal) {
        let mut lanes: JoinSet<(TopicPartition, bool)> = JoinSet::new();
        let mut busy = Busy::default();
        let mut turn: usize = 0;
        loop {
            while let Some(done) = lanes.try_join_next() {
                if let Ok((lane, ill)) = done {
                    busy.ended(lane, ill);
                }
            }
            if lanes.is_empty() {
                busy.lanes.clear();
            }
            // A store that cannot delete what was delivered would send it again and again.
            if self.gates.total() > 0 && self.sink.has_broker() && !self.inbox.is_latched() {
                turn = turn.wrapping_add(1);
                self.begin(&mut lanes, &mut busy, &signal, turn).await;
            }
            tokio::select! {
                () = signal.reached(Phase::Finishing) => break,
                () = tokio::time::sleep(TICK) => {}
            }
        }
        // What was sent and is acknowledged in time is deleted, and will not be sent twice.
        while lanes.join_next().await.is_some() {}
    }

    async fn begin(self: &Arc<Self>, lanes: &mut JoinSet<(TopicPartition, bool)>, busy: &mut Busy, signal: &Signal, turn: usize) {
        let mut closed = self.gates.closed();
        // Each in its turn: a partition without a leader must not be the only probe.
        let first = turn % closed.len().max(1);
        closed.rotate_left(first);
        let (homeless, at_home): (Vec<&TopicPartition>, Vec<&TopicPartition>) = closed.iter().partition(|lane| self.is_homeless(lane));
        for lane in &homeless {
            self.assign(lane).await;
        }
        // A topic's older rows find their partitions before its newer ones move.
        let waits = |lane: &TopicPartition| homeless.iter().any(|other| other.0 == lane.0);
        for lane in at_home.into_iter().filter(|lane| !waits(lane)).cloned() {
            if lanes.len() >= MAX_LANES || busy.lanes.contains(&lane) {
                continue;
            }
            if self.sink.catalog().peek(&lane.0) == Lookup::Absent {
                self.strand(&lane.0); // The rows stay; `/status` shows them.
                continue;
            }
            busy.lanes.insert(lane.clone());
            let (replay, signal, ill) = (Arc::clone(self), signal.clone(), busy.ill.contains(&lane));
            lanes.spawn(async move {
                let ill = replay.lane(&lane, ill, signal).await;
                (lane, ill)
            });
        }
    }

    /// Replays one partition until there is nothing ready, or something is wrong: then it is ill, and begins with one row
    /// the next time, so that dead partitions do not fill the producer's queue.
    async fn lane(&self, lane: &TopicPartition, mut ill: bool, mut signal: Signal) -> bool {
        while signal.phase() < Phase::Finishing {
            let started = Instant::now();
            let (round, beside_live) = self.round(lane, ill, &mut signal).await;
            let rest = match round {
                Round::Moved if beside_live => started.elapsed(),
                Round::Moved => Duration::ZERO,
                Round::Quiet => HELD_REST,
                Round::Rest => REST,
            };
            tokio::select! {
                () = signal.reached(Phase::Finishing) => return ill,
                () = tokio::time::sleep(rest) => {}
            }
            match round {
                Round::Moved => {
                    ill = false;
                    self.float(&lane.0);
                }
                Round::Quiet => return ill,
                Round::Rest => return true,
            }
        }
        ill
    }

    /// One window; also whether it went beside live traffic.
    async fn round(&self, lane: &TopicPartition, ill: bool, signal: &mut Signal) -> (Round, bool) {
        let now = super::not_before_ms(Duration::ZERO);
        let Some(head) = self.inbox.rows(lane.clone(), 1).await.into_iter().next().filter(|row| row.not_before_ms <= now) else {
            return (Round::Quiet, false);
        };
        let Some(content) = head.content() else {
            tracing::error!(topic = %head.topic, name = %head.name, "a row of the inbox cannot be read: it is set aside");
            self.inbox.refused(head.name, Some("unreadable"));
            return (Round::Rest, false);
        };
        let Some((breaker, probe)) = self.leg(&content) else { return (Round::Quiet, false) };
        let beside_live = breaker.is_waited_for();
        if breaker.state() != State::Closed {
            // One probe at a time, and a pause behind each.
            let Ok(_turn) = probe.try_lock() else { return (Round::Quiet, beside_live) };
            let round = self.send(lane, 1, signal).await;
            if matches!(round, Round::Rest) {
                tokio::select! {
                    () = signal.reached(Phase::Finishing) => {}
                    () = tokio::time::sleep(PROBE_EVERY) => {}
                }
            }
            return (round, beside_live);
        }
        let window = match (ill, beside_live) {
            (true, _) => 1,
            (false, true) => WINDOW_BESIDE_LIVE,
            (false, false) => WINDOW,
        };
        (self.send(lane, window, signal).await, beside_live)
    }

    /// By which leg a row goes: its breaker, and the turn of its probe.
    fn leg(&self, content: &Content) -> Option<(&Arc<Breaker>, &tokio::sync::Mutex<()>)> {
        match content {
            Content::Event(_) => Some((self.sink.breaker(), &self.event_probe)),
            Content::Records(_) => Some((self.sink.raw()?.breaker(), &self.records_probe)),
        }
    }

    async fn send(&self, lane: &TopicPartition, window: usize, signal: &mut Signal) -> Round {
        let now = super::not_before_ms(Duration::ZERO);
        let rows = self.inbox.rows(lane.clone(), window).await;
        // A row that was refused goes alone: the batch it travelled in may have been what did not fit.
        let alone = rows.first().is_some_and(|row| row.attempts > 0);
        let window = if alone { 1 } else { window };
        let ready = rows.into_iter().take(window).take_while(|row| row.not_before_ms <= now && (alone || row.attempts == 0));
        let (run, rows) = run_of(ready);
        match run {
            _ if rows.is_empty() => Round::Quiet,
            Run::Events(events) => {
                let Some(flight) = self.sink.resend(&events, lane.1) else { return Round::Quiet };
                self.land(lane, &flight, &rows, signal).await
            }
            Run::Records(batches) => self.resend(&batches, &rows, signal).await,
        }
    }

    /// Sends batches one behind the other, and deletes those that have landed.
    async fn resend(&self, batches: &[Arc<RoutedRecords>], rows: &[Row], signal: &mut Signal) -> Round {
        let Some(raw) = self.sink.raw() else { return Round::Quiet };
        let (mut landed, mut moved) = (Vec::new(), false);
        for (records, row) in batches.iter().zip(rows) {
            let verdict = tokio::select! {
                verdict = raw.replay(records) => verdict,
                () = async { signal.reached(Phase::Finishing).await; tokio::time::sleep(LAST_WAIT).await } => break,
            };
            match verdict {
                Verdict::Landed(_) => landed.push(row.name),
                Verdict::Permanent(never) => {
                    self.not_delivered(row, Some(Report::Permanent(never)));
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
    async fn delete(&self, landed: Vec<DocumentName>) -> bool {
        let some = !landed.is_empty();
        metrics().inbox_replayed.inc_by(landed.len() as u64);
        some && self.inbox.remove(landed).await
    }

    /// Waits for the reports, deletes what was acknowledged, counts what was refused.
    async fn land(&self, lane: &TopicPartition, flight: &Arc<Flight>, rows: &[Row], signal: &mut Signal) -> Round {
        let limit = self.sink.config().message_timeout.get() + Duration::from_secs(5);
        tokio::select! {
            () = flight.all_reported() => {}
            () = tokio::time::sleep(limit) => {
                tracing::warn!(topic = %lane.0, partition = lane.1, "the producer does not report replayed records; they are sent again");
            }
            () = async { signal.reached(Phase::Finishing).await; tokio::time::sleep(LAST_WAIT).await } => {}
        }
        let mut delivered = Vec::new();
        let mut clean = true;
        for (slot, row) in rows.iter().enumerate() {
            match flight.reported(slot) {
                Some(Report::Delivered { .. }) => delivered.push(row.name),
                report => {
                    clean = false;
                    self.not_delivered(row, report);
                }
            }
        }
        let moved = !delivered.is_empty();
        metrics().inbox_replayed.inc_by(delivered.len() as u64);
        if moved && !self.inbox.remove(delivered).await {
            return Round::Rest;
        }
        if clean && moved { Round::Moved } else { Round::Rest }
    }

    /// A fault of the broker or the way to it is nobody's attempt; a refusal of the record is one.
    fn not_delivered(&self, row: &Row, report: Option<Report>) {
        let reason = match report {
            Some(Report::Permanent(Never::TooLarge)) => "too_large",
            Some(Report::Permanent(Never::Invalid(reason))) => reason,
            Some(Report::Permanent(Never::NoTopic)) => return self.strand(&row.topic),
            _ => return,
        };
        let last = row.attempts + 1 >= self.inbox.config().max_attempts;
        if last {
            tracing::error!(topic = %row.topic, name = %row.name, reason, "the broker will not take a row of the inbox: it is set aside");
        }
        self.inbox.refused(row.name, last.then_some(reason));
    }

    /// Once for each topic: acknowledged events wait for a person.
    fn strand(&self, topic: &Topic) {
        if self.gates.strand(topic) {
            tracing::error!(%topic, "acknowledged events wait in the inbox for a topic that the broker does not have, or does not let us write to");
        }
    }

    fn float(&self, topic: &Topic) {
        if self.gates.float(topic) {
            tracing::info!(%topic, "the topic takes the inbox's events again");
        }
    }

    /// Stored before any catalog was seen, or for a partition that the topic, made anew, has no more.
    fn is_homeless(&self, lane: &TopicPartition) -> bool {
        lane.1 == UNASSIGNED || matches!(self.sink.catalog().peek(&lane.0), Lookup::Known(facts) if lane.1 >= facts.partitions)
    }

    /// Gives homeless rows their partitions.
    async fn assign(&self, lane: &TopicPartition) {
        let Lookup::Known(facts) = self.sink.catalog().peek(&lane.0) else { return };
        let rows = self.inbox.rows(lane.clone(), WINDOW).await;
        let placed = rows.iter().map(|row| {
            let key = match row.content() {
                Some(Content::Event(routed)) => routed.key().cloned(),
                _ => None,
            };
            // Keyless rows go in turn, and so do batches, whose partition is gone; one that cannot be read is set aside in its lane.
            let spread = i32::try_from(row.arrival % u64::from(facts.partitions.unsigned_abs().max(1))).unwrap_or(0);
            (row.name, key.map_or(spread, |key| partition::of_key(&key, facts.partitions)))
        });
        let placed: Vec<_> = placed.collect();
        if !placed.is_empty() {
            self.inbox.assign(lane.clone(), placed).await;
        }
    }
}

/// The rows at the head that are of the first one's kind, as far as they can be read.
fn run_of(rows: impl Iterator<Item = Row>) -> (Run, Vec<Row>) {
    let (mut events, mut batches, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match row.content() {
            Some(Content::Event(routed)) if batches.is_empty() => events.push(routed),
            Some(Content::Records(records)) if events.is_empty() => batches.push(records),
            // Another kind, or a row that its turn as the first will set aside.
            Some(_) | None => break,
        }
        taken.push(row);
    }
    (if batches.is_empty() { Run::Events(events) } else { Run::Records(batches) }, taken)
}
