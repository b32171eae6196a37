//! Numbers: what JSON writes with any number of digits, and a document holds in 64 bits.
//!
//! A number is taken only where the document says the same: a whole number of 64 bits, or a double that, written with as
//! many digits as were sent, has the same digits (`0.1` and `1e-7`, and `0.10000000000000001` as C writes it), or whose
//! shortest form they are. The rest would come out of the document as another number than out of the record.

use super::Value;

/// Digits of a number that is no whole one, without zeros around them. Nobody writes more (17 say all of a double), and to compare
/// many costs a time that grows with their square.
const MOST_DIGITS: usize = 40;

/// The value of a number as JSON writes it; none: a document could not hold it as it is.
pub(super) fn of(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse() {
        return Some(Value::Integer(whole));
    }
    let sent = Decimal::of(text);
    if sent.digits.len() > MOST_DIGITS {
        return None;
    }
    let double: f64 = text.parse().ok().filter(|double: &f64| double.is_finite())?;
    let same = |written: String| Decimal::of(&written) == sent;
    let held = same(format!("{double:e}")) || same(format!("{double:.*e}", sent.digits.len().saturating_sub(1)));
    held.then_some(Value::Double(double))
}

/// A number's digits without zeros around them, and where its point is: `0.DIGITS` times ten to the power of `exponent`.
#[derive(PartialEq)]
struct Decimal {
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Of a number in JSON's form. An exponent that no 64 bits hold is the outermost that they do: such a number is 0, or no double.
    fn of(text: &str) -> Self {
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let farthest = if power.starts_with('-') { i64::MIN } else { i64::MAX };
        let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let whole = whole.trim_start_matches('-');
        let all: Vec<u8> = whole.bytes().chain(rest.bytes()).collect();
        let Some(first) = all.iter().position(|digit| *digit != b'0') else { return Self { digits: Vec::new(), exponent: 0 } };
        let last = all.iter().rposition(|digit| *digit != b'0').unwrap_or(first);
        let point = i64::try_from(whole.len()).unwrap_or(i64::MAX) - i64::try_from(first).unwrap_or(i64::MAX);
        Self { digits: all[first..=last].to_vec(), exponent: power.parse().unwrap_or(farthest).saturating_add(point) }
    }
}
