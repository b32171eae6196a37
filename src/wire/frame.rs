//! Cuts a stream of bytes into frames: a length of four bytes, and so many bytes.
//!
//! What always holds: a length that is not above zero and within the limit ends the connection at its first four bytes
//! (`GET ` is a length of 1.19 GB, a TLS hello one of 369 MB); the buffer grows with the bytes that came, not with those that
//! are promised; a frame that was large leaves no large buffer behind.

use bytes::{Buf, Bytes, BytesMut};

use super::BadWire;

/// The longest frame before somebody has logged in.
pub const MAX_FRAME_BEFORE_LOGIN: usize = 64 * 1024;

/// The longest frame after that: some clients put all that they have for "one broker" into one request.
pub const MAX_FRAME: usize = 100 * 1024 * 1024;

/// The most room that the buffer is given ahead of the bytes: as much as there is already, within these bounds. So a silent
/// connection has the least.
const ROOM: std::ops::RangeInclusive<usize> = 4 * 1024..=STEP;

/// A frame above this is a large one.
const STEP: usize = 64 * 1024;

const PREFIX: usize = 4;

/// Cuts frames off the front of a buffer. It reads nothing itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// The longest frame that is taken, without its length.
    pub limit: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { limit: MAX_FRAME_BEFORE_LOGIN }
    }
}

impl Frames {
    /// Frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// The next frame, without its length; none: read more into the buffer, and ask again. After an error the stream has no
    /// frames any more.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, BadWire> {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
            buffer.reserve(*ROOM.start());
            return Ok(None);
        };
        let length = self.length(i32::from_be_bytes(*prefix))?;
        let missing = (PREFIX + length).saturating_sub(buffer.len());
        if missing > 0 {
            buffer.reserve(missing.min(buffer.len().clamp(*ROOM.start(), *ROOM.end())));
            return Ok(None);
        }
        let mut frame = cut(buffer, PREFIX + length);
        frame.advance(PREFIX);
        Ok(Some(frame))
    }

    fn length(&self, length: i32) -> Result<usize, BadWire> {
        let length = usize::try_from(length).map_err(|_| BadWire { what: "a frame of negative length", at: 0 })?;
        match length {
            0 => Err(BadWire { what: "an empty frame", at: 0 }),
            length if length > self.limit => Err(BadWire { what: "a frame above the limit", at: 0 }),
            length => Ok(length),
        }
    }
}

/// Takes bytes off the buffer's front. Behind a large frame the buffer starts anew: split off, it would come back to the
/// large allocation as soon as the frame is done with, and a silent connection would keep it.
fn cut(buffer: &mut BytesMut, length: usize) -> Bytes {
    if length <= STEP {
        return buffer.split_to(length).freeze();
    }
    let rest = BytesMut::from(&buffer[length..]);
    let mut frame = std::mem::replace(buffer, rest);
    frame.truncate(length);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn framed(bodies: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for body in bodies {
            stream.put_i32(body.len() as i32);
            stream.put_slice(body);
        }
        stream
    }

    #[test]
    fn frames_come_out_whole_however_they_came_in() {
        let large = vec![7; 3 * STEP];
        let bodies: [&[u8]; 4] = [b"one", &large, b"t", b"three"];
        let stream = framed(&bodies);
        for piece in [1, 3, 1000, stream.len()] {
            let (mut frames, mut buffer, mut got) = (Frames::new(MAX_FRAME), BytesMut::new(), Vec::new());
            for bytes in stream.chunks(piece) {
                buffer.extend_from_slice(bytes);
                while let Some(frame) = frames.next(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, bodies, "in pieces of {piece}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_length_that_cannot_be_ends_it_at_its_four_bytes() {
        let mut frames = Frames::default();
        for first in [*b"GET ", [0x16, 3, 1, 2], [0, 0, 0, 0], [0xff; 4], [0, 1, 0, 1]] {
            assert!(frames.next(&mut BytesMut::from(&first[..])).is_err(), "{first:?}");
        }
        assert_eq!(frames.next(&mut BytesMut::from(&[0, 1, 0, 0][..])), Ok(None), "the limit itself is taken");
        frames.limit = MAX_FRAME;
        assert_eq!(frames.next(&mut BytesMut::from(&[0, 1, 0, 1][..])), Ok(None), "and may be raised");
    }

    #[test]
    fn a_promise_alone_makes_no_large_buffer() {
        let mut buffer = BytesMut::from(&[6, 0x40, 0, 0, 1][..]);
        assert_eq!(Frames::new(MAX_FRAME).next(&mut buffer), Ok(None));
        assert!(buffer.capacity() <= 2 * STEP, "{}", buffer.capacity());
    }

    #[test]
    fn a_large_frame_leaves_no_large_buffer() {
        let mut buffer = BytesMut::from(&framed(&[&vec![1; 100 * STEP], b"next"])[..]);
        let mut frames = Frames::new(MAX_FRAME);
        drop(frames.next(&mut buffer).unwrap().unwrap());
        assert_eq!(frames.next(&mut buffer).unwrap().unwrap(), &b"next"[..]);
        buffer.reserve(STEP);
        assert!(buffer.capacity() <= 2 * STEP, "{}", buffer.capacity());
    }
}
