//! JSON's numbers: their grammar, and what they are as integers and as doubles.
//!
//! What always holds: an integer is exact, however it was written (`1000`, `1e3`, `1000.0`), or it is none; a double is the
//! nearest to what was written (the standard library's parser is correctly rounded), or too large to be one.

/// A number that is right by the grammar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    text: &'a [u8],
    /// What it is where it has neither a point nor an exponent, and its digits fit.
    plain: Option<Integer>,
}

/// A sign and a size. Zero may have a sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Integer {
    pub is_negative: bool,
    pub size: u64,
}

/// Why a number is no integer of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoInteger {
    TooLarge,
    Fraction,
}

/// The number with which these bytes start, and its length; else how many of the bytes were right.
#[inline]
pub(super) fn scan(bytes: &[u8]) -> Result<(Number<'_>, usize), usize> {
    let is_negative = bytes.first() == Some(&b'-');
    let start = usize::from(is_negative);
    let (size, end) = digits(bytes, start);
    if end == start || (bytes[start] == b'0' && end > start + 1) {
        return Err(start);
    }
    let whole = end;
    let end = fraction_and_exponent(bytes, whole)?;
    let plain = if end == whole { size.map(|size| Integer { is_negative, size }) } else { None };
    Ok((Number { text: &bytes[..end], plain }, end))
}

/// The digits from `at` on: what they are, if 64 bits can say it, and where they end.
#[inline]
fn digits(bytes: &[u8], mut at: usize) -> (Option<u64>, usize) {
    let (start, mut size) = (at, 0u64);
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        size = size.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    // Nineteen digits always fit; for the few more it is done again, with care.
    (if at - start < 20 { Some(size) } else { careful(&bytes[start..at]) }, at)
}

fn careful(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |size, digit| size.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[inline]
fn fraction_and_exponent(bytes: &[u8], mut at: usize) -> Result<usize, usize> {
    if bytes.get(at) == Some(&b'.') {
        at = one_digit_or_more(bytes, at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let is_signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = one_digit_or_more(bytes, at + 1 + usize::from(is_signed))?;
    }
    Ok(at)
}

fn one_digit_or_more(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let count = bytes.get(start..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 { Err(start.min(bytes.len())) } else { Ok(start + count) }
}

impl<'a> Number<'a> {
    /// A string that is a number and nothing else.
    pub fn whole(text: &'a [u8]) -> Option<Self> {
        scan(text).ok().filter(|(_, length)| *length == text.len()).map(|(number, _)| number)
    }

    /// The number as an integer, exactly.
    #[inline]
    pub fn integer(&self) -> Result<Integer, NoInteger> {
        self.plain.map_or_else(|| self.shifted(), Ok)
    }

    /// The number as a double; none: it is beyond all of them.
    #[inline]
    pub fn double(&self) -> Option<f64> {
        if let Some(Integer { is_negative, size }) = self.plain.filter(|integer| integer.size < 1 << 53) {
            let exact = size as f64;
            return Some(if is_negative { -exact } else { exact });
        }
        let double: f64 = std::str::from_utf8(self.text).ok()?.parse().ok()?;
        Some(double).filter(|double| double.is_finite())
    }

    /// An integer that was written with a point or an exponent, or with more digits than 64 bits have.
    fn shifted(&self) -> Result<Integer, NoInteger> {
        let is_negative = self.text.first() == Some(&b'-');
        let split = self.text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(self.text.len());
        let (mantissa, exponent) = self.text.split_at(split);
        let behind_point = mantissa.iter().position(|byte| *byte == b'.').map_or(0, |point| mantissa.len() - point - 1);
        let (significant, zeros) = significant(mantissa);
        if significant == Some(0) {
            return Ok(Integer { is_negative, size: 0 });
        }
        // Bounded on both sides: an exponent of a million digits stays a number.
        let power = exponent_of(exponent).saturating_sub(behind_point as i64).saturating_add(zeros as i64);
        if power < 0 {
            return Err(NoInteger::Fraction);
        }
        let size = significant.zip(u32::try_from(power).ok()).and_then(|(size, power)| size.checked_mul(10u64.checked_pow(power)?));
        size.map(|size| Integer { is_negative, size }).ok_or(NoInteger::TooLarge)
    }
}

/// The digits without the zeros behind them, if 64 bits can say it, and how many zeros that are.
fn significant(mantissa: &[u8]) -> (Option<u64>, usize) {
    let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u64::from(byte - b'0'));
    digits.fold((Some(0), 0), |(size, zeros), digit| match digit {
        0 => (size, zeros + 1),
        _ => (size.and_then(|size| append(size, zeros, digit)), 0),
    })
}

fn append(size: u64, zeros: usize, digit: u64) -> Option<u64> {
    if size == 0 {
        return Some(digit);
    }
    let power = 10u64.checked_pow(u32::try_from(zeros).ok()?.checked_add(1)?)?;
    size.checked_mul(power)?.checked_add(digit)
}

/// `e+21` as 21; nothing as 0.
fn exponent_of(text: &[u8]) -> i64 {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    let size = digits.fold(0i64, |size, digit| size.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if text.get(1) == Some(&b'-') { -size } else { size }
}
