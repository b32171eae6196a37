//! One connection to a broker that has let us in: a question, its answer, and the next.
//!
//! What always holds: one question at a time; how much of it was written is known at every moment, also when the answer is
//! not waited for any more; a frame is at most [`MAX_FRAME`], and its buffer grows with the bytes that came.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::event::Topic;

use super::Answer;
use super::cluster::Learned;
use super::fault::Fault;
use super::messages::{self, Api, Call, Offered};
use super::plan::Piece;

/// The largest answer that is read.
const MAX_FRAME: usize = 16 << 20;

/// How much room is made at once for bytes that may come.
const STEP: usize = 64 * 1024;

/// A socket, with TLS or without.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for S {}

/// See the module.
pub(super) struct Session {
    socket: Box<dyn Socket>,
    received: BytesMut,
    correlation: i32,
    written: usize,
    pub offered: Offered,
    /// When the broker stops to believe us.
    pub retire_at: Option<Instant>,
}

impl Session {
    /// A connection to a broker that has said nothing yet.
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, received: BytesMut::new(), correlation: 0, written: 0, offered: Offered::default(), retire_at: None }
    }

    /// Whether bytes of the last question may be on their way.
    pub(super) const fn has_written(&self) -> bool {
        self.written > 0
    }

    /// The next question begins.
    pub(super) fn begin(&mut self) -> i32 {
        self.written = 0;
        self.correlation = self.correlation.wrapping_add(1) & i32::MAX;
        self.correlation
    }

    /// Asks and waits for the answer. The question was written with the number that [`begin`](Self::begin) gave.
    pub(super) async fn ask(&mut self, call: Call, question: Vec<Bytes>) -> Result<Bytes, Fault> {
        for mut chunk in question {
            while chunk.has_remaining() {
                let written = self.socket.write(&chunk).await.map_err(|error| Fault::lost(&error))?;
                if written == 0 {
                    return Err(Fault::Lost(std::io::ErrorKind::WriteZero));
                }
                self.written += written;
                chunk.advance(written);
            }
        }
        self.socket.flush().await.map_err(|error| Fault::lost(&error))?;
        let frame = self.frame().await?;
        call.open(self.correlation, frame)
    }

    /// Sends batches and gives each one's answer, and for how many milliseconds the broker asks us to rest.
    pub(super) async fn produce(&mut self, pieces: &[Piece], timeout_ms: i32) -> Result<(Vec<Answer>, u64), Fault> {
        let correlation = self.begin();
        let call = self.offered.call(Api::Produce)?;
        let body = self.ask(call, messages::produce(call, correlation, pieces, timeout_ms)).await?;
        messages::answers(call, body, pieces)
    }

    /// Asks who leads what.
    pub(super) async fn metadata(&mut self, topics: &[Topic]) -> Result<Learned, Fault> {
        let correlation = self.begin();
        let call = self.offered.call(Api::Metadata)?;
        let body = self.ask(call, messages::metadata(call, correlation, topics)?).await?;
        messages::learned(call, body)
    }

    /// Waits until the broker hangs up, or says something that nobody asked for. May be given up at any time.
    pub(super) async fn broken(&mut self) -> Fault {
        if self.received.is_empty() {
            match self.socket.read_buf(&mut self.received).await {
                Ok(0) => return Fault::Lost(std::io::ErrorKind::UnexpectedEof),
                Err(error) => return Fault::lost(&error),
                Ok(_) => {}
            }
        }
        Fault::Protocol("an answer to no question")
    }

    async fn frame(&mut self) -> Result<Bytes, Fault> {
        self.receive(4).await?;
        let length = usize::try_from(self.received.get_i32()).ok().filter(|length| (4..=MAX_FRAME).contains(length));
        let length = length.ok_or(Fault::Protocol("an impossible length"))?;
        self.receive(length).await?;
        Ok(self.received.split_to(length).freeze())
    }

    async fn receive(&mut self, length: usize) -> Result<(), Fault> {
        while self.received.len() < length {
            self.received.reserve((length - self.received.len()).min(STEP));
            match self.socket.read_buf(&mut self.received).await {
                Ok(0) => return Err(Fault::Lost(std::io::ErrorKind::UnexpectedEof)),
                Ok(_) => {}
                Err(error) => return Err(Fault::lost(&error)),
            }
        }
        Ok(())
    }
}
