//! Snappy in its two shapes: one raw block (librdkafka, franz-go), or blocks in the frames of xerial's Java library (the Java
//! client, kafkajs, sarama, the Python clients): a magic, two versions, and for each block its length.
//!
//! What always holds: one block is decompressed at a time, and only if its own size is one that so many bytes can make, and
//! at most [`MAX_BLOCK`]. Snappy's copies may reach back over a whole block: a raw one cannot be streamed.

use super::body::Damage;

/// The largest block, decompressed. Xerial's frames have 32 KiB; a raw block is the whole batch.
const MAX_BLOCK: usize = 32 * 1024 * 1024;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, the version, and the oldest version that reads it.
const XERIAL_HEADER: usize = 16;

/// Three bytes make 64 at most; the size in front and the first literal are within the constant.
const MAX_RATIO: usize = 22;
const SLACK: usize = 64;

const NOT_SNAPPY: Damage = "it is not snappy";

/// Blocks, one at a time.
pub(super) struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    read: usize,
}

impl<'a> Snappy<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let framed = bytes.len() >= XERIAL_HEADER && bytes.starts_with(&XERIAL_MAGIC);
        let rest = if framed { &bytes[XERIAL_HEADER..] } else { bytes };
        Self { rest, framed, block: Vec::new(), read: 0 }
    }

    /// What can be read now; nothing: the end.
    pub fn more(&mut self) -> Result<&[u8], Damage> {
        // A block may be empty.
        while self.read == self.block.len() && !self.rest.is_empty() {
            let block = self.next_block()?;
            self.decompress(block)?;
        }
        Ok(&self.block[self.read..])
    }

    pub fn consume(&mut self, length: usize) {
        self.read += length;
    }

    fn next_block(&mut self) -> Result<&'a [u8], Damage> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or(NOT_SNAPPY)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| NOT_SNAPPY)?;
        let (block, rest) = rest.split_at_checked(length).ok_or(NOT_SNAPPY)?;
        self.rest = rest;
        Ok(block)
    }

    fn decompress(&mut self, block: &[u8]) -> Result<(), Damage> {
        let size = snap::raw::decompress_len(block).map_err(|_| NOT_SNAPPY)?;
        if size > MAX_BLOCK {
            return Err("a snappy block is larger than 32 MiB");
        }
        if size > block.len() * MAX_RATIO + SLACK {
            return Err(NOT_SNAPPY);
        }
        self.read = 0;
        self.block.resize(size, 0);
        let made = snap::raw::Decoder::new().decompress(block, &mut self.block).map_err(|_| NOT_SNAPPY)?;
        self.block.truncate(made);
        Ok(())
    }
}
