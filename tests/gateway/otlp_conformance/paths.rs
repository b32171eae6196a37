//! Where requests go, by which method, and on which port.

use http::Method;

use super::grpc::EXPORT;
use super::samples::{PATHS, of};
use super::target::{is_elsewhere, marker, target};

/// Rule: POST `/v1/traces`, `/v1/metrics` and `/v1/logs`.
#[tokio::test(flavor = "multi_thread")]
async fn every_signal_is_taken_at_its_own_path() {
    let target = target().await;
    for (signal, path) in PATHS.into_iter().enumerate() {
        let answer = target.post(path).protobuf(of(signal, &marker())).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

/// Rule: the same over HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn every_signal_is_taken_over_http2() {
    let target = target().await;
    for (signal, path) in PATHS.into_iter().enumerate() {
        let answer = target.post(path).protobuf(of(signal, &marker())).over_h2().send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

/// Rule: every other method is 405, and `Allow` says which one is not.
#[tokio::test(flavor = "multi_thread")]
async fn another_method_than_post_is_405_and_told_which_is_allowed() {
    let target = target().await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE] {
        for path in PATHS {
            let answer = target.ask(method.clone(), path).send().await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{method} {path}: {:?}", answer.headers);
        }
    }
}

/// Rule: a 3xx is a success for Python's SDK, which does not follow it and loses the data. However a path is written, and
/// whatever is asked with it, the answer is none.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_these_paths_is_ever_answered_by_a_redirect() {
    let target = target().await;
    let body = of(0, &marker());
    for path in ["/v1/traces/", "//v1/traces", "/v1//traces", "/v1/traces/x", "/V1/Traces", "/v1/./traces", "/v1/traces?a=b", "/v1", "/"] {
        for method in [Method::POST, Method::GET, Method::OPTIONS] {
            let answer = target.ask(method.clone(), path).protobuf(body.clone()).send().await;
            assert!(!(300..400).contains(&answer.status), "{method} {path} is {}", answer.status);
        }
    }
    let plain = target.post(PATHS[0]).protobuf(body).field("x-forwarded-proto", "http").send().await;
    assert!(!(300..400).contains(&plain.status), "{}", plain.status);
}

/// Rule: a path that is no signal's is not taken for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_no_signal_is_404() {
    let target = target().await;
    for path in ["/v1/spans", "/v1/traces/", "/v2/traces", "/traces"] {
        assert_eq!(target.post(path).protobuf(of(0, &marker())).send().await.status, 404, "{path}");
    }
}

/// Rule: the same port speaks OTLP over HTTP and over gRPC; the content type says which.
#[tokio::test(flavor = "multi_thread")]
async fn one_port_speaks_http_and_grpc() {
    let target = target().await.on_one_port();
    assert_eq!(target.post(PATHS[0]).protobuf(of(0, &marker())).over_h2().send().await.status, 200);
    target.call(EXPORT[0]).message(&of(0, &marker())).send().await.accepted();
}

/// Rule: where plain text is spoken, gRPC is too, with prior knowledge of HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn plain_text_is_spoken_where_the_gate_allows_it() {
    if is_elsewhere("a port that speaks both TLS and plain text") {
        return;
    }
    let target = target().await.in_plain_text();
    assert_eq!(target.post(PATHS[0]).protobuf(of(0, &marker())).send().await.status, 200);
    target.call(EXPORT[0]).message(&of(0, &marker())).send().await.accepted();
}
