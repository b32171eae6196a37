//! What SDKs send beside the specification, one test for each.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, exemplar, metric::Data, number_data_point};

use super::*;

fn point(members: &str) -> (Option<number_data_point::Value>, Deviations) {
    let (metric, transcoded) = metric(&format!(r#""gauge":{{"dataPoints":[{{{members}}}]}}"#));
    assert_eq!(transcoded.items, 1);
    let Some(Data::Gauge(gauge)) = metric.data else { panic!("a gauge") };
    (gauge.data_points[0].value, transcoded.deviations)
}

#[test]
fn an_id_is_hex_of_any_case_or_empty() {
    let (span, _) = span(r#""traceId":"5B8EFFf798038103D269B633813FC60C","spanId":"eee19b7EC3c1b174","parentSpanId":"""#);
    assert_eq!(span.trace_id, b"\x5b\x8e\xff\xf7\x98\x03\x81\x03\xd2\x69\xb6\x33\x81\x3f\xc6\x0c");
    assert_eq!(span.span_id, b"\xee\xe1\x9b\x7e\xc3\xc1\xb1\x74");
    assert!(span.parent_span_id.is_empty());
}

#[test]
fn an_enum_is_an_integer_and_its_names_are_counted() {
    let (by_number, none) = span(r#""kind":2,"status":{"code":2}"#);
    let (by_name, names) = span(r#""kind":"SPAN_KIND_SERVER","status":{"code":"STATUS_CODE_ERROR"}"#);
    assert_eq!(by_number, by_name);
    assert_eq!((none.enum_names, names.enum_names), (0, 2));
    assert_eq!(span(r#""kind":77"#).0.kind, 77, "an enum is open");
}

#[test]
fn names_in_snake_case_are_taken_and_counted() {
    let json = r#"{"resource_spans":[{"scope_spans":[{"spans":[{"start_time_unix_nano":"5","name":"n"}]}]}]}"#;
    let transcoded = good(Signal::Traces, json);
    assert_eq!(transcoded.deviations, Deviations { snake_case: 3, ..Deviations::default() });
    assert_eq!(transcoded.bytes, good(Signal::Traces, &spans(r#"{"startTimeUnixNano":5,"name":"n"}"#)).bytes);
}

#[test]
fn a_name_may_be_written_with_escapes() {
    assert_eq!(span(r#""n\u0061me":"\u006e""#).0.name, "n");
}

#[test]
fn fields_that_nobody_knows_are_left_out_and_counted() {
    let (span, deviations) = span(r#""name":"n","from":{"the":["future",null,1e400]},"kind":1"#);
    assert_eq!((span.name.as_str(), span.kind, deviations.unknown_fields), ("n", 1, 1));
}

#[test]
fn an_integer_of_64_bits_is_a_number_or_a_string_and_may_look_like_a_fraction() {
    for (json, nanos) in [
        ("1544712660300000000", 1_544_712_660_300_000_000),
        (r#""1544712660300000000""#, 1_544_712_660_300_000_000),
        ("18446744073709551615", u64::MAX),
        (r#""18446744073709551615""#, u64::MAX),
        ("1.0", 1),
        ("1e3", 1000),
        (r#""1E+3""#, 1000),
        ("120.50e1", 1205),
        ("1000e-3", 1),
        ("0.00000000000000000000000001e26", 1),
        ("10000000000000000000000000000000e-31", 1),
        ("1.8446744073709551615e19", u64::MAX),
        ("0e999999999999999999999", 0),
        ("-0", 0),
    ] {
        assert_eq!(span(&format!(r#""endTimeUnixNano":{json}"#)).0.end_time_unix_nano, nanos, "{json}");
    }
}

#[test]
fn the_limits_of_64_bits_are_integers() {
    for (json, int) in [
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        (r#""-9223372036854775808""#, i64::MIN),
        ("-9.223372036854775808e18", i64::MIN),
        ("0", 0),
        ("-1", -1),
    ] {
        assert_eq!(value(&format!(r#"{{"intValue":{json}}}"#)), Some(Value::IntValue(int)), "{json}");
        assert_eq!(point(&format!(r#""asInt":{json}"#)).0, Some(number_data_point::Value::AsInt(int)), "{json}");
    }
}

#[test]
fn integers_beyond_64_bits_become_doubles_and_are_counted() {
    for (json, double) in [
        ("1e+21", 1e21),
        ("100000000000000000000", 1e20),
        (r#""9223372036854775808""#, 9_223_372_036_854_775_808.0),
        ("-9223372036854775809", -9_223_372_036_854_775_808.0),
        ("9223372036854776833", 9_223_372_036_854_777_856.0),
        ("-1e300", -1e300),
    ] {
        let (body, deviations) = body(&format!(r#"{{"intValue":{json}}}"#));
        assert_eq!(body.expect("a body").value, Some(Value::DoubleValue(double)), "{json}");
        assert_eq!(deviations.large_integers, 1);
        assert_eq!(point(&format!(r#""asInt":{json}"#)).0, Some(number_data_point::Value::AsDouble(double)), "{json}");
    }
}

#[test]
fn an_exemplars_large_integer_becomes_its_own_double() {
    let (metric, _) = metric(r#""sum":{"dataPoints":[{"exemplars":[{"asInt":1e20,"spanId":"0102030405060708"}]}]}"#);
    let Some(Data::Sum(sum)) = metric.data else { panic!("a sum") };
    let expected = Exemplar { value: Some(exemplar::Value::AsDouble(1e20)), span_id: vec![1, 2, 3, 4, 5, 6, 7, 8], ..Exemplar::default() };
    assert_eq!(sum.data_points[0].exemplars, [expected]);
}

#[test]
fn null_is_unset_wherever_a_field_may_be_unset() {
    assert_eq!(value(r#"{"doubleValue":null}"#), None);
    assert_eq!(value(r#"{"stringValue":null,"intValue":5}"#), Some(Value::IntValue(5)));
    assert_eq!(point(r#""asDouble":null,"attributes":null"#).0, None);
    assert_eq!(span(r#""name":null,"events":null,"status":null,"traceId":null,"kind":null"#).0, Span::default());
    assert_eq!(body("null").0, None);
    assert_eq!(good(Signal::Traces, r#"{"resourceSpans":null}"#).bytes, b"");
}

#[test]
fn an_empty_value_is_there_and_says_nothing() {
    assert_eq!(body("{}").0, Some(AnyValue { value: None }));
}

#[test]
fn zero_is_kept_where_it_says_something() {
    assert_eq!(value(r#"{"intValue":0}"#), Some(Value::IntValue(0)));
    assert_eq!(value(r#"{"boolValue":false}"#), Some(Value::BoolValue(false)));
    assert_eq!(value(r#"{"stringValue":""}"#), Some(Value::StringValue(String::new())));
    assert_eq!(value(r#"{"bytesValue":""}"#), Some(Value::BytesValue(Vec::new())));
    assert_eq!(value(r#"{"stringValueStrindex":0}"#), Some(Value::StringValueStrindex(0)));
    assert_eq!(point(r#""asInt":0"#).0, Some(number_data_point::Value::AsInt(0)));
    let (metric, _) = metric(r#""histogram":{"dataPoints":[{"sum":0,"min":0,"max":-0.0,"count":0}]}"#);
    let Some(Data::Histogram(histogram)) = metric.data else { panic!("a histogram") };
    let point = &histogram.data_points[0];
    assert_eq!((point.sum, point.min, point.max.map(f64::to_bits)), (Some(0.0), Some(0.0), Some(1 << 63)));
}

#[test]
fn plain_zeros_and_empty_lists_are_left_out_as_encoders_do() {
    let plain =
        good(Signal::Traces, &spans(r#"{"name":"","kind":0,"flags":0,"startTimeUnixNano":"0","attributes":[],"droppedLinksCount":0}"#));
    assert_eq!(plain.bytes, good(Signal::Traces, &spans("{}")).bytes);
    let packed = |members: &str| metric(&format!(r#""histogram":{{"dataPoints":[{{{members}}}]}}"#)).1.bytes;
    assert_eq!(packed(r#""bucketCounts":[],"explicitBounds":[]"#), packed(""));
}

#[test]
fn a_double_is_a_number_a_string_or_a_name_and_keeps_every_bit() {
    for (json, double) in [
        ("5", 5.0f64),
        (r#""5.5""#, 5.5),
        (r#""Infinity""#, f64::INFINITY),
        (r#""-Infinity""#, f64::NEG_INFINITY),
        (r#""NaN""#, f64::NAN),
        ("-0", -0.0),
        ("-0.0", -0.0),
        ("5e-324", f64::from_bits(1)),
        ("2.2250738585072011e-308", f64::from_bits(0x000f_ffff_ffff_ffff)),
        ("1.7976931348623157e308", f64::MAX),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("0.1", 0.1),
        ("1e-400", 0.0),
        ("123456789012345678901234567890", 123_456_789_012_345_680_000_000_000_000.0),
    ] {
        let Some(Value::DoubleValue(found)) = value(&format!(r#"{{"doubleValue":{json}}}"#)) else { panic!("a double") };
        assert_eq!(found.to_bits(), double.to_bits(), "{json}");
    }
}

#[test]
fn half_of_a_surrogate_pair_becomes_a_replacement_character_and_is_counted() {
    for (json, text, lone) in [
        (r"\ud83d\ude00", "😀", 0),
        (r"\uD83Dx", "\u{fffd}x", 1),
        (r"\ude00", "\u{fffd}", 1),
        (r"\ud83d\ud83d\ude00", "\u{fffd}😀", 1),
        (r"\ude00\ud83d", "\u{fffd}\u{fffd}", 2),
        (r"\ud83d\n", "\u{fffd}\n", 1),
        (r"\ud83dA", "\u{fffd}A", 1),
        (r#"\"\\\/\b\f\n\r\t\u0000\u00e9é"#, "\"\\/\u{8}\u{c}\n\r\t\0éé", 0),
    ] {
        let (body, deviations) = body(&format!(r#"{{"stringValue":"{json}"}}"#));
        assert_eq!(body.expect("a body").value, Some(Value::StringValue(text.into())), "{json}");
        assert_eq!(deviations.lone_surrogates, lone, "{json}");
    }
}

#[test]
fn bytes_are_base64_of_either_alphabet_with_padding_or_without() {
    for json in [r#""+/+/-w==""#, r#""-_-_-w""#, r#""+_-\/\u002bw==""#, "[251,255,191,251]", r#"{"0":251,"1":255,"2":191,"3":251}"#] {
        assert_eq!(value(&format!(r#"{{"bytesValue":{json}}}"#)), Some(Value::BytesValue(vec![251, 255, 191, 251])), "{json}");
    }
    for (json, bytes) in [(r#""""#, vec![]), (r#""AA""#, vec![0]), (r#""AAE=""#, vec![0, 1]), (r#""AAEC""#, vec![0, 1, 2]), ("{}", vec![])]
    {
        assert_eq!(value(&format!(r#"{{"bytesValue":{json}}}"#)), Some(Value::BytesValue(bytes)), "{json}");
    }
}

#[test]
fn a_buffer_as_node_writes_it_is_bytes_and_is_counted() {
    let (body, deviations) = body(r#"{"bytesValue":{"type":"Buffer","data":[1,2,255]}}"#);
    assert_eq!(body.expect("a body").value, Some(Value::BytesValue(vec![1, 2, 255])));
    assert_eq!(deviations.byte_lists, 1);
}

#[test]
fn the_newest_fields_are_known() {
    let json = r#"{"resourceSpans":[{"resource":{"entityRefs":[{"schemaUrl":"u","type":"service","idKeys":["a",""],"descriptionKeys":["b"]}],
        "attributes":[{"keyStrindex":-3,"value":{"stringValueStrindex":4}}]}}]}"#;
    let transcoded = good(Signal::Traces, json);
    assert_eq!(transcoded.deviations, Deviations::default());
    let request = ExportTraceServiceRequest::decode(&transcoded.bytes[..]).expect("protobuf");
    let resource = request.resource_spans[0].resource.as_ref().expect("a resource");
    assert_eq!(resource.entity_refs[0].id_keys, ["a", ""]);
    assert_eq!(resource.attributes[0].key_strindex, -3);
}

#[test]
fn white_space_may_stand_between_all_tokens() {
    let json =
        " \t\r\n{ \"resourceSpans\" :\n[ { \"scopeSpans\" : [ { \"spans\" : [ { \"kind\" : 1 , \"flags\" : \"3\" } , { } ] } ] } ] } \n";
    assert_eq!(good(Signal::Traces, json).items, 2);
}

#[test]
fn an_empty_request_is_empty() {
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
        assert_eq!(good(signal, "{}"), Transcoded { bytes: Vec::new(), items: 0, deviations: Deviations::default() });
    }
}
