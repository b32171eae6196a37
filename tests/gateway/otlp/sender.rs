//! A sender of telemetry, by any of OTLP's ways; and requests for it.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::support::DEADLINE;
use crate::support::gate::Gate;
use crate::support::wire::Wire;

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Protobuf,
    Json,
    Grpc,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    pub fn topic(self) -> &'static str {
        match self {
            Self::Traces => "otlp_spans",
            Self::Metrics => "otlp_metrics",
            Self::Logs => "otlp_logs",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Said {
    /// The status of HTTP, or of gRPC.
    pub status: u16,
    /// The head, and behind it the trailers.
    pub headers: HeaderMap,
    /// The body, or the one message.
    pub body: Bytes,
}

impl Said {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How many items were rejected, and what is said of them.
    pub fn partial(&self) -> Option<(i64, String)> {
        use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
        let response = ExportTraceServiceResponse::decode(self.body.clone()).expect("a response");
        response.partial_success.map(|partial| (partial.rejected_spans, partial.error_message))
    }
}

/// Sends bytes as they are, gzipped or not.
pub async fn send(gate: &Gate, token: &str, way: Way, signal: Signal, body: &[u8], gzip: bool) -> Said {
    match way {
        Way::Grpc => call(gate, token, signal.method(), body, gzip, &[]).await,
        Way::Protobuf => post(gate, token, signal.path(), "application/x-protobuf", body, gzip).await,
        Way::Json => post(gate, token, signal.path(), "application/json", body, gzip).await,
    }
}

async fn post(gate: &Gate, token: &str, path: &str, content_type: &str, body: &[u8], gzip: bool) -> Said {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", content_type)];
    let body = if gzip { zipped(body) } else { body.to_vec() };
    if gzip {
        headers.push(("content-encoding", "gzip"));
    }
    let answer = gate.post_with(path, &headers, body).await;
    Said { status: answer.status, headers: answer.headers, body: answer.body }
}

/// One unary call over a connection of its own.
pub async fn call(gate: &Gate, token: &str, method: &str, message: &[u8], gzip: bool, fields: &[(&str, &str)]) -> Said {
    call_over(Wire::connect(gate, "h2").await, token, method, message, gzip, fields).await
}

/// The same over a connection that is there.
pub async fn call_over(wire: Wire, token: &str, method: &str, message: &[u8], gzip: bool, fields: &[(&str, &str)]) -> Said {
    let message = if gzip { zipped(message) } else { message.to_vec() };
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(u8::from(gzip));
    framed.put_u32(u32::try_from(message.len()).expect("a message"));
    framed.put_slice(&message);
    let mut request = Request::post(format!("https://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"));
    if gzip {
        request = request.header("grpc-encoding", "gzip");
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire.into_stream()));
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    let answered = sender.send_request(request.body(Full::new(framed.freeze())).expect("a request"));
    let (head, body) = tokio::time::timeout(DEADLINE, answered).await.expect("in time").expect("an answer").into_parts();
    let body = body.collect().await.expect("a body");
    let mut headers = head.headers;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    assert_eq!(head.status.as_u16(), 200, "{headers:?}");
    let status = headers["grpc-status"].to_str().expect("text").parse().expect("a number");
    let body = body.to_bytes();
    Said { status, headers, body: if body.is_empty() { body } else { body.slice(5..) } }
}

fn zipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("to memory");
    encoder.finish().expect("to memory")
}

fn resource() -> Option<Resource> {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue("shop".into())) });
    Some(Resource { attributes: vec![KeyValue { key: "service.name".into(), value, ..Default::default() }], ..Default::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "lib".into(), ..Default::default() })
}

/// A span; its trace is told by a number.
pub fn span(trace: u32, name: &str) -> Span {
    let mut trace_id = vec![0xab; 16];
    trace_id[12..].copy_from_slice(&trace.to_be_bytes());
    Span {
        trace_id,
        span_id: vec![7; 8],
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: 5,
        end_time_unix_nano: 9,
        ..Default::default()
    }
}

pub fn traces(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: resource(), scope_spans, ..Default::default() }] }
}

fn metrics() -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint { time_unix_nano: 7, value: Some(number_data_point::Value::AsInt(value)), ..Default::default() };
    let gauge = Gauge { data_points: vec![point(1), point(-2)] };
    let metrics = vec![Metric { name: "m".into(), data: Some(metric::Data::Gauge(gauge)), ..Default::default() }];
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource: resource(), scope_metrics, ..Default::default() }] }
}

fn logs() -> ExportLogsServiceRequest {
    let body = Some(AnyValue { value: Some(any_value::Value::StringValue("it happened".into())) });
    let log_records = vec![LogRecord { time_unix_nano: 7, severity_number: 9, body, ..Default::default() }];
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..Default::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource: resource(), scope_logs, ..Default::default() }] }
}

/// A small request of each signal: as protobuf, and as JSON.
pub fn sample(signal: Signal) -> (Vec<u8>, Vec<u8>) {
    fn both(request: &(impl Message + serde::Serialize)) -> (Vec<u8>, Vec<u8>) {
        (request.encode_to_vec(), serde_json::to_vec(request).expect("JSON"))
    }
    match signal {
        Signal::Traces => both(&traces(vec![span(1, "a"), span(1, "b")])),
        Signal::Metrics => both(&metrics()),
        Signal::Logs => both(&logs()),
    }
}

/// The spans of a record's value.
pub fn spans_of(value: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(value).expect("a request");
    let scopes = request.resource_spans.into_iter().flat_map(|entry| {
        assert_eq!(entry.resource, resource(), "each record says whose its spans are");
        entry.scope_spans
    });
    scopes.flat_map(|scope| scope.spans).collect()
}
