//! JSON as real SDKs send it: what is taken, how it arrives, and what is refused.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::records::decoded;
use super::samples::{PATHS, metric_json, point_json, span_json, value_json};
use super::status::{INVALID_ARGUMENT, said};
use super::target::{Target, marker, own, target};

async fn taken(path: &str, body: String) -> Target {
    let target = target().await;
    let answer = target.post(path).json(body.clone()).send().await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    target
}

async fn refused(path: &str, body: &str) {
    let answer = target().await.post(path).json(body.to_owned()).send().await;
    assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    assert_eq!(said(&answer).code, INVALID_ARGUMENT, "{body}");
}

/// The one span of what arrived; none where nobody can look.
async fn span_of(fields: &str) -> Option<Span> {
    let marker = marker();
    let target = taken(PATHS[0], span_json(&marker, fields)).await;
    let records = target.records("otlp_spans", &marker).await?;
    assert_eq!(records.len(), 1, "{fields}");
    Some(decoded(&records[0].value).resource_spans[0].scope_spans[0].spans[0].clone())
}

/// The value of the one attribute of what arrived.
async fn value_of(json: &str) -> Option<Option<Value>> {
    let span = span_of(&format!(r#","attributes":[{{"key":"x","value":{json}}}]"#)).await?;
    Some(span.attributes[0].value.clone().and_then(|any| any.value))
}

async fn metric_of(body: impl Fn(&str) -> String) -> Option<Metric> {
    let marker = marker();
    let target = taken(PATHS[1], body(&marker)).await;
    let records = target.records("otlp_metrics", &marker).await?;
    let request = ExportMetricsServiceRequest::decode(records[0].value.as_slice()).expect("a request of metrics");
    Some(request.resource_metrics[0].scope_metrics[0].metrics[0].clone())
}

async fn point_of(fields: &str) -> Option<NumberDataPoint> {
    match metric_of(|marker| point_json(marker, fields)).await?.data {
        Some(metric::Data::Gauge(gauge)) => Some(gauge.data_points[0].clone()),
        other => panic!("{other:?}"),
    }
}

/// Rule: ids are hex, in any case.
#[tokio::test(flavor = "multi_thread")]
async fn ids_are_hex_in_any_case() {
    let Some(span) = span_of(r#","parentSpanId":"eee19B7ec3C1b173""#).await else { return };
    assert_eq!(hex::encode(&span.trace_id), "5b8efff798038103d269b633813fc60c");
    assert_eq!((hex::encode(&span.span_id), hex::encode(&span.parent_span_id)), ("eee19b7ec3c1b174".into(), "eee19b7ec3c1b173".into()));
}

/// Rule: an id that is empty is none; of any other length, or of other digits, it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_another_length_are_refused_in_json() {
    if let Some(span) = span_of(r#","parentSpanId":"""#).await {
        assert!(span.parent_span_id.is_empty());
    }
    for id in ["eee1", "5b8efff798038103d269b633813fc60c", "zzzzzzzzzzzzzzzz", "eee19b7ec3c1b17"] {
        refused(PATHS[0], &span_json(&marker(), &format!(r#","parentSpanId":"{id}""#))).await;
    }
    let trace = |id: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id}"}}]}}]}}]}}"#);
    for id in ["5b8efff798038103", "5b8efff798038103d269b633813fc60", "W47/95gDgQPSabYzgT/GDA=="] {
        refused(PATHS[0], &trace(id)).await;
    }
}

/// Rule: enums are integers.
#[tokio::test(flavor = "multi_thread")]
async fn enums_are_integers() {
    let Some(span) = span_of(r#","kind":2,"status":{"code":2,"message":"no"}"#).await else { return };
    assert_eq!((span.kind, span.status.map(|status| status.code)), (2, Some(2)));
}

/// Rule: names of enums are taken too.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_enums_are_taken() {
    let Some(span) = span_of(r#","kind":"SPAN_KIND_SERVER","status":{"code":"STATUS_CODE_ERROR"}"#).await else { return };
    assert_eq!((span.kind, span.status.map(|status| status.code)), (2, Some(2)));
}

/// Rule: an enum's number of a later version is kept.
#[tokio::test(flavor = "multi_thread")]
async fn an_enum_of_a_later_version_is_kept() {
    let Some(span) = span_of(r#","kind":77"#).await else { return };
    assert_eq!(span.kind, 77);
}

/// Rule: snake_case is taken.
#[tokio::test(flavor = "multi_thread")]
async fn names_in_snake_case_are_taken() {
    let Some(span) = span_of(r#","end_time_unix_nano":"5","parent_span_id":"eee19b7ec3c1b173","trace_state":"a=b""#).await else { return };
    assert_eq!((span.end_time_unix_nano, span.parent_span_id.len(), span.trace_state.as_str()), (5, 8, "a=b"));
}

/// Rule: what deviates is counted by kind, so that somebody can see that it comes.
#[tokio::test(flavor = "multi_thread")]
async fn deviations_are_counted_by_kind() {
    let Some(target) = own(|setup| setup).await else { return };
    let fields = r#","end_time_unix_nano":"5","kind":"SPAN_KIND_SERVER","attributes":[{"key":"x","value":{"intValue":1e21}},{"key":"y","value":{"stringValue":"\ud83d"}}]"#;
    assert_eq!(target.post(PATHS[0]).json(span_json(&marker(), fields)).send().await.status, 200);
    let metrics = target.gate().admin_get("/metrics").await.text();
    for kind in ["snake_case", "enum_name", "large_integer", "lone_surrogate"] {
        let line = format!("sluicegate_otlp_json_deviations_total{{signal=\"traces\",kind=\"{kind}\"}} 1");
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
}

/// Rule: unknown fields are ignored, whatever is in them.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_ignored() {
    let Some(span) = span_of(r#","later":{"a":[1,{"b":null}],"c":"\ud83d\ude00"},"droppedEventsCount":3"#).await else { return };
    assert_eq!(span.dropped_events_count, 3);
}

/// Rule: 64-bit integers come as numbers or as text, and as 1.0 and 1e3 where that is one.
#[tokio::test(flavor = "multi_thread")]
async fn integers_come_as_numbers_or_text_in_every_form() {
    for (json, expected) in [
        ("1", 1),
        (r#""1""#, 1),
        ("1.0", 1),
        ("1e3", 1_000),
        ("9223372036854775807", i64::MAX),
        (r#""9223372036854775807""#, i64::MAX),
        (r#""-9223372036854775808""#, i64::MIN),
    ] {
        let Some(value) = value_of(&format!(r#"{{"intValue":{json}}}"#)).await else { continue };
        assert_eq!(value, Some(Value::IntValue(expected)), "{json}");
    }
    for (json, expected) in [("18446744073709551615", u64::MAX), (r#""18446744073709551615""#, u64::MAX), ("1.5e3", 1_500)] {
        let Some(span) = span_of(&format!(r#","endTimeUnixNano":{json}"#)).await else { continue };
        assert_eq!(span.end_time_unix_nano, expected, "{json}");
    }
}

/// Rule: JS sends numbers that are no 64-bit integers as if they were: an `intValue` becomes the double that it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_int_value_out_of_range_becomes_a_double() {
    for (json, expected) in [("1e+21", 1e21), ("100000000000000000000", 1e20), ("-1e30", -1e30)] {
        let Some(value) = value_of(&format!(r#"{{"intValue":{json}}}"#)).await else { continue };
        assert_eq!(value, Some(Value::DoubleValue(expected)), "{json}");
    }
}

/// Rule: and `asInt` becomes `asDouble`.
#[tokio::test(flavor = "multi_thread")]
async fn an_as_int_out_of_range_becomes_a_double() {
    let Some(point) = point_of(r#""asInt":100000000000000000000"#).await else { return };
    assert_eq!(point.value, Some(Number::AsDouble(1e20)));
}

/// Rule: anywhere else what is out of range is refused; a negative number where there is none is 400, never 500.
#[tokio::test(flavor = "multi_thread")]
async fn other_integers_out_of_range_are_refused() {
    for fields in [
        r#","endTimeUnixNano":1e30"#,
        r#","endTimeUnixNano":-1"#,
        r#","endTimeUnixNano":"-1""#,
        r#","endTimeUnixNano":18446744073709551616"#,
        r#","endTimeUnixNano":1.5"#,
        r#","endTimeUnixNano":"x""#,
        r#","droppedEventsCount":-1"#,
        r#","droppedEventsCount":4294967296"#,
        r#","flags":-5"#,
    ] {
        refused(PATHS[0], &span_json(&marker(), fields)).await;
    }
}

/// Rule: `null` in a oneof is nothing (JS sends it for NaN and Infinity), and so is `{}`.
#[tokio::test(flavor = "multi_thread")]
async fn null_and_empty_values_are_nothing() {
    for json in [r#"{"doubleValue":null}"#, r#"{"intValue":null}"#, r#"{"stringValue":null}"#, "{}", r#"{"arrayValue":null}"#] {
        let Some(value) = value_of(json).await else { continue };
        assert_eq!(value, None, "{json}");
    }
    if let Some(point) = point_of(r#""asDouble":null"#).await {
        assert_eq!(point.value, None);
    }
}

/// Rule: `null` for a list or a message is nothing too.
#[tokio::test(flavor = "multi_thread")]
async fn null_for_a_list_or_a_message_is_nothing() {
    let Some(span) = span_of(r#","attributes":null,"links":null,"status":null,"traceState":null"#).await else { return };
    assert!(span.attributes.is_empty() && span.links.is_empty() && span.status.unwrap_or_default() == Default::default());
}

/// Rule: doubles are numbers, text, or one of three names.
#[tokio::test(flavor = "multi_thread")]
async fn doubles_come_as_numbers_text_and_names() {
    for (json, expected) in [
        ("0.1", 0.1),
        ("5", 5.0),
        (r#""0.1""#, 0.1),
        (r#""Infinity""#, f64::INFINITY),
        (r#""-Infinity""#, f64::NEG_INFINITY),
        ("5e-324", 5e-324),
        ("0.30000000000000004", 0.30000000000000004),
        ("1.7976931348623157e308", f64::MAX),
        ("123456789.12345678", 123456789.12345678),
    ] {
        let Some(value) = value_of(&format!(r#"{{"doubleValue":{json}}}"#)).await else { continue };
        let Some(Value::DoubleValue(double)) = value else { panic!("{json}: {value:?}") };
        assert_eq!(double.to_bits(), expected.to_bits(), "{json}");
    }
    if let Some(value) = value_of(r#"{"doubleValue":"NaN"}"#).await {
        assert!(matches!(value, Some(Value::DoubleValue(double)) if double.is_nan()), "{value:?}");
    }
}

/// Rule: half a surrogate pair, which JS can send, becomes U+FFFD.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_surrogate_pair_becomes_a_replacement() {
    let Some(value) = value_of(r#"{"stringValue":"a\ud83db\ude00\ud83d\ude00"}"#).await else { return };
    assert_eq!(value, Some(Value::StringValue("a\u{fffd}b\u{fffd}\u{1f600}".to_owned())));
}

/// Rule: base64 of either alphabet, padded or not.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_base64_of_either_alphabet() {
    for (text, expected) in
        [("+/8=", vec![0xfb, 0xff]), ("-_8", vec![0xfb, 0xff]), ("-_8=", vec![0xfb, 0xff]), ("+/8", vec![0xfb, 0xff]), ("", vec![])]
    {
        let Some(value) = value_of(&format!(r#"{{"bytesValue":"{text}"}}"#)).await else { continue };
        assert_eq!(value, Some(Value::BytesValue(expected)), "{text}");
    }
    refused(PATHS[0], &value_json(&marker(), r#"{"bytesValue":"!!"}"#)).await;
}

/// Rule: what follows the document is refused; white space is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_the_document_are_refused() {
    taken(PATHS[0], format!(" \r\n\t{} \n", span_json(&marker(), ""))).await;
    for rest in ["x", "{}", ",", "\u{0}", "]"] {
        refused(PATHS[0], &format!("{}{rest}", span_json(&marker(), ""))).await;
    }
}

/// Rule: the newest fields of the messages arrive: `resource.entityRefs`, `keyStrindex`, `stringValueStrindex`.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_fields_arrive() {
    if let Some(value) = value_of(r#"{"stringValueStrindex":4}"#).await {
        assert_eq!(value, Some(Value::StringValueStrindex(4)));
    }
    if let Some(span) = span_of(r#","attributes":[{"keyStrindex":3,"value":{"boolValue":true}}]"#).await {
        assert_eq!(span.attributes[0].key_strindex, 3);
    }
    let marker = marker();
    let body = span_json(&marker, "").replacen(r#""attributes""#, r#""entityRefs":[{"type":"host","idKeys":["host.id"]}],"attributes""#, 1);
    let target = taken(PATHS[0], body).await;
    let Some(records) = target.records("otlp_spans", &marker).await else { return };
    let request = decoded(&records[0].value);
    let entity = &request.resource_spans[0].resource.as_ref().expect("a resource").entity_refs[0];
    assert_eq!((entity.r#type.as_str(), &entity.id_keys[..]), ("host", &["host.id".to_owned()][..]));
}

/// Rule: every kind of metric arrives, with integers as text and as numbers.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_metric_arrives() {
    let buckets = r#"{"offset":-1,"bucketCounts":["1",2]}"#;
    let kinds = [
        r#""sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"7"}]}"#.to_owned(),
        r#""histogram":{"aggregationTemporality":1,"dataPoints":[{"count":"3","sum":1.5,"bucketCounts":["1",2],"explicitBounds":[0.5]}]}"#
            .to_owned(),
        format!(
            r#""exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{{"count":3,"scale":-2,"zeroCount":"0","positive":{buckets}}}]}}"#
        ),
        r#""summary":{"dataPoints":[{"count":"2","sum":3,"quantileValues":[{"quantile":0.5,"value":1}]}]}"#.to_owned(),
    ];
    let mut arrived = Vec::new();
    for kind in kinds {
        let Some(metric) = metric_of(|marker| metric_json(marker, &kind)).await else { return };
        arrived.push(metric.data.expect("data"));
    }
    let [
        metric::Data::Sum(sum),
        metric::Data::Histogram(histogram),
        metric::Data::ExponentialHistogram(exponential),
        metric::Data::Summary(summary),
    ] = &arrived[..]
    else {
        panic!("{arrived:?}")
    };
    assert!(sum.is_monotonic && sum.data_points[0].value == Some(Number::AsInt(7)));
    assert_eq!((histogram.data_points[0].count, &histogram.data_points[0].bucket_counts[..]), (3, &[1, 2][..]));
    let positive = exponential.data_points[0].positive.as_ref().expect("buckets");
    assert_eq!((exponential.data_points[0].scale, positive.offset, &positive.bucket_counts[..]), (-2, -1, &[1, 2][..]));
    assert_eq!(summary.data_points[0].quantile_values[0].quantile.to_bits(), 0.5_f64.to_bits());
}

/// Rule: what is no request in JSON is refused: another document, a broken one, a wrong type, a double key of one message.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_in_json_is_refused() {
    for body in [
        "",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{",
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[7]}"#,
        r#"{"resourceSpans":[{]}"#,
        "\u{feff}{}",
    ] {
        refused(PATHS[0], body).await;
    }
    refused(PATHS[0], &span_json(&marker(), r#","name":7"#)).await;
    refused(PATHS[0], &value_json(&marker(), r#"{"boolValue":"yes"}"#)).await;
    let answer = target().await.post(PATHS[0]).json(b"{\"a\":\"\xff\"}".to_vec()).send().await;
    assert_eq!(answer.status, 400, "invalid UTF-8: {}", answer.text());
}
