//! Bytes that are no request: one undecodable byte loses the whole record in the Collector's receiver, so none gets there.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::support::stopwatch::Stopwatch;

use super::grpc::EXPORT;
use super::records::decoded;
use super::samples::{PATHS, around_span, field, resource, span, traces, varint};
use super::status::{INVALID_ARGUMENT, said};
use super::target::{Target, marker, own, target};

/// Refused over HTTP and over gRPC. The codes there have a test of their own.
async fn refused(target: &Target, signal: usize, what: &str, body: Vec<u8>) {
    let answer = target.post(PATHS[signal]).protobuf(body.clone()).send().await;
    assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    assert_eq!(said(&answer).code, INVALID_ARGUMENT, "{what}");
    let reply = target.call(EXPORT[signal]).message(&body).send().await;
    assert_ne!(reply.code(), 0, "{what}: taken over gRPC");
}

async fn span_refused(what: &str, span: &[u8]) {
    refused(&target().await, 0, what, around_span(&marker(), span)).await;
}

/// Rule: a trace's id has 16 bytes or none, a span's 8 or none.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_length_is_refused() {
    for (name, number, lengths) in [("trace_id", 1, [1, 15, 17]), ("span_id", 2, [7, 9, 16]), ("parent_span_id", 4, [1, 7, 16])] {
        for length in lengths {
            span_refused(&format!("{name} of {length}"), &field(number, &vec![7; length])).await;
        }
    }
    let link = |link: &[u8]| field(13, link);
    span_refused("a link's trace_id of 15", &link(&field(1, &[7; 15]))).await;
    span_refused("a link's span_id of 9", &link(&field(2, &[7; 9]))).await;
}

/// Rule: ids that are empty are taken.
#[tokio::test(flavor = "multi_thread")]
async fn empty_ids_are_taken() {
    let target = target().await;
    let answer = target.post(PATHS[0]).protobuf(around_span(&marker(), &[field(1, b""), field(2, b"")].concat())).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Rule: the wire types of groups are refused, known field or not.
#[tokio::test(flavor = "multi_thread")]
async fn groups_are_refused() {
    for number in [5_u64, 900] {
        span_refused("a group", &[varint(number << 3 | 3), varint(number << 3 | 4)].concat()).await;
        span_refused("the end of a group", &varint(number << 3 | 4)).await;
    }
    for kind in [6, 7] {
        span_refused("a wire type that does not exist", &[varint(900 << 3 | kind), vec![0]].concat()).await;
    }
}

/// Rule: a body that ends too early is refused, wherever it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_too_early_is_refused() {
    let target = target().await;
    let whole = traces(&marker());
    for end in (1..whole.len()).step_by(whole.len() / 12) {
        refused(&target, 0, &format!("{end} of {} bytes", whole.len()), whole[..end].to_vec()).await;
    }
    refused(&target, 0, "a varint without an end", b"\x80".to_vec()).await;
    refused(&target, 0, "a varint of eleven bytes", [vec![0x0a], vec![0x80; 10], vec![1]].concat()).await;
    refused(&target, 0, "a length beyond all bytes", b"\x0a\xff\xff\xff\xff\x0f".to_vec()).await;
}

/// Rule: there is no field 0.
#[tokio::test(flavor = "multi_thread")]
async fn field_zero_is_refused() {
    span_refused("field 0", &[varint(0), varint(1)].concat()).await;
    span_refused("field 0 with a length", &[varint(2), varint(0)].concat()).await;
}

/// Rule: a known field with another wire type is refused; the receiver's decoder would lose the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_field_of_another_wire_type_is_refused() {
    span_refused("a name that is a number", &[varint(5 << 3), varint(1)].concat()).await;
    span_refused("a start that is a varint", &[varint(7 << 3), varint(1)].concat()).await;
    span_refused("a kind that is a text", &field(6, b"SERVER")).await;
    refused(&target().await, 0, "an entry that is a number", [varint(1 << 3), varint(1)].concat()).await;
}

/// Rule: text is UTF-8. It passes the Collector and breaks who reads after it.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_is_refused() {
    for text in [&b"\xff\xfe"[..], b"\xc0\x80", b"\xed\xa0\x80", b"ok \xe2\x82"] {
        span_refused("a name", &field(5, text)).await;
        span_refused("an attribute's key", &field(9, &field(1, text))).await;
        span_refused("an attribute's value", &field(9, &[field(1, b"k"), field(2, &field(1, text))].concat())).await;
    }
}

/// Rule: by setting it is repaired instead: what cannot be read becomes U+FFFD, and the record can be.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_is_repaired_by_setting() {
    let Some(target) = own(|setup| setup.env("SLUICEGATE__OTLP__REPAIR_UTF8", "true")).await else { return };
    let marker = marker();
    let answer = target.post(PATHS[0]).protobuf(around_span(&marker, &field(5, b"a\xffb"))).send().await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{}", answer.text());
    let records = target.records("otlp_spans", &marker).await.expect("a broker of the test's own");
    assert_eq!(decoded(&records[0].value).resource_spans[0].scope_spans[0].spans[0].name, "a\u{fffd}b");
}

/// Rule: how deep is looked is a setting: tags and lengths alone, or nothing but what has to be counted.
#[tokio::test(flavor = "multi_thread")]
async fn how_deep_bytes_are_looked_at_is_a_setting() {
    let Some(target) = own(|setup| setup.env("SLUICEGATE__OTLP__VALIDATION", "structure")).await else { return };
    let bad_text = target.post(PATHS[0]).protobuf(around_span(&marker(), &field(5, b"a\xffb"))).send().await;
    assert_eq!(bad_text.status, 200, "{}", bad_text.text());
    let group = [varint(5 << 3 | 3), varint(5 << 3 | 4)].concat();
    assert_eq!(target.post(PATHS[0]).protobuf(around_span(&marker(), &group)).send().await.status, 400);
}

/// Rule: a metric that has its data twice is refused: decoders do not agree on what it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_metric_with_data_twice_is_refused() {
    let point = field(1, &[varint(3 << 3 | 1), vec![0; 8]].concat());
    let resource = resource(&marker()).expect("a resource").encode_to_vec();
    for second in [5, 7, 9] {
        let metric = [field(1, b"m"), field(5, &point), field(second, &point)].concat();
        let body = field(1, &[field(1, &resource), field(2, &field(2, &metric))].concat());
        refused(&target().await, 1, &format!("gauge and {second}"), body).await;
    }
}

/// Rule: fields that nobody knows yet pass, and arrive.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_pass_and_arrive() {
    let (target, marker) = (target().await, marker());
    let mut plain = span(1, 1).encode_to_vec();
    plain.extend(field(900, b"from a later version"));
    let body = around_span(&marker, &plain);
    assert_eq!(target.post(PATHS[0]).protobuf(body).send().await.status, 200);
    let Some(records) = target.records("otlp_spans", &marker).await else { return };
    let later = records.iter().any(|record| record.value.windows(20).any(|window| window == b"from a later version"));
    assert!(records.len() == 1 && later, "{} records", records.len());
}

/// Rule: field 1000, where old SDKs put their scopes, becomes field 2, so that the receiver sees the spans.
#[tokio::test(flavor = "multi_thread")]
async fn spans_in_field_1000_arrive_in_field_2() {
    let (target, marker) = (target().await, marker());
    let resource = resource(&marker).expect("a resource").encode_to_vec();
    let old = field(1000, &field(2, &span(1, 1).encode_to_vec()));
    let body = field(1, &[field(1, &resource), old].concat());
    let answer = target.post(PATHS[0]).protobuf(body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let Some(records) = target.records("otlp_spans", &marker).await else { return };
    let spans: usize = records
        .iter()
        .map(|record| decoded(&record.value).resource_spans[0].scope_spans.iter().map(|s| s.spans.len()).sum::<usize>())
        .sum();
    assert_eq!(spans, 1);
}

/// Rule: where the entry has a field 2 as well, the items of field 1000 are rejected and counted.
#[tokio::test(flavor = "multi_thread")]
async fn spans_in_field_1000_beside_field_2_are_rejected_with_their_count() {
    let (target, marker) = (target().await, marker());
    let resource = resource(&marker).expect("a resource").encode_to_vec();
    let spans = |numbers: &[u64]| numbers.iter().flat_map(|n| field(2, &span(*n, *n).encode_to_vec())).collect::<Vec<_>>();
    let entry = [field(1, &resource), field(2, &spans(&[1])), field(1000, &spans(&[2, 3]))].concat();
    let answer = target.post(PATHS[0]).protobuf(field(1, &entry)).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = ExportTraceServiceResponse::decode(answer.body).expect("a response").partial_success.unwrap_or_default();
    assert!(partial.rejected_spans == 2 && !partial.error_message.is_empty(), "{partial:?}");
}

fn nested(depth: usize) -> Vec<u8> {
    // From the inside out would be quadratic: lengths first, then one pass.
    let mut lengths = vec![0_usize];
    for _ in 0..depth {
        let inner = *lengths.last().expect("one at least");
        let array = 1 + varint(inner as u64).len() + inner; // ArrayValue.values
        lengths.push(1 + varint(array as u64).len() + array); // AnyValue.array_value
    }
    let mut bytes = Vec::new();
    for level in (0..depth).rev() {
        let array = 1 + varint(lengths[level] as u64).len() + lengths[level];
        bytes.extend([varint(5 << 3 | 2), varint(array as u64), varint(1 << 3 | 2), varint(lengths[level] as u64)].concat());
    }
    bytes
}

/// O2. Rule: values nested 100,000 deep are refused at once, and the server lives.
#[tokio::test(flavor = "multi_thread")]
async fn values_nested_without_end_are_refused() {
    let target = target().await;
    for depth in [200, 100_000] {
        let attribute = [field(1, b"k"), field(2, &nested(depth))].concat();
        let watch = Stopwatch::start();
        refused(&target, 0, &format!("{depth} deep"), around_span(&marker(), &field(9, &attribute))).await;
        assert!(watch.read().own().as_secs() < 5, "{}", watch.read());
    }
    let json = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(100_000), "]}}".repeat(100_000));
    let answer = target.post(PATHS[0]).json(super::samples::value_json(&marker(), &json)).send().await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(target.post(PATHS[0]).protobuf(traces(&marker())).send().await.status, 200);
}

/// Rule: twenty levels, which people do send, are taken.
#[tokio::test(flavor = "multi_thread")]
async fn values_nested_as_people_nest_them_are_taken() {
    let attribute = [field(1, b"k"), field(2, &nested(20))].concat();
    let answer = target().await.post(PATHS[0]).protobuf(around_span(&marker(), &field(9, &attribute))).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
