//! The specification's own examples, written as protobuf by the tables of the schema, against another decoder.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use serde_json::Value;

use super::build::{field, fixed32, fixed64, number};
use crate::otlp::schema::{self, Kind, Message};
use crate::otlp::{Depth, Keys, Plan, Signal, check, cut};

/// The examples, and how many items each has. None: this machine has no vectors.
const EXAMPLES: [(&str, Signal, u64); 4] = [
    ("trace.json", Signal::Traces, 1),
    ("metrics.json", Signal::Metrics, 4),
    ("logs.json", Signal::Logs, 1),
    ("events.json", Signal::Logs, 1),
];

fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let root = std::env::var_os("SLUICEGATE_VECTORS").map_or_else(beside, PathBuf::from);
    Some(root.join("otlp")).filter(|path| path.is_dir())
}

/// As `tests/gateway/support.rs` says it: `tests/run` shows it, and does not count it as passed.
fn not_run(what: &str) {
    let Some(path) = std::env::var_os("SLUICEGATE_NOT_RUN") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of tests/run can be written");
    writeln!(file, "{what}").expect("the file of tests/run can be written");
}

fn examples() -> Vec<(Signal, u64, Bytes)> {
    let Some(folder) = folder() else {
        not_run("1 OTLP's examples: the vectors are missing; set SLUICEGATE_VECTORS");
        return Vec::new();
    };
    let read = |(name, signal, items)| {
        let json = std::fs::read(folder.join(name)).expect("a readable vector");
        let json: Value = serde_json::from_slice(&json).expect("a vector is JSON");
        (signal, items, Bytes::from(encoded(&json, schema::request(signal))))
    };
    EXAMPLES.map(read).into()
}

/// JSON's names are the schema's in camelCase; numbers of 64 bits are strings, unless they are doubles.
fn encoded(json: &Value, message: &'static Message) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in json.as_object().expect("a message") {
        let snake: String = name.chars().flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain(c.to_lowercase())).collect();
        let (place, found) = message.named(&snake).unwrap_or_else(|| panic!("the schema has no {snake}"));
        let values = match value {
            Value::Array(values) if !matches!(found.kind, Kind::ManyFixed64 | Kind::ManyVarints) => values.clone(),
            value => vec![value.clone()],
        };
        out.extend(values.iter().flat_map(|value| one(place, found.kind, &snake, value)));
    }
    out
}

fn one(place: u32, kind: Kind, name: &str, value: &Value) -> Vec<u8> {
    match kind {
        Kind::Varint if matches!(name, "scale" | "offset") => number(place, (value.as_i64().expect("a number") << 1) as u64),
        Kind::Varint => number(place, integer(value)),
        Kind::Fixed64 => fixed64(place, bits(value)),
        Kind::Fixed32 => fixed32(place, bits(value) as u32),
        Kind::Text => field(place, value.as_str().expect("a text").as_bytes()),
        Kind::TraceId | Kind::SpanId | Kind::Bytes => field(place, &hex::decode(value.as_str().expect("hex")).expect("hex")),
        Kind::ManyFixed64 => {
            let all: Vec<_> = value.as_array().expect("a list").iter().flat_map(|value| bits(value).to_le_bytes()).collect();
            field(place, &all)
        }
        Kind::ManyVarints => value.as_array().expect("a list").iter().flat_map(|value| number(place, integer(value))).collect(),
        Kind::Message(inside) | Kind::Item(inside) | Kind::Data(inside) => field(place, &encoded(value, inside)),
    }
}

/// The examples write integers of 64 bits as strings, and doubles as numbers.
fn bits(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse::<i64>().expect("an integer") as u64,
        value => value.as_f64().expect("a double").to_bits(),
    }
}

/// What is a varint: an enum, a truth, or an integer.
fn integer(value: &Value) -> u64 {
    value.as_bool().map(u64::from).or(value.as_u64()).unwrap_or_else(|| bits(value))
}

#[test]
fn the_examples_are_taken_counted_and_cut() {
    for (signal, items, bytes) in examples() {
        let checked = check(signal, bytes.clone(), Depth::Full, false).expect("the specification's own");
        assert_eq!((checked.items, checked.bytes.as_ptr()), (items, bytes.as_ptr()));
        let plan = Plan { keys: Keys::None, partitions: 0, record_bytes: bytes.len() as u64 - 1, max_fragments: 10, max_bytes: 100_000 };
        let cut = cut(signal, &bytes, &plan).expect("it is cut");
        assert_eq!(cut.fragments.iter().map(|fragment| fragment.items).sum::<u64>() + cut.rejected.len() as u64, items);
    }
}

#[test]
fn the_examples_are_the_same_for_another_decoder() {
    let Some((_, _, bytes)) = examples().into_iter().find(|(signal, ..)| *signal == Signal::Metrics) else { return };
    let mut request = ExportMetricsServiceRequest::decode(bytes).expect("it decodes");
    let metrics = std::mem::take(&mut request.resource_metrics[0].scope_metrics[0].metrics);
    let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["my.counter", "my.gauge", "my.histogram", "my.exponential.histogram"]);
    let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!("{:?}", metrics[2]) };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.sum, &point.bucket_counts, &point.explicit_bounds), (2, Some(2.0), &vec![1, 1], &vec![1.0]));
    let Some(Data::ExponentialHistogram(histogram)) = &metrics[3].data else { panic!("{:?}", metrics[3]) };
    let positive = histogram.data_points[0].positive.as_ref().expect("positive buckets");
    assert_eq!((positive.offset, &positive.bucket_counts), (1, &vec![0, 2]));
}
