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
use crate::sink::catalog::Lookup;

/// Between two tries while the breaker says nothing new.
const EVERY: Duration = Duration::from_millis(250);

/// How long something is held, and the memory that it takes meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    /// Until then.
    pub until: Instant,
    /// What it takes.
    pub guard: &'a InFlight,
}

impl Hold<'_> {
    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.until || self.guard.is_crowded()
    }
}

impl Ingest {
    /// Lands parts, and tries again while nothing of them was taken.
    pub(super) async fn land_or_hold(&self, mut parts: Vec<(Routed, Option<i32>)>, started: Instant, hold: Hold<'_>) -> Vec<Answer> {
        let mut began = started;
        loop {
            let answers = self.land(parts.clone(), began, Some(hold.until)).await;
            if !is_outage(&answers) || hold.is_over() {
                return answers;
            }
            self.look_again(hold).await;
            self.place_anew(&mut parts);
            began = Instant::now();
        }
    }

    /// Waits for a reason to try again: the breaker's word, or time.
    pub(super) async fn look_again(&self, hold: Hold<'_>) {
        let mut breaker = self.sink.breaker().watch();
        breaker.borrow_and_update();
        let next = hold.until.min(Instant::now() + EVERY);
        // A change or the time: either is a reason.
        let _ = timeout_at(next.into(), breaker.changed()).await;
    }

    /// What came before any catalog has partitions as soon as there is one.
    fn place_anew(&self, parts: &mut [(Routed, Option<i32>)]) {
        for (routed, partitions) in parts.iter_mut().filter(|(_, partitions)| partitions.is_none()) {
            if let Lookup::Known(facts) = self.sink.catalog().peek(routed.topic()) {
                *partitions = Some(facts.partitions);
            }
        }
    }
}

/// Whether nothing was taken, and nothing is in doubt.
fn is_outage(answers: &[Answer]) -> bool {
    !answers.is_empty() && answers.iter().all(|answer| answer.as_ref().is_err_and(Refusal::is_outage))
}
