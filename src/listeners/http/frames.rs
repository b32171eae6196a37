//! A budget for HTTP/2 frames that cost work and bring none: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, RST_STREAM,
//! CONTINUATION and empty DATA. The library bounds some of them and not the floods of the others.
//!
//! Only frame heads are read here, nothing is kept. When the budget is spent, the library is handed a frame that no peer
//! may send: it says GOAWAY and closes, in order.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What an HTTP/2 connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// SETTINGS on a stream: a connection error of type PROTOCOL_ERROR (RFC 9113, 6.5).
const FORBIDDEN: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 1];

const FRAME_HEAD: usize = 9;

/// Seconds of budget that may be spent at once.
const BURST_SECONDS: f64 = 10.0;

/// What a request brings.
const PER_REQUEST: f64 = 8.0;

/// What a reset costs: more than the rest, since the request that it takes back has been begun.
const PER_RESET: f64 = PER_REQUEST + 2.0;

/// What was seen of a connection; shared with the loop that serves it.
#[derive(Debug, Default)]
pub struct Seen {
    preface: AtomicBool,
    flood: AtomicBool,
}

impl Seen {
    /// Whether the client has spoken HTTP/2.
    pub fn preface(&self) -> bool {
        self.preface.load(Ordering::Relaxed)
    }

    /// Whether the budget was spent.
    pub fn flood(&self) -> bool {
        self.flood.load(Ordering::Relaxed)
    }
}

/// An HTTP/2 connection whose frames are counted.
#[derive(Debug)]
pub struct Frames<S> {
    io: S,
    read: BytesMut,
    count: Count,
    end: Option<&'static [u8]>,
    seen: Arc<Seen>,
}

impl<S> Frames<S> {
    /// A connection of which `read` has been read already, and which may send `per_second` frames for nothing.
    pub fn new(io: S, read: BytesMut, per_second: u32, seen: Arc<Seen>) -> Self {
        Self { io, read, count: Count::new(per_second), end: None, seen }
    }

    /// Counts what was read into `out` from `start`; cuts it off where the budget ended.
    fn look(&mut self, out: &mut ReadBuf<'_>, start: usize) {
        let spent = self.count.look(&out.filled()[start..], Instant::now());
        self.seen.preface.store(self.count.preface == 0, Ordering::Relaxed);
        if let Some(at) = spent {
            out.set_filled(start + at);
            self.seen.flood.store(true, Ordering::Relaxed);
            self.end = Some(&FORBIDDEN);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(end) = &mut this.end {
            let n = end.len().min(out.remaining());
            out.put_slice(&end[..n]);
            *end = &end[n..];
            return Poll::Ready(Ok(()));
        }
        let start = out.filled().len();
        if this.read.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
        } else {
            let n = this.read.len().min(out.remaining());
            out.put_slice(&this.read[..n]);
            this.read.advance(n);
        }
        this.look(out, start);
        // Nothing before the cut: the end itself must go, an empty read would say that the client has closed.
        if this.end.is_some() && out.filled().len() == start {
            return self.poll_read(cx, out);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[derive(Debug)]
struct Count {
    per_second: f64,
    spare: f64,
    since: Instant,
    /// Bytes of the preface still to come.
    preface: usize,
    head: [u8; FRAME_HEAD],
    have: usize,
    payload: usize,
    spent: bool,
}

impl Count {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        let spare = per_second * BURST_SECONDS;
        Self { per_second, spare, since: Instant::now(), preface: PREFACE.len(), head: [0; FRAME_HEAD], have: 0, payload: 0, spent: false }
    }

    /// Counts frames; says behind which byte the budget was spent.
    fn look(&mut self, bytes: &[u8], now: Instant) -> Option<usize> {
        let mut at = bytes.len().min(self.preface);
        self.preface -= at;
        while at < bytes.len() {
            let skipped = self.payload.min(bytes.len() - at);
            self.payload -= skipped;
            at += skipped;
            // Between two frames, so that the frame that ends the connection is read as one.
            if self.spent && self.payload == 0 {
                return Some(at);
            }
            let n = (FRAME_HEAD - self.have).min(bytes.len() - at);
            self.head[self.have..self.have + n].copy_from_slice(&bytes[at..at + n]);
            self.have += n;
            at += n;
            if self.have == FRAME_HEAD {
                self.have = 0;
                self.payload = usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2]);
                self.spent |= !self.charge(now);
            }
        }
        (self.spent && self.payload == 0 && self.have == 0).then_some(at)
    }

    fn charge(&mut self, now: Instant) -> bool {
        const END_STREAM: u8 = 1;
        let change = match (self.head[3], self.payload) {
            (0, 0) if self.head[4] & END_STREAM == 0 => -1.0,
            (0, _) => 0.0,
            (1, _) => PER_REQUEST,
            (3, _) => -PER_RESET,
            _ => -1.0,
        };
        if change == 0.0 {
            return true;
        }
        let most = self.per_second * BURST_SECONDS;
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * self.per_second;
        self.since = now;
        self.spare = (self.spare + earned).min(most) + change;
        self.spare >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEAD + length, 0);
        frame
    }

    fn many(frames: &[Vec<u8>], times: usize) -> Vec<u8> {
        [PREFACE.to_vec(), frames.concat().repeat(times)].concat()
    }

    /// Where the budget was spent, when the bytes come in pieces of `step` with `pause` between them.
    fn spent(bytes: &[u8], step: usize, pause: Duration) -> Option<usize> {
        let mut count = Count::new(50);
        let mut now = count.since;
        for (n, piece) in bytes.chunks(step).enumerate() {
            if let Some(at) = count.look(piece, now) {
                return Some(n * step + at);
            }
            now += pause;
        }
        None
    }

    #[test]
    fn floods_of_frames_that_bring_nothing_are_cut_between_two_frames() {
        for (kind, length) in [(6, 8), (4, 0), (8, 4), (2, 5), (9, 0), (0, 0), (77, 300)] {
            let bytes = many(&[frame(kind, 0, length)], 10_000);
            for step in [1, 7, 4096] {
                let at = spent(&bytes, step, Duration::ZERO).expect("a flood");
                assert_eq!(at, PREFACE.len() + 501 * (FRAME_HEAD + length), "kind {kind} in pieces of {step}");
            }
        }
        assert!(spent(&many(&[frame(1, 5, 20), frame(3, 0, 4)], 1_000), 100, Duration::ZERO).is_some(), "rapid resets");
    }

    #[test]
    fn requests_bodies_and_an_honest_share_of_control_frames_are_not_a_flood() {
        let requests = many(&[frame(1, 4, 30), frame(0, 0, 9000), frame(0, 1, 0), frame(8, 0, 4), frame(6, 1, 8)], 2_000);
        assert_eq!(spent(&requests, 4096, Duration::ZERO), None);
        let pings = many(&[frame(6, 0, 8)], 5_000);
        assert_eq!(spent(&pings, FRAME_HEAD + 8, Duration::from_millis(25)), None, "40 a second");
    }
}
