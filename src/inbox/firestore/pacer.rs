//! How fast the writer may go: the ramp, the pauses that Firestore asks for, and how much goes into a call and how many at once.
//!
//! What always holds: a batch has 20 to 500 writes and grows by a tenth after a quick call that was at least half full;
//! it is halved, and so is the number of calls, when Firestore says that it is too much, or is slow; a pause begins at 100 ms
//! and doubles up to 10 s until a call succeeds; a Firestore that has answered nothing for three seconds is offered nothing
//! more until it answers; one line is written for each change of state, not for each call.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::config::Config;
use super::ramp::{LONGEST_WAIT, Ramp};

pub use super::ramp::Spent;

/// Writes in a call.
const SMALLEST_BATCH: usize = 20;
const FIRST_BATCH: usize = 100;
const LARGEST_BATCH: usize = 500;

/// Calls at once.
const FIRST_CALLS: usize = 4;
const MOST_CALLS: usize = 16;

/// A call that is answered in this time says that more would do.
const QUICK: Duration = Duration::from_millis(250);

/// A call that takes longer says that less would be better.
const SLOW: Duration = Duration::from_millis(600);

/// What a pause begins with, and what it grows to.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// While a pause has longer to go than this, nothing is taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// When no call has been answered for so long, nothing more is taken: who has to wait for nothing is told at once.
const AWAY_AFTER: Duration = Duration::from_secs(3);

/// When nobody has asked for so long, nobody knows: a host may have given us no time.
const AWAY_FOR: Duration = Duration::from_secs(10);

/// Why nothing is taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// Firestore does not know us, or does not let us.
    Denied,
    /// A long pause.
    Paused,
}

/// See the module.
#[derive(Debug)]
pub struct Pacer {
    state: Mutex<State>,
    /// Held by the one of the rest whose turn it is, until its time has come.
    turn: tokio::sync::Mutex<()>,
    per_day: u64,
}

#[derive(Debug)]
struct State {
    ramp: Ramp,
    batch: usize,
    calls: usize,
    /// How long the next pause will be; none: the last call went well.
    next: Option<Duration>,
    until: Option<Instant>,
    denied: bool,
    /// The first and the last of the calls that had no answer, since one had.
    unanswered: Option<(Instant, Instant)>,
}

/// Numbers of a moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pace {
    /// Writes a second that the ramp allows.
    pub writes_per_second: u32,
    /// Writes of this day (UTC) by this process.
    pub writes_today: u64,
    /// Writes that this day may have.
    pub writes_per_day: u64,
    /// Writes that a call may have.
    pub batch: usize,
    /// Calls that may be under way.
    pub calls: usize,
    /// What is left of the pause that Firestore has asked for.
    pub pause_ms: u64,
    /// Whether Firestore does not let us.
    pub denied: bool,
    /// Whether Firestore does not answer.
    pub away: bool,
}

impl Pacer {
    /// A pacer at the beginning of its ramp.
    pub fn new(config: &Config) -> Self {
        let ramp = Ramp::new(config.ramp_from, config.writes_per_second, config.writes_per_day, Instant::now());
        let state = State { ramp, batch: FIRST_BATCH, calls: FIRST_CALLS, next: None, until: None, denied: false, unanswered: None };
        Self { state: Mutex::new(state), turn: tokio::sync::Mutex::default(), per_day: config.writes_per_day }
    }

    /// Waits until so many writes may be made. Urgent ones are never kept longer than a second: they are refused at once. The
    /// rest leaves half of a second's writes to them, for as long as that, and goes one after the other; ask for a few hundred
    /// at most.
    pub async fn permit(&self, writes: u32, urgent: bool) -> Result<(), Spent> {
        // Were all of the rest to lose their patience together, what they take would be seconds ahead of its time, and nothing
        // urgent would be let through meanwhile. So one of them at most is ever ahead.
        let _turn = if urgent { None } else { Some(self.turn.lock().await) };
        while let Some(left) = self.pause() {
            if urgent && left > PATIENCE {
                return Err(Spent::Pause);
            }
            sleep(left).await;
        }
        let wait = if urgent { self.take(writes, Some(LONGEST_WAIT))? } else { self.take_of_the_rest(writes).await? };
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }

    async fn take_of_the_rest(&self, writes: u32) -> Result<Duration, Spent> {
        let patience = Instant::now() + LONGEST_WAIT;
        loop {
            let now = Instant::now();
            let short = self.lock().ramp.until_half(now, today());
            if short.is_zero() || now >= patience {
                return self.take(writes, None);
            }
            sleep(short.min(patience - now)).await;
        }
    }

    fn take(&self, writes: u32, longest: Option<Duration>) -> Result<Duration, Spent> {
        self.lock().ramp.take(Instant::now(), today(), writes, longest)
    }

    /// Whether an insert behind so many others would be let through in time.
    pub(super) fn has_room(&self, ahead: usize) -> Result<(), Spent> {
        let (now, day) = (Instant::now(), today());
        let ramp = &mut self.lock().ramp;
        match ramp.has_day(now, day) {
            false => Err(Spent::Day),
            true if ramp.wait(now, day, ahead) > LONGEST_WAIT => Err(Spent::Second),
            true => Ok(()),
        }
    }

    /// Whether this day has one more write.
    pub fn has_day(&self) -> bool {
        self.lock().ramp.has_day(Instant::now(), today())
    }

    /// RESOURCE_EXHAUSTED or ABORTED were seen.
    pub fn exhausted(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        // The other calls of the same moment say the same.
        if state.until.is_some_and(|until| until > now) {
            return;
        }
        let pause = state.next.unwrap_or(FIRST_PAUSE);
        if state.next.is_none() {
            tracing::warn!("Firestore says that it is too much: the inbox goes slower, and refuses while a pause is longer than a second");
        }
        state.next = Some((pause * 2).min(LONGEST_PAUSE));
        state.until = Some(now + pause);
        state.less();
    }

    /// Firestore does not let us: nothing is taken until it does.
    pub fn denied(&self, words: &dyn std::fmt::Display) {
        let mut state = self.lock();
        if !state.denied {
            state.denied = true;
            tracing::error!(fault = %words, "Firestore does not let us write: the inbox takes nothing until it does");
        }
    }

    /// A call was answered as it should be.
    pub fn works(&self) {
        let mut state = self.lock();
        if state.denied {
            state.denied = false;
            tracing::info!("Firestore lets us again");
        }
    }

    /// A call with so many writes has been answered, and took so long.
    pub fn answered(&self, writes: usize, took: Duration) {
        self.works();
        let mut state = self.lock();
        if state.next.take().is_some() {
            tracing::info!("Firestore takes writes again");
        }
        if state.unanswered.take().is_some_and(is_long) {
            tracing::info!("Firestore answers again");
        }
        if took > SLOW {
            state.less();
        } else if took <= QUICK && writes * 2 >= state.batch {
            state.batch = (state.batch + state.batch.div_ceil(10)).min(LARGEST_BATCH);
            state.calls = (state.calls + 1).min(MOST_CALLS);
        }
    }

    /// A call has ended without an answer; when it took long, a smaller one may get one.
    pub fn unanswered(&self, took: Duration) {
        let mut state = self.lock();
        let now = Instant::now();
        let before = state.unanswered.filter(|(_, last)| now.duration_since(*last) < AWAY_FOR);
        let after = (before.map_or(now, |(first, _)| first), now);
        if is_long(after) && !before.is_some_and(is_long) {
            tracing::warn!("Firestore does not answer: the inbox takes nothing until it does");
        }
        state.unanswered = Some(after);
        if took > SLOW {
            state.less();
        }
    }

    /// Whether Firestore does not answer, as far as somebody has tried.
    pub(super) fn is_away(&self) -> bool {
        self.lock().is_away()
    }

    /// Whether an insert would be taken now.
    pub fn takes(&self) -> bool {
        self.shut().is_none() && !self.is_away() && self.has_room(0).is_ok()
    }

    /// Why nothing is taken; none: things are.
    pub fn shut(&self) -> Option<Shut> {
        let denied = self.lock().denied;
        match denied {
            true => Some(Shut::Denied),
            false => self.pause().filter(|left| *left > PATIENCE).map(|_| Shut::Paused),
        }
    }

    /// What is left of a pause.
    pub(super) fn pause(&self) -> Option<Duration> {
        let left = self.lock().until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Writes that a call may have.
    pub fn batch(&self) -> usize {
        self.lock().batch
    }

    /// Calls that may be under way at once.
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// Numbers of this moment.
    pub fn snapshot(&self) -> Pace {
        let pause = self.pause().unwrap_or_default();
        let state = self.lock();
        Pace {
            writes_per_second: state.ramp.rate(),
            writes_today: state.ramp.today(),
            writes_per_day: self.per_day,
            batch: state.batch,
            calls: state.calls,
            pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            denied: state.denied,
            away: state.is_away(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock, and the numbers are whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the first to the last call that had no answer.
fn is_long((first, last): (Instant, Instant)) -> bool {
    last.duration_since(first) >= AWAY_AFTER
}

impl State {
    fn is_away(&self) -> bool {
        self.unanswered.is_some_and(|calls| is_long(calls) && calls.1.elapsed() < AWAY_FOR)
    }

    fn less(&mut self) {
        self.batch = (self.batch / 2).max(SMALLEST_BATCH);
        self.calls = (self.calls / 2).max(1);
    }
}

/// Days since 1970, of UTC.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
}

#[cfg(test)]
mod tests;
