//! A producer's record batch (magic 2): its bytes, untouched, and what its header says.
//!
//! A leaf without I/O. What always holds: a [`RecordBatch`] is exactly one batch whose length, CRC-32C and counts fit its
//! bytes; the only edit that is ever made to one is [`strip`](RecordBatch::strip). What its header says of its records (their
//! latest time above all) is what the producer claims: only [`check`](RecordBatch::check) knows.

mod body;
mod layout;
mod snappy;
mod walk;

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use layout::{at, field};
use walk::Walk;

/// What the records of a batch may come to, decompressed. A batch that says of itself that it is larger, or turns out to be,
/// is refused: a broker would take it, but no producer makes it by accident.
pub const MAX_DECOMPRESSED: usize = 64 * 1024 * 1024;

/// Up to this size a batch is worth a copy.
const MAX_DETACHED: usize = 1 << 20;

/// A batch that was checked as far as that is possible without looking at its records. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Bytes,
}

/// Who wrote a batch, and the numbers of its records in that producer's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Producer {
    /// The producer id, from 0.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of the first record.
    pub first: i32,
    /// The sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub last: i32,
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in xerial's framing or raw.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Why bytes are not a batch that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// Magic 0 or 1.
    #[error("the records are in a format older than Kafka 0.11 (magic 0 or 1); use a client that writes record batches")]
    OldFormat,
    /// The CRC is another one.
    #[error("the batch's CRC-32C is not that of its bytes; it was damaged on its way")]
    Crc,
    /// Lengths, counts or flags do not fit the bytes, or there are several batches, or none.
    #[error("the bytes are not one record batch: {0}")]
    Malformed(&'static str),
    /// It belongs to a transaction, or is a control batch.
    #[error("transactions are not served here; produce without a transactional id")]
    Transactional,
}

/// What a topic demands of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demands {
    /// The earliest timestamp that is taken, in milliseconds since 1970.
    pub not_before_ms: i64,
    /// The latest one.
    pub not_after_ms: i64,
    /// The topic is compacted: every record needs a key.
    pub keys: bool,
    /// The broker stamps the records itself: their own times do not matter.
    pub broker_time: bool,
}

/// A record of the batch that its topic does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Too old or too far ahead.
    #[error("record {index} is dated {at_ms}, which its topic does not take ({not_before_ms} to {not_after_ms})")]
    Time {
        /// Which record, from 0.
        index: u32,
        /// Its time in milliseconds since 1970.
        at_ms: i64,
        /// The earliest that is taken.
        not_before_ms: i64,
        /// The latest that is taken.
        not_after_ms: i64,
    },
    /// It has no key.
    #[error("record {index} has no key, and its topic is compacted")]
    NoKey {
        /// Which record, from 0.
        index: u32,
    },
    /// It cannot be read.
    #[error("record {index} cannot be read: {what}")]
    Damaged {
        /// Which record, from 0.
        index: u32,
        /// What is wrong.
        what: &'static str,
    },
}

/// One record, read for a person or a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none: a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order; a name may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl RecordBatch {
    /// Checks bytes: exactly one batch of magic 2, its length, CRC-32C, record count and offsets.
    pub fn parse(bytes: Bytes) -> Result<Self, BadBatch> {
        match bytes.get(at::MAGIC) {
            None => return Err(BadBatch::Malformed("it is too short")),
            Some(0 | 1) => return Err(BadBatch::OldFormat),
            Some(2) => {}
            Some(_) => return Err(BadBatch::Malformed("its magic is unknown")),
        }
        if bytes.len() < at::RECORDS {
            return Err(BadBatch::Malformed("it is shorter than its header"));
        }
        let batch = Self { bytes };
        batch.check_length()?;
        if crc32c::crc32c(&batch.bytes[at::ATTRIBUTES..]) != batch.crc() {
            return Err(BadBatch::Crc);
        }
        batch.check_attributes()?;
        batch.check_count()?;
        batch.check_producer()?;
        Ok(batch)
    }

    fn check_length(&self) -> Result<(), BadBatch> {
        let told = i64::from(i32::from_be_bytes(self.field(at::LENGTH))) + at::AFTER_LENGTH as i64;
        match told.cmp(&(self.bytes.len() as i64)) {
            std::cmp::Ordering::Less => Err(BadBatch::Malformed("something follows the first batch")),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(BadBatch::Malformed("its length goes beyond its bytes")),
        }
    }

    fn check_attributes(&self) -> Result<(), BadBatch> {
        let attributes = self.attributes();
        if attributes & (layout::TRANSACTIONAL | layout::CONTROL) != 0 {
            return Err(BadBatch::Transactional);
        }
        // A broker refuses these by INVALID_TIMESTAMP: the flag is its own.
        if attributes & layout::LOG_APPEND_TIME != 0 {
            return Err(BadBatch::Malformed("it is marked as stamped by a broker"));
        }
        if attributes & layout::COMPRESSION > layout::LAST_COMPRESSION {
            return Err(BadBatch::Malformed("its compression is unknown"));
        }
        Ok(())
    }

    fn check_count(&self) -> Result<(), BadBatch> {
        let count = i32::from_be_bytes(self.field(at::COUNT));
        let last = i32::from_be_bytes(self.field(at::LAST_OFFSET_DELTA));
        if count < 1 {
            return Err(BadBatch::Malformed("it has no records"));
        }
        if last != count - 1 {
            return Err(BadBatch::Malformed("its count is not that of its offsets"));
        }
        let room = match self.compression() {
            Compression::None => self.bytes.len() - at::RECORDS,
            _ => MAX_DECOMPRESSED,
        };
        if self.count() as usize > room / layout::LEAST_RECORD {
            return Err(BadBatch::Malformed("its bytes cannot hold so many records"));
        }
        Ok(())
    }

    fn check_producer(&self) -> Result<(), BadBatch> {
        let (id, epoch, sequence) = self.producer_fields();
        match id {
            // Without a producer the other two mean nothing: -1/0/0, -1/-1/0 and -1/-1/-1 are all about.
            -1 => Ok(()),
            0.. if epoch >= 0 && sequence >= 0 => Ok(()),
            0.. => Err(BadBatch::Malformed("it has a producer id without epoch or sequence")),
            _ => Err(BadBatch::Malformed("its producer id is negative")),
        }
    }

    /// Its bytes, as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records there are.
    pub fn count(&self) -> u32 {
        u32::from_be_bytes(self.field(at::COUNT))
    }

    /// Its CRC-32C.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(at::CRC))
    }

    /// Who wrote it; none: nobody in particular (producer id -1).
    pub fn producer(&self) -> Option<Producer> {
        let (id, epoch, first) = self.producer_fields();
        let last = layout::sequence_after(first, self.count() - 1);
        (id >= 0).then_some(Producer { id, epoch, first, last })
    }

    /// How its records are compressed.
    pub fn compression(&self) -> Compression {
        match self.attributes() & layout::COMPRESSION {
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// The time that the records' own times are counted from.
    pub fn base_timestamp_ms(&self) -> i64 {
        i64::from_be_bytes(self.field(at::BASE_TIMESTAMP))
    }

    /// The latest time of its records, as its header says it.
    pub fn max_timestamp_ms(&self) -> i64 {
        i64::from_be_bytes(self.field(at::MAX_TIMESTAMP))
    }

    /// The same batch in memory of its own, unless it is large: a small one would keep the whole of what it came in.
    #[must_use]
    pub fn detached(self) -> Self {
        if self.bytes.len() > MAX_DETACHED { self } else { Self { bytes: Bytes::copy_from_slice(&self.bytes) } }
    }

    /// The same records without a producer: id, epoch and base sequence -1, the CRC anew. The one edit there is.
    #[must_use]
    pub fn strip(&self) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[at::PRODUCER_ID..at::COUNT].fill(0xff);
        let crc = crc32c::crc32c(&bytes[at::ATTRIBUTES..]);
        bytes[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        Self { bytes: bytes.freeze() }
    }

    /// Whether the demands can be met only by a look at every record. False only where any record would do: what the header
    /// says of times is the producer's claim, and of keys it says nothing.
    pub fn needs_look(&self, demands: &Demands) -> bool {
        demands.keys || demands.bounds_time()
    }

    /// Whether the times that the header claims are within the demands. No proof: enough for a batch on its way to a broker,
    /// which looks at every record itself, and never for one on its way to the inbox.
    pub fn claims(&self, demands: &Demands) -> bool {
        demands.takes(self.base_timestamp_ms()) && demands.takes(self.max_timestamp_ms())
    }

    /// Reads every record as far as is needed and holds the demands against it. What decompression gives is bounded and
    /// streamed, never kept whole. It can take long for a large batch: off the reactor then.
    pub fn check(&self, demands: &Demands) -> Result<(), BadRecord> {
        let mut walk = Walk::new(self)?;
        while let Some((index, head)) = walk.next()? {
            if !demands.takes(head.timestamp_ms) {
                return Err(demands.refuses(index, head.timestamp_ms));
            }
            if demands.keys && !head.has_key {
                return Err(BadRecord::NoKey { index });
            }
        }
        Ok(())
    }

    /// The first records, as many as fit `limit` bytes: their decompressed bytes, and what it takes to hold them. All of them
    /// are there if they are [`count`](Self::count).
    pub fn records(&self, limit: usize) -> Result<Vec<Record>, BadRecord> {
        let (mut walk, mut records, mut left) = (Walk::new(self)?, Vec::new(), limit);
        while let Some((record, cost)) = walk.next_whole(left)? {
            records.push(record);
            left -= cost;
        }
        Ok(records)
    }

    fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(at::ATTRIBUTES))
    }

    fn producer_fields(&self) -> (i64, i16, i32) {
        let (id, epoch, sequence) = (self.field(at::PRODUCER_ID), self.field(at::EPOCH), self.field(at::SEQUENCE));
        (i64::from_be_bytes(id), i16::from_be_bytes(epoch), i32::from_be_bytes(sequence))
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        field(&self.bytes, at)
    }

    /// What stands behind the header, as it is.
    fn body(&self) -> &[u8] {
        &self.bytes[at::RECORDS..]
    }
}

/// A record may have no time at all; brokers take it whatever their bounds are.
const NO_TIMESTAMP: i64 = -1;

/// A bound beyond this many milliseconds is none: it is what is left of Kafka's default (`Long.MAX_VALUE`) around any clock.
const NO_BOUND: i64 = i64::MAX / 2;

impl Demands {
    /// Whether there is a time that is not taken.
    fn bounds_time(&self) -> bool {
        !self.broker_time && (self.not_before_ms > -NO_BOUND || self.not_after_ms < NO_BOUND)
    }

    fn takes(&self, timestamp_ms: i64) -> bool {
        let late_enough = self.not_before_ms <= -NO_BOUND || timestamp_ms >= self.not_before_ms;
        let early_enough = self.not_after_ms >= NO_BOUND || timestamp_ms <= self.not_after_ms;
        self.broker_time || timestamp_ms == NO_TIMESTAMP || (late_enough && early_enough)
    }

    fn refuses(&self, index: u32, at_ms: i64) -> BadRecord {
        BadRecord::Time { index, at_ms, not_before_ms: self.not_before_ms, not_after_ms: self.not_after_ms }
    }
}
