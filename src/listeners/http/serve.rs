//! One connection of the HTTPS door: HTTP/1 or HTTP/2 over any stream, each request checked and handed to the door.
//!
//! A head that is refused is answered in its turn, and the connection closes. Nothing here waits for a client without a
//! deadline.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::door::Door;
use super::fault::Fault;
use super::frames::{Frames, Seen};
use super::framing;
use super::guest::{Guest, Visit};
use super::head::{Cutter, HeadLimits};
use super::reply::{self, Answer};
use super::rest::Lent;
use super::trace_context::{Context, REQUEST_ID};
use super::upgrade::{Tunnel, Tunnels};
use super::wire::{Notes, Patient, Wire};
use crate::drain::{Drain, Phase};
use crate::listeners::{Config, Opening, Peer};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::Bound;

const READ_BUFFER: usize = 64 << 10;
/// Of the library: as many fields as it reads without being told.
const USUAL_FIELDS: usize = 100;
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// For a client that was told to go away, from its last answer. Within the drain's share for what is in flight.
const PARTING: Duration = Duration::from_secs(2);
const CONNECTION_WINDOW: u32 = 256 << 10;
const STREAM_WINDOW: u32 = 128 << 10;
const MAX_ERROR_RESETS: usize = 64;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN or with prior knowledge.
    Http2,
}

/// The times of a connection.
#[derive(Clone, Copy, Debug)]
struct Times {
    head: Duration,
    idle: Duration,
    /// For a client to take an answer.
    answer: Duration,
}

/// Serves the connections of one listener.
#[derive(Debug)]
pub struct Server {
    behind: Behind,
    head: HeadLimits,
    times: Times,
    control_frames: u32,
    drain: Drain,
    http1: http1::Builder,
    http2: http2::Builder<Tasks>,
    tunnels: Option<Tunnels>,
}

/// The doors that a listener's requests come to: one of them, or both.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The HTTP door; none: all is the guest's.
    pub door: Option<Arc<Door>>,
    /// Who is asked first.
    pub guest: Option<Guest>,
}

/// What a connection becomes behind its last answer.
type Switched = OnceLock<(OnUpgrade, Tunnel)>;

impl Server {
    /// Hands requests to the doors, within the bounds of `config`, until the drain ends it. Without `tunnels` no connection
    /// becomes one.
    pub fn new(behind: Behind, config: &Config, drain: Drain, tunnels: Option<Tunnels>) -> Self {
        let head =
            HeadLimits { bytes: config.max_header_bytes.as_usize(), fields: config.max_headers, uri: config.max_uri_bytes.as_usize() };
        let times = Times { head: config.header_timeout.get(), idle: config.idle_timeout.get(), answer: config.body_timeout.get() };
        Self {
            http1: http1(&head, &times),
            http2: http2(config, drain.tasks().clone()),
            control_frames: config.control_frames_per_second,
            behind,
            head,
            times,
            drain,
            tunnels,
        }
    }

    /// Serves one connection to its end. Its first head must be there by the deadline of its opening.
    pub async fn serve<S>(self: Arc<Self>, io: S, protocol: Protocol, opening: Opening)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let address = opening.peer.address;
        let patient = Patient::new(io, self.times.answer);
        // Boxed: no connection pays for the room that the other protocol needs.
        let ended = match protocol {
            Protocol::Http1 => Box::pin(self.serve_http1(patient, opening)).await,
            Protocol::Http2 => Box::pin(self.serve_http2(patient, opening)).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "a connection ended with a fault");
        }
    }

    async fn serve_http1<S>(self: Arc<Self>, io: Patient<S>, opening: Opening) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Opening { peer, local, read, deadline, fresh_until } = opening;
        let (notes, switched) = (Arc::new(Notes::default()), Arc::new(Switched::new()));
        let mut wire = Wire::new(io, read, Cutter::new(self.head), Arc::clone(&notes), deadline, self.times.head);
        let peer = Arc::new(peer);
        let mut signal = self.drain.signal();
        tokio::select! {
            biased;
            begun = wire.begun() => if begun.is_err() { return Ok(()) },
            () = signal.closed_to_newcomers(fresh_until) => return Ok(()),
        }
        let service = service_fn(|request: Request<Incoming>| {
            let (server, notes, peer, switched) = (Arc::clone(&self), Arc::clone(&notes), Arc::clone(&peer), Arc::clone(&switched));
            async move { Ok::<_, Infallible>(server.answer_http1(request, &peer, &notes, &switched).await) }
        });
        let mut connection = pin!(self.http1.serve_connection(TokioIo::new(wire), service).with_upgrades());
        tokio::select! {
            // First the connection: the library closes one that it is asked to end before it has looked at the first head.
            biased;
            ended = connection.as_mut() => ended?,
            () = signal.reached(Phase::Finishing) => {
                // A request whose head was read is answered; a connection that waits for its next one ends now.
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await?;
            }
        }
        // Here, not in a task of its own: the connection keeps its slot, and the drain waits for it.
        if let (Some((upgrade, tunnel)), Some(tunnels)) = (switched.get().cloned(), &self.tunnels) {
            tunnels.serve((upgrade.await?, tunnel, local)).await;
        }
        Ok(())
    }

    async fn serve_http2<S>(self: Arc<Self>, io: Patient<S>, opening: Opening) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Opening { peer, read, deadline, .. } = opening;
        let seen = Arc::new(Seen::default());
        let frames = Frames::new(io, read, self.control_frames, Arc::clone(&seen));
        let (peer, streams) = (Arc::new(peer), Arc::new(Streams::new()));
        let mut signal = self.drain.signal();
        // Who comes while the gate is leaving already knows no other place yet: it is served until the gate is gone.
        let leave = if signal.phase() < Phase::Leaving { Phase::Leaving } else { Phase::Finishing };
        let service = service_fn(|request: Request<Incoming>| {
            let (server, peer, open) = (Arc::clone(&self), Arc::clone(&peer), Streams::begin(&streams));
            async move {
                let _open = open;
                let (parts, body) = request.into_parts();
                let (body, rest) = Lent::new(body);
                let answer = server.answer(Request::from_parts(parts, body), &peer).await;
                rest.discard().await;
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(frames), service));
        let (mut look, mut told) = (deadline, false);
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = signal.reached(leave), if !told => {
                    connection.as_mut().graceful_shutdown();
                    (look, told) = (Instant::now() + PARTING, true);
                }
                () = sleep_until(look) => match streams.idle() {
                    _ if !seen.preface() => return Ok(()),
                    // Told to go, with nothing left to be answered, and still there: it does not even say that it heard.
                    Some(since) if told && since.elapsed() >= PARTING => return Ok(()),
                    Some(since) if told => look = since + PARTING,
                    None if told => look = Instant::now() + PARTING,
                    Some(since) if since.elapsed() >= self.times.idle => {
                        connection.as_mut().graceful_shutdown();
                        (look, told) = (Instant::now() + PARTING, true);
                    }
                    Some(since) => look = since + self.times.idle,
                    None => look = Instant::now() + self.times.idle,
                },
            }
        };
        if seen.flood() {
            metrics().bound_refusals.at(Bound::ControlFrames).inc();
            tracing::debug!(address = %peer.address, "a connection sent too many control frames for nothing; it was closed");
        }
        ended
    }

    async fn answer_http1(&self, mut request: Request<Incoming>, peer: &Peer, notes: &Notes, switched: &Switched) -> Answer {
        let number = notes.next();
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let mut answer = match notes.refused(number) {
            // The request is a stand-in: nothing of it is the client's.
            Some(fault) => refuse(&fault, &HeaderMap::new(), Version::HTTP_11),
            // What is left unread here ends the connection.
            None => self.answer(request.map(|body| Lent::new(body).0), peer).await,
        };
        // The client is still sending what nobody reads: the next request could not be found behind it.
        if notes.unread(number) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS
            && let (Some(upgrade), Some(tunnel)) = (upgrade, answer.extensions_mut().remove::<Tunnel>())
            && switched.set((upgrade, tunnel)).is_ok()
        {
            notes.switch();
        }
        answer
    }

    async fn answer(&self, request: Request<Lent>, peer: &Peer) -> Answer {
        let (parts, body) = request.into_parts();
        let refused = framing::check(&parts, &self.head, self.tunnels.is_some()).err();
        match (&self.behind.guest, &self.behind.door) {
            (Some(guest), door) if door.is_none() || guest.owns(&parts) => {
                guest.serve(Visit { request: Request::from_parts(parts, body), peer: peer.clone(), refused }).await
            }
            (_, Some(door)) => match refused {
                None => door.handle(Request::from_parts(parts, body), peer).await,
                Some(fault) => refuse(&fault, &parts.headers, parts.version),
            },
            // A listener has a server only for one of them.
            (_, None) => refuse(&Fault::NotFound, &parts.headers, parts.version),
        }
    }
}

/// The answer to a head that no door sees. An HTTP/1 connection closes behind it.
fn refuse(fault: &Fault, headers: &HeaderMap, version: Version) -> Answer {
    count(fault);
    let context = Context::of(headers);
    let mut answer = reply::fault(fault, &context.request_id);
    answer.headers_mut().insert(REQUEST_ID, context.request_id_header());
    if version < Version::HTTP_2 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    } else {
        answer.headers_mut().remove(CONNECTION);
    }
    answer
}

/// Counts the bound that a refused head has reached.
pub fn count(fault: &Fault) {
    match fault {
        Fault::HeadersTooLarge | Fault::UriTooLong => drop(metrics().bound_refusals.at(Bound::Head).inc()),
        Fault::Timeout => drop(metrics().bound_refusals.at(Bound::Slowness).inc()),
        _ => {}
    }
}

fn http1(head: &HeadLimits, times: &Times) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // For the library this is also how long a kept connection may be idle. The head's own time is `Wire`'s.
        .header_read_timeout(times.idle)
        // Room for the head and some body; a full buffer would be answered 431.
        .max_buf_size(READ_BUFFER.max(head.bytes + (8 << 10)))
        // A client that closes its side after the request is answered; else a stand-in could not be.
        .half_close(true);
    if head.fields > USUAL_FIELDS {
        builder.max_headers(head.fields);
    }
    builder
}

fn http2(config: &Config, tasks: TaskTracker) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks(tasks));
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .max_concurrent_streams(config.max_streams)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_header_list_size(u32::try_from(config.max_header_bytes.get()).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(MAX_ERROR_RESETS);
    builder
}

/// Runs an HTTP/2 connection's streams as tasks that the drain waits for.
#[derive(Clone, Debug)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The requests of an HTTP/2 connection that are being answered.
#[derive(Debug)]
struct Streams {
    begun: Instant,
    open: AtomicUsize,
    /// When the last one ended, in milliseconds from the begin.
    ended: AtomicU64,
}

/// One request; ended on drop.
struct Open(Arc<Streams>);

impl Streams {
    fn new() -> Self {
        Self { begun: Instant::now(), open: AtomicUsize::new(0), ended: AtomicU64::new(0) }
    }

    fn begin(streams: &Arc<Self>) -> Open {
        streams.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(streams))
    }

    /// Since when nothing is being answered; none: something is.
    fn idle(&self) -> Option<Instant> {
        let ended = Duration::from_millis(self.ended.load(Ordering::Relaxed));
        (self.open.load(Ordering::Acquire) == 0).then(|| self.begun + ended)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(now, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_request() {
        let streams = Arc::new(Streams::new());
        assert!(streams.idle().is_some());
        let (first, second) = (Streams::begin(&streams), Streams::begin(&streams));
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(first);
        assert_eq!(streams.idle(), None);
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(second);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(streams.idle().map(|since| since.elapsed()), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_refused_head_is_answered_with_its_request_id_and_closes_http1_only() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("mine"));
        let answer = refuse(&Fault::MethodNotAllowed("GET"), &headers, Version::HTTP_11);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[CONNECTION], &answer.headers()[REQUEST_ID]),
            (405, &"close".parse().expect("a value"), &"mine".parse().expect("a value"))
        );
        let answer = refuse(&Fault::BadRequest("x"), &headers, Version::HTTP_2);
        assert!(!answer.headers().contains_key(CONNECTION));
    }
}
