//! Walks a body along its [schema](super::schema).
//!
//! What always holds: a list is entered only when as many elements of their least size fit the bytes that are left; nothing
//! is allocated; how deep it goes is fixed by the schema. A known tagged field must fill exactly the length that it has on the
//! wire, because decoders read it by its type and skip an unknown one by its length.

use super::BadWire;
use super::cursor::Cursor;
use super::schema::{Api, Field, Kind};

/// Checks that a body is what its API's schema says, to its last byte.
pub(super) fn check(apis: &[Api], key: i16, version: i16, body: &[u8], elements: usize) -> Result<(), BadWire> {
    let bad = |what| BadWire { what, at: 0 };
    let api = apis.iter().find(|api| api.key == key).ok_or(bad("an API that is not served"))?;
    if !api.versions.contains(&version) {
        return Err(bad("a version that is not served"));
    }
    let mut walk = Walk { cursor: Cursor::new(body), version, flexible: version >= api.flexible, elements };
    walk.fields(api.body)?;
    if walk.cursor.left() > 0 { Err(walk.cursor.bad("bytes are left over")) } else { Ok(()) }
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    flexible: bool,
    /// How many more elements there may be.
    elements: usize,
}

impl Walk<'_> {
    /// The fields of a structure, and its tagged ones at the end.
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), BadWire> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(field.kind)?;
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn value(&mut self, kind: Kind) -> Result<(), BadWire> {
        match kind {
            Kind::Fixed(size) => self.cursor.take(size).map(drop),
            Kind::Text => self.text(false),
            Kind::MaybeText => self.text(true),
            Kind::Blob => self.blob(false),
            Kind::MaybeBlob => self.blob(true),
            Kind::List(element) => self.list(*element, false),
            Kind::MaybeList(element) => self.list(*element, true),
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn text(&mut self, may_be_null: bool) -> Result<(), BadWire> {
        let length = if self.flexible { self.cursor.compact_length()? } else { self.cursor.length16()? };
        let Some(length) = self.present(length, may_be_null)? else { return Ok(()) };
        let at = self.cursor;
        let text = self.cursor.take(length)?;
        std::str::from_utf8(text).map(drop).map_err(|_| at.bad("text that is not UTF-8"))
    }

    fn blob(&mut self, may_be_null: bool) -> Result<(), BadWire> {
        let length = if self.flexible { self.cursor.compact_length()? } else { self.cursor.length32()? };
        let Some(length) = self.present(length, may_be_null)? else { return Ok(()) };
        self.cursor.take(length).map(drop)
    }

    fn list(&mut self, element: Kind, may_be_null: bool) -> Result<(), BadWire> {
        // An element has one byte at least, so a count is no length but has the same bound.
        let count = if self.flexible { self.cursor.compact_length()? } else { self.cursor.length32()? };
        let Some(count) = self.present(count, may_be_null)? else { return Ok(()) };
        if count > self.cursor.left() / self.least(element).max(1) {
            return Err(self.cursor.bad("a count that the bytes cannot hold"));
        }
        if let Kind::Fixed(size) = element {
            return self.cursor.take(count * size).map(drop);
        }
        self.spend(count)?;
        (0..count).try_for_each(|_| self.value(element))
    }

    fn present(&self, length: Option<usize>, may_be_null: bool) -> Result<Option<usize>, BadWire> {
        if length.is_none() && !may_be_null { Err(self.cursor.bad("null where there must be something")) } else { Ok(length) }
    }

    fn spend(&mut self, elements: usize) -> Result<(), BadWire> {
        self.elements = self.elements.checked_sub(elements).ok_or(self.cursor.bad("more elements than are served"))?;
        Ok(())
    }

    fn tags(&mut self, fields: &'static [Field]) -> Result<(), BadWire> {
        let count = self.cursor.tag_count()?;
        self.spend(count)?;
        for _ in 0..count {
            let (tag, length) = self.cursor.tag()?;
            match fields.iter().find(|field| field.tag == Some(tag)) {
                Some(field) => self.tagged(field, length)?,
                None => self.cursor.take(length).map(drop)?,
            }
        }
        Ok(())
    }

    fn tagged(&mut self, field: &Field, length: usize) -> Result<(), BadWire> {
        if !field.is_in(self.version) {
            return Err(self.cursor.bad("a tagged field of another version"));
        }
        let within = self.cursor.within(length).ok_or(self.cursor.bad("a tagged field beyond the bytes"))?;
        let whole = std::mem::replace(&mut self.cursor, within);
        self.value(field.kind)?;
        if self.cursor.left() > 0 {
            return Err(self.cursor.bad("a tagged field that is longer than its value"));
        }
        self.cursor = whole;
        self.cursor.take(length).map(drop)
    }

    /// The fewest bytes that a value can take.
    fn least(&self, kind: Kind) -> usize {
        match kind {
            Kind::Fixed(size) => size,
            Kind::Struct(fields) => {
                let plain = fields.iter().filter(|field| field.tag.is_none() && field.is_in(self.version));
                plain.map(|field| self.least(field.kind)).sum::<usize>() + usize::from(self.flexible)
            }
            _ if self.flexible => 1,
            Kind::Text | Kind::MaybeText => 2,
            Kind::Blob | Kind::MaybeBlob | Kind::List(_) | Kind::MaybeList(_) => 4,
        }
    }
}
