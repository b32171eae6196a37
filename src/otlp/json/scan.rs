//! Reads JSON from a slice: tokens, and whole values that nobody wants to know.
//!
//! What always holds: the slice is UTF-8 (checked by whoever makes one); nothing is read behind its end; every byte that is
//! passed was judged by RFC 8259's grammar. Positions are kept in one number, and no token is copied.

use super::MAX_DEPTH;
use super::fault::{Broken, Outcome};
use super::number::{self, Number};
use super::text::{self, Text};

const LITERALS: [&[u8]; 3] = [b"true", b"false", b"null"];

pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where the next byte is read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The first byte of what comes next, behind any white space; at the end 0, with which nothing can start.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    /// A fault at what comes next: what should stand there, and what does.
    #[cold]
    pub fn expected(&mut self, what: &str) -> Box<Broken> {
        let found = match self.peek() {
            _ if self.at >= self.bytes.len() => "the end of the text",
            b'{' => "an object",
            b'[' => "an array",
            b'"' => "a string",
            b'-' | b'0'..=b'9' => "a number",
            b't' | b'f' if self.is_literal() => "a boolean",
            b'n' if self.is_literal() => "null",
            b'}' | b']' | b',' | b':' => "punctuation",
            _ => "what is no JSON",
        };
        Broken::new(self.at, format!("{what} expected, found {found}"))
    }

    /// Goes into an object or an array.
    #[inline]
    pub fn open(&mut self, bracket: u8, what: &str) -> Outcome<()> {
        if self.peek() != bracket {
            return Err(self.expected(what));
        }
        if self.depth == MAX_DEPTH {
            return Err(Broken::new(self.at, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// The name of an object's next member, behind its colon; none: the object is closed.
    #[inline]
    pub fn member(&mut self, is_first: bool) -> Outcome<Option<Text<'a>>> {
        if !self.next(is_first, b'}', "a comma or the end of the object")? {
            return Ok(None);
        }
        if self.peek() != b'"' {
            return Err(self.expected("the name of a member"));
        }
        let name = self.string()?;
        if self.peek() != b':' {
            return Err(self.expected("a colon"));
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Whether the next member has this name, written without escapes and white space; then it is behind its colon.
    ///
    /// What is cheap: most names can be foreseen, and need not be searched for their end.
    #[inline]
    pub fn member_is(&mut self, is_first: bool, name: &str) -> bool {
        let start = self.at + usize::from(!is_first);
        let end = start + 1 + name.len();
        let is_it = (is_first || self.bytes[self.at..].first() == Some(&b','))
            && self.bytes.get(end..end + 2) == Some(b"\":")
            && self.bytes[start] == b'"'
            && self.bytes[start + 1..end] == *name.as_bytes();
        if is_it {
            self.at = end + 2;
        }
        is_it
    }

    /// Whether an array has one more element, which then comes next; if not, the array is closed.
    #[inline]
    pub fn element(&mut self, is_first: bool) -> Outcome<bool> {
        self.next(is_first, b']', "a comma or the end of the array")
    }

    #[inline]
    fn next(&mut self, is_first: bool, bracket: u8, what: &str) -> Outcome<bool> {
        match self.peek() {
            byte if byte == bracket => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            b',' if !is_first => {
                self.at += 1;
                Ok(true)
            }
            _ if is_first => Ok(true),
            _ => Err(self.expected(what)),
        }
    }

    /// A string, whose quotation mark comes next.
    #[inline]
    pub fn string(&mut self) -> Outcome<Text<'a>> {
        let start = self.at + 1;
        let end = text::plain_until(self.bytes, start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Text::Plain(&self.bytes[start..end]));
        }
        let end = text::escaped_until(self.bytes, end)?;
        self.at = end + 1;
        Ok(Text::Escaped(&self.bytes[start..end]))
    }

    /// A number, whose sign or first digit comes next.
    #[inline]
    pub fn number(&mut self) -> Outcome<Number<'a>> {
        let start = self.at;
        let (number, length) =
            number::scan(&self.bytes[start..]).map_err(|right| Broken::new(start + right, "a number that is no JSON"))?;
        self.at = start + length;
        Ok(number)
    }

    /// `true`, `false` or `null`, as its first byte.
    #[inline]
    pub fn literal(&mut self) -> Outcome<u8> {
        // A word that goes on is found by whoever reads what follows: it must be punctuation.
        let rest = &self.bytes[self.at..];
        let word = LITERALS
            .iter()
            .find(|word| rest.starts_with(word))
            .ok_or_else(|| Broken::new(self.at, "`true`, `false` or `null` expected"))?;
        self.at += word.len();
        Ok(word[0])
    }

    fn is_literal(&self) -> bool {
        LITERALS.iter().any(|word| self.bytes[self.at..].starts_with(word))
    }

    /// Passes a value, whatever it is.
    pub fn skip(&mut self) -> Outcome<()> {
        match self.peek() {
            b'{' => {
                self.open(b'{', "an object")?;
                let mut is_first = true;
                while self.member(is_first)?.is_some() {
                    is_first = false;
                    self.skip()?;
                }
                Ok(())
            }
            b'[' => {
                self.open(b'[', "an array")?;
                let mut is_first = true;
                while self.element(is_first)? {
                    is_first = false;
                    self.skip()?;
                }
                Ok(())
            }
            b'"' => self.string().map(drop),
            b't' | b'f' | b'n' => self.literal().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => Err(self.expected("a value")),
        }
    }

    /// Nothing but white space may be left.
    pub fn end(&mut self) -> Outcome<()> {
        self.peek();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Broken::new(self.at, "the end of the text expected, found more")) }
    }
}
