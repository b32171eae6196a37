//! Bodies, and the events in them.

use super::*;
use http::HeaderValue;

type Decoded = Result<Vec<Result<Event, Refusal>>, Refusal>;

fn config() -> Config {
    Config { default_topic: "default".to_owned(), bare_topics: vec!["bare".to_owned()], ..Config::default() }
}

fn decode_as(form: Form, path: Option<&str>, body: &str) -> Decoded {
    let config = config();
    decode(&Bytes::copy_from_slice(body.as_bytes()), form, &Given { path, query: None, id: None, config: &config })
}

fn json(body: &str) -> Decoded {
    decode_as(Form::Json, None, body)
}

fn one(body: &str) -> Event {
    json(body).expect(body).remove(0).expect(body)
}

fn field_at_fault(body: &str) -> Option<String> {
    match json(body).expect(body).remove(0).expect_err(body) {
        Refusal::Invalid { field, .. } => field,
        other => panic!("{body}: {other:?}"),
    }
}

fn place_of_fault(decoded: Decoded) -> (u64, u64, u64) {
    match decoded.expect_err("malformed") {
        Refusal::Malformed { position: Some(position), .. } => (position.offset, position.line, position.column),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_has_all_that_its_sender_said_and_the_bytes_as_they_came() {
    let event =
        one(r#" {"topic":"ord\u0065rs","id":"k-1","key":"ключ","headers":{"a":"1","b":"\n","a":"2"},"time":"2026-07-01T12:00:00.5+02:00",
            "data": {"n": 1.0e2 , "n":12345678901234567890123}} "#);
    assert_eq!(event.topic.as_str(), "orders");
    assert_eq!(event.client_key, ClientKey::new("k-1").ok());
    assert_eq!(event.key.as_deref(), Some("ключ".as_bytes()));
    let headers: Vec<_> = event.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
    assert_eq!(headers, [("a", &b"1"[..]), ("b", b"\n"), ("a", b"2")]);
    assert_eq!(event.time, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_782_900_000_500)));
    assert_eq!(event.value, r#"{"n": 1.0e2 , "n":12345678901234567890123}"#);
}

#[test]
fn what_is_not_said_is_left_to_the_route() {
    let event = one(r#"{"data":null,"id":null,"key":null,"headers":null,"time":null,"topic":null}"#);
    assert_eq!(event.topic.as_str(), "default");
    assert_eq!((event.client_key, event.key, event.time, event.headers.len()), (None, None, None, 0));
    assert_eq!(event.value, "null");
    assert_eq!(one(r#"{"data":1,"time":1782900000500}"#).time, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_782_900_000_500)));
    assert_eq!(one(r#"{"data":1,"key":""}"#).key.as_deref(), Some(&b""[..]));
}

#[test]
fn a_field_that_is_wrong_refuses_its_event_and_names_itself() {
    for (body, field) in [
        (r#"{}"#, "data"),
        (r#"{"topic":"a"}"#, "data"),
        (r#"{"data":1,"topic":1}"#, "topic"),
        (r#"{"data":1,"id":1}"#, "id"),
        (r#"{"data":1,"id":""}"#, "id"),
        (r#"{"data":1,"id":"a b"}"#, "id"),
        (r#"{"data":1,"id":"a\nb"}"#, "id"),
        (r#"{"data":1,"key":1}"#, "key"),
        (r#"{"data":1,"headers":[]}"#, "headers"),
        (r#"{"data":1,"headers":{"a":1}}"#, "headers"),
        (r#"{"data":1,"headers":{"":"1"}}"#, "headers"),
        (r#"{"data":1,"headers":{"a\r\nb":"1"}}"#, "headers"),
        (r#"{"data":1,"time":"yesterday"}"#, "time"),
        (r#"{"data":1,"time":1.5}"#, "time"),
        (r#"{"data":1,"time":-1}"#, "time"),
        (r#"{"data":1,"time":"1969-12-31T23:59:59Z"}"#, "time"),
        (r#"{"data":1,"time":253402300800000}"#, "time"),
        (r#"{"data":1,"time":true}"#, "time"),
        (r#"{"data":1,"Topic":"a"}"#, "Topic"),
        (r#"{"data":1,"\u001b[31m\r\n":"a"}"#, "\\u{1b}[31m\\u{d}\\u{a}"),
    ] {
        assert_eq!(field_at_fault(body).as_deref(), Some(field), "{body}");
    }
    let many: Vec<_> = (0..=MAX_HEADERS).map(|n| format!("\"{n}\":\"\"")).collect();
    assert_eq!(field_at_fault(&format!(r#"{{"data":1,"headers":{{{}}}}}"#, many.join(","))).as_deref(), Some("headers"));
    assert_eq!(field_at_fault("17"), None);
}

#[test]
fn one_bad_event_does_not_take_the_good_ones_with_it() {
    let results = json(r#"[{"data":1},{"data":2,"x":0},3,{"data":4,"topic":"__consumer_offsets"},{"data":5}]"#).expect("JSON");
    let codes: Vec<_> = results.iter().map(|result| result.as_ref().map_or_else(Refusal::code, |_| "good")).collect();
    assert_eq!(codes, ["good", "invalid", "invalid", "denied", "good"]);
}

#[test]
fn a_name_that_cannot_be_a_topic_is_refused_like_one_that_is_not_granted() {
    let long = "x".repeat(250);
    for name in ["../x", "__consumer_offsets", &long, "", "a\\nb\\u001b[2J"] {
        let refusal = json(&format!(r#"{{"data":1,"topic":"{name}"}}"#)).expect("JSON").remove(0).expect_err(name);
        assert!(matches!(&refusal, Refusal::Denied { topic } if !topic.contains(char::is_control)), "{refusal:?}");
    }
    let huge = "x".repeat(1_000_000);
    let refusal = decode_as(Form::Json, Some(&huge), r#"{"data":1}"#).expect("JSON").remove(0).expect_err("too long");
    assert!(refusal.to_string().len() < 1000);
}

#[test]
fn bytes_that_are_not_json_refuse_the_whole_request_with_their_place() {
    assert_eq!(place_of_fault(json("")), (0, 1, 1));
    assert_eq!(place_of_fault(json("[{\"data\":1},\n{\"data\":}]")), (21, 2, 9));
    assert_eq!(place_of_fault(json("{\"data\":1} x")), (11, 1, 12));
    assert_eq!(place_of_fault(json("{\"data\":1,\n\"d\\u0061ta\":2}")), (11, 2, 1));
    assert_eq!(place_of_fault(json("{\"topic\":\"a\",\"topic\":\"a\",\"data\":2}")), (13, 1, 14));
    assert_eq!(place_of_fault(decode_as(Form::Lines, None, "{\"data\":1}\n{\"data\":\n2}")), (19, 2, 9));
    assert_eq!(place_of_fault(decode_as(Form::Lines, None, "{\"data\":1}{\"data\":2}")), (10, 1, 11));
}

#[test]
fn lines_are_events_and_blank_lines_are_not() {
    let results = decode_as(Form::Lines, None, "{\"data\":1}\r\n\n  \n{\"data\":2}\n7\n").expect("lines");
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(decode_as(Form::Lines, None, "").expect("none").len(), 0);
    assert_eq!(json(" [ ] ").expect("none").len(), 0);
}

#[test]
fn the_topic_comes_from_the_path_the_event_the_query_or_the_default_in_this_order() {
    let config = config();
    let topic = |path, query, body: &'static str| {
        let given = Given { path, query, id: None, config: &config };
        decode(&Bytes::from_static(body.as_bytes()), Form::Json, &given).expect("JSON").remove(0).map(|event| event.topic.to_string())
    };
    let plain = r#"{"data":1}"#;
    let named = r#"{"data":1,"topic":"own"}"#;
    assert_eq!(topic(None, None, plain).as_deref(), Ok("default"));
    assert_eq!(topic(None, Some("query"), plain).as_deref(), Ok("query"));
    assert_eq!(topic(None, Some("query"), named).as_deref(), Ok("own"));
    assert_eq!(topic(Some("own"), None, named).as_deref(), Ok("own"));
    assert_eq!(topic(Some("path"), None, plain).as_deref(), Ok("path"));
    assert_eq!(topic(Some("path"), None, named).expect_err("two topics").code(), "invalid");
    let none = Config::default();
    let given = Given { path: None, query: None, id: None, config: &none };
    let refused = decode(&Bytes::from_static(plain.as_bytes()), Form::Json, &given).expect("JSON").remove(0);
    assert!(matches!(refused, Err(Refusal::Invalid { field: Some(field), .. }) if field == "topic"));
}

#[test]
fn a_bare_body_is_its_own_data_where_the_topic_says_so() {
    let body = r#"{"url":"x", "topic":"y", "topic":1}"#;
    let bare = decode_as(Form::Json, Some("bare"), body).expect("JSON").remove(0).expect("bare");
    assert_eq!((bare.topic.as_str(), bare.value.as_ref()), ("bare", body.as_bytes()));
    let full = decode_as(Form::Json, Some("bare"), r#"{"data":{"url":"x"}}"#).expect("JSON").remove(0).expect("full");
    assert_eq!(full.value, r#"{"url":"x"}"#);
    let mixed = decode_as(Form::Json, Some("bare"), r#"[1,{"data":2},{"a":3}]"#).expect("JSON");
    let values: Vec<_> = mixed.into_iter().map(|event| event.expect("good").value).collect();
    assert_eq!(values, ["1", "2", r#"{"a":3}"#]);
    assert!(decode_as(Form::Json, Some("other"), body).is_err(), "elsewhere a field given twice is a fault");
}

#[test]
fn an_idempotency_key_is_the_id_of_a_single_event() {
    let config = config();
    let with = |body: &'static str| {
        let given = Given { path: None, query: None, id: ClientKey::new("key-1").ok(), config: &config };
        decode(&Bytes::from_static(body.as_bytes()), Form::Json, &given)
    };
    assert_eq!(with(r#"{"data":1}"#).expect("one").remove(0).expect("good").client_key, ClientKey::new("key-1").ok());
    assert!(with(r#"{"data":1,"id":"key-1"}"#).expect("one").remove(0).is_ok());
    assert_eq!(with(r#"{"data":1,"id":"key-2"}"#).expect("one").remove(0).expect_err("differs").code(), "invalid");
    assert_eq!(with(r#"[{"data":1}]"#).expect_err("an array").code(), "malformed");

    let header = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
        }
        idempotency_key(&headers)
    };
    assert_eq!(header(&[]), Ok(None));
    assert_eq!(header(&["k"]), Ok(ClientKey::new("k").ok()));
    assert_eq!(header(&["\"k\""]), Ok(ClientKey::new("k").ok()));
    for bad in [&["a", "a"][..], &[""], &["a b"], &["\"\""]] {
        assert_eq!(header(bad).expect_err("bad").code(), "malformed");
    }
}

#[test]
fn more_events_than_allowed_are_counted_and_refused() {
    let body = format!("[{}{{}}]", "{},".repeat(10_000));
    let refusal = json(&body).expect_err("too many");
    assert_eq!(refusal, Refusal::TooLarge { what: "the number of events in one request", actual: 10_001, limit: 10_000 });
    assert_eq!(json(&format!("[{}{{}}]", "{},".repeat(9_999))).expect("fits").len(), 10_000);
    assert_eq!(json(&format!("[{}x]", "{},".repeat(10_001))).expect_err("a fault behind the bound").code(), "malformed");
    assert_eq!(json(&format!("[{}0]", "0,".repeat(999_999))).expect_err("a million elements").code(), "malformed");
}

#[test]
fn the_media_type_decides_the_form() {
    let form = |text: &'static str| Form::of(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]));
    assert_eq!(form("application/json"), Ok(Form::Json));
    assert_eq!(form("Application/JSON; charset=\"UTF-8\""), Ok(Form::Json));
    assert_eq!(form("application/x-ndjson"), Ok(Form::Lines));
    for bad in ["", "text/plain", "application/json; charset=latin1", "application/jsonx", "application/x-www-form-urlencoded"] {
        assert!(matches!(form(bad), Err(Fault::UnsupportedMediaType(_))), "{bad}");
    }
    assert!(Form::of(&HeaderMap::new()).is_err());
}

#[test]
fn mutated_bodies_never_break_a_decoder_and_what_is_taken_is_json() {
    let config = config();
    let given = Given { path: None, query: None, id: None, config: &config };
    let topic = Topic::new("calls").expect("a topic");
    let bodies = [
        r#"[{"data":{"a":[1,-2.5e3,"\ud83d\ude00\n"]},"headers":{"h\u0041":"v"},"time":"2026-07-01T12:00:00Z","key":"k","id":"i"},{"data":null}]"#,
        r#"{"data":{"n":{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"12"},"idempotency_key":"0123456789abcdef"}}"#,
    ];
    let mut seed = 3_u64;
    let mut next = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % bound
    };
    for round in 0..60_000 {
        let mut body = bodies[round % 2].as_bytes().to_vec();
        for _ in 0..=next(3) {
            let place = next(body.len());
            match next(4) {
                0 => body[place] = next(256) as u8,
                1 if body.len() > 1 => drop(body.remove(place)),
                2 => body.insert(place, b"{}[],:\"\\0e-u\n "[next(14)]),
                _ => body.truncate(place.max(1)),
            }
        }
        let body = Bytes::from(body);
        for form in [Form::Json, Form::Lines] {
            for event in decode(&body, form, &given).into_iter().flatten().flatten() {
                assert!(serde_json::from_slice::<serde_json::Value>(&event.value).is_ok());
            }
        }
        if let Ok(event) = super::super::callable::decode(&body, &topic) {
            assert!(serde_json::from_slice::<serde_json::Value>(&event.value).is_ok());
        }
    }
}
