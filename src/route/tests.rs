//! The table of routes, held against the platform's contracts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::auth::grants::Grants;
use crate::auth::{Principal, authorize};
use crate::event::{ClientKey, Door};

mod holds;

fn principal() -> Principal {
    Principal::for_tests("firebase", "uid-1", Grants::new(["*".parse().expect("a grant")]))
}

fn origin() -> Origin {
    Origin {
        door: Door::Callable,
        arrived: UNIX_EPOCH + Duration::from_millis(1_782_907_200_123),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}

fn event(topic: &str, value: &str) -> Event {
    Event {
        topic: Topic::new(topic).expect("a topic"),
        client_key: None,
        partition: None,
        items: 1,
        key: None,
        headers: Vec::new(),
        time: None,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn table(shape: Shape) -> Table {
    Table::new(Config::default(), vec![RouteConfig { topic: "t".parse().expect("a grant"), shape, ..RouteConfig::default() }])
}

fn route(shape: Shape, bounds: Bounds, event: Event) -> Result<Routed, Refusal> {
    let permit = authorize(&principal(), &event.topic).expect("granted");
    table(shape).route(permit, &bounds, &origin(), vec![event]).pop().expect("one result for one event")
}

fn header<'a>(routed: &'a Routed, name: &str) -> Vec<&'a Bytes> {
    routed.headers().iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect()
}

#[test]
fn a_raw_record_is_the_senders_bytes_with_the_gates_headers_once() {
    let mut sent = event("t", "{ \"n\": 1.50 }");
    sent.headers.push(("mine".into(), Bytes::from_static(b"x")));
    sent.client_key = Some(ClientKey::new("order-1").expect("a key"));
    let routed = route(Shape::Raw, Bounds::default(), sent).expect("routed");
    assert_eq!(routed.value(), "{ \"n\": 1.50 }");
    assert_eq!(routed.id().as_str(), format!("{}.order-1", principal().hash()));
    assert_eq!(header(&routed, "x-deml-event-id"), [routed.id().as_str()]);
    assert_eq!(header(&routed, "x-deml-principal"), ["firebase:uid-1"]);
    assert_eq!(header(&routed, "x-deml-source"), ["callable"]);
    assert_eq!(header(&routed, "traceparent").len(), 1);
    assert_eq!(header(&routed, "mine"), ["x"]);
}

#[test]
fn a_senders_header_cannot_stand_in_for_the_gates() {
    let mut sent = event("t", "1");
    sent.headers.push(("x-deml-principal".into(), Bytes::from_static(b"somebody")));
    assert_eq!(route(Shape::Raw, Bounds::default(), sent).expect_err("refused").code(), "invalid");
}

#[test]
fn a_command_is_the_platforms_value_field_by_field() {
    let routed = route(Shape::Command, Bounds::default(), event("t", r#"{"action":"get_stats","n":1e2}"#)).expect("routed");
    let text = std::str::from_utf8(routed.value()).expect("UTF-8");
    let expected = format!(
        r#"{{"uid":"uid-1","timestamp":"2026-07-01T12:00:00.123Z","idempotency_key":"{}","version":"1.0","payload":{{"action":"get_stats","n":1e2}}}}"#,
        routed.id()
    );
    assert_eq!(text, expected);
    assert_eq!(routed.key().expect("a key"), "uid-1");
}

#[test]
fn a_commands_idempotency_key_is_taken_from_where_the_platform_says() {
    for data in [
        r#"{"action":"a","idempotency_key":"0123456789abcdef"}"#,
        r#"{"action":"a","payload":{"idempotency_key":"0123456789abcdef"}}"#,
        r#"{"action":"a","idempotency_key":"0123456789abcdef","payload":{"idempotency_key":"another-one-that-loses"}}"#,
    ] {
        let routed = route(Shape::Command, Bounds::default(), event("t", data)).expect("routed");
        let value: Value = serde_json::from_slice(routed.value()).expect("JSON");
        assert_eq!(value["idempotency_key"], "0123456789abcdef");
        assert_eq!(routed.id().as_str(), format!("{}.0123456789abcdef", principal().hash()));
    }
}

#[test]
fn what_the_worker_would_refuse_is_refused_here() {
    for data in [
        "null",
        "[]",
        "\"x\"",
        "{}",
        r#"{"action":""}"#,
        r#"{"action":1}"#,
        r#"{"action":"a","idempotency_key":"short"}"#,
        r#"{"action":"a","idempotency_key":17}"#,
        r#"{"action":"a","idempotency_key":"-starts-with-a-dash"}"#,
        r#"{"action":"a","payload":{"idempotency_key":"no spaces in here"}}"#,
    ] {
        assert_eq!(route(Shape::Command, Bounds::default(), event("t", data)).expect_err(data).code(), "invalid", "{data}");
    }
}

#[test]
fn telemetry_has_its_key_its_headers_and_seconds() {
    let posted = r#"{"url":"https://x","account_id":"acc","response_time_ms":1500,"a":1,"a":2}"#;
    let routed = route(Shape::Telemetry, Bounds::default(), event("t", posted)).expect("routed");
    assert_eq!(routed.value(), r#"{"url":"https://x","account_id":"acc","response_time_ms":1500,"a":2,"response_time":1.5}"#);
    assert_eq!(routed.key().expect("a key"), "acc");
    assert_eq!(header(&routed, "ip"), ["127.0.0.1"]);
    for name in ["ip", "Source"] {
        let mut forged = event("t", posted);
        forged.headers.push((name.into(), Bytes::from_static(b"6.6.6.6")));
        assert_eq!(route(Shape::Telemetry, Bounds::default(), forged).expect_err("forged").code(), "invalid");
    }
    let long = format!(r#"{{"url":"{}"}}"#, "ü".repeat(300));
    let routed = route(Shape::Telemetry, Bounds::default(), event("t", &long)).expect("routed");
    assert_eq!(std::str::from_utf8(routed.key().expect("a key")).expect("UTF-8").chars().count(), 255);
}

#[test]
fn bounds_are_checked_before_anything_is_sent() {
    let small = Bounds { max_message_bytes: 200, ..Bounds::default() };
    assert_eq!(route(Shape::Raw, small, event("t", &"x".repeat(200))).expect_err("too large").code(), "too_large");
    let compacted = Bounds { compacted: true, ..Bounds::default() };
    assert_eq!(route(Shape::Raw, compacted, event("t", "1")).expect_err("no key").code(), "invalid");
    let mut late = event("t", "1");
    late.time = Some(origin().arrived - Duration::from_secs(2));
    let strict = Bounds { before_max_ms: 1_000, ..Bounds::default() };
    assert_eq!(route(Shape::Raw, strict, late.clone()).expect_err("too old").code(), "invalid");
    assert!(route(Shape::Raw, Bounds::default(), late).is_ok());
    let mut early = event("t", "1");
    early.time = Some(origin().arrived + Duration::from_secs(7_200));
    assert_eq!(route(Shape::Raw, Bounds::default(), early).expect_err("too new").code(), "invalid");
}

#[test]
fn one_event_has_one_document_and_two_payloads_have_two() {
    let keyed = |value| {
        let mut sent = event("t", value);
        sent.client_key = Some(ClientKey::new("k").expect("a key"));
        route(Shape::Raw, Bounds::default(), sent).expect("routed").name()
    };
    let mut other_key = event("t", "1");
    (other_key.client_key, other_key.key) = (ClientKey::new("k").ok(), Some(Bytes::from_static(b"other")));
    assert_ne!(route(Shape::Raw, Bounds::default(), other_key).expect("routed").name(), keyed("1"));
    assert_eq!(keyed("1"), keyed("1"));
    assert_ne!(keyed("1"), keyed("2"));
}

#[test]
fn a_topic_without_a_route_does_not_exist() {
    let event = event("other", "1");
    let permit = authorize(&principal(), &event.topic).expect("granted");
    let results = table(Shape::Raw).route(permit, &Bounds::default(), &origin(), vec![event]);
    assert!(matches!(results.as_slice(), [Err(Refusal::Denied { .. })]));
}

#[test]
fn a_time_before_1970_is_written_as_0() {
    assert_eq!(millis(UNIX_EPOCH - Duration::from_secs(1)), 0);
    assert!(millis(SystemTime::now()) > 0);
}

#[test]
fn what_a_topic_has_room_for_is_routed_with_the_headers_of_its_door() {
    let topic = Topic::new("t").expect("a topic");
    let bounds = Bounds { max_message_bytes: 2_000, ..Bounds::default() };
    let room = table(Shape::Raw).room(&topic, &bounds, &principal(), 100).expect("a row is for it");
    let sized = |size: u64| {
        let mut sent = event("t", &"x".repeat(usize::try_from(size).expect("small")));
        sent.headers.push(("x-of-the-door".into(), Bytes::from("y".repeat(77))));
        route(Shape::Raw, bounds, sent)
    };
    assert!(sized(room).is_ok());
    // All of it but the difference between this door's name and the longest.
    assert!(matches!(sized(room + 16), Err(Refusal::TooLarge { .. })));
    assert_eq!(table(Shape::Raw).room(&Topic::new("u").expect("a topic"), &bounds, &principal(), 0), None);
}

#[test]
fn a_wish_for_a_partition_goes_along() {
    let wished = Event { partition: Some(7), ..event("t", "1") };
    assert_eq!(route(Shape::Raw, Bounds::default(), wished).expect("routed").partition(), Some(7));
}
