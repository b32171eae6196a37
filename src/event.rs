//! What goes down the trunk: events, and the batch that one request brings.
//!
//! No I/O and no protocol here. What always holds: a [`Topic`] is a name that Kafka accepts and that is not one of
//! the brokers' own; a [`ClientKey`] is short and printable; an [`Event`]'s value is the sender's bytes, untouched.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::inflight::InFlight;

/// The longest topic name that Kafka takes.
pub const MAX_TOPIC_LENGTH: usize = 249;

/// The longest key that a client may choose for an event.
pub const MAX_CLIENT_KEY_LENGTH: usize = 128;

/// The name of a topic: 1–249 characters of `[A-Za-z0-9._-]`, not `.`, not `..`, and not internal (`__…`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks a name. Nothing that fails here can be written down as a topic anywhere in the gate.
    pub fn new(name: &str) -> Result<Self, BadTopic> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_TOPIC_LENGTH || !name.bytes().all(legal) {
            return Err(BadTopic);
        }
        if matches!(name, "." | "..") || name.starts_with("__") {
            return Err(BadTopic);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

/// A name that is not a topic's, or that is one of the brokers' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a topic is 1 to 249 characters of letters, digits, `.`, `_` and `-`, and does not start with `__`")]
pub struct BadTopic;

/// The key by which a client names an event of its own, so that it can send it again: 1–128 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClientKey(Arc<str>);

impl ClientKey {
    /// Checks a key.
    pub fn new(key: &str) -> Result<Self, BadClientKey> {
        if key.is_empty() || key.len() > MAX_CLIENT_KEY_LENGTH || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadClientKey);
        }
        Ok(Self(key.into()))
    }

    /// The key as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key that cannot stand in a header and a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event's id is 1 to 128 visible ASCII characters")]
pub struct BadClientKey;

/// The one name of an event, from the answer to the record's header: a ULID, or
/// `<12 hex digits of the principal's hash>.<key>` where the client chose a key.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Arc<str>);

impl EventId {
    /// A new name that sorts by time.
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate().to_string().into())
    }

    /// The client's key, made the principal's own, so that nobody's key can shadow another's.
    pub fn scoped(principal_hash: &str, key: &ClientKey) -> Self {
        Self(format!("{principal_hash}.{}", key.as_str()).into())
    }

    /// A name that was written down earlier, by this gate or one before it.
    pub fn restore(text: &str) -> Self {
        Self(text.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a person who writes `wanted` means the event of this id: by the whole of it, or by the client's key in it.
pub fn is_called(id: &str, wanted: &str) -> bool {
    let is_hash = |hash: &str| hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    id == wanted || id.split_once('.').is_some_and(|(hash, key)| key == wanted && is_hash(hash))
}

/// When an id was made, in milliseconds since 1970, if it has that in it.
pub fn time_in(id: &str) -> Option<u64> {
    ulid::Ulid::from_string(id).ok().map(|id| id.timestamp_ms())
}

/// Record headers, in order; a name may repeat.
pub type Headers = Vec<(String, Bytes)>;

/// Which door an event came in by. It goes into the record's source header and into the metrics' `door` label.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Door {
    /// `POST /v1/events`.
    Events,
    /// The Firebase callable function.
    Callable,
    /// The Kafka protocol.
    Kafka,
    /// OTLP over HTTP.
    Otlp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

impl Door {
    /// The door's name in headers, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Callable => "callable",
            Self::Kafka => "kafka",
            Self::Otlp => "otlp",
            Self::OtlpGrpc => "otlp_grpc",
        }
    }

    /// Whether the events of a batch are parts of one thing, which has one outcome: that of the part that fared worst.
    pub const fn is_whole(self) -> bool {
        match self {
            Self::Events | Self::Callable | Self::Kafka => false,
            Self::Otlp | Self::OtlpGrpc => true,
        }
    }
}

/// One thing that happened, as its sender told it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it shall go.
    pub topic: Topic,
    /// The key by which the client may send it again; none: the gate makes an id.
    pub client_key: Option<ClientKey>,
    /// The record's key; none: the route decides.
    pub key: Option<Bytes>,
    /// The partition that the door wants it in; taken where the topic has it.
    pub partition: Option<i32>,
    /// How many things it stands for, for the quota: 1, unless a sender puts several into one record.
    pub items: u32,
    /// The sender's own headers.
    pub headers: Headers,
    /// When it happened, by the sender's clock; none: when it arrived.
    pub time: Option<SystemTime>,
    /// The sender's bytes.
    pub value: Bytes,
}

/// What the door knows of a request and the route writes into the records.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The door.
    pub door: Door,
    /// When the request arrived.
    pub arrived: SystemTime,
    /// The sender's address, as seen through the configured hops.
    pub address: std::net::IpAddr,
    /// W3C trace context of the request, if it brought one.
    pub traceparent: Option<String>,
}

/// What one [`accept`](crate::ingest::Ingest::accept) handles.
#[derive(Debug)]
pub struct Batch {
    /// Its parts, in the sender's order.
    pub events: Vec<Event>,
    /// Where they come from.
    pub origin: Origin,
    /// What the quota counts in bytes, where that is not the sum of the parts; none: it is.
    pub charged_bytes: Option<u64>,
    /// How long it is held, and tried again, while neither tier takes any of it and nothing is in doubt; none: not at all.
    pub hold: Option<Duration>,
    /// The bytes in flight that they stand for. It travels with them, so that a sender who hangs up does not free memory that is still held.
    pub guard: InFlight,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_or_its_brokers_own_are_not_topics() {
        for name in ["", ".", "..", "__consumer_offsets", "../x", "a b", "ü", &"x".repeat(250)] {
            assert!(Topic::new(name).is_err(), "{name}");
        }
        for name in ["frontend-events", "otlp_spans", "a.b", "_x", &"x".repeat(249)] {
            assert!(Topic::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_client_key_is_scoped_to_its_principal() {
        let key = ClientKey::new("order-17").expect("a key");
        assert_eq!(EventId::scoped("0123456789ab", &key).as_str(), "0123456789ab.order-17");
        for (id, wanted, is) in [
            ("0123456789ab.order-17", "0123456789ab.order-17", true),
            ("0123456789ab.order-17", "order-17", true),
            ("0123456789ab.a.order-17", "order-17", false),
            ("0123456789ab.order-17", "17", false),
            ("somebody.order-17", "order-17", false),
        ] {
            assert_eq!(is_called(id, wanted), is, "{id} {wanted}");
        }
        assert!(ClientKey::new("a\nb").is_err());
        assert!(ClientKey::new(&"k".repeat(129)).is_err());
    }
}
