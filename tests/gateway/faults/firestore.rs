//! Faults of a Firestore inbox, and of broker and gate before one: slow, exhausted, locked out, lying, away.
//!
//! What always holds: the checker reads Firestore by its REST API; without an emulator a test says NOT RUN.

mod backlog;
mod broker;
mod doors;
mod lies;
mod trouble;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::firestore::stage::with_firestore;
use crate::support::faulty_firestore::FaultyFirestore;
use crate::support::firestore::{DATABASE, Firestore, PROJECT};
use crate::support::firestore_caller::warm;
use crate::support::gate::Gate;
use crate::support::{DEADLINE, eventually};

use super::disk::{assert_unavailable, post};
use super::{REPLAYED, SLOWEST_ANSWER, Stage, status};

/// A stage whose inbox is Firestore, behind the proxy that can break it.
struct Clouded {
    stage: Stage,
    firestore: Firestore,
    faulty: FaultyFirestore,
    number: AtomicU64,
}

impl Clouded {
    async fn new() -> Option<Self> {
        let firestore = Firestore::start().await?;
        warm(&firestore).await;
        let faulty = FaultyFirestore::before(&firestore.address()).await;
        let mut stage = Stage::new().await;
        stage.setup = with_firestore(stage.setup.clone(), &faulty.address());
        stage.firestore = Some(format!("{}/{PROJECT}/{DATABASE}", firestore.address()));
        stage.deadline = SLOWEST_ANSWER;
        Some(Self { stage, firestore, faulty, number: AtomicU64::new(0) })
    }

    fn set(&mut self, name: &str, value: &str) {
        self.stage.setup = self.stage.setup.clone().env(&format!("SLUICEGATE__INBOX__FIRESTORE__{name}"), value);
    }

    /// Sends the next event of one key, and gives the status.
    async fn next(&self, gate: &Gate, token: &str) -> u16 {
        post(gate, token, &self.stage.ledger, "alpha", self.number.fetch_add(1, Ordering::Relaxed), 100).await.status
    }

    /// The next event is refused for now, with a time to come back.
    async fn is_refused(&self, gate: &Gate, token: &str) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        assert_unavailable(&post(gate, token, &self.stage.ledger, "alpha", number, 100).await);
    }

    /// The next event that the inbox takes: the name of its document.
    async fn stored(&self, gate: &Gate, token: &str) -> String {
        let answer = async || {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let answer = post(gate, token, &self.stage.ledger, "alpha", number, 100).await;
            answer.json()["results"][0]["document"].as_str().map(str::to_owned)
        };
        eventually("an event is stored", DEADLINE, answer).await
    }

    /// Waits until an event has this status.
    async fn until(&self, gate: &Gate, token: &str, wanted: u16) {
        let answered = async || (self.next(gate, token).await == wanted).then_some(());
        eventually(&format!("an event is answered {wanted}"), DEADLINE, answered).await;
    }

    /// Waits until Firestore holds nothing, and the gate knows.
    async fn replayed(&self, gate: &Gate) {
        self.stage.replayed(gate).await;
        let empty = async || self.firestore.documents("sluicegate_inbox").await.is_empty().then_some(());
        eventually("no document is left", REPLAYED, empty).await;
    }
}

fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
    sorted[(sorted.len() * hundredths / 100).min(sorted.len() - 1)]
}

/// How many were refused, all of them for now. Where a batch holds what can never be accepted beside what can, each event has
/// its own refusal, and the status is 207.
fn for_now(refused: &[String]) -> usize {
    let other: Vec<_> = refused.iter().filter(|refused| !refused.starts_with("503 ") && !refused.starts_with("207 ")).collect();
    assert!(other.is_empty(), "{} refused, {other:?}", refused.len());
    refused.len()
}

/// That Firestore does not let the gate write, as it says itself.
async fn denied(gate: &Gate) -> Option<String> {
    let firestore = status(gate).await["inbox"]["firestore"].clone();
    (firestore["denied"] == true).then(|| firestore["trouble"].to_string())
}

/// How many documents the gate has found to be missing.
async fn missing(gate: &Gate) -> Option<u64> {
    status(gate).await["inbox"]["firestore"]["audit_missing"].as_u64().filter(|missing| *missing > 0)
}
