//! What is refused, with its path and its place.

use std::time::Instant;

use super::*;
use crate::otlp::json::{MAX_DEPTH, MAX_GROWTH};

/// The fault, with its offset checked against where `at` stands in the text.
fn told(signal: Signal, json: &str, at: &str) -> String {
    let fault = bad(signal, json);
    let expected = json.find(at).expect("the place is in the text");
    assert_eq!(fault.offset, expected as u64, "{}: at {:?}", fault.what, &json[fault.offset as usize..]);
    fault.what
}

#[test]
fn a_fault_names_the_field_by_its_path() {
    let json = spans(&format!(r#"{{}},{{}},{{}},{{"traceId":"{}"}}"#, "0".repeat(30)));
    let expected = "resourceSpans[0].scopeSpans[0].spans[3].traceId: 32 hex digits expected, found 30";
    assert_eq!(told(Signal::Traces, &json, &format!("\"{}", "0".repeat(30))), expected);
}

#[test]
fn what_cannot_be_meant_is_refused_at_its_place() {
    for (members, at, what) in [
        (r#""spanId":"0011223344556677aa""#, r#""0011"#, "spanId: 16 hex digits expected, found 18"),
        (r#""spanId":"0011223344556g77""#, r#""0011"#, "spanId: 16 hex digits expected, found others"),
        (r#""traceId":"W47/95gDgQPSabYzgT/GDA==""#, r#""W47"#, "traceId: 32 hex digits expected, found 24"),
        (r#""traceId":5"#, "5", "traceId: 32 hex digits expected, found a number"),
        (r#""kind":"SERVER""#, r#""SERVER"#, "kind: an integer expected, found a string that is no name of a value"),
        (r#""kind":2147483648"#, "2147", "kind: a signed integer of 32 bits expected, found a larger one"),
        (r#""flags":-1"#, "-1", "flags: an unsigned integer of 32 bits expected, found a negative one"),
        (r#""flags":4294967296"#, "4294", "flags: an unsigned integer of 32 bits expected, found a larger one"),
        (r#""endTimeUnixNano":"-5""#, r#""-5"#, "endTimeUnixNano: an unsigned integer of 64 bits expected, found a negative one"),
        (r#""endTimeUnixNano":1e20"#, "1e20", "endTimeUnixNano: an unsigned integer of 64 bits expected, found a larger one"),
        (r#""endTimeUnixNano":1.5"#, "1.5", "endTimeUnixNano: an integer expected, found a fraction"),
        (r#""endTimeUnixNano":" 5""#, r#"" 5"#, "endTimeUnixNano: an integer expected, found a string that is none"),
        (r#""endTimeUnixNano":true"#, "true", "endTimeUnixNano: an integer expected, found a boolean"),
        (r#""name":5"#, "5", "name: a string expected, found a number"),
        (r#""attributes":{}"#, "{}}", "attributes: an array expected, found an object"),
        (r#""attributes":[{},null]"#, "null", "attributes[1]: an object expected, found null"),
        (r#""status":[]"#, "[]", "status: an object expected, found an array"),
        (r#""name":"a","name":"b""#, r#""b""#, "name: the same field a second time"),
        (r#""traceState":"a","trace_state":"b""#, r#""b""#, "traceState: the same field a second time"),
        (r#""status":{},"status":{}"#, "{}}]", "status: the same field a second time"),
        (r#""attributes":[{"value":{"boolValue":1}}]"#, "1}", "attributes[0].value.boolValue: a boolean expected, found a number"),
        (
            r#""attributes":[{"value":{"boolValue":"true"}}]"#,
            r#""true"#,
            "attributes[0].value.boolValue: a boolean expected, found a string",
        ),
        (
            r#""attributes":[{"value":{"doubleValue":"nan"}}]"#,
            r#""nan"#,
            "attributes[0].value.doubleValue: a number expected, found a string that is none",
        ),
        (r#""attributes":[{"value":{"doubleValue":1e400}}]"#, "1e400", "attributes[0].value.doubleValue: a number beyond all doubles"),
        (r#""attributes":[{"value":{"intValue":1e400}}]"#, "1e400", "attributes[0].value.intValue: a number beyond all doubles"),
        (r#""attributes":[{"value":{"intValue":1.5}}]"#, "1.5", "attributes[0].value.intValue: an integer expected, found a fraction"),
        (
            r#""attributes":[{"value":{"intValue":1,"stringValue":"x"}}]"#,
            r#""x""#,
            "attributes[0].value.stringValue: a second value where there can be one only",
        ),
        (r#""attributes":[{"value":{"bytesValue":"A"}}]"#, r#""A""#, "attributes[0].value.bytesValue: base64 expected"),
        (r#""attributes":[{"value":{"bytesValue":"AA="}}]"#, r#""AA="#, "attributes[0].value.bytesValue: base64 expected"),
        (r#""attributes":[{"value":{"bytesValue":"AA=A"}}]"#, r#""AA="#, "attributes[0].value.bytesValue: base64 expected"),
        (
            r#""attributes":[{"value":{"bytesValue":[256]}}]"#,
            "256",
            "attributes[0].value.bytesValue[0]: an unsigned integer of 8 bits expected, found a larger one",
        ),
        (
            r#""attributes":[{"value":{"bytesValue":{"1":0}}}]"#,
            "0}}}",
            "attributes[0].value.bytesValue: base64 expected, found an object that is no list of bytes",
        ),
        (
            r#""attributes":[{"value":{"arrayValue":{"values":[null]}}}]"#,
            "null",
            "attributes[0].value.arrayValue.values[0]: an object expected, found null",
        ),
    ] {
        let json = spans(&format!("{{{members}}}"));
        let path = "resourceSpans[0].scopeSpans[0].spans[0].";
        assert_eq!(told(Signal::Traces, &json, at), format!("{path}{what}"));
    }
}

#[test]
fn a_metric_with_two_kinds_of_data_is_refused() {
    let json = metrics(r#"{"gauge":{},"sum":{ }}"#);
    let path = "resourceMetrics[0].scopeMetrics[0].metrics[0].sum";
    assert_eq!(told(Signal::Metrics, &json, "{ }"), format!("{path}: a second value where there can be one only"));
}

#[test]
fn null_in_a_list_is_refused_also_among_numbers() {
    let json = metrics(r#"{"histogram":{"dataPoints":[{"explicitBounds":[1,null]}]}}"#);
    let path = "resourceMetrics[0].scopeMetrics[0].metrics[0].histogram.dataPoints[0].explicitBounds[1]";
    assert_eq!(told(Signal::Metrics, &json, "null"), format!("{path}: a number expected, found null"));
}

#[test]
fn what_is_no_json_is_refused_at_its_place() {
    for (json, at, what) in [
        ("", "", "an object expected, found the end of the text"),
        ("[]", "[", "an object expected, found an array"),
        ("{}x", "x", "the end of the text expected, found more"),
        ("{} {}", " {}", "the end of the text expected, found more"),
        (r#"{"resourceSpans":[],}"#, "}", "the name of a member expected, found punctuation"),
        (r#"{"resourceSpans":[{},]}"#, "]", "resourceSpans[1]: an object expected, found punctuation"),
        (r#"{"resourceSpans":[{}{}]}"#, "{}]", "resourceSpans: a comma or the end of the array expected, found an object"),
        (r#"{"resourceSpans" []}"#, "[", "a colon expected, found an array"),
        (r#"{resourceSpans:[]}"#, "resource", "the name of a member expected, found what is no JSON"),
        (r#"{"resourceSpans":nul}"#, "nul}", "resourceSpans: `true`, `false` or `null` expected"),
        (r#"{"resourceSpans":[],"x":truex}"#, "x}", "a comma or the end of the object expected, found what is no JSON"),
        ("{\"resourceSpans\":[],\"x\":\"\n\"}", "\n", "a control character in a string"),
        (r#"{"resourceSpans":[],"x":"\x"}"#, r"\x", "an escape that JSON does not know"),
        (r#"{"resourceSpans":[],"x":01}"#, "01", "a number that is no JSON"),
    ] {
        let fault = bad(Signal::Traces, json);
        assert_eq!(fault.what, what, "{json}");
        let place = json.find(at).expect("in the text") as u64;
        assert!((place..=place + 1).contains(&fault.offset), "{json}: {fault}");
    }
}

#[test]
fn a_body_that_belongs_to_another_signal_is_refused_and_not_taken_for_an_empty_one() {
    let expected = "no field of it belongs to this signal: `resourceMetrics` expected";
    assert_eq!(bad(Signal::Metrics, &spans("{}")).what, expected);
    assert_eq!(bad(Signal::Metrics, r#"{"hello":"world"}"#).what, expected);
    assert_eq!(good(Signal::Metrics, r#"{"hello":"world","resourceMetrics":[]}"#).items, 0);
}

#[test]
fn what_is_not_utf8_is_refused_at_its_first_byte() {
    let json = [br#"{"resourceSpans":[],"x":""#, &b"\xff\"}"[..]].concat();
    let fault = transcode(Signal::Traces, &json).expect_err("no UTF-8");
    assert_eq!((fault.offset, fault.what.as_str()), (25, "JSON that is not UTF-8"));
    let fault = transcode(Signal::Traces, b"\xef\xbb\xbf{}").expect_err("a mark");
    assert_eq!((fault.offset, fault.what.as_str()), (0, "JSON starts with a byte order mark, which RFC 8259 forbids"));
}

#[test]
fn nesting_has_a_limit_for_what_is_known_and_for_what_is_skipped() {
    let skipped = |depth: usize| format!(r#"{{"resourceSpans":[],"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    good(Signal::Traces, &skipped(MAX_DEPTH - 1));
    assert_eq!(bad(Signal::Traces, &skipped(MAX_DEPTH)).what, "nested more than 100 deep");
    bad(Signal::Traces, &skipped(1_000_000));
    let known = |depth: usize| value_of(&format!("{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth)));
    good(Signal::Logs, &known(30));
    assert!(bad(Signal::Logs, &known(31)).what.ends_with("nested more than 100 deep"));
}

#[test]
fn every_prefix_of_a_request_is_refused() {
    let json = spans(
        r#"{"name":"\u00e9\ud83d\ude00x","flags":1.5e0,"attributes":[{"value":{"bytesValue":"AA=="}},{"value":{"boolValue":true}}]}"#,
    );
    let json = json.replace("1.5e0", "15e-0");
    good(Signal::Traces, &json);
    for length in 0..json.len() {
        assert!(transcode(Signal::Traces, &json.as_bytes()[..length]).is_err(), "{}", &json[..length]);
    }
}

#[test]
fn what_comes_out_is_bounded_by_what_went_in() {
    let many = |element: &str| vec![element; 10_000].join(",");
    for (signal, json) in [
        (Signal::Metrics, metrics(&format!(r#"{{"histogram":{{"dataPoints":[{{"explicitBounds":[{}]}}]}}}}"#, many("1")))),
        (Signal::Metrics, metrics(&format!(r#"{{"histogram":{{"dataPoints":[{{"bucketCounts":[{}]}}]}}}}"#, many("0")))),
        (Signal::Metrics, metrics(&many(r#"{"sum":{}}"#))),
        (Signal::Traces, spans(&many("{}"))),
        (Signal::Traces, spans(&many(r#"{"flags":1}"#))),
        (Signal::Logs, value_of(&format!(r#"{{"arrayValue":{{"values":[{}]}}}}"#, many(r#"{"intValue":-1}"#)))),
    ] {
        let out = good(signal, &json).bytes.len();
        assert!(out <= MAX_GROWTH * json.len(), "{out} bytes of {}", json.len());
    }
}

#[test]
fn deep_nesting_around_a_large_value_does_not_take_long() {
    let depth = 30;
    let large = format!(r#"{{"stringValue":"{}"}}"#, "x".repeat(16 << 20));
    let json = value_of(&format!("{}{large}{}", r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth)));
    let start = Instant::now();
    good(Signal::Logs, &json);
    assert!(start.elapsed().as_secs() < 20, "each level moves it once: {:?}", start.elapsed());
}
