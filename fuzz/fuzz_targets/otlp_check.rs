//! What a client may send as OTLP: any bytes. What is taken decodes, with as many items as were counted, and is taken again
//! as it is.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use sluicegate_fuzz::otlp::{Depth, Signal, check};

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (signal, repair, bytes) = input;
    let signal = [Signal::Traces, Signal::Metrics, Signal::Logs][usize::from(signal % 3)];
    let bytes = Bytes::copy_from_slice(bytes);
    for depth in [Depth::None, Depth::Structure] {
        if let Err(fault) = check(signal, bytes.clone(), depth, repair) {
            assert!(fault.offset <= bytes.len() as u64);
            assert!(check(signal, bytes, Depth::Full, repair).is_err(), "a closer look takes more: {fault}");
            return;
        }
    }
    let Ok(checked) = check(signal, bytes.clone(), Depth::Full, repair) else { return };
    assert!(checked.repaired == 0 || repair);
    assert_eq!(items(signal, checked.bytes.clone()), checked.items);
    let again = check(signal, checked.bytes.clone(), Depth::Full, false).expect("what is taken is taken again");
    assert_eq!((again.bytes.as_ptr(), again.items), (checked.bytes.as_ptr(), checked.items));
});

fn items(signal: Signal, bytes: Bytes) -> u64 {
    let items: usize = match signal {
        Signal::Traces => {
            let request = ExportTraceServiceRequest::decode(bytes).expect("what is taken decodes");
            request.resource_spans.iter().flat_map(|entry| &entry.scope_spans).map(|scope| scope.spans.len()).sum()
        }
        Signal::Logs => {
            let request = ExportLogsServiceRequest::decode(bytes).expect("what is taken decodes");
            request.resource_logs.iter().flat_map(|entry| &entry.scope_logs).map(|scope| scope.log_records.len()).sum()
        }
        Signal::Metrics => {
            let request = ExportMetricsServiceRequest::decode(bytes).expect("what is taken decodes");
            let metrics = request.resource_metrics.iter().flat_map(|entry| &entry.scope_metrics).flat_map(|scope| &scope.metrics);
            metrics.filter_map(|metric| metric.data.as_ref()).map(points).sum()
        }
    };
    items as u64
}

fn points(data: &Data) -> usize {
    match data {
        Data::Gauge(data) => data.data_points.len(),
        Data::Sum(data) => data.data_points.len(),
        Data::Histogram(data) => data.data_points.len(),
        Data::ExponentialHistogram(data) => data.data_points.len(),
        Data::Summary(data) => data.data_points.len(),
    }
}
