//! Why a document cannot hold something: where it is, what is wrong, and what to do instead.

use std::fmt;

use super::{DEEPEST, LARGEST_DOCUMENT, LARGEST_ENTRIES, LONGEST_PATH, LONGEST_TEXT, MOST_LEAVES};

/// What is shown of a path, in bytes: the names in it are the sender's, and can be as long as they like.
const SHOWN_PATH: usize = 200;

/// What a document cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", At(path))]
pub struct Unstorable {
    /// Where: names with dots between them, numbers of elements in brackets, cut to a length that can be shown. Empty: the whole.
    pub path: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A path before what is wrong there.
struct At<'a>(&'a str);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "`{}`: ", self.0) }
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are not JSON.
    #[error("is not JSON")]
    NotJson,
    /// JSON that is not an object, where a document's fields are expected.
    #[error("must be a JSON object")]
    NotAnObject,
    /// An array in an array.
    #[error("an array stands directly in an array, which a Firestore document cannot hold; put an object between them")]
    ArrayInArray,
    /// Too deep.
    #[error("objects and arrays stand in each other deeper than the {DEEPEST} levels of a Firestore document; make it flatter")]
    Deep,
    /// A field without a name.
    #[error("a field's name is empty, which a Firestore document cannot hold; give it a name")]
    NoName,
    /// A name that Firestore keeps for itself.
    #[error("a field's name begins and ends with `__`, which Firestore keeps for itself; give it another name")]
    ReservedName,
    /// A name that is too long together with those around it.
    #[error(
        "the field's name and those around it have {actual} bytes together, a Firestore document takes {LONGEST_PATH}; use shorter names"
    )]
    LongPath {
        /// How many bytes they have.
        actual: usize,
    },
    /// Text that is too long.
    #[error("the text has {actual} bytes, a Firestore document takes {LONGEST_TEXT}; send less at once")]
    LongText {
        /// How many bytes it has.
        actual: usize,
    },
    /// Half of a character.
    #[error("the text has half of a surrogate pair (`\\ud800` to `\\udfff`), which is not a character; send both halves, or neither")]
    NotText,
    /// A number that would lose digits.
    #[error("the number is neither a 64-bit integer nor exact as a double, and a Firestore document would change it; send it as text")]
    Number,
    /// Too many values.
    #[error("there are {actual} values or more, a Firestore document takes {MOST_LEAVES}; send less at once")]
    Leaves {
        /// How many there are, as far as they were read.
        actual: usize,
    },
    /// Too much for the indexes.
    #[error(
        "the fields' names and values take {actual} bytes or more in the indexes, a Firestore document takes {LARGEST_ENTRIES}; use shorter names, or send less at once"
    )]
    Entries {
        /// How many bytes it has, as far as they were read.
        actual: u64,
    },
    /// Too large.
    #[error("the document has {actual} bytes as Firestore counts them, the limit is {LARGEST_DOCUMENT}; send less at once")]
    Document {
        /// How many bytes it has.
        actual: u64,
    },
}

impl Unstorable {
    /// The same in a field.
    pub(super) fn within(self, name: &str) -> Self {
        let path = match self.path.as_bytes().first() {
            None => name.to_owned(),
            Some(b'[') => format!("{}{}", cut(name), self.path),
            Some(_) => format!("{}.{}", cut(name), self.path),
        };
        Self { path: cut(&path).to_owned(), ..self }
    }

    /// The same in an element of an array.
    pub(super) fn at(self, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: cut(&format!("[{index}]{dot}{}", self.path)).to_owned(), ..self }
    }
}

impl From<Fault> for Unstorable {
    fn from(fault: Fault) -> Self {
        Self { path: String::new(), fault }
    }
}

/// The beginning of a path, as much as is shown.
fn cut(path: &str) -> &str {
    &path[..path.floor_char_boundary(SHOWN_PATH)]
}
