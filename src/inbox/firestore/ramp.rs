//! How many writes a second, and a day: Firestore's 500/50/5 rule.
//!
//! "Begin with 500 writes a second and grow by half every 5 minutes" is meant for a database; each instance keeps it for
//! itself. What always holds: the rate grows only after five minutes in which at least half of it was used, and falls back
//! after fifteen without a write; no urgent write waits longer than [`LONGEST_WAIT`], it is refused at once; the rest leaves
//! half of a second's writes to the urgent ones, but not for longer than that either. The day is UTC's, and its count is this
//! process's: a restart begins it anew. No clock is read here.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that a write may have to wait for its turn.
pub const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// So long a time's writes may come at once.
const SECOND: Duration = Duration::from_secs(1);

/// The rate may grow after so long.
const STEP: Duration = Duration::from_secs(5 * 60);

/// After so long without a write the rate begins anew.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Why a write may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// More writes wait than the rate allows in [`LONGEST_WAIT`].
    #[error("more writes a second than the ramp allows")]
    Second,
    /// The day's writes are made.
    #[error("the day's writes are used up")]
    Day,
    /// Firestore has asked for a longer pause.
    #[error("Firestore has asked for a pause")]
    Pause,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ramp {
    base: f64,
    cap: f64,
    per_day: u64,
    rate: f64,
    /// When nothing will be left of the writes that were let through: a second's writes may be ahead of their time.
    clear: Instant,
    /// Since when `used` counts; none: nothing was written since the last step.
    since: Option<Instant>,
    used: u64,
    last: Option<Instant>,
    day: u64,
    today: u64,
}

impl Ramp {
    pub(super) fn new(base: u32, cap: u32, per_day: u64, now: Instant) -> Self {
        let (base, cap) = (f64::from(base.min(cap).max(1)), f64::from(cap.max(1)));
        Self { base, cap, per_day, rate: base, clear: now, since: None, used: 0, last: None, day: 0, today: 0 }
    }

    /// Lets so many writes through; gives how long they must wait. `longest`: none waits longer, it is refused.
    pub(super) fn take(&mut self, now: Instant, day: u64, writes: u32, longest: Option<Duration>) -> Result<Duration, Spent> {
        self.turn(now, day);
        if self.today.saturating_add(u64::from(writes)) > self.per_day {
            return Err(Spent::Day);
        }
        let clear = self.clear.max(now) + self.time_of(writes);
        let wait = clear.saturating_duration_since(now).saturating_sub(SECOND);
        if longest.is_some_and(|longest| wait > longest) {
            return Err(Spent::Second);
        }
        self.clear = clear;
        self.since.get_or_insert(now);
        self.used += u64::from(writes);
        self.today += u64::from(writes);
        self.last = Some(now);
        Ok(wait)
    }

    /// How long a write would wait behind so many.
    pub(super) fn wait(&mut self, now: Instant, day: u64, ahead: usize) -> Duration {
        self.turn(now, day);
        let time = self.time_of(u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1));
        (self.clear.saturating_duration_since(now) + time).saturating_sub(SECOND)
    }

    /// How long until half of a second's writes are there.
    pub(super) fn until_half(&mut self, now: Instant, day: u64) -> Duration {
        self.turn(now, day);
        self.clear.saturating_duration_since(now).saturating_sub(SECOND / 2)
    }

    /// Whether the day has one more write.
    pub(super) fn has_day(&mut self, now: Instant, day: u64) -> bool {
        self.turn(now, day);
        self.today < self.per_day
    }

    /// Writes a second.
    pub(super) fn rate(&self) -> u32 {
        self.rate as u32
    }

    /// Writes of this day.
    pub(super) fn today(&self) -> u64 {
        self.today
    }

    /// Brings rate and day up to now.
    fn turn(&mut self, now: Instant, day: u64) {
        if day != self.day {
            (self.day, self.today) = (day, 0);
        }
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= IDLE) {
            (self.rate, self.since, self.used, self.last) = (self.base, None, 0, None);
        }
        if self.since.is_some_and(|since| now.saturating_duration_since(since) >= STEP) {
            if self.used as f64 * 2.0 >= self.rate * STEP.as_secs_f64() {
                self.rate = (self.rate * 1.5).min(self.cap);
            }
            (self.since, self.used) = (None, 0);
        }
    }

    fn time_of(&self, writes: u32) -> Duration {
        Duration::from_secs_f64(f64::from(writes) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Option<Duration> = Some(LONGEST_WAIT);

    /// Writes as much as is allowed for so many seconds, a hundred at a time; gives the number of writes.
    fn use_up(ramp: &mut Ramp, now: &mut Instant, seconds: u64, share: f64) -> u64 {
        let mut writes = 0;
        for _ in 0..seconds {
            let allowed = (f64::from(ramp.rate()) * share) as u32;
            for _ in 0..allowed.div_ceil(100) {
                writes += ramp.take(*now, 0, 100.min(allowed), LONGEST).map_or(0, |_| u64::from(100.min(allowed)));
            }
            *now += Duration::from_secs(1);
        }
        writes
    }

    #[test]
    fn it_begins_at_its_base_and_grows_by_half_after_five_minutes_of_use_up_to_its_cap() {
        let mut now = Instant::now();
        let mut ramp = Ramp::new(500, 1_000, u64::MAX, now);
        let writes = use_up(&mut ramp, &mut now, 300, 1.0);
        assert!((149_000..=151_000).contains(&writes), "{writes}");
        use_up(&mut ramp, &mut now, 1, 1.0);
        assert_eq!(ramp.rate(), 750);
        use_up(&mut ramp, &mut now, 302, 1.0);
        assert_eq!(ramp.rate(), 1_000);
        use_up(&mut ramp, &mut now, 602, 1.0);
        assert_eq!(ramp.rate(), 1_000);
    }

    #[test]
    fn little_use_lets_nothing_grow_and_none_lets_it_fall() {
        let mut now = Instant::now();
        let mut ramp = Ramp::new(500, 5_000, u64::MAX, now);
        use_up(&mut ramp, &mut now, 605, 0.4);
        assert_eq!(ramp.rate(), 500);
        use_up(&mut ramp, &mut now, 305, 1.0);
        assert_eq!(ramp.rate(), 750);
        now += Duration::from_secs(14 * 60);
        ramp.wait(now, 0, 0);
        assert_eq!(ramp.rate(), 750);
        now += Duration::from_secs(60);
        ramp.wait(now, 0, 0);
        assert_eq!(ramp.rate(), 500);
    }

    #[test]
    fn who_would_wait_longer_than_a_second_is_refused_at_once_and_takes_nothing() {
        let now = Instant::now();
        let mut ramp = Ramp::new(500, 500, u64::MAX, now);
        assert_eq!(ramp.take(now, 0, 500, LONGEST), Ok(Duration::ZERO));
        assert_eq!(ramp.until_half(now, 0), Duration::from_millis(500));
        assert_eq!(ramp.take(now, 0, 500, LONGEST), Ok(Duration::from_secs(1)));
        assert_eq!(ramp.take(now, 0, 1, LONGEST), Err(Spent::Second));
        assert!(ramp.wait(now, 0, 0) > LONGEST_WAIT);
        let later = now + Duration::from_millis(100);
        assert!(ramp.take(later, 0, 50, LONGEST).is_ok());
        assert!(ramp.take(later, 0, 1, LONGEST).is_err());
        // The rest is not refused: it waits.
        assert!(ramp.take(later, 0, 500, None).expect("no day's end") > LONGEST_WAIT);
    }

    #[test]
    fn a_days_writes_end_with_the_day() {
        let now = Instant::now();
        let mut ramp = Ramp::new(500, 500, 150, now);
        assert!(ramp.take(now, 7, 100, LONGEST).is_ok());
        assert_eq!(ramp.take(now, 7, 100, LONGEST), Err(Spent::Day));
        assert!(ramp.take(now, 7, 50, LONGEST).is_ok());
        assert!(!ramp.has_day(now, 7));
        assert!(ramp.has_day(now, 8) && ramp.take(now, 8, 100, LONGEST).is_ok());
        assert_eq!(ramp.today(), 100);
    }
}
