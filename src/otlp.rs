//! The bytes of OTLP requests: a stand-in that counts and passes on.

pub mod json;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a request carries.
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
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// One thing of it.
    pub const fn item(self) -> &'static str {
        match self {
            Self::Traces => "span",
            Self::Metrics => "data point",
            Self::Logs => "log record",
        }
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {offset}")]
pub struct Fault {
    /// From the body's start.
    pub offset: u64,
    /// What.
    pub what: String,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Everything.
    #[default]
    Full,
    /// Tags, lengths, nesting.
    Structure,
    /// Only counted.
    None,
}

/// A request that may go on.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its bytes.
    pub bytes: Bytes,
    /// How many things are in it.
    pub items: u64,
    /// How many of them were taken out.
    pub rejected: u64,
    /// Why.
    pub why: Option<String>,
    /// Places that were mended.
    pub repaired: u64,
}

/// Looks a request over.
pub fn check(_signal: Signal, bytes: Bytes, _depth: Depth, _repair_utf8: bool) -> Result<Checked, Fault> {
    let items = count(&bytes, 2).ok_or_else(|| Fault { offset: 0, what: "not a request".into() })?;
    Ok(Checked { bytes, items, rejected: 0, why: None, repaired: 0 })
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn count(bytes: &[u8], below: u32) -> Option<u64> {
    let (mut at, mut items) = (0, 0);
    while at < bytes.len() {
        let tag = varint(bytes, &mut at)?;
        let length = match tag & 7 {
            0 => {
                varint(bytes, &mut at)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(bytes, &mut at)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let inside = bytes.get(at..at.checked_add(length)?)?;
        at += length;
        let wanted = if below == 2 { 1 } else { 2 };
        if tag & 7 == 2 && tag >> 3 == wanted {
            items += if below == 0 { 1 } else { count(inside, below - 1)? };
        }
    }
    Some(items)
}

/// How records are keyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// By the trace, on explicit partitions.
    #[default]
    ByTrace,
    /// None.
    None,
    /// The trace's id.
    TraceId,
    /// The resource's hash.
    Resource,
}

/// How a request is cut.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By which keys.
    pub keys: Keys,
    /// The topic's partitions; 0: not known.
    pub partitions: i32,
    /// Key and value of one record, at most.
    pub record_bytes: u64,
    /// So many, at most.
    pub max_fragments: usize,
    /// All together, at most.
    pub max_bytes: u64,
}

/// One record to be.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Its value.
    pub value: Bytes,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its partition.
    pub partition: Option<i32>,
    /// How many things are in it.
    pub items: u64,
}

/// What fits into no record.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// How many.
    pub items: u64,
    /// Which, and why.
    pub what: String,
}

/// What a request was cut into.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The records.
    pub fragments: Vec<Fragment>,
    /// What is in none.
    pub rejected: Vec<Rejected>,
}

/// A request that cannot be cut.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CutError {
    /// Too many records.
    #[error("too many fragments")]
    TooManyFragments {},
    /// Too many bytes.
    #[error("too many bytes")]
    TooManyBytes {},
}

/// Cuts a request.
pub fn cut(_signal: Signal, bytes: &Bytes, _plan: &Plan) -> Result<Cut, CutError> {
    let items = count(bytes, 2).unwrap_or(0);
    Ok(Cut { fragments: vec![Fragment { value: bytes.clone(), key: None, partition: None, items }], rejected: Vec::new() })
}

/// Names a request that is cut so.
pub fn fragment_id(_bytes: &[u8], _plan: &Plan) -> u64 {
    0
}
