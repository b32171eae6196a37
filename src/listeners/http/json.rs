//! One strict pass over a JSON body: every fault has a position, every value stays the slice of bytes that it came as.
//!
//! What always holds after a scan: the text is UTF-8 without a byte order mark, nests at most [`MAX_DEPTH`] deep, pairs its
//! surrogates, and each of its numbers is finite. No value is built, so hostile bodies cost their own size and no more.

use std::borrow::Cow;
use std::ops::Range;

use crate::receipt::{Position, Refusal};

/// The deepest nesting of arrays and objects in a body.
pub const MAX_DEPTH: u32 = 128;

/// An array or an object has fewer elements than this.
pub const MAX_ELEMENTS: u32 = 1_000_000;

/// A number shorter than this and without an exponent cannot be infinite.
const SURELY_FINITE: usize = 300;

const UNEXPECTED_END: &str = "the JSON ends too early";

/// What is wrong, and how many bytes from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Bytes from the start of the text.
    pub offset: usize,
    /// What is wrong, for a person.
    pub message: &'static str,
}

impl Flaw {
    /// The refusal that names the place; `text` is the whole body.
    pub fn refusal(self, text: &[u8]) -> Refusal {
        Refusal::Malformed { message: self.message.to_owned(), position: Some(position(text, self.offset)) }
    }
}

/// The place of a byte for a person: lines are counted only when something is wrong.
pub fn position(text: &[u8], offset: usize) -> Position {
    let before = &text[..offset.min(text.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let lines = before.iter().filter(|b| **b == b'\n').count();
    Position { offset: offset as u64, line: lines as u64 + 1, column: (before.len() - line_start) as u64 + 1 }
}

/// Checks what a scan takes for granted: UTF-8, and no byte order mark.
pub fn check_encoding(text: &[u8]) -> Result<(), Flaw> {
    if text.starts_with(b"\xEF\xBB\xBF") {
        return Err(Flaw { offset: 0, message: "the body starts with a byte order mark; send UTF-8 without one" });
    }
    match std::str::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Flaw { offset: error.valid_up_to(), message: "invalid UTF-8" }),
    }
}

/// The text of a scanned string, its quotes and escapes undone.
pub fn unquote(raw: &[u8]) -> Cow<'_, str> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return String::from_utf8_lossy(inner);
    }
    Cow::Owned(serde_json::from_slice(raw).expect("the scan has checked the string"))
}

/// A place in a text, moving forward over checked values.
#[derive(Debug)]
pub struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    /// A cursor over a part of the text; offsets stay those of the whole. The encoding was checked.
    pub fn within(text: &'a [u8], part: Range<usize>) -> Self {
        Self { text: &text[..part.end], at: part.start, depth: 0 }
    }

    /// Where it stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<(), Flaw> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.flaw("something follows the end of the JSON")),
        }
    }

    /// Checks one value of any kind and says where it stands.
    pub fn value(&mut self) -> Result<Range<usize>, Flaw> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'{') => self.members(|cursor, _| cursor.value().map(drop))?,
            Some(b'[') => self.elements(|cursor| cursor.value().map(drop))?,
            Some(b'"') => self.string().map(drop)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(_) => return Err(self.flaw("expected a JSON value")),
            None => return Err(self.flaw(UNEXPECTED_END)),
        }
        Ok(start..self.at)
    }

    /// Walks an object. `each` gets the cursor before a member's value, which it must move over, and where the key stands.
    pub fn members(&mut self, mut each: impl FnMut(&mut Self, Range<usize>) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.sequence(b'}', |cursor| {
            if cursor.peek() != Some(b'"') {
                return Err(cursor.flaw("expected a key in double quotes"));
            }
            let key = cursor.string()?;
            if cursor.peek() != Some(b':') {
                return Err(cursor.flaw("expected `:` after the key"));
            }
            cursor.at += 1;
            each(cursor, key)
        })
    }

    /// Walks an array. `each` gets the cursor before an element, which it must move over.
    pub fn elements(&mut self, each: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.sequence(b']', each)
    }

    fn sequence(&mut self, close: u8, mut each: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        if self.depth == MAX_DEPTH {
            return Err(self.flaw("nested deeper than 128 arrays and objects"));
        }
        self.depth += 1;
        self.at += 1;
        let mut left = MAX_ELEMENTS;
        if self.peek() != Some(close) {
            loop {
                left -= 1;
                if left == 0 {
                    return Err(self.flaw("an array or object of 1,000,000 elements or more"));
                }
                each(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b) if b == close => break,
                    Some(_) => return Err(self.flaw("expected `,` or the end of the array or object")),
                    None => return Err(self.flaw(UNEXPECTED_END)),
                }
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    fn string(&mut self) -> Result<Range<usize>, Flaw> {
        let start = self.at;
        self.at += 1;
        loop {
            self.at += plain_run(&self.text[self.at..]);
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.flaw("a control character in a string must be escaped")),
                None => return Err(self.flaw(UNEXPECTED_END)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        let lone = Flaw { offset: self.at, message: "half of a surrogate pair" };
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.code_unit()? {
                0xD800..=0xDBFF if !self.text[self.at..].starts_with(b"\\u") => return Err(lone),
                0xD800..=0xDBFF if !(0xDC00..=0xDFFF).contains(&self.code_unit()?) => return Err(lone),
                0xDC00..=0xDFFF => return Err(lone),
                _ => {}
            },
            Some(_) => return Err(self.flaw("no such escape in a string")),
            None => return Err(self.flaw(UNEXPECTED_END)),
        }
        Ok(())
    }

    /// Moves over `\uXXXX`.
    fn code_unit(&mut self) -> Result<u32, Flaw> {
        let mut unit = 0;
        for offset in 2..6 {
            let digit = self.text.get(self.at + offset).and_then(|b| char::from(*b).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.flaw("expected four hexadecimal digits after `\\u`"))?;
        }
        self.at += 6;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        self.at += usize::from(self.text[start] == b'-');
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        let exponent = matches!(self.text.get(self.at), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        let surely_finite = !exponent && self.at - start < SURELY_FINITE;
        if surely_finite || is_finite(&self.text[start..self.at]) {
            return Ok(());
        }
        Err(Flaw { offset: start, message: "a number beyond the range of a double" })
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        let run = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if run == 0 {
            return Err(self.flaw("expected a digit"));
        }
        self.at += run;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Flaw> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.flaw("expected a JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn flaw(&self, message: &'static str) -> Flaw {
        Flaw { offset: self.at, message }
    }
}

fn is_finite(number: &[u8]) -> bool {
    std::str::from_utf8(number).is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}

/// How many bytes follow that mean nothing to a string's scan: eight at a time, since most bytes of a body are these.
fn plain_run(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS;
    let (words, rest) = text.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        // A borrow makes false hits only above a true one, so that the lowest is always true.
        let hits = below(word, 0x20) | below(word ^ (ONES * u64::from(b'"')), 1) | below(word ^ (ONES * u64::from(b'\\')), 1);
        if hits != 0 {
            return index * 8 + hits.trailing_zeros() as usize / 8;
        }
    }
    let special = |b: &u8| *b < 0x20 || matches!(*b, b'"' | b'\\');
    text.len() - rest.len() + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8]) -> Result<Range<usize>, Flaw> {
        check_encoding(text)?;
        let mut cursor = Cursor::within(text, 0..text.len());
        let value = cursor.value()?;
        cursor.end()?;
        Ok(value)
    }

    fn offset(text: &str) -> usize {
        check(text.as_bytes()).expect_err(text).offset
    }

    #[test]
    fn a_value_is_the_slice_that_it_came_as() {
        assert_eq!(check(b" \n [1.50, {\"a\" : 1E2}]\r\n"), Ok(3..22));
        for text in
            ["0", "-0", "1e-400", "\"\\ud83d\\ude00\"", "\"\u{7f}\"", "{\"a\":1,\"a\":2}", "[]", "{}", "null", "18446744073709551616"]
        {
            assert_eq!(check(text.as_bytes()), Ok(0..text.len()), "{text}");
        }
    }

    #[test]
    fn a_fault_has_its_place() {
        assert_eq!(offset(""), 0);
        assert_eq!(offset("[1,]"), 3);
        assert_eq!(offset("[NaN]"), 1);
        assert_eq!(offset("[1e400]"), 1);
        assert_eq!(offset("{\"a\" 1}"), 5);
        assert_eq!(offset("\"ab\\ud800\""), 3);
        assert_eq!(offset("\"ab\\udc00\""), 3);
        assert_eq!(offset("\"\\ud800\\u0041\""), 1);
        assert_eq!(offset("\"0123456789\n\""), 11);
        assert_eq!(offset("1 2"), 2);
        assert_eq!(offset("\u{feff}1"), 0);
        assert_eq!(check(b"[\"\xff\"]").expect_err("invalid UTF-8").offset, 2);
        let digits = "9".repeat(400);
        assert_eq!(offset(&digits), 0);
        assert_eq!(position(b"{\n \"a\": x}", 8), Position { offset: 8, line: 2, column: 7 });
    }

    #[test]
    fn depth_and_number_of_elements_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(128).as_bytes()).is_ok());
        assert_eq!(offset(&nested(129)), 128);
        assert_eq!(offset(&"[".repeat(100_000)), 128);
        let wide = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert!(check(wide(999_999).as_bytes()).is_ok());
        assert_eq!(offset(&wide(1_000_000)), 1 + 2 * 999_999);
    }

    #[test]
    fn every_byte_that_ends_a_run_is_found_wherever_it_stands() {
        for length in 0..20 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                let mut text = vec![0xc3; length];
                text.push(special);
                text.extend_from_slice(&[b'!'; 9]);
                assert_eq!(plain_run(&text), length);
            }
            assert_eq!(plain_run(&vec![b' '; length]), length);
        }
    }

    #[test]
    fn what_is_accepted_is_what_serde_json_accepts_but_for_its_laxities() {
        let pieces = ["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "1", "-1.5e3", "true", "null", " ", "01", "\"", "\\"];
        let mut seed = 17_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..seed % 9 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            assert_eq!(check(text.as_bytes()).is_ok(), theirs, "{text}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unquote(br#""plain""#), "plain");
        assert_eq!(unquote(br#""a\u0041\n\ud83d\ude00""#), "aA\n\u{1f600}");
        assert_eq!(unquote(br#""""#), "");
    }
}
