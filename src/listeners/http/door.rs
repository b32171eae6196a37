//! The HTTPS door: one request in, one answer out.
//!
//! The order is always the same: route, method, who is there, room for the body, the body, its events, the trunk, the answer.
//! The door decides nothing about events; it decodes them, asks [`Ingest`] and writes what became of them. Every answer
//! carries the request id, and what a web page may read of it.

use std::error::Error;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, HOST, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body;

use super::body::{self, BodyLimits};
use super::events::{self, Given};
use super::fault::Fault;
use super::lobby::{Head, Lobby, Readiness};
use super::reply::{self, Answer, holding};
use super::routes::{Handler, Table};
use super::settings::{AppCheckMode, Config};
use super::trace_context::Context;
use super::upgrade::{self, Tunnel};
use super::{administration, callable, callable_reply, query};
use crate::auth::{Authenticator, Credentials, Principal};
use crate::drain::Signal;
use crate::event::{self, BadTopic, Batch, Event, Origin, Topic};
use crate::ingest::Ingest;
use crate::limits::inflight::{InFlight, Meter};
use crate::listeners::Peer;
use crate::receipt::{Receipt, Refusal};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels;
use crate::units::Secret;

/// What a record header takes in memory beside its text.
const HEADER_WEIGHT: usize = 96;

/// Where Firebase's clients put their App Check token.
const APP_CHECK: &str = "x-firebase-appcheck";

const OPEN_API: &str = include_str!("openapi.json");
const INSECURE: Fault = Fault::BadRequest("this came in plain text; send it over https, and treat its credentials as exposed");

/// The door. One for all connections.
#[derive(Debug)]
pub struct Door {
    parts: DoorParts,
    lobby: Lobby,
    limits: BodyLimits,
    routes: Table,
    callable_topic: Topic,
    open_api: Bytes,
    config: Config,
}

/// What became of the events, and the bytes that are in flight until that is written.
struct Accepted {
    results: Vec<Result<Receipt, Refusal>>,
    guard: InFlight,
}

/// What stands behind the door: parts of the gate that it shares with others.
#[derive(Debug)]
pub struct DoorParts {
    /// The trunk.
    pub ingest: Arc<Ingest>,
    /// Says who is there.
    pub authenticator: Arc<Authenticator>,
    /// Says which app it is, where that is asked.
    pub app_check: Option<Arc<Authenticator>>,
    /// Room for bodies.
    pub meter: Arc<Meter>,
    /// The drain's phases.
    pub signal: Signal,
    /// What the probes say.
    pub readiness: Readiness,
}

impl Door {
    /// A door to these parts that is configured so.
    pub fn new(parts: DoorParts, limits: BodyLimits, config: Config) -> Result<Self, BadTopic> {
        let routes = Table::new(&config);
        let lobby = Lobby::new(Arc::clone(&parts.authenticator), parts.signal.clone(), parts.readiness.clone(), &config);
        let callable_topic = Topic::new(&config.callable.topic)?;
        let open_api = OPEN_API.replace("/ingestEvent", &format!("/{}", config.callable.name)).into();
        Ok(Self { parts, lobby, limits, routes, callable_topic, open_api, config })
    }

    /// The table of routes.
    pub fn routes(&self) -> &Table {
        &self.routes
    }

    /// Answers one request. A fault of ours is a 500 for this request and touches no other.
    pub async fn handle<B>(&self, request: Request<B>, peer: &Peer) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let context = Context::of(&parts.headers);
        let head = Head { parts: &parts, peer, context: &context, arrived: SystemTime::now() };
        let begun = Instant::now();
        let answered = AssertUnwindSafe(self.answer(&head, body)).catch_unwind().await;
        let mut answer = answered.unwrap_or_else(|_| {
            tracing::error!(request_id = context.request_id, "the handler of a request panicked; it was answered 500");
            reply::fault(&Refusal::Internal.into(), &context.request_id)
        });
        self.lobby.finish(&head, &mut answer);
        if let Some(door) = self.routes.find(parts.uri.path()).and_then(|(route, _)| door_of(route.handler)) {
            metrics().request(door, answer.status().as_u16(), begun.elapsed());
        }
        tracing::debug!(request_id = context.request_id, status = answer.status().as_u16(), "answered");
        answer
    }

    async fn answer<B>(&self, head: &Head<'_>, body: B) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Head { parts, context, .. } = head;
        let fault = |fault: Fault| reply::fault(&fault, &context.request_id);
        let found = self.routes.find(parts.uri.path());
        let probe = found.is_some_and(|(route, _)| matches!(route.handler, Handler::Live | Handler::Ready));
        if !probe && self.lobby.is_plain(head) {
            return to_https(parts).unwrap_or_else(|| fault(INSECURE));
        }
        let Some((route, topic)) = found else { return fault(Fault::NotFound) };
        let allow = route.methods.allow();
        if parts.method == Method::OPTIONS {
            return self.lobby.options(&parts.headers, allow);
        }
        if route.handler != Handler::Callable && !route.methods.contain(&parts.method) {
            return fault(Fault::MethodNotAllowed(allow));
        }
        match route.handler {
            Handler::Live => reply::empty(StatusCode::OK),
            Handler::Ready => reply::empty(if self.lobby.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }),
            Handler::OpenApi => self.open_api(head).await.unwrap_or_else(fault),
            Handler::Events => self.events(head, topic, body).await.unwrap_or_else(fault),
            Handler::Callable => self.callable(head, allow, body).await,
            Handler::Tunnel => self.tunnel(head).await.unwrap_or_else(fault),
            Handler::Replay => self.replay(head, body).await.unwrap_or_else(fault),
        }
    }

    async fn open_api(&self, head: &Head<'_>) -> Result<Answer, Fault> {
        self.lobby.principal(head, Duration::ZERO).await?;
        Ok(reply::json(StatusCode::OK, self.open_api.clone()))
    }

    /// Kafka over WebSocket. Who shows credentials here is asked for none in it; false ones are refused before it is opened.
    async fn tunnel(&self, head: &Head<'_>) -> Result<Answer, Fault> {
        let headers = &head.parts.headers;
        let accept = upgrade::accept(head.parts)?;
        if !self.lobby.admits_origin(head) {
            return Err(Fault::ForeignOrigin);
        }
        let principal = if headers.contains_key(AUTHORIZATION) { Some(self.lobby.principal(head, Duration::ZERO).await?) } else { None };
        let address = self.lobby.address(head);
        let tls = head.peer.tls || self.lobby.is_forwarded_securely(head);
        let peer = Peer { address: SocketAddr::new(address, head.peer.address.port()), tls };
        Ok(upgrade::switching(accept, Tunnel { peer, principal }))
    }

    /// A share of the replay. It may take minutes: no deadline of events is its.
    async fn replay<B>(&self, head: &Head<'_>, body: B) -> Result<Answer, Fault>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        query::topic(head.parts.uri.query())?;
        let principal = self.lobby.principal(head, Duration::ZERO).await?;
        administration::check(&principal)?;
        let limits = administration::within(&self.limits);
        let (bytes, guard) = body::read(head.parts, body, &limits, &self.parts.meter).await?;
        let limit = administration::limit(&head.parts.headers, &bytes)?;
        drop((bytes, guard));
        let share = self.parts.ingest.replay(&principal, limit).await.map_err(administration::fault)?;
        Ok(reply::replayed(&share))
    }

    async fn events<B>(&self, head: &Head<'_>, path: Option<&str>, body: B) -> Result<Answer, Fault>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let headers = &head.parts.headers;
        let query = query::topic(head.parts.uri.query())?;
        let principal = self.lobby.principal(head, Duration::ZERO).await?;
        let form = events::Form::of(headers)?;
        let id = events::idempotency_key(headers)?;
        let path = path.map(query::decoded);
        if query.is_some() && path.is_some() && query != path {
            return Err(Refusal::invalid("topic", "the path and the query name two topics; name one").into());
        }
        let (bytes, mut guard) = body::read(head.parts, body, &self.limits, &self.parts.meter).await?;
        let given = Given { path: path.as_deref(), query: query.as_deref(), id, config: &self.config };
        let decoded = events::decode(&bytes, form, &given)?;
        drop(bytes);
        // Many small events, and many small headers, weigh more than their bytes.
        let headers: usize = decoded.iter().flatten().map(|event| event.headers.len()).sum();
        guard.grow((decoded.len() * size_of::<Event>() + headers * HEADER_WEIGHT) as u64)?;
        if decoded.iter().flatten().any(|event| event.topic == self.callable_topic) {
            // The same command by another way in.
            self.check_app(&head.parts.headers).await?;
        }
        let accepted = self.accept(head, &principal, event::Door::Events, decoded, guard).await;
        let answer = reply::results(&accepted.results, &head.context.request_id);
        Ok(holding(answer, accepted.guard))
    }

    async fn callable<B>(&self, head: &Head<'_>, allow: &'static str, body: B) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let stream = callable_reply::wants_stream(&head.parts.headers);
        match self.call(head, allow, body).await {
            Ok(Accepted { mut results, guard }) => {
                let outcome = results.pop().unwrap_or(Err(Refusal::Internal)).map_err(Fault::from);
                holding(callable_reply::answer(&outcome, stream), guard)
            }
            Err(fault) => callable_reply::answer(&Err(fault), stream),
        }
    }

    async fn call<B>(&self, head: &Head<'_>, allow: &'static str, body: B) -> Result<Accepted, Fault>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if head.parts.method != Method::POST {
            return Err(Fault::MethodNotAllowed(allow));
        }
        query::topic(head.parts.uri.query())?;
        let principal = self.lobby.principal(head, Duration::ZERO).await?;
        self.check_app(&head.parts.headers).await?;
        if events::media_type(&head.parts.headers).as_deref() != Some("application/json") {
            return Err(Fault::UnsupportedMediaType("application/json"));
        }
        let (bytes, guard) = body::read(head.parts, body, &self.limits, &self.parts.meter).await?;
        let event = callable::decode(&bytes, &self.callable_topic)?;
        drop(bytes);
        Ok(self.accept(head, &principal, event::Door::Callable, vec![Ok(event)], guard).await)
    }

    /// Firebase App Check: what fails is refused only where that is enforced.
    async fn check_app(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let Some(authenticator) = &self.parts.app_check else { return Ok(()) };
        let token = headers.get(APP_CHECK).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match authenticator.authenticate(&Credentials::Bearer(Secret::new(token))).await {
            Err(refusal) if self.config.callable.app_check.mode == AppCheckMode::Enforce => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// Hands the good events to the trunk; the others have their result already.
    async fn accept(
        &self,
        head: &Head<'_>,
        principal: &Principal,
        door: event::Door,
        decoded: Vec<Result<Event, Refusal>>,
        guard: InFlight,
    ) -> Accepted {
        metrics().body_bytes.at(labels::Door::named(door.as_str())).inc_by(guard.bytes());
        let (events, refused) = parted(decoded);
        for refusal in refused.iter().flatten() {
            // The trunk never hears of these.
            metrics().events.at((labels::Door::named(door.as_str()), labels::Outcome::refused(refusal.code()))).inc();
        }
        if events.is_empty() {
            return Accepted { results: merged(refused, Vec::new()), guard };
        }
        let address = self.lobby.address(head);
        let origin = Origin { door, arrived: head.arrived, address, traceparent: head.context.traceparent.clone() };
        let outcomes = self.parts.ingest.accept(principal, Batch { events, origin, charged_bytes: None, hold: None, guard }).await;
        Accepted { results: merged(refused, outcomes.results), guard: outcomes.guard }
    }
}

/// The door behind a route; the probes and the description have none.
fn door_of(handler: Handler) -> Option<labels::Door> {
    match handler {
        Handler::Events => Some(labels::Door::named(event::Door::Events.as_str())),
        Handler::Callable => Some(labels::Door::named(event::Door::Callable.as_str())),
        Handler::Live | Handler::Ready | Handler::OpenApi | Handler::Tunnel | Handler::Replay => None,
    }
}

/// The good events, and at each event's place its refusal, if it has one.
fn parted(decoded: Vec<Result<Event, Refusal>>) -> (Vec<Event>, Vec<Option<Refusal>>) {
    let mut events = Vec::with_capacity(decoded.len());
    let refused = decoded.into_iter().map(|one| one.map(|event| events.push(event)).err()).collect();
    (events, refused)
}

/// One result for each event, in the sender's order.
fn merged(refused: Vec<Option<Refusal>>, accepted: Vec<Result<Receipt, Refusal>>) -> Vec<Result<Receipt, Refusal>> {
    let mut accepted = accepted.into_iter();
    refused.into_iter().map(|one| one.map_or_else(|| accepted.next().unwrap_or(Err(Refusal::Internal)), Err)).collect()
}

/// Sends a page that was opened in plain text to where it should be; none: the request is not one to repeat.
fn to_https(parts: &Parts) -> Option<Answer> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return None;
    }
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok())?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut answer = reply::empty(StatusCode::PERMANENT_REDIRECT);
    answer.headers_mut().insert(LOCATION, HeaderValue::try_from(format!("https://{host}{path}")).ok()?);
    Some(answer)
}

#[cfg(test)]
mod tests;
