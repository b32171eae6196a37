//! (Permit, batch) → [`RoutedRecords`]: a producer's batch that may be sent, its bytes untouched.
//!
//! The same bounds as for events, held against a batch as its broker would: the topic's `max.message.bytes` against the
//! batch, its times, and the key that a compacted topic needs; and what its document in the inbox can hold.
//! `max_event_bytes` of the route is not asked: a batch is not taken apart to be measured.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::holds::Places;
use super::{Bounds, DocumentName, Table};
use crate::auth::Permit;
use crate::event::{EventId, Topic};
use crate::receipt::Refusal;
use crate::records::{BadRecord, Demands, Producer, RecordBatch};

/// A batch that may be sent: the proof that somebody who may asked for it.
#[derive(Clone, Debug)]
pub struct RoutedRecords {
    id: EventId,
    topic: Topic,
    partition: i32,
    principal: String,
    batch: RecordBatch,
    name: DocumentName,
    demands: Option<Demands>,
    inbox: bool,
    collection: Option<Arc<str>>,
}

/// The fields of a batch that was acknowledged before and is read back from the inbox.
#[derive(Debug, Clone)]
pub struct RestoredRecords {
    /// By what a person finds it.
    pub id: EventId,
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: i32,
    /// Who sent it.
    pub principal: String,
    /// Its bytes.
    pub batch: RecordBatch,
    /// The name of its document.
    pub name: DocumentName,
}

impl RoutedRecords {
    /// What was acknowledged is delivered even if the grant is gone since: callable only under `inbox/` (held by `tests/layering.rs`).
    pub fn restore(row: RestoredRecords) -> Self {
        let RestoredRecords { id, topic, partition, principal, batch, name } = row;
        Self { id, topic, partition, principal, batch, name, demands: None, inbox: true, collection: None }
    }

    /// By what a person finds it in the inbox. No consumer sees it: not one byte of a batch is ours.
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// Where to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The partition that its producer has chosen.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Who asked for it: `<issuer>:<subject>`.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The batch.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Who wrote it, as it stands in the batch.
    pub fn producer(&self) -> Option<Producer> {
        self.batch.producer()
    }

    /// What its records must meet before the inbox may have it; none: they have met it.
    pub fn demands(&self) -> Option<&Demands> {
        self.demands.as_ref()
    }

    /// Whether its route has an inbox.
    pub fn may_store(&self) -> bool {
        self.inbox
    }

    /// Its collection in an inbox of documents; none: its inbox is another one, or it was in it before. Never one of commands.
    pub fn collection(&self) -> Option<&Arc<str>> {
        self.collection.as_ref()
    }

    /// The name of its document. With a producer's numbers: the same batch sent twice is one document (the CRC tells it from
    /// another one of the same numbers). Without: each one that comes is its own, because equal bytes can be two batches.
    pub fn name(&self) -> DocumentName {
        self.name
    }

    /// The same records without their producer's numbers, under the same name.
    #[must_use]
    pub fn stripped(&self) -> Self {
        Self { batch: self.batch.strip(), ..self.clone() }
    }
}

fn name_of(id: &EventId, principal: &str, topic: &Topic, partition: i32, batch: &RecordBatch) -> DocumentName {
    let mut hash = Sha256::new();
    for field in [b"records".as_slice(), principal.as_bytes(), topic.as_str().as_bytes()] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.update(partition.to_be_bytes());
    hash.update(batch.crc().to_be_bytes());
    match batch.producer() {
        Some(Producer { id, epoch, first, last }) => {
            hash.update(id.to_be_bytes());
            hash.update(epoch.to_be_bytes());
            hash.update(first.to_be_bytes());
            hash.update(last.to_be_bytes());
        }
        None => hash.update(id.as_str().as_bytes()),
    }
    let mut name = [0; 20];
    name.copy_from_slice(&hash.finalize()[..20]);
    DocumentName(name)
}

impl Bounds {
    /// What a batch's records must meet when it has arrived at this time.
    pub fn demands(&self, arrived: SystemTime) -> Demands {
        let now = i64::try_from(arrived.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())).unwrap_or(i64::MAX);
        let span = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Demands {
            not_before_ms: if self.before_max_ms >= i64::MAX as u64 { i64::MIN } else { now.saturating_sub(span(self.before_max_ms)) },
            not_after_ms: now.saturating_add(span(self.after_max_ms)),
            keys: self.compacted,
            broker_time: self.log_append_time,
        }
    }
}

/// Whether a topic takes a batch of this size.
pub fn fits(batch: &RecordBatch, bounds: &Bounds) -> Result<(), Refusal> {
    let (actual, limit) = (batch.bytes().len() as u64, bounds.max_message_bytes);
    if actual > limit {
        return Err(Refusal::TooLarge { what: "the size of the record batch in bytes", actual, limit });
    }
    Ok(())
}

/// What a record that its topic does not take is told.
pub fn refusal_of(bad: BadRecord) -> Refusal {
    let field = match bad {
        BadRecord::Time { .. } => "time",
        BadRecord::NoKey { .. } => "key",
        BadRecord::Damaged { .. } => "records",
    };
    Refusal::invalid(field, bad.to_string())
}

impl Table {
    /// Uses the permit for one batch of its topic. Its header meets the demands; whether its records do is asked by who takes it.
    pub fn route_records(
        &self,
        permit: &Permit,
        bounds: &Bounds,
        demands: Demands,
        partition: i32,
        batch: RecordBatch,
    ) -> Result<RoutedRecords, Refusal> {
        let Some(row) = self.row(permit.topic()) else {
            return Err(Refusal::Denied { topic: permit.topic().to_string() });
        };
        fits(&batch, bounds)?;
        let (id, principal) = (EventId::generate(), permit.principal().name());
        row.places.map_or(Ok(()), |places| places.check_batch(permit.topic(), principal, &batch))?;
        let name = name_of(&id, principal, permit.topic(), partition, &batch);
        Ok(RoutedRecords {
            id,
            topic: permit.topic().clone(),
            partition,
            principal: principal.to_owned(),
            batch,
            name,
            demands: Some(demands),
            inbox: row.config.inbox,
            collection: row.places.map(Places::batches),
        })
    }
}
