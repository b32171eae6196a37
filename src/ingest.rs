//! THE TRUNK: authorize -> charge -> route -> send, else store -> receipt.

use std::sync::Arc;

use crate::auth::Principal;
use crate::event::Batch;
use crate::receipt::{Outcomes, Refusal};

/// The one function in which all doors meet.
#[derive(Debug, Default)]
pub struct Ingest {}

impl Ingest {
    /// Takes a batch; the outcomes are one for each event, in order. Runs in a task of its own, so that a client that hangs up does not cut a write in half.
    pub async fn accept(self: &Arc<Self>, principal: &Principal, batch: Batch) -> Outcomes {
        let _ = principal;
        Outcomes { results: batch.events.iter().map(|_| Err(Refusal::Internal)).collect(), guard: batch.guard }
    }
}
