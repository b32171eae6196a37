//! What goes through JSON comes out as it was, and another reader of the same JSON says the same.

use std::fmt::Debug;

use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::draw::Draw;
use super::print::Print;
use super::random::Random;
use super::*;
use crate::otlp::json::MAX_GROWTH;
use crate::otlp::{Depth, check};

fn random(bytes: &[u8], is_plain: bool) -> (Random<'_>, Print<'_>) {
    let (values, forms) = bytes.split_at(bytes.len() * 2 / 3);
    (Random { draw: Draw::new(values), is_plain }, Print { draw: Draw::new(forms), is_plain })
}

/// Transcodes, and compares in protobuf: `==` of the types would say that NaN is not itself.
fn is_kept<M: Message + Default + Debug>(signal: Signal, json: &str, request: &M, items: usize) {
    let transcoded = good(signal, json);
    let decoded = M::decode(&transcoded.bytes[..]).expect("protobuf");
    assert!(decoded.encode_to_vec() == request.encode_to_vec(), "{json}\n{decoded:?}\n{request:?}");
    assert_eq!(transcoded.items, items as u64);
    assert!(transcoded.bytes.len() <= MAX_GROWTH * json.len());
    // A protobuf request of the same bytes would go through untouched.
    let checked = check(signal, transcoded.bytes.clone().into(), Depth::Full, false).expect("what the check takes");
    assert!(checked.bytes == transcoded.bytes && checked.items == transcoded.items && checked.rejected == 0);
}

fn is_read_alike<M: Message + Default + DeserializeOwned + Debug>(signal: Signal, json: &str) {
    let other: M = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}\n{json}"));
    let ours = M::decode(&good(signal, json).bytes[..]).expect("protobuf");
    assert!(ours.encode_to_vec() == other.encode_to_vec(), "{json}\n{ours:?}\n{other:?}");
}

fn spans_in(request: &ExportTraceServiceRequest) -> usize {
    request.resource_spans.iter().flat_map(|entry| &entry.scope_spans).map(|scope| scope.spans.len()).sum()
}

fn records_in(request: &ExportLogsServiceRequest) -> usize {
    request.resource_logs.iter().flat_map(|entry| &entry.scope_logs).map(|scope| scope.log_records.len()).sum()
}

fn points_in(request: &ExportMetricsServiceRequest) -> usize {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let metrics = request.resource_metrics.iter().flat_map(|entry| &entry.scope_metrics).flat_map(|scope| &scope.metrics);
    let points = metrics.map(|metric| match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    });
    points.sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_request_comes_out_as_it_was_in_whatever_way_it_was_written(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let (random, print) = random(&bytes, false);
        let (traces, logs, metrics) = (random.traces(), random.logs(), random.metrics());
        is_kept(Signal::Traces, &print.traces(&traces), &traces, spans_in(&traces));
        is_kept(Signal::Logs, &print.logs(&logs), &logs, records_in(&logs));
        is_kept(Signal::Metrics, &print.metrics(&metrics), &metrics, points_in(&metrics));
    }

    #[test]
    fn metrics_come_out_as_they_were(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let (random, print) = random(&bytes, false);
        let metrics = random.metrics();
        is_kept(Signal::Metrics, &print.metrics(&metrics), &metrics, points_in(&metrics));
    }

    #[test]
    fn another_reader_of_the_same_json_says_the_same(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let (random, print) = random(&bytes, true);
        is_read_alike::<ExportLogsServiceRequest>(Signal::Logs, &print.logs(&random.logs()));
        is_read_alike::<ExportTraceServiceRequest>(Signal::Traces, &print.traces(&random.traces()));
        is_read_alike::<ExportMetricsServiceRequest>(Signal::Metrics, &print.metrics(&random.metrics()));
    }

    #[test]
    fn whatever_is_done_to_a_request_nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let (random, print) = random(&bytes, false);
        let mut json = print.logs(&random.logs()).into_bytes();
        let at = at.index(json.len());
        json.splice(at..(at + 1).min(json.len()), with);
        if let Ok(transcoded) = transcode(Signal::Logs, &json) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
            prop_assert!(ExportLogsServiceRequest::decode(&transcoded.bytes[..]).is_ok());
        }
    }
}
