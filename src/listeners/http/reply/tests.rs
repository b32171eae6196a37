//! Outcomes and faults, and what a client reads of them.

use super::*;
use crate::event::{EventId, Topic};
use crate::receipt::Position;
use http_body_util::BodyExt;
use serde_json::{Value, json};

fn receipt(tier: Tier) -> Result<Receipt, Refusal> {
    Ok(Receipt { id: EventId::restore("id-1"), topic: Topic::new("orders").expect("a topic"), tier })
}

fn in_broker() -> Result<Receipt, Refusal> {
    receipt(Tier::Broker { partition: 3, offset: 42 })
}

fn in_inbox() -> Result<Receipt, Refusal> {
    receipt(Tier::Inbox { name: "doc".to_owned() })
}

fn throttled(millis: u64) -> Refusal {
    Refusal::Throttled { wait: Duration::from_millis(millis), quota: Quota { unit: "events", per_second: 10.0, burst: 25 } }
}

fn unavailable(doubt: Doubt) -> Refusal {
    Refusal::Unavailable { wait: Duration::from_micros(1_500_100), doubt }
}

pub(super) fn body(answer: Answer) -> Value {
    let collected = futures_util::FutureExt::now_or_never(answer.into_body().collect()).expect("a full body").expect("infallible");
    serde_json::from_slice(&collected.to_bytes()).expect("JSON")
}

fn answered(outcomes: &[Result<Receipt, Refusal>]) -> (u16, Value) {
    let answer = results(outcomes, "req-1");
    (answer.status().as_u16(), body(answer))
}

#[test]
fn each_accepted_event_says_where_it_is() {
    let (status, body) = answered(&[in_broker(), in_broker()]);
    let one = json!({"id": "id-1", "status": "accepted", "tier": "broker", "topic": "orders", "partition": 3, "offset": 42});
    assert_eq!((status, body), (200, json!({"accepted": 2, "rejected": 0, "results": [one, one]})));
    let (status, body) = answered(&[in_broker(), in_inbox()]);
    assert_eq!(status, 202);
    assert_eq!(body["results"][1], json!({"id": "id-1", "status": "accepted", "tier": "inbox", "topic": "orders", "document": "doc"}));
    assert_eq!(answered(&[]), (200, json!({"accepted": 0, "rejected": 0, "results": []})));
}

#[test]
fn a_2xx_never_hides_a_refused_event() {
    let denied = Refusal::Denied { topic: "x".to_owned() };
    let (status, body) = answered(&[in_broker(), Err(denied.clone()), in_inbox(), Err(throttled(1500))]);
    assert_eq!((status, &body["accepted"], &body["rejected"]), (207, &json!(2), &json!(2)));
    assert_eq!((&body["results"][1]["status"], &body["results"][1]["code"]), (&json!("rejected"), &json!("denied")));
    assert_eq!(body["results"][1].get("retryable"), None);
    assert_eq!((&body["results"][3]["retryable"], &body["results"][3]["retry_after_ms"]), (&json!(true), &json!(1500)));
    assert_eq!(answered(&[Err(denied), Err(throttled(1))]).0, 207, "refused for different reasons");
}

#[test]
fn events_that_are_all_refused_alike_have_the_refusals_own_status_and_still_their_results() {
    let answer = results(&[Err(throttled(1500)), Err(throttled(2001))], "req-1");
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(answer.headers()[RETRY_AFTER], "3");
    assert_eq!(answer.headers()[RATE_LIMIT_POLICY], "\"events\";q=25;w=3");
    assert_eq!(answer.headers()[RATE_LIMIT], "\"events\";r=0;t=3");
    let body = body(answer);
    assert_eq!((&body["code"], &body["status"], &body["title"]), (&json!("throttled"), &json!(429), &json!("Too Many Requests")));
    assert_eq!((&body["request_id"], &body["quota"], &body["retry_after_ms"]), (&json!("req-1"), &json!("events"), &json!(2001)));
    assert_eq!((&body["accepted"], &body["rejected"], body["results"].as_array().map(Vec::len)), (&json!(0), &json!(2), Some(2)));
}

#[test]
fn every_refusal_has_its_status() {
    let large = Refusal::TooLarge { what: "the body", actual: 9, limit: 8 };
    let overloaded = Refusal::Overloaded { what: "bytes in flight", wait: Duration::ZERO };
    for (refusal, expected) in [
        (Refusal::Unauthenticated, 401),
        (Refusal::Denied { topic: "x".to_owned() }, 403),
        (Refusal::malformed("no JSON"), 400),
        (Refusal::invalid("id", "too long"), 422),
        (large, 413),
        (throttled(1), 429),
        (overloaded, 503),
        (unavailable(Doubt::NotStored), 503),
        (Refusal::Internal, 500),
    ] {
        let answer = fault(&Fault::Refused(refusal.clone()), "req-1");
        assert_eq!(answer.status().as_u16(), expected);
        assert_eq!(answer.headers().contains_key(RETRY_AFTER), refusal.retry_after().is_some());
        let body = body(answer);
        assert_eq!((&body["code"], &body["detail"]), (&json!(refusal.code()), &json!(refusal.to_string())));
        assert_eq!(answered(&[Err(refusal)]).0, expected);
    }
}

#[test]
fn a_refusal_says_what_a_program_needs_to_know() {
    let malformed = Refusal::Malformed { message: "x".to_owned(), position: Some(Position { offset: 9, line: 2, column: 3 }) };
    assert_eq!(answered(&[Err(malformed)]).1["position"], json!({"offset": 9, "line": 2, "column": 3}));
    assert_eq!(answered(&[Err(Refusal::invalid("time", "x"))]).1["field"], "time");
    let (_, body) = answered(&[Err(Refusal::TooLarge { what: "the body", actual: 9, limit: 8 })]);
    assert_eq!((&body["limit"], &body["actual"]), (&json!(8), &json!(9)));
    let (_, body) = answered(&[Err(unavailable(Doubt::MaybeDelivered))]);
    assert_eq!((&body["maybe_delivered"], &body["retry_after_ms"]), (&json!(true), &json!(1501)));
    assert_eq!(answered(&[Err(unavailable(Doubt::NotStored))]).1["maybe_delivered"], json!(false));
}

#[test]
fn all_of_401_is_the_same() {
    let one = fault(&Fault::Refused(Refusal::Unauthenticated), "req-1");
    let other = results(&[Err(Refusal::Unauthenticated)], "req-2");
    assert_eq!(one.headers()[WWW_AUTHENTICATE], "Bearer");
    assert_eq!(one.headers(), other.headers());
    assert!(body(one).get("request_id").is_none());
}

#[test]
fn every_fault_has_its_status_and_its_header() {
    let close = (CONNECTION, "close");
    for (value, status, code, header) in [
        (Fault::BadRequest("two hosts"), 400, "bad_request", Some(close.clone())),
        (Fault::NotFound, 404, "not_found", None),
        (Fault::NotAdmin, 403, "denied", None),
        (Fault::ReplayRuns, 409, "replay_runs", Some((RETRY_AFTER, "20"))),
        (Fault::MethodNotAllowed("POST, OPTIONS"), 405, "method_not_allowed", Some((ALLOW, "POST, OPTIONS"))),
        (Fault::UnsupportedMediaType("application/json"), 415, "unsupported_media_type", Some((ACCEPT, "application/json"))),
        (Fault::UnsupportedEncoding, 415, "unsupported_encoding", Some((ACCEPT_ENCODING, "gzip, zstd, br, deflate"))),
        (Fault::Timeout, 408, "timeout", Some(close.clone())),
        (Fault::UriTooLong, 414, "uri_too_long", Some(close.clone())),
        (Fault::HeadersTooLarge, 431, "headers_too_large", Some(close.clone())),
        (Fault::ExpectationFailed, 417, "expectation_failed", Some(close.clone())),
        (Fault::Gone, 400, "gone", Some(close.clone())),
    ] {
        let answer = fault(&value, "req-1");
        assert_eq!(answer.status().as_u16(), status, "{value:?}");
        if let Some((name, text)) = header {
            assert_eq!(answer.headers()[name], text, "{value:?}");
        }
        let body = body(answer);
        assert_eq!((&body["code"], &body["status"], &body["request_id"]), (&json!(code), &json!(status), &json!("req-1")));
    }
}

#[test]
fn what_a_sender_wrote_cannot_break_a_line_of_the_answer() {
    let refusal = Refusal::Denied { topic: "a\r\nSet-Cookie: x\u{1b}[31m\0".to_owned() };
    let answer = fault(&Fault::Refused(refusal), "req-1");
    let collected = futures_util::FutureExt::now_or_never(answer.into_body().collect()).expect("a full body").expect("infallible");
    assert!(collected.to_bytes().iter().all(|b| (0x20..0x7f).contains(b)));
}

#[test]
fn the_kib_quota_is_told_in_bytes_and_waits_are_never_rounded_down() {
    let mut headers = HeaderMap::new();
    write_quota(Quota { unit: "kib", per_second: 0.5, burst: 2 }, Duration::from_nanos(1), &mut headers);
    assert_eq!(headers[RATE_LIMIT_POLICY], "\"kib\";q=2048;w=4;qu=\"content-bytes\"");
    assert_eq!(headers[RATE_LIMIT], "\"kib\";r=0;t=1");
    assert_eq!((whole_seconds(Duration::ZERO), whole_seconds(Duration::from_millis(1001))), (1, 2));
    assert_eq!((whole_millis(Duration::ZERO), whole_millis(Duration::from_micros(1001))), (1, 2));
}
