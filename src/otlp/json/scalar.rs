//! The values that are no messages: what may stand for each, and how it is written.
//!
//! What always holds: a number may stand in a string; it is taken when it is exactly what the field can hold, and refused
//! otherwise, but for integers beside which there is a place for a double.

use super::binary;
use super::fault::{Broken, Outcome};
use super::number::{Integer, NoInteger, Number};
use super::schema::{Field, Kind, Presence};
use super::walk::Walk;

/// An integer, or what is known of one that is too large.
enum Whole {
    Is(Integer),
    Beyond(Option<f64>),
}

impl Walk<'_> {
    #[inline]
    pub(super) fn scalar(&mut self, field: &'static Field) -> Outcome<()> {
        let number = field.number;
        match field.kind {
            Kind::Fixed64 => {
                let value = self.unsigned(64)?;
                if is_told(field, value) {
                    self.out.fixed64_field(number, value);
                }
            }
            Kind::Fixed32 => {
                let value = self.unsigned(32)? as u32;
                if is_told(field, value.into()) {
                    self.out.fixed32_field(number, value);
                }
            }
            Kind::Double => {
                let bits = self.double()?.to_bits();
                if is_told(field, bits) {
                    self.out.fixed64_field(number, bits);
                }
            }
            Kind::Int64OrDouble(double) => self.int_or_double(field, double)?,
            Kind::Sfixed64OrDouble(double) => self.int_or_double(field, double)?,
            Kind::TraceId => self.id::<16>(number)?,
            Kind::SpanId => self.id::<8>(number)?,
            Kind::Bytes => self.bytes(number)?,
            _ => {
                let value = self.varint(field.kind)?;
                if is_told(field, value) {
                    self.out.varint_field(number, value);
                }
            }
        }
        Ok(())
    }

    /// What is written as a varint.
    fn varint(&mut self, kind: Kind) -> Outcome<u64> {
        Ok(match kind {
            Kind::Bool => u64::from(self.boolean()?),
            Kind::Enum(names) => self.enumerated(names)? as u64,
            Kind::Sint32 => zigzag(self.signed(32)?),
            Kind::Int32 => self.signed(32)? as u64,
            _ => self.unsigned(32)?,
        })
    }

    fn boolean(&mut self) -> Outcome<bool> {
        match self.scan.peek() {
            b't' | b'f' => self.scan.literal().map(|word| word == b't'),
            _ => Err(self.scan.expected("a boolean")),
        }
    }

    fn enumerated(&mut self, names: &[(&str, i32)]) -> Outcome<i64> {
        if self.scan.peek() != b'"' {
            return self.signed(32);
        }
        let at = self.scan.at();
        let name = self.scan.string()?.meant(&mut self.room, &mut self.deviations.lone_surrogates);
        if let Some((_, value)) = names.iter().find(|(known, _)| known.as_bytes() == name) {
            self.deviations.enum_names += 1;
            return Ok(i64::from(*value));
        }
        let value = Number::whole(name).and_then(|number| number.integer().ok()).and_then(signed);
        let value = value.filter(|value| i32::try_from(*value).is_ok());
        value.ok_or_else(|| Broken::new(at, "an integer expected, found a string that is no name of a value"))
    }

    /// An unsigned integer of so many bits.
    #[inline]
    pub(super) fn unsigned(&mut self, bits: u32) -> Outcome<u64> {
        let at = self.scan.at();
        match self.whole("an integer")? {
            Whole::Is(Integer { is_negative: true, size: 1.. }) => {
                Err(Broken::new(at, format!("an unsigned integer of {bits} bits expected, found a negative one")))
            }
            Whole::Is(Integer { size, .. }) if size <= u64::MAX >> (64 - bits) => Ok(size),
            _ => Err(Broken::new(at, format!("an unsigned integer of {bits} bits expected, found a larger one"))),
        }
    }

    /// A signed integer of so many bits.
    fn signed(&mut self, bits: u32) -> Outcome<i64> {
        let at = self.scan.at();
        let value = match self.whole("an integer")? {
            Whole::Is(integer) => signed(integer),
            Whole::Beyond(_) => None,
        };
        let fitting = value.filter(|value| *value >= i64::MIN >> (64 - bits) && *value <= i64::MAX >> (64 - bits));
        fitting.ok_or_else(|| Broken::new(at, format!("a signed integer of {bits} bits expected, found a larger one")))
    }

    /// One member of a oneof, which is written when it is zero too; where it is too large, the one beside it for doubles.
    #[inline]
    fn int_or_double(&mut self, field: &'static Field, double: u32) -> Outcome<()> {
        let at = self.scan.at();
        let (value, nearest) = match self.whole("an integer")? {
            // Twice rounding is none here: an integer of 64 bits is rounded once.
            Whole::Is(integer) => (signed(integer), Some(nearest(integer))),
            Whole::Beyond(nearest) => (None, nearest),
        };
        match (value, nearest) {
            (Some(value), _) if matches!(field.kind, Kind::Int64OrDouble(_)) => self.out.varint_field(field.number, value as u64),
            (Some(value), _) => self.out.fixed64_field(field.number, value as u64),
            (None, Some(nearest)) => {
                self.deviations.large_integers += 1;
                self.out.fixed64_field(double, nearest.to_bits());
            }
            (None, None) => return Err(Broken::new(at, "a number beyond all doubles")),
        }
        Ok(())
    }

    /// A number that is an integer, or would be with more bits.
    #[inline]
    fn whole(&mut self, what: &str) -> Outcome<Whole> {
        let at = self.scan.at();
        let number = self.number(what)?;
        match number.integer() {
            Ok(integer) => Ok(Whole::Is(integer)),
            Err(NoInteger::TooLarge) => Ok(Whole::Beyond(number.double())),
            Err(NoInteger::Fraction) => Err(Broken::new(at, format!("{what} expected, found a fraction"))),
        }
    }

    #[inline]
    fn number(&mut self, what: &str) -> Outcome<Number<'_>> {
        match self.scan.peek() {
            b'-' | b'0'..=b'9' => self.scan.number(),
            b'"' => {
                let at = self.scan.at();
                let text = self.scan.string()?.meant(&mut self.room, &mut self.deviations.lone_surrogates);
                Number::whole(text).ok_or_else(|| Broken::new(at, format!("{what} expected, found a string that is none")))
            }
            _ => Err(self.scan.expected(what)),
        }
    }

    #[inline]
    pub(super) fn double(&mut self) -> Outcome<f64> {
        let at = self.scan.at();
        let number = match self.scan.peek() {
            b'"' => {
                let text = self.scan.string()?.meant(&mut self.room, &mut self.deviations.lone_surrogates);
                match text {
                    b"NaN" => return Ok(f64::NAN),
                    b"Infinity" => return Ok(f64::INFINITY),
                    b"-Infinity" => return Ok(f64::NEG_INFINITY),
                    _ => Number::whole(text).ok_or_else(|| Broken::new(at, "a number expected, found a string that is none"))?,
                }
            }
            _ => self.number("a number")?,
        };
        number.double().ok_or_else(|| Broken::new(at, "a number beyond all doubles"))
    }

    /// An id of `N` bytes in hex; an empty one is none.
    #[inline]
    fn id<const N: usize>(&mut self, number: u32) -> Outcome<()> {
        if self.scan.peek() != b'"' {
            return Err(self.scan.expected(&format!("{} hex digits", 2 * N)));
        }
        let at = self.scan.at();
        let text = self.scan.string()?.meant(&mut self.room, &mut self.deviations.lone_surrogates);
        if text.is_empty() {
            return Ok(());
        }
        let Some(id) = binary::id::<N>(text) else { return Err(no_id(at, 2 * N, text)) };
        self.out.delimited(number, &id);
        Ok(())
    }

    /// Bytes: base64, or one of the lists of numbers that JavaScript's serializer makes of a `Uint8Array` and of a `Buffer`.
    fn bytes(&mut self, number: u32) -> Outcome<()> {
        let mark = self.out.open(number, 1);
        let at = self.scan.at();
        match self.scan.peek() {
            b'"' => {
                let text = self.scan.string()?.meant(&mut self.room, &mut self.deviations.lone_surrogates);
                if !binary::base64(text, |byte| self.out.byte(byte)) {
                    return Err(Broken::new(at, "base64 expected"));
                }
            }
            b'[' => {
                self.deviations.byte_lists += 1;
                self.elements(Self::one_byte)?;
            }
            b'{' => self.object_of_bytes()?,
            _ => return Err(self.scan.expected("base64")),
        }
        self.out.close(mark);
        Ok(())
    }

    /// `{"0":1,"1":2}` or `{"type":"Buffer","data":[1,2]}`.
    fn object_of_bytes(&mut self) -> Outcome<()> {
        self.scan.open(b'{', "an object")?;
        self.deviations.byte_lists += 1;
        let (mut count, mut is_first, mut is_buffer) = (0u64, true, false);
        while let Some(name) = self.scan.member(is_first)? {
            is_first = false;
            let at = self.scan.at();
            let name = name.meant(&mut self.room, &mut self.deviations.lone_surrogates);
            let index = Number::whole(name).and_then(|index| index.integer().ok());
            match name {
                b"type" => self.scan.skip()?,
                b"data" if count == 0 && !std::mem::replace(&mut is_buffer, true) => self.elements(Self::one_byte)?,
                _ if !is_buffer && index == Some(Integer { is_negative: false, size: count }) => {
                    self.scan.peek();
                    self.one_byte()?;
                    count += 1;
                }
                _ => return Err(Broken::new(at, "base64 expected, found an object that is no list of bytes")),
            }
        }
        Ok(())
    }

    fn one_byte(&mut self) -> Outcome<()> {
        self.unsigned(8).map(|byte| self.out.byte(byte as u8))
    }
}

/// Whether a value is written: zero is the same as nothing in a plain field.
#[inline]
fn is_told(field: &Field, bits: u64) -> bool {
    bits != 0 || field.presence != Presence::Plain
}

#[inline]
fn signed(integer: Integer) -> Option<i64> {
    if integer.is_negative { 0i64.checked_sub_unsigned(integer.size) } else { i64::try_from(integer.size).ok() }
}

fn nearest(integer: Integer) -> f64 {
    if integer.is_negative { -(integer.size as f64) } else { integer.size as f64 }
}

fn zigzag(value: i64) -> u64 {
    u64::from(((value << 1) ^ (value >> 63)) as u32)
}

#[cold]
fn no_id(at: usize, digits: usize, text: &[u8]) -> Box<Broken> {
    let found = if text.len() == digits { "others".to_owned() } else { text.len().to_string() };
    Broken::new(at, format!("{digits} hex digits expected, found {found}"))
}
