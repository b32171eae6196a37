//! Looks: which lanes hold rows, and how much of what we are owed there is gone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::super::books::Mark;
use super::super::client::Fault;
use super::super::{Firestore, ReplayWhen, order, proto};
use super::arrival_of;
use super::query::{self, Range};
use crate::drain::{Phase, Signal};
use crate::event::Topic;
use crate::gate::{NEARLY_OPEN, TopicPartition, UNASSIGNED};

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

/// An arrival so far ahead of our clock is nobody's.
const MAX_AHEAD_US: u64 = 86_400_000_000;

impl Firestore {
    /// Looks for lanes that hold rows, whoever has stored them, and past those that are another's to replay.
    pub(in crate::inbox) async fn look(&self) {
        match self.scan().await {
            Ok(found) => self.looked(found).await,
            // What waits there is not found meanwhile.
            Err(fault) if self.shared.lanes.cannot_look.may_say() => {
                tracing::warn!(%fault, "Firestore cannot be looked through for rows: what waits in it is not found (said once a minute)");
            }
            Err(fault) => tracing::debug!(%fault, "Firestore could not be looked through for rows; later"),
        }
        self.look_past(self.shared.books.owed()).await;
    }

    /// Looks for rows, keeps leases and counts, until the drain's last phase. A look may take longer than a lease.
    pub(in crate::inbox) async fn watch(&self, signal: Signal) {
        tokio::join!(self.watch_lanes(signal.clone()), self.keep_leases(signal));
    }

    async fn keep_leases(&self, mut signal: Signal) {
        while signal.phase() < Phase::Storing {
            self.shared.lanes.leases.keep().await;
            self.shared.lanes.leases.release_idle(self.shared.lanes.no_longer_near()).await;
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
            let first = self.shared.client.look(query::only(range.first(1), &["order"])).await?;
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
        if *self.shared.lanes.looked.borrow() {
            return self.replace(found);
        }
        // Nobody replays, and nothing is paid, before it is known how far what is there reaches.
        self.shared.lanes.measuring.store(true, Ordering::Release);
        self.replace(found);
        self.close_gates(lanes).await;
        self.shared.lanes.measuring.store(false, Ordering::Release);
        self.shared.lanes.looked.send_replace(true);
    }

    /// What was found is what there is; but a lane that is owed rows may have got some since where the look had been already.
    fn replace(&self, found: HashMap<TopicPartition, Vec<String>>) {
        let before = std::mem::replace(&mut *self.shared.lanes.found(), found);
        for (lane, homes) in before.into_iter().filter(|(lane, _)| self.shared.books.owed_to(lane) > 0) {
            self.shared.lanes.add_homes(&lane, &homes);
        }
    }

    /// Closes the gates of what an earlier process has left: all of them before anything else is asked, so that what comes now
    /// does not go before them.
    async fn close_gates(&self, lanes: Vec<TopicPartition>) {
        let now = now_us();
        for lane in &lanes {
            self.shared.books.found(lane, now);
        }
        if !lanes.is_empty() {
            tracing::info!(lanes = lanes.len(), "Firestore holds rows of an earlier time: they go before what comes now");
        }
        let ends = stream::iter(lanes).map(|lane| async move { (self.last(&lane).await, lane) }).buffer_unordered(ENDS_AT_ONCE);
        for (last, lane) in ends.collect::<Vec<_>>().await {
            if last > now {
                // Of a clock that was ahead of ours.
                self.shared.books.found(&lane, last);
            }
            if last < now_us().saturating_add(MAX_AHEAD_US) {
                self.shared.books.begin_at(last);
            }
        }
    }

    /// The last arrival in a lane; now, where that cannot be told.
    async fn last(&self, lane: &TopicPartition) -> u64 {
        let (from, to) = order::range(lane);
        let mut last = None;
        for collection in self.homes(lane) {
            let range = Range { collection: &collection, from: &from, to: &to };
            let document = self.shared.client.look(query::only(range.last(), &["order"])).await.unwrap_or_default().into_iter().next();
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
            if self.shared.lanes.is_measuring() || self.shared.lanes.leases.holds(&lane) || self.shared.books.last(&lane).is_none() {
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
            if let Some(found) = self.shared.client.look(query::only(range.first(1), &["order"])).await?.first() {
                let arrival = arrival_of(found).unwrap_or(0);
                first = Some(first.map_or(arrival, |first| first.min(arrival)));
            }
        }
        Ok(first)
    }

    /// Pays for what a look has shown to be gone; gives the number of rows.
    pub(super) async fn seen(&self, lane: &TopicPartition, mark: Mark, first: Option<u64>) -> u64 {
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
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
