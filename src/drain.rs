//! The orderly stop: one signal with named phases, and the tasks that must end before the next phase begins.
//!
//! [`App`](crate::app) owns the order of the phases and their times. Everybody else watches a [`Signal`] and spawns
//! through a [`Drain`], so that on overrun it can be said what remains.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

/// For the first request of a client that has just come, while the gate stops, from when it came. Its connection, its handshake and the
/// request are three ways there and back at most.
pub const FIRST_WORD: Duration = Duration::from_millis(500);

/// How far the stop has come. Each phase includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Serving,
    /// `/readyz` says no, and every answer asks its client to go elsewhere (`Connection: close`).
    Leaving,
    /// Nothing new is accepted; what is in flight is finished.
    Finishing,
    /// What still waits for the broker goes to the inbox, and background work ends.
    Storing,
}

/// The owner's end.
#[derive(Debug, Clone)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    tasks: TaskTracker,
}

/// The watcher's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signal(watch::Receiver<Phase>);

impl Default for Drain {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), tasks: TaskTracker::new() }
    }
}

impl Drain {
    /// A watcher.
    pub fn signal(&self) -> Signal {
        Signal(self.phase.subscribe())
    }

    /// Enters a phase. Phases are never left backwards.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// The tasks that the drain waits for: connections and requests.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Waits until all tracked tasks have ended; false when they have not by `limit`.
    pub async fn finished(&self, limit: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

impl Signal {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the phase is reached (or the owner is gone).
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the owner is gone, which is the end of every phase.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }

    /// Waits until nobody's first word is waited for any more: the gate finishes, and `moment` is past by which whoever has come
    /// at all has said it. One that has just connected has its first request on the way.
    pub async fn closed_to_newcomers(&mut self, moment: Instant) {
        self.reached(Phase::Finishing).await;
        sleep_until(moment).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_is_seen_by_everybody_and_never_left() {
        let drain = Drain::default();
        let mut signal = drain.signal();
        assert_eq!(signal.phase(), Phase::Serving);
        drain.enter(Phase::Finishing);
        drain.enter(Phase::Leaving);
        signal.reached(Phase::Leaving).await;
        assert_eq!(signal.phase(), Phase::Finishing);
        assert!(drain.finished(Duration::from_secs(1)).await);
    }
}
