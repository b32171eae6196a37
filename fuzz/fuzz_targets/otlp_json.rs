//! What a client may call OTLP/JSON. The first byte says which signal; the rest is the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use serde::de::IgnoredAny;
use sluicegate_fuzz::otlp::{Depth, Signal, check, json};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let signal = [Signal::Traces, Signal::Metrics, Signal::Logs][usize::from(first % 3)];
    match json::transcode(signal, text) {
        Ok(transcoded) => {
            assert!(serde_json::from_slice::<IgnoredAny>(text).is_ok(), "it is no JSON, and yet it was taken");
            assert!(std::str::from_utf8(text).is_ok(), "it is no UTF-8, and yet it was taken");
            assert!(transcoded.bytes.len() <= json::MAX_GROWTH * text.len());
            assert_eq!(transcoded.items, items(signal, &transcoded.bytes) as u64);
            let checked = check(signal, transcoded.bytes.clone().into(), Depth::Full, false).expect("what the check takes");
            assert!(checked.bytes == transcoded.bytes && checked.items == transcoded.items && checked.rejected == 0);
        }
        Err(fault) => assert!(fault.offset <= text.len() as u64 && !fault.what.is_empty()),
    }
});

/// How many items another decoder finds, which must find that the bytes are right.
fn items(signal: Signal, bytes: &[u8]) -> usize {
    match signal {
        Signal::Traces => {
            let request = ExportTraceServiceRequest::decode(bytes).expect("protobuf");
            request.resource_spans.iter().flat_map(|entry| &entry.scope_spans).map(|scope| scope.spans.len()).sum()
        }
        Signal::Logs => {
            let request = ExportLogsServiceRequest::decode(bytes).expect("protobuf");
            request.resource_logs.iter().flat_map(|entry| &entry.scope_logs).map(|scope| scope.log_records.len()).sum()
        }
        Signal::Metrics => {
            let request = ExportMetricsServiceRequest::decode(bytes).expect("protobuf");
            let scopes = request.resource_metrics.iter().flat_map(|entry| &entry.scope_metrics);
            scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref()).map(points).sum()
        }
    }
}

fn points(data: &Data) -> usize {
    match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    }
}
