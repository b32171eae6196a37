//! What lies in Kafka, as the Collector's receiver reads it: topic, value, headers, key, partition.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::support::gate::Setup;
use crate::support::kafka_read::Record;
use crate::support::vectors;

use super::grpc::EXPORT;
use super::samples::{PATHS, gzip, of, span, text, traces, traces_of};
use super::target::{PARTITIONS, TOPICS, Target, is_elsewhere, marker, own, target};

/// A record's value as a request of traces.
pub fn decoded(value: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(value).unwrap_or_else(|error| panic!("no request ({error}): {value:?}"))
}

/// Kafka's own hash of a key, as its Java client has it, written from its description.
fn murmur2(key: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ u32::try_from(key.len()).expect("short");
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four")).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (place, byte) in rest.iter().enumerate().rev() {
        h ^= u32::from(*byte) << (8 * place);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    i32::try_from((h ^ (h >> 15)) & 0x7fff_ffff).expect("31 bits")
}

async fn sent(target: &Target, signal: usize, body: Vec<u8>) {
    let answer = target.post(PATHS[signal]).protobuf(body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Rule: the topics are those that the Collector's receiver reads by default; the value is the request, byte for byte, whether
/// it came plain, compressed, or over gRPC.
#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_the_request_byte_for_byte() {
    let target = target().await;
    for (signal, topic) in TOPICS.into_iter().enumerate() {
        let marker = marker();
        let body = of(signal, &marker);
        sent(&target, signal, body.clone()).await;
        let packed = target.post(PATHS[signal]).protobuf(gzip(&body)).field("content-encoding", "gzip").send().await;
        assert_eq!(packed.status, 200);
        target.call(EXPORT[signal]).message(&body).send().await.accepted();
        let Some(records) = target.records(topic, &marker).await else { return };
        assert_eq!(records.len(), 3, "{topic}");
        assert!(records.iter().all(|record| record.value == body), "{topic}");
    }
}

/// Rule: a request in JSON is transcoded: one topic has one encoding. The examples of the specification arrive whole.
#[tokio::test(flavor = "multi_thread")]
async fn json_arrives_as_protobuf() {
    let Some(folder) = vectors("otlp") else { return crate::support::not_run(1, "the test vectors (otlp) are not on this machine") };
    let target = target().await;
    for (path, topic, file) in [(0, 0, "trace.json"), (1, 1, "metrics.json"), (2, 2, "logs.json"), (2, 2, "events.json")] {
        let marker = marker();
        let text = std::fs::read_to_string(folder.join(file)).expect("readable").replace("my.service", &marker);
        let answer = target.post(PATHS[path]).json(text).send().await;
        assert_eq!(answer.status, 200, "{file}: {}", answer.text());
        let Some(records) = target.records(TOPICS[topic], &marker).await else { return };
        assert_eq!(records.len(), 1, "{file}");
        assert_ne!(records[0].value[0], b'{', "{file}");
        if file == "trace.json" {
            let request = decoded(&records[0].value);
            let span = &request.resource_spans[0].scope_spans[0].spans[0];
            assert_eq!((span.name.as_str(), span.kind, span.end_time_unix_nano), ("I'm a server span", 2, 1_544_712_661_000_000_000));
        }
    }
}

/// Rule: every header once: who sent it, and the record's own name; the receiver appends repeated ones.
#[tokio::test(flavor = "multi_thread")]
async fn every_header_stands_there_once() {
    let (target, marker) = (target().await, marker());
    sent(&target, 0, traces(&marker)).await;
    let Some(records) = target.records("otlp_spans", &marker).await else { return };
    for record in records {
        let names: Vec<_> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert!(distinct.len() == names.len(), "{names:?}");
        assert!(record.header("x-sluicegate-fragment").is_none(), "it is whole: {names:?}");
    }
}

/// Rule: the principal is named in a header.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_names_its_principal() {
    if is_elsewhere("a gate, whose records name who sent them") {
        return;
    }
    let (target, marker) = (target().await, marker());
    sent(&target, 0, traces(&marker)).await;
    let records = target.records("otlp_spans", &marker).await.expect("a broker of the test's own");
    let named = |record: &Record| record.headers.iter().filter(|(_, value)| value.ends_with(b"sender")).count();
    assert_eq!(records.iter().map(named).collect::<Vec<_>>(), [1]);
}

/// Rule: by default a trace lies on the partition that its id as a key would have, the key is null, and there is at most one
/// record a partition.
#[tokio::test(flavor = "multi_thread")]
async fn each_trace_lies_on_the_partition_of_its_id_without_a_key() {
    if is_elsewhere("the gate's own way to place traces") {
        return;
    }
    let (target, marker) = (target().await, marker());
    let spans: Vec<_> = (0..60).map(|n| span(n % 20, n)).collect();
    sent(&target, 0, traces_of(&marker, spans.clone()).encode_to_vec()).await;
    let records = target.records("otlp_spans", &marker).await.expect("a broker of the test's own");
    let partitions: BTreeSet<_> = records.iter().map(|record| record.partition).collect();
    assert!(records.len() == partitions.len() && partitions.len() == 3, "{partitions:?} of {} records", records.len());
    let mut arrived = Vec::new();
    for record in &records {
        assert_eq!(record.key, None);
        for span in decoded(&record.value).resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans) {
            assert_eq!(murmur2(hex::encode(&span.trace_id).as_bytes()) % PARTITIONS, record.partition, "{span:?}");
            arrived.push(span);
        }
    }
    arrived.sort_by_key(|span| span.start_time_unix_nano);
    assert_eq!(arrived, spans);
}

fn keys(setup: Setup, traces: &str, metrics: &str, logs: &str) -> Setup {
    let by = |setup: Setup, signal: &str, keys: &str| setup.env(&format!("SLUICEGATE__OTLP__{signal}_KEYS"), keys);
    by(by(by(setup, "TRACES", traces), "METRICS", metrics), "LOGS", logs)
}

/// Rule: by setting, the keys of the Collector's exporter: of a trace its id in 32 lower-case digits, one trace a record.
#[tokio::test(flavor = "multi_thread")]
async fn a_traces_key_is_its_id_by_setting() {
    let Some(target) = own(|setup| keys(setup, "trace_id", "none", "none")).await else { return };
    let marker = marker();
    sent(&target, 0, traces_of(&marker, (0..6).map(|n| span(n % 3, n)).collect()).encode_to_vec()).await;
    let records = target.records("otlp_spans", &marker).await.expect("a broker of the test's own");
    let mut keys = BTreeMap::new();
    for record in &records {
        let ids: BTreeSet<_> =
            decoded(&record.value).resource_spans[0].scope_spans[0].spans.iter().map(|s| hex::encode(&s.trace_id)).collect();
        let key = String::from_utf8(record.key.clone().expect("a key")).expect("digits");
        assert_eq!(ids.into_iter().collect::<Vec<_>>(), std::slice::from_ref(&key));
        assert_eq!(record.partition, murmur2(key.as_bytes()) % PARTITIONS);
        keys.insert(key, ());
    }
    assert_eq!((records.len(), keys.len()), (3, 3));
}

/// Rule: and of metrics and logs the hash of the resource's attributes, whose value for {service.name: "svc", a: 5} is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_resources_key_is_the_exporters_by_setting() {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    let Some(target) = own(|setup| keys(setup, "none", "resource", "resource")).await else { return };
    let five = AnyValue { value: Some(Value::IntValue(5)) };
    let number = KeyValue { key: "a".to_owned(), value: Some(five), ..KeyValue::default() };
    let mut request = opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest::decode(of(1, "svc").as_slice())
        .expect("a request");
    request.resource_metrics[0].resource.as_mut().expect("a resource").attributes = vec![text("service.name", "svc"), number];
    sent(&target, 1, request.encode_to_vec()).await;
    let records = target.records("otlp_metrics", "svc").await.expect("a broker of the test's own");
    let keys: Vec<_> = records.iter().map(|record| record.key.as_ref().map(hex::encode)).collect();
    assert_eq!(keys, [Some("60719756c71b0e24cbad0e92d00a366b".to_owned())]);
}

/// Rule: otherwise no key.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_logs_have_no_key_by_default() {
    let target = target().await;
    for signal in [1, 2] {
        let marker = marker();
        sent(&target, signal, of(signal, &marker)).await;
        let Some(records) = target.records(TOPICS[signal], &marker).await else { return };
        assert_eq!(records.iter().map(|record| record.key.clone()).collect::<Vec<_>>(), [None], "{}", TOPICS[signal]);
    }
}
