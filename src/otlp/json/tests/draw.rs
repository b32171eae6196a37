//! Choices drawn from bytes that proptest makes and makes smaller. Where the bytes end, every choice is the first one.

use std::cell::Cell;

pub struct Draw<'a> {
    bytes: &'a [u8],
    at: Cell<usize>,
}

impl<'a> Draw<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: Cell::new(0) }
    }

    pub fn byte(&self) -> u8 {
        let at = self.at.get();
        self.at.set(at + 1);
        self.bytes.get(at).copied().unwrap_or(0)
    }

    pub fn is_over(&self) -> bool {
        self.at.get() >= self.bytes.len()
    }

    pub fn below(&self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub fn yes(&self) -> bool {
        self.below(2) == 1
    }

    /// True in one of so many.
    pub fn rarely(&self, of: usize) -> bool {
        self.below(of) == of - 1
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn many<T>(&self, most: usize, make: impl Fn() -> T) -> Vec<T> {
        let count = if self.is_over() { 0 } else { self.below(most + 1) };
        (0..count).map(|_| make()).collect()
    }

    pub fn maybe<T>(&self, make: impl FnOnce() -> T) -> Option<T> {
        self.yes().then(make)
    }

    pub fn u64(&self) -> u64 {
        let any = u64::from_le_bytes(std::array::from_fn(|_| self.byte()));
        match self.below(6) {
            0 => 0,
            1 => any,
            2 => any >> self.below(64),
            3 => self.pick(&[1, 1000, 1 << 53, (1 << 53) + 1, i64::MAX as u64, 1 << 63, u64::MAX]),
            4 => 1_700_000_000_000_000_000 + (any >> 20),
            _ => (any >> 40) * 1000,
        }
    }

    pub fn u32(&self) -> u32 {
        self.u64() as u32
    }

    pub fn i32(&self) -> i32 {
        self.u64() as i32
    }

    pub fn i64(&self) -> i64 {
        self.u64() as i64
    }

    /// A double; one that is no number is always the same, because JSON has one name for all of them.
    pub fn f64(&self, is_finite: bool) -> f64 {
        let double = match self.below(5) {
            0 => self.pick(&[0.0, -0.0, 1.0, 0.1, f64::MIN_POSITIVE, f64::from_bits(1), f64::MAX, f64::MIN, f64::EPSILON, 1e21]),
            1 => self.i64() as f64,
            2 => self.i64() as f64 / 1000.0,
            3 => self.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
            _ => f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| self.byte()))),
        };
        if is_finite && !double.is_finite() {
            return 0.5;
        }
        if double.is_nan() { f64::NAN } else { double }
    }

    pub fn text(&self) -> String {
        let short: String = self.many(12, || self.character()).into_iter().collect();
        // Long enough for lengths of two and three bytes, now and then.
        if self.rarely(40) { short.repeat(self.pick(&[20, 200, 3000])) } else { short }
    }

    fn character(&self) -> char {
        match self.below(5) {
            0 | 1 => char::from(b'a' + self.byte() % 26),
            2 => self.pick(&['"', '\\', '/', '\0', '\n', '\t', '\u{1f}', '\u{7f}', ' ', '{']),
            3 => self.pick(&['é', 'ß', '\u{7ff}', '\u{800}', '\u{ffff}', '\u{fffd}', '\u{10000}', '😀', '\u{10ffff}', '\u{2028}']),
            _ => char::from_u32(u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0]) % 0x11_0000).unwrap_or('x'),
        }
    }

    pub fn bytes(&self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}
