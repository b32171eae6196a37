//! A connection's bytes on their way to the HTTP library and back.
//!
//! [`Patient`] bounds how long a client may take to read an answer, and closes so that the last answer arrives.
//! [`Wire`] hands HTTP/1 bytes on only as far as [`Cutter`] understands them. A head that it refuses is replaced by a
//! harmless one, and [`Notes`] says which request that is: so every refusal is answered in its turn and in one manner.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::fault::Fault;
use super::head::{Cut, Cutter};

/// How long a closed connection is read on. Closing over unread bytes would reset it and take the last answer with it.
const LINGER: Duration = Duration::from_secs(1);

/// Reads while lingering before others have a turn.
const LINGER_READS: usize = 32;

const READ_HEAD: usize = 2 << 10;
const READ_BODY: usize = 32 << 10;

/// What the library reads in place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

type Timer = Option<Pin<Box<Sleep>>>;

/// What became of a connection's messages; shared by its [`Wire`] and the service that answers.
#[derive(Debug, Default)]
pub struct Notes {
    begun: AtomicU64,
    ended: AtomicU64,
    answered: AtomicU64,
    refused: OnceLock<(u64, Fault)>,
    switched: AtomicBool,
}

impl Notes {
    /// The number of the request that is answered now, from 1.
    pub fn next(&self) -> u64 {
        self.answered.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Why the head of this request was refused, if it was.
    pub fn refused(&self, number: u64) -> Option<Fault> {
        self.refused.get().filter(|(at, _)| *at == number).map(|(_, fault)| fault.clone())
    }

    /// From here on the connection is not HTTP: its bytes are handed on as they come.
    pub fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    fn switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// Whether the body of this request has not come to its end.
    pub fn unread(&self, number: u64) -> bool {
        self.ended.load(Ordering::Relaxed) < number
    }
}

/// A socket whose client must take an answer within a time, and that lingers when it closes.
#[derive(Debug)]
pub struct Patient<S> {
    io: S,
    patience: Duration,
    blocked: Timer,
    linger: Timer,
}

impl<S> Patient<S> {
    /// Gives the client `patience` to take what is written, from the first byte that it does not take at once.
    pub fn new(io: S, patience: Duration) -> Self {
        Self { io, patience, blocked: None, linger: None }
    }

    fn bounded<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            let patience = self.patience;
            let timer = self.blocked.get_or_insert_with(|| Box::pin(sleep(patience)));
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.bounded(cx, polled)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.bounded(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        // Only here is everything taken; a client that takes a byte now and then is still too slow.
        if polled.is_ready() {
            self.blocked = None;
        }
        self.bounded(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let polled = Pin::new(&mut self.io).poll_shutdown(cx);
            ready!(self.bounded(cx, polled))?;
            self.linger = Some(Box::pin(sleep(LINGER)));
        }
        self.discard(cx).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> Patient<S> {
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.linger
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        for _ in 0..LINGER_READS {
            let mut waste = [0; 4096];
            let mut waste = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut waste)) {
                Ok(()) if !waste.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// An HTTP/1 connection as the library may see it.
#[derive(Debug)]
pub struct Wire<S> {
    io: S,
    /// Read and not handed on; the first `cleared` bytes may be.
    inbound: BytesMut,
    cleared: usize,
    cutter: Cutter,
    notes: Arc<Notes>,
    head_timeout: Duration,
    head_timer: Timer,
    over: bool,
}

impl<S> Wire<S> {
    /// A connection of which `read` has been read already. Its first head must be there by `deadline`, each later one
    /// within `head_timeout` from its first byte.
    pub fn new(io: S, read: BytesMut, cutter: Cutter, notes: Arc<Notes>, deadline: Instant, head_timeout: Duration) -> Self {
        let head_timer = Some(Box::pin(sleep_until(deadline)));
        Self { io, inbound: read, cleared: 0, cutter, notes, head_timeout, head_timer, over: false }
    }

    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.cleared.min(out.remaining());
        out.put_slice(&self.inbound[..n]);
        self.inbound.advance(n);
        self.cleared -= n;
        if self.inbound.is_empty() && self.cutter.in_head() {
            // A connection that waits for its next request holds no buffer.
            self.inbound = BytesMut::new();
        }
    }

    /// Clears what is understood, up to the end of the message at most; what is behind it is looked at in its turn.
    fn clear(&mut self) -> io::Result<()> {
        loop {
            let in_head = self.cutter.in_head();
            match self.cutter.cut(&self.inbound[self.cleared..]) {
                Cut::Pass(n) => {
                    self.cleared += n;
                    if in_head {
                        self.notes.begun.fetch_add(1, Ordering::Relaxed);
                        self.head_timer = None;
                    }
                    if self.cutter.in_head() {
                        self.notes.ended.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                }
                Cut::Skip(n) => self.inbound.advance(n),
                Cut::More => return Ok(()),
                Cut::Refuse(fault) if self.cleared == 0 => {
                    self.refuse(fault);
                    return Ok(());
                }
                Cut::Broken(why) if self.cleared == 0 => {
                    self.over = true;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                // What is before it goes first.
                Cut::Refuse(_) | Cut::Broken(_) => return Ok(()),
            }
        }
    }

    fn refuse(&mut self, fault: Fault) {
        let number = self.notes.begun.load(Ordering::Relaxed) + 1;
        let first = self.notes.refused.set((number, fault)).is_ok();
        debug_assert!(first, "nothing is read after a refusal");
        self.inbound = BytesMut::from(STAND_IN);
        self.cleared = STAND_IN.len();
        self.over = true;
    }

    /// Whether the head that is being waited for is late.
    fn late(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.cutter.in_head() || (self.inbound.is_empty() && self.head_timer.is_none()) {
            return false;
        }
        let timeout = self.head_timeout;
        self.head_timer.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Waits for the first head, whole or refused, or the end of the connection. Before that no library is needed, and
    /// none of its buffers: a client that does not come to the point costs little.
    pub async fn begun(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Reads until something can be handed on, or nothing more will come.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.cleared == 0 && !self.over && self.notes.switched() {
                (self.cleared, self.head_timer) = (self.inbound.len(), None);
            } else if self.cleared == 0 && !self.over {
                self.clear()?;
            }
            if self.cleared > 0 || self.over {
                return Poll::Ready(Ok(()));
            }
            self.inbound.reserve(if self.cutter.in_head() { READ_HEAD } else { READ_BODY });
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.inbound)? {
                Poll::Ready(0) => self.over = true,
                Poll::Ready(_) => {}
                Poll::Pending if self.late(cx) && self.inbound.is_empty() => self.over = true,
                Poll::Pending if self.late(cx) => self.refuse(Fault::Timeout),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(cx))?;
        self.hand_on(out);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
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
