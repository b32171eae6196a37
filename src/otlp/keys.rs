//! What records are told apart by: trace ids, and the Collector's hash of a resource.
//!
//! What always holds: a key is byte for byte the one that the Collector's Kafka exporter gives, so that a topic that both
//! write to has each trace and each resource on one partition. A resource that is sent in several pieces is one, attributes
//! with the same key take the value of the first, a value that is sent twice is the last: as the Collector reads them.

use std::ops::Range;

use twox_hash::XxHash64;

use super::wire::{Broken, Cursor, Wire};

/// The most attributes of a resource, or of a map in it. With more there is no key: sorting them is the sender's work then.
const MAX_ATTRIBUTES: usize = 10_000;

/// How many times as long as the resource what is hashed for it may be.
const GROWTH: usize = 4;

/// How deep lists and maps in a resource are followed.
const MAX_DEPTH: usize = 100;

/// The trace id in an item; none: it has none, or a zero one, which means the same.
pub(super) fn trace_id(bytes: &[u8], item: Range<usize>, number: u32) -> Option<[u8; 16]> {
    bytes[text(bytes, item, number)?].try_into().ok().filter(|id| *id != [0; 16])
}

/// A field in an item, which is a field itself.
pub(super) fn text(bytes: &[u8], item: Range<usize>, number: u32) -> Option<Range<usize>> {
    let mut cursor = Cursor::of(bytes, item);
    cursor.tag().ok()??;
    let content = cursor.content().ok()?;
    last(bytes, content, number).ok()?
}

/// The last field of a number that has a length: of several, decoders take that one.
pub(super) fn last(bytes: &[u8], message: Range<usize>, number: u32) -> Result<Option<Range<usize>>, Broken> {
    let (mut cursor, mut found) = (Cursor::of(bytes, message), None);
    while let Some(tag) = cursor.tag()? {
        if tag.number == number && tag.wire == Wire::Length {
            found = Some(cursor.content()?);
        } else {
            cursor.skip(tag.wire)?;
        }
    }
    Ok(found)
}

/// 32 lower-case hex digits.
pub(super) fn hex(id: [u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 32];
    for (pair, byte) in out.chunks_exact_mut(2).zip(id) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

/// The key of a resource. `envelope`: the stretches of its entry in which it can be. None: it has too many attributes, or
/// the same ones too often.
pub(super) fn resource(bytes: &[u8], envelope: impl Iterator<Item = Range<usize>>) -> Option<[u8; 16]> {
    let (mut attributes, mut size) = (Vec::new(), 0);
    for range in envelope {
        each(bytes, range, 1, |resource| {
            size += resource.len();
            each(bytes, resource, 1, |attribute| collect(&mut attributes, attribute))
        })?;
    }
    if attributes.is_empty() {
        return Some([0; 16]);
    }
    let mut hashed = Hashed { bytes, out: Vec::new(), most: size * GROWTH + 1024 };
    hashed.map(attributes, MAX_DEPTH)?;
    let first = XxHash64::oneshot(0, &hashed.out);
    hashed.out.push(0xf3);
    let second = XxHash64::oneshot(0, &hashed.out);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_le_bytes());
    key[8..].copy_from_slice(&second.to_le_bytes());
    Some(key)
}

/// Every field of a number that has a length, until one is too many.
fn each(bytes: &[u8], message: Range<usize>, number: u32, mut with: impl FnMut(Range<usize>) -> Option<()>) -> Option<()> {
    let mut cursor = Cursor::of(bytes, message);
    while let Some(tag) = cursor.tag().ok()? {
        if tag.number == number && tag.wire == Wire::Length {
            with(cursor.content().ok()?)?;
        } else {
            cursor.skip(tag.wire).ok()?;
        }
    }
    Some(())
}

fn collect(list: &mut Vec<Range<usize>>, range: Range<usize>) -> Option<()> {
    (list.len() < MAX_ATTRIBUTES).then(|| list.push(range))
}

/// What is hashed for a resource.
struct Hashed<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    /// How long it may become: attributes with the same key repeat the first one's value.
    most: usize,
}

impl Hashed<'_> {
    /// Key and value of each attribute, by key.
    fn map(&mut self, attributes: Vec<Range<usize>>, depth: usize) -> Option<()> {
        let bytes = self.bytes;
        let mut pairs = Vec::with_capacity(attributes.len());
        for attribute in attributes {
            let key = last(bytes, attribute.clone(), 1).ok()?.map_or(&[][..], |key| &bytes[key]);
            pairs.push((key, attribute));
        }
        // A stable sort: of those with one key, the first stays the first.
        pairs.sort_by_key(|(key, _)| *key);
        let mut previous: Option<(&[u8], Range<usize>)> = None;
        for (key, attribute) in pairs {
            let start = self.out.len();
            match &previous {
                Some((same, written)) if *same == key => {
                    self.room(written.len())?;
                    self.out.extend_from_within(written.clone());
                }
                _ => {
                    self.put(0xf4, key)?;
                    let mut value = Vec::new();
                    each(bytes, attribute, 2, |piece| collect(&mut value, piece))?;
                    self.value(&value, depth)?;
                    previous = Some((key, start..self.out.len()));
                }
            }
        }
        Some(())
    }

    /// What a value is, and it. `value`: the pieces of one value.
    fn value(&mut self, value: &[Range<usize>], depth: usize) -> Option<()> {
        let (depth, bytes) = (depth.checked_sub(1)?, self.bytes);
        match chosen(bytes, value).ok()? {
            Value::Empty => self.put(0xf5, &[]),
            Value::Bytes(content) => self.put(0xf6, &bytes[content]),
            Value::Text(content) => self.put(0xf7, &bytes[content]),
            Value::Bool(true) => self.put(0xf8, &[]),
            Value::Bool(false) => self.put(0xf9, &[]),
            Value::Int(number) => self.put(0xfa, &number.to_le_bytes()),
            Value::Double(number) => self.put(0xfb, &bytes[number]),
            Value::Map(content) => {
                let mut attributes = Vec::new();
                each(bytes, content, 1, |attribute| collect(&mut attributes, attribute))?;
                self.put(0xfc, &[])?;
                self.map(attributes, depth)?;
                self.put(0xfd, &[])
            }
            Value::List(content) => {
                self.put(0xfe, &[])?;
                each(bytes, content, 1, |value| self.value(std::slice::from_ref(&value), depth))?;
                self.put(0xff, &[])
            }
        }
    }

    fn put(&mut self, kind: u8, content: &[u8]) -> Option<()> {
        self.room(content.len() + 1)?;
        self.out.push(kind);
        self.out.extend_from_slice(content);
        Some(())
    }

    fn room(&self, bytes: usize) -> Option<()> {
        (self.out.len() + bytes <= self.most).then_some(())
    }
}

/// An `AnyValue`, by the last field of it.
enum Value {
    Empty,
    Text(Range<usize>),
    Bool(bool),
    Int(u64),
    Double(Range<usize>),
    List(Range<usize>),
    Map(Range<usize>),
    Bytes(Range<usize>),
}

fn chosen(bytes: &[u8], value: &[Range<usize>]) -> Result<Value, Broken> {
    let mut chosen = Value::Empty;
    for piece in value {
        let mut cursor = Cursor::of(bytes, piece.clone());
        while let Some(tag) = cursor.tag()? {
            let start = cursor.at();
            chosen = match (tag.number, tag.wire) {
                (1, Wire::Length) => Value::Text(cursor.content()?),
                (2, Wire::Varint) => Value::Bool(cursor.varint()? != 0),
                (3, Wire::Varint) => Value::Int(cursor.varint()?),
                (4, Wire::Fixed64) => {
                    cursor.skip(tag.wire)?;
                    Value::Double(start..cursor.at())
                }
                (5, Wire::Length) => Value::List(cursor.content()?),
                (6, Wire::Length) => Value::Map(cursor.content()?),
                (7, Wire::Length) => Value::Bytes(cursor.content()?),
                _ => {
                    cursor.skip(tag.wire)?;
                    chosen
                }
            };
        }
    }
    Ok(chosen)
}
