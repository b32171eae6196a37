//! A request's body, read whole within its bounds: size on the wire and decompressed, time in all, and a least rate.
//!
//! What is announced is held against the limit before a byte is asked for, so that a client that waits for
//! `100 Continue` is told no instead. Memory follows what has come, never what was promised.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::coding::Coding;
use super::fault::Fault;
use crate::limits::inflight::{InFlight, Meter};
use crate::receipt::Refusal;
use crate::units::{ByteSize, Span};

/// In flight for a body that does not say its length, until more has come.
const FLOOR: u64 = 16 << 10;

/// Time before the least rate counts: for the network to find its pace.
const GRACE: Duration = Duration::from_secs(5);

/// The bounds of a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes as they come over the wire.
    pub wire: ByteSize,
    /// Bytes after decompression.
    pub decoded: ByteSize,
    /// Time for the whole of it.
    pub timeout: Span,
    /// The least bytes a second on the wire.
    pub min_rate: ByteSize,
}

/// Reads and decompresses a body. The bytes in flight grow with what comes: a few clients that announce much and send little
/// would otherwise hold the room of everybody.
pub async fn read<B>(parts: &Parts, body: B, limits: &BodyLimits, meter: &Arc<Meter>) -> Result<(Bytes, InFlight), Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let coding = Coding::of(&parts.headers)?;
    let announced = announced(parts, &body);
    if let Some(actual) = announced.filter(|length| *length > limits.wire.get()) {
        return Err(too_large(actual, limits));
    }
    let mut guard = reserve(announced, meter)?;
    let wire = receive(body, limits, &mut guard, |_| Ok(())).await?;
    if coding == Coding::Identity {
        return Ok((wire, guard));
    }
    let decoded = coding.decode(wire, limits.decoded.get(), &mut guard).await?;
    Ok((decoded, guard))
}

/// Reads a body as it comes over the wire. After each piece `look` sees all that has come, and may refuse the rest.
pub async fn read_wire<B>(
    parts: &Parts,
    body: B,
    limits: &BodyLimits,
    meter: &Arc<Meter>,
    look: impl Fn(&[u8]) -> Result<(), Fault>,
) -> Result<(Bytes, InFlight), Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut guard = reserve(announced(parts, &body), meter)?;
    let wire = receive(body, limits, &mut guard, look).await?;
    Ok((wire, guard))
}

/// Room for the first bytes: what was announced is not believed.
fn reserve(announced: Option<u64>, meter: &Arc<Meter>) -> Result<InFlight, Fault> {
    Ok(meter.reserve(announced.unwrap_or(FLOOR).min(FLOOR))?)
}

fn announced(parts: &Parts, body: &impl Body) -> Option<u64> {
    let said = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
    said.or_else(|| body.size_hint().exact())
}

fn too_large(actual: u64, limits: &BodyLimits) -> Fault {
    Refusal::TooLarge { what: "the size of the body in bytes", actual, limit: limits.wire.get() }.into()
}

async fn receive<B>(body: B, limits: &BodyLimits, guard: &mut InFlight, look: impl Fn(&[u8]) -> Result<(), Fault>) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let start = Instant::now();
    let mut received = Received::Nothing;
    loop {
        let frame = match timeout_at(deadline(start, received.len(), limits), body.frame()).await {
            Ok(Some(frame)) => frame.map_err(|error| unreadable(error.into().as_ref()))?,
            Ok(None) => return Ok(received.freeze()),
            Err(_) => return Err(Fault::Timeout),
        };
        // Trailers say nothing that a door reads.
        let Ok(data) = frame.into_data() else { continue };
        let actual = received.len() + data.len() as u64;
        if actual > limits.wire.get() {
            return Err(too_large(actual, limits));
        }
        guard.grow(actual.saturating_sub(guard.bytes()))?;
        received.push(data);
        look(received.bytes())?;
    }
}

/// When the next bytes must be there: in time for the whole, and for the least rate.
fn deadline(start: Instant, received: u64, limits: &BodyLimits) -> Instant {
    let paid = Duration::from_secs_f64(received as f64 / limits.min_rate.get().max(1) as f64);
    start + limits.timeout.get().min(GRACE.saturating_add(paid))
}

/// Bytes that have come; a body of one piece is not copied.
enum Received {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Received {
    fn len(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len() as u64,
            Self::Many(bytes) => bytes.len() as u64,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes,
        }
    }

    fn push(&mut self, data: Bytes) {
        match self {
            Self::Nothing => *self = Self::One(data),
            Self::One(first) => {
                let mut all = BytesMut::with_capacity(first.len() + data.len());
                all.extend_from_slice(first);
                all.extend_from_slice(&data);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.extend_from_slice(&data),
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(all) => all.freeze(),
        }
    }
}

/// Tells a body that is not one from a client that went away.
fn unreadable(error: &(dyn Error + 'static)) -> Fault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        {
            return Fault::BadRequest("the chunks of the body are broken");
        }
        cause = error.source();
    }
    Fault::Gone
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { wire: ByteSize::kib(64), decoded: ByteSize::kib(256), timeout: Span::secs(30), min_rate: ByteSize::kib(1) };

    fn head(fields: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::post("/");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a request").into_parts().0
    }

    fn pieces(count: usize, size: usize, pause: Duration) -> impl Body<Data = Bytes, Error = Infallible> {
        StreamBody::new(stream::unfold(0, move |n| async move {
            tokio::time::sleep(pause).await;
            (n < count).then(|| (Ok(Frame::data(Bytes::from(vec![b'x'; size]))), n + 1))
        }))
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_refused_before_a_byte_is_asked_for() {
        let never = StreamBody::new(stream::poll_fn(|_| -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("the body was asked for");
        }));
        let meter = Meter::new(1 << 20);
        let fault = read(&head(&[("content-length", "65537")]), never, &LIMITS, &meter).await.expect_err("too large");
        assert_eq!(fault, Refusal::TooLarge { what: "the size of the body in bytes", actual: 65_537, limit: 65_536 }.into());
        assert_eq!(meter.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_length_that_is_not_announced_is_refused_at_the_crossing() {
        let meter = Meter::new(1 << 20);
        let fault = read(&head(&[]), pieces(1_000, 1_000, Duration::ZERO), &LIMITS, &meter).await.expect_err("too large");
        assert_eq!(fault, Refusal::TooLarge { what: "the size of the body in bytes", actual: 66_000, limit: 65_536 }.into());
        let (body, guard) = read(&head(&[]), pieces(60, 1_000, Duration::ZERO), &LIMITS, &meter).await.expect("fits");
        assert_eq!((body.len(), guard.bytes()), (60_000, 60_000));
        let (_, guard) = read(&head(&[]), pieces(1, 10, Duration::ZERO), &LIMITS, &meter).await.expect("fits");
        assert_eq!(guard.bytes(), FLOOR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_thirty_seconds_in_all_and_a_least_rate() {
        let meter = Meter::new(1 << 20);
        let start = Instant::now();
        let stalled = read(&head(&[]), pieces(1, 1, Duration::from_secs(3_600)), &LIMITS, &meter).await;
        assert_eq!(stalled.expect_err("stalled"), Fault::Timeout);
        assert_eq!(start.elapsed().as_secs(), 5, "after the grace");

        let start = Instant::now();
        let drip = read(&head(&[]), pieces(1_000, 100, Duration::from_millis(500)), &LIMITS, &meter).await;
        assert_eq!(drip.expect_err("200 bytes a second"), Fault::Timeout);
        assert!(start.elapsed().as_secs() < 8, "{:?}", start.elapsed());

        let start = Instant::now();
        let long = read(&head(&[]), pieces(60, 1_000, Duration::from_millis(900)), &LIMITS, &meter).await;
        assert_eq!(long.expect_err("fast enough and too long"), Fault::Timeout);
        assert_eq!(start.elapsed().as_secs(), 30);
        assert_eq!(meter.used(), 0, "what was taken came back");
    }

    #[tokio::test]
    async fn bytes_in_flight_bound_what_is_read_and_what_comes_out_of_it() {
        let meter = Meter::new(1_000);
        let over = read(&head(&[("content-length", "1001")]), Full::new(Bytes::from(vec![0; 1_001])), &LIMITS, &meter).await;
        assert!(matches!(over, Err(Fault::Refused(Refusal::Overloaded { .. }))));

        let bomb = {
            use tokio::io::AsyncWriteExt;
            let mut encoder = async_compression::tokio::write::GzipEncoder::new(Vec::new());
            encoder.write_all(&[0; 100_000]).await.expect("to memory");
            encoder.shutdown().await.expect("to memory");
            Bytes::from(encoder.into_inner())
        };
        let fields = [("content-encoding", "gzip")];
        let over = read(&head(&fields), Full::new(bomb.clone()), &LIMITS, &meter).await;
        assert!(matches!(over, Err(Fault::Refused(Refusal::Overloaded { .. }))), "{over:?}");
        let meter = Meter::new(1 << 20);
        let (body, guard) = read(&head(&fields), Full::new(bomb.clone()), &LIMITS, &meter).await.expect("fits");
        assert_eq!(body.len(), 100_000);
        assert_eq!(guard.bytes(), 100_000 + bomb.len() as u64);
    }

    #[test]
    fn a_broken_body_is_told_from_a_client_that_left() {
        let broken: Box<dyn Error + Send + Sync> = io::Error::new(io::ErrorKind::InvalidData, "chunks").into();
        assert!(matches!(unreadable(broken.as_ref()), Fault::BadRequest(_)));
        let left: Box<dyn Error + Send + Sync> = io::Error::from(io::ErrorKind::ConnectionReset).into();
        assert_eq!(unreadable(left.as_ref()), Fault::Gone);
    }
}
