//! What it costs to turn OTLP/JSON into protobuf: `cargo run --release --example otlp_json_cost`.
//!
//! What always holds: one thread, no I/O, the fastest of a fixed number of rounds on the same bytes; the two ways that are
//! compared give the same request. A span takes about 533 bytes in protobuf.

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use sluicegate::otlp::{Signal, json};

const SPANS: u32 = 512;
const ROUNDS: u32 = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let request = request();
    let json = serde_json::to_vec(&request)?;
    let protobuf = request.encode_to_vec();
    let transcoded = json::transcode(Signal::Traces, &json)?;
    assert_eq!(transcoded.items, u64::from(SPANS));
    let decoded = ExportTraceServiceRequest::decode(&transcoded.bytes[..])?;
    assert!(decoded == request && through_serde(&json)? == protobuf, "both ways give the same request");
    let spans = SPANS as usize;
    let mut out = std::io::stdout();
    writeln!(out, "{spans} spans, each {} bytes in JSON and {} in protobuf\n", json.len() / spans, protobuf.len() / spans)?;
    writeln!(out, "| way | ns per span | MB of JSON per second |\n|---|---:|---:|")?;
    let checks = time(|| std::str::from_utf8(black_box(&json)).is_ok());
    let ours = time(|| json::transcode(Signal::Traces, black_box(&json)).is_ok());
    let serde = time(|| through_serde(black_box(&json)).is_ok());
    let tree = time(|| serde_json::from_slice::<serde_json::Value>(black_box(&json)).is_ok());
    let skip = time(|| serde_json::from_slice::<serde::de::IgnoredAny>(black_box(&json)).is_ok());
    for (way, took) in [
        ("UTF-8 check alone", checks),
        ("transcode", ours),
        ("serde_json, nothing kept", skip),
        ("serde_json, a tree of values", tree),
        ("serde_json to the generated types, encode", serde),
    ] {
        let seconds = took.as_secs_f64();
        writeln!(out, "| {way} | {:.0} | {:.0} |", seconds * 1e9 / spans as f64, json.len() as f64 / 1e6 / seconds)?;
    }
    Ok(())
}

fn through_serde(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    Ok(serde_json::from_slice::<ExportTraceServiceRequest>(json)?.encode_to_vec())
}

/// The fastest of so many rounds, each of which must succeed: on a busy machine the mean is the neighbours'.
fn time(mut round: impl FnMut() -> bool) -> Duration {
    let once = |_| {
        let start = Instant::now();
        assert!(black_box(round()), "what is measured does what it should");
        start.elapsed()
    };
    (0..ROUNDS).map(once).min().unwrap_or_default()
}

fn request() -> ExportTraceServiceRequest {
    let scope =
        InstrumentationScope { name: "@opentelemetry/instrumentation-http".into(), version: "0.223.0".into(), ..Default::default() };
    let spans = ScopeSpans { scope: Some(scope), spans: (0..SPANS).map(span).collect(), schema_url: String::new() };
    let attributes = vec![text("service.name", "checkout"), text("host.name", "ip-10-0-3-7"), text("telemetry.sdk.language", "nodejs")];
    let resource = Resource { attributes, ..Default::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans: vec![spans], schema_url: String::new() }],
    }
}

fn span(index: u32) -> Span {
    let start = 1_790_000_000_123_456_789 + u64::from(index) * 1_000_003;
    Span {
        trace_id: u128::from(index / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes().to_vec(),
        span_id: u64::from(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec(),
        parent_span_id: u64::from(index + 2).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec(),
        flags: 257,
        name: "GET /api/v1/orders/:id".into(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 4_200_000,
        attributes: vec![
            text("http.request.method", "GET"),
            text("url.full", &format!("https://orders.internal.example:8443/api/v1/orders/{index}?expand=lines")),
            text("server.address", "orders.internal.example"),
            number("server.port", 8443),
            number("http.response.status_code", 200),
            text("network.protocol.version", "1.1"),
            text("user_agent.original", "checkout/4.18.2 (node 22.9.0; linux x64) undici"),
            text("net.peer.ip", "10.0.3.41"),
        ],
        events: vec![Event {
            time_unix_nano: start + 1_000_000,
            name: "retry".into(),
            attributes: vec![number("retry.attempt", i64::from(index % 3)), text("retry.reason", "connection reset")],
            ..Default::default()
        }],
        status: Some(Status { message: String::new(), code: 1 }),
        ..Default::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}
