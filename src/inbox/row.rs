//! A row of the disk inbox, and the form of its body.
//!
//! The body is one line of JSON (id, principal, key, headers, time), a line feed, and the record's value as it is, so
//! that a person can read it with `sqlite3 -readonly`. A body that cannot be read back is set aside, never guessed at.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{EventId, Topic};
use crate::gate::Owed;
use crate::route::{DocumentName, Restored, Routed};

/// The version of the body's form.
const VERSION: u32 = 1;

/// What the trunk gives to the inbox.
#[derive(Debug)]
pub struct Parcel {
    /// The record.
    pub routed: Arc<Routed>,
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

/// A row read back.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name. Never its number in the table: SQLite gives the number of a deleted row to the next one.
    pub name: DocumentName,
    /// Its topic.
    pub topic: Topic,
    /// Its partition; -1: not known yet.
    pub partition: i32,
    /// Its place in the order of arrivals.
    pub arrival: u64,
    /// Until then the producer may still deliver it.
    pub not_before_ms: i64,
    /// Whether it may be delivered already.
    pub maybe: bool,
    /// How often it was sent again and refused.
    pub attempts: u32,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: i64,
    /// Its body.
    pub body: Vec<u8>,
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

/// The body of a record's row.
pub fn encode(routed: &Routed) -> Vec<u8> {
    let head = Head {
        v: VERSION,
        id: routed.id().clone(),
        principal: routed.principal().to_owned(),
        key: routed.key().map(|key| Text::of(key)),
        headers: routed.headers().iter().map(|(name, value)| (name.clone(), Text::of(value))).collect(),
        time: routed.timestamp_ms(),
    };
    let mut body = serde_json::to_vec(&head).expect("text and numbers are always JSON");
    body.push(b'\n');
    body.extend_from_slice(routed.value());
    body
}

/// The record of a row; none, when the body is not one.
pub fn decode(topic: &Topic, body: &[u8]) -> Option<Routed> {
    let end = body.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&body[..end]).ok().filter(|head: &Head| head.v == VERSION)?;
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
        value: Bytes::copy_from_slice(&body[end + 1..]),
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
            let came = decode(went.topic(), &encode(&went)).expect("a record");
            assert_eq!((came.id(), came.key(), came.headers(), came.value()), (went.id(), went.key(), went.headers(), went.value()));
            assert_eq!((came.principal(), came.timestamp_ms()), (went.principal(), went.timestamp_ms()));
        }
    }

    #[test]
    fn a_person_can_read_it_and_damage_is_not_guessed_at() {
        let body = encode(&record(Some(b"k"), b"{\"a\":1}"));
        assert!(String::from_utf8_lossy(&body).ends_with("}\n{\"a\":1}"));
        let topic = Topic::new("t").expect("a topic");
        for damaged in [&b""[..], b"{}", b"{}\n", &body[1..], b"{\"v\":2,\"id\":\"1\",\"principal\":\"\",\"headers\":[],\"time\":0}\n"] {
            assert!(decode(&topic, damaged).is_none());
        }
    }
}
