//! Requests: good ones by the messages of `opentelemetry-proto`, bad ones by hand.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// The paths of the three signals.
pub const PATHS: [&str; 3] = ["/v1/traces", "/v1/metrics", "/v1/logs"];

/// A moment that is not long ago.
pub const NOW: u64 = 1_795_000_000_000_000_000;

/// An attribute of text.
pub fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// A resource whose service bears this name.
pub fn resource(service: &str) -> Option<Resource> {
    Some(Resource { attributes: vec![text("service.name", service)], ..Resource::default() })
}

/// The span with this number, of the trace with that one.
pub fn span(trace: u64, number: u64) -> Span {
    Span {
        trace_id: [trace.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, trace].into_iter().flat_map(u64::to_be_bytes).collect(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: format!("span {number}"),
        start_time_unix_nano: NOW + number,
        end_time_unix_nano: NOW + number + 1_000,
        attributes: vec![text("http.route", "/users/{id}")],
        ..Span::default()
    }
}

/// A request of these spans, of one resource and scope.
pub fn traces_of(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = Some(InstrumentationScope { name: "conformance".to_owned(), ..InstrumentationScope::default() });
    let scope_spans = vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: resource(service), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

/// A request of two spans.
pub fn traces(service: &str) -> Vec<u8> {
    traces_of(service, vec![span(1, 1), span(1, 2)]).encode_to_vec()
}

/// A request with one data point.
pub fn metrics(service: &str) -> Vec<u8> {
    let point = NumberDataPoint { time_unix_nano: NOW, value: Some(Number::AsInt(7)), ..NumberDataPoint::default() };
    let data = Some(metric::Data::Gauge(Gauge { data_points: vec![point] }));
    let metrics = vec![Metric { name: "queue".to_owned(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource: resource(service), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

/// A request with one log record.
pub fn logs(service: &str) -> Vec<u8> {
    let body = Some(AnyValue { value: Some(Value::StringValue("it happened".to_owned())) });
    let log_records = vec![LogRecord { time_unix_nano: NOW, body, ..LogRecord::default() }];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource(service), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// A request of the signal with this number, in the order of `PATHS`.
pub fn of(signal: usize, service: &str) -> Vec<u8> {
    [traces, metrics, logs][signal](service)
}

/// A request of one span in JSON; `fields` come last in the span.
pub fn span_json(service: &str, fields: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","name":"a","startTimeUnixNano":"{NOW}"{fields}}}]}}]}}]}}"#
    )
}

/// A request of one span in JSON with one attribute more, whose value is given.
pub fn value_json(service: &str, value: &str) -> String {
    span_json(service, &format!(r#","attributes":[{{"key":"x","value":{value}}}]"#))
}

/// A request of one metric in JSON; `data` is its field of data.
pub fn metric_json(service: &str, data: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{service}"}}}}]}},"scopeMetrics":[{{"metrics":[{{"name":"m",{data}}}]}}]}}]}}"#
    )
}

/// A gauge with one data point in JSON.
pub fn point_json(service: &str, fields: &str) -> String {
    metric_json(service, &format!(r#""gauge":{{"dataPoints":[{{"timeUnixNano":"{NOW}",{fields}}}]}}"#))
}

/// A field of protobuf whose value has a length.
pub fn field(number: u32, value: &[u8]) -> Vec<u8> {
    [varint(u64::from(number << 3 | 2)), varint(value.len() as u64), value.to_vec()].concat()
}

/// A number as protobuf writes it.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
    bytes
}

/// A request of traces around the bytes of one span.
pub fn around_span(service: &str, span: &[u8]) -> Vec<u8> {
    let resource = resource(service).expect("a resource").encode_to_vec();
    field(1, &[field(1, &resource), field(2, &field(2, span))].concat())
}

/// Gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

/// What HTTP calls deflate: zlib.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

/// Zstandard.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("to memory")
}
