//! Content codings of a request: one layer, whole, and never more of it than is allowed.
//!
//! A body is decoded after all of it has come, so that no slow sender holds a decoder, and only so many at once, so that
//! their windows have a bound in all. The output grows in steps, each of which is paid for before the next.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;

use super::fault::Fault;
use crate::limits::inflight::InFlight;
use crate::receipt::Refusal;

/// Bodies that are decoded at once; each may have a window of up to 16 MiB.
static DECODERS: Semaphore = Semaphore::const_new(16);

/// Output between two looks at the limits.
const STEP: usize = 64 << 10;

/// Output after which other requests have a turn: about a millisecond of work.
const TURN: usize = 256 << 10;

/// The largest zstd window (as a power of 2) that is allocated: 8 MiB, which RFC 8878 asks for and browsers stop at.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 as many senders understand the name.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// What the head says: one coding that we know, or none.
    pub fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return if headers.contains_key(CONTENT_ENCODING) { Err(Fault::UnsupportedEncoding) } else { Ok(Self::Identity) };
        };
        Self::named(value.as_bytes()).ok_or(Fault::UnsupportedEncoding)
    }

    /// The coding of this name, in any case.
    pub fn named(name: &[u8]) -> Option<Self> {
        let name = name.trim_ascii();
        let known = [
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("br", Self::Brotli),
            ("zstd", Self::Zstd),
        ];
        let found = known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|(_, coding)| *coding)
    }

    /// Takes one layer off; at most `limit` bytes come out, and they are paid for by `guard`.
    pub async fn decode(self, wire: Bytes, limit: u64, guard: &mut InFlight) -> Result<Bytes, Fault> {
        use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
        use async_compression::zstd::DParameter;

        if self == Self::Identity {
            return Ok(wire);
        }
        self.looks_right(&wire)?;
        let _turn = DECODERS.acquire().await.expect("the semaphore is never closed");
        let wire = &wire[..];
        // The decoders leave in `rest` what is behind the end of the coded stream.
        let (decoded, rest) = match self {
            Self::Identity => unreachable!("answered above"),
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(wire);
                (drain(&mut decoder, limit, guard).await?, decoder.into_inner())
            }
            Self::Deflate if is_zlib(wire) => {
                let mut decoder = ZlibDecoder::new(wire);
                (drain(&mut decoder, limit, guard).await?, decoder.into_inner())
            }
            Self::Deflate => {
                let mut decoder = DeflateDecoder::new(wire);
                (drain(&mut decoder, limit, guard).await?, decoder.into_inner())
            }
            Self::Brotli => {
                let mut decoder = BrotliDecoder::new(wire);
                (drain(&mut decoder, limit, guard).await?, decoder.into_inner())
            }
            Self::Zstd => {
                let mut decoder = ZstdDecoder::with_params(wire, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)]);
                (drain(&mut decoder, limit, guard).await?, decoder.into_inner())
            }
        };
        if rest.is_empty() { Ok(decoded) } else { Err(Refusal::malformed("something follows the compressed body").into()) }
    }

    /// Tells a false name by the first bytes, where the coding has a mark of its own; refuses a window that is too large.
    fn looks_right(self, wire: &[u8]) -> Result<(), Fault> {
        let marked = |mark: &[u8]| wire.starts_with(mark) || mark.starts_with(wire);
        match self {
            Self::Gzip if !marked(&[0x1f, 0x8b]) => Err(Fault::UnsupportedEncoding),
            Self::Zstd if !marked(&[0x28, 0xb5, 0x2f, 0xfd]) => Err(Fault::UnsupportedEncoding),
            Self::Zstd => match zstd_window(wire) {
                Some(window) if window > 1 << ZSTD_WINDOW_LOG => {
                    Err(Refusal::TooLarge { what: "the zstd window in bytes", actual: window, limit: 1 << ZSTD_WINDOW_LOG }.into())
                }
                _ => Ok(()),
            },
            Self::Identity | Self::Gzip | Self::Deflate | Self::Brotli => Ok(()),
        }
    }
}

async fn drain(decoder: &mut (impl AsyncRead + Unpin), limit: u64, guard: &mut InFlight) -> Result<Bytes, Fault> {
    let mut decoded = BytesMut::new();
    let mut turn = 0;
    loop {
        decoded.reserve(STEP);
        // Not all of the capacity: that may be as much again as has come out.
        let n = match decoder.read_buf(&mut (&mut decoded).limit(STEP)).await {
            Ok(0) => return Ok(decoded.freeze()),
            Ok(n) => n,
            Err(error) => return Err(broken(&error, decoded.is_empty())),
        };
        let actual = decoded.len() as u64;
        if actual > limit {
            return Err(Refusal::TooLarge { what: "the size of the decompressed body in bytes", actual, limit }.into());
        }
        guard.grow(n as u64)?;
        turn += n;
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

fn broken(error: &std::io::Error, nothing_came: bool) -> Fault {
    // Deflate has no error of its own for a stream that ends too early.
    let cut_off = error.kind() == std::io::ErrorKind::UnexpectedEof || error.to_string() == "unexpected BufError";
    if cut_off {
        Refusal::malformed("the compressed body is cut off").into()
    } else if nothing_came {
        Fault::UnsupportedEncoding
    } else {
        Refusal::malformed("the compressed body is damaged").into()
    }
}

fn is_zlib(wire: &[u8]) -> bool {
    const DEFLATE: u8 = 8;
    matches!(wire, [cmf, flags, ..] if cmf & 0x0f == DEFLATE && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0)
}

/// The window that a zstd frame asks for, in bytes (RFC 8878, 3.1.1.1); none while its head is not whole.
fn zstd_window(frame: &[u8]) -> Option<u64> {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let descriptor = *frame.get(4)?;
    if descriptor & SINGLE_SEGMENT == 0 {
        let window = *frame.get(5)?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the content, whose size follows the dictionary's id.
    let at = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let width = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let size = frame.get(at..at + width)?.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
    Some(if width == 2 { size + 256 } else { size })
}

#[cfg(test)]
mod tests {
    use std::io;

    use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::limits::inflight::Meter;

    const LIMIT: u64 = 1 << 20;

    async fn encode(name: &str, plain: &[u8]) -> io::Result<Vec<u8>> {
        macro_rules! through {
            ($encoder:ident) => {{
                let mut encoder = $encoder::new(Vec::new());
                encoder.write_all(plain).await?;
                encoder.shutdown().await?;
                Ok(encoder.into_inner())
            }};
        }
        match name {
            "gzip" => through!(GzipEncoder),
            "zlib" => through!(ZlibEncoder),
            "raw" => through!(DeflateEncoder),
            "br" => through!(BrotliEncoder),
            _ => through!(ZstdEncoder),
        }
    }

    const ALL: [(&str, Coding); 5] =
        [("gzip", Coding::Gzip), ("zlib", Coding::Deflate), ("raw", Coding::Deflate), ("br", Coding::Brotli), ("zstd", Coding::Zstd)];

    async fn decode(coding: Coding, wire: &[u8]) -> Result<Bytes, Fault> {
        let mut guard = Meter::new(1 << 30).reserve(0).expect("room");
        let decoded = coding.decode(Bytes::copy_from_slice(wire), LIMIT, &mut guard).await;
        if let Ok(decoded) = &decoded {
            assert_eq!(guard.bytes(), decoded.len() as u64, "what came out is paid for");
        }
        decoded
    }

    #[tokio::test]
    async fn every_coding_gives_back_what_went_in() {
        let plain: Vec<u8> = (0..300_000u32).flat_map(|n| (n * n % 251).to_le_bytes()).take(LIMIT as usize).collect();
        for (name, coding) in ALL {
            for plain in [&b""[..], b"{\"a\":1}", &plain] {
                let wire = encode(name, plain).await.expect(name);
                assert_eq!(decode(coding, &wire).await.expect(name), plain, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_cut_off_or_continued_body_is_malformed_at_every_byte() {
        for (name, coding) in ALL {
            let wire = encode(name, b"{\"a\":\"some text, and some text again\"}").await.expect(name);
            for end in 0..wire.len() {
                let fault = decode(coding, &wire[..end]).await.expect_err("cut off");
                assert!(matches!(fault, Fault::Refused(Refusal::Malformed { .. })), "{name} cut at {end}: {fault:?}");
            }
            for tail in [&b"x"[..], b"\0", &wire] {
                let fault = decode(coding, &[&wire[..], tail].concat()).await.expect_err("continued");
                assert!(matches!(fault, Fault::Refused(Refusal::Malformed { .. })), "{name}: {fault:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_at_the_limit() {
        for (name, coding) in ALL {
            let wire = encode(name, &vec![0; 64 << 20]).await.expect(name);
            let fault = decode(coding, &wire).await.expect_err("a bomb");
            let Fault::Refused(Refusal::TooLarge { actual, limit, .. }) = fault else { panic!("{name}: {fault:?}") };
            assert_eq!(limit, LIMIT);
            assert!(actual <= LIMIT + 2 * STEP as u64, "{name}: {actual} bytes came out");
        }
    }

    #[tokio::test]
    async fn a_zstd_window_of_two_gigabytes_is_not_allocated() {
        let windowed = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0];
        let single = [0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000, 0, 0, 0, 0x80, 1, 0, 0];
        for frame in [&windowed[..], &single] {
            let fault = decode(Coding::Zstd, frame).await.expect_err("too large");
            assert!(matches!(fault, Fault::Refused(Refusal::TooLarge { actual: 0x8000_0000, .. })), "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_false_name_is_an_unsupported_encoding() {
        for coding in [Coding::Gzip, Coding::Zstd, Coding::Brotli] {
            assert_eq!(decode(coding, b"{\"a\":1,\"b\":2}").await, Err(Fault::UnsupportedEncoding), "{coding:?}");
        }
        assert!(decode(Coding::Deflate, b"{\"a\":1,\"b\":2}").await.is_err());
    }

    #[test]
    fn one_known_coding_or_none() {
        let of = |values: &[&str]| {
            let values = values.iter().map(|value| (CONTENT_ENCODING, value.parse().expect("a value")));
            Coding::of(&values.collect())
        };
        assert_eq!(of(&[]), Ok(Coding::Identity));
        assert_eq!(of(&["GZip"]), Ok(Coding::Gzip));
        for values in [&["gzip", "gzip"][..], &["gzip, gzip"], &["gzip", "identity"], &["lzma"], &[""], &["aws-chunked"]] {
            assert_eq!(of(values), Err(Fault::UnsupportedEncoding), "{values:?}");
        }
    }
}
