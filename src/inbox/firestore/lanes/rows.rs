//! The rows of a lane, for whoever holds its lease.

use std::time::Duration;

use tokio::time::Instant;

use super::super::client::Fault;
use super::super::{Firestore, ReplayWhen, fs, order, proto};
use super::arrival_of;
use super::query::Range;
use crate::gate::TopicPartition;
use crate::inbox::not_before_ms;
use crate::inbox::row::Row;

/// So long rows of others make us look into their lane each second.
const STAYS_NEAR: Duration = Duration::from_secs(15);

/// Who has stored a row so short a time ago lives.
const ALIVE: Duration = Duration::from_secs(5);

/// For so long a lane is left to others, unless it takes them.
const HANDED_OVER_FOR: Duration = Duration::from_secs(3);

impl Firestore {
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
        match self.shared.lanes.cannot_read.may_say() {
            true => {
                tracing::warn!(topic = %lane.0, partition = lane.1, %fault, "rows cannot be read from Firestore: they wait (said once a minute)")
            }
            false => tracing::debug!(topic = %lane.0, partition = lane.1, %fault, "rows could not be read; later"),
        }
    }

    /// A lane's first documents, from wherever it has some: a route's collection may have had another name.
    async fn read(&self, lane: &TopicPartition, limit: usize) -> Result<Vec<fs::Document>, Fault> {
        let (from, to) = order::range(lane);
        let mut answers = Vec::new();
        for collection in &self.homes(lane) {
            let range = Range { collection, from: &from, to: &to };
            answers.push(self.shared.client.query(range.first(limit)).await?);
        }
        Ok(in_order(answers, limit))
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
}

fn ms_ago(past: Duration) -> i64 {
    not_before_ms(Duration::ZERO).saturating_sub(i64::try_from(past.as_millis()).unwrap_or(i64::MAX))
}

/// The answers of several collections as one, up to where none of them has left anything out.
fn in_order(mut answers: Vec<Vec<fs::Document>>, limit: usize) -> Vec<fs::Document> {
    if answers.len() == 1 {
        return answers.pop().unwrap_or_default();
    }
    let order = |document: &fs::Document| proto::text_of(&document.fields, "order").unwrap_or_default().to_owned();
    let full = answers.iter().filter(|answer| answer.len() >= limit);
    let known_to = full.filter_map(|answer| answer.last().map(order)).min();
    let mut documents = answers.concat();
    documents.sort_by_cached_key(order);
    let known = known_to.map_or(documents.len(), |last| documents.partition_point(|document| order(document) <= last));
    documents.truncate(known.min(limit));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(orders: &[&str]) -> Vec<fs::Document> {
        let document = |order: &&str| fs::Document { fields: [("order".to_owned(), proto::text(*order))].into(), ..Default::default() };
        orders.iter().map(document).collect()
    }

    #[test]
    fn what_one_collection_has_left_out_is_not_overtaken_by_what_another_has() {
        let read = |answers: &[&[&str]], limit| {
            let documents = in_order(answers.iter().map(|orders| answer(orders)).collect(), limit);
            documents.iter().map(|document| proto::text_of(&document.fields, "order").unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(read(&[&["b", "d"]], 2), ["b", "d"]);
        assert_eq!(read(&[&["b", "d"], &["a", "c", "e"]], 4), ["a", "b", "c", "d"]);
        // Of the first there may be more, before what the second has.
        assert_eq!(read(&[&["b", "d"], &["e"]], 2), ["b", "d"]);
        assert_eq!(read(&[&["b", "d"], &["a", "c"]], 2), ["a", "b"]);
        assert_eq!(read(&[&["b"], &["a", "x"]], 2), ["a", "b"]);
        assert_eq!(read(&[&[], &[]], 2), [""; 0]);
    }
}
