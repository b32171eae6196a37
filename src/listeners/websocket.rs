//! Kafka over WebSocket: the binary frames of an upgraded connection as the plain stream that the Kafka door serves.
//!
//! What always holds: boundaries of frames and messages mean nothing, and no frame is ever held whole. A payload is handed
//! on as it comes and buffers grow with the bytes that came, never with the length that a frame promises (the library's own
//! reader reserves that length, which is why only its frame heads are used here). Pings are answered, a close is answered,
//! text is refused (1003), and a drain ends it with "going away" (1001).

use std::future::poll_fn;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tokio_util::io::poll_read_buf;

use super::http::upgrade::{Opened, Tunnel, Tunnels};
use super::kafka::{Arrival, Door};
use crate::drain::{Phase, Signal};

/// The longest frame of a client; 1009 beyond it. Larger than any Kafka request, since nothing of it is held.
const MAX_FRAME_IN: u64 = 128 << 20;

/// The longest frame that we send; what is longer goes in several.
const MAX_FRAME_OUT: usize = 64 << 10;

/// Framed bytes that may wait for the client before no more are taken.
const MAX_BACKLOG: usize = 64 << 10;

/// Framed bytes beyond which not even pings are answered. What is written alone never comes so far.
const MAX_OUTBOUND: usize = MAX_BACKLOG + 2 * MAX_FRAME_OUT;

/// The longest control frame (RFC 6455, 5.5).
const MAX_CONTROL: u64 = 125;

const READ_HEAD: usize = 2 << 10;
const READ_PAYLOAD: usize = 32 << 10;

/// For a client to answer our close. Within the drain's share for what is in flight.
const PARTING: Duration = Duration::from_secs(1);

/// Leads tunnels to the Kafka door. A client that has not shown who it is has `patience` to do so inside.
pub(super) fn tunnels(door: Arc<Door>, signal: Signal, patience: Duration) -> Tunnels {
    Tunnels::new(move |opened| serve(Arc::clone(&door), signal.clone(), patience, opened))
}

async fn serve(door: Arc<Door>, signal: Signal, patience: Duration, (upgraded, tunnel, local): Opened) {
    let (back, left) = oneshot::channel();
    let stream = Stream { frames: Some(Frames::new(TokioIo::new(upgraded), signal)), back: Some(back) };
    door.serve(stream, arrival(tunnel, local, patience)).await;
    // The door knows nothing of frames, so the close is said here, when it has let go.
    if let Ok(Ok(frames)) = timeout(PARTING, left).await {
        let _ = timeout(PARTING, frames.close()).await;
    }
}

fn arrival(tunnel: Tunnel, local: SocketAddr, patience: Duration) -> Arrival {
    let Tunnel { peer, principal } = tunnel;
    Arrival { peer, local, principal, read: BytesMut::new(), deadline: Instant::now() + patience }
}

/// What the door reads and writes; on drop the frames go back, to be closed in order.
struct Stream<S> {
    /// There until the drop.
    frames: Option<Frames<S>>,
    back: Option<oneshot::Sender<Frames<S>>>,
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        if let (Some(frames), Some(back)) = (self.frames.take(), self.back.take()) {
            let _ = back.send(frames);
        }
    }
}

impl<S> Stream<S> {
    fn frames(&mut self) -> &mut Frames<S> {
        self.frames.as_mut().expect("there until the drop")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.frames().poll_read(cx, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.frames().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames().say_close();
        self.frames().poll_flush(cx)
    }
}

/// Where the next byte of a client belongs.
#[derive(Clone, Copy, Debug)]
enum Place {
    Head,
    Payload { left: u64, mask: [u8; 4], at: usize },
}

/// The frames of one connection, seen from the server.
struct Frames<S> {
    io: S,
    signal: Signal,
    /// Read and not understood yet.
    inbound: BytesMut,
    place: Place,
    /// A message is open: its next frame is a continuation.
    open: bool,
    /// Nothing more is read: the client has closed, or done what it may not.
    ended: bool,
    /// Framed and not written yet.
    outbound: BytesMut,
    /// Something is written and not flushed.
    unflushed: bool,
    /// Our close is said.
    closed: bool,
    /// Who waits to write on; a reader that answers a ping must not take its turn away.
    writer: Option<Waker>,
}

impl<S> Frames<S> {
    fn new(io: S, signal: Signal) -> Self {
        let (inbound, outbound) = (BytesMut::new(), BytesMut::new());
        let place = Place::Head;
        Self { io, signal, inbound, place, open: false, ended: false, outbound, unflushed: false, closed: false, writer: None }
    }

    /// Hands payload on as far as there is some and room for it.
    fn decode(&mut self, out: &mut ReadBuf<'_>) {
        while !self.ended && !self.inbound.is_empty() {
            let Place::Payload { left, mask, at } = self.place else { if self.head() { continue } else { return } };
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.inbound.len()).min(out.remaining());
            if left > 0 && n == 0 {
                return;
            }
            unmask(&mut self.inbound[..n], mask, at);
            out.put_slice(&self.inbound[..n]);
            self.inbound.advance(n);
            let left = left - n as u64;
            self.place = if left == 0 { Place::Head } else { Place::Payload { left, mask, at: at + n } };
        }
    }

    /// Reads the head of a frame, and a control frame as a whole. False: more bytes are needed.
    fn head(&mut self) -> bool {
        let mut cursor = Cursor::new(&self.inbound[..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return false,
            Err(_) => return self.fail(CloseCode::Protocol),
        };
        let read = usize::try_from(cursor.position()).expect("a head is at most 14 bytes");
        // Extensions were not agreed on, and only masked frames come from clients.
        let (plain, mask) = (!(header.rsv1 || header.rsv2 || header.rsv3), header.mask);
        let Some(mask) = mask.filter(|_| plain) else { return self.fail(CloseCode::Protocol) };
        match header.opcode {
            OpCode::Data(Data::Text) => self.fail(CloseCode::Unsupported),
            OpCode::Data(kind) if (kind == Data::Continue) == self.open => {
                if length > MAX_FRAME_IN {
                    return self.fail(CloseCode::Size);
                }
                self.inbound.advance(read);
                self.open = !header.is_final;
                self.place = if length == 0 { Place::Head } else { Place::Payload { left: length, mask, at: 0 } };
                true
            }
            OpCode::Control(control) if header.is_final && length <= MAX_CONTROL => {
                let whole = read + usize::try_from(length).expect("at most 125");
                if self.inbound.len() < whole {
                    return false;
                }
                let mut payload = self.inbound.split_to(whole).split_off(read);
                unmask(&mut payload, mask, 0);
                self.control(control, &payload);
                true
            }
            _ => self.fail(CloseCode::Protocol),
        }
    }

    fn control(&mut self, control: Control, payload: &[u8]) {
        match control {
            Control::Close => {
                self.ended = true;
                let code = payload.first_chunk::<2>().map(|code| CloseCode::from(u16::from_be_bytes(*code)));
                self.close_with(code.filter(|code| code.is_allowed()));
            }
            // A client that asks and does not read is not answered; one of many answers is enough (RFC 6455, 5.5.3).
            Control::Ping if !self.closed && self.outbound.len() < MAX_OUTBOUND => self.frame(OpCode::Control(Control::Pong), payload),
            _ => {}
        }
    }

    /// Ends what the client may send. True: there is nothing to wait for.
    fn fail(&mut self, code: CloseCode) -> bool {
        self.ended = true;
        self.close_with(Some(code));
        true
    }

    /// Our own close, unless one is said already.
    fn say_close(&mut self) {
        let leaving = self.signal.phase() > Phase::Serving;
        self.close_with(Some(if leaving { CloseCode::Away } else { CloseCode::Normal }));
    }

    fn close_with(&mut self, code: Option<CloseCode>) {
        if !std::mem::replace(&mut self.closed, true) {
            let payload = code.map(|code| u16::from(code).to_be_bytes());
            self.frame(OpCode::Control(Control::Close), payload.as_ref().map_or(&[], |bytes| &bytes[..]));
        }
    }

    fn frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        header.format(payload.len() as u64, &mut (&mut self.outbound).writer()).expect("to memory");
        self.outbound.put_slice(payload);
        self.unflushed = true;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        loop {
            self.decode(out);
            self.answer(cx)?;
            if out.filled().len() > before || out.remaining() == 0 || self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.inbound.is_empty() {
                // A client that is silent for long holds no large buffer.
                self.inbound = BytesMut::new();
            }
            self.inbound.reserve(if matches!(self.place, Place::Head) { READ_HEAD } else { READ_PAYLOAD });
            if ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.inbound))? == 0 {
                self.ended = true;
            }
        }
    }

    /// Sends what reading has brought up, if the client takes it now; later it goes with whatever else is written.
    fn answer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.unflushed {
            return Ok(());
        }
        let waker = match &self.writer {
            Some(writer) => Waker::from(Arc::new(Both(cx.waker().clone(), writer.clone()))),
            None => cx.waker().clone(),
        };
        match self.poll_drain(&mut Context::from_waker(&waker)) {
            Poll::Pending => Ok(()),
            Poll::Ready(drained) => {
                // It waited for what has just been done.
                self.writer.take().into_iter().for_each(Waker::wake);
                drained
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.outbound.len() >= MAX_BACKLOG {
            ready!(self.poll_flush(cx))?;
        }
        let n = bytes.len().min(MAX_FRAME_OUT);
        if n > 0 {
            self.frame(OpCode::Data(Data::Binary), &bytes[..n]);
        }
        // What is not taken now is taken by the flush.
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_drain(cx);
        self.writer = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.outbound))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbound.advance(n);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
            self.outbound = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Says our close, reads up to the client's, and closes the connection.
    async fn close(mut self) -> io::Result<()> {
        self.say_close();
        poll_fn(|cx| self.poll_flush(cx)).await?;
        while !self.ended {
            let mut waste = [0; 4096];
            let mut waste = ReadBuf::new(&mut waste);
            poll_fn(|cx| self.poll_read(cx, &mut waste)).await?;
        }
        poll_fn(|cx| self.poll_flush(cx)).await?;
        self.io.shutdown().await
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    for (byte, n) in bytes.iter_mut().zip(at..) {
        *byte ^= mask[n % 4];
    }
}

/// Wakes the one and the other.
struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}

#[cfg(test)]
mod tests;
