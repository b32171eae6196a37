//! Frames: a length, and so many bytes. Sans I/O.
//!
//! What always holds: a length is judged as soon as its bytes are there, before anything is reserved for it. `GET ` is a
//! length of 1.2 GB, a TLS hello one of 370 MB: neither is waited for.

use bytes::{Buf, Bytes, BytesMut};

use super::api::Call;
use super::api::find;

/// The bytes of a length.
pub const LENGTH: usize = 4;

/// Before authentication.
const MAX_STRANGERS: usize = 64 << 10;

/// After it, of everything that brings no batches.
const MAX_QUESTION: usize = 1 << 20;

/// How long frames may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    batches: usize,
    others: usize,
}

/// A length that no frame of ours has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength(pub i32);

impl Bounds {
    /// Before authentication.
    pub const STRANGERS: Self = Self { batches: MAX_STRANGERS, others: MAX_STRANGERS };

    /// After it; `batches` is the bound of a Produce request.
    pub fn known(batches: usize) -> Self {
        Self { batches, others: MAX_QUESTION.min(batches) }
    }

    /// The length of the first frame in what was read; none: more must be read before it is known.
    pub fn announced(&self, read: &[u8]) -> Result<Option<usize>, BadLength> {
        let Some((length, rest)) = read.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*length);
        let bad = BadLength(announced);
        let length = usize::try_from(announced).map_err(|_| bad)?;
        if length == 0 || length > self.batches {
            return Err(bad);
        }
        if length > self.others {
            // Only batches may be as long as that: it begins with its key.
            let Some(key) = rest.first_chunk::<2>() else { return Ok(None) };
            if find(i16::from_be_bytes(*key)).is_none_or(|api| api.call != Call::Produce) {
                return Err(bad);
            }
        }
        Ok(Some(length))
    }
}

/// Takes the first frame of what was read. It is all there.
pub fn cut(read: &mut BytesMut, length: usize) -> Bytes {
    read.advance(LENGTH);
    let frame = read.split_to(length).freeze();
    // What is empty holds on to the frame's memory for nothing.
    if read.is_empty() {
        *read = BytesMut::new();
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_k2_what_is_not_kafka_is_seen_in_the_first_four_bytes() {
        for first in [*b"GET ", *b"POST", [0x16, 3, 1, 2], [0; 4], [0xff; 4], [0x80, 0, 0, 0], [0x7f, 0xff, 0xff, 0xff]] {
            assert!(Bounds::STRANGERS.announced(&first).is_err(), "{first:?}");
            assert!(Bounds::known(100 << 20).announced(&first).is_err(), "{first:?}");
        }
        assert_eq!(Bounds::STRANGERS.announced(&[0, 0, 0]), Ok(None));
        assert_eq!(Bounds::STRANGERS.announced(&[0, 1, 0, 0]), Ok(Some(64 << 10)));
        assert_eq!(Bounds::STRANGERS.announced(&[0, 1, 0, 1]), Err(BadLength(65_537)));
    }

    #[test]
    fn only_batches_may_be_as_long_as_batches_are() {
        let bounds = Bounds::known(100 << 20);
        assert_eq!(bounds.announced(&[1, 0, 0, 0, 0]), Ok(None), "the key is not there yet");
        assert_eq!(bounds.announced(&[1, 0, 0, 0, 0, 0]), Ok(Some(16 << 20)));
        assert_eq!(bounds.announced(&[1, 0, 0, 0, 0, 3]), Err(BadLength(16 << 20)), "Metadata of 16 MiB");
        assert_eq!(bounds.announced(&[0, 0, 16, 0]), Ok(Some(4096)));
    }

    #[test]
    fn frames_are_cut_one_after_another_and_an_empty_buffer_holds_nothing() {
        let mut read = BytesMut::from(&[0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 3][..]);
        assert_eq!(&cut(&mut read, 2)[..], [1, 2]);
        assert_eq!(&cut(&mut read, 1)[..], [3]);
        assert_eq!(read.capacity(), 0);
    }
}
