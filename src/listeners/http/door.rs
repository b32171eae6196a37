//! The HTTPS door: one request in, one answer out.
//!
//! The order is always the same: route, method, who is there, room for the body, the body, its events, the trunk, the answer.
//! The door decides nothing about events; it decodes them, asks [`Ingest`] and writes what became of them. Every answer
//! carries the request id, and what a web page may read of it.

use std::error::Error;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, UPGRADE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body;

use super::body::{self, BodyLimits};
use super::cors::Origins;
use super::events::{self, Given};
use super::fault::Fault;
use super::reply::{self, Answer};
use super::routes::{Handler, Table};
use super::settings::{AppCheckMode, Config};
use super::trace_context::{Context, REQUEST_ID};
use super::upgrade::{self, Tunnel};
use super::{callable, callable_reply, forwarded, query};
use crate::auth::{Authenticator, Credentials, Principal};
use crate::drain::{Phase, Signal};
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

/// How users are asked for their password, where there are some.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"sluicegate\", charset=\"UTF-8\"");

const OPEN_API: &str = include_str!("openapi.json");
const INSECURE: Fault = Fault::BadRequest("this came in plain text; send it over https, and treat its credentials as exposed");

/// Whether the gate takes events now, as `/readyz` says.
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> bool + Send + Sync>);

impl Readiness {
    /// Asks `ready` each time.
    pub fn new(ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(ready))
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Readiness({})", (self.0)())
    }
}

/// The door. One for all connections.
#[derive(Debug)]
pub struct Door {
    parts: DoorParts,
    limits: BodyLimits,
    routes: Table,
    origins: Origins,
    callable_topic: Topic,
    open_api: Bytes,
    config: Config,
}

/// A request's head, and what is known of it beside.
struct Head<'a> {
    parts: &'a Parts,
    peer: &'a Peer,
    context: &'a Context,
    arrived: SystemTime,
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
        let origins = Origins::new(&config.cors_allowed_origins);
        let callable_topic = Topic::new(&config.callable.topic)?;
        let open_api = OPEN_API.replace("/ingestEvent", &format!("/{}", config.callable.name)).into();
        Ok(Self { parts, limits, routes, origins, callable_topic, open_api, config })
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
        self.finish(&head, &mut answer);
        if let Some(door) = self.routes.find(parts.uri.path()).and_then(|(route, _)| door_of(route.handler)) {
            metrics().request(door, answer.status().as_u16(), begun.elapsed());
        }
        tracing::debug!(request_id = context.request_id, status = answer.status().as_u16(), "answered");
        answer
    }

    /// What every answer says.
    fn finish(&self, head: &Head<'_>, answer: &mut Answer) {
        self.origins.write(&head.parts.headers, answer.headers_mut());
        answer.headers_mut().insert(REQUEST_ID, head.context.request_id_header());
        if answer.headers().contains_key(WWW_AUTHENTICATE) && self.parts.authenticator.has_users() && self.is_secure(head) {
            answer.headers_mut().append(WWW_AUTHENTICATE, BASIC);
        }
        if head.parts.version >= Version::HTTP_2 {
            // The connection's own frames say it there.
            answer.headers_mut().remove(CONNECTION);
            answer.headers_mut().remove(UPGRADE);
        } else if self.parts.signal.phase() >= Phase::Leaving && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if head.parts.method == Method::HEAD {
            let length = body_length(answer);
            answer.headers_mut().insert(CONTENT_LENGTH, length.into());
            *answer.body_mut() = Default::default();
        }
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
        if !probe && forwarded::is_plain(&parts.headers, self.config.trusted_hops) {
            return to_https(parts).unwrap_or_else(|| fault(INSECURE));
        }
        let Some((route, topic)) = found else { return fault(Fault::NotFound) };
        let allow = route.methods.allow();
        if parts.method == Method::OPTIONS {
            return self.options(&parts.headers, allow);
        }
        if route.handler != Handler::Callable && !route.methods.contain(&parts.method) {
            return fault(Fault::MethodNotAllowed(allow));
        }
        match route.handler {
            Handler::Live => reply::empty(StatusCode::OK),
            Handler::Ready => reply::empty(if self.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }),
            Handler::OpenApi => self.open_api(head).await.unwrap_or_else(fault),
            Handler::Events => self.events(head, topic, body).await.unwrap_or_else(fault),
            Handler::Callable => self.callable(head, allow, body).await,
            Handler::Tunnel => self.tunnel(head).await.unwrap_or_else(fault),
        }
    }

    fn is_ready(&self) -> bool {
        self.parts.signal.phase() == Phase::Serving && (self.parts.readiness.0)()
    }

    fn options(&self, request: &HeaderMap, allow: &'static str) -> Answer {
        let mut answer = reply::empty(StatusCode::NO_CONTENT);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        self.origins.write_preflight(request, allow, answer.headers_mut());
        answer
    }

    async fn open_api(&self, head: &Head<'_>) -> Result<Answer, Fault> {
        self.principal(head).await?;
        Ok(reply::json(StatusCode::OK, self.open_api.clone()))
    }

    /// Kafka over WebSocket. Who shows credentials here is asked for none in it; false ones are refused before it is opened.
    async fn tunnel(&self, head: &Head<'_>) -> Result<Answer, Fault> {
        let headers = &head.parts.headers;
        let accept = upgrade::accept(head.parts)?;
        if !self.origins.admit(headers) {
            return Err(Fault::ForeignOrigin);
        }
        let principal = if headers.contains_key(AUTHORIZATION) { Some(self.principal(head).await?) } else { None };
        let address = forwarded::address(headers, head.peer.address, self.config.trusted_hops);
        let tls = head.peer.tls || forwarded::is_secure(headers, self.config.trusted_hops);
        let peer = Peer { address: SocketAddr::new(address, head.peer.address.port()), tls };
        Ok(upgrade::switching(accept, Tunnel { peer, principal }))
    }

    async fn events<B>(&self, head: &Head<'_>, path: Option<&str>, body: B) -> Result<Answer, Fault>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let headers = &head.parts.headers;
        let query = query::topic(head.parts.uri.query())?;
        let principal = self.principal(head).await?;
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
        let principal = self.principal(head).await?;
        self.check_app(&head.parts.headers).await?;
        if events::media_type(&head.parts.headers).as_deref() != Some("application/json") {
            return Err(Fault::UnsupportedMediaType("application/json"));
        }
        let (bytes, guard) = body::read(head.parts, body, &self.limits, &self.parts.meter).await?;
        let event = callable::decode(&bytes, &self.callable_topic)?;
        drop(bytes);
        Ok(self.accept(head, &principal, event::Door::Callable, vec![Ok(event)], guard).await)
    }

    /// Who sent the request, before anything of it is read but its head.
    async fn principal(&self, head: &Head<'_>) -> Result<Principal, Fault> {
        let shown = credentials(&head.parts.headers).and_then(|shown| match shown {
            // It was read by whoever listened, but that is no reason to take it.
            Credentials::Basic { .. } if !self.is_secure(head) => Err(labels::AuthFailure::Header),
            shown => Ok(shown),
        });
        let shown = shown.map_err(|reason| {
            metrics().auth_failures.at(reason).inc();
            Refusal::Unauthenticated
        })?;
        Ok(self.parts.authenticator.authenticate(&shown).await?)
    }

    /// Whether nobody between the client and us could read the request.
    fn is_secure(&self, head: &Head<'_>) -> bool {
        let here = head.peer.tls || head.peer.address.ip().to_canonical().is_loopback();
        here || forwarded::is_secure(&head.parts.headers, self.config.trusted_hops)
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
        let address = forwarded::address(&head.parts.headers, head.peer.address, self.config.trusted_hops);
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
        Handler::Live | Handler::Ready | Handler::OpenApi | Handler::Tunnel => None,
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

/// What the one `Authorization` shows: `Bearer` or `Basic`, the scheme in any case. Or why it is nothing.
fn credentials(headers: &HeaderMap) -> Result<Credentials, labels::AuthFailure> {
    use labels::AuthFailure::{Malformed, Missing};
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).ok_or(Missing)?;
    let (scheme, shown) = value.trim().split_once(' ').ok_or(Missing)?;
    match values.next() {
        Some(_) => Err(Malformed),
        None if scheme.eq_ignore_ascii_case("bearer") => Ok(Credentials::Bearer(Secret::new(shown.trim()))),
        None if scheme.eq_ignore_ascii_case("basic") => basic(shown.trim()).ok_or(Malformed),
        None => Err(Missing),
    }
}

/// A name, up to the first colon, and a password (RFC 7617).
fn basic(shown: &str) -> Option<Credentials> {
    let text = Secret::new(String::from_utf8(STANDARD.decode(shown).ok()?).ok()?);
    let (name, password) = text.expose().split_once(':')?;
    Some(Credentials::Basic { name: name.to_owned(), password: Secret::new(password) })
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

/// Keeps the bytes in flight until the answer's head is written.
fn holding(mut answer: Answer, guard: InFlight) -> Answer {
    answer.extensions_mut().insert(Arc::new(guard));
    answer
}

fn body_length(answer: &Answer) -> u64 {
    answer.body().size_hint().exact().unwrap_or_default()
}

#[cfg(test)]
mod tests;
