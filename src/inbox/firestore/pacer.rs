//! How fast the writer may go: the ramp, the pauses that Firestore asks for, and how much goes into a call and how many at once.
//!
//! What always holds: a batch has 20 to 500 writes and grows by a tenth after a quick call that was at least half full;
//! it is halved, and so is the number of calls, when Firestore says that it is too much, or is slow; a pause begins at 100 ms
//! and doubles up to 10 s until a call succeeds; one line is written for each change of state, not for each call.

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
}

impl Pacer {
    /// A pacer at the beginning of its ramp.
    pub fn new(config: &Config) -> Self {
        let ramp = Ramp::new(config.ramp_from, config.writes_per_second, config.writes_per_day, Instant::now());
        let state = State { ramp, batch: FIRST_BATCH, calls: FIRST_CALLS, next: None, until: None, denied: false };
        Self { state: Mutex::new(state), per_day: config.writes_per_day }
    }

    /// Waits until so many writes may be made. Urgent ones are never kept longer than a second: they are refused at once. The
    /// rest leaves half of a second's writes to them, for as long as that; ask for a few hundred at most.
    pub async fn permit(&self, writes: u32, urgent: bool) -> Result<(), Spent> {
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
        if took > SLOW {
            state.less();
        } else if took <= QUICK && writes * 2 >= state.batch {
            state.batch = (state.batch + state.batch.div_ceil(10)).min(LARGEST_BATCH);
            state.calls = (state.calls + 1).min(MOST_CALLS);
        }
    }

    /// A call has ended without an answer; when it took long, a smaller one may get one.
    pub fn unanswered(&self, took: Duration) {
        if took > SLOW {
            self.lock().less();
        }
    }

    /// Whether an insert would be taken now.
    pub fn takes(&self) -> bool {
        self.shut().is_none() && self.has_room(0).is_ok()
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
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock, and the numbers are whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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
mod tests {
    use super::*;

    fn pacer(ramp_from: u32, per_day: u64) -> Pacer {
        Pacer::new(&Config { ramp_from, writes_per_second: ramp_from, writes_per_day: per_day, ..Config::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn quick_full_calls_grow_and_slow_or_refused_ones_halve() {
        let pacer = pacer(500, 1_000);
        pacer.answered(1, Duration::from_millis(5));
        assert_eq!((pacer.batch(), pacer.calls()), (100, 4));
        pacer.answered(100, Duration::from_millis(5));
        assert_eq!((pacer.batch(), pacer.calls()), (110, 5));
        for _ in 0..100 {
            pacer.answered(500, Duration::from_millis(5));
        }
        assert_eq!((pacer.batch(), pacer.calls()), (500, 16));
        pacer.answered(500, Duration::from_millis(700));
        assert_eq!((pacer.batch(), pacer.calls()), (250, 8));
        pacer.unanswered(Duration::from_secs(1));
        pacer.unanswered(Duration::from_millis(1));
        assert_eq!((pacer.batch(), pacer.calls()), (125, 4));
        for _ in 0..10 {
            pacer.exhausted();
            tokio::time::advance(LONGEST_PAUSE).await;
        }
        assert_eq!((pacer.batch(), pacer.calls()), (20, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_ten_seconds_and_a_long_one_refuses() {
        let pacer = pacer(500, 1_000);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pacer.exhausted();
            // Those of the same moment do not count.
            pacer.exhausted();
            let pause = pacer.pause().expect("a pause");
            assert_eq!(pacer.takes(), pause <= PATIENCE);
            pauses.push(pause.as_millis());
            tokio::time::advance(pause).await;
            assert!(pacer.takes());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        pacer.answered(10, Duration::from_millis(1));
        pacer.exhausted();
        assert_eq!(pacer.pause(), Some(FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_shuts_it_until_a_call_works() {
        let pacer = pacer(500, 1_000);
        pacer.denied(&"no");
        assert_eq!((pacer.takes(), pacer.shut()), (false, Some(Shut::Denied)));
        pacer.works();
        assert!(pacer.takes());
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_writes_are_refused_where_the_rest_waits() {
        let pacer = pacer(100, 1_000);
        assert_eq!(pacer.permit(100, true).await, Ok(()));
        assert!(pacer.has_room(99).is_ok() && pacer.has_room(100) == Err(Spent::Second));
        let began = Instant::now();
        assert_eq!(pacer.permit(101, true).await, Err(Spent::Second));
        assert_eq!(began.elapsed(), Duration::ZERO);
        // It leaves half of a second's writes: then it takes more than there are.
        assert_eq!(pacer.permit(100, false).await, Ok(()));
        assert_eq!(began.elapsed().as_millis() / 10, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_leaves_half_to_the_urgent_but_not_for_ever() {
        let pacer = std::sync::Arc::new(pacer(100, 100_000));
        pacer.permit(100, true).await.expect("a full second's");
        let began = Instant::now();
        let rest = tokio::spawn({
            let pacer = std::sync::Arc::clone(&pacer);
            async move { pacer.permit(10, false).await.map(|()| began.elapsed()) }
        });
        // Urgent writes use all that there is.
        while !rest.is_finished() {
            pacer.permit(1, true).await.expect("in time");
        }
        let took = rest.await.expect("no panic").expect("a permit");
        assert!(took >= LONGEST_WAIT && took < LONGEST_WAIT * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_days_end_refuses_everything() {
        let pacer = pacer(500, 100);
        pacer.permit(100, true).await.expect("the day's");
        assert_eq!(pacer.permit(1, false).await, Err(Spent::Day));
        assert!(!pacer.takes());
        assert_eq!(pacer.snapshot().writes_today, 100);
    }
}
