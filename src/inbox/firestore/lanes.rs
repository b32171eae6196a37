//! Which lanes hold rows, and the rows of a lane.
//!
//! What always holds:
//! - Rows are read in the order of their field `order`, by whoever holds the lane's lease.
//! - A lane is done only when a look has found nothing in it; a look that failed says nothing.
//! - What was delivered and could not be deleted is remembered, and not sent again by this process.
//! - At the first look a lane that holds something is owed one row more than we know of. So what an earlier process has left
//!   is delivered before what comes now, key by key, over a restart too: its gate opens when the lane is seen empty.

mod change;
pub(super) mod query;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::Fault;
use super::lease::Leases;
use super::{Firestore, ReplayWhen, fs, order, proto};
use crate::drain::{Phase, Signal};
use crate::gate::TopicPartition;
use crate::inbox::not_before_ms;
use crate::inbox::row::Row;
use crate::route::DocumentName;

use query::Range;

/// At most so many rows are read at once, and about so many bytes.
const MAX_ROWS: usize = 300;
const MAX_BYTES: usize = 4 << 20;

/// At most so many lanes of a collection are found by one look; the next one begins again.
const MAX_LANES: usize = 10_000;

/// Between two looks for lanes, two looks past those that are another's, and two counts of what is set aside.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_PAST_EVERY: Duration = Duration::from_secs(1);
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// An arrival so far ahead of our clock is nobody's.
const MAX_AHEAD_US: u64 = 86_400_000_000;

/// What is known of the lanes.
#[derive(Debug)]
pub struct Lanes {
    pub(super) leases: Leases,
    /// The lanes that held rows at the last look, and in which collections.
    found: Mutex<HashMap<TopicPartition, Vec<String>>>,
    /// Delivered, and not deleted.
    left_over: Mutex<HashMap<DocumentName, TopicPartition>>,
    /// Whether a look has succeeded.
    looked: watch::Sender<bool>,
    /// What a row took of late.
    row_bytes: AtomicUsize,
    aside: AtomicU64,
}

impl Lanes {
    /// Nothing is known yet.
    pub fn new(leases: Leases) -> Self {
        Self {
            leases,
            found: Mutex::default(),
            left_over: Mutex::default(),
            looked: watch::Sender::new(false),
            row_bytes: AtomicUsize::new(MAX_BYTES / MAX_ROWS),
            aside: AtomicU64::new(0),
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

    fn left_over(&self) -> MutexGuard<'_, HashMap<DocumentName, TopicPartition>> {
        // Nothing panics under this lock.
        self.left_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rows fit into one answer, as far as the last ones show.
    fn window(&self, limit: usize) -> usize {
        let fit = MAX_BYTES / self.row_bytes.load(Ordering::Relaxed).max(1);
        limit.min(fit.clamp(1, MAX_ROWS))
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
    /// The lanes that hold rows, as far as it is known, and that may be ours to replay.
    pub(in crate::inbox) fn lanes(&self) -> Vec<TopicPartition> {
        let mut lanes = self.known();
        lanes.retain(|lane| !self.shared.lanes.leases.is_elsewhere(lane));
        lanes
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

    /// Looks for lanes that hold rows, whoever has stored them, and past those that are another's to replay.
    pub(in crate::inbox) async fn look(&self) {
        match self.scan().await {
            Ok(found) => self.looked(found).await,
            Err(fault) => tracing::debug!(%fault, "Firestore could not be looked through for rows; later"),
        }
        self.look_past().await;
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

    /// The next rows of a lane. None: there are none, or it is not known now.
    pub(in crate::inbox) async fn rows(&self, lane: &TopicPartition, limit: usize) -> Vec<Row> {
        let shared = &self.shared;
        let left_over = self.delete_left_over(lane).await;
        let mark = shared.books.mark(lane);
        let documents = match self.read(lane, shared.lanes.window(limit).saturating_add(left_over)).await {
            Ok(documents) => documents,
            Err(fault) => {
                tracing::debug!(topic = %lane.0, partition = lane.1, %fault, "rows could not be read; later");
                return Vec::new();
            }
        };
        if documents.is_empty() {
            shared.books.seen_empty(lane, mark);
            shared.lanes.found().remove(lane);
            shared.lanes.leases.release(lane).await;
            return Vec::new();
        }
        shared.lanes.weighed(&documents);
        let (rows, misfits) = self.understood(documents);
        if !misfits.is_empty() {
            self.set_misfits_aside(misfits).await;
        }
        let young = self.young();
        let left_over = shared.lanes.left_over();
        let rows = rows.into_iter().take_while(|row| row.place.ours || row.at_ms <= young);
        rows.filter(|row| !left_over.contains_key(&row.place.name)).collect()
    }

    /// What others have stored since then they may still be reading back: were it gone by then, they would take it for lost.
    fn young(&self) -> i64 {
        let config = &self.shared.config;
        let reading = config.call_timeout.get() * 2 + Duration::from_secs(1);
        let reading = if config.audit_one_in == 0 { Duration::ZERO } else { reading };
        not_before_ms(Duration::ZERO).saturating_sub(i64::try_from(reading.as_millis()).unwrap_or(i64::MAX))
    }

    /// Looks for rows, keeps leases and counts, until the drain's last phase.
    pub(in crate::inbox) async fn watch(&self, mut signal: Signal) {
        let (mut look, mut count) = (Instant::now(), Instant::now());
        while signal.phase() < Phase::Storing {
            let now = Instant::now();
            // Where nothing replays in the background, a request's own look comes first; but the gates want to know.
            let wanted = self.shared.config.replay == ReplayWhen::Background || !*self.shared.lanes.looked.borrow();
            if now >= look && wanted {
                self.look().await;
                let looked = *self.shared.lanes.looked.borrow();
                look = Instant::now() + if looked { LOOK_EVERY } else { LOOK_PAST_EVERY };
            } else {
                self.look_past().await;
            }
            if now >= count {
                self.count_aside().await;
                count = Instant::now() + COUNT_EVERY;
            }
            self.shared.lanes.leases.keep().await;
            tokio::select! {
                () = signal.reached(Phase::Storing) => {}
                () = tokio::time::sleep(LOOK_PAST_EVERY) => {}
            }
        }
    }

    /// Waits until a first look has closed the gates of what waits already.
    pub(in crate::inbox) async fn has_looked(&self) {
        // It never fails: the sender is ours.
        let _ = self.shared.lanes.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Lets others have what we would have replayed; for the drain.
    pub(in crate::inbox) async fn leave(&self) {
        self.shared.lanes.leases.release_all().await;
    }

    /// Jumps from lane to lane: the first row behind a place, then behind that row's lane.
    async fn scan(&self) -> Result<HashMap<TopicPartition, Vec<String>>, Fault> {
        let mut found: HashMap<TopicPartition, Vec<String>> = HashMap::new();
        for collection in self.shared.collections.all() {
            let mut from = order::FIRST.to_owned();
            for _ in 0..MAX_LANES {
                let range = Range { collection, from: &from, to: order::LAST };
                let first = self.shared.client.query(query::only(range.first(1), &["order"])).await?;
                let Some(first) = first.into_iter().next() else { break };
                let text = proto::text_of(&first.fields, "order").unwrap_or_default();
                match order::parse(text) {
                    Some((lane, _)) => {
                        from = order::range(&lane).1;
                        found.entry(lane).or_default().push(collection.to_owned());
                    }
                    // Nobody's order: the next one is behind it.
                    None => from = format!("{text}\0"),
                }
            }
        }
        Ok(found)
    }

    async fn looked(&self, found: HashMap<TopicPartition, Vec<String>>) {
        let lanes: Vec<TopicPartition> = found.keys().cloned().collect();
        *self.shared.lanes.found() = found;
        if *self.shared.lanes.looked.borrow() {
            return;
        }
        for lane in &lanes {
            let last = self.last(lane).await;
            self.shared.books.found(lane, last);
            if last < now_us().saturating_add(MAX_AHEAD_US) {
                self.shared.books.begin_at(last);
            }
        }
        if !lanes.is_empty() {
            tracing::info!(lanes = lanes.len(), "Firestore holds rows of an earlier time: they go before what comes now");
        }
        self.shared.lanes.looked.send_replace(true);
    }

    /// The last arrival in a lane; now, where that cannot be told.
    async fn last(&self, lane: &TopicPartition) -> u64 {
        let (from, to) = order::range(lane);
        let mut last = None;
        for collection in self.homes(lane) {
            let range = Range { collection: &collection, from: &from, to: &to };
            let document = self.shared.client.query(query::only(range.last(), &["order"])).await.unwrap_or_default().into_iter().next();
            let parsed = document.and_then(|document| order::parse(proto::text_of(&document.fields, "order")?));
            last = last.max(parsed.map(|(_, arrival)| arrival));
        }
        last.unwrap_or_else(now_us)
    }

    /// Whether what we have stored in lanes that are another's to replay is gone: then their gates open here.
    async fn look_past(&self) {
        let leases = &self.shared.lanes.leases;
        let by_request = self.shared.config.replay == ReplayWhen::Request;
        for lane in self.shared.books.owed() {
            // Those that may be ours are looked at when they are replayed.
            let skipped = leases.holds(&lane) || !(by_request || leases.is_elsewhere(&lane));
            let Some(last) = self.shared.books.last(&lane).filter(|_| !skipped) else { continue };
            let mark = self.shared.books.mark(&lane);
            if self.is_empty_up_to(&lane, last).await {
                self.shared.books.seen_empty(&lane, mark);
            }
        }
    }

    async fn is_empty_up_to(&self, lane: &TopicPartition, arrival: u64) -> bool {
        let (from, to) = order::range_up_to(lane, arrival);
        for collection in self.homes(lane) {
            let range = Range { collection: &collection, from: &from, to: &to };
            match self.shared.client.query(query::only(range.first(1), &["order"])).await {
                Ok(found) if found.is_empty() => {}
                _ => return false,
            }
        }
        true
    }

    /// A lane's first documents, from wherever it has some: a route's collection may have had another name.
    async fn read(&self, lane: &TopicPartition, limit: usize) -> Result<Vec<fs::Document>, Fault> {
        let (from, to) = order::range(lane);
        let (homes, mut documents) = (self.homes(lane), Vec::new());
        for collection in &homes {
            let range = Range { collection, from: &from, to: &to };
            documents.extend(self.shared.client.query(range.first(limit)).await?);
        }
        if homes.len() > 1 {
            // What one answer has left out could come before what the other has.
            documents.sort_by(|one, other| proto::text_of(&one.fields, "order").cmp(&proto::text_of(&other.fields, "order")));
            documents.truncate(1);
        }
        Ok(documents)
    }

    /// Rows, and the names of documents that stand among them and are none.
    fn understood(&self, documents: Vec<fs::Document>) -> (Vec<Row>, Vec<fs::Document>) {
        let (mut rows, mut misfits) = (Vec::with_capacity(documents.len()), Vec::new());
        for document in documents {
            match proto::row(&document, &self.shared.instance) {
                Some(row) => rows.push(row),
                None => misfits.push(document),
            }
        }
        (rows, misfits)
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

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
