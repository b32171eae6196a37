//! Whose turn it is: the lanes that have a task, and how long a task goes on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::firestore::Hand;
use crate::drain::{Phase, Signal};
use crate::gate::TopicPartition;

use super::{REST, Replay};

/// What a stopping gate still waits for the reports of rows on their way, and for calls under way.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The lanes that have a task, those whose last window failed, and those that rest, which keeps no task.
#[derive(Debug, Default)]
pub(super) struct Busy {
    lanes: HashSet<TopicPartition>,
    ill: HashSet<TopicPartition>,
    resting: HashMap<TopicPartition, Instant>,
}

/// A lane's turn: ended when it is dropped, by a panic too.
pub(super) struct Turn {
    replay: Arc<Replay>,
    lane: TopicPartition,
    ill: bool,
    rest: Duration,
    hand: Option<Hand>,
}

impl Turn {
    pub(super) async fn take(mut self, term: Term) {
        (self.ill, self.rest) = self.replay.lane(&self.lane, self.ill, term).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lane is anybody's again: the next one takes it in hand anew.
        drop(self.hand.take());
        let mut busy = self.replay.busy();
        busy.lanes.remove(&self.lane);
        busy.resting.insert(self.lane.clone(), Instant::now() + self.rest);
        if self.ill {
            busy.ill.insert(self.lane.clone());
        } else {
            busy.ill.remove(&self.lane);
        }
    }
}

impl Replay {
    fn busy(&self) -> MutexGuard<'_, Busy> {
        // Nothing panics under this lock.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that have rested long enough.
    pub(super) fn awake(&self) {
        let now = Instant::now();
        self.busy().resting.retain(|_, until| *until > now);
    }

    /// The turn of a lane that nobody in this process has now.
    pub(super) fn turn(self: &Arc<Self>, lane: &TopicPartition) -> Option<Turn> {
        let mut busy = self.busy();
        if busy.resting.contains_key(lane) || !busy.lanes.insert(lane.clone()) {
            return None;
        }
        let (ill, hand) = (busy.ill.contains(lane), self.inbox.hand(lane));
        Some(Turn { replay: Arc::clone(self), lane: lane.clone(), ill, rest: REST, hand })
    }
}

/// How long replay goes on.
#[derive(Clone)]
pub(super) struct Term {
    pub(super) signal: Signal,
    pub(super) until: Option<Instant>,
}

impl Term {
    pub(super) fn is_over(&self) -> bool {
        self.signal.phase() >= Phase::Finishing || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Waits, at most until it is over.
    pub(super) async fn rest(&mut self, rest: Duration) {
        let until = self.until.map_or(rest, |until| rest.min(until.saturating_duration_since(Instant::now())));
        tokio::select! {
            () = self.signal.reached(Phase::Finishing) => {}
            () = tokio::time::sleep(until) => {}
        }
    }

    /// What comes before it is over, or a moment later: a store that is asked for rows may take its time.
    pub(super) async fn before_the_end<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let until = self.until;
        let over = async {
            match until {
                Some(until) => tokio::time::sleep_until((until + LAST_WAIT).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            come = what => Some(come),
            () = self.ended() => None,
            () = over => None,
        }
    }

    /// A moment after the end: for reports that are on their way.
    pub(super) async fn ended(&mut self) {
        self.signal.reached(Phase::Finishing).await;
        tokio::time::sleep(LAST_WAIT).await;
    }
}
