//! What this instance has stored, and its partitions are owed.
//!
//! Several instances share a collection, and who holds a lane's lease deletes the rows of all. So a gate here is opened by
//! two things: rows of ours that we delete ourselves are counted off; and a look at a lane says that all of ours that were stored
//! before the look, and have arrived before the first row that it finds, are gone, whoever has delivered them. While rows keep
//! coming a lane is never seen empty: so there are checkpoints, each of which says that so many rows have arrived by then.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::{Gates, Owed, TopicPartition};

/// A checkpoint is made for each part of what is owed: so many at least lie before what is owed now.
const PARTS: u64 = 32;

/// See the module.
#[derive(Debug)]
pub struct Books {
    gates: Arc<Gates>,
    lanes: Mutex<HashMap<TopicPartition, Account>>,
}

/// The numbers only grow, and a lane once seen is not forgotten, so that an old mark stays true: what is owed is the difference of
/// the first two.
#[derive(Debug, Default)]
struct Account {
    stored: u64,
    paid: u64,
    /// The last arrival among those stored.
    last: u64,
    /// By this arrival all is paid that a look has paid: who counts such a row off as deleted would pay for it twice.
    settled: u64,
    /// Up to this arrival some rows, ours too, are not counted one by one: none of those pays when it is gone, only a look does.
    uncounted: u64,
    /// Marks of earlier times that are not paid yet, the oldest first.
    checkpoints: VecDeque<Mark>,
}

/// What was stored in a lane before a look at it, and the last arrival among that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    stored: u64,
    last: u64,
}

impl Mark {
    /// The last arrival.
    pub fn last(self) -> u64 {
        self.last
    }
}

impl Account {
    fn add(&mut self, rows: u64, arrival: u64) {
        self.stored += rows;
        self.last = self.last.max(arrival);
        let before = self.checkpoints.back().map_or(self.paid, |mark| mark.stored);
        if self.stored - before.min(self.stored) > self.owed() / PARTS {
            self.checkpoints.push_back(self.mark());
        }
    }

    fn owed(&self) -> u64 {
        self.stored - self.paid
    }

    fn mark(&self) -> Mark {
        Mark { stored: self.stored, last: self.last }
    }

    /// The latest of the checkpoints up to a mark of which nothing has arrived at this place or behind it.
    fn before(&self, mark: Mark, first: u64) -> Option<Mark> {
        if mark.last < first {
            return Some(mark);
        }
        self.checkpoints.iter().rev().find(|past| past.stored <= mark.stored && past.last < first).copied()
    }
}

impl Books {
    /// Books that nothing stands in.
    pub fn new(gates: Arc<Gates>) -> Self {
        Self { gates, lanes: Mutex::default() }
    }

    /// A row of ours is there.
    pub fn stored(&self, owed: Owed, arrival: u64) {
        self.lock().entry(owed.lane().clone()).or_default().add(1, arrival);
        owed.stored();
    }

    /// There are rows, nobody knows how many, that are to be waited for up to this arrival: one is owed for all of them.
    pub fn found(&self, lane: &TopicPartition, arrival: u64) {
        let mut lanes = self.lock();
        let account = lanes.entry(lane.clone()).or_default();
        account.uncounted = account.uncounted.max(arrival);
        account.add(1, arrival);
        self.gates.owe_rows(lane, 1);
    }

    /// A row of ours that is not owed may be there all the same.
    pub fn uncounted(&self, lane: &TopicPartition, arrival: u64) {
        let mut lanes = self.lock();
        let account = lanes.entry(lane.clone()).or_default();
        account.uncounted = account.uncounted.max(arrival);
    }

    /// Rows of ours are gone, which had these arrivals.
    pub fn gone(&self, lane: &TopicPartition, arrivals: impl IntoIterator<Item = u64>) {
        let mut lanes = self.lock();
        if let Some(account) = lanes.get_mut(lane) {
            let looked_for = account.settled.max(account.uncounted);
            let rows = arrivals.into_iter().filter(|arrival| *arrival > looked_for).count() as u64;
            self.pay(lane, account, rows);
        }
    }

    /// A row of ours has found its partition.
    pub fn moved(&self, from: &TopicPartition, to: i32, arrival: u64) {
        let mut lanes = self.lock();
        let Some(account) = lanes.get_mut(from).filter(|account| account.owed() > 0) else { return };
        let is_counted = arrival > account.uncounted.max(account.settled);
        account.paid += u64::from(is_counted);
        let lane = (from.0.clone(), to);
        lanes.entry(lane.clone()).or_default().add(1, arrival);
        match is_counted {
            true => self.gates.assign(from, to, 1),
            false => self.gates.owe_rows(&lane, 1),
        }
    }

    /// The lanes that are owed rows which are there.
    pub fn owed(&self) -> Vec<TopicPartition> {
        self.lock().iter().filter(|(_, account)| account.owed() > 0).map(|(lane, _)| lane.clone()).collect()
    }

    /// Numbers arrivals from here on: what comes now is behind what is there.
    pub fn begin_at(&self, arrival: u64) {
        self.gates.begin_at(arrival);
    }

    /// Taken before a look at a lane.
    pub fn mark(&self, lane: &TopicPartition) -> Mark {
        self.lock().get(lane).map_or_else(Mark::default, Account::mark)
    }

    /// What a look that began behind this mark has found: the arrival of the lane's first row, or nothing up to the mark's last. Gives
    /// the number of rows that are paid by it.
    pub fn seen(&self, lane: &TopicPartition, mark: Mark, first: Option<u64>) -> u64 {
        let mut lanes = self.lock();
        let Some(account) = lanes.get_mut(lane) else { return 0 };
        let Some(gone) = first.map_or(Some(mark), |first| account.before(mark, first)) else { return 0 };
        account.settled = account.settled.max(gone.last);
        let rows = gone.stored.saturating_sub(account.paid);
        self.pay(lane, account, rows)
    }

    /// The last arrival of a row of ours that a lane is owed; none: it is owed none.
    pub fn last(&self, lane: &TopicPartition) -> Option<u64> {
        self.lock().get(lane).filter(|account| account.owed() > 0).map(|account| account.last)
    }

    /// How many rows of ours a lane is owed.
    pub fn owed_to(&self, lane: &TopicPartition) -> u64 {
        self.lock().get(lane).map_or(0, Account::owed)
    }

    fn pay(&self, lane: &TopicPartition, account: &mut Account, rows: u64) -> u64 {
        let rows = rows.min(account.owed());
        account.paid += rows;
        while account.checkpoints.front().is_some_and(|mark| mark.stored <= account.paid) {
            account.checkpoints.pop_front();
        }
        self.gates.paid(lane, rows);
        rows
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
        books.gone(&lane(0), [1]);
        assert_eq!((gates.owed(&lane(0).0, 0), books.last(&lane(0))), (1, Some(2)));
        books.gone(&lane(0), 2..7);
        assert_eq!((gates.total(), books.last(&lane(0))), (0, None));
    }

    #[test]
    fn a_lane_seen_empty_owes_what_was_stored_since_the_look_and_nothing_else() {
        let (books, gates) = books();
        store(&books, &gates, 0, 1);
        let mark = books.mark(&lane(0));
        store(&books, &gates, 0, 2);
        books.seen(&lane(0), mark, None);
        assert_eq!(gates.owed(&lane(0).0, 0), 1);
        // Deleted here and then seen empty: not paid twice.
        let mark = books.mark(&lane(0));
        books.gone(&lane(0), [2]);
        books.seen(&lane(0), mark, None);
        store(&books, &gates, 0, 3);
        assert_eq!((gates.total(), books.last(&lane(0))), (1, Some(3)));
    }

    #[test]
    fn a_row_that_a_look_has_missed_already_is_not_paid_again_when_its_deletion_is_heard_of() {
        let (books, gates) = books();
        store(&books, &gates, 0, 1);
        let mark = books.mark(&lane(0));
        store(&books, &gates, 0, 2);
        books.seen(&lane(0), mark, Some(2));
        books.gone(&lane(0), [1]);
        assert_eq!(gates.total(), 1, "the second one is there");
        books.gone(&lane(0), [2]);
        assert_eq!(gates.total(), 0);
    }

    #[test]
    fn an_old_mark_does_not_pay_for_what_came_after_it() {
        let (books, gates) = books();
        for arrival in 1..=3 {
            store(&books, &gates, 0, arrival);
        }
        let old = books.mark(&lane(0));
        books.seen(&lane(0), books.mark(&lane(0)), None);
        store(&books, &gates, 0, 4);
        books.seen(&lane(0), old, None);
        assert_eq!(gates.total(), 1);
    }

    #[test]
    fn what_is_owed_falls_while_rows_keep_coming() {
        let (books, gates) = books();
        for arrival in 1..=5_000 {
            store(&books, &gates, 0, arrival);
        }
        // Another instance delivers twice as fast as rows come here: the lane is never seen empty.
        for turn in 1..=49 {
            for arrival in 1..=100 {
                store(&books, &gates, 0, 4_900 + turn * 100 + arrival);
            }
            books.seen(&lane(0), books.mark(&lane(0)), Some(turn * 200 + 1));
            let (there, owed) = (5_000 - turn * 100, gates.total());
            assert!((there..=there + there / 16 + 200).contains(&owed), "{owed} are owed, {there} are there");
        }
        assert!(gates.total() <= 400 && books.lock()[&lane(0)].checkpoints.len() < 400);
        let mark = books.mark(&lane(0));
        store(&books, &gates, 0, 20_000);
        books.seen(&lane(0), mark, Some(20_000));
        assert_eq!(gates.total(), 1, "what is behind all that we had then is another matter");
    }

    #[test]
    fn a_row_that_may_be_there_unowed_does_not_pay_for_one_that_is_owed() {
        let (books, gates) = books();
        books.uncounted(&lane(0), 1);
        store(&books, &gates, 0, 2);
        books.gone(&lane(0), [1]);
        assert_eq!(gates.total(), 1);
        books.gone(&lane(0), [2]);
        assert_eq!(gates.total(), 0);
    }

    #[test]
    fn rows_of_ours_that_another_has_moved_do_not_pay_for_those_that_are_counted() {
        let (books, gates) = books();
        // Three of ours were without a partition, and another instance has given them this one; one of ours came later.
        books.found(&lane(0), 3);
        store(&books, &gates, 0, 4);
        books.gone(&lane(0), 1..=3);
        assert_eq!(gates.total(), 2);
        books.seen(&lane(0), books.mark(&lane(0)), Some(4));
        books.gone(&lane(0), [4]);
        assert_eq!(gates.total(), 0);
    }

    #[test]
    fn rows_that_are_not_counted_leave_the_whole_topic_owed_until_a_look() {
        let (books, gates) = books();
        books.found(&lane(-1), 2);
        books.moved(&lane(-1), 4, 1);
        books.moved(&lane(-1), 4, 2);
        assert_eq!((gates.owed(&lane(0).0, -1), gates.owed(&lane(0).0, 4)), (1, 2));
        books.seen(&lane(-1), books.mark(&lane(-1)), None);
        books.gone(&lane(4), [1, 2]);
        assert_eq!(gates.total(), 0);
    }

    #[test]
    fn a_row_that_came_late_is_owed_until_it_is_gone() {
        let (books, gates) = books();
        store(&books, &gates, 0, 10);
        store(&books, &gates, 0, 5);
        assert_eq!(books.seen(&lane(0), books.mark(&lane(0)), Some(5)), 0);
        assert_eq!(books.seen(&lane(0), books.mark(&lane(0)), Some(10)), 0);
        assert_eq!((books.seen(&lane(0), books.mark(&lane(0)), Some(11)), gates.total()), (2, 0));
    }

    #[test]
    fn rows_that_find_their_partition_take_their_debt_along() {
        let (books, gates) = books();
        store(&books, &gates, -1, 1);
        store(&books, &gates, -1, 2);
        books.moved(&lane(-1), 4, 1);
        books.moved(&lane(-1), 5, 2);
        assert_eq!((gates.owed(&lane(0).0, -1), gates.owed(&lane(0).0, 4), gates.owed(&lane(0).0, 5)), (0, 1, 1));
        books.found(&lane(6), 9);
        books.seen(&lane(6), books.mark(&lane(6)), None);
        assert_eq!(gates.total(), 2);
    }
}
