//! JSON's strings: where one ends, and what it says.
//!
//! What always holds: a string that was scanned has no control characters and no escape that RFC 8259 does not know. What is
//! written from it is UTF-8: a half of a surrogate pair, which UTF-8 cannot say, becomes U+FFFD.

use super::fault::{Broken, Outcome};

/// What stands between a string's quotation marks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text<'a> {
    /// Without a backslash: the bytes are what is meant.
    Plain(&'a [u8]),
    /// With escapes, each of which is right.
    Escaped(&'a [u8]),
}

impl<'a> Text<'a> {
    /// What is meant: the text's own bytes, or those written into `room`. Halves of surrogate pairs are counted.
    #[inline]
    pub fn meant<'r>(self, room: &'r mut Vec<u8>, lone: &mut u64) -> &'r [u8]
    where
        'a: 'r,
    {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Escaped(bytes) => {
                room.clear();
                unescape(bytes, room, lone);
                room
            }
        }
    }
}

/// Where the string ends of which everything before `at` was seen.
#[cold]
pub(super) fn escaped_until(bytes: &[u8], mut at: usize) -> Outcome<usize> {
    loop {
        at = match bytes.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => at + escape_length(&bytes[at..]).ok_or_else(|| Broken::new(at, "an escape that JSON does not know"))?,
            other => return Err(unfinished(at, other.is_some())),
        };
        at = plain_until(bytes, at);
    }
}

#[cold]
fn unfinished(at: usize, is_control: bool) -> Box<Broken> {
    Broken::new(at, if is_control { "a control character in a string" } else { "a string without an end" })
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The first byte from `at` on that is a quotation mark, a backslash or a control character; else the end.
#[inline]
pub(super) fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    // Eight bytes at a time. A borrow can only raise a false alarm above a true one, and the lowest is what is asked for.
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        let zeros = (quote.wrapping_sub(ONES) & !quote) | (slash.wrapping_sub(ONES) & !slash);
        let found = (control | zeros) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// How long the escape is with which these bytes start.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => unit(bytes).map(|_| 6),
        _ => None,
    }
}

/// The UTF-16 unit of the escape `\uXXXX` with which these bytes start.
fn unit(bytes: &[u8]) -> Option<u32> {
    if !bytes.starts_with(b"\\u") {
        return None;
    }
    bytes.get(2..6)?.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Writes what a scanned string means.
fn unescape(mut bytes: &[u8], out: &mut Vec<u8>, lone: &mut u64) {
    while let Some(slash) = bytes.iter().position(|byte| *byte == b'\\') {
        let (plain, rest) = bytes.split_at(slash);
        out.extend_from_slice(plain);
        let (meant, length) = escape(rest, lone);
        out.extend_from_slice(meant.encode_utf8(&mut [0; 4]).as_bytes());
        bytes = rest.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(bytes);
}

/// The character that the escape at the start of these bytes means, and how long it is there.
fn escape(bytes: &[u8], lone: &mut u64) -> (char, usize) {
    let short = match bytes.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return surrogates(bytes, lone),
        Some(other) => char::from(*other),
        None => char::REPLACEMENT_CHARACTER,
    };
    (short, 2)
}

fn surrogates(bytes: &[u8], lone: &mut u64) -> (char, usize) {
    let first = unit(bytes).unwrap_or(0xd800);
    if let Some(character) = char::from_u32(first) {
        return (character, 6);
    }
    let second = bytes.get(6..).and_then(unit).filter(|second| (0xdc00..0xe000).contains(second));
    let pair = second.filter(|_| first < 0xdc00).and_then(|second| char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
    if pair.is_none() {
        *lone += 1;
    }
    pair.map_or((char::REPLACEMENT_CHARACTER, 6), |character| (character, 12))
}
