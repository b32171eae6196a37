//! OTLP over gRPC: unary calls framed by hand, so that the bytes go on as they came.
//!
//! What always holds: a message that is too large is refused by the five bytes before it, before it is in memory; every refusal
//! is one head; an answer is there before the client stops waiting.

use std::error::Error;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, Version};
use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::export::Request;
use super::reply::{self, Refused};
use super::status::{self, Code};
use super::{Door, Encoding, is_grpc};
use crate::event;
use crate::limits::inflight::InFlight;
use crate::listeners::http::body::{self, BodyLimits};
use crate::listeners::http::coding::Coding;
use crate::listeners::http::fault::Fault;
use crate::listeners::http::lobby::Head;
use crate::listeners::http::reply::{Answer, holding};
use crate::otlp::Signal;
use crate::receipt::Refusal;
use crate::units::ByteSize;

const TIMEOUT: &str = "grpc-timeout";
const ENCODING: &str = "grpc-encoding";

/// Whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Kept of a client's time for the way of the answer, at most.
const ON_THE_WAY: Duration = Duration::from_secs(1);

const HEALTH: &str = "/grpc.health.v1.Health/";
const COLLECTOR: &str = "/opentelemetry.proto.collector.";

/// A health question is short.
const HEALTH_LIMIT: ByteSize = ByteSize::kib(4);

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Export(Signal),
    Check,
}

/// The times of a call.
#[derive(Clone, Copy)]
struct Times {
    begun: Instant,
    /// How long the client waits, if it says so.
    patience: Option<Duration>,
    /// By then it must be answered.
    answer: Instant,
}

impl Times {
    fn new(begun: std::time::Instant, patience: Option<Duration>, most: Duration) -> Self {
        let begun = Instant::from_std(begun);
        Self { begun, patience, answer: begun + patience.map_or(most, |patience| less(patience).min(most)) }
    }

    /// How long it may be held from now on, at most so long from its begin; none: no longer.
    fn hold(self, most: Duration) -> Option<Duration> {
        let all = self.patience.map_or(most, |patience| patience.saturating_sub(ON_THE_WAY).min(most));
        Some(all.saturating_sub(self.begun.elapsed())).filter(|hold| !hold.is_zero())
    }
}

/// Whether nothing but gRPC is at this path.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with(COLLECTOR) || path.starts_with(HEALTH)
}

const fn service(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "opentelemetry.proto.collector.trace.v1.TraceService",
        Signal::Metrics => "opentelemetry.proto.collector.metrics.v1.MetricsService",
        Signal::Logs => "opentelemetry.proto.collector.logs.v1.LogsService",
    }
}

const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

fn call(path: &str) -> Option<Call> {
    let (service_name, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    match method {
        "Export" => SIGNALS.into_iter().find(|signal| service(*signal) == service_name).map(Call::Export),
        "Check" if service_name == "grpc.health.v1.Health" => Some(Call::Check),
        _ => None,
    }
}

impl Door {
    pub(super) async fn grpc<B>(&self, head: &Head<'_>, body: B, begun: std::time::Instant) -> Result<Answer, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let call = self.called(head)?;
        let patience = patience(&head.parts.headers)?;
        let times = Times::new(begun, patience, self.config.answer_within.get());
        let answered = async {
            match call {
                Call::Check => self.check(head, body).await,
                Call::Export(signal) => self.exported(head, signal, body, times).await,
            }
        };
        timeout_at(times.answer, answered).await.unwrap_or(Err(Refused::Late))
    }

    fn called(&self, head: &Head<'_>) -> Result<Call, Refused> {
        if !is_grpc(&head.parts.headers) {
            return Err(Fault::UnsupportedMediaType("application/grpc").into());
        }
        let is_protobuf = |value: &HeaderValue| matches!(essence(value), b"application/grpc" | b"application/grpc+proto");
        if !head.parts.headers.get(::http::header::CONTENT_TYPE).is_some_and(is_protobuf) {
            return Err(Refused::Grpc(Code::Unimplemented, "only application/grpc with protobuf is spoken here"));
        }
        if head.parts.version < Version::HTTP_2 || head.parts.method != Method::POST {
            return Err(Refused::Grpc(Code::Unimplemented, "gRPC is spoken over HTTP/2, with POST"));
        }
        self.in_secret(head)?;
        call(head.parts.uri.path()).ok_or(Refused::Grpc(
            Code::Unimplemented,
            "no such method: here are the Export of OTLP's traces, metrics and logs, and the Check of grpc.health.v1.Health",
        ))
    }

    async fn exported<B>(&self, head: &Head<'_>, signal: Signal, body: B, times: Times) -> Result<Answer, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let principal = self.parts.lobby.principal(head, self.config.token_grace.get()).await?;
        let (bytes, guard) = self.message(head, body, &self.limits).await?;
        let (hold, deadline) = (times.hold(self.config.hold.get()), times.answer);
        let request = Request { door: event::Door::OtlpGrpc, signal, encoding: Encoding::Protobuf, bytes, guard, hold, deadline };
        let exported = self.export(head, &principal, request).await?;
        let response = status::export_response(signal, &exported.partial, Encoding::Protobuf);
        Ok(holding(reply::grpc(&response), exported.guard))
    }

    /// Asked by load balancers, without credentials, as `/readyz` is.
    async fn check<B>(&self, head: &Head<'_>, body: B) -> Result<Answer, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let limits = BodyLimits { wire: HEALTH_LIMIT, decoded: HEALTH_LIMIT, ..self.limits };
        let (message, _guard) = self.message(head, body, &limits).await?;
        let asked = status::asked_service(&message).ok_or(Fault::BadRequest("this is not a HealthCheckRequest"))?;
        if !asked.is_empty() && !SIGNALS.iter().any(|signal| service(*signal) == asked) {
            return Err(Refused::Grpc(Code::NotFound, "no such service"));
        }
        Ok(reply::grpc(&status::health(self.parts.lobby.is_ready())))
    }

    /// The one message of a call.
    async fn message<B>(&self, head: &Head<'_>, body: B, limits: &BodyLimits) -> Result<(Bytes, InFlight), Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let coding = coding(&head.parts.headers)?;
        let wire = BodyLimits { wire: ByteSize::bytes(limits.wire.get() + PREFIX as u64), ..*limits };
        let limit = limits.wire.get();
        let (bytes, mut guard) = body::read_wire(head.parts, body, &wire, &self.parts.meter, |came| look(came, limit)).await?;
        let (is_compressed, message) = unframed(&bytes)?;
        if !is_compressed {
            return Ok((message, guard));
        }
        if coding == Coding::Identity {
            return Err(Refused::Grpc(Code::Internal, "the message is marked as compressed, and `grpc-encoding` does not say how"));
        }
        let decoded = coding.decode(message, limits.decoded.get(), &mut guard).await?;
        Ok((decoded, guard))
    }
}

/// Holds the length that a message promises against the limit, as soon as it is there.
fn look(came: &[u8], limit: u64) -> Result<(), Fault> {
    let [_, a, b, c, d, ..] = *came else { return Ok(()) };
    let actual = u64::from(u32::from_be_bytes([a, b, c, d]));
    if actual > limit {
        return Err(Refusal::TooLarge { what: "the size of the message in bytes", actual, limit }.into());
    }
    Ok(())
}

/// Whether the one message is compressed, and the message.
fn unframed(bytes: &Bytes) -> Result<(bool, Bytes), Refused> {
    let [flag, a, b, c, d, ..] = bytes[..] else { return Err(Refusal::malformed("the call ends before its message").into()) };
    if flag > 1 {
        return Err(Refusal::malformed("the message has a flag that gRPC does not know").into());
    }
    let announced = u32::from_be_bytes([a, b, c, d]) as usize;
    let message = bytes.slice(PREFIX..);
    if message.len() != announced {
        let what = format!("the call has {} bytes for a message of {announced}: it takes exactly one", message.len());
        return Err(Refusal::malformed(what).into());
    }
    Ok((flag == 1, message))
}

fn coding(headers: &HeaderMap) -> Result<Coding, Refused> {
    let Some(name) = headers.get(ENCODING) else { return Ok(Coding::Identity) };
    let known = Coding::named(name.as_bytes()).filter(|coding| *coding != Coding::Brotli);
    known.ok_or(Refused::Grpc(Code::Unimplemented, "this `grpc-encoding` is not read here; `grpc-accept-encoding` lists what is"))
}

/// How long the client waits; none: it does not say.
fn patience(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let read = || {
        let (number, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        let is_number = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| is_number)?;
        match unit {
            "H" => Some(Duration::from_secs(number * 3_600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    };
    read().map(Some).ok_or(Fault::BadRequest("`grpc-timeout` is not up to eight digits and a unit"))
}

/// What of a client's time is ours: a tenth, at most a second, is the answer's.
fn less(patience: Duration) -> Duration {
    patience.saturating_sub((patience / 10).min(ON_THE_WAY))
}

/// A media type without its parameters.
fn essence(value: &HeaderValue) -> &[u8] {
    value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_called_is_known_by_its_path() {
        assert_eq!(call("/opentelemetry.proto.collector.trace.v1.TraceService/Export"), Some(Call::Export(Signal::Traces)));
        assert_eq!(call("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"), Some(Call::Export(Signal::Metrics)));
        assert_eq!(call("/opentelemetry.proto.collector.logs.v1.LogsService/Export"), Some(Call::Export(Signal::Logs)));
        assert_eq!(call("/grpc.health.v1.Health/Check"), Some(Call::Check));
        for path in ["/grpc.health.v1.Health/Watch", "/opentelemetry.proto.collector.logs.v1.LogsService/Import", "/", "", "Export"] {
            assert_eq!(call(path), None, "{path}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_known_by_its_first_five_bytes() {
        assert_eq!(look(&[0, 0, 0, 1], 0), Ok(()), "its length is not there yet");
        assert_eq!(look(&[0, 0, 0, 1, 0], 256), Ok(()));
        assert!(matches!(look(&[0, 0xff, 0xff, 0xff, 0xff], 1 << 26), Err(Fault::Refused(Refusal::TooLarge { .. }))));
    }

    #[test]
    fn a_call_has_exactly_one_message() {
        assert_eq!(unframed(&Bytes::from_static(b"\x01\0\0\0\x02ab")), Ok((true, Bytes::from_static(b"ab"))));
        assert_eq!(unframed(&Bytes::from_static(b"\0\0\0\0\0")), Ok((false, Bytes::new())));
        for bytes in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\0\0\0\0\0\0", b"\x02\0\0\0\0"] {
            assert!(unframed(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        let read =
            |text: &'static str| patience(&HeaderMap::from_iter([(TIMEOUT.parse().expect("a name"), HeaderValue::from_static(text))]));
        assert_eq!(patience(&HeaderMap::new()), Ok(None));
        assert_eq!(read("10S"), Ok(Some(Duration::from_secs(10))));
        assert_eq!(read("99999999H"), Ok(Some(Duration::from_secs(99_999_999 * 3_600))));
        assert_eq!(read("9999993u"), Ok(Some(Duration::from_micros(9_999_993))));
        for bad in ["", "S", "10", "-1S", "123456789S", "1s", "1.5S", "S1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(less(Duration::from_secs(60)), Duration::from_secs(59));
        assert_eq!(less(Duration::from_millis(500)), Duration::from_millis(450));
    }
}
