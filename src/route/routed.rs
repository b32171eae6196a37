//! [`Routed`]: a record that may be sent, and the name of its document.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Kept, RECORD_OVERHEAD, header_size};
use crate::event::{EventId, Headers, Topic};

/// A record that may be sent: the proof that somebody who may asked for it.
#[derive(Debug, Clone)]
pub struct Routed {
    pub(super) id: EventId,
    pub(super) topic: Topic,
    pub(super) principal: String,
    pub(super) key: Option<Bytes>,
    pub(super) partition: Option<i32>,
    pub(super) headers: Headers,
    pub(super) value: Bytes,
    pub(super) payload: Bytes,
    pub(super) timestamp_ms: i64,
    pub(super) inbox: bool,
    pub(super) kept: Option<Kept>,
}

/// The name of an event's document in the inbox: 20 bytes of a hash, so that writes make no hot spot and the same event
/// stored twice is one document.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DocumentName(pub [u8; 20]);

impl std::fmt::Display for DocumentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The fields of a record that was acknowledged before and is read back from the inbox.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The event's name.
    pub id: EventId,
    /// Its topic.
    pub topic: Topic,
    /// Who sent it.
    pub principal: String,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's headers.
    pub headers: Headers,
    /// The record's value.
    pub value: Bytes,
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl Routed {
    /// What was acknowledged is delivered even if the grant is gone since: callable only under `inbox/` (held by `tests/layering.rs`).
    pub fn restore(row: Restored) -> Self {
        let Restored { id, topic, principal, key, headers, value, timestamp_ms } = row;
        // Its row has its partition.
        let payload = value.clone();
        Self { id, topic, principal, key, partition: None, headers, payload, value, timestamp_ms, inbox: true, kept: None }
    }

    /// The event's one name.
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// Where to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Who asked for it: `<issuer>:<subject>`.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The record's key.
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The partition that its door wants it in.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// The record's headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The record's value.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Milliseconds since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Whether its route has an inbox.
    pub fn may_store(&self) -> bool {
        self.inbox
    }

    /// Which document it becomes in an inbox of documents; none: its inbox is another one, or it was in it before.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// hash(principal, topic, id, key, sha256 of the client's payload): one id with two payloads, or two keys, makes two documents.
    pub fn name(&self) -> DocumentName {
        let mut hash = Sha256::new();
        for field in [self.principal.as_bytes(), self.topic.as_str().as_bytes(), self.id.as_str().as_bytes()] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        match &self.key {
            None => hash.update([0]),
            Some(key) => {
                hash.update([1]);
                hash.update((key.len() as u64).to_be_bytes());
                hash.update(key);
            }
        }
        hash.update(Sha256::digest(&self.payload));
        let mut name = [0; 20];
        name.copy_from_slice(&hash.finalize()[..20]);
        DocumentName(name)
    }

    /// Key, value and headers with what Kafka adds to them.
    pub fn size(&self) -> u64 {
        let headers: usize = self.headers.iter().map(|(name, value)| header_size(name, value.len())).sum();
        (self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers) as u64 + RECORD_OVERHEAD
    }
}
