//! The native door's answers: the one mapping of [`Refusal`] and [`Fault`] to statuses, and the bodies that say the rest.
//!
//! A 2xx never hides a refused event. Every body that is not a result is `application/problem+json` (RFC 9457) with a stable
//! `code`. All of 401 is the same, byte for byte: who may not come in learns nothing, so its request id is in the head only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::fault::Fault;
use super::payload::Payload;
use super::upgrade;
use crate::ingest::Replayed;
use crate::limits::inflight::InFlight;
use crate::receipt::{Doubt, Quota, Receipt, Refusal, Tier};

/// What every handler gives back.
pub type Answer = Response<Payload>;

/// The encodings of bodies that the door reads.
const ENCODINGS: HeaderValue = HeaderValue::from_static("gzip, zstd, br, deflate");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Who comes while a replay runs is told to come back so much later.
const REPLAY_RUNS_SECONDS: u64 = 20;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The status of a refusal.
pub const fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
        Refusal::Denied { .. } => StatusCode::FORBIDDEN,
        Refusal::Malformed { .. } => StatusCode::BAD_REQUEST,
        Refusal::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Overloaded { .. } | Refusal::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}

/// An answer with a JSON body.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_body(status, JSON, body.into())
}

fn with_body(status: StatusCode, media_type: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Answer::new(Payload::full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// Keeps the bytes in flight until the answer's head is written.
pub fn holding(mut answer: Answer, guard: InFlight) -> Answer {
    answer.extensions_mut().insert(Arc::new(guard));
    answer
}

/// The answer to a batch: one result for each event, in order.
pub fn results(results: &[Result<Receipt, Refusal>], request_id: &str) -> Answer {
    let outcomes = Outcomes::of(results);
    match verdict(results) {
        Verdict::Refused(refusal) => refused(refusal, request_id, Some(outcomes)),
        Verdict::Answered(status) => json(status, written(&outcomes)),
    }
}

enum Verdict<'a> {
    Answered(StatusCode),
    Refused(&'a Refusal),
}

/// 200 all in the broker, 202 some in the inbox, 207 some refused or all for different reasons, else the reason's own status.
fn verdict(results: &[Result<Receipt, Refusal>]) -> Verdict<'_> {
    let mut refusals = results.iter().filter_map(|result| result.as_ref().err());
    let Some(first) = refusals.next() else {
        let stored = results.iter().flatten().any(|receipt| matches!(receipt.tier, Tier::Inbox { .. }));
        return Verdict::Answered(if stored { StatusCode::ACCEPTED } else { StatusCode::OK });
    };
    let alike = refusals.filter(|refusal| refusal.code() == first.code()).count() + 1;
    if alike < results.len() {
        return Verdict::Answered(StatusCode::MULTI_STATUS);
    }
    let longest = results.iter().filter_map(|result| result.as_ref().err()).max_by_key(|refusal| refusal.retry_after());
    // What can be tried again is tried again when all of it would fit.
    Verdict::Refused(longest.filter(|refusal| refusal.retry_after().is_some()).unwrap_or(first))
}

/// The answer to a request that is refused before the trunk, or as a whole.
pub fn fault(fault: &Fault, request_id: &str) -> Answer {
    let (status, code, detail) = match fault {
        Fault::Refused(refusal) => return refused(refusal, request_id, None),
        Fault::BadRequest(what) => (StatusCode::BAD_REQUEST, "bad_request", *what),
        Fault::NotFound => (StatusCode::NOT_FOUND, "not_found", "no such route; `/openapi.json` lists them"),
        Fault::MethodNotAllowed(_) => {
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the header `Allow` lists this route's methods")
        }
        Fault::UnsupportedMediaType(_) => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "the header `Accept` lists what this route reads, in UTF-8")
        }
        Fault::UnsupportedEncoding => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "the body is sent as it is, or in one layer of gzip, zstd, br or deflate",
        ),
        Fault::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "the request did not come in time"),
        Fault::UriTooLong => (StatusCode::URI_TOO_LONG, "uri_too_long", "the request target is too long"),
        Fault::HeadersTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "the header fields are too many or too large")
        }
        Fault::UpgradeRequired => {
            (StatusCode::UPGRADE_REQUIRED, "upgrade_required", "Kafka is spoken here over WebSocket: RFC 6455, version 13, over HTTP/1.1")
        }
        Fault::ForeignOrigin => {
            (StatusCode::FORBIDDEN, "foreign_origin", "pages of this origin may not; `http.cors_allowed_origins` lists those that may")
        }
        Fault::NotAdmin => (StatusCode::FORBIDDEN, "denied", "this needs the right to administer, which no grant of topics gives"),
        Fault::ReplayRuns => {
            (StatusCode::CONFLICT, "replay_runs", "a replay that somebody has asked for runs already; ask again when it is over")
        }
        Fault::ExpectationFailed => (StatusCode::EXPECTATION_FAILED, "expectation_failed", "only `100-continue` can be expected"),
        // Nobody reads this one.
        Fault::Gone => (StatusCode::BAD_REQUEST, "gone", "the client went away"),
    };
    let facts = Facts { code, ..Facts::default() };
    let mut answer = problem(status, detail.to_owned(), Some(request_id), facts, None);
    write_fault(fault, answer.headers_mut());
    answer
}

/// What the head says of a fault, in every body's manner.
pub fn write_fault(fault: &Fault, headers: &mut HeaderMap) {
    match fault {
        Fault::Refused(refusal) => write_refusal(refusal, headers),
        Fault::MethodNotAllowed(allow) => drop(headers.insert(ALLOW, HeaderValue::from_static(allow))),
        Fault::UnsupportedMediaType(reads) => drop(headers.insert(ACCEPT, HeaderValue::from_static(reads))),
        Fault::UnsupportedEncoding => drop(headers.insert(ACCEPT_ENCODING, ENCODINGS)),
        Fault::UpgradeRequired => {
            headers.insert(UPGRADE, upgrade::WEBSOCKET);
            headers.insert(CONNECTION, upgrade::UPGRADE_TOKEN);
            headers.insert(SEC_WEBSOCKET_VERSION, upgrade::VERSION);
        }
        // What is behind such a request cannot be told from its body, or never comes.
        Fault::BadRequest(_) | Fault::Timeout | Fault::UriTooLong | Fault::HeadersTooLarge | Fault::ExpectationFailed | Fault::Gone => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Fault::ReplayRuns => drop(headers.insert(RETRY_AFTER, HeaderValue::from(REPLAY_RUNS_SECONDS))),
        Fault::NotFound | Fault::ForeignOrigin | Fault::NotAdmin => {}
    }
}

fn refused(refusal: &Refusal, request_id: &str, outcomes: Option<Outcomes<'_>>) -> Answer {
    let request_id = (*refusal != Refusal::Unauthenticated).then_some(request_id);
    let mut answer = problem(status(refusal), refusal.to_string(), request_id, Facts::of(refusal), outcomes);
    write_refusal(refusal, answer.headers_mut());
    answer
}

fn write_refusal(refusal: &Refusal, headers: &mut HeaderMap) {
    if *refusal == Refusal::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if let Refusal::Throttled { wait, quota } = refusal {
        write_quota(*quota, *wait, headers);
    }
}

/// The `RateLimit` fields of the IETF draft: the quota as so many in so many seconds, of which nothing remains.
fn write_quota(quota: Quota, wait: Duration, headers: &mut HeaderMap) {
    let window = (f64::from(quota.burst) / quota.per_second.max(f64::MIN_POSITIVE)).ceil().max(1.0) as u64;
    let (amount, unit) = match quota.unit {
        "kib" => (u64::from(quota.burst) * 1024, ";qu=\"content-bytes\""),
        _ => (u64::from(quota.burst), ""),
    };
    let policy = format!("\"{}\";q={amount};w={window}{unit}", quota.unit);
    let state = format!("\"{}\";r=0;t={}", quota.unit, whole_seconds(wait));
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        headers.insert(name, HeaderValue::try_from(text).expect("a quota's unit is a plain word"));
    }
}

/// A wait in whole seconds, never shorter than it is and never none.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn whole_millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

/// What has come of a replay.
pub fn replayed(share: &Replayed) -> Answer {
    json(StatusCode::OK, written(share))
}

fn problem(status: StatusCode, detail: String, request_id: Option<&str>, facts: Facts, outcomes: Option<Outcomes<'_>>) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let problem = Problem { r#type: "about:blank", title, status: status.as_u16(), detail, request_id, facts, outcomes };
    with_body(status, PROBLEM, written(&problem))
}

fn written(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("our own answers have text for keys").into()
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(flatten)]
    facts: Facts,
    #[serde(flatten)]
    outcomes: Option<Outcomes<'a>>,
}

#[derive(Serialize)]
struct Outcomes<'a> {
    accepted: usize,
    rejected: usize,
    results: Vec<Outcome<'a>>,
}

impl<'a> Outcomes<'a> {
    fn of(results: &'a [Result<Receipt, Refusal>]) -> Self {
        let accepted = results.iter().flatten().count();
        Self { accepted, rejected: results.len() - accepted, results: results.iter().map(Outcome::of).collect() }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Accepted(Accepted<'a>),
    Rejected {
        status: &'static str,
        message: String,
        #[serde(flatten)]
        facts: Facts,
    },
}

impl<'a> Outcome<'a> {
    fn of(result: &'a Result<Receipt, Refusal>) -> Self {
        match result {
            Ok(receipt) => Self::Accepted(Accepted::of(receipt)),
            Err(refusal) => Self::Rejected { status: "rejected", message: refusal.to_string(), facts: Facts::of(refusal) },
        }
    }
}

/// An accepted event, as every HTTP answer tells it.
#[derive(Serialize)]
pub(super) struct Accepted<'a> {
    id: &'a str,
    status: &'static str,
    tier: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<&'a str>,
}

impl<'a> Accepted<'a> {
    pub(super) fn of(receipt: &'a Receipt) -> Self {
        let (tier, partition, offset, document) = match &receipt.tier {
            Tier::Broker { partition, offset } => ("broker", Some(*partition), Some(*offset), None),
            Tier::Inbox { name } => ("inbox", None, None, Some(name.as_str())),
        };
        Self { id: receipt.id.as_str(), status: "accepted", tier, topic: receipt.topic.as_str(), partition, offset, document }
    }
}

/// What programs read of a refusal, in every HTTP answer; people read its message.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Facts {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe_delivered: Option<bool>,
}

impl Facts {
    pub(super) fn of(refusal: &Refusal) -> Self {
        let wait = refusal.retry_after();
        let facts = Self { code: refusal.code(), retryable: wait.map(|_| true), retry_after_ms: wait.map(whole_millis), ..Self::default() };
        match refusal {
            Refusal::Malformed { position, .. } => {
                let place = position.map(|at| Place { offset: at.offset, line: at.line, column: at.column });
                Self { position: place, ..facts }
            }
            Refusal::Invalid { field, .. } => Self { field: field.clone(), ..facts },
            Refusal::TooLarge { actual, limit, .. } => Self { limit: Some(*limit), actual: Some(*actual), ..facts },
            Refusal::Throttled { quota, .. } => Self { quota: Some(quota.unit), ..facts },
            Refusal::Unavailable { doubt, .. } => Self { maybe_delivered: Some(*doubt == Doubt::MaybeDelivered), ..facts },
            Refusal::Unauthenticated | Refusal::Denied { .. } | Refusal::Overloaded { .. } | Refusal::Internal => facts,
        }
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Place {
    offset: u64,
    line: u64,
    column: u64,
}

#[cfg(test)]
mod tests;
