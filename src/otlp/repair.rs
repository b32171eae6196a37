//! Writes a request anew where it must change: texts that are not UTF-8, and items in field 1000.
//!
//! What always holds: it gets what [`validate`](super::validate) has walked through; everything but the changed fields and
//! the lengths of what they are in stays byte for byte; the new request is written once, into exactly the room that it takes.
//! The list of changes is bounded: a body can have a bad text in every three bytes.

use std::ops::Range;

use super::Signal;
use super::levels;
use super::schema::{self, Kind, LEGACY, Message};
use super::wire::{Broken, Cursor, Tag, Why, Wire, put_varint, varint_bytes};

/// The most changes in one request; 16 bytes each.
const MAX_EDITS: usize = 1_000_000;

/// What stands in for bytes that are no text.
const REPLACEMENT: &str = "\u{fffd}";

/// A request that was changed.
pub(super) struct Rewritten {
    pub bytes: Vec<u8>,
    /// How many items were taken out.
    pub rejected: u64,
}

pub(super) fn rewrite(signal: Signal, bytes: &[u8], texts: bool) -> Result<Rewritten, Broken> {
    let mut edits = Edits { bytes, signal, texts, list: Vec::new(), rejected: 0 };
    let change = edits.message(0..bytes.len(), schema::request(signal))?;
    let rejected = edits.rejected;
    Ok(Rewritten { bytes: apply(bytes, &edits.list, shifted(bytes.len(), change)), rejected })
}

/// One stretch of the request, and what stands there instead.
#[derive(Clone, Copy)]
struct Edit {
    start: u32,
    end: u32,
    new: New,
}

#[derive(Clone, Copy)]
enum New {
    Nothing,
    Length(u32),
    /// The stretch itself, as UTF-8.
    Text,
    Byte(u8),
}

struct Edits<'a> {
    bytes: &'a [u8],
    signal: Signal,
    texts: bool,
    /// In the order of the request.
    list: Vec<Edit>,
    rejected: u64,
}

impl Edits<'_> {
    /// Notes what changes in a message, and gives by how much it grows.
    fn message(&mut self, range: Range<usize>, message: &'static Message) -> Result<isize, Broken> {
        let drop_legacy = message.legacy.is_some() && self.has_scopes(range.clone())?;
        let (mut cursor, mut change) = (Cursor::of(self.bytes, range), 0);
        while let Some(tag) = cursor.tag()? {
            if tag.wire != Wire::Length {
                cursor.skip(tag.wire)?;
                continue;
            }
            let length = cursor.at();
            let content = cursor.content()?;
            change += match (message.field(tag.number).map(|field| field.kind), message.legacy) {
                (Some(Kind::Text), _) if self.texts => self.text(length, content)?,
                (Some(kind), _) => kind.message().map_or(Ok(0), |inside| self.inside(length, content, inside))?,
                (None, Some(_)) if tag.number == LEGACY && drop_legacy => self.take_out(tag, content)?,
                (None, Some(scope)) if tag.number == LEGACY => {
                    self.edit(tag.at..length, New::Byte(2 << 3 | 2))?;
                    1 - (length - tag.at) as isize + self.inside(length, content, scope)?
                }
                _ => 0,
            };
        }
        Ok(change)
    }

    /// A message in a message, whose length may change with it. Below the entries only texts can.
    fn inside(&mut self, length: usize, content: Range<usize>, message: &'static Message) -> Result<isize, Broken> {
        if !self.texts && message.legacy.is_none() {
            return Ok(0);
        }
        let place = self.list.len();
        self.edit(length..content.start, New::Nothing)?;
        let change = self.message(content.clone(), message)?;
        if change == 0 {
            // The length stays as it is written. An edit that replaces nothing by nothing costs less than moving the rest.
            self.list[place].end = self.list[place].start;
            if self.list.len() == place + 1 {
                self.list.pop();
            }
            return Ok(0);
        }
        let new = shifted(content.len(), change);
        self.list[place].new = New::Length(new as u32);
        Ok(change + varint_bytes(new) as isize - (content.start - length) as isize)
    }

    fn text(&mut self, length: usize, content: Range<usize>) -> Result<isize, Broken> {
        let text = &self.bytes[content.clone()];
        if std::str::from_utf8(text).is_ok() {
            return Ok(0);
        }
        let new: usize = text.utf8_chunks().map(|chunk| chunk.valid().len() + replacement(chunk.invalid()).len()).sum();
        self.edit(length..content.start, New::Length(new as u32))?;
        self.edit(content.clone(), New::Text)?;
        Ok((new + varint_bytes(new)) as isize - (content.end - length) as isize)
    }

    /// Takes items out that no consumer would see.
    fn take_out(&mut self, tag: Tag, content: Range<usize>) -> Result<isize, Broken> {
        let below = levels::request(self.signal).below.and_then(|entry| entry.below).expect("entries hold scopes");
        self.rejected += levels::count(self.bytes, Cursor::of(self.bytes, content.clone()), below)?.items;
        self.edit(tag.at..content.end, New::Nothing)?;
        Ok(tag.at as isize - content.end as isize)
    }

    fn has_scopes(&self, range: Range<usize>) -> Result<bool, Broken> {
        let mut cursor = Cursor::of(self.bytes, range);
        while let Some(tag) = cursor.tag()? {
            if tag.number == 2 && tag.wire == Wire::Length {
                return Ok(true);
            }
            cursor.skip(tag.wire)?;
        }
        Ok(false)
    }

    fn edit(&mut self, range: Range<usize>, new: New) -> Result<(), Broken> {
        if self.list.len() == MAX_EDITS {
            return Err(Broken { at: range.start, why: Why::NotUtf8 });
        }
        self.list.push(Edit { start: range.start as u32, end: range.end as u32, new });
        Ok(())
    }
}

/// A length that grew or shrank. What shrinks never takes out more than there is.
fn shifted(length: usize, change: isize) -> usize {
    length.saturating_add_signed(change)
}

fn replacement(invalid: &[u8]) -> &'static str {
    if invalid.is_empty() { "" } else { REPLACEMENT }
}

fn apply(bytes: &[u8], edits: &[Edit], length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    let mut at = 0;
    for edit in edits {
        let range = edit.start as usize..edit.end as usize;
        out.extend_from_slice(&bytes[at..range.start]);
        at = range.end;
        match edit.new {
            New::Nothing => {}
            New::Length(length) => put_varint(&mut out, length as usize),
            New::Byte(byte) => out.push(byte),
            New::Text => {
                for chunk in bytes[range].utf8_chunks() {
                    out.extend_from_slice(chunk.valid().as_bytes());
                    out.extend_from_slice(replacement(chunk.invalid()).as_bytes());
                }
            }
        }
    }
    out.extend_from_slice(&bytes[at..]);
    out
}
