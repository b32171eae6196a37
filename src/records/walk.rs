//! Reads the records of a batch, one by one.
//!
//! What always holds: a record is as long as it says, to the byte; the records are as many as the header says, their offsets
//! count from 0, and nothing follows the last one. No length is believed before it fits its record, and no record's before it
//! fits the batch.

use bytes::Bytes;

use super::body::{Body, Damage};
use super::{BadRecord, Record, RecordBatch};

/// The records that are still to be read.
pub(super) struct Walk<'a> {
    body: Body<'a>,
    base_ms: i64,
    next: u32,
    count: u32,
    /// The bytes that are left of the record that is being read.
    left: usize,
}

/// What a check wants to know of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub timestamp_ms: i64,
    pub has_key: bool,
}

/// What a record and a header take in memory besides their bytes.
const RECORD_COST: usize = size_of::<Record>();
const HEADER_COST: usize = size_of::<(Bytes, Option<Bytes>)>();

impl<'a> Walk<'a> {
    pub fn new(batch: &'a RecordBatch) -> Result<Self, BadRecord> {
        let body = Body::new(batch.body(), batch.compression()).map_err(|what| BadRecord::Damaged { index: 0, what })?;
        Ok(Self { body, base_ms: batch.base_timestamp_ms(), next: 0, count: batch.count(), left: 0 })
    }

    /// The next record's number and what a check wants to know of it; none: it was the last.
    pub fn next(&mut self) -> Result<Option<(u32, Head)>, BadRecord> {
        let index = self.next;
        let head = if index < self.count { self.head().map(Some) } else { self.end().map(|()| None) };
        self.next += 1;
        head.map(|head| head.map(|head| (index, head))).map_err(|what| BadRecord::Damaged { index, what })
    }

    /// The next record as it is, and what it takes of the room; none: it was the last, or there is no room for it.
    pub fn next_whole(&mut self, room: usize) -> Result<Option<(Record, usize)>, BadRecord> {
        let index = self.next;
        let record = if index < self.count { self.whole(room) } else { self.end().map(|()| None) };
        self.next += 1;
        record.map_err(|what| BadRecord::Damaged { index, what })
    }

    fn head(&mut self) -> Result<Head, Damage> {
        let timestamp_ms = self.start()?;
        let key = self.length()?;
        self.skip(key.unwrap_or(0))?;
        let value = self.length()?;
        self.skip(value.unwrap_or(0))?;
        for _ in 0..self.header_count()? {
            let name = self.length()?.ok_or(NAMELESS)?;
            self.skip(name)?;
            let value = self.length()?;
            self.skip(value.unwrap_or(0))?;
        }
        self.finish()?;
        Ok(Head { timestamp_ms, has_key: key.is_some() })
    }

    fn whole(&mut self, room: usize) -> Result<Option<(Record, usize)>, Damage> {
        let timestamp_ms = self.start()?;
        let mut cost = self.left + RECORD_COST;
        if cost > room {
            return Ok(None);
        }
        let (key, value) = (self.bytes()?, self.bytes()?);
        let count = self.header_count()?;
        cost += count * HEADER_COST;
        if cost > room {
            return Ok(None);
        }
        let headers = (0..count).map(|_| Ok((self.bytes()?.ok_or(NAMELESS)?, self.bytes()?)));
        let headers = headers.collect::<Result<_, Damage>>()?;
        self.finish()?;
        Ok(Some((Record { timestamp_ms, key, value, headers }, cost)))
    }

    /// A record up to its key; its time.
    fn start(&mut self) -> Result<i64, Damage> {
        // The length itself is no part of the record: let it take the most that a varint can.
        self.left = LONGEST_VARINT;
        let length = self.varint32()?;
        self.left = usize::try_from(length).map_err(|_| "its length is negative")?;
        if self.left > self.body.at_most() {
            return Err("it is longer than its batch");
        }
        let _attributes = self.byte()?;
        let timestamp_delta = self.varint64()?;
        if self.varint32()? != i32::try_from(self.next).map_err(|_| OFFSET)? {
            return Err(OFFSET);
        }
        // As a broker counts it.
        Ok(self.base_ms.wrapping_add(timestamp_delta))
    }

    fn finish(&self) -> Result<(), Damage> {
        if self.left == 0 { Ok(()) } else { Err("it is longer than what is in it") }
    }

    fn end(&mut self) -> Result<(), Damage> {
        if self.body.is_at_end()? { Ok(()) } else { Err("something follows the last record") }
    }

    /// How many headers follow; each has two lengths.
    fn header_count(&mut self) -> Result<usize, Damage> {
        let count = usize::try_from(self.varint32()?).map_err(|_| "its count of headers is negative")?;
        if count > self.left / 2 { Err("it has more headers than bytes") } else { Ok(count) }
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, Damage> {
        let Some(length) = self.length()? else { return Ok(None) };
        self.spend(length)?;
        self.body.take(length).map(|bytes| Some(bytes.into()))
    }

    /// A length that fits the record; none: null.
    fn length(&mut self) -> Result<Option<usize>, Damage> {
        match self.varint32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) if length <= self.left => Ok(Some(length)),
                Ok(_) => Err("a length goes beyond it"),
                Err(_) => Err("a length is negative"),
            },
        }
    }

    fn skip(&mut self, length: usize) -> Result<(), Damage> {
        self.spend(length)?;
        self.body.skip(length)
    }

    fn spend(&mut self, length: usize) -> Result<(), Damage> {
        self.left = self.left.checked_sub(length).ok_or("it is shorter than what is in it")?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Damage> {
        self.spend(1)?;
        self.body.byte()
    }

    fn varint32(&mut self) -> Result<i32, Damage> {
        i32::try_from(self.varint64()?).map_err(|_| "a number is too large")
    }

    /// A zigzag number.
    fn varint64(&mut self) -> Result<i64, Damage> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number is too long")
    }
}

const LONGEST_VARINT: usize = 10;
const NAMELESS: Damage = "a header has no name";
const OFFSET: Damage = "its offset is not its place in the batch";
