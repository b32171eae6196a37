//! The ledger: the log of attempts as the senders write it, and the checker that is asked about it in the end.
//!
//! What always holds: what is promised is judged by the checker, a program of its own that reads the log, the broker and
//! the inbox; kept in memory is only what a scenario waits for.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::stopwatch::{Stopwatch, Took};

use super::log::{Attempt, Line, Log, Outcome, micros, sha256};
use super::rules::Verdict;

/// What names an attempt: the hash of its value.
pub type Name = String;

/// How often the machine is looked at, and what it may be late by in that time before this counts as a fault of its own: a
/// quarter of what a broker may take before events take the inbox.
const LOOK: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_millis(250);

/// The log of all attempts of a scenario.
#[derive(Debug)]
pub struct Ledger {
    log: Log,
    dir: TempDir,
    accepted: Mutex<Accepted>,
    stalls: AtomicU64,
    patient: AtomicBool,
}

#[derive(Debug, Default)]
struct Accepted {
    all: usize,
    /// When each answer from the inbox was read.
    by_inbox: Vec<Instant>,
}

impl Default for Ledger {
    fn default() -> Self {
        let dir = tempfile::Builder::new().prefix("sluicegate-attempts-").tempdir().expect("a temporary folder");
        let log = Log::create(&dir.path().join("attempts.jsonl"));
        Self { log, dir, accepted: Mutex::default(), stalls: AtomicU64::new(0), patient: AtomicBool::new(false) }
    }
}

impl Ledger {
    /// A new one, into which the machine's own faults are written as long as it is there.
    pub fn begin() -> Arc<Self> {
        let ledger = Arc::new(Self::default());
        let watched = Arc::downgrade(&ledger);
        tokio::spawn(async move {
            while watched.strong_count() > 0 {
                let watch = Stopwatch::start();
                tokio::time::sleep(LOOK).await;
                if let Some(ledger) = watched.upgrade() {
                    ledger.stalled(watch.read());
                }
            }
        });
        ledger
    }

    /// Writes an attempt down. Comes before the send.
    pub fn attempt(&self, value: &[u8], attempt: Attempt) -> Name {
        let sha256 = sha256(value);
        self.log.write(&Line::Attempt { sha256: sha256.clone(), at: self.log.now(), attempt });
        sha256
    }

    /// Writes down what was said of an attempt, and how long that took.
    pub fn outcome(&self, name: &Name, outcome: Outcome, took: Took) {
        if let Outcome::Ack { inbox, .. } = &outcome {
            let mut accepted = self.accepted();
            accepted.all += 1;
            if *inbox {
                accepted.by_inbox.push(Instant::now());
            }
        }
        self.log.write(&Line::Outcome { sha256: name.clone(), at: self.log.now(), stalled: micros(took.stalled), outcome });
    }

    /// The gate is a patient one: a machine that stands still explains nothing.
    pub fn patient(&self) {
        self.patient.store(true, Ordering::Relaxed);
    }

    /// Writes down that the machine stood still, if it did: what that does to a gate as it is shipped is a fault like others.
    fn stalled(&self, took: Took) {
        if took.stalled < STALL || self.patient.load(Ordering::Relaxed) {
            return;
        }
        let fault = format!("the machine stalled, {}", self.stalls.fetch_add(1, Ordering::Relaxed));
        let now = self.log.now();
        self.log.write(&Line::Broken { fault: fault.clone(), at: now.saturating_sub(micros(took.whole)) });
        self.log.write(&Line::Healed { fault, at: now });
    }

    /// Writes down that something is about to be broken.
    pub fn broken(&self, fault: &str) {
        self.log.write(&Line::Broken { fault: fault.to_owned(), at: self.log.now() });
    }

    /// Writes down that it is well again.
    pub fn healed(&self, fault: &str) {
        self.log.write(&Line::Healed { fault: fault.to_owned(), at: self.log.now() });
    }

    /// Writes down that nothing waits in the inbox.
    pub fn replayed(&self) {
        self.log.write(&Line::Replayed { at: self.log.now() });
    }

    /// How many attempts were accepted so far.
    pub fn acked(&self) -> usize {
        self.accepted().all
    }

    /// How long after `since` the inbox answered for the first time.
    pub fn first_inbox_answer(&self, since: Instant) -> Option<Duration> {
        self.accepted().by_inbox.iter().filter_map(|at| at.checked_duration_since(since)).min()
    }

    /// The log as it is now, in a file of its own.
    pub fn snapshot(&self, to: &Path) {
        std::fs::copy(self.dir.path().join("attempts.jsonl"), to).expect("files of ours");
    }

    /// What the checker says. `where_to_look`: its arguments beside the log.
    pub async fn verdict(&self, where_to_look: &[&str]) -> Verdict {
        Self::verdict_of(&self.dir.path().join("attempts.jsonl"), where_to_look).await
    }

    /// The same of a log that was copied earlier.
    pub async fn verdict_of(log: &Path, where_to_look: &[&str]) -> Verdict {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_sluicegate")).with_file_name("examples").join("checker");
        assert!(program.is_file(), "no {}: `cargo build --release --example checker` makes it", program.display());
        let mut checker = Command::new(program);
        checker.arg("--json").arg("--log").arg(log).args(where_to_look);
        let ran = tokio::task::spawn_blocking(move || checker.output()).await.expect("no panic").expect("the checker can be started");
        let said = String::from_utf8_lossy(&ran.stdout);
        let verdict: Verdict = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("the checker gives no verdict ({error}): {said}{}", String::from_utf8_lossy(&ran.stderr)));
        assert_eq!(ran.status.code(), Some(i32::from(!verdict.is_clean())), "its status says the same");
        verdict
    }

    fn accepted(&self) -> MutexGuard<'_, Accepted> {
        self.accepted.lock().expect("nothing panics under this lock")
    }
}
