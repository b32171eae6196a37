//! Time, and how much of it the machine took away.
//!
//! What always holds: a bound on time is held against what a test took by itself. A thread of its own does again and
//! again what every answer needs (a turn of a processor, a sync of the disk), and what it is late by was nobody's fault
//! but the machine's. On a quiet machine that is nothing, and the bound is as it is written.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Between two beats.
const BEAT: Duration = Duration::from_millis(50);

/// What any machine is late by now and then.
const JITTER: Duration = Duration::from_millis(10);

/// A beat has to be worth a turn of a processor: a thread that only wakes is let in before those that work.
const WORK: usize = 256 << 10;

/// The one that all tests of this process look at, as they share the machine.
static HEART: LazyLock<Heart> = LazyLock::new(|| {
    let mut file = tempfile::tempfile().expect("a temporary file");
    Heart::beating(move || {
        let hash = Sha256::digest(vec![7; WORK]);
        file.rewind().and_then(|()| file.write_all(&hash)).and_then(|()| File::sync_data(&file)).expect("a file of ours");
    })
});

/// How long something took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// By the clock.
    pub whole: Duration,
    /// What of that the machine was late by.
    pub stalled: Duration,
}

impl Took {
    /// What is left for the one that is measured.
    pub fn own(&self) -> Duration {
        self.whole.saturating_sub(self.stalled)
    }

    /// The one that took longer by itself.
    pub fn max(self, other: Self) -> Self {
        if other.own() > self.own() { other } else { self }
    }
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} (the machine stalled for {:?})", self.whole, self.stalled)
    }
}

/// Measures from its start.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    heart: Heart,
    began: Instant,
    lost: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self::by(&HEART)
    }

    fn by(heart: &Heart) -> Self {
        Self { lost: heart.lost(), began: Instant::now(), heart: heart.clone() }
    }

    /// How long it is since the start.
    pub fn read(&self) -> Took {
        Took { whole: self.began.elapsed(), stalled: self.heart.lost().saturating_sub(self.lost) }
    }
}

/// All that was lost since it began to beat.
#[derive(Debug, Clone)]
struct Heart(Arc<Mutex<Beats>>);

#[derive(Debug)]
struct Beats {
    lost: Duration,
    /// When the next beat should be over.
    due: Instant,
}

impl Heart {
    fn beating(mut beat: impl FnMut() + Send + 'static) -> Self {
        let first = Instant::now();
        beat();
        let mut quickest = first.elapsed();
        let heart = Self(Arc::new(Mutex::new(Beats { lost: Duration::ZERO, due: Instant::now() + BEAT + quickest })));
        let beats = Arc::downgrade(&heart.0);
        std::thread::spawn(move || {
            while let Some(beats) = beats.upgrade() {
                std::thread::park_timeout(BEAT);
                let begun = Instant::now();
                beat();
                quickest = quickest.min(begun.elapsed());
                let mut beats = beats.lock().expect("nothing panics under this lock");
                let late = beats.late();
                beats.lost += late;
                beats.due = Instant::now() + BEAT + quickest;
            }
        });
        heart
    }

    /// Grows. A beat that is not over yet counts already: who waits for the same is not over either.
    fn lost(&self) -> Duration {
        let beats = self.0.lock().expect("nothing panics under this lock");
        beats.lost + beats.late()
    }
}

impl Beats {
    fn late(&self) -> Duration {
        let late = self.due.elapsed();
        if late > JITTER { late } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::super::{DEADLINE, eventually};
    use super::*;

    #[tokio::test]
    async fn a_stall_is_taken_off_while_it_lasts_and_afterwards() {
        let (go, gone) = sync_channel::<()>(1_000);
        go.send(()).expect("listening");
        let heart = Heart::beating(move || {
            let _ = gone.recv_timeout(DEADLINE);
        });
        let watch = Stopwatch::by(&heart);
        let long = Duration::from_millis(300);
        let stalled = async || Some(watch.read()).filter(|took| took.stalled > long);
        let during = eventually("the stall is seen", DEADLINE, stalled).await;
        assert!(during.own() < during.whole - long);
        (0..900).for_each(|_| go.send(()).expect("listening"));
        let after = watch.read();
        assert!(after.stalled >= during.stalled, "{after}");
    }
}
