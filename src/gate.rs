//! The order gate of each (topic, partition): once one part has taken the inbox, those behind it do too, until the
//! inbox owes the partition nothing.
//!
//! What always holds: a gate is closed exactly while something is *owed* to its partition, which is from the moment a
//! part chooses the inbox until its row is deleted. So what was acknowledged first is delivered first, per key.
//! Rows whose partition is not known yet (no catalog was ever seen) are owed to the whole topic.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::event::Topic;

/// A partition that is not known yet: the whole topic waits for it.
pub const UNASSIGNED: i32 = -1;

/// Up to so many rows, a partition's gate is worth waiting for instead of writing one more row.
pub const NEARLY_OPEN: u64 = 1_000;

/// What was paid so short a time ago is being paid.
const LATELY: Duration = Duration::from_secs(2);

/// A topic and one of its partitions.
pub type TopicPartition = (Topic, i32);

/// All gates, and the numbers by which replay orders what it finds.
#[derive(Debug, Default)]
pub struct Gates {
    owed: Mutex<HashMap<TopicPartition, Debt>>,
    total: AtomicU64,
    arrivals: AtomicU64,
    changed: Notify,
    /// Topics whose rows stay, because the broker does not have them any more, or does not let us write.
    stranded: Mutex<HashSet<Topic>>,
}

/// What is owed to a partition.
#[derive(Debug, Default)]
struct Debt {
    rows: u64,
    /// When some of it was paid last.
    paid: Option<Instant>,
}

/// A part that has chosen the inbox. Dropped before it was stored, it is owed no more.
#[derive(Debug)]
#[must_use = "what is owed must be stored"]
pub struct Owed {
    gates: Arc<Gates>,
    lane: TopicPartition,
}

impl Gates {
    /// Numbers arrivals from here on; called once, with what the inbox holds.
    pub fn begin_at(&self, arrival: u64) {
        self.arrivals.fetch_max(arrival, Ordering::Relaxed);
    }

    /// The next `n` arrival numbers, taken before anything is sent: microseconds since 1970, and always more than the last one,
    /// whatever the clock does. So they order within a gate, and between gates as well as their clocks agree.
    pub fn arrivals(&self, n: u64) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
        let next = |last: u64| Some(last.max(now).saturating_add(n));
        let last = self.arrivals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(0);
        last.max(now) + 1
    }

    /// Whether a part may go to the broker now. The common case takes no lock.
    pub fn is_open(&self, topic: &Topic, partition: i32) -> bool {
        if self.total.load(Ordering::Acquire) == 0 {
            return true;
        }
        let owed = self.lock();
        !owed.contains_key(&(topic.clone(), partition)) && !owed.contains_key(&(topic.clone(), UNASSIGNED))
    }

    /// Closes the gate behind a part that takes the inbox.
    pub fn owe(self: &Arc<Self>, topic: &Topic, partition: i32) -> Owed {
        let lane = (topic.clone(), partition);
        self.add(&lane, 1);
        Owed { gates: Arc::clone(self), lane }
    }

    /// Rows found at the start.
    pub fn owe_rows(&self, lane: &TopicPartition, rows: u64) {
        self.add(lane, rows);
    }

    /// Rows that are in the broker, or set aside: deleted, in any case.
    pub fn paid(&self, lane: &TopicPartition, rows: u64) {
        if rows > 0 {
            self.take_off(lane, rows, Some(Instant::now()));
        }
    }

    fn take_off(&self, lane: &TopicPartition, rows: u64, paid: Option<Instant>) {
        let mut owed = self.lock();
        if let Some(debt) = owed.get_mut(lane) {
            let rows = rows.min(debt.rows);
            debt.rows -= rows;
            debt.paid = paid.or(debt.paid);
            if debt.rows == 0 {
                owed.remove(lane);
            }
            self.total.fetch_sub(rows, Ordering::AcqRel);
        }
        drop(owed);
        self.changed.notify_waiters();
    }

    /// Whether it is worth waiting for a gate: a little is owed, and somebody has paid some of it a moment ago.
    pub fn is_opening(&self, topic: &Topic, partition: i32) -> bool {
        let owed = self.lock();
        let debt = owed.get(&(topic.clone(), partition)).filter(|debt| debt.rows <= NEARLY_OPEN);
        debt.and_then(|debt| debt.paid).is_some_and(|paid| paid.elapsed() < LATELY)
    }

    /// Rows that have found another partition than they had.
    pub fn assign(&self, from: &TopicPartition, partition: i32, rows: u64) {
        self.add(&(from.0.clone(), partition), rows);
        self.paid(from, rows);
    }

    /// What is owed to a partition.
    pub fn owed(&self, topic: &Topic, partition: i32) -> u64 {
        self.lock().get(&(topic.clone(), partition)).map_or(0, |debt| debt.rows)
    }

    /// All that is owed, over all partitions.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// The partitions that are owed something.
    pub fn closed(&self) -> Vec<TopicPartition> {
        self.lock().keys().cloned().collect()
    }

    /// What is owed to a topic cannot be paid as the broker is now; true when that is news.
    pub fn strand(&self, topic: &Topic) -> bool {
        self.stranded_topics().insert(topic.clone())
    }

    /// The topic takes records again; true when that is news.
    pub fn float(&self, topic: &Topic) -> bool {
        self.stranded_topics().remove(topic)
    }

    /// Whether rows of this topic wait although the broker is there. The common case takes no lock.
    pub fn is_stranded(&self, topic: &Topic) -> bool {
        self.total() > 0 && self.stranded_topics().contains(topic) && self.lock().keys().any(|(owing, _)| owing == topic)
    }

    /// Rows of topics that do not take them. A topic that is owed nothing is forgotten.
    pub fn stranded(&self) -> u64 {
        let mut stranded = self.stranded_topics();
        if stranded.is_empty() {
            return 0;
        }
        let owed = self.lock();
        stranded.retain(|topic| owed.keys().any(|(owing, _)| owing == topic));
        owed.iter().filter(|((topic, _), _)| stranded.contains(topic)).map(|(_, debt)| debt.rows).sum()
    }

    /// Waits until the gate is open. The caller sets the deadline.
    pub async fn opened(&self, topic: &Topic, partition: i32) {
        loop {
            let changed = self.changed.notified();
            if self.is_open(topic, partition) {
                return;
            }
            changed.await;
        }
    }

    fn add(&self, lane: &TopicPartition, rows: u64) {
        if rows == 0 {
            return;
        }
        let mut owed = self.lock();
        owed.entry(lane.clone()).or_default().rows += rows;
        self.total.fetch_add(rows, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Debt>> {
        // Nothing panics while it holds this lock, and the numbers in it are whole at any time.
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stranded_topics(&self) -> MutexGuard<'_, HashSet<Topic>> {
        self.stranded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owed {
    /// Which partition.
    pub fn lane(&self) -> &TopicPartition {
        &self.lane
    }

    /// The part has become a row: the row's deletion pays it.
    pub fn stored(self) {
        std::mem::forget(self);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.gates.take_off(&self.lane, 1, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        Topic::new("t").expect("a topic")
    }

    #[test]
    fn a_gate_is_closed_exactly_while_something_is_owed() {
        let gates = Arc::new(Gates::default());
        assert!(gates.is_open(&topic(), 0));
        let first = gates.owe(&topic(), 0);
        let second = gates.owe(&topic(), 0);
        assert!(!gates.is_open(&topic(), 0));
        assert!(gates.is_open(&topic(), 1));
        first.stored();
        drop(second);
        assert!(!gates.is_open(&topic(), 0));
        gates.paid(&(topic(), 0), 1);
        assert!(gates.is_open(&topic(), 0));
        assert_eq!(gates.total(), 0);
    }

    #[test]
    fn a_gate_is_opening_while_what_is_owed_is_paid_and_not_while_parts_change_their_minds() {
        let gates = Arc::new(Gates::default());
        gates.owe_rows(&(topic(), 0), 3);
        drop(gates.owe(&topic(), 0));
        assert!(!gates.is_opening(&topic(), 0));
        gates.paid(&(topic(), 0), 1);
        assert!(gates.is_opening(&topic(), 0) && !gates.is_opening(&topic(), 1));
        gates.owe_rows(&(topic(), 0), NEARLY_OPEN);
        assert!(!gates.is_opening(&topic(), 0));
    }

    #[test]
    fn rows_without_a_partition_close_the_whole_topic() {
        let gates = Arc::new(Gates::default());
        gates.owe_rows(&(topic(), UNASSIGNED), 2);
        assert!(!gates.is_open(&topic(), 5));
        gates.assign(&(topic(), UNASSIGNED), 5, 1);
        gates.assign(&(topic(), UNASSIGNED), 6, 1);
        assert!(gates.is_open(&topic(), 4));
        assert!(!gates.is_open(&topic(), 6));
        assert_eq!(gates.total(), 2);
    }

    #[test]
    fn arrivals_grow_whatever_the_clock_does() {
        let gates = Gates::default();
        let first = gates.arrivals(3);
        assert!(gates.arrivals(1) >= first + 3);
        gates.begin_at(u64::MAX / 4);
        assert_eq!(gates.arrivals(2), u64::MAX / 4 + 1);
        assert_eq!(gates.arrivals(1), u64::MAX / 4 + 3);
    }

    #[test]
    fn rows_of_a_topic_that_is_gone_are_counted_until_they_are_and_said_once() {
        let gates = Arc::new(Gates::default());
        gates.owe_rows(&(topic(), 0), 2);
        gates.owe_rows(&(topic(), 1), 1);
        assert_eq!(gates.stranded(), 0);
        assert_eq!((gates.strand(&topic()), gates.strand(&topic()), gates.stranded()), (true, false, 3));
        assert!(gates.is_stranded(&topic()) && !gates.is_stranded(&Topic::new("other").expect("a topic")));
        assert_eq!((gates.float(&topic()), gates.float(&topic()), gates.stranded()), (true, false, 0));
        assert!(gates.strand(&topic()));
        gates.paid(&(topic(), 0), 2);
        gates.paid(&(topic(), 1), 1);
        assert_eq!((gates.stranded(), gates.float(&topic())), (0, false), "nothing is owed any more");
    }

    #[tokio::test]
    async fn who_waits_is_woken_when_the_last_row_is_paid() {
        let gates = Arc::new(Gates::default());
        gates.owe(&topic(), 0).stored();
        let waiting = tokio::spawn({
            let gates = Arc::clone(&gates);
            async move { gates.opened(&topic(), 0).await }
        });
        tokio::task::yield_now().await;
        gates.paid(&(topic(), 0), 1);
        waiting.await.expect("woken");
    }
}
