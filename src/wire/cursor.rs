//! The primitive types of Kafka's wire, read from a slice.
//!
//! What always holds: nothing is read beyond the slice's end, and a length is given out only when that many bytes are there.

use super::BadWire;

/// Reads a slice from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

const SHORT: &str = "the bytes end too early";
const NEGATIVE: &str = "a negative length";
const LONG: &str = "a length beyond the bytes that are left";

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at this place.
    pub fn bad(&self, what: &'static str) -> BadWire {
        BadWire { what, at: self.at }
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], BadWire> {
        let taken = self.bytes[self.at..].get(..length).ok_or(self.bad(SHORT))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadWire> {
        let taken = self.bytes[self.at..].first_chunk().ok_or(self.bad(SHORT))?;
        self.at += N;
        Ok(*taken)
    }

    pub fn i16(&mut self) -> Result<i16, BadWire> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, BadWire> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// An unsigned varint of at most 32 bits. More are an error: decoders cut them off in different ways.
    pub fn varint(&mut self) -> Result<u32, BadWire> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.bad("a varint of more than 32 bits"));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// The length of a string of the old kind; none: null.
    pub fn length16(&mut self) -> Result<Option<usize>, BadWire> {
        let length = self.i16()?;
        self.length(i64::from(length))
    }

    /// The length of bytes of the old kind; none: null.
    pub fn length32(&mut self) -> Result<Option<usize>, BadWire> {
        let length = self.i32()?;
        self.length(i64::from(length))
    }

    /// The length of a compact string or of compact bytes, which stands there plus one; none: null.
    pub fn compact_length(&mut self) -> Result<Option<usize>, BadWire> {
        let length = self.varint()?;
        self.length(i64::from(length) - 1)
    }

    fn length(&self, length: i64) -> Result<Option<usize>, BadWire> {
        match usize::try_from(length) {
            Ok(length) if length <= self.left() => Ok(Some(length)),
            Ok(_) => Err(self.bad(LONG)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.bad(NEGATIVE)),
        }
    }

    /// The number of tagged fields, each of which takes two bytes at least.
    pub fn tag_count(&mut self) -> Result<usize, BadWire> {
        let count = self.varint()? as usize;
        if count > self.left() / 2 { Err(self.bad("more tagged fields than bytes")) } else { Ok(count) }
    }

    /// A tagged field's number and the length of its value.
    pub fn tag(&mut self) -> Result<(u32, usize), BadWire> {
        let tag = self.varint()?;
        let length = self.varint()? as usize;
        if length > self.left() { Err(self.bad(LONG)) } else { Ok((tag, length)) }
    }

    /// Tagged fields that nobody wants to know.
    pub fn skip_tags(&mut self) -> Result<(), BadWire> {
        for _ in 0..self.tag_count()? {
            let (_, length) = self.tag()?;
            self.take(length)?;
        }
        Ok(())
    }

    /// The next bytes as a cursor of their own, which keeps counting from the same start.
    pub fn within(&self, length: usize) -> Option<Self> {
        let end = self.at.checked_add(length)?;
        Some(Self { bytes: self.bytes.get(..end)?, at: self.at })
    }
}
