//! Replay: from the inbox to the sink, in the order of arrival within a partition, many partitions at a time.
//!
//! Each partition that is owed rows has a task: look at its first row, read a window, send it, delete what was acknowledged,
//! read the next. Events go by the producer, batches of Kafka producers by the raw leg, byte for byte and one behind the
//! other; a window is of one kind.
//! While the breaker of a leg is open, one ready row at a time is the probe that closes it. Live traffic comes first: while
//! requests wait for the broker, replay takes a small window and rests as long as it has worked.
//! A row is deleted only after the broker's acknowledgement; a crash between the two makes a duplicate, never a loss.

mod send;
mod turn;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use tokio::task::{JoinHandle, JoinSet};

use crate::drain::Signal;
use crate::event::Topic;
use crate::gate::{TopicPartition, UNASSIGNED};
use crate::partition;
use crate::sink::Sink;
use crate::sink::breaker::{Breaker, State};
use crate::sink::catalog::Lookup;

use super::Inbox;
use super::row::{Content, Row};

use turn::{Busy, Term};

/// Between looks for work.
const TICK: Duration = Duration::from_millis(50);

/// Between probes while the breaker is open.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Rows a window, alone and beside live traffic.
const WINDOW: usize = 2_000;
const WINDOW_BESIDE_LIVE: usize = 200;

/// Partitions that are replayed at the same time.
const MAX_LANES: usize = 16;

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
    /// The look for rows that requests have begun.
    look: Mutex<Option<JoinHandle<()>>>,
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

/// How a lane's turn goes.
struct Pace {
    ill: bool,
    /// The leg by which the last window went, if all that was read could be sent. Then the next one is read at once; what may
    /// not be ready is looked at first, which costs little as often as that is done.
    moving: Option<Arc<Breaker>>,
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
    pub fn new(inbox: Arc<Inbox>, sink: Arc<Sink>) -> Arc<Self> {
        Arc::new(Self {
            inbox,
            sink,
            busy: Mutex::default(),
            replayed: AtomicU64::new(0),
            look: Mutex::default(),
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
        self.begin_look();
        self.work(Term { signal, until: Some(Instant::now() + limit) }, || self.has_looked() && self.inbox.is_done()).await;
        let left = self.inbox.left().await;
        let waiting_for = if left == 0 { None } else { self.waits_for() };
        Share { replayed: self.replayed.load(Ordering::Relaxed) - before, left, complete: left == 0, waiting_for }
    }

    /// A look goes on beside the replay of what is known already, and after its request has ended: one at a time, none is cut.
    fn begin_look(&self) {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if look.as_ref().is_none_or(JoinHandle::is_finished) {
            let inbox = Arc::clone(&self.inbox);
            *look = Some(tokio::spawn(async move { inbox.look().await }));
        }
    }

    fn has_looked(&self) -> bool {
        self.look.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(JoinHandle::is_finished)
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

    /// Replays one partition until there is nothing ready, or something is wrong: then it is ill, and begins with one row
    /// the next time, so that dead partitions do not fill the producer's queue. Also says how long it rests then.
    async fn lane(&self, lane: &TopicPartition, ill: bool, mut term: Term) -> (bool, Duration) {
        let mut pace = Pace { ill, moving: None };
        while !term.is_over() {
            let started = Instant::now();
            if self.inbox.is_shared() && !self.sink.is_in_sight() {
                // Another gate's broker may be well. The catalog, which is asked for each second, says when ours is.
                self.inbox.let_go(lane).await;
                return (pace.ill, self.inbox.rest());
            }
            let claimed = self.inbox.claim(lane).await;
            let (round, beside_live) = if claimed { self.round(lane, &mut pace, &mut term).await } else { (Round::Quiet, false) };
            match round {
                Round::Moved => {
                    pace.ill = false;
                    self.float(&lane.0);
                    let rest = if beside_live { started.elapsed() } else { Duration::ZERO };
                    term.rest(rest).await;
                }
                Round::Quiet => return (pace.ill, self.inbox.rest()),
                Round::Rest => return (true, REST),
            }
        }
        (pace.ill, Duration::ZERO)
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
    async fn round(&self, lane: &TopicPartition, pace: &mut Pace, term: &mut Term) -> (Round, bool) {
        if self.is_homeless(lane) {
            return (self.assign(lane, term).await, false);
        }
        let beside_live = self.is_beside_live();
        let window = match (pace.ill, beside_live) {
            (true, _) => 1,
            (false, true) => WINDOW_BESIDE_LIVE,
            (false, false) => WINDOW,
        };
        let whole = window == 1 || pace.moving.take().is_some_and(|leg| leg.state() == State::Closed);
        let mut rows = self.read(lane, if whole { window } else { 1 }, term).await;
        let Some(head) = rows.first().filter(|row| self.is_ready(row)) else { return (Round::Quiet, false) };
        let Some(content) = &head.content else {
            tracing::error!(topic = %lane.0, name = %head.place.name, "a row of the inbox cannot be read: it is set aside");
            self.inbox.refused(head, Some("unreadable")).await;
            return (Round::Rest, false);
        };
        let Some((breaker, probe)) = self.leg(content) else { return (Round::Quiet, false) };
        if breaker.state() != State::Closed {
            // One probe at a time, and a pause behind each.
            let Ok(_turn) = probe.try_lock() else { return (Round::Quiet, beside_live) };
            rows.truncate(1);
            let round = self.send(lane, rows, term).await;
            if matches!(round, Round::Rest) {
                term.rest(PROBE_EVERY).await;
            }
            return (round, beside_live);
        }
        if !whole {
            rows = self.read(lane, window, term).await;
        }
        pace.moving = rows.iter().all(|row| self.is_ready(row)).then(|| Arc::clone(breaker));
        (self.send(lane, rows, term).await, beside_live)
    }

    /// The next rows, at most so many; none when the term ends first.
    async fn read(&self, lane: &TopicPartition, window: usize, term: &mut Term) -> Vec<Row> {
        let mut rows = term.before_the_end(self.inbox.rows(lane, window)).await.unwrap_or_default();
        rows.truncate(window);
        rows
    }

    /// Whether requests use the broker now, by whichever leg.
    fn is_beside_live(&self) -> bool {
        let now = Instant::now();
        let raw = self.sink.raw().is_some_and(|raw| raw.breaker().is_in_use(now));
        raw || self.sink.breaker().is_in_use(now)
    }

    /// By which leg a row goes: its breaker, and the turn of its probe.
    fn leg(&self, content: &Content) -> Option<(&Arc<Breaker>, &tokio::sync::Mutex<()>)> {
        match content {
            Content::Event(_) => Some((self.sink.breaker(), &self.event_probe)),
            Content::Records(_) => Some((self.sink.raw()?.breaker(), &self.records_probe)),
        }
    }

    /// Stored before any catalog was seen, or for a partition that the topic, made anew, has no more.
    fn is_homeless(&self, lane: &TopicPartition) -> bool {
        lane.1 == UNASSIGNED || matches!(self.sink.catalog().peek(&lane.0), Lookup::Known(facts) if lane.1 >= facts.partitions)
    }

    /// Gives homeless rows their partitions.
    async fn assign(&self, lane: &TopicPartition, term: &mut Term) -> Round {
        let Lookup::Known(facts) = self.sink.catalog().peek(&lane.0) else { return Round::Quiet };
        let rows = self.read(lane, WINDOW, term).await;
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
