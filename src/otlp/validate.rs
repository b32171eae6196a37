//! Looks through a request once, in place: what one consumer of the topic could not decode does not get there.
//!
//! What always holds: nothing is allocated unless there is a fault or something to change; the walk is at most
//! [`MAX_DEPTH`] messages deep; a fault's offset is the byte that is wrong. Where a text is not UTF-8 and may be repaired, or an
//! entry uses field 1000, the walk only notes it, and [`repair`] writes the request anew.

use bytes::Bytes;

use super::levels::{self, Count};
use super::path::locate;
use super::repair;
use super::schema::{self, Field, Kind, LEGACY, Message};
use super::wire::{Broken, Cursor, Tag, Why, Wire};
use super::{Checked, Depth, Fault, Signal};

/// How many messages may lie in one another, the request not counted. Protobuf's decoders for C++, Java, Python and Rust
/// give up behind it.
pub(super) const MAX_DEPTH: u32 = 100;

/// Places are kept in 32 bits, also after a repair has made texts longer.
pub(super) const MAX_BYTES: usize = 1 << 30;

/// Looks through a request, and gives it back with what is in it: the same bytes where nothing had to be changed.
///
/// Items below field 1000 (instrumentation libraries, before 0.19) are moved to field 2, where consumers look for them, if
/// the entry has none there; else they are taken out and counted.
pub fn check(signal: Signal, bytes: Bytes, depth: Depth, repair_utf8: bool) -> Result<Checked, Fault> {
    look(signal, &bytes, depth, repair_utf8).map_err(|broken| fault(signal, &bytes, broken)).and_then(|seen| {
        if seen.texts == 0 && !seen.count.legacy {
            return Ok(Checked { bytes, items: seen.count.items, rejected: 0, why: None, repaired: 0 });
        }
        let changed = repair::rewrite(signal, &bytes, seen.texts > 0).map_err(|broken| fault(signal, &bytes, broken))?;
        let why = (changed.rejected > 0).then(|| {
            format!(
                "{} {}s in field {LEGACY} of an entry that has field 2 too: no consumer would see them",
                changed.rejected,
                signal.item()
            )
        });
        let items = seen.count.items - changed.rejected;
        Ok(Checked { bytes: changed.bytes.into(), items, rejected: changed.rejected, why, repaired: seen.texts })
    })
}

/// Says where in the request it is.
pub(super) fn fault(signal: Signal, bytes: &[u8], broken: Broken) -> Fault {
    let path = locate(bytes, schema::request(signal), broken.at);
    let path = if path.is_empty() { "the request" } else { &path };
    Fault { offset: broken.at as u64, what: format!("{path} {}", broken.why) }
}

/// What was seen in a request.
struct Seen {
    count: Count,
    /// Texts that are not UTF-8.
    texts: u64,
}

fn look(signal: Signal, bytes: &[u8], depth: Depth, repair_utf8: bool) -> Result<Seen, Broken> {
    if bytes.len() > MAX_BYTES {
        return Err(Broken { at: 0, why: Why::TooLarge });
    }
    if depth == Depth::None {
        return Ok(Seen { count: levels::count(bytes, Cursor::new(bytes), levels::request(signal))?, texts: 0 });
    }
    let mut walk = Walk { bytes, full: depth == Depth::Full, repair: repair_utf8, count: Count::default(), texts: 0 };
    walk.message(Cursor::new(bytes), schema::request(signal), 0)?;
    Ok(Seen { count: walk.count, texts: walk.texts })
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// Whether texts and ids are looked at.
    full: bool,
    /// Whether a text that is not UTF-8 is counted, not refused.
    repair: bool,
    count: Count,
    texts: u64,
}

impl Walk<'_> {
    fn message(&mut self, mut cursor: Cursor<'_>, message: &'static Message, depth: u32) -> Result<(), Broken> {
        let mut has_data = false;
        while let Some(tag) = cursor.tag()? {
            let Some(field) = message.field(tag.number) else {
                self.unknown(&mut cursor, tag, message, depth)?;
                continue;
            };
            if field.kind.wire() != tag.wire {
                one_by_one(&mut cursor, tag, field)?;
                continue;
            }
            match field.kind {
                Kind::Varint | Kind::Fixed64 | Kind::Fixed32 => cursor.skip(tag.wire)?,
                Kind::Message(inside) => self.inside(&mut cursor, inside, depth)?,
                Kind::Text => self.text(&mut cursor)?,
                Kind::TraceId => self.id(&mut cursor, 16, Why::TraceId)?,
                Kind::SpanId => self.id(&mut cursor, 8, Why::SpanId)?,
                Kind::Bytes => cursor.skip(tag.wire)?,
                Kind::ManyFixed64 | Kind::ManyVarints => self.packed(&mut cursor, field.kind)?,
                Kind::Item(inside) => {
                    self.count.items += 1;
                    self.inside(&mut cursor, inside, depth)?;
                }
                Kind::Data(_) if has_data => return Err(Broken { at: tag.at, why: Why::SecondData }),
                Kind::Data(inside) => {
                    has_data = true;
                    self.inside(&mut cursor, inside, depth)?;
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn inside(&mut self, cursor: &mut Cursor<'_>, message: &'static Message, depth: u32) -> Result<(), Broken> {
        let at = cursor.at();
        let content = cursor.content()?;
        if depth >= MAX_DEPTH {
            return Err(Broken { at, why: Why::TooDeep });
        }
        self.message(Cursor::of(self.bytes, content), message, depth + 1)
    }

    fn unknown(&mut self, cursor: &mut Cursor<'_>, tag: Tag, message: &'static Message, depth: u32) -> Result<(), Broken> {
        match message.legacy {
            Some(scope) if tag.number == LEGACY && tag.wire == Wire::Length => {
                self.count.legacy = true;
                self.inside(cursor, scope, depth)
            }
            _ => cursor.skip(tag.wire),
        }
    }

    #[inline(always)]
    fn text(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Broken> {
        let content = cursor.content()?;
        if !self.full {
            return Ok(());
        }
        let text = &self.bytes[content.clone()];
        // Nearly all are, and that is soon told.
        if text.is_ascii() {
            return Ok(());
        }
        match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(_) if self.repair => {
                self.texts += 1;
                Ok(())
            }
            Err(fault) => Err(Broken { at: content.start + fault.valid_up_to(), why: Why::NotUtf8 }),
        }
    }

    fn id(&mut self, cursor: &mut Cursor<'_>, length: usize, why: fn(u32) -> Why) -> Result<(), Broken> {
        let at = cursor.at();
        match cursor.content()?.len() {
            0 => Ok(()),
            found if found == length || !self.full => Ok(()),
            found => Err(Broken { at, why: why(found as u32) }),
        }
    }

    fn packed(&self, cursor: &mut Cursor<'_>, kind: Kind) -> Result<(), Broken> {
        let at = cursor.at();
        let content = cursor.content()?;
        if matches!(kind, Kind::ManyFixed64) {
            return if content.len().is_multiple_of(8) { Ok(()) } else { Err(Broken { at, why: Why::Uneven }) };
        }
        let end = content.end;
        let mut numbers = Cursor::of(self.bytes, content);
        while numbers.at() < end {
            numbers.varint()?;
        }
        Ok(())
    }
}

/// A field that is not written as its kind is: legal for a list of numbers alone.
fn one_by_one(cursor: &mut Cursor<'_>, tag: Tag, field: &Field) -> Result<(), Broken> {
    match (field.kind, tag.wire) {
        (Kind::ManyFixed64, Wire::Fixed64) | (Kind::ManyVarints, Wire::Varint) => cursor.skip(tag.wire),
        (kind, is) => Err(Broken { at: tag.at, why: Why::OtherWire { is, should: kind.wire() } }),
    }
}
