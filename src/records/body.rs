//! The records' bytes, decompressed as they are read.
//!
//! What always holds: nothing is kept but a decoder's own window and one buffer; no decoder is given room by a number in its
//! input above the constants here; all that comes out is counted against [`MAX_DECOMPRESSED`](super::MAX_DECOMPRESSED).

use std::io::{self, BufRead, BufReader};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::snappy::Snappy;
use super::{Compression, MAX_DECOMPRESSED};

/// The largest window that a zstd frame may ask for: 8 MiB.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// What is decompressed at a time, where the decoder has no buffer of its own.
const BUFFER: usize = 32 * 1024;

/// The records' bytes, one after another.
pub(super) struct Body<'a> {
    source: Source<'a>,
    /// How many more bytes may come out.
    allowed: usize,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Box<BufReader<MultiGzDecoder<&'a [u8]>>>),
    Snappy(Snappy<'a>),
    Lz4(Box<FrameDecoder<&'a [u8]>>),
    Zstd(Box<BufReader<ZstdDecoder<'a, &'a [u8]>>>),
}

/// The bytes cannot be read, and why.
pub(super) type Damage = &'static str;

const ENDS: Damage = "it ends too early";
const TOO_MUCH: Damage = "the batch is too large when it is decompressed";

impl<'a> Body<'a> {
    pub fn new(bytes: &'a [u8], compression: Compression) -> Result<Self, Damage> {
        let source = match compression {
            Compression::None => Source::Plain(bytes),
            Compression::Gzip => Source::Gzip(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(bytes)))),
            Compression::Snappy => Source::Snappy(Snappy::new(bytes)),
            Compression::Lz4 => Source::Lz4(Box::new(lz4(bytes)?)),
            Compression::Zstd => Source::Zstd(Box::new(BufReader::with_capacity(BUFFER, zstd(bytes)?))),
        };
        Ok(Self { source, allowed: MAX_DECOMPRESSED })
    }

    /// How many bytes can still come, at most.
    pub fn at_most(&self) -> usize {
        match &self.source {
            Source::Plain(bytes) => bytes.len(),
            _ => self.allowed,
        }
    }

    /// Whether everything was read.
    pub fn is_at_end(&mut self) -> Result<bool, Damage> {
        Ok(self.more()?.is_empty())
    }

    pub fn byte(&mut self) -> Result<u8, Damage> {
        let byte = *self.more()?.first().ok_or(ENDS)?;
        self.consume(1)?;
        Ok(byte)
    }

    pub fn skip(&mut self, length: usize) -> Result<(), Damage> {
        self.each(length, |_| {})
    }

    /// So many bytes; the room for them grows as they come.
    pub fn take(&mut self, length: usize) -> Result<Vec<u8>, Damage> {
        let mut taken = Vec::with_capacity(length.min(BUFFER));
        self.each(length, |piece| taken.extend_from_slice(piece))?;
        Ok(taken)
    }

    fn each(&mut self, mut length: usize, mut piece: impl FnMut(&[u8])) -> Result<(), Damage> {
        while length > 0 {
            let more = self.more()?;
            let some = &more[..more.len().min(length)];
            if some.is_empty() {
                return Err(ENDS);
            }
            piece(some);
            let read = some.len();
            self.consume(read)?;
            length -= read;
        }
        Ok(())
    }

    fn more(&mut self) -> Result<&[u8], Damage> {
        match &mut self.source {
            Source::Plain(bytes) => Ok(bytes),
            Source::Gzip(gzip) => gzip.fill_buf().map_err(|_| "it is not gzip"),
            Source::Snappy(snappy) => snappy.more(),
            Source::Lz4(lz4) => lz4.fill_buf().map_err(|_| "it is not lz4"),
            Source::Zstd(zstd) => zstd.fill_buf().map_err(|_| "it is not zstd, or its window is too large"),
        }
    }

    fn consume(&mut self, length: usize) -> Result<(), Damage> {
        self.allowed = self.allowed.checked_sub(length).ok_or(TOO_MUCH)?;
        match &mut self.source {
            Source::Plain(bytes) => *bytes = &bytes[length..],
            Source::Gzip(gzip) => gzip.consume(length),
            Source::Snappy(snappy) => snappy.consume(length),
            Source::Lz4(lz4) => lz4.consume(length),
            Source::Zstd(zstd) => zstd.consume(length),
        }
        Ok(())
    }
}

/// An LZ4 frame's magic, and in the flags behind it: version 01, blocks independent of each other.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const LZ4_VERSION_AND_BLOCKS: u8 = 0b1110_0000;
const LZ4_INDEPENDENT_BLOCKS: u8 = 0b0110_0000;

/// Kafka's brokers take frames of independent blocks only. What they would refuse must not be stored for them.
fn lz4(bytes: &[u8]) -> Result<FrameDecoder<&[u8]>, Damage> {
    let flags = bytes.strip_prefix(&LZ4_MAGIC).and_then(<[u8]>::first).ok_or("it is not an lz4 frame")?;
    match flags & LZ4_VERSION_AND_BLOCKS {
        LZ4_INDEPENDENT_BLOCKS => Ok(FrameDecoder::new(bytes)),
        _ => Err("it is an lz4 frame whose blocks depend on each other, which Kafka does not take"),
    }
}

fn zstd(bytes: &[u8]) -> Result<ZstdDecoder<'_, &[u8]>, Damage> {
    let decoder = || -> io::Result<_> {
        let mut decoder = ZstdDecoder::with_buffer(bytes)?;
        decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
        Ok(decoder)
    };
    decoder().map_err(|_| "there is no memory for zstd")
}
