//! Compressed bodies, bodies in pieces, and how large a body may be.

use super::grpc::EXPORT;
use super::http::{JSON, PROTOBUF};
use super::samples::{PATHS, deflate, gzip, of, span, traces, traces_of, zstd};
use super::status::said;
use super::target::{Target, marker, target};
use prost::Message;

/// The smallest bomb: what no server's limit lets through.
const BOMB: usize = 100 << 20;

async fn takes(coding: &str, pack: impl Fn(&[u8]) -> Vec<u8>) {
    let target = target().await;
    for (kind, body) in [(PROTOBUF, traces(&marker())), (JSON, b"{}".to_vec())] {
        let ask = target.post(PATHS[0]).body(pack(&body)).field("content-type", kind).field("content-encoding", coding);
        let (whole, pieces) = (ask.clone().send().await, ask.chunked().send().await);
        assert_eq!((whole.status, pieces.status), (200, 200), "{kind} in {coding}: {} {}", whole.text(), pieces.text());
    }
}

/// Rule: no compression, also when the field says so.
#[tokio::test(flavor = "multi_thread")]
async fn identity_is_taken_for_no_compression() {
    takes("identity", <[u8]>::to_vec).await;
}

/// Rule: gzip.
#[tokio::test(flavor = "multi_thread")]
async fn gzip_is_taken() {
    takes("gzip", gzip).await;
}

/// Rule: zstd.
#[tokio::test(flavor = "multi_thread")]
async fn zstd_is_taken() {
    takes("zstd", zstd).await;
}

/// Rule: deflate, by which HTTP means zlib.
#[tokio::test(flavor = "multi_thread")]
async fn deflate_is_taken() {
    takes("deflate", deflate).await;
}

/// Rule: JS in Node sends every body in pieces without its length, Go the compressed ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_pieces_without_its_length_is_taken() {
    let target = target().await;
    for (signal, path) in PATHS.into_iter().enumerate() {
        let answer = target.post(path).protobuf(of(signal, &marker())).chunked().send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let large = traces_of(&marker(), (0..2_000).map(|n| span(n / 10, n)).collect()).encode_to_vec();
    let answer = target.post(PATHS[0]).protobuf(large).chunked().send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn refused_as_too_large(target: &Target, kind: &str, coding: &str, body: Vec<u8>) {
    let ask = target.post(PATHS[0]).body(body).field("content-type", kind).field("content-encoding", coding);
    let answer = ask.send().await;
    assert_eq!(answer.status, 413, "{kind} in {coding}: {}", answer.text());
    assert!(answer.header("content-type").is_some_and(|told| told.starts_with(kind)), "{:?}", answer.headers);
    assert!(said(&answer).retry.is_none() && answer.header("retry-after").is_none(), "it will never fit: {:?}", answer.headers);
}

/// Rule: the limit counts what comes out of the decompressor; 413 in the request's encoding, and no word of trying again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_when_unpacked_is_413() {
    let target = target().await;
    let spaces = vec![b' '; BOMB];
    for kind in [PROTOBUF, JSON] {
        refused_as_too_large(&target, kind, "gzip", gzip(&spaces)).await;
    }
    refused_as_too_large(&target, PROTOBUF, "zstd", zstd(&spaces)).await;
}

/// O1, before it is unpacked. Rule: a body that is announced too large is refused before a byte of it has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_413_before_it_is_sent() {
    let target = target().await;
    let token = target.token().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{token}content-type: {PROTOBUF}\r\ncontent-length: {BOMB}\r\n\r\n");
    let mut wire = target.http("http/1.1").await;
    wire.send(head).await;
    let said = String::from_utf8_lossy(&wire.read_until(b"\r\n\r\n").await).into_owned();
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
}

fn five_mebibytes() -> Vec<u8> {
    let mut spans: Vec<_> = (0..10_000).map(|n| span(n / 10, n)).collect();
    for span in &mut spans {
        span.trace_state = "x".repeat(500);
    }
    let body = traces_of(&marker(), spans).encode_to_vec();
    assert!(body.len() > 5 << 20, "{}", body.len());
    body
}

/// Rule: a limit of 4 MiB, as libraries have it, is too little: 5 MiB are taken over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn five_mebibytes_are_taken_over_http() {
    let answer = target().await.post(PATHS[0]).protobuf(five_mebibytes()).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Rule: the same over gRPC.
#[tokio::test(flavor = "multi_thread")]
async fn five_mebibytes_are_taken_over_grpc() {
    target().await.call(EXPORT[0]).message(&five_mebibytes()).send().await.accepted();
}
