//! What this instance has stored, and its partitions are owed.
//!
//! Several instances share a collection, and who holds a lane's lease deletes the rows of all. So a gate here is opened by
//! two things: rows of ours that we delete ourselves are counted off; and a look at a lane that finds nothing says that all of
//! ours that were stored before the look are gone, whoever has delivered them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::{Gates, Owed, TopicPartition};

/// See the module.
#[derive(Debug)]
pub struct Books {
    gates: Arc<Gates>,
    lanes: Mutex<HashMap<TopicPartition, Account>>,
}

/// Both numbers only grow, and a lane once seen is not forgotten, so that an old mark stays true: what is owed is their difference.
#[derive(Debug, Default)]
struct Account {
    stored: u64,
    paid: u64,
    last: u64,
}

/// What was stored in a lane before a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Books {
    /// Books that nothing stands in.
    pub fn new(gates: Arc<Gates>) -> Self {
        Self { gates, lanes: Mutex::default() }
    }

    /// A row of ours is there.
    pub fn stored(&self, owed: Owed, arrival: u64) {
        let mut lanes = self.lock();
        let account = lanes.entry(owed.lane().clone()).or_default();
        account.stored += 1;
        account.last = account.last.max(arrival);
        owed.stored();
    }

    /// Rows of others are to be waited for as if they were ours, up to this arrival.
    pub fn found(&self, lane: &TopicPartition, arrival: u64) {
        let mut lanes = self.lock();
        let account = lanes.entry(lane.clone()).or_default();
        account.stored += 1;
        account.last = account.last.max(arrival);
        self.gates.owe_rows(lane, 1);
    }

    /// So many rows of ours are gone.
    pub fn deleted(&self, lane: &TopicPartition, rows: u64) {
        let mut lanes = self.lock();
        if let Some(account) = lanes.get_mut(lane) {
            let rows = rows.min(account.stored - account.paid);
            self.pay(lane, account, rows);
        }
    }

    /// So many rows of ours have found their partition.
    pub fn moved(&self, from: &TopicPartition, to: i32, rows: u64) {
        let mut lanes = self.lock();
        let Some(account) = lanes.get_mut(from) else { return };
        let rows = rows.min(account.stored - account.paid);
        account.paid += rows;
        let last = account.last;
        let other = lanes.entry((from.0.clone(), to)).or_default();
        other.stored += rows;
        other.last = other.last.max(last);
        self.gates.assign(from, to, rows);
    }

    /// The lanes that are owed rows which are there.
    pub fn owed(&self) -> Vec<TopicPartition> {
        self.lock().iter().filter(|(_, account)| account.stored > account.paid).map(|(lane, _)| lane.clone()).collect()
    }

    /// Numbers arrivals from here on: what comes now is behind what is there.
    pub fn begin_at(&self, arrival: u64) {
        self.gates.begin_at(arrival);
    }

    /// Taken before a look at a lane.
    pub fn mark(&self, lane: &TopicPartition) -> Mark {
        Mark(self.lock().get(lane).map_or(0, |account| account.stored))
    }

    /// A look that began behind this mark has found nothing in the lane, or nothing up to [`Self::last`].
    pub fn seen_empty(&self, lane: &TopicPartition, Mark(stored): Mark) {
        let mut lanes = self.lock();
        if let Some(account) = lanes.get_mut(lane) {
            let rows = stored.saturating_sub(account.paid);
            self.pay(lane, account, rows);
        }
    }

    /// The last arrival of a row of ours that a lane is owed; none: it is owed none.
    pub fn last(&self, lane: &TopicPartition) -> Option<u64> {
        self.lock().get(lane).filter(|account| account.stored > account.paid).map(|account| account.last)
    }

    fn pay(&self, lane: &TopicPartition, account: &mut Account, rows: u64) {
        account.paid += rows;
        self.gates.paid(lane, rows);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Account>> {
        // Nothing panics under this lock, and the numbers are whole at any time.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Topic;

    fn lane(partition: i32) -> TopicPartition {
        (Topic::new("t").expect("a topic"), partition)
    }

    fn books() -> (Books, Arc<Gates>) {
        let gates = Arc::new(Gates::default());
        (Books::new(Arc::clone(&gates)), gates)
    }

    fn store(books: &Books, gates: &Arc<Gates>, partition: i32, arrival: u64) {
        books.stored(gates.owe(&lane(partition).0, partition), arrival);
    }

    #[test]
    fn a_gate_opens_when_what_is_ours_is_deleted_here() {
        let (books, gates) = books();
        store(&books, &gates, 0, 1);
        store(&books, &gates, 0, 2);
        books.deleted(&lane(0), 1);
        assert_eq!((gates.owed(&lane(0).0, 0), books.last(&lane(0))), (1, Some(2)));
        books.deleted(&lane(0), 5);
        assert_eq!((gates.total(), books.last(&lane(0))), (0, None));
    }

    #[test]
    fn a_lane_seen_empty_owes_what_was_stored_since_the_look_and_nothing_else() {
        let (books, gates) = books();
        store(&books, &gates, 0, 1);
        let mark = books.mark(&lane(0));
        store(&books, &gates, 0, 2);
        books.seen_empty(&lane(0), mark);
        assert_eq!(gates.owed(&lane(0).0, 0), 1);
        // Deleted here and then seen empty: not paid twice.
        let mark = books.mark(&lane(0));
        books.deleted(&lane(0), 1);
        books.seen_empty(&lane(0), mark);
        store(&books, &gates, 0, 3);
        assert_eq!((gates.total(), books.last(&lane(0))), (1, Some(3)));
    }

    #[test]
    fn an_old_mark_does_not_pay_for_what_came_after_it() {
        let (books, gates) = books();
        for arrival in 1..=3 {
            store(&books, &gates, 0, arrival);
        }
        let old = books.mark(&lane(0));
        books.seen_empty(&lane(0), books.mark(&lane(0)));
        store(&books, &gates, 0, 4);
        books.seen_empty(&lane(0), old);
        assert_eq!(gates.total(), 1);
    }

    #[test]
    fn rows_that_find_their_partition_take_their_debt_along() {
        let (books, gates) = books();
        store(&books, &gates, -1, 1);
        store(&books, &gates, -1, 2);
        books.moved(&lane(-1), 4, 1);
        books.moved(&lane(-1), 5, 1);
        assert_eq!((gates.owed(&lane(0).0, -1), gates.owed(&lane(0).0, 4), gates.owed(&lane(0).0, 5)), (0, 1, 1));
        books.found(&lane(6), 9);
        books.seen_empty(&lane(6), books.mark(&lane(6)));
        assert_eq!(gates.total(), 2);
    }
}
