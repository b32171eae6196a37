//! How large a document is, as Firestore's page "Storage size calculations" counts it.
//!
//! Google's emulator agrees to the byte, but for maps: it counts the fields of a map alone, while the page says that a map
//! is "calculated the same way as document size", that is, with 32 bytes more. Nobody can ask the real one here; what is
//! counted too much is refused a little early, what is counted too little is lost, so the 32 bytes are counted. Neither the
//! project nor the database is part of a name's size.
//!
//! The size of a document of the general shape is computed without making it. It is that of the largest form that it can
//! have later: set aside, with the longest reason, of an instance with the longest name.

use super::{Fault, LARGEST_DOCUMENT, LARGEST_ENTRIES, LONGEST_INSTANCE, LONGEST_REASON, MOST_LEAVES, Unstorable, Value};

/// What every document and every map has beside its fields.
const OVERHEAD: u64 = 32;
/// Integers, doubles and moments.
const WORD: u64 = 8;
/// Null, yes and no, and what is empty.
const LEAST: u64 = 1;
/// The hex digits of a document's name in the inbox.
const HEX_NAME: usize = 40;
/// `!/`, the two slashes and the three numbers of `order` beside its topic: `!/<topic>/<10>/<20>/<8>`.
const ORDER: usize = 2 + 1 + 10 + 1 + 20 + 1 + 8;
/// The fields that a document of the general shape can have, of an event and of a batch. None is written that is not counted.
pub const GENERAL: [&str; 20] = [
    "v",
    "kind",
    "topic",
    "partition",
    "order",
    "id",
    "principal",
    "key",
    "headers",
    "value",
    "time",
    "stored_at",
    "not_before",
    "maybe_delivered",
    "audited",
    "attempts",
    "instance",
    "reason",
    "chosen",
    "records",
];
/// Values that they are, those of the headers not counted.
const GENERAL_LEAVES: usize = GENERAL.len() - 1;

/// What of a value stands in an entry of an index, at most.
const INDEXED: u64 = 1_500;
/// What an entry has beside the names and the value, counted generously.
const ENTRY: u64 = 64;

/// What a leaf's entries take in the indexes that there are by themselves: one in each direction, and one more where there is an
/// array around it. `names`: the document's and the field's, with those around it.
pub(super) fn entries(names: u64, value: u64, inside_array: bool) -> u64 {
    (2 + u64::from(inside_array)) * (names + value.min(INDEXED) + ENTRY)
}

/// What the name of a document takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(u64);

impl Name {
    /// A document of this collection, named by the hash of what it holds.
    pub const fn hashed(collection: &str) -> Self {
        Self(text(collection.len()) + text(HEX_NAME) + 16)
    }

    pub(super) const fn bytes(self) -> u64 {
        self.0
    }
}

/// The size of a document.
pub fn size(name: Name, fields: &[(String, Value)]) -> u64 {
    name.0 + OVERHEAD + sum(fields)
}

fn sum(fields: &[(String, Value)]) -> u64 {
    fields.iter().map(|(name, value)| text(name.len()) + value.size()).sum()
}

impl Value {
    /// What it takes in a document.
    pub fn size(&self) -> u64 {
        match self {
            Self::Null | Self::Bool(_) => LEAST,
            Self::Integer(_) | Self::Double(_) | Self::Timestamp { .. } => WORD,
            Self::Text(value) => text(value.len()),
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Array(values) => values.iter().map(Self::size).sum::<u64>().max(LEAST),
            Self::Map(fields) => OVERHEAD + sum(fields).max(LEAST),
        }
    }
}

/// What a text of so many bytes takes.
const fn text(bytes: usize) -> u64 {
    bytes as u64 + 1
}

/// What decides how large a document of the general shape is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Who sent it.
    pub principal: &'a str,
    /// The bytes of the event's id.
    pub id: usize,
    /// The bytes of the key; none: there is no key.
    pub key: Option<usize>,
    /// How many headers there are.
    pub headers: usize,
    /// The bytes of their names and values together.
    pub header_bytes: usize,
    /// The bytes of the value, or of the producer's batch.
    pub value: usize,
}

impl Extent<'_> {
    /// What its entries of indexes take at most: each leaf's, and no more of the values than there is.
    fn entries(&self, name: Name, leaves: usize) -> u64 {
        let values = [self.topic.len(), self.topic.len(), self.principal.len(), self.id, self.key.unwrap_or(0), self.value];
        let values = values.iter().map(|bytes| (*bytes as u64).min(INDEXED)).sum::<u64>() + (LONGEST_INSTANCE + LONGEST_REASON) as u64;
        leaves as u64 * entries(name.0 + "maybe_delivered".len() as u64, 8, true) + 3 * (values + self.header_bytes as u64)
    }

    fn size(&self, name: Name) -> u64 {
        let field = |name: &str, value: u64| text(name.len()) + value;
        let header = OVERHEAD + field("name", text(0)) + field("value", 0);
        let headers = (self.headers as u64 * header + self.header_bytes as u64).max(LEAST);
        let numbers = ["v", "partition", "time", "stored_at", "not_before", "attempts", "chosen", "records"];
        name.0
            + OVERHEAD
            + numbers.iter().map(|name| field(name, WORD)).sum::<u64>()
            + field("kind", text("event".len()).max(text("batch".len())))
            + field("topic", text(self.topic.len()))
            + field("order", text(ORDER + self.topic.len()))
            + field("id", text(self.id))
            + field("principal", text(self.principal.len()))
            + field("key", self.key.map_or(LEAST, |key| key as u64))
            + field("headers", headers)
            + field("value", self.value as u64)
            + field("maybe_delivered", LEAST)
            + field("audited", LEAST)
            + field("instance", text(LONGEST_INSTANCE))
            + field("reason", text(LONGEST_REASON))
    }
}

/// Whether a document of the general shape can hold an event, or a producer's batch.
pub fn general_fits(name: Name, extent: &Extent<'_>) -> Result<(), Unstorable> {
    let leaves = GENERAL_LEAVES + 2 * extent.headers;
    if leaves > MOST_LEAVES {
        return Err(Fault::Leaves { actual: leaves }.into());
    }
    let entries = extent.entries(name, leaves);
    if entries > LARGEST_ENTRIES {
        return Err(Fault::Entries { actual: entries }.into());
    }
    let actual = extent.size(name);
    if actual > LARGEST_DOCUMENT { Err(Fault::Document { actual }.into()) } else { Ok(()) }
}

/// How many bytes key and value can have together in a document of the general shape, beside what is given of it.
pub fn general_room(name: Name, extent: &Extent<'_>) -> u64 {
    // A key without bytes takes less than none.
    LARGEST_DOCUMENT.saturating_sub(Extent { key: None, value: 0, ..*extent }.size(name))
}
