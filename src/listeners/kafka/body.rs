//! A request's body, read from its start to its end: a cursor over bytes that came from outside.
//!
//! What always holds: a count or a length is compared with the bytes that remain before anything is done with it; nothing is
//! allocated by it; what is left over at the end is an error. Records are slices of the frame, never copied.

use bytes::{Buf, Bytes};

use crate::wire::BadWire;

/// The longest text; the classic encoding knows no longer one either.
const MAX_TEXT: usize = i16::MAX as usize;

/// Members of all lists of a request: topics, partitions, keys. One costs far more memory than its few bytes on the wire.
const MAX_MEMBERS: usize = 20_000;

/// What is not yet read of a body.
#[derive(Debug)]
pub struct Body {
    rest: Bytes,
    whole: usize,
    flexible: bool,
    members: usize,
}

/// What was read, or why it cannot be.
pub type Read<T> = Result<T, BadWire>;

impl Body {
    /// A body whose version is flexible (compact lengths, tagged fields), or is not.
    pub fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { whole: bytes.len(), rest: bytes, flexible, members: MAX_MEMBERS }
    }

    fn bad(&self, what: &'static str) -> BadWire {
        BadWire { what, at: self.whole - self.rest.len() }
    }

    fn take(&mut self, length: usize) -> Read<Bytes> {
        if length > self.rest.len() {
            return Err(self.bad("a length is larger than the bytes that remain"));
        }
        Ok(self.rest.split_to(length))
    }

    fn fixed<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some(bytes) = self.rest.first_chunk::<N>().copied() else {
            return Err(self.bad("the bytes end within a number"));
        };
        self.rest.advance(N);
        Ok(bytes)
    }

    /// A number of one byte.
    pub fn i8(&mut self) -> Read<i8> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// A number of two bytes.
    pub fn i16(&mut self) -> Read<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// A number of four bytes.
    pub fn i32(&mut self) -> Read<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A number of eight bytes.
    pub fn i64(&mut self) -> Read<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// Yes or no.
    pub fn bool(&mut self) -> Read<bool> {
        Ok(self.i8()? != 0)
    }

    /// An id of sixteen bytes.
    pub fn uuid(&mut self) -> Read<[u8; 16]> {
        self.fixed()
    }

    /// A number of 32 bits without a sign, in seven bits a byte.
    fn varint(&mut self) -> Read<u32> {
        let mut number = 0_u64;
        for place in 0..5 {
            let [byte] = self.fixed()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(number).map_err(|_| self.bad("a number is too large"));
            }
        }
        Err(self.bad("a number is too long"))
    }

    /// A length; none: null.
    fn length(&mut self, classic: impl FnOnce(&mut Self) -> Read<i64>) -> Read<Option<usize>> {
        let length = if self.flexible { i64::from(self.varint()?) - 1 } else { classic(self)? };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.bad("a length is negative")),
        }
    }

    /// Text that may be null.
    pub fn nullable_text(&mut self) -> Read<Option<String>> {
        let Some(length) = self.length(|body| body.i16().map(i64::from))? else { return Ok(None) };
        if length > MAX_TEXT {
            return Err(self.bad("a text is too long"));
        }
        let bytes = self.take(length)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.bad("a text is not UTF-8")),
        }
    }

    /// Text.
    pub fn text(&mut self) -> Read<String> {
        self.nullable_text()?.ok_or_else(|| self.bad("a text is null"))
    }

    /// Bytes that may be null: a slice of the frame.
    pub fn nullable_bytes(&mut self) -> Read<Option<Bytes>> {
        match self.length(|body| body.i32().map(i64::from))? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes: a slice of the frame.
    pub fn bytes(&mut self) -> Read<Bytes> {
        self.nullable_bytes()?.ok_or_else(|| self.bad("bytes are null"))
    }

    /// A list that may be null; each of its members takes at least one byte.
    pub fn nullable_list<T>(&mut self, mut member: impl FnMut(&mut Self) -> Read<T>) -> Read<Option<Vec<T>>> {
        let Some(count) = self.length(|body| body.i32().map(i64::from))? else { return Ok(None) };
        if count > self.rest.len() {
            return Err(self.bad("a count is larger than the bytes that remain"));
        }
        self.members = self.members.checked_sub(count).ok_or_else(|| self.bad("more members than a request may have"))?;
        // It grows with what is read, not with what was promised.
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(member(self)?);
        }
        Ok(Some(members))
    }

    /// A list.
    pub fn list<T>(&mut self, member: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        self.nullable_list(member)?.ok_or_else(|| self.bad("a list is null"))
    }

    /// Tagged fields, where the version has them; none of them is known here.
    pub fn tags(&mut self) -> Read<()> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        }
        Ok(())
    }

    /// A fault of what was read last.
    pub fn refuse<T>(&self, what: &'static str) -> Read<T> {
        Err(self.bad(what))
    }

    /// The last tagged fields, and then nothing.
    pub fn end(mut self) -> Read<()> {
        self.tags()?;
        if self.rest.is_empty() { Ok(()) } else { self.refuse("there are bytes behind the request") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: &'static [u8], flexible: bool) -> Body {
        Body::new(Bytes::from_static(bytes), flexible)
    }

    #[test]
    fn a_count_beyond_the_bytes_is_an_error_before_anything_is_made_of_it() {
        let counted = |bytes, flexible| body(bytes, flexible).nullable_list(|body| body.i8());
        assert!(counted(&[0x7f, 0xff, 0xff, 0xff, 0], false).is_err());
        assert!(counted(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], true).is_err());
        assert!(counted(&[0xff, 0xff, 0xff, 0xfe, 0], false).is_err(), "a negative count");
        assert_eq!(counted(&[0xff, 0xff, 0xff, 0xff], false), Ok(None));
        assert_eq!(counted(&[0], true), Ok(None));
        assert_eq!(counted(&[0, 0, 0, 2, 5, 6], false), Ok(Some(vec![5, 6])));
        assert_eq!(counted(&[3, 5, 6], true), Ok(Some(vec![5, 6])));
    }

    #[test]
    fn the_members_of_a_request_are_bounded_over_all_its_lists() {
        let mut lists = Body::new(Bytes::from([vec![0xa1, 0x9c, 1], vec![1; 20_000]].concat()), true);
        assert_eq!(lists.list(Body::i8).map(|list| list.len()), Ok(20_000));
        let nested = [vec![0xa0, 0x9c, 1], [2, 7].repeat(20_000)].concat();
        assert!(Body::new(Bytes::from(nested), true).list(|body| body.list(Body::i8)).is_err());
    }

    #[test]
    fn lengths_numbers_and_texts_that_do_not_fit_are_errors_with_a_place() {
        assert_eq!(body(&[0, 5, b'a'], false).text().map_err(|bad| bad.at), Err(2));
        assert!(body(&[0, 1, 0xff], false).text().is_err(), "not UTF-8");
        assert!(body(&[0xff, 0xff], false).text().is_err(), "null");
        assert!(body(&[0, 0, 0], false).i32().is_err());
        assert!(body(&[0xff, 0xff, 0xff, 0xff, 0xff, 1], true).bytes().is_err());
        assert!(body(&[0xff, 0xff, 0xff, 0xff, 0x1f], true).bytes().is_err(), "33 bits");
        assert_eq!(body(&[0xff, 0xff, 0xff, 0xff], false).nullable_bytes(), Ok(None));
    }

    #[test]
    fn unknown_tagged_fields_are_skipped_and_what_is_left_over_is_an_error() {
        assert_eq!(body(&[1, 9, 2, 7, 7], true).end(), Ok(()));
        assert_eq!(body(&[], false).end(), Ok(()));
        assert!(body(&[1, 9, 200, 1, 7], true).end().is_err(), "a tag beyond the bytes");
        assert!(body(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).end().is_err(), "four billion tags");
        assert!(body(&[0, 0], true).end().is_err());
    }
}
