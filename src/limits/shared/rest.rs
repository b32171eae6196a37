//! How long the store is left alone after a failure: 1 s, then twice as long each time, up to 30 s, and never all gates at once.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// The pauses after failures.
#[derive(Debug, Default)]
pub(super) struct Rest {
    failures: u32,
    until: Option<Instant>,
}

impl Rest {
    /// Whether it may be asked now.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// It was asked in vain. `chance`, from 0 to 1, spreads the next attempt by a quarter.
    pub(super) fn failed(&mut self, chance: f64, now: Instant) {
        let pause = (FIRST * 2_u32.pow(self.failures.min(5))).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0));
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_begin_anew_after_an_answer() {
        let (mut rest, now) = (Rest::default(), Instant::now());
        assert!(rest.is_over(now));
        for seconds in [1, 2, 4, 8, 16, 30, 30, 30] {
            rest.failed(0.5, now);
            let end = now + Duration::from_secs(seconds);
            assert!(!rest.is_over(end - Duration::from_millis(1)) && rest.is_over(end), "{seconds}");
        }
        rest.answered();
        assert!(rest.is_over(now));
        rest.failed(0.0, now);
        assert!(rest.is_over(now + Duration::from_millis(750)));
        rest.answered();
        rest.failed(1.0, now);
        assert!(!rest.is_over(now + Duration::from_millis(1_249)));
    }
}
