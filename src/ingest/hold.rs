//! A batch that neither tier takes is held, where its door asks for it: senders that never try again would drop it.
//!
//! What always holds: only what was taken by nobody is sent again, whole, and nothing that is in doubt; a gate that runs
//! out of room for bytes in flight holds nothing. Parts that the producer has are waited for as long.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::{Answer, Ingest};
use crate::limits::inflight::InFlight;
use crate::receipt::Refusal;
use crate::route::Routed;

/// Between two tries while the breaker says nothing new.
const EVERY: Duration = Duration::from_millis(250);

impl Ingest {
    /// Lands parts, and tries again until `until` while nothing of them was taken.
    pub(super) async fn land_or_hold(
        &self,
        parts: Vec<(Routed, Option<i32>)>,
        started: Instant,
        until: Instant,
        guard: &InFlight,
    ) -> Vec<Answer> {
        let mut began = started;
        loop {
            let mut breaker = self.sink.breaker().watch();
            breaker.borrow_and_update();
            let answers = self.land(parts.clone(), began, Some(until)).await;
            let left = until.saturating_duration_since(Instant::now());
            if !is_outage(&answers) || left.is_zero() || guard.is_crowded() {
                return answers;
            }
            // A change or the time: either is a reason to look again.
            let _ = timeout_at(tokio::time::Instant::now() + EVERY.min(left), breaker.changed()).await;
            if Instant::now() >= until {
                return answers;
            }
            began = Instant::now();
        }
    }
}

/// Whether nothing was taken, and nothing is in doubt.
fn is_outage(answers: &[Answer]) -> bool {
    !answers.is_empty() && answers.iter().all(|answer| answer.as_ref().is_err_and(Refusal::is_outage))
}
