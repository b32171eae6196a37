//! OTLP's requests as bytes: looked through, counted, repaired and cut, without a decoder.
//!
//! An `Export…Request` and the record that a Collector reads from Kafka are the same bytes, so what a client sent is what
//! is stored. A leaf without I/O. What always holds: bytes that [`check`] takes at full depth, every decoder of OTLP takes;
//! what nothing is wrong with comes back as the same [`Bytes`]; nothing here panics, goes deeper than 100 messages, or
//! allocates by a number that came over the wire. [`cut`] loses nothing and repeats no item: after grouping by equal envelope,
//! the fragments' items in order are the request's.
//!
//! One request is looked at as five kinds of containers: request, entry (of one resource), scope, and for metrics also metric
//! and data. What is in a container besides the next container or the items is its *envelope*.

mod gather;
mod group;
pub mod json;
mod keys;
mod levels;
mod pack;
mod path;
mod repair;
mod schema;
mod split;
mod validate;
mod wire;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use split::{cut, fragment_id};
pub use validate::check;

/// What a request is about: each has a path, a service, a topic and a schema of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// As OTLP's paths call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// One of what is counted, accepted and rejected.
    pub fn item(self) -> &'static str {
        match self {
            Self::Traces => "span",
            Self::Metrics => "data point",
            Self::Logs => "log record",
        }
    }
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (byte {offset})")]
pub struct Fault {
    /// Where, from the start of the request.
    pub offset: u64,
    /// What is wrong, and in which field. It holds nothing of the payload.
    pub what: String,
}

/// How closely a request is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// All of it: what one consumer could not decode is refused.
    #[default]
    Full,
    /// Tags, lengths and nesting of everything; texts and ids are not looked at.
    Structure,
    /// Only as deep as the items are counted.
    None,
}

/// A request that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The request: the same bytes where nothing had to be changed.
    pub bytes: Bytes,
    /// How many items these bytes hold.
    pub items: u64,
    /// How many items were taken out.
    pub rejected: u64,
    /// Why they were.
    pub why: Option<String>,
    /// How many texts were made UTF-8.
    pub repaired: u64,
}

/// How the records of a request find their partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// Each trace whole on the partition that its key would have; the records have no key. Anything but traces: as `none`.
    #[default]
    ByTrace,
    /// No keys.
    None,
    /// A record for each trace id, with the key that the Collector's exporter gives it. Metrics: as `none`.
    TraceId,
    /// A record for each resource, with the key that the Collector's exporter gives it.
    Resource,
}

/// How a request is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the records find their partitions.
    pub keys: Keys,
    /// How many partitions the topic has; 0: nobody knows.
    pub partitions: i32,
    /// The most that key and value of a record may take.
    pub record_bytes: u64,
    /// The most records that a request may become.
    pub max_fragments: usize,
    /// The most that all of them may take together: envelopes are repeated in each.
    pub max_bytes: u64,
}

/// One record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// A request by itself.
    pub value: Bytes,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The partition that it belongs on.
    pub partition: Option<i32>,
    /// How many items it holds.
    pub items: u64,
}

/// Items that fit into no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub items: u64,
    /// Which, and how large.
    pub what: String,
}

/// What became of a request: every item is in one fragment, or rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// In the order of the request (within a partition or key). None: the request was empty, or all of it was rejected.
    pub fragments: Vec<Fragment>,
    /// What is too large by itself.
    pub rejected: Vec<Rejected>,
}

/// Why a request is not cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// It would be too many records.
    #[error("the request would become more than {most} records of at most {record_bytes} bytes; send smaller batches")]
    TooManyFragments {
        /// What is allowed.
        most: usize,
        /// The limit of one record.
        record_bytes: u64,
    },
    /// Its envelopes would be repeated too often.
    #[error(
        "the request of {bytes} bytes would become records of more than {most} bytes together, because what describes its \
         resources and scopes is repeated in each; send smaller batches, or fewer attributes on the resource"
    )]
    TooManyBytes {
        /// What the request takes.
        bytes: u64,
        /// What is allowed.
        most: u64,
    },
    /// It has so many nearly empty entries, scopes and items that an index of them would be far larger than itself.
    #[error("the request of {bytes} bytes has too many nearly empty parts to be cut; send smaller batches")]
    TooManyParts {
        /// What the request takes.
        bytes: u64,
    },
    /// It is not what [`check`] would have taken.
    #[error(transparent)]
    Malformed(#[from] Fault),
}
