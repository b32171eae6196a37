//! Calls over gRPC: what is taken, what is refused, and how each looks on the wire.

use http::Method;

use super::grpc::{EXPORT, HEALTH, framed};
use super::samples::{around_span, deflate, field, gzip, of, varint, zstd};
use super::status::{INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED};
use super::target::{marker, target};

/// Rule: each signal's service, whose only method is Export.
#[tokio::test(flavor = "multi_thread")]
async fn every_signal_is_taken_over_grpc() {
    let target = target().await;
    for (signal, path) in EXPORT.into_iter().enumerate() {
        target.call(path).message(&of(signal, &marker())).send().await.accepted();
    }
}

/// Rule: the answer is an empty `Export…Response`: `partial_success` stays unset.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_over_grpc_is_an_empty_message() {
    let target = target().await;
    for (signal, path) in EXPORT.into_iter().enumerate() {
        let message = target.call(path).message(&of(signal, &marker())).send().await.accepted();
        assert!(message.is_empty(), "{path}: {message:?}");
    }
}

/// Rule: an answer is compressed by nothing that its client has not said it takes.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_grpc_is_plain_unless_gzip_is_asked_for() {
    let target = target().await;
    for (accepted, coding) in [(None, "gzip"), (Some("identity"), "gzip"), (Some("zstd,identity"), "gzip"), (Some("gzip"), "gzip")] {
        let call = target.call(EXPORT[0]).compressed(coding, &gzip(&of(0, &marker())));
        let reply = accepted.into_iter().fold(call, |call, accepted| call.field("grpc-accept-encoding", accepted)).send().await;
        let told = reply.head.get("grpc-encoding").map_or("identity", |told| told.to_str().expect("text"));
        assert!(told == "identity" || Some(told) == accepted, "{told} for {accepted:?}");
    }
}

/// Rule: an empty message is a request with nothing in it, which is a success.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_message_is_a_success() {
    let target = target().await;
    for path in EXPORT {
        target.call(path).message(b"").send().await.accepted();
    }
}

/// Rule: the content type may name the encoding of messages.
#[tokio::test(flavor = "multi_thread")]
async fn the_content_type_may_say_proto() {
    let call = target().await.call(EXPORT[0]).field("content-type", "application/grpc+proto").message(&of(0, &marker())).send().await;
    call.accepted();
}

/// Rule: messages compressed by gzip are taken, and one that is not beside the field is too.
#[tokio::test(flavor = "multi_thread")]
async fn messages_in_gzip_are_taken() {
    let target = target().await;
    target.call(EXPORT[0]).compressed("gzip", &gzip(&of(0, &marker()))).send().await.accepted();
    target.call(EXPORT[0]).field("grpc-encoding", "gzip").message(&of(0, &marker())).send().await.accepted();
}

/// Rule: and by zstd.
#[tokio::test(flavor = "multi_thread")]
async fn messages_in_zstd_are_taken() {
    target().await.call(EXPORT[0]).compressed("zstd", &zstd(&of(0, &marker()))).send().await.accepted();
}

/// Rule: and by deflate.
#[tokio::test(flavor = "multi_thread")]
async fn messages_in_deflate_are_taken() {
    target().await.call(EXPORT[0]).compressed("deflate", &deflate(&of(0, &marker()))).send().await.accepted();
}

/// Rule: a coding that is not known is UNIMPLEMENTED, and the answer names those that are.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_coding_is_unimplemented_and_the_known_ones_are_named() {
    let reply = target().await.call(EXPORT[0]).compressed("lzma", &of(0, &marker())).send().await;
    assert_eq!(reply.refused(), UNIMPLEMENTED);
    let known = reply.head.get("grpc-accept-encoding").and_then(|known| known.to_str().ok()).unwrap_or_default();
    assert!(known.split(',').any(|one| one.trim() == "gzip"), "{known:?}");
}

/// O1. Rule: a message over the limit is refused at its prefix of five bytes, before any of it has come or is waited for;
/// without RetryInfo, as it will never fit (Python's SDK sends it again all the same: it must cost nothing).
#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_at_its_prefix() {
    let target = target().await;
    for (flag, length) in [(0, 100_u32 << 20), (0, u32::MAX)] {
        let prefix = [&[flag][..], &length.to_be_bytes()].concat();
        let reply = target.call(EXPORT[0]).raw(&prefix).left_open().send().await;
        assert_eq!(reply.refused(), RESOURCE_EXHAUSTED, "{length}");
        assert_eq!(reply.retry_info(), None, "{length}");
        assert!(reply.field("grpc-status-details-bin").is_none() || reply.said().retry.is_none(), "{length}");
    }
}

/// O1. Rule: the limit counts what comes out of the decompressor.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_when_unpacked_is_resource_exhausted() {
    let bomb = gzip(&vec![0; 100 << 20]);
    let reply = target().await.call(EXPORT[0]).compressed("gzip", &bomb).send().await;
    assert_eq!(reply.refused(), RESOURCE_EXHAUSTED);
    assert_eq!(reply.retry_info(), None);
}

/// Rule: bad data is INVALID_ARGUMENT, by trailers alone (Java's SDK reads the status only there), with its details.
#[tokio::test(flavor = "multi_thread")]
async fn bad_data_is_invalid_argument_with_details_in_trailers_alone() {
    let target = target().await;
    let bodies = [
        around_span(&marker(), &field(1, &[7; 15])),
        around_span(&marker(), &[varint(2 << 3 | 3), varint(2 << 3 | 4)].concat()),
        around_span(&marker(), &field(5, b"\xff\xfe")),
        b"\x0a\xff".to_vec(),
    ];
    for body in bodies {
        let reply = target.call(EXPORT[0]).message(&body).send().await;
        assert_eq!(reply.refused(), INVALID_ARGUMENT, "{body:?}");
        let said = reply.said();
        assert_eq!((said.code, said.message.as_str()), (INVALID_ARGUMENT, reply.message().as_str()), "{said:?}");
        assert!(said.violations.iter().any(|(_, what)| !what.is_empty()), "{said:?}");
    }
}

/// Rule: no such service or method is UNIMPLEMENTED, with HTTP status 200.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_or_method_is_unimplemented() {
    let target = target().await;
    for path in [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.trace.v2.TraceService/Export",
        "/a.b/C",
        "/grpc.health.v1.Health/Chek",
    ] {
        let reply = target.call(path).message(b"").send().await;
        assert_eq!(reply.refused(), UNIMPLEMENTED, "{path}");
    }
}

/// Rule: nobody is told which services there are.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_reflection() {
    let target = target().await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        assert_eq!(target.call(&path).message(&field(7, b"")).send().await.code(), UNIMPLEMENTED, "{path}");
    }
}

/// Rule: `grpc.health.v1.Health/Check` says SERVING of a server that takes requests, without a token too.
#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_says_serving() {
    let target = target().await;
    for target in [target.clone(), target.with_token(None)] {
        let message = target.call(HEALTH).message(b"").send().await.accepted();
        assert_eq!(message.as_ref(), [0x08, 1]);
    }
}

/// Rule: what is no call (no message, half of one, two of them, a flag that does not exist) is refused and stores nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_exactly_one_message_is_refused() {
    let (target, marker) = (target().await, marker());
    let one = framed(0, &of(0, &marker));
    let half = &one[..one.len() / 2];
    let calls = [("none", Vec::new()), ("half", half.to_vec()), ("two", one.repeat(2)), ("flag 2", framed(2, &of(0, &marker)))];
    for (what, bytes) in calls {
        let reply = target.call(EXPORT[0]).raw(&bytes).send().await;
        assert_ne!(reply.code(), 0, "{what}: {reply:?}");
    }
    let flagged = target.call(EXPORT[0]).raw(&framed(1, &of(0, &marker))).send().await;
    assert_ne!(flagged.code(), 0, "compressed by nothing: {flagged:?}");
    if let Some(records) = target.records("otlp_spans", &marker).await {
        assert_eq!(records.len(), 0);
    }
}

/// Rule: another method than POST is no call, and is no success in the eyes of any SDK.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_another_method_is_refused() {
    let target = target().await;
    for method in [Method::GET, Method::PUT] {
        let reply = target.call(EXPORT[0]).method(method.clone()).send().await;
        assert!(reply.http == 405 || reply.code() != 0, "{method}: {reply:?}");
    }
}
