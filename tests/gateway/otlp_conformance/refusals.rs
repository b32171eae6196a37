//! Who is refused, in both encodings and over gRPC: no token, an old one, no grant, no quota, no tier.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use crate::support::client::Answer;
use crate::support::gate::Setup;
use crate::support::not_run;

use super::grpc::{EXPORT, Reply};
use super::http::{JSON, PROTOBUF};
use super::samples::{PATHS, of};
use super::status::{PERMISSION_DENIED, RESOURCE_EXHAUSTED, Said, UNAUTHENTICATED, UNAVAILABLE, said};
use super::target::{Target, brokerless, is_elsewhere, marker, own, target};

/// The wait that everybody is told: SDKs with a budget of ten seconds then try at 0, 2, 4, 6 and 8.
const WAIT: Duration = Duration::from_secs(2);

/// The key that signs tokens of any age.
const KEY: &str = "a key of the tests' own issuer, long enough to be one";

/// An empty request of traces in each encoding.
fn bodies() -> [(&'static str, Vec<u8>); 2] {
    [(PROTOBUF, of(0, &marker())), (JSON, b"{}".to_vec())]
}

async fn in_both_encodings(target: &Target) -> [(Answer, Said); 2] {
    let mut all = Vec::new();
    for (kind, body) in bodies() {
        let body = if kind == JSON { super::samples::span_json(&marker(), "").into_bytes() } else { body };
        let answer = target.post(PATHS[0]).body(body).field("content-type", kind).send().await;
        assert!(answer.header("content-type").is_some_and(|told| told.starts_with(kind)), "{}: {:?}", answer.status, answer.headers);
        let said = said(&answer);
        all.push((answer, said));
    }
    all.try_into().expect("two encodings")
}

async fn over_grpc(target: &Target) -> Reply {
    target.call(EXPORT[0]).message(&of(0, &marker())).send().await
}

/// O5. Rule: no token, or one that is none: 401, in the request's encoding.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_it_is_401_in_the_requests_encoding() {
    let target = target().await;
    if target.token().is_none() {
        return not_run(1, "needs OTLP_TARGET_TOKEN: the server asks for none");
    }
    for token in [None, Some("nobody's")] {
        for (answer, said) in in_both_encodings(&target.with_token(token)).await {
            assert_eq!((answer.status, said.code), (401, UNAUTHENTICATED), "{token:?}: {said:?}");
            assert!(answer.header("www-authenticate").is_some(), "{:?}", answer.headers);
        }
    }
}

/// O5. Rule: over gRPC it is UNAUTHENTICATED, by trailers alone.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_it_is_unauthenticated_over_grpc() {
    let target = target().await;
    if target.token().is_none() {
        return not_run(1, "needs OTLP_TARGET_TOKEN: the server asks for none");
    }
    for token in [None, Some("nobody's")] {
        assert_eq!(over_grpc(&target.with_token(token)).await.refused(), UNAUTHENTICATED, "{token:?}");
    }
}

/// Rule: a token without a grant for the signal's topic: 403 and PERMISSION_DENIED.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_grant_is_403_and_permission_denied() {
    if is_elsewhere("a token without a grant") {
        return;
    }
    let target = target().await;
    let token = target.gate().token(&["--sub", "other", "--topics", "otlp_logs"]).await;
    let target = target.with_token(Some(&token));
    for (answer, said) in in_both_encodings(&target).await {
        assert_eq!((answer.status, said.code), (403, PERMISSION_DENIED), "{said:?}");
    }
    assert_eq!(over_grpc(&target).await.refused(), PERMISSION_DENIED);
    assert_eq!(target.post(PATHS[2]).protobuf(of(2, &marker())).send().await.status, 200, "what it has a grant for");
}

fn issuer(setup: Setup) -> Setup {
    let fields =
        [("KIND", "static"), ("ISSUER", "aged"), ("AUDIENCE", "gate"), ("ALGORITHM", "HS256"), ("TOPICS_CLAIM", "topics"), ("KEY", KEY)];
    fields.into_iter().fold(setup, |setup, (name, value)| setup.env(&format!("SLUICEGATE__AUTH__ISSUERS__AGED__{name}"), value))
}

fn expired_for(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({"iss": "aged", "aud": "gate", "sub": "old", "topics": ["otlp_*"], "iat": now - 3600, "exp": now - seconds});
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY.as_bytes())).expect("a token")
}

/// Rule: SDKs that fixed their fields at their start go on with an expired token: it is taken for 60 s more at this door.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_for_a_minute_after_its_end() {
    let Some(target) = own(issuer).await else { return };
    for (age, taken) in [(20, true), (90, false)] {
        let target = target.with_token(Some(&expired_for(age)));
        let answer = target.post(PATHS[0]).protobuf(of(0, &marker())).send().await;
        assert_eq!(answer.status, if taken { 200 } else { 401 }, "expired for {age} s");
        let reply = over_grpc(&target).await;
        assert_eq!(reply.code(), if taken { 0 } else { UNAUTHENTICATED }, "expired for {age} s");
    }
}

fn tiny(setup: Setup) -> Setup {
    let tier = "SLUICEGATE__LIMITS__TIERS__STANDARD";
    setup.env(&format!("{tier}__EVENTS_PER_SECOND"), "0.01").env(&format!("{tier}__BURST"), "2")
}

/// Rule: whole seconds, never 0 and never a date, in both places that SDKs read.
fn waits(answer: &Answer, said: &Said) {
    let seconds: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("whole seconds");
    assert_eq!((Duration::from_secs(seconds), said.retry), (WAIT, Some(WAIT)), "{said:?}");
}

/// Rule: over gRPC the wait stands in the status's details and in the trailer that Python's SDK alone reads.
fn waits_over_grpc(reply: &Reply) {
    assert_eq!((reply.said().retry, reply.retry_info()), (Some(WAIT), Some(WAIT)), "{reply:?}");
    assert_eq!(reply.said().code, reply.code(), "{reply:?}");
}

/// Rule: a quota that is used up is 503 by default (Python's SDK before 1.45 drops a 429), with a wait of 2 s.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_quota_it_is_503_with_a_wait_of_two_seconds() {
    let Some(target) = own(tiny).await else { return };
    assert_eq!(target.post(PATHS[0]).protobuf(of(0, &marker())).send().await.status, 200);
    for (answer, said) in in_both_encodings(&target).await {
        assert_eq!(answer.status, 503, "{said:?}");
        waits(&answer, &said);
    }
}

/// Rule: 429 by setting.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_quota_it_is_429_by_setting() {
    let Some(target) = own(|setup| tiny(setup).env("SLUICEGATE__OTLP__QUOTA_STATUS", "429")).await else { return };
    assert_eq!(target.post(PATHS[0]).protobuf(of(0, &marker())).send().await.status, 200);
    for (answer, said) in in_both_encodings(&target).await {
        assert_eq!((answer.status, said.code), (429, RESOURCE_EXHAUSTED), "{said:?}");
        waits(&answer, &said);
    }
}

/// Rule: over gRPC RESOURCE_EXHAUSTED with RetryInfo, which says that it may be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_quota_it_is_resource_exhausted_with_retry_info_twice() {
    let Some(target) = own(tiny).await else { return };
    over_grpc(&target).await.accepted();
    let reply = over_grpc(&target).await;
    assert_eq!(reply.refused(), RESOURCE_EXHAUSTED);
    waits_over_grpc(&reply);
}

fn without_inbox(setup: Setup) -> Setup {
    setup.env("SLUICEGATE__INBOX__KIND", "none")
}

/// O3. Rule: with neither broker nor inbox it is 503 with a wait of 2 s, never a 500, which makes SDKs drop the data.
#[tokio::test(flavor = "multi_thread")]
async fn with_neither_tier_it_is_503_with_a_wait_and_never_500() {
    let Some(target) = brokerless(|setup| without_inbox(setup).env("SLUICEGATE__OTLP__HOLD", "0s")).await else { return };
    for (answer, said) in in_both_encodings(&target).await {
        assert_eq!((answer.status, said.code), (503, UNAVAILABLE), "{said:?}");
        waits(&answer, &said);
    }
}

/// O3. Rule: over gRPC UNAVAILABLE, with RetryInfo in both places.
#[tokio::test(flavor = "multi_thread")]
async fn with_neither_tier_it_is_unavailable_with_retry_info_twice() {
    let Some(target) = brokerless(|setup| without_inbox(setup).env("SLUICEGATE__OTLP__HOLD", "0s")).await else { return };
    let reply = over_grpc(&target).await;
    assert_eq!(reply.refused(), UNAVAILABLE);
    waits_over_grpc(&reply);
}

/// Rule: who has waited for 3 s already is told to wait for 1 s.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_took_three_seconds_says_one() {
    let Some(target) = brokerless(without_inbox).await else { return };
    let one = Some(Duration::from_secs(1));
    let reply = over_grpc(&target).await;
    assert_eq!((reply.refused(), reply.said().retry, reply.retry_info()), (UNAVAILABLE, one, one));
}
