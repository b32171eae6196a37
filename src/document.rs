//! What a Firestore document is, without its wire.

use bytes::Bytes;

/// The fields of a document or of a map in it.
pub type Fields = Vec<(String, Value)>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Double(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// A time.
    Timestamp {
        /// Milliseconds since 1970.
        millis: i64,
    },
    /// Values in order.
    Array(Vec<Value>),
    /// Fields.
    Map(Fields),
}
