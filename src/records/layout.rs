//! Where things stand in a record batch of magic 2.
//!
//! What always holds: the CRC covers everything from the attributes on, so that a broker may write the fields before it.

/// Offsets from the batch's first byte.
pub(super) mod at {
    /// Bytes from here on are counted by the length.
    pub const AFTER_LENGTH: usize = 12;
    pub const LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const EPOCH: usize = 51;
    pub const SEQUENCE: usize = 53;
    pub const COUNT: usize = 57;
    pub const RECORDS: usize = 61;
}

/// The attributes' bits.
pub(super) const COMPRESSION: i16 = 0b111;
pub(super) const LAST_COMPRESSION: i16 = 4;
pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;

/// The fewest bytes of a record: length, attributes, two deltas, no key, an empty value, no headers.
pub(super) const LEAST_RECORD: usize = 7;

/// A field of the header, which is there: `parse` has seen to it.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("a batch has a whole header")
}

/// The sequence so many records after another one; it wraps to 0.
pub(super) fn sequence_after(first: i32, records: u32) -> i32 {
    let sum = i64::from(first) + i64::from(records);
    let wrapped = sum % (i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).expect("a remainder of 2^31 fits")
}
