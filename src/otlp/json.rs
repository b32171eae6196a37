//! OTLP/JSON to the bytes that OTLP/protobuf would have had: one pass over the text, no tree of values.
//!
//! What always holds:
//! - What comes out is a protobuf message that decoders agree on: every field once, a oneof with one member at most, packed
//!   lists in one piece, ids of 16 or 8 bytes, strings in UTF-8, lengths in their shortest form.
//! - What goes in is JSON by RFC 8259 to its last byte, in UTF-8 without a byte order mark, nested at most [`MAX_DEPTH`]
//!   deep; also where it is skipped because nobody knows the field.
//! - Nothing is lost that was said: doubles keep every bit, a member of a oneof and an `optional` field are written when they
//!   are zero too. A plain field that is zero is left out, as protobuf's own encoders do.
//! - At most [`MAX_GROWTH`] bytes come out for each byte that went in: a packed 64-bit number takes eight, and two (a digit
//!   and a comma) in JSON. Nothing is allocated by a number in the text.
//!
//! SDKs deviate from the specification, and a refusal loses their whole batch. So what can be meant in one way only is
//! taken, and counted in [`Deviations`]: `snake_case` names, names of enums, integers beyond 64 bits (which become doubles:
//! they were JavaScript's numbers), halves of surrogate pairs (U+FFFD), bytes as a list of numbers. `null` is "unset"
//! wherever a field may be unset; in a list it is refused, because leaving it out would move what follows.
//!
//! A known field that stands there twice is refused, in either spelling, and so are two members of one oneof. JSON's parsers
//! keep the last of two, protobuf's decoders merge them, and nobody could say what was stored. A body of which not one field
//! belongs to the signal is refused as well: it came to the wrong path and would be acknowledged as nothing. `{}` is an empty
//! request.

mod binary;
mod fault;
mod number;
mod scalar;
mod scan;

mod schema;
mod text;
mod walk;
mod write;

#[cfg(test)]
mod tests;

use super::{Fault, Signal};
use scan::Scan;
use walk::Walk;

/// How deep objects and arrays may be nested, together.
pub const MAX_DEPTH: usize = 100;

/// How many bytes come out at most for each that went in.
pub const MAX_GROWTH: usize = 4;

/// A request in protobuf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transcoded {
    /// The `Export…ServiceRequest`.
    pub bytes: Vec<u8>,
    /// How many spans, data points or log records are in it.
    pub items: u64,
    /// What was not as the specification says, and could be taken.
    pub deviations: Deviations,
}

/// How often something was taken that the specification does not know.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Deviations {
    /// Fields whose name was in `snake_case`.
    pub snake_case: u64,
    /// Enums that were given by name.
    pub enum_names: u64,
    /// Integers beyond 64 bits that became doubles.
    pub large_integers: u64,
    /// Halves of surrogate pairs that became U+FFFD.
    pub lone_surrogates: u64,
    /// Bytes that were no base64 but a list of numbers.
    pub byte_lists: u64,
    /// Fields that are not known and were left out, as the specification demands.
    pub unknown_fields: u64,
}

impl Deviations {
    /// Each by the name it has in a label.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("snake_case", self.snake_case),
            ("enum_name", self.enum_names),
            ("large_integer", self.large_integers),
            ("lone_surrogate", self.lone_surrogates),
            ("byte_list", self.byte_lists),
            ("unknown_field", self.unknown_fields),
        ]
    }
}

/// Transcodes a request. A fault names the field by its path, and its offset is a byte of the JSON.
pub fn transcode(signal: Signal, json: &[u8]) -> Result<Transcoded, Fault> {
    if json.starts_with(b"\xEF\xBB\xBF") {
        return Err(Fault { offset: 0, what: "JSON starts with a byte order mark, which RFC 8259 forbids".into() });
    }
    if let Err(error) = std::str::from_utf8(json) {
        return Err(Fault { offset: error.valid_up_to() as u64, what: "JSON that is not UTF-8".into() });
    }
    let mut walk = Walk::new(Scan::new(json));
    walk.request(schema::request(signal)).map_err(|broken| broken.fault())?;
    Ok(walk.finish())
}
