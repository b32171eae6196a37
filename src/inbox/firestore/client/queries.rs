//! How many queries are asked at once, and how long one may take.
//!
//! A store that is short of time, or that looks through everything for each query as Google's emulator does, answers none of
//! many in time, and goes on with those that were given up: asked as often again, it never answers. Nobody waits for rows,
//! so they are asked for more slowly instead.
//!
//! What always holds: a query that is late halves the number that are asked at once; once that is one, each that is late
//! doubles the time that the next may take, up to [`LONGEST`], but not while the store answers nobody: it is away, and when it is
//! back that should be seen soon. Those that were under way before such a change change nothing. A quick one takes a step back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Queries at once, at most.
const MOST: usize = 16;

/// The longest that one may take.
const LONGEST: Duration = Duration::from_secs(30);

/// A query is quick that takes so many times less than it may.
const QUICK: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Queries {
    /// There are more of them than `allowed` until turns that are under way, and too many, end.
    turns: Semaphore,
    shortest: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    allowed: usize,
    turns: usize,
    patience: Duration,
    /// When it was last told to ask less.
    changed: Instant,
}

/// What has become of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It has an answer.
    InTime,
    /// It has none, and other calls have.
    Late,
    /// It has none, and neither has anybody else.
    Away,
    /// It has failed, in a way that says nothing of how much may be asked.
    Never,
}

/// The right to ask one query.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    queries: &'a Queries,
    permit: Option<SemaphorePermit<'a>>,
    pub(super) began: Instant,
    pub(super) patience: Duration,
}

impl Queries {
    /// `shortest`: a query may always take so long.
    pub(super) fn new(shortest: Duration) -> Self {
        let state = State { allowed: MOST, turns: MOST, patience: shortest, changed: Instant::now() };
        Self { turns: Semaphore::new(MOST), shortest, state: Mutex::new(state) }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        // It is never closed; a query without its turn would be one too many, and no more.
        let permit = self.turns.acquire().await.ok();
        Turn { queries: self, permit, began: Instant::now(), patience: self.state().patience }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// What has become of it.
    pub(super) fn ended(self, came: Came) {
        let mut state = self.queries.state();
        if came == Came::Never || self.began < state.changed {
            return;
        }
        if came == Came::InTime {
            if self.began.elapsed() * QUICK <= self.patience {
                state.patience = (state.patience / 2).max(self.queries.shortest);
                state.allowed = (state.allowed + 1).min(MOST);
                let more = state.allowed.saturating_sub(state.turns);
                state.turns += more;
                self.queries.turns.add_permits(more);
            }
            return;
        }
        if state.allowed == 1 && came == Came::Late {
            state.patience = (state.patience * 2).min(LONGEST.max(self.queries.shortest));
        }
        state.allowed = (state.allowed / 2).max(1);
        let free = self.queries.turns.forget_permits(state.turns.saturating_sub(state.allowed));
        state.turns -= free;
        state.changed = Instant::now();
        tracing::debug!(at_once = state.allowed, patience = ?state.patience, "queries come late: less is asked");
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.queries.state();
        if let Some(permit) = self.permit.take_if(|_| state.turns > state.allowed) {
            permit.forget();
            state.turns -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const SHORTEST: Duration = Duration::from_secs(5);

    async fn ends(queries: &Queries, after: Duration, came: Came) {
        let turn = queries.turn().await;
        tokio::time::sleep(after).await;
        turn.ended(came);
    }

    fn now(queries: &Queries) -> (usize, Duration) {
        let state = queries.state();
        (state.allowed, state.patience)
    }

    /// How many can have a turn at once.
    fn at_once(queries: &Queries) -> usize {
        std::iter::from_fn(|| queries.turn().now_or_never()).collect::<Vec<_>>().len()
    }

    #[tokio::test(start_paused = true)]
    async fn late_ones_halve_the_number_then_double_the_time_and_quick_ones_take_it_back() {
        let queries = Queries::new(SHORTEST);
        assert_eq!((now(&queries), at_once(&queries)), ((16, SHORTEST), 16));
        ends(&queries, SHORTEST, Came::Late).await;
        assert_eq!((now(&queries), at_once(&queries)), ((8, SHORTEST), 8));
        for (allowed, patience) in [(4, 5), (2, 5), (1, 5), (1, 10), (1, 20), (1, 30), (1, 30)] {
            ends(&queries, SHORTEST, Came::Late).await;
            assert_eq!((now(&queries), at_once(&queries)), ((allowed, Duration::from_secs(patience)), allowed));
        }
        ends(&queries, Duration::from_secs(8), Came::InTime).await;
        assert_eq!(now(&queries), (1, LONGEST), "in time, and not quick");
        ends(&queries, Duration::from_secs(7), Came::InTime).await;
        assert_eq!((now(&queries), at_once(&queries)), ((2, LONGEST / 2), 2));
        for _ in 0..20 {
            ends(&queries, Duration::from_millis(1), Came::InTime).await;
        }
        assert_eq!((now(&queries), at_once(&queries)), ((16, SHORTEST), 16));
    }

    #[tokio::test(start_paused = true)]
    async fn those_under_way_together_ask_for_less_once() {
        let queries = Queries::new(SHORTEST);
        let turns = [queries.turn().await, queries.turn().await, queries.turn().await];
        tokio::time::advance(SHORTEST).await;
        turns.into_iter().for_each(|turn| turn.ended(Came::Late));
        assert_eq!((now(&queries), at_once(&queries)), ((8, SHORTEST), 8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_not_waited_for_longer() {
        let queries = Queries::new(SHORTEST);
        for _ in 0..6 {
            ends(&queries, SHORTEST, Came::Away).await;
        }
        assert_eq!((now(&queries), at_once(&queries)), ((1, SHORTEST), 1));
        ends(&queries, Duration::from_millis(1), Came::Never).await;
        drop(queries.turn().await);
        assert_eq!((now(&queries), at_once(&queries)), ((1, SHORTEST), 1), "a turn that is given up is given back");
    }
}
