//! What a Firestore document is, without its wire: its values, what it can hold, and how large it is.
//!
//! A document holds less than JSON does. What could not be stored when the broker is away must be refused while it is
//! there too, so all of these rules are arithmetic over bytes that are at hand: nothing is asked, nothing is sent.
//!
//! What always holds: a [`Value`] that was read from JSON is at most [`DEEPEST`] maps and arrays deep, has at most
//! [`MOST_LEAVES`] leaves, whose entries of indexes have [`LARGEST_ENTRIES`] at most, and says what the JSON said, to the last digit; the last of fields of one name is taken, as
//! Python's reader does; what is counted is never less than what Firestore counts. A reader never goes deeper than
//! [`DEEPEST`], whatever it is given, and keeps no more than [`MOST_LEAVES`] values of it.

mod fault;
mod json;
mod number;
mod size;

use bytes::Bytes;

pub use fault::{Fault, Unstorable};
pub use size::{Extent, GENERAL, Name, general_fits, general_room, size};

/// Maps and arrays in each other, the outermost counted and the document itself not.
pub const DEEPEST: usize = 20;
/// Values that are not made of others: each is an entry of some index. Firestore takes 40,000 entries of a document; a
/// field has one in each direction, and an array's element one more.
pub const MOST_LEAVES: usize = 10_000;
/// The longest name of a field with those around it, with dots between them, in bytes. Arrays have no part in it.
pub const LONGEST_PATH: usize = 1_500;
/// The longest string, in bytes.
pub const LONGEST_TEXT: usize = 1_048_487;
/// The most that a document's entries in all indexes may take together, in bytes.
pub const LARGEST_ENTRIES: u64 = 8 << 20;
/// The longest name of a collection, in bytes: far above what anybody writes.
const LONGEST_COLLECTION: usize = 200;
/// The largest document, by Firestore's way of counting.
pub const LARGEST_DOCUMENT: u64 = 1_048_576;
/// The most that the name of an instance may have for [`general_fits`] to be right, in bytes.
pub const LONGEST_INSTANCE: usize = 128;
/// The most that the reason of a document that is set aside may have for [`general_fits`] to be right, in bytes.
pub const LONGEST_REASON: usize = 512;

/// The fields of a document or of a map. Each name stands once.
pub type Fields = Vec<(String, Value)>;

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Double(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// A moment.
    Timestamp {
        /// Milliseconds since 1970.
        millis: i64,
    },
    /// Values in their order.
    Array(Vec<Value>),
    /// Values by their names.
    Map(Fields),
}

impl Value {
    /// What JSON says, as a value of a document that stands directly in it.
    pub fn of_json(json: &[u8]) -> Result<Self, Unstorable> {
        json::value(json)
    }
}

/// Whether a collection of ours can have this name: what stands in a document's name without an escape, and is not one of
/// Firestore's own names. Firestore takes more.
pub fn is_collection(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    let reserved = matches!(name, "." | "..") || (name.starts_with("__") && name.ends_with("__"));
    plain && !reserved && (1..=LONGEST_COLLECTION).contains(&name.len())
}

/// Whether Firestore keeps a name for itself: `__.*__`, in its words.
fn is_reserved(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("__") && name.ends_with("__")
}

/// The document of a command: exactly the fields of its record's value, and where it comes from.
pub fn command(value: &[u8], source: &str, name: Name) -> Result<Fields, Unstorable> {
    let mut fields = json::fields(value, name)?;
    fields.push(("source".to_owned(), Value::Text(source.to_owned())));
    let actual = size(name, &fields);
    if actual > LARGEST_DOCUMENT {
        return Err(Fault::Document { actual }.into());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests;
