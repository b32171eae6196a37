//! One connection of the door: reads frames, begins them in their order, and writes the answers in the same order.
//!
//! Reading and writing are two halves of one task, with a bounded line of answers between them. What always holds: a buffer
//! grows with the bytes that came, never with those that were promised, and an idle connection has none; reading pauses when
//! the line is full, when there is no room, when the principal owes its quotas; every wait ends with a deadline, with the
//! client, or with the drain. What was begun is never cut in half.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::io::poll_read_buf;

use super::frames::{self, Bounds, LENGTH};
use super::replies::{self, Slot, What};
use super::room::{Claim, Share};
use super::session::{Frame, Next, Session};
use super::{Arrival, Door};
use crate::drain::{Phase, Signal};
use crate::limits::inflight::InFlight;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{self, KafkaEnd, KafkaPause};

/// What is read at once where nothing is known of what comes.
const READ: usize = 4 << 10;

/// How long, and how much, is read after the last answer: closing over unread bytes would reset the connection and take the
/// answer with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 64;

/// Serves one connection to its end.
pub async fn serve<S>(door: Arc<Door>, stream: S, arrival: Arrival)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = Open::count();
    let address = arrival.peer.address;
    let patience = door.config.answer_timeout.get();
    let (input, mut output) = tokio::io::split(stream);
    let (line, mut slots) = channel(door.config.max_in_flight_requests.into());
    let mut reading = Reading::new(door, input, arrival, line);
    let end = {
        let mut write = pin!(async {
            let written = replies::write(&mut output, &mut slots, patience).await;
            slots.close();
            written
        });
        let ended = {
            let mut read = pin!(reading.run());
            tokio::select! {
                end = &mut read => Ok(end),
                written = &mut write => {
                    // What is being begun is not cut in half.
                    read.await;
                    Err(written)
                }
            }
        };
        match ended {
            // What has not had its turn yet is dropped with the line: its client will send it again.
            Ok(KafkaEnd::Client) => KafkaEnd::Client,
            Ok(end) => {
                // The line ends behind its last answer.
                reading.stop.line = None;
                why(write.await, end)
            }
            Err(written) => why(written, KafkaEnd::Client),
        }
    };
    metrics().kafka_connections_ended.at(end).inc();
    tracing::debug!(%address, reason = end.as_str(), "a Kafka connection ended");
    // A client that is gone or does not read hears nothing more.
    if !matches!(end, KafkaEnd::Client | KafkaEnd::SlowReader) {
        let _ = timeout(LINGER, part(&mut reading.input, &mut output)).await;
    }
}

/// Why a connection ends whose answers were written so.
fn why(written: io::Result<()>, end: KafkaEnd) -> KafkaEnd {
    match written {
        Ok(()) => end,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => KafkaEnd::SlowReader,
        Err(_) => KafkaEnd::Client,
    }
}

/// Closes so that the last answer arrives.
async fn part(input: &mut (impl AsyncRead + Unpin), output: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    output.shutdown().await?;
    let mut rest = [0; 1024];
    for _ in 0..LINGER_READS {
        if input.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Counts a connection while it is open.
struct Open;

impl Open {
    fn count() -> Self {
        metrics().kafka_connections_open.inc();
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics().kafka_connections_open.dec();
    }
}

/// What ends every wait of the reading half.
struct Stop {
    signal: Signal,
    /// The line of answers; closed when the client is gone.
    line: Option<Sender<Box<Slot>>>,
}

impl Stop {
    /// Waits for something, but not beyond `until`, nor beyond the client or the drain.
    async fn or<T>(&mut self, until: Instant, late: KafkaEnd, wanted: impl Future<Output = T>) -> Result<T, KafkaEnd> {
        let Self { signal, line: Some(line) } = self else { return Err(KafkaEnd::Client) };
        tokio::select! {
            biased;
            wanted = wanted => Ok(wanted),
            () = line.closed() => Err(KafkaEnd::Client),
            () = signal.reached(Phase::Finishing) => Err(KafkaEnd::Drain),
            () = sleep_until(until) => Err(late),
        }
    }

    /// Something that is waited for as long as it takes.
    async fn or_ever<T>(&mut self, wanted: impl Future<Output = T>) -> Result<T, KafkaEnd> {
        self.or(Instant::now() + NEVER, KafkaEnd::Idle, wanted).await
    }
}

/// Longer than anything is waited for.
/// A frame of more keeps a pace.
const LARGE: usize = 1 << 20;

/// How late a large frame may be.
const GRACE: Duration = Duration::from_secs(5);

const NEVER: Duration = Duration::from_secs(30 * 86_400);

/// The half that reads.
struct Reading<S> {
    door: Arc<Door>,
    input: ReadHalf<S>,
    buffer: BytesMut,
    session: Session,
    own: Share,
    stop: Stop,
    deadline: Instant,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Reading<S> {
    fn new(door: Arc<Door>, input: ReadHalf<S>, arrival: Arrival, line: Sender<Box<Slot>>) -> Self {
        let Arrival { peer, local, principal, read, deadline } = arrival;
        let deadline = deadline.min(Instant::now() + door.config.login_timeout.get());
        let own = Share::of(door.config.max_in_flight_bytes.as_usize());
        let stop = Stop { signal: door.parts.drain.signal(), line: Some(line) };
        let session = Session::new(Arc::clone(&door), peer, local, principal, deadline);
        Self { door, input, buffer: read, session, own, stop, deadline }
    }

    /// Frame after frame, until one of them or something else ends it.
    async fn run(&mut self) -> KafkaEnd {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), KafkaEnd> {
        let line = self.stop.line.clone().ok_or(KafkaEnd::Client)?;
        let place = match line.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Closed(())) => return Err(KafkaEnd::Client),
            Err(TrySendError::Full(())) => {
                metrics().kafka_pauses.at(KafkaPause::Room).inc();
                self.stop.or_ever(line.reserve()).await?.map_err(|_gone| KafkaEnd::Client)?
            }
        };
        let length = self.announced().await?;
        let frame = self.frame(length).await?;
        // Boxed: an idle connection does not pay for the room that work needs.
        let Next { slot, pause, end } = Box::pin(self.session.begin(frame)).await;
        if let Some(mut slot) = slot {
            // An answer can be many times its question: what it takes is taken from the gate's bytes too, before more is read.
            if let (What::Ready(answer), Some(guard)) = (&slot.what, &mut slot.guard) {
                self.grow(guard, answer.len(), false).await?;
            }
            place.send(slot);
        }
        if let Some(end) = end {
            return Err(end);
        }
        if !pause.is_zero() {
            self.stop.or_ever(sleep(pause)).await?;
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        if self.session.is_stranger() {
            return Bounds::STRANGERS;
        }
        Bounds::known(self.door.config.max_request_bytes.as_usize().min(self.door.room.largest()))
    }

    /// Reads until it is known how long the next frame is.
    async fn announced(&mut self) -> Result<usize, KafkaEnd> {
        let bounds = self.bounds();
        let stranger = self.session.is_stranger();
        let idle = Instant::now() + self.door.config.idle_timeout.get();
        loop {
            match bounds.announced(&self.buffer) {
                Ok(Some(length)) => return Ok(length),
                Ok(None) => {}
                Err(frames::BadLength(length)) => {
                    tracing::debug!(length, "not the length of a request; the connection is closed");
                    return Err(KafkaEnd::Frame);
                }
            }
            let (until, late) = match self.buffer.is_empty() {
                _ if stranger => (self.deadline, KafkaEnd::LoginLate),
                true => (idle, KafkaEnd::Idle),
                false => (Instant::now() + self.door.config.request_timeout.get(), KafkaEnd::SlowRequest),
            };
            self.read(until, late, READ).await?;
        }
    }

    /// Reads something, at most so much.
    async fn read(&mut self, until: Instant, late: KafkaEnd, most: usize) -> Result<(), KafkaEnd> {
        // Who sends without a pause does not keep the drain waiting.
        if self.stop.signal.phase() >= Phase::Finishing {
            return Err(KafkaEnd::Drain);
        }
        let read = self.stop.or(until, late, fill(&mut self.input, &mut self.buffer, most)).await?;
        match read {
            Ok(0) | Err(_) => Err(KafkaEnd::Client),
            Ok(_) => Ok(()),
        }
    }

    /// Reads the rest of a frame, as there is room for it.
    async fn frame(&mut self, length: usize) -> Result<Frame, KafkaEnd> {
        let stranger = self.session.is_stranger();
        let claim = self.claim(length, stranger).await?;
        let mut guard = self.door.room.guard();
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        let mut until = if stranger { self.deadline } else { begun + self.door.config.request_timeout.get() };
        let late = if stranger { KafkaEnd::LoginLate } else { KafkaEnd::SlowRequest };
        let whole = LENGTH + length;
        self.grow(&mut guard, whole.min(self.buffer.len()), stranger).await?;
        if whole > self.buffer.len() {
            self.move_out(whole);
        }
        while self.buffer.len() < whole {
            let missing = whole - self.buffer.len();
            // What was read at once may be as much as there is already, so that a large frame takes few turns.
            let most = missing.min(self.buffer.len().max(READ));
            let paused = Instant::now();
            self.grow(&mut guard, most, stranger).await?;
            if !stranger {
                until += paused.elapsed();
                waited += paused.elapsed();
            }
            let mut reserved = most;
            while reserved > 0 {
                let before = self.buffer.len();
                let pace = pace(begun + waited, before, whole, self.door.config.request_timeout.get());
                self.read(until.min(pace), late, reserved).await?;
                reserved -= self.buffer.len() - before;
            }
        }
        let bytes = frames::cut(&mut self.buffer, length);
        metrics().body_bytes.at(labels::Door::Kafka).inc_by(whole as u64);
        Ok(Frame { bytes, arrived: Instant::now(), guard, claim })
    }

    async fn claim(&mut self, length: usize, stranger: bool) -> Result<Claim, KafkaEnd> {
        let (door, own) = (Arc::clone(&self.door), self.own.clone());
        let until = if stranger { self.deadline } else { Instant::now() + NEVER };
        let mut claim = pin!(door.room.claim(&own, length, stranger));
        if let Some(claim) = at_once(claim.as_mut()).await {
            return Ok(claim);
        }
        metrics().kafka_pauses.at(KafkaPause::Room).inc();
        self.stop.or(until, KafkaEnd::LoginLate, claim).await
    }

    async fn grow(&mut self, guard: &mut InFlight, bytes: usize, stranger: bool) -> Result<(), KafkaEnd> {
        if guard.grow(bytes as u64).is_ok() {
            return Ok(());
        }
        metrics().kafka_pauses.at(KafkaPause::Room).inc();
        let door = Arc::clone(&self.door);
        let until = if stranger { self.deadline } else { Instant::now() + NEVER };
        self.stop.or(until, KafkaEnd::LoginLate, door.room.grow(guard, bytes)).await
    }

    /// Gives the rest of a frame memory of its own: it grows in place then, and holds on to nobody else's.
    fn move_out(&mut self, whole: usize) {
        let mut own = BytesMut::with_capacity(whole.min(READ.max(2 * self.buffer.len())));
        own.extend_from_slice(&self.buffer);
        self.buffer = own;
    }
}

/// By when a frame's next bytes must be there. A large one keeps room from others: it has to be on its way to arrive in time.
fn pace(begun: Instant, read: usize, whole: usize, time: Duration) -> Instant {
    if whole <= LARGE {
        return begun + time + GRACE;
    }
    begun + GRACE + time.mul_f64(read as f64 / whole as f64)
}

/// What is there without waiting.
async fn at_once<T>(wanted: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        wanted = wanted => Some(wanted),
        () = std::future::ready(()) => None,
    }
}

/// Reads at most so much behind what is in the buffer. While nothing is there and nothing comes, there is no buffer.
async fn fill(input: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
    poll_fn(|cx| {
        buffer.reserve(most);
        let polled = poll_read_buf(Pin::new(&mut *input), cx, &mut (&mut *buffer).limit(most));
        if polled.is_pending() && buffer.is_empty() {
            *buffer = BytesMut::new();
        }
        polled
    })
    .await
}
