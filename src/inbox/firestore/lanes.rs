//! Which lanes hold rows, and the rows of a lane.
//!
//! What always holds:
//! - Rows are read in the order of their field `order`, by whoever holds the lane's lease.
//! - A lane is done only when a look has found nothing in it; a look that failed says nothing.
//! - A lane is left to whoever stores to it while we owe it nothing: who replays its own rows sees its gate open under a load that
//!   makes no pause. Who finds rows of others stays near for a while, because more of them come.
//! - What was delivered and could not be deleted is remembered, and not sent again by this process.
//! - At the first look a lane that holds something is owed one row more than we know of. So what an earlier process has left
//!   is delivered before what comes now, key by key, over a restart too: its gate opens when the lane is seen empty.

mod change;
mod look;
pub(super) mod query;
mod rows;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::Fault;
use super::lease::Leases;
use super::{Firestore, Shared, fs, order, proto};
use crate::gate::TopicPartition;
use crate::route::DocumentName;

use query::Range;

/// At most so many rows are read at once, and about so many bytes.
const MAX_ROWS: usize = 300;
const MAX_BYTES: usize = 4 << 20;

/// Where so many do not come in time, at least so many are asked for.
const MIN_BYTES: usize = 64 << 10;

/// Between two loud lines about the same thing.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// A lane is handed over at most so often.
const HAND_OVER_EVERY: Duration = Duration::from_secs(30);

/// What is known of the lanes.
#[derive(Debug)]
pub struct Lanes {
    pub(super) leases: Leases,
    /// The lanes that held rows at the last look, and in which collections.
    found: Mutex<HashMap<TopicPartition, Vec<String>>>,
    /// Lanes in which rows of others were found of late, and until when they are looked into although nothing is known to be there.
    near: Mutex<HashMap<TopicPartition, Instant>>,
    /// When lanes were handed over.
    handed_over: Mutex<HashMap<TopicPartition, Instant>>,
    /// Delivered, and not deleted.
    left_over: Mutex<HashMap<DocumentName, TopicPartition>>,
    /// The first look is under way, and it is not known yet how far what is there reaches.
    measuring: AtomicBool,
    /// Whether a look has succeeded.
    looked: watch::Sender<bool>,
    /// What a row took of late.
    row_bytes: AtomicUsize,
    /// How much an answer may hold, as far as the last ones came in time.
    fit: AtomicUsize,
    aside: AtomicU64,
    /// That lanes cannot be looked for, or into.
    cannot_look: Seldom,
    cannot_read: Seldom,
}

/// Something that is said aloud once a minute.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn may_say(&self) -> bool {
        let (now, mut said) = (Instant::now(), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let may = said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY);
        if may {
            *said = Some(now);
        }
        may
    }
}

/// A lane that is in hand.
#[derive(Debug)]
pub(in crate::inbox) struct Hand {
    shared: Arc<Shared>,
    lane: TopicPartition,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.shared.lanes.leases.hand(&self.lane, false);
    }
}

impl Lanes {
    /// Nothing is known yet.
    pub fn new(leases: Leases) -> Self {
        Self {
            leases,
            found: Mutex::default(),
            near: Mutex::default(),
            handed_over: Mutex::default(),
            left_over: Mutex::default(),
            measuring: AtomicBool::new(false),
            looked: watch::Sender::new(false),
            row_bytes: AtomicUsize::new(MAX_BYTES / MAX_ROWS),
            fit: AtomicUsize::new(MAX_BYTES),
            aside: AtomicU64::new(0),
            cannot_look: Seldom::default(),
            cannot_read: Seldom::default(),
        }
    }

    /// Rows that were set aside when they were counted last.
    pub fn aside(&self) -> u64 {
        self.aside.load(Ordering::Relaxed)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<TopicPartition, Vec<String>>> {
        // Nothing panics under this lock.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lanes that have been near for long enough, which they are no more. One that is in hand stays until it is not: its lease
    /// is given back then.
    fn no_longer_near(&self) -> Vec<TopicPartition> {
        let now = Instant::now();
        self.near().extract_if(|lane, until| *until <= now && !self.leases.is_in_hand(lane)).map(|(lane, _)| lane).collect()
    }

    fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Acquire)
    }

    fn near(&self) -> MutexGuard<'_, HashMap<TopicPartition, Instant>> {
        // Nothing panics under this lock.
        self.near.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a lane may be handed over again; if so, it is.
    fn may_hand_over(&self, lane: &TopicPartition) -> bool {
        let now = Instant::now();
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        handed_over.retain(|_, at| now.duration_since(*at) < HAND_OVER_EVERY);
        let may = !handed_over.contains_key(lane);
        if may {
            handed_over.insert(lane.clone(), now);
        }
        may
    }

    fn left_over(&self) -> MutexGuard<'_, HashMap<DocumentName, TopicPartition>> {
        // Nothing panics under this lock.
        self.left_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rows fit into one answer, as far as the last ones show.
    fn window(&self, limit: usize) -> usize {
        let fit = self.fit.load(Ordering::Relaxed) / self.row_bytes.load(Ordering::Relaxed).max(1);
        limit.min(fit.clamp(1, MAX_ROWS))
    }

    /// An answer of more than one row has come, or has not come in time: on a slow link the next one is asked for less.
    fn came(&self, in_time: bool) {
        let fit = self.fit.load(Ordering::Relaxed);
        let next = if in_time { fit + fit / 8 } else { fit / 2 };
        self.fit.store(next.clamp(MIN_BYTES, MAX_BYTES), Ordering::Relaxed);
    }

    /// A lane has rows in these collections too.
    fn add_homes(&self, lane: &TopicPartition, homes: &[String]) {
        let mut found = self.found();
        let known = found.entry(lane.clone()).or_default();
        for home in homes {
            if !known.contains(home) {
                known.push(home.clone());
            }
        }
    }

    fn weighed(&self, documents: &[fs::Document]) {
        if let Some(bytes) = documents.iter().map(Message::encoded_len).sum::<usize>().checked_div(documents.len()) {
            // The mean of many weighs more than that of one.
            let known = self.row_bytes.load(Ordering::Relaxed);
            let mean = if documents.len() > 10 { bytes } else { (known * 3 + bytes) / 4 };
            self.row_bytes.store(mean, Ordering::Relaxed);
        }
    }
}

impl Firestore {
    /// The lanes that hold rows, as far as it is known, or will again soon, and that may be ours to replay.
    pub(in crate::inbox) fn lanes(&self) -> Vec<TopicPartition> {
        if self.shared.lanes.is_measuring() {
            return Vec::new();
        }
        let mut lanes = self.known();
        lanes.extend(self.shared.lanes.near().keys().cloned());
        lanes.sort_unstable();
        lanes.dedup();
        lanes.retain(|lane| !self.shared.lanes.leases.is_elsewhere(lane));
        lanes
    }

    /// All lanes that are known to hold rows, whoever replays them.
    pub(in crate::inbox) fn all_lanes(&self) -> Vec<TopicPartition> {
        self.known()
    }

    /// Whether no lane is known to hold rows that may be ours to replay.
    pub(in crate::inbox) fn is_done(&self) -> bool {
        !self.shared.lanes.is_measuring() && self.known().iter().all(|lane| self.shared.lanes.leases.is_elsewhere(lane))
    }

    /// Whether a lane that holds rows is another's now.
    pub(in crate::inbox) fn is_in_other_hands(&self) -> bool {
        self.known().iter().any(|lane| self.shared.lanes.leases.is_elsewhere(lane))
    }

    /// Whether the last call has failed.
    pub(in crate::inbox) fn is_away(&self) -> bool {
        self.shared.client.last_error().is_some()
    }

    fn known(&self) -> Vec<TopicPartition> {
        let mut lanes = self.shared.books.owed();
        lanes.extend(self.shared.lanes.found().keys().cloned());
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Whether a lane is ours to replay now. While Firestore takes no writes, none is: what was delivered could not be deleted.
    pub(in crate::inbox) async fn claim(&self, lane: &TopicPartition) -> bool {
        let pacer = &self.shared.pacer;
        pacer.shut().is_none() && pacer.has_day() && self.shared.lanes.leases.claim(&self.leases_of(lane), lane).await
    }

    /// A lane is replayed here while this lives: its lease is renewed.
    pub(in crate::inbox) fn hand(&self, lane: &TopicPartition) -> Hand {
        self.shared.lanes.leases.hand(lane, true);
        Hand { shared: Arc::clone(&self.shared), lane: lane.clone() }
    }

    /// Leaves a lane to others.
    pub(in crate::inbox) async fn let_go(&self, lane: &TopicPartition) {
        self.shared.lanes.leases.release(lane).await;
    }

    /// Whether a lane is still ours.
    pub(in crate::inbox) fn holds(&self, lane: &TopicPartition) -> bool {
        self.shared.lanes.leases.holds(lane)
    }

    /// How many rows wait, whoever has stored them. When that cannot be counted: what we know of, and never none.
    pub(in crate::inbox) async fn left(&self) -> u64 {
        match self.count(query::waiting).await {
            Ok(rows) => rows,
            Err(fault) => {
                tracing::debug!(%fault, "the rows in Firestore could not be counted");
                self.known().len().max(1) as u64
            }
        }
    }

    /// Lets others have what we would have replayed; for the drain.
    pub(in crate::inbox) async fn leave(&self) {
        self.shared.lanes.leases.release_all().await;
    }

    async fn count_aside(&self) {
        if let Ok(rows) = self.count(query::aside).await {
            self.shared.lanes.aside.store(rows, Ordering::Relaxed);
        }
    }

    async fn count(&self, which: impl Fn(&str) -> Range<'_>) -> Result<u64, Fault> {
        let mut rows = 0;
        for collection in self.shared.collections.all() {
            rows += self.shared.client.count(which(collection).all()).await?;
        }
        Ok(rows)
    }

    /// The collections that a lane's rows may be in.
    fn homes(&self, lane: &TopicPartition) -> Vec<String> {
        let mut homes = vec![self.shared.collections.of(&lane.0).to_owned()];
        for found in self.shared.lanes.found().get(lane).into_iter().flatten() {
            if !homes.contains(found) {
                homes.push(found.clone());
            }
        }
        homes
    }

    fn leases_of(&self, lane: &TopicPartition) -> String {
        format!("{}_leases", self.shared.collections.of(&lane.0))
    }
}

fn arrival_of(document: &fs::Document) -> Option<u64> {
    order::parse(proto::text_of(&document.fields, "order")?).map(|(_, arrival)| arrival)
}
