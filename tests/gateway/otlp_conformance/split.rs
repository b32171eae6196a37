//! Requests that no record of the topic could hold: cut between items, nothing of them lost.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, Sum, metric};
use prost::Message;

use crate::support::gate::Setup;
use crate::support::kafka_read::Record;

use super::records::decoded;
use super::samples::{NOW, PATHS, gzip, resource, span, text, traces_of};
use super::status::said;
use super::target::{brokerless, is_elsewhere, marker, own, target};

/// Kafka's own limit of a record batch.
const RECORD: usize = 1_048_588;

fn fragment(record: &Record) -> (String, usize, usize) {
    let header = record.header("x-sluicegate-fragment").unwrap_or_else(|| panic!("no fragment: {:?}", record.headers));
    let [name, index, count] = header.split('/').collect::<Vec<_>>()[..] else { panic!("{header}") };
    assert!(name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()), "{header}");
    (name.to_owned(), index.parse().expect("an index"), count.parse().expect("a count"))
}

/// Rule: a request of 12 MiB arrives whole, in records that the topic takes; the items, by resource and scope, are the
/// original's.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_the_topics_limit_arrives_whole_in_fragments() {
    let (target, marker) = (target().await, marker());
    let mut spans: Vec<_> = (0..20_000).map(|n| span(n / 10, n)).collect();
    for span in &mut spans {
        span.trace_state = "x".repeat(500);
    }
    let body = traces_of(&marker, spans.clone()).encode_to_vec();
    assert!(body.len() > 10 << 20 && body.len() < 16 << 20, "{}", body.len());
    let answer = target.post(PATHS[0]).protobuf(body).send().await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{}", answer.text());
    let Some(records) = target.records("otlp_spans", &marker).await else { return };
    let mut arrived = Vec::new();
    for record in &records {
        assert!(record.value.len() < RECORD, "{}", record.value.len());
        let request = decoded(&record.value);
        assert_eq!(request.resource_spans.len(), 1);
        assert_eq!(request.resource_spans[0].resource, resource(&marker), "the envelope stands in each");
        arrived.extend(request.resource_spans.into_iter().flat_map(|entry| entry.scope_spans).flat_map(|scope| scope.spans));
    }
    arrived.sort_by_key(|span| span.start_time_unix_nano);
    assert!(arrived == spans, "{} of {}", arrived.len(), spans.len());
}

/// Rule: each fragment goes to the broker, else to the inbox; the request is acknowledged when all of them are.
#[tokio::test(flavor = "multi_thread")]
async fn fragments_take_the_inbox_where_there_is_no_broker() {
    let Some(target) = brokerless(|setup| setup).await else { return };
    let answer = target.post(PATHS[1]).protobuf(points(&marker(), 6_000).encode_to_vec()).send().await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{}", answer.text());
    let rows = target.gate().admin_get("/status").await.json()["inbox"]["rows"].as_u64().expect("a number");
    assert!(rows > 1, "{rows} rows");
}

/// Rule: by setting up to 64 MiB: a request of 40 MiB arrives whole in records of a megabyte.
#[tokio::test(flavor = "multi_thread")]
async fn forty_mebibytes_arrive_whole_by_setting() {
    let large = |setup: Setup| {
        let limits = ["MAX_BODY_BYTES", "MAX_DECODED_BODY_BYTES"].into_iter();
        limits.fold(setup, |setup, limit| setup.env(&format!("SLUICEGATE__OTLP__{limit}"), "64 MiB"))
    };
    let Some(target) = own(large).await else { return };
    let marker = marker();
    let mut spans: Vec<_> = (0..20_000).map(|n| span(n / 10, n)).collect();
    for span in &mut spans {
        span.trace_state = "x".repeat(2_100);
    }
    let body = traces_of(&marker, spans).encode_to_vec();
    assert!(body.len() > 40 << 20, "{}", body.len());
    let answer = target.post(PATHS[0]).protobuf(gzip(&body)).field("content-encoding", "gzip").send().await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{}", answer.text());
    let records = target.records("otlp_spans", &marker).await.expect("a broker of the test's own");
    let numbers = records.iter().flat_map(|record| decoded(&record.value).resource_spans).flat_map(|entry| entry.scope_spans);
    let mut numbers: Vec<_> = numbers.flat_map(|scope| scope.spans).map(|span| span.start_time_unix_nano - NOW).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
}

fn points(marker: &str, count: u64) -> ExportMetricsServiceRequest {
    let point =
        |n| NumberDataPoint { time_unix_nano: NOW + n, attributes: vec![text("k", &"v".repeat(400))], ..NumberDataPoint::default() };
    let sum = Sum { data_points: (0..count).map(point).collect(), aggregation_temporality: 2, is_monotonic: true };
    let metric = Metric { name: "requests".to_owned(), unit: "1".to_owned(), data: Some(metric::Data::Sum(sum)), ..Metric::default() };
    let mut request = ExportMetricsServiceRequest::decode(super::samples::metrics(marker).as_slice()).expect("a request");
    request.resource_metrics[0].scope_metrics[0].metrics = vec![metric];
    request
}

/// Rule: metrics are cut down to the data point, and what stands around a point (name, temporality) stands in each fragment.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_cut_down_to_the_data_point() {
    let (target, marker) = (target().await, marker());
    let answer = target.post(PATHS[1]).protobuf(points(&marker, 6_000).encode_to_vec()).send().await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{}", answer.text());
    let Some(records) = target.records("otlp_metrics", &marker).await else { return };
    assert!(records.len() > 1);
    let mut times = Vec::new();
    for record in &records {
        let request = ExportMetricsServiceRequest::decode(record.value.as_slice()).expect("a request");
        let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
        let Some(metric::Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        assert_eq!((metric.name.as_str(), metric.unit.as_str(), sum.aggregation_temporality, sum.is_monotonic), ("requests", "1", 2, true));
        times.extend(sum.data_points.iter().map(|point| point.time_unix_nano));
    }
    times.sort_unstable();
    assert_eq!(times, (0..6_000).map(|n| NOW + n).collect::<Vec<_>>());
}

/// Rule: the cut is the same each time, and each fragment is named by the request, its place and their number, so that a
/// reader can drop what a resend brings twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_is_cut_and_named_as_before() {
    if is_elsewhere("the gate's own names of fragments") {
        return;
    }
    let (target, marker) = (target().await, marker());
    let body = points(&marker, 6_000).encode_to_vec();
    for _ in 0..2 {
        assert_eq!(target.post(PATHS[1]).protobuf(body.clone()).send().await.status, 200);
    }
    let records = target.records("otlp_metrics", &marker).await.expect("a broker of the test's own");
    let mut named: Vec<_> = records.iter().map(|record| (fragment(record), record.value.clone())).collect();
    named.sort();
    let count = named[0].0.2;
    assert!(count > 1 && named.len() == 2 * count, "{} fragments of {count}", named.len());
    for (place, pair) in named.chunks(2).enumerate() {
        assert_eq!((&pair[0].0, pair[0].0.1), (&pair[1].0, place));
        assert!(pair[0].1 == pair[1].1, "fragment {place} differs");
    }
}

/// Rule: an envelope that alone is over the limit takes all its items with it, and they are counted.
#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_is_too_large_rejects_all_its_items() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    let (target, marker) = (target().await, marker());
    let mut request = traces_of(&marker, (0..7).map(|n| span(n, n)).collect());
    let small = traces_of(&marker, vec![span(9, 9)]).resource_spans.remove(0);
    request.resource_spans[0].resource.as_mut().expect("a resource").attributes.push(text("large", &"x".repeat(2 << 20)));
    request.resource_spans.push(small);
    let answer = target.post(PATHS[0]).protobuf(request.encode_to_vec()).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = ExportTraceServiceResponse::decode(answer.body).expect("a response").partial_success.unwrap_or_default();
    assert_eq!(partial.rejected_spans, 7, "{partial:?}");
    let Some(records) = target.records("otlp_spans", &marker).await else { return };
    let names: Vec<_> = records
        .iter()
        .flat_map(|record| decoded(&record.value).resource_spans)
        .flat_map(|r| r.scope_spans)
        .flat_map(|s| s.spans)
        .map(|s| s.name)
        .collect();
    assert_eq!(names, ["span 9"]);
}

/// Rule: a large envelope over many items would be written again and again: what that comes to is bounded, and over it the
/// request is refused, not stored a hundred times over.
#[tokio::test(flavor = "multi_thread")]
async fn amplification_is_bounded() {
    let (target, marker) = (target().await, marker());
    let mut spans: Vec<_> = (0..4_000).map(|n| span(n, n)).collect();
    for span in &mut spans {
        span.trace_state = "x".repeat(1_000);
    }
    let mut request = traces_of(&marker, spans);
    request.resource_spans[0].resource.as_mut().expect("a resource").attributes.push(text("large", &"x".repeat(900_000)));
    let answer = target.post(PATHS[0]).protobuf(request.encode_to_vec()).send().await;
    assert!(matches!(answer.status, 400 | 413), "{}", answer.text());
    assert!(said(&answer).retry.is_none());
    let Some(records) = target.records("otlp_spans", &marker).await else { return };
    assert_eq!(records.len(), 0, "the whole or nothing");
}
