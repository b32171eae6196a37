//! The transcoder against tables, against public vectors, and against other decoders.

mod agreement;
mod deviations;
mod draw;
mod faults;
mod grammar;
mod print;
mod random;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::{Deviations, Transcoded, transcode};
use crate::otlp::{Fault, Signal};

fn good(signal: Signal, json: &str) -> Transcoded {
    transcode(signal, json.as_bytes()).unwrap_or_else(|fault| panic!("{fault}\n{json}"))
}

fn bad(signal: Signal, json: &str) -> Fault {
    match transcode(signal, json.as_bytes()) {
        Err(fault) => fault,
        Ok(_) => panic!("taken: {json}"),
    }
}

fn spans(span: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#)
}

fn metrics(metric: &str) -> String {
    format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#)
}

fn value_of(json: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{json}}}]}}]}}]}}"#)
}

/// The one span of these members.
fn span(members: &str) -> (Span, Deviations) {
    let transcoded = good(Signal::Traces, &spans(&format!("{{{members}}}")));
    assert_eq!(transcoded.items, 1);
    let mut request = ExportTraceServiceRequest::decode(&transcoded.bytes[..]).expect("protobuf");
    (request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0), transcoded.deviations)
}

/// The one metric of these members.
fn metric(members: &str) -> (Metric, Transcoded) {
    let transcoded = good(Signal::Metrics, &metrics(&format!("{{{members}}}")));
    let mut request = ExportMetricsServiceRequest::decode(&transcoded.bytes[..]).expect("protobuf");
    (request.resource_metrics.remove(0).scope_metrics.remove(0).metrics.remove(0), transcoded)
}

/// A log record's body.
fn body(json: &str) -> (Option<AnyValue>, Deviations) {
    let transcoded = good(Signal::Logs, &value_of(json));
    let mut request = ExportLogsServiceRequest::decode(&transcoded.bytes[..]).expect("protobuf");
    (request.resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0).body, transcoded.deviations)
}

/// What an `AnyValue` that is there says.
fn value(json: &str) -> Option<Value> {
    body(json).0.expect("a body").value
}
