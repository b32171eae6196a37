//! A cursor over protobuf: tags, lengths and numbers, each within what holds it.
//!
//! What always holds: a cursor's place counts from the request's start; it never leaves the message that it was made for; a
//! tag or a length has at most five bytes and fits 32 bits (some decoders read no more), a number at most ten and fits 64.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;

/// How a field's content is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Length,
    Fixed32,
}

/// What stands before a field's content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    pub at: usize,
    pub number: u32,
    pub wire: Wire,
}

/// What is wrong, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub at: usize,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    CutShort,
    LongTag,
    LongNumber,
    FieldZero,
    Group,
    NoWire,
    OtherWire { is: Wire, should: Wire },
    Uneven,
    TooDeep,
    SecondData,
    NotUtf8,
    TraceId(u32),
    SpanId(u32),
    TooLarge,
}

impl Display for Why {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => write!(f, "is cut short, or longer than what holds it"),
            Self::LongTag => write!(f, "has a tag or a length of more than 32 bits"),
            Self::LongNumber => write!(f, "has a number of more than 64 bits"),
            Self::FieldZero => write!(f, "has a field of number 0"),
            Self::Group => write!(f, "has a group, which OTLP has nowhere"),
            Self::NoWire => write!(f, "has a field of a wire type that does not exist"),
            Self::OtherWire { is, should } => write!(f, "is written as {is}, and OTLP says {should}"),
            Self::Uneven => write!(f, "is a list of 8-byte numbers whose length is not a multiple of 8"),
            Self::TooDeep => write!(f, "is nested more than {} messages deep", super::validate::MAX_DEPTH),
            Self::SecondData => write!(f, "is the second data of one metric, and decoders disagree which of them counts"),
            Self::NotUtf8 => write!(f, "is not UTF-8"),
            Self::TraceId(bytes) => write!(f, "has {bytes} bytes, and a trace id has 16 or none"),
            Self::SpanId(bytes) => write!(f, "has {bytes} bytes, and a span id has 8 or none"),
            Self::TooLarge => write!(f, "is larger than 1 GiB"),
        }
    }
}

impl Display for Wire {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varint => "a varint",
            Self::Fixed64 => "8 bytes",
            Self::Length => "a length and its bytes",
            Self::Fixed32 => "4 bytes",
        })
    }
}

/// A place in one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    /// From the request's start to the message's end.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A cursor for the message at `range` of `bytes`, which begin where the request does.
    pub fn of(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes: bytes.get(..range.end).unwrap_or(bytes), at: range.start }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// The next field's tag; none: the message ends here.
    #[inline(always)]
    pub fn tag(&mut self) -> Result<Option<Tag>, Broken> {
        let at = self.at;
        let Some(&first) = self.bytes.get(at) else { return Ok(None) };
        let key = if first < 0x80 {
            self.at += 1;
            u32::from(first)
        } else {
            self.short()?
        };
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Length,
            5 => Wire::Fixed32,
            3 | 4 => return Err(Broken { at, why: Why::Group }),
            _ => return Err(Broken { at, why: Why::NoWire }),
        };
        match key >> 3 {
            0 => Err(Broken { at, why: Why::FieldZero }),
            number => Ok(Some(Tag { at, number, wire })),
        }
    }

    /// Where the content of a field with a length is; the cursor stands behind it.
    #[inline(always)]
    pub fn content(&mut self) -> Result<Range<usize>, Broken> {
        let at = self.at;
        let length = match self.bytes.get(at) {
            Some(&first) if first < 0x80 => {
                self.at += 1;
                usize::from(first)
            }
            _ => self.short()? as usize,
        };
        let start = self.at;
        if length > self.bytes.len() - start {
            return Err(Broken { at, why: Why::CutShort });
        }
        self.at = start + length;
        Ok(start..self.at)
    }

    /// Past a field's content, whatever it means.
    #[inline(always)]
    pub fn skip(&mut self, wire: Wire) -> Result<(), Broken> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.fixed(8),
            Wire::Length => self.content().map(drop),
            Wire::Fixed32 => self.fixed(4),
        }
    }

    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, Broken> {
        match self.bytes.get(self.at) {
            Some(&first) if first < 0x80 => {
                self.at += 1;
                Ok(u64::from(first))
            }
            _ => self.long(),
        }
    }

    fn fixed(&mut self, length: usize) -> Result<(), Broken> {
        if self.bytes.len() - self.at < length {
            return Err(self.cut_short());
        }
        self.at += length;
        Ok(())
    }

    /// At the last byte there is, where the one that is missing would be outside of the message.
    fn cut_short(&self) -> Broken {
        Broken { at: self.at.min(self.bytes.len().saturating_sub(1)), why: Why::CutShort }
    }

    fn long(&mut self) -> Result<u64, Broken> {
        let (at, mut value) = (self.at, 0u64);
        for shift in 0..10 {
            let Some(&byte) = self.bytes.get(at + shift) else { return Err(self.cut_short()) };
            if shift == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                self.at = at + shift + 1;
                return Ok(value);
            }
        }
        Err(Broken { at, why: Why::LongNumber })
    }

    fn short(&mut self) -> Result<u32, Broken> {
        let (at, mut value) = (self.at, 0u32);
        for shift in 0..5 {
            let Some(&byte) = self.bytes.get(at + shift) else { return Err(self.cut_short()) };
            if shift == 4 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                self.at = at + shift + 1;
                return Ok(value);
            }
        }
        Err(Broken { at, why: Why::LongTag })
    }
}

/// How many bytes a number takes as a varint.
#[inline(always)]
pub(super) fn varint_bytes(value: usize) -> usize {
    (63 - (value as u64 | 1).leading_zeros() as usize) / 7 + 1
}

/// Writes a number as short as it can be written.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
