//! Writes protobuf.
//!
//! What always holds: every varint is as short as it can be. The length of a message is not known before the message is
//! written, so room for it is left by a guess, and what was written is moved where the guess was wrong.

#[derive(Clone, Copy)]
pub(super) enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    Fixed32 = 5,
}

/// Where the length of something unfinished will stand.
#[must_use]
pub(super) struct Mark {
    /// Where its tag stands.
    start: usize,
    at: usize,
    width: usize,
}

pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    #[inline]
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    #[inline]
    pub fn tag(&mut self, number: u32, wire: Wire) {
        self.varint(u64::from(number << 3 | wire as u32));
    }

    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    #[inline]
    pub fn delimited(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, Wire::Delimited);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    #[inline]
    pub fn varint_field(&mut self, number: u32, value: u64) {
        self.tag(number, Wire::Varint);
        self.varint(value);
    }

    #[inline]
    pub fn fixed64_field(&mut self, number: u32, value: u64) {
        self.tag(number, Wire::Fixed64);
        self.raw(&value.to_le_bytes());
    }

    #[inline]
    pub fn fixed32_field(&mut self, number: u32, value: u32) {
        self.tag(number, Wire::Fixed32);
        self.raw(&value.to_le_bytes());
    }

    /// Starts something with a length, which will probably take `width` bytes.
    #[inline]
    pub fn open(&mut self, number: u32, width: usize) -> Mark {
        let start = self.bytes.len();
        self.tag(number, Wire::Delimited);
        let at = self.bytes.len();
        self.raw(&[0; 4][..width]);
        Mark { start, at, width }
    }

    /// Ends what was started; if nothing is in it, it is taken back.
    #[inline]
    pub fn close_unless_empty(&mut self, mark: Mark) {
        if self.bytes.len() == mark.at + mark.width { self.bytes.truncate(mark.start) } else { self.close(mark) }
    }

    #[inline]
    pub fn close(&mut self, mark: Mark) {
        let content = mark.at + mark.width;
        let length = self.bytes.len() - content;
        let width = varint_width(length);
        if width != mark.width {
            self.shift(content, mark.at + width);
        }
        let mut rest = length;
        for (place, byte) in self.bytes[mark.at..mark.at + width].iter_mut().enumerate() {
            *byte = (rest & 0x7f) as u8 | if place + 1 < width { 0x80 } else { 0 };
            rest >>= 7;
        }
    }

    #[cold]
    fn shift(&mut self, from: usize, to: usize) {
        let end = self.bytes.len();
        if to > from {
            self.bytes.resize(end + to - from, 0);
        }
        self.bytes.copy_within(from..end, to);
        self.bytes.truncate(end - from + to);
    }
}

fn varint_width(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}
