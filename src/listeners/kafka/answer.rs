//! An answer as it is written: length, header, body.

use bytes::{BufMut, Bytes, BytesMut};

/// The longest message of an error: it is for a person, and there may be one for each partition.
const MAX_MESSAGE: usize = 500;

/// An answer that is being written.
#[derive(Debug)]
pub struct Answer {
    out: BytesMut,
    flexible: bool,
}

impl Answer {
    /// The beginning. `header`: whether the header has tagged fields; `flexible`: whether the body has.
    pub fn new(correlation: i32, header: bool, flexible: bool) -> Self {
        let mut answer = Self { out: BytesMut::with_capacity(128), flexible };
        answer.i32(0);
        answer.i32(correlation);
        if header {
            answer.out.put_u8(0);
        }
        answer
    }

    /// A number of one byte.
    pub fn i8(&mut self, number: i8) {
        self.out.put_i8(number);
    }

    /// A number of two bytes.
    pub fn i16(&mut self, number: i16) {
        self.out.put_i16(number);
    }

    /// A number of four bytes.
    pub fn i32(&mut self, number: i32) {
        self.out.put_i32(number);
    }

    /// A number of eight bytes.
    pub fn i64(&mut self, number: i64) {
        self.out.put_i64(number);
    }

    /// Yes or no.
    pub fn bool(&mut self, yes: bool) {
        self.out.put_u8(yes.into());
    }

    /// An id of sixteen bytes.
    pub fn uuid(&mut self, id: &[u8; 16]) {
        self.out.put_slice(id);
    }

    fn varint(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.out.put_u8((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.out.put_u8(number as u8);
    }

    /// Text that may be null.
    pub fn nullable_text(&mut self, text: Option<&str>) {
        let length = text.map(str::len);
        if self.flexible {
            self.varint(length.map_or(0, |length| u32::try_from(length + 1).expect("a text is short")));
        } else {
            self.i16(length.map_or(-1, |length| i16::try_from(length).expect("a text is short")));
        }
        self.out.put_slice(text.unwrap_or_default().as_bytes());
    }

    /// Text: what a client sent (which [`Body`](super::body::Body) has bounded), or our own.
    pub fn text(&mut self, text: &str) {
        self.nullable_text(Some(text));
    }

    /// A message for a person, shortened where a client's words have made it long.
    pub fn message(&mut self, message: Option<&str>) {
        self.nullable_text(message.map(|text| &text[..text.floor_char_boundary(MAX_MESSAGE)]));
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.out.put_slice(bytes);
    }

    /// How many members a list has; they follow.
    pub fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("what is answered fits a frame");
        if self.flexible { self.varint(count + 1) } else { self.out.put_u32(count) }
    }

    /// A list that is null.
    pub fn no_list(&mut self) {
        if self.flexible { self.varint(0) } else { self.i32(-1) }
    }

    /// The end of a structure: no tagged fields, where the version has them.
    pub fn tags(&mut self) {
        if self.flexible {
            self.out.put_u8(0);
        }
    }

    /// The whole answer.
    pub fn finish(mut self) -> Bytes {
        self.tags();
        let length = u32::try_from(self.out.len() - 4).expect("what is answered fits a frame");
        self.out[..4].copy_from_slice(&length.to_be_bytes());
        self.out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_length_its_header_and_its_body() {
        let mut classic = Answer::new(7, false, false);
        classic.text("ab");
        classic.nullable_text(None);
        classic.count(1);
        classic.tags();
        assert_eq!(&classic.finish()[..], [0, 0, 0, 14, 0, 0, 0, 7, 0, 2, b'a', b'b', 0xff, 0xff, 0, 0, 0, 1]);
        let mut flexible = Answer::new(7, true, true);
        flexible.text("ab");
        flexible.nullable_text(None);
        flexible.count(200);
        flexible.no_list();
        assert_eq!(&flexible.finish()[..], [0, 0, 0, 13, 0, 0, 0, 7, 0, 3, b'a', b'b', 0, 0xc9, 1, 0, 0]);
    }

    #[test]
    fn a_message_is_shortened_at_a_letter() {
        let mut answer = Answer::new(0, false, false);
        answer.message(Some(&format!("x{}", "ü".repeat(400))));
        assert_eq!(answer.finish().len(), 8 + 2 + 499);
    }
}
