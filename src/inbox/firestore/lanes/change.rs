//! What replay and operators change: rows are deleted, set aside, moved to their partition, brought back.
//!
//! What always holds: a delete is made again until Firestore has said that it is done, or [`PATIENCE`] is over; what is not
//! known to be deleted then is remembered. A change is made only to a document that is there.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::super::client::{Fault, Written};
use super::super::{Firestore, fs, order, proto};
use super::query::{self, Range};
use crate::event::Topic;
use crate::gate::TopicPartition;
use crate::inbox::row::{Place, Row};

/// For so long a change is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// For so long a change of which nothing is lost when it is not made.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries, at first and at most.
const REST: Duration = Duration::from_millis(100);
const MAX_REST: Duration = Duration::from_secs(2);

/// Rows that an operator's command reads at once.
const PAGE: usize = 300;

/// The fields that say whose a row is.
const PLACE: [&str; 2] = ["order", "instance"];

/// What an operator has done to rows.
#[derive(Debug, Clone, Copy)]
enum Work {
    Restore,
    Purge,
}

impl Firestore {
    /// Deletes rows; false when that could not be done for all of them.
    pub(in crate::inbox) async fn remove(&self, rows: Vec<Place>) -> bool {
        let Some(lane) = rows.first().map(|row| row.lane.clone()) else { return true };
        let homes = self.homes(&lane);
        // Whoever reads them back now is not to think that they were never there.
        self.shared.writing.auditor.removed(rows.iter().map(|row| &row.name));
        let writes = |row: &Place| -> Vec<fs::Write> {
            homes.iter().map(|home| proto::delete(self.shared.client.name(home, &row.name.to_string()))).collect()
        };
        let done = self.make(rows.iter().map(writes).collect(), PATIENCE).await;
        let (gone, left): (Vec<_>, Vec<_>) = rows.into_iter().zip(done).partition(|(_, done)| *done);
        self.shared.books.gone(&lane, gone.iter().filter(|(row, _)| row.ours).map(|(row, _)| row.arrival));
        if left.is_empty() {
            return true;
        }
        tracing::warn!(topic = %lane.0, rows = left.len(), "delivered rows could not be deleted yet: another instance may send them again");
        self.shared.lanes.left_over().extend(left.into_iter().map(|(row, _)| (row.name, row.lane)));
        false
    }

    /// Tries once more to delete what was delivered; how many of the lane's are left.
    pub(super) async fn delete_left_over(&self, lane: &TopicPartition) -> usize {
        let names: Vec<_> = {
            let left_over = self.shared.lanes.left_over();
            left_over.iter().filter(|(_, of)| *of == lane).map(|(name, _)| *name).collect()
        };
        if names.is_empty() {
            return 0;
        }
        let homes = self.homes(lane);
        let write = |home: &String, name: &_| proto::delete(self.shared.client.name(home, &format!("{name}")));
        let writes = names.iter().map(|name| homes.iter().map(|home| write(home, name)).collect()).collect();
        let done = self.make(writes, Duration::ZERO).await;
        let mut left_over = self.shared.lanes.left_over();
        names.iter().zip(done).filter(|(_, done)| *done).for_each(|(name, _)| drop(left_over.remove(name)));
        // Ours among them are paid when the lane is seen empty.
        left_over.values().filter(|of| *of == lane).count()
    }

    /// Counts a refusal; `aside`: the last one, and why.
    pub(in crate::inbox) async fn refused(&self, row: &Row, aside: Option<&'static str>) {
        let Place { lane, arrival, name, ours } = &row.place;
        let mut fields = vec![("attempts", proto::integer(i64::from(row.attempts) + 1))];
        if let Some(reason) = aside {
            fields.push(("order", proto::text(order::aside(&order::order(lane, *arrival, name)))));
            fields.push(("reason", proto::text(reason)));
        }
        let done = self.change(&row.place, &fields, SHORT_PATIENCE).await;
        if aside.is_some() && done {
            self.shared.books.gone(lane, ours.then_some(*arrival));
        }
    }

    /// Gives rows of a lane their partitions. Only who holds the lane's lease does.
    pub(in crate::inbox) async fn assign(&self, from: &TopicPartition, rows: Vec<(Place, i32)>) -> bool {
        if !self.claim(from).await {
            return false;
        }
        let homes = self.homes(from);
        let write = |(row, to): &(Place, i32)| -> Vec<fs::Write> {
            let lane = (row.lane.0.clone(), *to);
            let fields =
                [("order", proto::text(order::order(&lane, row.arrival, &row.name))), ("partition", proto::integer(i64::from(*to)))];
            homes.iter().map(|home| self.update(home, &row.name.to_string(), &fields)).collect()
        };
        let done = self.make(rows.iter().map(write).collect(), SHORT_PATIENCE).await;
        let all = done.iter().all(|done| *done);
        // Who owed those of others to the whole topic owes them to the partitions that they have now.
        let (owes, mut others) = (self.shared.books.last(from).is_some(), HashMap::<i32, u64>::new());
        for ((row, to), _) in rows.iter().zip(done).filter(|(_, done)| *done) {
            if row.ours {
                self.shared.books.moved(from, *to, row.arrival);
            } else if owes {
                let last = others.entry(*to).or_default();
                *last = row.arrival.max(*last);
            }
            self.shared.lanes.add_homes(&(row.lane.0.clone(), *to), &homes);
        }
        for (to, last) in others {
            self.shared.books.found(&(from.0.clone(), to), last);
        }
        all
    }

    /// Rows set aside go back among the others; gives their number.
    pub(in crate::inbox) async fn restore(&self, topic: Option<Topic>) -> u64 {
        let restored = self.through(topic.as_ref(), true, Work::Restore).await;
        self.count_aside().await;
        restored
    }

    /// Deletes rows for good, those set aside or all; gives their number.
    pub(in crate::inbox) async fn purge(&self, topic: Option<Topic>, only_poison: bool) -> u64 {
        let aside = self.through(topic.as_ref(), true, Work::Purge).await;
        let waiting = if only_poison { 0 } else { self.through(topic.as_ref(), false, Work::Purge).await };
        self.count_aside().await;
        aside + waiting
    }

    /// Goes through the rows of a topic, or of all, page by page, as long as something can be done.
    async fn through(&self, topic: Option<&Topic>, aside: bool, work: Work) -> u64 {
        let mut changed = 0;
        let (first, to) = order::reach(topic, aside);
        for collection in self.shared.collections.all() {
            let mut from = first.clone();
            loop {
                let range = Range { collection, from: &from, to: &to };
                let page = match self.shared.client.look(query::only(range.first(PAGE), &PLACE)).await {
                    Ok(page) if page.is_empty() => break,
                    Ok(page) => page,
                    Err(fault) => {
                        tracing::warn!(%fault, "the rows in Firestore could not be read to their end");
                        break;
                    }
                };
                let done = match work {
                    Work::Restore => self.restore_page(collection, &page).await,
                    Work::Purge => self.purge_page(&page).await,
                };
                changed += done as u64;
                // Behind this page: what could not be changed is not met again.
                let last = page.last().and_then(|last| proto::text_of(&last.fields, "order"));
                match last {
                    Some(last) if done > 0 => from = format!("{last}\0"),
                    _ => break,
                }
            }
        }
        changed
    }

    async fn restore_page(&self, collection: &str, page: &[fs::Document]) -> usize {
        let mut lanes: HashMap<TopicPartition, u64> = HashMap::new();
        let mut writes = Vec::with_capacity(page.len());
        for document in page {
            let Some((waiting, lane, arrival)) = before_it_was_aside(document) else { continue };
            let last = lanes.entry(lane).or_insert(arrival);
            *last = arrival.max(*last);
            let fields = [
                ("order", proto::text(waiting)),
                ("attempts", proto::integer(0)),
                ("not_before", proto::integer(0)),
                ("maybe_delivered", proto::flag(true)),
            ];
            writes.push(vec![update_but(document.name.clone(), &fields, "reason")]);
        }
        let done = self.make(writes, PATIENCE).await.into_iter().filter(|done| *done).count();
        for (lane, last) in lanes {
            // One row more than we know of is owed, until the lane is seen empty.
            self.shared.books.found(&lane, last);
            self.shared.lanes.add_homes(&lane, &[collection.to_owned()]);
        }
        done
    }

    async fn purge_page(&self, page: &[fs::Document]) -> usize {
        let names: Vec<_> = page.iter().filter_map(proto::name_of).collect();
        self.shared.writing.auditor.removed(names.iter());
        let done = self.make(page.iter().map(|document| vec![proto::delete(document.name.clone())]).collect(), PATIENCE).await;
        for (document, _) in page.iter().zip(&done).filter(|(_, done)| **done) {
            if let Some(row) = proto::row(document, &self.shared.instance).filter(|row| row.place.ours) {
                self.shared.books.gone(&row.place.lane, [row.place.arrival]);
            }
        }
        done.into_iter().filter(|done| *done).count()
    }

    /// Documents that stand in a lane and are no rows.
    pub(super) async fn set_misfits_aside(&self, misfits: Vec<fs::Document>) {
        tracing::error!(documents = misfits.len(), "documents among the inbox's are none of ours: they are set aside");
        let write = |document: &fs::Document| {
            let place = proto::text_of(&document.fields, "order").unwrap_or_default();
            let fields = [("order", proto::text(order::aside(place))), ("reason", proto::text("unreadable"))];
            vec![update(document.name.clone(), &fields)]
        };
        self.make(misfits.iter().map(write).collect(), SHORT_PATIENCE).await;
    }

    async fn change(&self, place: &Place, fields: &[(&str, fs::Value)], patience: Duration) -> bool {
        let homes = self.homes(&place.lane);
        let writes = homes.iter().map(|home| self.update(home, &place.name.to_string(), fields)).collect();
        self.make(vec![writes], patience).await == [true]
    }

    fn update(&self, collection: &str, id: &str, fields: &[(&str, fs::Value)]) -> fs::Write {
        update(self.shared.client.name(collection, id), fields)
    }

    /// Makes changes, each of one write or of some that belong together; which of them are done. Several calls at a time, as
    /// large as Firestore likes them.
    async fn make(&self, changes: Vec<Vec<fs::Write>>, patience: Duration) -> Vec<bool> {
        let until = Instant::now() + patience;
        let size = self.shared.pacer.batch().max(1);
        let calls: Vec<_> = batched(changes, size).into_iter().map(|call| self.call(call, until)).collect();
        let ended = stream::iter(calls).buffered(self.shared.pacer.calls().max(1));
        ended.collect::<Vec<_>>().await.concat()
    }

    /// One call, again and again for what is not done, at least once.
    async fn call(&self, changes: Vec<Vec<fs::Write>>, until: Instant) -> Vec<bool> {
        let mut done = vec![None; changes.len()];
        let mut rest = REST;
        loop {
            let open: Vec<usize> = (0..changes.len()).filter(|change| done[*change].is_none()).collect();
            let writes: Vec<fs::Write> = open.iter().flat_map(|change| changes[*change].clone()).collect();
            match self.written(writes).await {
                Ok(written) => {
                    let mut written = written.into_iter();
                    for change in open {
                        let of_change: Vec<Written> = written.by_ref().take(changes[change].len()).collect();
                        done[change] = ended(&of_change);
                    }
                }
                Err(fault) => tracing::debug!(%fault, "rows could not be changed yet"),
            }
            if done.iter().all(Option::is_some) || Instant::now() + rest >= until {
                return done.into_iter().map(|done| done == Some(true)).collect();
            }
            sleep(rest).await;
            rest = (rest * 2).min(MAX_REST);
        }
    }

    async fn written(&self, writes: Vec<fs::Write>) -> Result<Vec<Written>, Fault> {
        let (pacer, count) = (&self.shared.pacer, writes.len());
        if pacer.permit(u32::try_from(count).unwrap_or(u32::MAX), false).await.is_err() {
            return Err(Fault::Exhausted("the writes of this day are spent".to_owned()));
        }
        let began = Instant::now();
        let written = self.shared.client.write(writes).await;
        match &written {
            Ok(_) => pacer.answered(count, began.elapsed()),
            Err(Fault::Exhausted(_)) => pacer.exhausted(),
            Err(Fault::Denied(words)) => pacer.denied(words),
            Err(_) => pacer.unanswered(began.elapsed()),
        }
        written
    }
}

/// Changes in calls of at most so many writes, but always one change.
fn batched(changes: Vec<Vec<fs::Write>>, size: usize) -> Vec<Vec<Vec<fs::Write>>> {
    let mut calls: Vec<Vec<Vec<fs::Write>>> = Vec::new();
    let mut writes = 0;
    for change in changes {
        writes += change.len();
        match calls.last_mut().filter(|_| writes <= size) {
            Some(call) => call.push(change),
            None => {
                writes = change.len();
                calls.push(vec![change]);
            }
        }
    }
    calls
}

/// Whether the writes of a change have all ended, and one of them well; none: not yet.
fn ended(written: &[Written]) -> Option<bool> {
    let again = written.iter().any(|one| matches!(one, Written::Again));
    // A row is in one of its homes: elsewhere there is nothing to change.
    (!again).then(|| written.iter().any(|one| matches!(one, Written::Ok(_))))
}

fn update(name: String, fields: &[(&str, fs::Value)]) -> fs::Write {
    let mask: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    proto::update(name, fields, &mask)
}

/// The same, and a field is taken away.
fn update_but(name: String, fields: &[(&str, fs::Value)], gone: &str) -> fs::Write {
    let mut write = update(name, fields);
    if let Some(mask) = &mut write.update_mask {
        mask.field_paths.push(gone.to_owned());
    }
    write
}

/// The order, lane and arrival that a row had before it was set aside; none: it never was a row that waits.
fn before_it_was_aside(document: &fs::Document) -> Option<(&str, TopicPartition, u64)> {
    let waiting = proto::text_of(&document.fields, "order")?.strip_prefix(order::ASIDE.0)?;
    let (lane, arrival) = order::parse(waiting)?;
    Some((waiting, lane, arrival))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_no_more_writes_than_it_may_have_however_many_homes_a_row_has() {
        let of_two_homes = vec![vec![fs::Write::default(); 2]; 600];
        let writes: Vec<usize> = batched(of_two_homes, 500).iter().map(|call| call.iter().map(Vec::len).sum()).collect();
        assert_eq!(writes, [500, 500, 200]);
        assert_eq!(batched(vec![vec![fs::Write::default(); 3]], 2).len(), 1);
    }
}
