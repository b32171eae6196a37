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
pub(super) mod query;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::Fault;
use super::lease::Leases;
use super::books::Mark;
use super::{Firestore, ReplayWhen, Shared, fs, order, proto};
use crate::drain::{Phase, Signal};
use crate::event::Topic;
use crate::gate::{TopicPartition, UNASSIGNED};
use crate::inbox::not_before_ms;
use crate::inbox::row::Row;
use crate::route::DocumentName;

use query::Range;

/// At most so many rows are read at once, and about so many bytes.
const MAX_ROWS: usize = 300;
const MAX_BYTES: usize = 4 << 20;

/// Where so many do not come in time, at least so many are asked for.
const MIN_BYTES: usize = 64 << 10;

/// At most so many lanes of a collection are found by one look; the next one begins again.
const MAX_LANES: usize = 10_000;

/// Between two looks for lanes, two looks past those that are another's, and two counts of what is set aside.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_PAST_EVERY: Duration = Duration::from_secs(1);
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// While a gate is about to open, events wait for it; so the looks past its lane come quicker.
const LOOK_QUICKLY_EVERY: Duration = Duration::from_millis(100);

/// Of the looks past a lane that is nobody's yet one in so many is made: as a rule it is about to be ours.
const PATIENT_LOOKS: u32 = 5;

/// Leases are kept at this pace.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// At the start, so many lanes are asked for their ends at the same time.
const ENDS_AT_ONCE: usize = 16;

/// What a gate may owe and is still waited for.
const NEARLY_OPEN: u64 = 1_000;

/// So long rows of others make us look into their lane each second.
const STAYS_NEAR: Duration = Duration::from_secs(30);

/// Who has stored a row so short a time ago lives.
const ALIVE: Duration = Duration::from_secs(5);

/// For so long a lane is left to others, and so often.
const HANDED_OVER_FOR: Duration = Duration::from_secs(3);
const HAND_OVER_EVERY: Duration = Duration::from_secs(30);

/// An arrival so far ahead of our clock is nobody's.
const MAX_AHEAD_US: u64 = 86_400_000_000;

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
    /// Whether a look has succeeded.
    looked: watch::Sender<bool>,
    /// What a row took of late.
    row_bytes: AtomicUsize,
    /// How much an answer may hold, as far as the last ones came in time.
    fit: AtomicUsize,
    aside: AtomicU64,
    /// Whether the last look for lanes, and the last look into one, has failed.
    cannot_look: AtomicBool,
    cannot_read: AtomicBool,
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
            looked: watch::Sender::new(false),
            row_bytes: AtomicUsize::new(MAX_BYTES / MAX_ROWS),
            fit: AtomicUsize::new(MAX_BYTES),
            aside: AtomicU64::new(0),
            cannot_look: AtomicBool::new(false),
            cannot_read: AtomicBool::new(false),
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
        let mut lanes = self.known();
        let now = Instant::now();
        self.shared.lanes.near().retain(|_, until| *until > now);
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
        self.known().iter().all(|lane| self.shared.lanes.leases.is_elsewhere(lane))
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

    /// Whether a lane is still ours.
    pub(in crate::inbox) fn holds(&self, lane: &TopicPartition) -> bool {
        self.shared.lanes.leases.holds(lane)
    }

    /// Looks for lanes that hold rows, whoever has stored them, and past those that are another's to replay.
    pub(in crate::inbox) async fn look(&self) {
        match self.scan().await {
            Ok(found) => {
                self.shared.lanes.cannot_look.store(false, Ordering::Relaxed);
                self.looked(found).await;
            }
            // Once, until it can be again: what waits there is not found meanwhile.
            Err(fault) if !self.shared.lanes.cannot_look.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%fault, "Firestore cannot be looked through for rows: what waits in it is not found; again and again");
            }
            Err(fault) => tracing::debug!(%fault, "Firestore could not be looked through for rows; later"),
        }
        self.look_past(self.shared.books.owed()).await;
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
        let window = shared.lanes.window(limit).saturating_add(left_over);
        let documents = match self.read(lane, window).await {
            Ok(documents) => documents,
            Err(fault) => {
                self.could_not_read(lane, window, &fault);
                return Vec::new();
            }
        };
        shared.lanes.cannot_read.store(false, Ordering::Relaxed);
        if documents.len() > 1 {
            shared.lanes.came(true);
        }
        let first = documents.first().map(|first| arrival_of(first).unwrap_or(0));
        self.seen(lane, mark, first).await;
        if documents.is_empty() {
            shared.lanes.found().remove(lane);
            if !shared.lanes.near().contains_key(lane) {
                shared.lanes.leases.release(lane).await;
            }
            return Vec::new();
        }
        if self.hands_over(lane, &documents) {
            shared.lanes.leases.hand_over(lane, HANDED_OVER_FOR).await;
            return Vec::new();
        }
        shared.lanes.weighed(&documents);
        let (rows, misfits) = self.understood(self.read_back_already(documents));
        if !misfits.is_empty() {
            self.set_misfits_aside(misfits).await;
        }
        let left_over = shared.lanes.left_over();
        rows.into_iter().filter(|row| !left_over.contains_key(&row.place.name)).collect()
    }

    /// Whether a lane is better left to another instance: we owe it nothing, and the other one has stored there a moment ago, so
    /// it lives. If it does not take it, it is ours again soon, and for longer.
    fn hands_over(&self, lane: &TopicPartition, documents: &[fs::Document]) -> bool {
        let (lanes, instance) = (&self.shared.lanes, &self.shared.instance);
        if self.shared.config.replay == ReplayWhen::Request || documents.iter().all(|document| proto::is_of(document, instance)) {
            return false;
        }
        let now = Instant::now();
        lanes.near().insert(lane.clone(), now + STAYS_NEAR);
        let since = ms_ago(ALIVE);
        let lives = |document: &fs::Document| {
            !proto::is_of(document, instance) && proto::created_ms(document).is_some_and(|created| created > since)
        };
        self.shared.books.owed_to(lane) == 0 && documents.iter().any(lives) && lanes.may_hand_over(lane)
    }

    /// Those before the first one that another instance may still be reading back: were that gone by then, it would be taken
    /// for lost.
    fn read_back_already(&self, mut documents: Vec<fs::Document>) -> Vec<fs::Document> {
        let since = ms_ago(self.shared.config.call_timeout.get() * 2 + Duration::from_secs(1));
        let is_read = |document: &fs::Document| {
            let elsewhere = proto::is_audited(document) && !proto::is_of(document, &self.shared.instance);
            elsewhere && proto::created_ms(document).is_some_and(|created| created > since)
        };
        let ready = documents.iter().position(is_read).unwrap_or(documents.len());
        documents.truncate(ready);
        documents
    }

    fn could_not_read(&self, lane: &TopicPartition, window: usize, fault: &Fault) {
        if window > 1 && matches!(fault, Fault::Slow) {
            self.shared.lanes.came(false);
        }
        if self.shared.lanes.cannot_read.swap(true, Ordering::Relaxed) {
            tracing::debug!(topic = %lane.0, partition = lane.1, %fault, "rows could not be read; later");
        } else {
            tracing::warn!(topic = %lane.0, partition = lane.1, %fault, "rows cannot be read from Firestore: they wait; again and again");
        }
    }

    /// Looks for rows, keeps leases and counts, until the drain's last phase. A look may take longer than a lease.
    pub(in crate::inbox) async fn watch(&self, signal: Signal) {
        tokio::join!(self.watch_lanes(signal.clone()), self.keep_leases(signal));
    }

    async fn keep_leases(&self, mut signal: Signal) {
        while signal.phase() < Phase::Storing {
            self.shared.lanes.leases.keep().await;
            tokio::select! {
                () = signal.reached(Phase::Storing) => {}
                () = tokio::time::sleep(KEEP_EVERY) => {}
            }
        }
    }

    async fn watch_lanes(&self, mut signal: Signal) {
        let (mut look, mut past, mut count, mut turn) = (Instant::now(), Instant::now(), Instant::now(), 0_u32);
        // Whose gates are about to open.
        let mut opening = Vec::new();
        while signal.phase() < Phase::Storing {
            let now = Instant::now();
            // Where nothing replays in the background, a request's own look comes first; but the gates want to know.
            let wanted = self.shared.config.replay == ReplayWhen::Background || !*self.shared.lanes.looked.borrow();
            if now >= look && wanted {
                self.look().await;
                let looked = *self.shared.lanes.looked.borrow();
                look = Instant::now() + if looked { LOOK_EVERY } else { LOOK_PAST_EVERY };
            } else if now >= past {
                turn = turn.wrapping_add(1);
                opening = self.look_past(self.owed_elsewhere(turn)).await;
                past = Instant::now() + LOOK_PAST_EVERY;
            } else {
                self.look_past(opening.clone()).await;
            }
            if now >= count {
                self.count_aside().await;
                count = Instant::now() + COUNT_EVERY;
            }
            let rest = if opening.is_empty() { LOOK_PAST_EVERY } else { LOOK_QUICKLY_EVERY };
            tokio::select! {
                () = signal.reached(Phase::Storing) => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// The lanes that are owed rows, and that it is time to look past.
    fn owed_elsewhere(&self, turn: u32) -> Vec<TopicPartition> {
        let by_request = self.shared.config.replay == ReplayWhen::Request;
        let mut owed = self.shared.books.owed();
        // That one is another's is known for a moment only, and not while nobody here has time to ask for it.
        owed.retain(|lane| by_request || turn.is_multiple_of(PATIENT_LOOKS) || self.shared.lanes.leases.is_elsewhere(lane));
        owed
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

    /// The lanes that hold rows, and in which collections.
    async fn scan(&self) -> Result<HashMap<TopicPartition, Vec<String>>, Fault> {
        let mut found: HashMap<TopicPartition, Vec<String>> = HashMap::new();
        for collection in self.shared.collections.all() {
            for lane in self.jump(collection, order::FIRST, order::LAST).await? {
                found.entry(lane).or_default().push(collection.to_owned());
            }
        }
        Ok(found)
    }

    /// Jumps from lane to lane: the first row behind a place, then behind that row's lane.
    async fn jump(&self, collection: &str, from: &str, to: &str) -> Result<Vec<TopicPartition>, Fault> {
        let (mut from, mut lanes) = (from.to_owned(), Vec::new());
        for _ in 0..MAX_LANES {
            let range = Range { collection, from: &from, to };
            let first = self.shared.client.query(query::only(range.first(1), &["order"])).await?;
            let Some(first) = first.into_iter().next() else { break };
            let text = proto::text_of(&first.fields, "order").unwrap_or_default();
            // Never back, whatever stands there.
            let behind = format!("{text}\0");
            from = match order::parse(text) {
                Some((lane, _)) => {
                    let end = order::range(&lane).1;
                    lanes.push(lane);
                    end.max(behind)
                }
                // Nobody's order.
                None => behind,
            };
        }
        Ok(lanes)
    }

    async fn looked(&self, found: HashMap<TopicPartition, Vec<String>>) {
        let lanes: Vec<TopicPartition> = found.keys().cloned().collect();
        *self.shared.lanes.found() = found;
        if *self.shared.lanes.looked.borrow() {
            return;
        }
        // All gates are closed before anything else is asked: what comes now does not go before them.
        let now = now_us();
        for lane in &lanes {
            self.shared.books.found(lane, now);
        }
        let ends = stream::iter(lanes.clone()).map(|lane| async move { self.last(&lane).await }).buffer_unordered(ENDS_AT_ONCE);
        let ends: Vec<u64> = ends.collect().await;
        for last in ends.into_iter().filter(|last| *last < now_us().saturating_add(MAX_AHEAD_US)) {
            self.shared.books.begin_at(last);
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

    /// How much of what we have stored in lanes that are another's to replay is gone: when it is all, their gates open here. Gives those
    /// that are about to open.
    async fn look_past(&self, lanes: Vec<TopicPartition>) -> Vec<TopicPartition> {
        let mut opening = Vec::new();
        for lane in lanes {
            // Those that are ours are looked at when they are replayed.
            if self.shared.lanes.leases.holds(&lane) || self.shared.books.last(&lane).is_none() {
                continue;
            }
            let mark = self.shared.books.mark(&lane);
            let Ok(first) = self.first(&lane, mark.last()).await else { continue };
            let paid = self.seen(&lane, mark, first).await;
            if paid > 0 && (1..=NEARLY_OPEN).contains(&self.shared.books.owed_to(&lane)) {
                opening.push(lane);
            }
        }
        opening
    }

    /// The arrival of the first row of a lane that has arrived by then.
    async fn first(&self, lane: &TopicPartition, arrival: u64) -> Result<Option<u64>, Fault> {
        let (from, to) = order::range_up_to(lane, arrival);
        let mut first: Option<u64> = None;
        for collection in self.homes(lane) {
            let range = Range { collection: &collection, from: &from, to: &to };
            if let Some(found) = self.shared.client.query(query::only(range.first(1), &["order"])).await?.first() {
                let arrival = arrival_of(found).unwrap_or(0);
                first = Some(first.map_or(arrival, |first| first.min(arrival)));
            }
        }
        Ok(first)
    }

    /// Pays for what a look has shown to be gone; gives the number of rows.
    async fn seen(&self, lane: &TopicPartition, mark: Mark, first: Option<u64>) -> u64 {
        if lane.1 != UNASSIGNED || self.shared.books.last(lane).is_none() {
            return self.shared.books.seen(lane, mark, first);
        }
        // Such rows are not gone, but have found their partitions, it may be by another's hand: those are waited for first.
        let is_gone = first.is_none_or(|first| first > mark.last());
        if is_gone && self.follow(&lane.0, mark).await.is_ok() { self.shared.books.seen(lane, mark, None) } else { 0 }
    }

    /// Waits for whatever rows a topic has.
    async fn follow(&self, topic: &Topic, mark: Mark) -> Result<(), Fault> {
        let (from, to) = order::range_of_topic(topic);
        let mut lanes = HashSet::new();
        for collection in self.shared.collections.all() {
            for lane in self.jump(collection, &from, &to).await? {
                self.shared.lanes.add_homes(&lane, &[collection.to_owned()]);
                lanes.insert(lane);
            }
        }
        for lane in lanes.iter().filter(|lane| lane.1 != UNASSIGNED) {
            self.shared.books.found(lane, mark.last());
        }
        Ok(())
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
                // When it was stored says Firestore, not the clock of who stored it.
                Some(row) => rows.push(Row { at_ms: proto::created_ms(&document).unwrap_or(row.at_ms), ..row }),
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

fn arrival_of(document: &fs::Document) -> Option<u64> {
    order::parse(proto::text_of(&document.fields, "order")?).map(|(_, arrival)| arrival)
}

fn ms_ago(past: Duration) -> i64 {
    not_before_ms(Duration::ZERO).saturating_sub(i64::try_from(past.as_millis()).unwrap_or(i64::MAX))
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
