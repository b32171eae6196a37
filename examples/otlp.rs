//! What the load tests of the OTLP door need: the bodies that they send, and a look at what arrived (`loadtests/run otlp-http`).
//!
//! What always holds: bodies come from `opentelemetry-proto`, not from this crate; a span is found only where a record of the
//! topic decodes and holds it. `bodies DIR SPANS` writes one request in every encoding, and where its trace ids are;
//! `found BROKERS TOPIC` prints a line `TRACE/SPANS` for each trace in the topic, once more where spans are there twice;
//! `count BROKERS TOPIC FILE` prints how many spans and records came to it since it was last asked with that file.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// Spans of one trace.
const SPANS_OF_A_TRACE: usize = 10;
const START: u64 = 1_795_000_000_000_000_000;
const ASK: Duration = Duration::from_secs(30);
const READ: Duration = Duration::from_secs(300);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["bodies", folder, spans] => bodies(Path::new(folder), spans.parse()?),
        ["found", brokers, topic] => found(brokers, topic),
        ["count", brokers, topic, file] => count(brokers, topic, Path::new(file)),
        _ => Err("usage: otlp bodies DIR SPANS | found BROKERS TOPIC | count BROKERS TOPIC FILE".into()),
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// A trace's id that stands nowhere else in the body, so that it can be found and replaced.
fn trace_id(number: usize) -> Vec<u8> {
    format!("TRACE-ID-{number:07}").into_bytes()
}

/// A span as an HTTP server's instrumentation makes it: about 530 bytes.
fn span(number: usize) -> Span {
    let n = number as u64;
    let route = ["/api/v1/users/{id}", "/api/v1/orders", "/api/v1/orders/{id}/items", "/healthz"][number % 4];
    Span {
        trace_id: trace_id(number / SPANS_OF_A_TRACE),
        span_id: (0x1357_9bdf_0246_8ace_u64.wrapping_mul(n + 1) | 1).to_be_bytes().to_vec(),
        parent_span_id: if number.is_multiple_of(SPANS_OF_A_TRACE) { Vec::new() } else { (n + 77).to_be_bytes().to_vec() },
        flags: 0x101,
        name: format!("GET {route}"),
        kind: 2,
        start_time_unix_nano: START + n * 1_000_003,
        end_time_unix_nano: START + n * 1_000_003 + 1_234_567 + n * 997,
        attributes: vec![
            text("http.request.method", "GET"),
            text("http.route", route),
            attribute("http.response.status_code", Value::IntValue(if number.is_multiple_of(17) { 503 } else { 200 })),
            text("url.path", &format!("/api/v1/users/{}", n.wrapping_mul(2_654_435_761) % 1_000_000)),
            text("server.address", "shop.example"),
            attribute("server.port", Value::IntValue(8443)),
            text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
            text("network.peer.address", &format!("10.0.{}.{}", number % 200, number % 250)),
            attribute("app.cache.hit", Value::BoolValue(number.is_multiple_of(3))),
            attribute("app.duration", Value::DoubleValue(1.0 / (n as f64 + 3.0))),
        ],
        events: vec![Event { time_unix_nano: START + n, name: "db.query".to_owned(), ..Event::default() }],
        status: Some(Status { code: 1, ..Status::default() }),
        ..Span::default()
    }
}

fn request(spans: usize) -> ExportTraceServiceRequest {
    let attributes = vec![
        text("service.name", "checkout"),
        text("service.version", "1.42.0"),
        text("telemetry.sdk.language", "rust"),
        text("host.name", "node-17.eu-central-1.example"),
    ];
    let scope = InstrumentationScope { name: "http-server".to_owned(), version: "0.9.1".to_owned(), ..InstrumentationScope::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: (0..spans).map(span).collect(), ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }] }
}

fn bodies(folder: &Path, spans: usize) -> Result<(), Box<dyn Error>> {
    let request = request(spans);
    let protobuf = request.encode_to_vec();
    let json = serde_json::to_vec(&request)?;
    std::fs::write(folder.join("traces.pb"), &protobuf)?;
    std::fs::write(folder.join("traces.pb.gz"), gzip(&protobuf)?)?;
    std::fs::write(folder.join("traces.json"), &json)?;
    std::fs::write(folder.join("traces.json.gz"), gzip(&json)?)?;
    std::fs::write(folder.join("traces.grpc"), framed(0, &protobuf))?;
    std::fs::write(folder.join("traces.gz.grpc"), framed(1, &gzip(&protobuf)?))?;
    std::fs::write(folder.join("traces.places.json"), serde_json::to_vec(&places(&protobuf, spans))?)?;
    Ok(())
}

/// Where each trace's id stands in the body: one list for each trace.
fn places(body: &[u8], spans: usize) -> Vec<Vec<usize>> {
    let of = |trace| {
        let id = trace_id(trace);
        body.windows(id.len()).enumerate().filter(|(_, window)| *window == id).map(|(place, _)| place).collect()
    };
    (0..spans.div_ceil(SPANS_OF_A_TRACE)).map(of).collect()
}

/// At the level of the SDKs: zlib's default.
fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a request of a load test is short");
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

fn found(brokers: &str, topic: &str) -> Result<(), Box<dyn Error>> {
    let mut traces = BTreeMap::<Vec<u8>, (usize, BTreeSet<Vec<u8>>)>::new();
    read(brokers, topic, &BTreeMap::new(), |value| {
        for span in spans(value)? {
            let (copies, ids) = traces.entry(span.trace_id).or_default();
            *copies += 1;
            ids.insert(span.span_id);
        }
        Ok(())
    })?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (trace, (copies, ids)) in traces {
        let trace = trace.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        for _ in 0..if copies > ids.len() { 2 } else { 1 } {
            writeln!(out, "{trace}/{}", ids.len())?;
        }
    }
    Ok(out.flush()?)
}

fn count(brokers: &str, topic: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    let from: BTreeMap<i32, i64> = std::fs::read(file).map_or_else(|_| Ok(BTreeMap::new()), |bytes| serde_json::from_slice(&bytes))?;
    let (mut all, mut records) = (0, 0);
    let ends = read(brokers, topic, &from, |value| {
        records += 1;
        all += spans(value)?.count();
        Ok(())
    })?;
    std::fs::write(file, serde_json::to_vec(&ends)?)?;
    Ok(writeln!(std::io::stdout(), "{all} {records}")?)
}

fn spans(value: &[u8]) -> Result<impl Iterator<Item = Span>, Box<dyn Error>> {
    let request = ExportTraceServiceRequest::decode(value)?;
    Ok(request.resource_spans.into_iter().flat_map(|entry| entry.scope_spans).flat_map(|scope| scope.spans))
}

/// A look at a record's value.
type Looked = Result<(), Box<dyn Error>>;

/// Every record that the topic holds now, from these offsets on; gives those that come next.
fn read(
    brokers: &str,
    topic: &str,
    from: &BTreeMap<i32, i64>,
    mut look: impl FnMut(&[u8]) -> Looked,
) -> Result<BTreeMap<i32, i64>, Box<dyn Error>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "loadtest").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ASK)?;
    let partitions = metadata.topics().first().map(|known| known.partitions()).unwrap_or_default();
    let (mut ends, mut next, mut assignment) = (BTreeMap::new(), BTreeMap::new(), TopicPartitionList::new());
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), ASK)?;
        let low = from.get(&partition.id()).copied().unwrap_or(low);
        next.insert(partition.id(), high);
        if low < high {
            ends.insert(partition.id(), high);
            assignment.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
        }
    }
    consumer.assign(&assignment)?;
    let deadline = Instant::now() + READ;
    while !ends.is_empty() {
        if Instant::now() > deadline {
            return Err(format!("{topic} could not be read to its end").into());
        }
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message?;
            if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                ends.remove(&message.partition());
            }
            look(message.payload().unwrap_or_default())?;
        }
    }
    Ok(next)
}
