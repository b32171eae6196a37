//! A share of the replay for who asks for it: where the gate has no processor between requests, a scheduler's request is
//! what the inbox is drained by.
//!
//! What always holds: only who administers is answered; one share runs at a time; a share that has begun is carried to its
//! end, whether or not somebody still waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::Ingest;
use crate::auth::{Principal, administrator};

pub use crate::inbox::replay::Share as Replayed;

/// Why nothing was replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReplayed {
    /// Who asks does not administer.
    Denied,
    /// A share runs already. It is not joined: each answer tells what its own request has done, and a request that only waits
    /// would hold a connection, and on some platforms the bill, for nothing.
    Runs,
    /// A fault of ours.
    Failed,
}

impl Ingest {
    /// Replays for at most so long, or until nothing waits any more.
    pub async fn replay(&self, principal: &Principal, limit: Duration) -> Result<Replayed, NotReplayed> {
        let administrator = administrator(principal).ok_or(NotReplayed::Denied)?;
        let turn = Arc::clone(&self.share).try_lock_owned().map_err(|_| NotReplayed::Runs)?;
        tracing::info!(principal = administrator.principal().name(), ?limit, "a replay is asked for");
        let (replay, signal) = (Arc::clone(&self.replay), self.signal.clone());
        // In a task of its own: who hangs up does not cut it between an acknowledgement and its delete.
        let task = async move {
            let share = replay.share(limit, signal).await;
            drop(turn);
            share
        };
        self.tasks.spawn(task).await.map_err(|_| NotReplayed::Failed)
    }
}
