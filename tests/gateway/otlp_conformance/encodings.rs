//! Protobuf and JSON: the request's content type, the answer's, and what is neither.

use super::http::{JSON, PROTOBUF};
use super::samples::{PATHS, of, span_json};
use super::status::{INVALID_ARGUMENT, said};
use super::target::{marker, target};

/// Rule: JSON is taken for every signal, and `{}` is an empty request.
#[tokio::test(flavor = "multi_thread")]
async fn json_is_taken_for_every_signal() {
    let target = target().await;
    for path in PATHS {
        let answer = target.post(path).json("{}").send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    assert_eq!(target.post(PATHS[0]).json(span_json(&marker(), "")).send().await.status, 200);
}

/// Rule: parameters (a charset) and capitals in the content type are allowed.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_capitals_of_a_content_type_change_nothing() {
    let target = target().await;
    for kind in ["application/json; charset=utf-8", "application/json;charset=\"UTF-8\"", "Application/JSON"] {
        let answer = target.post(PATHS[0]).json(span_json(&marker(), "")).field("content-type", kind).send().await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    }
    for kind in ["application/x-protobuf; charset=utf-8", "application/X-Protobuf", "application/x-protobuf;messageType=\"x\""] {
        let answer = target.post(PATHS[0]).protobuf(of(0, &marker())).field("content-type", kind).send().await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    }
}

/// Rule: an answer has the encoding of its request, a success and an error alike.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_in_the_encoding_of_its_request() {
    let target = target().await;
    for (kind, good, bad) in [(PROTOBUF, of(0, &marker()), b"\x0a\xff".to_vec()), (JSON, b"{}".to_vec(), b"{".to_vec())] {
        for (body, status) in [(good, 200), (bad, 400)] {
            let answer = target.post(PATHS[0]).body(body).field("content-type", kind).send().await;
            let told = answer.header("content-type").unwrap_or("none").split(';').next().map(str::to_owned);
            assert_eq!((answer.status, told.as_deref()), (status, Some(kind)), "{}", answer.text());
        }
    }
}

/// Rule: any other content type is 415, none too, and the body still says why in a form that an SDK can read.
#[tokio::test(flavor = "multi_thread")]
async fn another_content_type_or_none_is_415_with_a_status() {
    let target = target().await;
    for kind in ["text/plain", "application/octet-stream", "application/x-protobufx", "multipart/form-data; boundary=x"] {
        let answer = target.post(PATHS[0]).body(of(0, &marker())).field("content-type", kind).send().await;
        assert_eq!(answer.status, 415, "{kind}: {}", answer.text());
        assert!(!said(&answer).message.is_empty(), "{kind}");
    }
    let answer = target.post(PATHS[0]).body(of(0, &marker())).send().await;
    assert_eq!(answer.status, 415, "no content type: {}", answer.text());
    assert!(!said(&answer).message.is_empty());
}

/// Rule: an unknown, double or false content encoding is refused, in the request's encoding.
#[tokio::test(flavor = "multi_thread")]
async fn a_coding_that_is_unknown_or_double_is_415_in_the_requests_encoding() {
    let target = target().await;
    for (kind, body) in [(PROTOBUF, of(0, &marker())), (JSON, span_json(&marker(), "").into_bytes())] {
        for coding in ["lzma", "gzip, gzip", "gzip, lzma"] {
            let ask = target.post(PATHS[0]).body(body.clone()).field("content-type", kind).field("content-encoding", coding);
            let answer = ask.send().await;
            assert_eq!(answer.status, 415, "{kind} in {coding}: {}", answer.text());
            assert!(answer.header("content-type").is_some_and(|told| told.starts_with(kind)), "{coding}: {:?}", answer.headers);
            assert!(!said(&answer).message.is_empty(), "{kind} in {coding}");
        }
    }
}

/// Rule: what is said to be compressed and is not is bad data, never a fault of the server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_coding_that_the_body_does_not_have_is_the_clients_fault() {
    let target = target().await;
    for coding in ["gzip", "zstd", "deflate"] {
        let answer = target.post(PATHS[0]).protobuf(of(0, &marker())).field("content-encoding", coding).send().await;
        assert!(matches!(answer.status, 400 | 415), "{coding}: {} {}", answer.status, answer.text());
        assert_eq!(said(&answer).code, INVALID_ARGUMENT, "{coding}");
    }
}

/// Rule: an answer is not compressed, or by gzip where the client takes it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_plain_unless_gzip_is_asked_for() {
    let target = target().await;
    for accepted in ["", "br", "gzip", "zstd, br", "gzip;q=0"] {
        let answer = target.post(PATHS[0]).json("{").field("accept-encoding", accepted).send().await;
        let coding = answer.header("content-encoding").unwrap_or("identity");
        let allowed = if accepted == "gzip" { vec!["identity", "gzip"] } else { vec!["identity"] };
        assert!(allowed.contains(&coding), "{coding} for {accepted:?}");
    }
}
