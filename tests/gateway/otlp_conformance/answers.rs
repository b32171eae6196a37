//! What a success looks like, what a partial one, and what bad data is told.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::support::client::Answer;

use super::grpc::EXPORT;
use super::samples::{PATHS, around_span, field, of, span, span_json, traces_of};
use super::status::{INVALID_ARGUMENT, said};
use super::target::{Target, brokerless, marker, own, target};

/// Rule: protobuf: 200 and an empty `Export…Response`, which is no byte at all: `partial_success` stays unset.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_in_protobuf_is_200_with_an_empty_body() {
    let target = target().await;
    for (signal, path) in PATHS.into_iter().enumerate() {
        let answer = target.post(path).protobuf(of(signal, &marker())).send().await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}: {}", answer.text());
    }
}

/// Rule: JSON: 200 and `{}`.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_in_json_is_200_with_two_braces() {
    let answer = target().await.post(PATHS[0]).json(span_json(&marker(), "")).send().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
}

/// Rule: a request with nothing in it is a success.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_request_is_a_success() {
    let target = target().await;
    for path in PATHS {
        assert_eq!(target.post(path).protobuf("").send().await.status, 200, "{path}");
        assert_eq!(target.post(path).json("{}").send().await.status, 200, "{path}");
    }
    assert_eq!(target.post(PATHS[0]).protobuf(traces_of("empty", Vec::new()).encode_to_vec()).send().await.status, 200);
}

/// Rule: 200, never 202, also where the inbox took it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_inbox_took_is_200_too() {
    let Some(target) = brokerless(|setup| setup).await else { return };
    for (signal, path) in PATHS.into_iter().enumerate() {
        let answer = target.post(path).protobuf(of(signal, &marker())).send().await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}: {}", answer.text());
    }
    target.call(EXPORT[0]).message(&of(0, &marker())).send().await.accepted();
    assert!(target.gate().admin_get("/status").await.json()["inbox"]["rows"].as_u64().is_some_and(|rows| rows >= 4));
}

fn one_too_large(marker: &str) -> Vec<u8> {
    let mut spans: Vec<_> = (0..10).map(|n| span(n, n)).collect();
    spans[3].name = "GET /too/large".to_owned();
    spans[3].trace_state = "x".repeat(3 << 20);
    traces_of(marker, spans).encode_to_vec()
}

async fn nine_of_ten(target: &Target, marker: &str) {
    let Some(records) = target.records("otlp_spans", marker).await else { return };
    let spans = records.iter().map(|record| {
        let request = super::records::decoded(&record.value);
        request.resource_spans.iter().flat_map(|entry| &entry.scope_spans).map(|scope| scope.spans.len()).sum::<usize>()
    });
    assert_eq!(spans.sum::<usize>(), 9);
}

/// O4. Rule: what can never be taken is rejected alone: 200, its exact count, and its name and size in the message.
#[tokio::test(flavor = "multi_thread")]
async fn one_item_too_large_is_rejected_alone_and_named() {
    let (target, marker) = (target().await, marker());
    let answer = target.post(PATHS[0]).protobuf(one_too_large(&marker)).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = ExportTraceServiceResponse::decode(answer.body).expect("a response").partial_success.expect("a partial success");
    assert_eq!(partial.rejected_spans, 1, "{partial:?}");
    assert!(partial.error_message.contains("GET /too/large"), "{partial:?}");
    nine_of_ten(&target, &marker).await;
}

/// Rule: the same in JSON, where a 64-bit count is a string.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_success_in_json_has_its_count_as_text() {
    let target = target().await;
    let next = r#"},{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B175""#;
    let large = span_json(&marker(), &format!(r#","traceState":"{}"{next}"#, "x".repeat(3 << 20)));
    let answer = target.post(PATHS[0]).json(large).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "1", "{partial}");
    assert!(partial["errorMessage"].as_str().is_some_and(|message| !message.is_empty()), "{partial}");
}

/// Rule: and over gRPC, with status 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_success_over_grpc_is_a_message_of_a_success() {
    let (target, marker) = (target().await, marker());
    let message = target.call(EXPORT[0]).message(&one_too_large(&marker)).send().await.accepted();
    let partial = ExportTraceServiceResponse::decode(message).expect("a response").partial_success.expect("a partial success");
    assert_eq!(partial.rejected_spans, 1, "{partial:?}");
    nine_of_ten(&target, &marker).await;
}

/// Rule: Python's SDK and browsers never look at a partial success: items are counted here too, by signal and outcome, and
/// the log says whose they are.
#[tokio::test(flavor = "multi_thread")]
async fn rejected_items_are_counted_and_logged_with_their_sender() {
    let Some(target) = own(|setup| setup).await else { return };
    assert_eq!(target.post(PATHS[0]).protobuf(one_too_large(&marker())).send().await.status, 200);
    let metrics = target.gate().admin_get("/metrics").await.text();
    let count = |outcome: &str| {
        let of_outcome =
            |line: &&str| line.starts_with("sluicegate_otlp_items_total{") && line.contains("traces") && line.contains(outcome);
        metrics.lines().filter(of_outcome).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    assert_eq!((count("accepted_broker"), count("too_large")), (9, 1), "{metrics}");
    let lines = target.gate().lines();
    let told = |line: &&String| line.contains("rejected") && line.contains("sender") && line.contains("traces");
    assert_eq!(lines.iter().filter(told).count(), 1, "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("/too/large")), "what the sender wrote stands in no log");
}

/// Rule: nothing that is only for now is told by a partial success: a quota that is used up refuses the whole request.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_is_no_partial_success() {
    let tier = [("EVENTS_PER_SECOND", "0.01"), ("BURST", "12")];
    let small = |setup| {
        tier.iter().fold(setup, |setup: crate::support::gate::Setup, (name, value)| {
            setup.env(&format!("SLUICEGATE__LIMITS__TIERS__STANDARD__{name}"), value)
        })
    };
    let Some(target) = own(small).await else { return };
    let ten = |marker: &str| traces_of(marker, (0..10).map(|n| span(n, n)).collect()).encode_to_vec();
    let (first, second) = (marker(), marker());
    assert_eq!(target.post(PATHS[0]).protobuf(ten(&first)).send().await.status, 200);
    let answer = target.post(PATHS[0]).protobuf(ten(&second)).send().await;
    assert_eq!(answer.status, 503, "items are what is counted: {}", answer.text());
    assert!(target.records("otlp_spans", &second).await.is_some_and(|records| records.is_empty()), "the whole or nothing");
}

fn names_its_fault(answer: &Answer) {
    let said = said(answer);
    assert_eq!((answer.status, said.code), (400, INVALID_ARGUMENT), "{said:?}");
    assert!(!said.message.is_empty() && said.violations.iter().any(|(_, what)| !what.is_empty()), "{said:?}");
    assert!(said.retry.is_none() && answer.header("retry-after").is_none(), "the same bytes will never do: {said:?}");
}

/// Rule: bad data is 400 / INVALID_ARGUMENT, a Status with `BadRequest` details, in protobuf.
#[tokio::test(flavor = "multi_thread")]
async fn bad_protobuf_is_400_with_bad_request_details() {
    names_its_fault(&target().await.post(PATHS[0]).protobuf(around_span(&marker(), &field(1, &[7; 15]))).send().await);
}

/// Rule: and in JSON.
#[tokio::test(flavor = "multi_thread")]
async fn bad_json_is_400_with_bad_request_details() {
    names_its_fault(&target().await.post(PATHS[0]).json(r#"{"resourceSpans":[{"scopeSpans":7}]}"#).send().await);
}

/// Rule: an answer stays far below 4 MiB, however much of the request it could name.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_short_however_long_what_it_speaks_of() {
    let target = target().await;
    let mut long = span(1, 1);
    long.name = "n".repeat(3 << 20);
    let answer = target.post(PATHS[0]).protobuf(traces_of(&marker(), vec![long]).encode_to_vec()).send().await;
    assert!(answer.body.len() < 8 << 10, "{} bytes", answer.body.len());
    let unknown = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{}"}}]}}]}}]}}"#, "g".repeat(1 << 20));
    let answer = target.post(PATHS[0]).json(unknown).send().await;
    assert!(answer.status == 400 && answer.body.len() < 8 << 10, "{} with {} bytes", answer.status, answer.body.len());
}
