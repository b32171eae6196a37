//! From JSON to a document's values.
//!
//! Each level is read by itself: the fields or elements of an object or array as slices of what was sent, and of those
//! with one name only the last, and then each of them. So a level costs one look at its bytes, there are at most
//! [`DEEPEST`] of them, and what is not taken is not looked into.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, MapAccess, SeqAccess};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::{
    DEEPEST, Fault, Fields, LARGEST_ENTRIES, LONGEST_PATH, LONGEST_TEXT, MOST_LEAVES, Name, Unstorable, Value, is_reserved, number,
    size::entries,
};

/// Reads a value that stands directly in a document.
pub(super) fn value(json: &[u8]) -> Result<Value, Unstorable> {
    Reader::default().value(whole(json)?, Place::default())
}

/// Reads the fields of a document of this name.
pub(super) fn fields(json: &[u8], name: Name) -> Result<Fields, Unstorable> {
    let json = whole(json)?;
    if !json.get().starts_with('{') {
        return Err(Fault::NotAnObject.into());
    }
    Reader { name: name.bytes(), ..Reader::default() }.fields(json, Place::default())
}

/// Bytes that are JSON from the first to the last.
fn whole(json: &[u8]) -> Result<&RawValue, Unstorable> {
    serde_json::from_slice(json).map_err(|_| Fault::NotJson.into())
}

/// Where a value stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Maps and arrays around it.
    depth: usize,
    /// The bytes of the names around it, and of the dots between them.
    path: usize,
    /// Whether it is an element of an array.
    element: bool,
    /// Whether there is an array around it.
    inside: bool,
}

impl Place {
    /// The place of a field of this name.
    fn of(self, name: &str) -> Result<Self, Fault> {
        if name.is_empty() {
            return Err(Fault::NoName);
        }
        if is_reserved(name) {
            return Err(Fault::ReservedName);
        }
        let actual = self.path + usize::from(self.path > 0) + name.len();
        if actual > LONGEST_PATH { Err(Fault::LongPath { actual }) } else { Ok(Self { path: actual, element: false, ..self }) }
    }

    /// The same, one level deeper.
    fn deeper(self) -> Result<Self, Fault> {
        if self.depth == DEEPEST { Err(Fault::Deep) } else { Ok(Self { depth: self.depth + 1, ..self }) }
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    leaves: usize,
    /// Bytes of entries of indexes.
    entries: u64,
    /// Bytes of the document's name, which each entry has.
    name: u64,
}

impl Reader {
    fn value(&mut self, json: &RawValue, place: Place) -> Result<Value, Unstorable> {
        match json.get().as_bytes().first() {
            Some(b'{') => self.map(json, place.deeper()?),
            Some(b'[') if place.element => Err(Fault::ArrayInArray.into()),
            Some(b'[') => self.array(json, place.deeper()?),
            _ => {
                let value = scalar(json)?;
                self.leaf(place, value.size())?;
                Ok(value)
            }
        }
    }

    fn map(&mut self, json: &RawValue, place: Place) -> Result<Value, Unstorable> {
        let fields = self.fields(json, place)?;
        if fields.is_empty() {
            self.leaf(place, 1)?;
        }
        Ok(Value::Map(fields))
    }

    fn fields(&mut self, json: &RawValue, place: Place) -> Result<Fields, Unstorable> {
        let mut members = Members::default();
        Deserializer::from_str(json.get()).deserialize_map(&mut members).map_err(|_| members.fault.unwrap_or(Fault::NotJson))?;
        let mut fields = Vec::with_capacity(members.members.len());
        for (name, json) in members.members {
            let value = place.of(&name).map_err(Unstorable::from).and_then(|place| self.value(json, place));
            fields.push((name.clone().into_owned(), value.map_err(|unstorable| unstorable.within(&name))?));
        }
        Ok(fields)
    }

    fn array(&mut self, json: &RawValue, place: Place) -> Result<Value, Unstorable> {
        let place = Place { element: true, inside: true, ..place };
        let mut elements = Elements::default();
        Deserializer::from_str(json.get()).deserialize_seq(&mut elements).map_err(|_| elements.fault.unwrap_or(Fault::NotJson))?;
        if elements.elements.is_empty() {
            self.leaf(place, 1)?;
        }
        let values = elements.elements.into_iter().enumerate();
        let values = values.map(|(i, json)| self.value(json, place).map_err(|unstorable| unstorable.at(i)));
        Ok(Value::Array(values.collect::<Result<_, _>>()?))
    }

    /// Counts a leaf. What is empty is one too.
    fn leaf(&mut self, place: Place, bytes: u64) -> Result<(), Fault> {
        self.leaves += 1;
        self.entries += entries(self.name + place.path as u64, bytes, place.inside);
        match () {
            () if self.leaves > MOST_LEAVES => Err(Fault::Leaves { actual: self.leaves }),
            () if self.entries > LARGEST_ENTRIES => Err(Fault::Entries { actual: self.entries }),
            () => Ok(()),
        }
    }
}

fn scalar(json: &RawValue) -> Result<Value, Fault> {
    let json = json.get();
    match json {
        "null" => Ok(Value::Null),
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        text if text.starts_with('"') => {
            // That it is a string was seen before; what is left to be wrong is half of a character.
            let text: String = serde_json::from_str(text).map_err(|_| Fault::NotText)?;
            let actual = text.len();
            if actual > LONGEST_TEXT { Err(Fault::LongText { actual }) } else { Ok(Value::Text(text)) }
        }
        digits => number::of(digits).ok_or(Fault::Number),
    }
}

/// The fields of an object, each name once and with its last value. No more than a document can hold are kept.
#[derive(Default)]
struct Members<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    fault: Option<Fault>,
}

impl<'a> de::Visitor<'a> for &mut Members<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
        while let Some(name) = map.next_key::<&'a RawValue>()? {
            let value = map.next_value()?;
            let name = name_of(name).map_err(|fault| fail(&mut self.fault, fault))?;
            if let Some(place) = places.get(&name) {
                self.members[*place].1 = value;
                continue;
            }
            if self.members.len() == MOST_LEAVES {
                return Err(fail(&mut self.fault, Fault::Leaves { actual: MOST_LEAVES + 1 }));
            }
            places.insert(name.clone(), self.members.len());
            self.members.push((name, value));
        }
        Ok(())
    }
}

/// A field's name, borrowed where it has no escapes.
fn name_of(json: &RawValue) -> Result<Cow<'_, str>, Fault> {
    let between = json.get().trim_matches('"');
    if !between.contains('\\') {
        return Ok(Cow::Borrowed(between));
    }
    serde_json::from_str(json.get()).map(Cow::Owned).map_err(|_| Fault::NotText)
}

/// The elements of an array. No more than a document can hold are kept.
#[derive(Default)]
struct Elements<'a> {
    elements: Vec<&'a RawValue>,
    fault: Option<Fault>,
}

impl<'a> de::Visitor<'a> for &mut Elements<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            if self.elements.len() == MOST_LEAVES {
                return Err(fail(&mut self.fault, Fault::Leaves { actual: MOST_LEAVES + 1 }));
            }
            self.elements.push(element);
        }
        Ok(())
    }
}

/// Keeps what is wrong, and ends the reading.
fn fail<E: de::Error>(kept: &mut Option<Fault>, fault: Fault) -> E {
    *kept = Some(fault);
    E::custom("a document cannot hold it")
}
