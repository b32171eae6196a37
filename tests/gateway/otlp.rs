//! Telemetry by OTLP, on a real broker: what was acknowledged is in the topic as it was sent, on the partition that its trace
//! belongs on; what could not be taken is to be sent again, and what is wrong for good is named.

pub(crate) mod sender;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message;
use sluicegate::partition::of_key;

use super::support::gate::{Gate, Setup};
use super::support::kafka::Kafka;
use super::support::kafka_read::Record;
use super::support::wire::Wire;
use super::support::{DEADLINE, eventually};
use sender::{Said, Signal, Way, sample, send, span, spans_of, traces};

/// A broker with the three topics.
async fn broker(partitions: i32) -> Kafka {
    let kafka = Kafka::start().await;
    for signal in Signal::ALL {
        kafka.create_topic(signal.topic(), partitions, &[]).await;
    }
    kafka
}

/// A gate whose deadlines do not come in a test's way.
fn setup(more: &str) -> Setup {
    Setup::new().config(&format!("[otlp]\nanswer_within = \"60s\"\n{more}"))
}

const GENEROUS: &str =
    "[limits.tiers.standard]\nevents_per_second = 100000.0\nburst = 1000000\nkib_per_second = 1000000.0\nkib_burst = 1000000\n";

async fn rows(gate: &Gate) -> u64 {
    gate.admin_get("/status").await.json()["inbox"]["rows"].as_u64().expect("a number")
}

fn named(record: &Record, name: &str) -> Vec<String> {
    let values = record.headers.iter().filter(|(found, _)| found == name);
    values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
}

fn success(said: &Said, way: Way) {
    let (status, body) = match way {
        Way::Grpc => (0, &b""[..]),
        Way::Protobuf => (200, &b""[..]),
        Way::Json => (200, &b"{}"[..]),
    };
    assert_eq!((said.status, &said.body[..]), (status, body), "{way:?}: {said:?}");
}

/// Scenario: each signal, by each way, gzipped and not.
/// Guarantees: every one is acknowledged with nothing said of partial success; the record has the bytes that were sent
/// (those of protobuf where JSON was), and the gate's headers once each.
#[tokio::test(flavor = "multi_thread")]
async fn every_signal_by_every_way_is_in_its_topic_byte_for_byte() {
    let kafka = broker(3).await;
    let gate = setup("").broker(&kafka).start().await;
    let token = gate.token(&["--sub", "shop"]).await;
    let ways = [Way::Protobuf, Way::Json, Way::Grpc];
    for signal in Signal::ALL {
        let (protobuf, json) = sample(signal);
        for (way, gzip) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            let body = if way == Way::Json { &json } else { &protobuf };
            success(&send(&gate, &token, way, signal, body, gzip).await, way);
        }
        let records = kafka.consume_all(signal.topic()).await;
        assert_eq!(records.len(), 6, "{signal:?}");
        for record in &records {
            assert_eq!(record.value, protobuf, "{signal:?}");
            assert_eq!((&record.key, named(record, "x-sluicegate-fragment").len()), (&None, 0));
            assert_eq!(named(record, "x-deml-event-id").len(), 1);
            assert_eq!(named(record, "x-deml-principal"), ["dev:shop"]);
        }
        let mut doors: Vec<_> = records.iter().flat_map(|record| named(record, "x-deml-source")).collect();
        doors.sort();
        assert_eq!(doors, ["otlp", "otlp", "otlp", "otlp", "otlp_grpc", "otlp_grpc"]);
    }
    let text = gate.admin_get("/metrics").await.text();
    for line in [
        "sluicegate_otlp_items_total{signal=\"traces\",outcome=\"accepted_broker\"} 12",
        "sluicegate_otlp_items_total{signal=\"metrics\",outcome=\"accepted_broker\"} 12",
        "sluicegate_otlp_items_total{signal=\"logs\",outcome=\"accepted_broker\"} 6",
        "sluicegate_events_total{door=\"otlp\",outcome=\"accepted_broker\"} 12",
        "sluicegate_events_total{door=\"otlp_grpc\",outcome=\"accepted_broker\"} 6",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

/// Scenario: one request with the spans of forty traces; one with a span of 3 MB among others; one of 40 MB.
/// Guarantees: each trace is whole on the partition that murmur2 of its id in hex names; exactly the large span is rejected, by
/// name; the large request is whole in the topic, in records that say of which request they are.
#[tokio::test(flavor = "multi_thread")]
async fn traces_stay_whole_and_what_is_too_large_for_a_record_is_cut() {
    let kafka = broker(6).await;
    let config = format!("max_body_bytes = \"64 MiB\"\nmax_decoded_body_bytes = \"64 MiB\"\n{GENEROUS}[limits]\nin_flight = \"512 MiB\"\n");
    let gate = setup(&config).broker(&kafka).start().await;
    let token = gate.token(&["--sub", "shop"]).await;

    let spans: Vec<_> = (0..200).map(|n| span(n % 40, &format!("s{n}"))).collect();
    success(&send(&gate, &token, Way::Protobuf, Signal::Traces, &traces(spans.clone()).encode_to_vec(), false).await, Way::Protobuf);
    let records = kafka.consume_all("otlp_spans").await;
    assert!(records.len() <= 6, "{} records", records.len());
    let mut found = Vec::new();
    let mut fragments = BTreeMap::new();
    for record in &records {
        assert_eq!(record.key, None);
        let fragment = named(record, "x-sluicegate-fragment").concat();
        let (request, place) = fragment.split_once('/').expect("a request and a place");
        fragments.entry(request.to_owned()).or_insert_with(Vec::new).push(place.to_owned());
        for span in spans_of(&record.value) {
            assert_eq!(record.partition, of_key(hex::encode(&span.trace_id).as_bytes(), 6));
            found.push(span);
        }
    }
    found.sort_by_key(|span| span.name[1..].parse::<u32>().expect("a number"));
    assert_eq!(found, spans);
    let places = fragments.into_values().next().expect("one request").len();
    assert_eq!(places, records.len());

    let large = [span(1, "before"), span(1, &"x".repeat(3_000_000)), span(1, "after")];
    let said = send(&gate, &token, Way::Grpc, Signal::Traces, &traces(large.to_vec()).encode_to_vec(), true).await;
    let (rejected, message) = said.partial().expect("a partial success");
    assert_eq!((said.status, rejected), (0, 1), "{message}");
    assert!(message.contains("xxx") && message.len() <= 1_000, "{message}");
    let alone = send(&gate, &token, Way::Protobuf, Signal::Traces, &traces(large[1..2].to_vec()).encode_to_vec(), false).await;
    assert_eq!(alone.status, 400, "nothing of it can be taken: {alone:?}");
    let kept: Vec<_> = kafka.consume_all("otlp_spans").await.iter().flat_map(|record| spans_of(&record.value)).collect();
    assert_eq!(kept.len(), 202);

    let spans: Vec<_> = (0..40_000_u32).map(|n| span(n, &format!("{n}-{}", "y".repeat(1_000)))).collect();
    let body = traces(spans.clone()).encode_to_vec();
    assert!(body.len() > 40 << 20, "{}", body.len());
    success(&send(&gate, &token, Way::Protobuf, Signal::Traces, &body, true).await, Way::Protobuf);
    let records = kafka.consume_all("otlp_spans").await;
    let mut whole: Vec<_> = records.iter().flat_map(|record| spans_of(&record.value)).filter(|span| span.name.contains("-y")).collect();
    whole.sort_by_key(|span| span.trace_id.clone());
    assert_eq!(whole.len(), spans.len());
    assert!(whole == spans, "every span once, as it was");
    assert!(records.iter().all(|record| record.value.len() < 960 << 10));
}

/// Scenario: the broker is down; with the inbox, and then without it.
/// Guarantees: with the inbox the answer is a success all the same, and the records are in the topic when the broker is back.
/// Without it, HTTP says 503 at once with a wait, and gRPC holds the call: to its end in vain, or until the broker is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_a_success_with_the_inbox_and_a_wait_without_it() {
    let mut kafka = broker(3).await;
    let gate = setup("").shipped().broker(&kafka).start().await;
    let token = gate.token(&["--sub", "shop"]).await;
    let (protobuf, _) = sample(Signal::Logs);
    success(&send(&gate, &token, Way::Protobuf, Signal::Logs, &protobuf, false).await, Way::Protobuf);
    kafka.kill_9();
    for way in [Way::Protobuf, Way::Grpc, Way::Protobuf, Way::Grpc] {
        success(&send(&gate, &token, way, Signal::Logs, &protobuf, false).await, way);
    }
    assert!(rows(&gate).await > 0);

    let bare = "hold = \"40s\"\n[inbox]\nkind = \"none\"\n";
    let bare = setup(bare).shipped().broker(&kafka).start().await;
    let bare_token = bare.token(&["--sub", "shop"]).await;
    let refused = eventually("it is known that nothing is taken", DEADLINE, async || {
        let said =
            send(&bare, &bare_token, Way::Json, Signal::Logs, b"{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{}]}]}]}", false).await;
        assert_eq!(said.status, 503, "{said:?}");
        (said.header("retry-after") == Some("2")).then_some(said)
    });
    assert_eq!(refused.await.header("content-type"), Some("application/json"));
    let begun = Instant::now();
    let method = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let said = sender::call(&bare, &bare_token, method, &protobuf, false, &[("grpc-timeout", "6S")]).await;
    let took = begun.elapsed();
    assert!(matches!(said.status, 4 | 14) && said.headers.contains_key("google.rpc.retryinfo-bin"), "{said:?}");
    assert!(took > Duration::from_secs(2), "it was held: {took:?}");
    let held = sender::call(&bare, &bare_token, method, &protobuf, false, &[]);
    let (held, ()) = tokio::join!(held, kafka.restart());
    success(&held, Way::Grpc);

    eventually("the inbox is replayed", DEADLINE, async || (rows(&gate).await == 0).then_some(())).await;
    let records = kafka.consume_all("otlp_logs").await;
    assert!(records.len() >= 6, "what was acknowledged is there: {}", records.len());
    assert!(records.iter().filter(|record| named(record, "x-deml-principal") == ["dev:shop"]).count() == records.len());
}

/// Scenario: no grant, a quota, a message that is too large, and a listener for OTLP alone.
/// Guarantees: refusals for good are never retryable ones, the quota is; a refused request is charged nothing; the listener
/// has no other door.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_and_who_is_over_a_bound_are_told_apart() {
    let config = "max_body_bytes = \"64 KiB\"\nmax_decoded_body_bytes = \"64 KiB\"\n\
         [limits.tiers.standard]\nevents_per_second = 0.1\nburst = 5\n\
         [listeners.extra.otlp]\nbind = \"127.0.0.1:0\"\ntls = \"off\"\ndoors = [\"otlp\"]\n";
    let gate = setup(config).start().await;
    let (mine, others) = (gate.token(&["--sub", "a"]).await, gate.token(&["--sub", "b", "--topics", "events"]).await);
    let spans = |count: u32| traces((0..count).map(|n| span(n, "s")).collect()).encode_to_vec();
    for (way, denied) in [(Way::Protobuf, 403), (Way::Json, 403), (Way::Grpc, 7)] {
        let body = if way == Way::Json { b"{}".to_vec() } else { spans(1) };
        let said = send(&gate, &others, way, Signal::Traces, &body, false).await;
        assert_eq!((said.status, said.header("retry-after")), (denied, None), "{said:?}");
        let nobody = send(&gate, "nobody", way, Signal::Traces, &body, false).await;
        assert_eq!(nobody.status, if way == Way::Grpc { 16 } else { 401 });
    }
    for (way, gzip, too_large) in [(Way::Protobuf, false, 413), (Way::Protobuf, true, 413), (Way::Grpc, false, 8), (Way::Grpc, true, 8)] {
        let said = send(&gate, &mine, way, Signal::Traces, &traces(vec![span(1, &"x".repeat(100_000))]).encode_to_vec(), gzip).await;
        assert_eq!((said.status, said.header("retry-after"), said.header("google.rpc.retryinfo-bin")), (too_large, None, None), "{said:?}");
    }
    success(&send(&gate, &mine, Way::Protobuf, Signal::Traces, &spans(3), false).await, Way::Protobuf);
    let over = send(&gate, &mine, Way::Protobuf, Signal::Traces, &spans(4), false).await;
    assert_eq!((over.status, over.header("retry-after")), (503, Some("2")), "{over:?}");
    let over = send(&gate, &mine, Way::Grpc, Signal::Traces, &spans(4), false).await;
    assert_eq!((over.status, over.headers.contains_key("google.rpc.retryinfo-bin")), (8, true), "{over:?}");
    success(&send(&gate, &mine, Way::Grpc, Signal::Traces, &spans(2), false).await, Way::Grpc);

    let status = gate.admin_get("/status").await.json();
    let listener = status["listeners"].as_array().expect("listeners").iter().find(|one| one["name"] == "otlp").expect("it is there");
    assert_eq!(listener["doors"], serde_json::json!(["otlp"]));
    let url = |path: &str| format!("http://{}{path}", listener["address"].as_str().expect("an address"));
    let post = async |path: &str| {
        let bearer = format!("Bearer {mine}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        gate.client.send(http::Method::POST, &url(path), &headers, "{}").await.expect("an answer").status
    };
    assert_eq!((post("/v1/logs").await, post("/v1/events/events").await), (200, 404));
    let wire = Wire::plain(listener["address"].as_str().expect("an address").parse().expect("an address")).await;
    let health = sender::call_over(wire, "nobody", "/grpc.health.v1.Health/Check", b"", false, &[]).await;
    assert_eq!((health.status, &health.body[..]), (0, &[8, 1][..]), "it serves, and says so in plain text");
}
