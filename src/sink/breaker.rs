//! The trust in the sink: closed, open, half-open. It watches progress, not connections.
//!
//! A broker can be connected and dead. So: while requests wait for acknowledgements and none comes for
//! `failover_after`, the breaker opens; any acknowledgement closes it. Until the producer's first acknowledgement, and
//! for a probe, the limit is `first_ack`, because a fresh idempotent producer needs 0.5–1.1 s. Parts that were handed
//! over to the inbox, and replay, do not count as waiting: one partition without a leader does not open it again and again.
//! Time is passed in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::telemetry::metrics;

/// A leg that was used so short a time ago is in use.
const IN_USE_FOR: Duration = Duration::from_millis(200);

/// The breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Events go to the broker.
    Closed,
    /// One probe is on its way; the rest takes the inbox.
    HalfOpen,
    /// Events take the inbox.
    Open,
}

impl State {
    /// The state's name in `/status` and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// How long no acknowledgement is borne.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between acknowledgements.
    pub failover_after: Duration,
    /// Before a producer's first one, and for a probe.
    pub first_ack: Duration,
    /// Between live probes while open.
    pub probe_every: Duration,
}

/// The breaker of one leg.
#[derive(Debug)]
pub struct Breaker {
    patience: Patience,
    inner: Mutex<Inner>,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct Inner {
    waiting: u64,
    /// The last sign of life, or when the first of those that wait was sent.
    progress: Instant,
    acknowledged: bool,
    /// When a request was sent last.
    sent: Option<Instant>,
    probed: Option<Instant>,
    openings: u64,
    since: Instant,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(patience: Patience, now: Instant) -> Self {
        let inner = Inner { waiting: 0, progress: now, acknowledged: false, sent: None, probed: None, openings: 0, since: now };
        Self { patience, inner: Mutex::new(inner), state: watch::Sender::new(State::Closed) }
    }

    /// The state now.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Watches the state.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// How often it has opened, and since when it is as it is.
    pub fn history(&self) -> (u64, Instant) {
        let inner = self.lock();
        (inner.openings, inner.since)
    }

    /// Whether a live send may go to the broker: yes, or (once each `probe_every`) as the probe that half-opens it. Where the
    /// inbox has rows to probe with, a live one is seldom needed: for rows that cannot be sent.
    pub fn admits(&self, now: Instant, inbox_probes: bool) -> bool {
        let every = self.patience.probe_every * if inbox_probes { 5 } else { 1 };
        match self.state() {
            State::Closed => true,
            State::HalfOpen => false,
            State::Open => {
                let mut inner = self.lock();
                let due = inner.probed.is_none_or(|last| now.saturating_duration_since(last) >= every);
                if due {
                    inner.probed = Some(now);
                    self.enter(&mut inner, State::HalfOpen, now);
                }
                due
            }
        }
    }

    /// Parts whose requests wait for the producer's report.
    pub fn sent(&self, parts: u64, now: Instant) {
        let mut inner = self.lock();
        if inner.waiting == 0 {
            inner.progress = now;
        }
        inner.sent = Some(now);
        inner.waiting += parts;
    }

    /// Parts that nobody waits for any more: reported, or handed over.
    pub fn left(&self, parts: u64) {
        let mut inner = self.lock();
        debug_assert!(inner.waiting >= parts, "nobody leaves twice");
        inner.waiting = inner.waiting.saturating_sub(parts);
    }

    /// The broker has answered something: it lives.
    pub fn answered(&self, now: Instant) {
        self.lock().progress = now;
    }

    /// The broker has acknowledged a record: trust is back, whatever it was.
    pub fn acknowledged(&self, now: Instant) {
        let mut inner = self.lock();
        inner.progress = now;
        inner.acknowledged = true;
        if self.state() != State::Closed {
            self.enter(&mut inner, State::Closed, now);
        }
    }

    /// The broker was waited for at the start and did not come: events take the inbox at once.
    pub fn distrust(&self, now: Instant) {
        let mut inner = self.lock();
        if !inner.acknowledged && self.state() == State::Closed {
            inner.openings += 1;
            metrics().breaker_openings.inc();
            inner.probed = Some(now);
            self.enter(&mut inner, State::Open, now);
        }
    }

    /// A new producer has its first acknowledgement before it.
    pub fn renewed(&self) {
        self.lock().acknowledged = false;
    }

    /// Whether requests wait for the broker now, or did a moment ago: a quick broker's are seldom seen waiting.
    pub fn is_in_use(&self, now: Instant) -> bool {
        let inner = self.lock();
        inner.waiting > 0 || inner.sent.is_some_and(|sent| now.saturating_duration_since(sent) < IN_USE_FOR)
    }

    /// Whether the producer has ever had an acknowledgement.
    pub fn is_proven(&self) -> bool {
        self.lock().acknowledged
    }

    /// How long those that wait have waited without a sign of life.
    pub fn stalled_for(&self, now: Instant) -> Duration {
        let inner = self.lock();
        if inner.waiting == 0 { Duration::ZERO } else { now.saturating_duration_since(inner.progress) }
    }

    /// Opens if patience is at its end; called every few milliseconds.
    pub fn tick(&self, now: Instant) {
        let mut inner = self.lock();
        let silent = now.saturating_duration_since(inner.progress);
        match self.state() {
            State::Closed => {
                let limit = if inner.acknowledged { self.patience.failover_after } else { self.patience.first_ack };
                if inner.waiting > 0 && silent >= limit {
                    inner.openings += 1;
                    metrics().breaker_openings.inc();
                    inner.probed = Some(now);
                    self.enter(&mut inner, State::Open, now);
                }
            }
            State::HalfOpen => {
                let probe_over = inner.probed.is_none_or(|at| now.saturating_duration_since(at) >= self.patience.first_ack);
                if inner.waiting == 0 || probe_over {
                    self.enter(&mut inner, State::Open, now);
                }
            }
            State::Open => {}
        }
    }

    fn enter(&self, inner: &mut Inner, state: State, now: Instant) {
        let before = self.state.send_replace(state);
        if before == state {
            return;
        }
        if before == State::Closed || state == State::Closed {
            inner.since = now;
        }
        match state {
            State::Open if before == State::Closed => {
                tracing::warn!(waiting = inner.waiting, "no acknowledgement from the broker: the breaker opens, events take the inbox");
            }
            State::Closed => tracing::info!("the broker acknowledges: the breaker closes"),
            State::Open | State::HalfOpen => tracing::debug!(state = state.as_str(), "the breaker moves"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under this lock but a debug assertion, and the numbers are whole at any time.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { failover_after: Duration::from_millis(750), first_ack: Duration::from_secs(3), probe_every: Duration::from_secs(1) };

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn warm(start: Instant) -> Breaker {
        let breaker = Breaker::new(PATIENCE, start);
        breaker.acknowledged(start);
        breaker
    }

    #[test]
    fn it_opens_when_somebody_waits_and_nothing_comes() {
        let start = Instant::now();
        let breaker = warm(start);
        breaker.tick(at(start, 10_000));
        assert_eq!(breaker.state(), State::Closed, "nobody waits");
        breaker.sent(1, at(start, 10_000));
        breaker.tick(at(start, 10_749));
        assert_eq!(breaker.state(), State::Closed);
        breaker.tick(at(start, 10_750));
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.history().0, 1);
    }

    #[test]
    fn it_is_in_use_while_somebody_waits_and_a_moment_longer() {
        let start = Instant::now();
        let breaker = warm(start);
        assert!(!breaker.is_in_use(start));
        breaker.sent(1, start);
        assert!(breaker.is_in_use(at(start, 5_000)));
        breaker.left(1);
        assert!(breaker.is_in_use(at(start, 199)) && !breaker.is_in_use(at(start, 200)));
    }

    #[test]
    fn acknowledgements_of_others_are_progress() {
        let start = Instant::now();
        let breaker = warm(start);
        breaker.sent(2, start);
        breaker.acknowledged(at(start, 700));
        breaker.left(1);
        breaker.tick(at(start, 1_400));
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_producer_that_has_no_acknowledgement_yet_has_three_seconds() {
        let start = Instant::now();
        let breaker = Breaker::new(PATIENCE, start);
        breaker.sent(1, start);
        breaker.tick(at(start, 2_999));
        assert_eq!(breaker.state(), State::Closed);
        breaker.tick(at(start, 3_000));
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn one_probe_a_second_goes_through_and_any_acknowledgement_closes() {
        let start = Instant::now();
        let breaker = warm(start);
        breaker.sent(1, start);
        breaker.tick(at(start, 800));
        breaker.left(1);
        assert!(!breaker.admits(at(start, 900), false));
        assert!(!breaker.admits(at(start, 1_800), true));
        assert!(breaker.admits(at(start, 1_800), false));
        breaker.sent(1, at(start, 1_800));
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(!breaker.admits(at(start, 1_801), false));
        breaker.left(1);
        breaker.tick(at(start, 3_800));
        assert_eq!(breaker.state(), State::Open, "the probe was given up");
        breaker.acknowledged(at(start, 4_000));
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn parts_that_were_handed_over_do_not_open_it_again() {
        let start = Instant::now();
        let breaker = warm(start);
        breaker.sent(5, start);
        breaker.tick(at(start, 750));
        breaker.left(5);
        breaker.acknowledged(at(start, 800));
        breaker.tick(at(start, 9_000));
        assert_eq!(breaker.state(), State::Closed);
    }
}
