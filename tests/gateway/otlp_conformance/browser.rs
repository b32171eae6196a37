//! Pages of another origin: a preflight, and answers that they may read, whatever those say.

use http::Method;

use crate::support::client::Answer;
use crate::support::gate::Setup;

use super::samples::{PATHS, gzip, of};
use super::target::{ORIGIN, Target, brokerless, marker, target};

fn origin() -> String {
    std::env::var("OTLP_TARGET_ORIGIN").unwrap_or_else(|_| ORIGIN.to_owned())
}

/// Every kind of answer that can be had of a server without a fault behind it.
async fn answers(target: &Target) -> Vec<Answer> {
    let origin = origin();
    let good = target.post(PATHS[0]).protobuf(of(0, &marker())).field("origin", &origin);
    let nobody = target.with_token(Some("nobody's"));
    let asks = [
        good.clone(),
        good.clone().protobuf(b"\x0a\xff".to_vec()),
        good.clone().field("content-type", "text/plain"),
        good.clone().field("content-encoding", "gzip").body(gzip(&vec![0; 100 << 20])),
        target.ask(Method::GET, PATHS[0]).field("origin", &origin),
        target.post("/v1/nothing").field("origin", &origin),
        nobody.post(PATHS[0]).protobuf(of(0, &marker())).field("origin", &origin),
    ];
    let mut answers = Vec::new();
    for ask in asks {
        answers.push(ask.send().await);
    }
    answers
}

/// Rule: the exact origin is echoed on every answer, refusals too.
#[tokio::test(flavor = "multi_thread")]
async fn the_origin_is_echoed_on_every_answer() {
    let target = target().await;
    for answer in answers(&target).await {
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin().as_str()), "{}: {:?}", answer.status, answer.headers);
    }
}

/// Rule: on a 503 too, whose wait a page has to see.
#[tokio::test(flavor = "multi_thread")]
async fn the_origin_is_echoed_on_a_503() {
    let without = |setup: Setup| setup.env("SLUICEGATE__INBOX__KIND", "none").env("SLUICEGATE__OTLP__HOLD", "0s");
    let Some(target) = brokerless(without).await else { return };
    let answer = target.post(PATHS[0]).protobuf(of(0, &marker())).field("origin", ORIGIN).send().await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (503, Some(ORIGIN)));
    assert!(answer.header("retry-after").is_some() && exposed(&answer), "{:?}", answer.headers);
}

fn exposed(answer: &Answer) -> bool {
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
    exposed.split(',').any(|name| name.trim() == "retry-after")
}

/// Rule: credentials are off.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_allows_credentials() {
    let target = target().await;
    for answer in answers(&target).await {
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{}: {:?}", answer.status, answer.headers);
    }
}

/// Rule: `Retry-After` can be read.
#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_exposed() {
    let answer = target().await.post(PATHS[0]).protobuf(of(0, &marker())).field("origin", &origin()).send().await;
    assert!(exposed(&answer), "{:?}", answer.headers);
}

/// Rule: an origin that is not listed gets no word of it.
#[tokio::test(flavor = "multi_thread")]
async fn another_origin_is_not_echoed() {
    let answer = target().await.post(PATHS[0]).protobuf(of(0, &marker())).field("origin", "https://evil.example").send().await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}

/// Rule: a preflight needs no token, allows what SDKs send, and may be remembered.
#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_needs_no_token_and_may_be_remembered() {
    let target = target().await.with_token(None);
    for path in PATHS {
        let ask = target.ask(Method::OPTIONS, path).field("origin", &origin()).field("access-control-request-method", "POST");
        let answer = ask.field("access-control-request-headers", "authorization,content-type").send().await;
        assert!(matches!(answer.status, 200 | 204) && answer.body.is_empty(), "{path}: {} {}", answer.status, answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin().as_str()), "{path}");
        let field = |name| answer.header(name).unwrap_or_default().to_ascii_lowercase();
        assert!(field("access-control-allow-methods").contains("post"), "{path}: {:?}", answer.headers);
        let allowed = field("access-control-allow-headers");
        assert!(["authorization", "content-type"].iter().all(|name| allowed.contains(name)), "{path}: {:?}", answer.headers);
        assert!(field("access-control-max-age").parse::<u32>().is_ok_and(|seconds| seconds >= 600), "{path}: {:?}", answer.headers);
    }
}
