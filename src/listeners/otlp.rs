//! The OTLP door: telemetry over HTTP (protobuf and JSON) and over gRPC, on one port.
//!
//! A request is one thing: its bytes become one record or several, and it has one answer. What always holds: an answer that
//! says that all is well comes after every record is in the broker or durably in the inbox; what could be taken later is
//! refused whole, so that its sender sends it again; what is rejected alone (`partial_success`) is wrong for good.

mod export;
mod grpc;
mod http;
mod reply;
mod settings;
mod status;
mod work;

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ::http::header::CONTENT_TYPE;
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body::Body;

use crate::event::{self, BadTopic, Topic};
use crate::ingest::Ingest;
use crate::limits::inflight::Meter;
use crate::listeners::Peer;
use crate::listeners::http::body::BodyLimits;
use crate::listeners::http::fault::Fault;
use crate::listeners::http::guest::{Guest, Visit};
use crate::listeners::http::lobby::{Head, Lobby};
use crate::listeners::http::reply::Answer;
use crate::listeners::http::serve;
use crate::listeners::http::trace_context::Context;
use crate::otlp::Signal;
use crate::receipt::Refusal;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels;

use reply::{Manner, Refused};

pub use settings::Config;

/// How a request, and so its answer, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    const fn media_type(self) -> HeaderValue {
        match self {
            Self::Protobuf => HeaderValue::from_static("application/x-protobuf"),
            Self::Json => HeaderValue::from_static("application/json"),
        }
    }
}

/// The door. One for all connections.
#[derive(Debug)]
pub struct Door {
    parts: DoorParts,
    limits: BodyLimits,
    topics: [Topic; 3],
    config: Config,
}

/// What stands behind the door: parts of the gate that it shares with others.
#[derive(Debug)]
pub struct DoorParts {
    /// The trunk.
    pub ingest: Arc<Ingest>,
    /// Says who is there.
    pub lobby: Lobby,
    /// Room for bodies.
    pub meter: Arc<Meter>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A path of OTLP over HTTP; none: one that is nearly that.
    Http(Option<Signal>),
    /// gRPC, whatever it calls.
    Grpc,
}

/// What an answer is counted as.
struct Counted {
    answer: Answer,
    /// The status that it would have over HTTP.
    status: StatusCode,
}

impl Door {
    /// A door to these parts that is configured so. Times and rates of bodies are those of the listeners.
    pub fn new(parts: DoorParts, listeners: &BodyLimits, config: Config) -> Result<Self, BadTopic> {
        let limits = BodyLimits { wire: config.max_body_bytes, decoded: config.max_decoded_body_bytes, ..*listeners };
        let topic = |signal| Topic::new(config.topic(signal));
        let topics = [topic(Signal::Traces)?, topic(Signal::Metrics)?, topic(Signal::Logs)?];
        Ok(Self { parts, limits, topics, config })
    }

    fn topic(&self, signal: Signal) -> &Topic {
        match signal {
            Signal::Traces => &self.topics[0],
            Signal::Metrics => &self.topics[1],
            Signal::Logs => &self.topics[2],
        }
    }

    /// Answers one request; `refused` is what is wrong with its head, if anything is. A fault of ours is answered as one that passes.
    pub async fn handle<B>(&self, request: Request<B>, peer: &Peer, refused: Option<Fault>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let context = Context::of(&parts.headers);
        let head = Head { parts: &parts, peer, context: &context, arrived: SystemTime::now() };
        let (begun, asked) = (Instant::now(), asked(&parts));
        let answered = AssertUnwindSafe(self.answer(&head, asked, body, begun, refused)).catch_unwind().await;
        let Counted { mut answer, status } = answered.unwrap_or_else(|_| {
            tracing::error!(request_id = context.request_id, "the handler of a request panicked; its sender was told to send it again");
            self.refuse(&head, asked, &Refusal::Internal.into(), begun)
        });
        self.parts.lobby.finish(&head, &mut answer);
        metrics().request(labels::Door::named(door_of(asked).as_str()), status.as_u16(), begun.elapsed());
        tracing::debug!(request_id = context.request_id, status = status.as_u16(), "answered");
        answer
    }

    async fn answer<B>(&self, head: &Head<'_>, asked: Asked, body: B, begun: Instant, refused: Option<Fault>) -> Counted
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if let Some(fault) = refused {
            serve::count(&fault);
            let mut counted = self.refuse(head, asked, &fault.into(), begun);
            // What is behind such a head is not read.
            counted.answer.headers_mut().insert(::http::header::CONNECTION, HeaderValue::from_static("close"));
            return counted;
        }
        let answered = match asked {
            Asked::Http(_) if head.parts.method == Method::OPTIONS => Ok(self.parts.lobby.options(&head.parts.headers, http::METHODS)),
            Asked::Http(signal) => self.http(head, signal, body).await,
            Asked::Grpc => self.grpc(head, body, begun).await,
        };
        match answered {
            Ok(answer) => Counted { status: answer.status(), answer },
            Err(refused) => self.refuse(head, asked, &refused, begun),
        }
    }

    /// Writes a refusal in the manner of who asked.
    fn refuse(&self, head: &Head<'_>, asked: Asked, refused: &Refused, begun: Instant) -> Counted {
        let quota_status = StatusCode::from_u16(self.config.quota_status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let verdict = Manner { quota_status, took: begun.elapsed() }.verdict(refused);
        let answer = match asked {
            Asked::Grpc if is_grpc(&head.parts.headers) => reply::grpc_refused(&verdict),
            Asked::Http(_) | Asked::Grpc => reply::http_refused(refused, &verdict, http::guessed(&head.parts.headers)),
        };
        Counted { answer, status: verdict.status }
    }
}

/// The door as the server of a connection asks it.
pub fn guest(door: Arc<Door>) -> Guest {
    Guest::new(is_own, move |visit: Visit| {
        let door = Arc::clone(&door);
        async move { door.handle(visit.request, &visit.peer, visit.refused).await }
    })
}

/// Whether a request is this door's: by its path, or because it is gRPC, which nobody else speaks here.
fn is_own(parts: &Parts) -> bool {
    is_grpc(&parts.headers) || grpc::is_path(parts.uri.path()) || http::signal(parts.uri.path()).is_some()
}

fn asked(parts: &Parts) -> Asked {
    if is_grpc(&parts.headers) || grpc::is_path(parts.uri.path()) {
        return Asked::Grpc;
    }
    // A path with a slash too many is answered in words that its sender reads.
    Asked::Http(http::signal(parts.uri.path()).filter(|_| !parts.uri.path().ends_with('/')))
}

const fn door_of(asked: Asked) -> event::Door {
    match asked {
        Asked::Http(_) => event::Door::Otlp,
        Asked::Grpc => event::Door::OtlpGrpc,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    value.get(..GRPC.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(GRPC))
}

#[cfg(test)]
mod tests;
