//! A row of the disk inbox, and the form of its body.
//!
//! The body is one line of JSON, a line feed, and bytes as they came: of an event (id, principal, key, headers, time) its
//! value, of a producer's batch (id, principal, how many records, whose) the batch. So a person can read the line with
//! `sqlite3 -readonly`, and both with `sluicegate inbox show`. A body that cannot be read back is set aside, never guessed at.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{EventId, Topic};
use crate::gate::{Owed, TopicPartition};
use crate::records::{Producer, RecordBatch};
use crate::route::{DocumentName, Restored, RestoredRecords, Routed, RoutedRecords};

/// The version of an event's body.
const VERSION: u32 = 1;
/// The version of a batch's body.
const RECORDS_VERSION: u32 = 2;

/// What a row is of.
#[derive(Debug, Clone)]
pub enum Content {
    /// An event, as a record of ours.
    Event(Arc<Routed>),
    /// A producer's batch, its bytes untouched.
    Records(Arc<RoutedRecords>),
}

impl Content {
    /// What it takes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Event(routed) => routed.size(),
            Self::Records(records) => records.batch().bytes().len() as u64,
        }
    }

    /// By what a person finds it.
    pub fn id(&self) -> &EventId {
        match self {
            Self::Event(routed) => routed.id(),
            Self::Records(records) => records.id(),
        }
    }

    /// Who sent it.
    pub fn principal(&self) -> &str {
        match self {
            Self::Event(routed) => routed.principal(),
            Self::Records(records) => records.principal(),
        }
    }
}

/// What the trunk gives to the inbox.
#[derive(Debug)]
pub struct Parcel {
    /// What is to be stored.
    pub content: Content,
    /// Its name.
    pub name: DocumentName,
    /// Its place in the order of arrivals.
    pub arrival: u64,
    /// Until then (milliseconds since 1970) the producer may still deliver it; 0: it has it no more.
    pub not_before_ms: i64,
    /// Whether it may be delivered already.
    pub maybe: bool,
    /// The closed gate of its partition.
    pub owed: Owed,
}

/// Where a row stands. It is known by its name, never by its number in a table: SQLite gives the number of a deleted row to the next one.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub name: DocumentName,
    /// Its topic and partition; -1: not known yet.
    pub lane: TopicPartition,
    /// Its place in the order of arrivals.
    pub arrival: u64,
    /// Whether this process has stored it, where several share a store.
    pub ours: bool,
}

/// A row read back.
#[derive(Debug, Clone)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// Until then the producer may still deliver it.
    pub not_before_ms: i64,
    /// Whether it may be delivered already.
    pub maybe: bool,
    /// How often it was sent again and refused.
    pub attempts: u32,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it holds; none, when that cannot be read.
    pub content: Option<Content>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    v: u32,
    id: EventId,
    principal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Text>,
    headers: Vec<(String, Text)>,
    time: i64,
}

/// Bytes as text where they are text, else in base64.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Base64 { base64: String },
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Base64 { base64: STANDARD.encode(bytes) }, |text| Self::Utf8(text.to_owned()))
    }

    fn bytes(self) -> Option<Bytes> {
        match self {
            Self::Utf8(text) => Some(Bytes::from(text)),
            Self::Base64 { base64 } => STANDARD.decode(base64).ok().map(Bytes::from),
        }
    }
}

/// The line before a batch.
#[derive(Serialize, Deserialize)]
struct RecordsHead {
    v: u32,
    id: EventId,
    principal: String,
    /// The partition that its producer has chosen.
    #[serde(default)]
    partition: Option<i32>,
    /// How many records there are, for a person.
    records: u32,
    /// Whose numbers they have, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    producer: Option<Numbers>,
}

#[derive(Serialize, Deserialize)]
struct Numbers {
    id: i64,
    epoch: i16,
    first: i32,
    last: i32,
}

impl From<Producer> for Numbers {
    fn from(Producer { id, epoch, first, last }: Producer) -> Self {
        Self { id, epoch, first, last }
    }
}

/// The body of a row.
pub fn encode(content: &Content) -> Vec<u8> {
    let (head, bytes) = match content {
        Content::Event(routed) => (event_head(routed), routed.value()),
        Content::Records(records) => (records_head(records), records.batch().bytes()),
    };
    let mut body = head;
    body.reserve_exact(1 + bytes.len());
    body.push(b'\n');
    body.extend_from_slice(bytes);
    body
}

fn event_head(routed: &Routed) -> Vec<u8> {
    let head = Head {
        v: VERSION,
        id: routed.id().clone(),
        principal: routed.principal().to_owned(),
        key: routed.key().map(|key| Text::of(key)),
        headers: routed.headers().iter().map(|(name, value)| (name.clone(), Text::of(value))).collect(),
        time: routed.timestamp_ms(),
    };
    serde_json::to_vec(&head).expect("text and numbers are always JSON")
}

fn records_head(records: &RoutedRecords) -> Vec<u8> {
    let head = RecordsHead {
        v: RECORDS_VERSION,
        id: records.id().clone(),
        principal: records.principal().to_owned(),
        partition: Some(records.partition()),
        records: records.batch().count(),
        producer: records.producer().map(Numbers::from),
    };
    serde_json::to_vec(&head).expect("text and numbers are always JSON")
}

/// What a row holds; none, when the body is neither an event nor a batch.
pub fn decode(name: DocumentName, topic: &Topic, partition: i32, body: &[u8]) -> Option<Content> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let end = body.iter().position(|byte| *byte == b'\n')?;
    let (line, bytes) = (&body[..end], Bytes::copy_from_slice(&body[end + 1..]));
    match serde_json::from_slice::<Version>(line).ok()?.v {
        VERSION => event(topic, serde_json::from_slice(line).ok()?, bytes).map(|routed| Content::Event(Arc::new(routed))),
        RECORDS_VERSION => {
            let RecordsHead { id, principal, partition: chosen, .. } = serde_json::from_slice(line).ok()?;
            restored_batch(id, (topic, partition), chosen, principal, bytes, name)
        }
        _ => None,
    }
}

/// A batch read back; none, when its bytes are none.
pub fn restored_batch(
    id: EventId,
    (topic, partition): (&Topic, i32),
    chosen: Option<i32>,
    principal: String,
    bytes: Bytes,
    name: DocumentName,
) -> Option<Content> {
    let batch = RecordBatch::parse(bytes).ok()?;
    // Its producer's numbers mean something in the partition that it has chosen, and nowhere else.
    let batch = if chosen.is_none_or(|chosen| chosen == partition) { batch } else { batch.strip() };
    let row = RestoredRecords { id, topic: topic.clone(), partition, principal, batch, name };
    Some(Content::Records(Arc::new(RoutedRecords::restore(row))))
}

fn event(topic: &Topic, head: Head, value: Bytes) -> Option<Routed> {
    let headers = head.headers.into_iter().map(|(name, value)| Some((name, value.bytes()?))).collect::<Option<Vec<_>>>()?;
    let key = match head.key {
        Some(key) => Some(key.bytes()?),
        None => None,
    };
    Some(Routed::restore(Restored {
        id: head.id,
        topic: topic.clone(),
        principal: head.principal,
        key,
        headers,
        value,
        timestamp_ms: head.time,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static [u8]>, value: &'static [u8]) -> Routed {
        Routed::restore(Restored {
            id: EventId::restore("01J"),
            topic: Topic::new("t").expect("a topic"),
            principal: "dev:me".into(),
            key: key.map(Bytes::from_static),
            headers: vec![("a".into(), Bytes::from_static(b"1")), ("b".into(), Bytes::from_static(b"\xff\x00"))],
            value: Bytes::from_static(value),
            timestamp_ms: 1_782_907_200_123,
        })
    }

    #[test]
    fn a_record_comes_back_as_it_went() {
        for (key, value) in [(None, b"".as_slice()), (Some(b"k".as_slice()), b"{\n\"a\":1}\n"), (Some(b"\xfe".as_slice()), b"\x00\xff")] {
            let went = record(key, value);
            let body = encode(&Content::Event(Arc::new(went.clone())));
            let Some(Content::Event(came)) = decode(went.name(), went.topic(), 0, &body) else { panic!("a record") };
            assert_eq!((came.id(), came.key(), came.headers(), came.value()), (went.id(), went.key(), went.headers(), went.value()));
            assert_eq!((came.principal(), came.timestamp_ms()), (went.principal(), went.timestamp_ms()));
        }
    }

    #[test]
    fn a_person_can_read_it_and_damage_is_not_guessed_at() {
        let body = encode(&Content::Event(Arc::new(record(Some(b"k"), b"{\"a\":1}"))));
        assert!(String::from_utf8_lossy(&body).ends_with("}\n{\"a\":1}"));
        let topic = Topic::new("t").expect("a topic");
        for damaged in [&b""[..], b"{}", b"{}\n", &body[1..], b"{\"v\":3,\"id\":\"1\",\"principal\":\"\",\"headers\":[],\"time\":0}\n"] {
            assert!(decode(DocumentName([0; 20]), &topic, 0, damaged).is_none());
        }
    }
}
