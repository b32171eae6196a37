//! Bytes that are text in JSON: ids in hex, everything else in base64.
//!
//! What always holds: what is decoded is at most as long as its text. Both of base64's alphabets are known, mixed too, and
//! padding is not needed, but where there is some it is the right amount.

/// What a table says of a byte that is no digit.
const NONE: u8 = 0xff;

const HEX: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

const BASE64: [u8; 256] = {
    let mut table = [NONE; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digit = 0;
    while digit < 64 {
        table[alphabet[digit] as usize] = digit as u8;
        digit += 1;
    }
    table[b'-' as usize] = 62;
    table[b'_' as usize] = 63;
    table
};

/// An id of `N` bytes, from exactly twice as many hex digits of any case.
#[inline]
pub(super) fn id<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut id = [0; N];
    let mut all = 0;
    for (byte, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (HEX[pair[0] as usize], HEX[pair[1] as usize]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    // No digit has a bit above the fourth, and what is no digit has all of them.
    (all < 16).then_some(id)
}

/// Gives out what base64 means, byte by byte; false: it is no base64.
pub(super) fn base64(text: &[u8], mut put: impl FnMut(u8)) -> bool {
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    if digits.len() % 4 == 1 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return false;
    }
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            let digit = BASE64[*digit as usize];
            if digit == NONE {
                return false;
            }
            bits = bits << 6 | u32::from(digit);
        }
        bits <<= 6 * (4 - group.len());
        for place in 0..group.len() - 1 {
            put((bits >> (16 - 8 * place)) as u8);
        }
    }
    true
}
