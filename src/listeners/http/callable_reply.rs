//! The callable function's answers: `{"result": …}`, or `{"error": {"status", "message", "details"}}`.
//!
//! The clients (the Firebase SDKs) read `error.status` before the HTTP status, take only 200 for success on some platforms,
//! and neither retry nor read `Retry-After`: so success is always 200, and the wait stands in `details` too.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::fault::Fault;
use super::reply::{self, Accepted, Answer, Facts};
use crate::receipt::{Receipt, Refusal};

/// Firebase's status words and their HTTP statuses; 499 has no name in HTTP.
pub const STATUSES: [(&str, u16); 16] = [
    ("INVALID_ARGUMENT", 400),
    ("FAILED_PRECONDITION", 400),
    ("OUT_OF_RANGE", 400),
    ("UNAUTHENTICATED", 401),
    ("PERMISSION_DENIED", 403),
    ("NOT_FOUND", 404),
    ("ABORTED", 409),
    ("ALREADY_EXISTS", 409),
    ("RESOURCE_EXHAUSTED", 429),
    ("CANCELLED", 499),
    ("INTERNAL", 500),
    ("UNKNOWN", 500),
    ("DATA_LOSS", 500),
    ("UNIMPLEMENTED", 501),
    ("UNAVAILABLE", 503),
    ("DEADLINE_EXCEEDED", 504),
];

const EVENT_STREAM: &str = "text/event-stream";

/// The status word of a refusal.
const fn word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Unauthenticated => "UNAUTHENTICATED",
        Refusal::Denied { .. } => "PERMISSION_DENIED",
        Refusal::Malformed { .. } | Refusal::Invalid { .. } | Refusal::TooLarge { .. } => "INVALID_ARGUMENT",
        Refusal::Throttled { .. } => "RESOURCE_EXHAUSTED",
        Refusal::Overloaded { .. } | Refusal::Unavailable { .. } => "UNAVAILABLE",
        Refusal::Internal => "INTERNAL",
    }
}

/// The status word of a fault of HTTP: this route knows no 405 and no 415.
const fn word_of_fault(fault: &Fault) -> &'static str {
    match fault {
        Fault::Refused(refusal) => word(refusal),
        Fault::BadRequest(_)
        | Fault::MethodNotAllowed(_)
        | Fault::UnsupportedMediaType(_)
        | Fault::UnsupportedEncoding
        | Fault::UriTooLong
        | Fault::HeadersTooLarge
        | Fault::UpgradeRequired
        | Fault::ExpectationFailed => "INVALID_ARGUMENT",
        Fault::ForeignOrigin | Fault::NotAdmin => "PERMISSION_DENIED",
        Fault::ReplayRuns => "ABORTED",
        Fault::NotFound => "NOT_FOUND",
        Fault::Timeout => "DEADLINE_EXCEEDED",
        Fault::Gone => "CANCELLED",
    }
}

/// The message: Firebase's own words where the protocol has some, else ours.
fn message(fault: &Fault) -> String {
    match fault {
        Fault::Refused(Refusal::Unauthenticated) => "Unauthenticated".to_owned(),
        Fault::Refused(Refusal::Malformed { .. }) => "Bad Request".to_owned(),
        Fault::Refused(Refusal::Internal) => "INTERNAL".to_owned(),
        Fault::Refused(refusal) => refusal.to_string(),
        Fault::Timeout => "the request did not come in time".to_owned(),
        Fault::NotFound => "Not Found".to_owned(),
        Fault::BadRequest(_)
        | Fault::MethodNotAllowed(_)
        | Fault::UnsupportedMediaType(_)
        | Fault::UnsupportedEncoding
        | Fault::UriTooLong
        | Fault::HeadersTooLarge
        | Fault::UpgradeRequired
        | Fault::ForeignOrigin
        | Fault::NotAdmin
        | Fault::ReplayRuns
        | Fault::ExpectationFailed
        | Fault::Gone => "Bad Request".to_owned(),
    }
}

/// What programs read of it, with what people may want to know of a "Bad Request".
fn details(fault: &Fault) -> Option<Details> {
    match fault {
        Fault::Refused(Refusal::Unauthenticated | Refusal::Internal) => None,
        Fault::Refused(refusal @ Refusal::Malformed { message, .. }) => {
            Some(Details { facts: Facts::of(refusal), reason: Some(message.clone()) })
        }
        Fault::Refused(refusal) => Some(Details { facts: Facts::of(refusal), reason: None }),
        _ => None,
    }
}

/// The HTTP status of a word.
fn status(word: &str) -> StatusCode {
    let row = STATUSES.iter().find(|(own, _)| *own == word);
    row.and_then(|(_, code)| StatusCode::from_u16(*code).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Whether the client called `.stream()`: it reads server-sent events.
pub fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().flat_map(|value| value.to_str().unwrap_or_default().split(','));
    accepted.filter_map(|range| range.split(';').next()).any(|media_type| media_type.trim().eq_ignore_ascii_case(EVENT_STREAM))
}

/// The answer to a call.
pub fn answer(outcome: &Result<Receipt, Fault>, stream: bool) -> Answer {
    let (code, body) = match outcome {
        Ok(receipt) => {
            let result = Accepted::of(receipt);
            (StatusCode::OK, Body::Result(Success { message: "Event accepted", result }))
        }
        Err(fault) => {
            let status_word = word_of_fault(fault);
            (status(status_word), Body::Error(Failure { status: status_word, message: message(fault), details: details(fault) }))
        }
    };
    let text = serde_json::to_string(&body).expect("our own answers have text for keys");
    let mut answer = if stream { event_stream(&text) } else { reply::json(code, text) };
    if let Err(fault) = outcome {
        reply::write_fault(fault, answer.headers_mut());
    }
    answer
}

/// One event, and the end of the stream. Its status is 200 also for errors: the SDK reads the event.
fn event_stream(text: &str) -> Answer {
    let mut answer = reply::json(StatusCode::OK, format!("data: {text}\n\n"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a> {
    Result(Success<'a>),
    Error(Failure),
}

#[derive(Serialize)]
struct Success<'a> {
    message: &'static str,
    #[serde(flatten)]
    result: Accepted<'a>,
}

#[derive(Serialize)]
struct Failure {
    status: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Serialize)]
struct Details {
    #[serde(flatten)]
    facts: Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, Topic};
    use crate::receipt::{Doubt, Position, Quota, Tier};
    use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn text(answer: Answer) -> String {
        let collected = futures_util::FutureExt::now_or_never(answer.into_body().collect()).expect("a full body").expect("infallible");
        String::from_utf8(collected.to_bytes().to_vec()).expect("UTF-8")
    }

    fn error(fault: Fault) -> (u16, Value) {
        let answer = answer(&Err(fault), false);
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&text(answer)).expect("JSON");
        (status, body["error"].clone())
    }

    fn receipt() -> Receipt {
        let tier = Tier::Broker { partition: 1, offset: 2 };
        Receipt { id: EventId::restore("id-1"), topic: Topic::new("frontend-events").expect("a topic"), tier }
    }

    fn throttled() -> Refusal {
        Refusal::Throttled { wait: Duration::from_millis(1500), quota: Quota { unit: "events", per_second: 1.0, burst: 60 } }
    }

    #[test]
    fn success_is_200_with_a_result() {
        let mut stored = receipt();
        stored.tier = Tier::Inbox { name: "doc".to_owned() };
        let answer = answer(&Ok(stored), false);
        assert_eq!((answer.status().as_u16(), answer.headers()[CONTENT_TYPE].as_bytes()), (200, &b"application/json"[..]));
        let body: Value = serde_json::from_str(&text(answer)).expect("JSON");
        let expected = json!({"message": "Event accepted", "id": "id-1", "status": "accepted", "tier": "inbox", "topic": "frontend-events", "document": "doc"});
        assert_eq!(body, json!({ "result": expected }));
    }

    #[test]
    fn every_refusal_has_a_word_and_the_words_status() {
        let wait = Duration::from_millis(250);
        for (refusal, code, word, message) in [
            (Refusal::Unauthenticated, 401, "UNAUTHENTICATED", Some("Unauthenticated")),
            (Refusal::Denied { topic: "x".to_owned() }, 403, "PERMISSION_DENIED", None),
            (Refusal::malformed("no JSON"), 400, "INVALID_ARGUMENT", Some("Bad Request")),
            (Refusal::invalid("action", "missing"), 400, "INVALID_ARGUMENT", Some("missing")),
            (Refusal::TooLarge { what: "the body", actual: 2, limit: 1 }, 400, "INVALID_ARGUMENT", None),
            (throttled(), 429, "RESOURCE_EXHAUSTED", None),
            (Refusal::Overloaded { what: "bytes in flight", wait }, 503, "UNAVAILABLE", None),
            (Refusal::Unavailable { wait, doubt: Doubt::MaybeDelivered }, 503, "UNAVAILABLE", None),
            (Refusal::Internal, 500, "INTERNAL", Some("INTERNAL")),
        ] {
            let (status, body) = error(Fault::Refused(refusal.clone()));
            assert_eq!((status, &body["status"]), (code, &json!(word)));
            assert_eq!(body["message"], message.map_or_else(|| refusal.to_string(), str::to_owned));
            let wait = refusal.retry_after().map(|wait| wait.as_millis() as u64);
            assert_eq!(body["details"]["retry_after_ms"].as_u64(), wait);
        }
        let place = Position { offset: 8, line: 1, column: 9 };
        let (_, body) = error(Fault::Refused(Refusal::Malformed { message: "no JSON".to_owned(), position: Some(place) }));
        assert_eq!(body["details"], json!({"code": "malformed", "position": {"offset": 8, "line": 1, "column": 9}, "reason": "no JSON"}));
    }

    #[test]
    fn what_is_not_the_protocol_is_a_bad_request_and_never_405_or_415() {
        for fault in [Fault::MethodNotAllowed("POST, OPTIONS"), Fault::UnsupportedMediaType("application/json"), Fault::UnsupportedEncoding]
        {
            assert_eq!(error(fault), (400, json!({"status": "INVALID_ARGUMENT", "message": "Bad Request"})));
        }
        assert_eq!(error(Fault::Timeout).0, 504);
        assert_eq!(error(Fault::Gone).0, 499);
        assert_eq!(answer(&Err(Fault::Timeout), false).headers()[CONNECTION], "close");
    }

    #[test]
    fn the_heads_manners_are_those_of_every_http_answer() {
        let answer = answer(&Err(throttled().into()), false);
        assert_eq!(
            (&answer.headers()[RETRY_AFTER], &answer.headers()["ratelimit"]),
            (&HeaderValue::from(2), &HeaderValue::from_static("\"events\";r=0;t=2"))
        );
        assert_eq!(super::answer(&Err(Refusal::Unauthenticated.into()), false).headers()[WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn a_stream_is_one_event_and_a_blank_line() {
        let good = answer(&Ok(receipt()), true);
        assert_eq!((good.status().as_u16(), good.headers()[CONTENT_TYPE].as_bytes()), (200, &b"text/event-stream"[..]));
        let good = text(good);
        assert!(good.starts_with("data: {\"result\":{") && good.ends_with("}}\n\n"), "{good}");
        let bad = answer(&Err(Refusal::Unauthenticated.into()), true);
        assert_eq!(bad.status(), 200);
        assert_eq!(text(bad), "data: {\"error\":{\"status\":\"UNAUTHENTICATED\",\"message\":\"Unauthenticated\"}}\n\n");
        let accept = |text: &'static str| wants_stream(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))]));
        assert!(accept("text/event-stream") && accept("application/json, Text/Event-Stream;q=0.9"));
        assert!(!accept("*/*") && !accept("application/json") && !wants_stream(&HeaderMap::new()));
    }

    #[test]
    fn the_table_is_firebases() {
        let text: Vec<_> = STATUSES.iter().map(|(word, code)| format!("{word} {code}")).collect();
        assert_eq!(
            text.join(", "),
            "INVALID_ARGUMENT 400, FAILED_PRECONDITION 400, OUT_OF_RANGE 400, UNAUTHENTICATED 401, PERMISSION_DENIED 403, NOT_FOUND 404, \
             ABORTED 409, ALREADY_EXISTS 409, RESOURCE_EXHAUSTED 429, CANCELLED 499, INTERNAL 500, UNKNOWN 500, DATA_LOSS 500, \
             UNIMPLEMENTED 501, UNAVAILABLE 503, DEADLINE_EXCEEDED 504"
        );
        for (word, code) in STATUSES {
            assert_eq!(status(word).as_u16(), code);
        }
    }
}
