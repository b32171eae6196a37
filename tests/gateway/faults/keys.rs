//! The issuer's keys come late, or there are none: F23. (Down and rotated: `auth.rs`.)
//!
//! What is required: known keys go on, for a bounded time; a token of an unknown key is refused; without any key the gate is
//! not ready, and lets nobody in.

use std::time::Duration;

use serde_json::json;

use crate::support::gate::{Gate, Setup};
use crate::support::issuer::Issuer;
use crate::support::stopwatch::{Stopwatch, Took};
use crate::support::{DEADLINE, eventually};

use super::seen;

/// Later than any fetch of keys is waited for (3 s).
const LATE: Duration = Duration::from_secs(10);

/// A token waits for keys for a second at most; what is left is the machine's.
const SOON: Duration = Duration::from_millis(1_500);

/// A fetch that has failed is tried again after 1 s, then 2 s, 4 s and so on.
const AGAIN: Duration = Duration::from_secs(20);

/// What is known already waits for nobody.
const AT_ONCE: Duration = Duration::from_millis(500);

async fn gate_of(issuer: &Issuer) -> Gate {
    let (url, jwks) = (issuer.url(), issuer.jwks_url());
    let keys = format!("kind = \"oidc\"\nissuer = \"{url}\"\naudience = \"test\"\njwks_url = \"{jwks}\"");
    Setup::new().config(&format!("[auth.issuers.outside]\ntopics = [\"*\"]\n{keys}\n")).start().await
}

async fn send(gate: &Gate, token: &str) -> (u16, Took) {
    let watch = Stopwatch::start();
    let answer = gate.post("/v1/events/events", token, "{\"data\":1}").await;
    (answer.status, watch.read())
}

async fn is_ready(gate: &Gate) -> bool {
    gate.admin_get("/readyz").await.status == 200
}

async fn fault(gate: &Gate) -> String {
    gate.admin_get("/status").await.json()["auth"]["issuers"][0]["last_error"].as_str().unwrap_or_default().to_owned()
}

/// Sends as many tokens of a key that cannot be fetched as there are senders; the slowest refusal.
async fn refused(gate: &Gate, token: &str) -> Took {
    let mut slowest = Took::default();
    for _ in 0..5 {
        let (status, took) = send(gate, token).await;
        assert_eq!(status, 401);
        assert!(took.own() < SOON, "{took}");
        slowest = slowest.max(took);
    }
    slowest
}

/// Keys that cannot be had from the start; `mend` brings them.
async fn cold(issuer: &Issuer, told: &str, mend: impl FnOnce()) -> Took {
    let gate = gate_of(issuer).await;
    let token = issuer.token(&json!({}));
    let slowest = refused(&gate, &token).await;
    eventually("the fault is told", DEADLINE, async || fault(&gate).await.contains(told).then_some(())).await;
    assert!(!is_ready(&gate).await, "without a key it is not ready");
    assert_eq!(gate.admin_get("/livez").await.status, 200, "and alive");
    let slowest = slowest.max(refused(&gate, &token).await);
    mend();
    eventually("the gate is ready", DEADLINE, async || is_ready(&gate).await.then_some(())).await;
    assert_eq!(send(&gate, &token).await.0, 202);
    slowest
}

/// Keys that cannot be had any more when a new one signs; `mend` brings it. Says how slow a refusal, and a known key, was.
async fn warm(issuer: &Issuer, told: &str, fail: impl FnOnce(), mend: impl FnOnce()) -> (Took, Took) {
    let gate = gate_of(issuer).await;
    // A token before that would be the one in a minute for which keys are fetched.
    eventually("the keys are there", DEADLINE, async || is_ready(&gate).await.then_some(())).await;
    assert_eq!(send(&gate, &issuer.token(&json!({}))).await.0, 202);
    // Another token of the known key, which has not been verified yet.
    let known = issuer.token(&json!({"sub": "another"}));
    issuer.rotate();
    fail();
    let new = issuer.token(&json!({}));
    let slowest = refused(&gate, &new).await;
    let (status, took) = send(&gate, &known).await;
    assert_eq!(status, 202, "what was known goes on");
    assert!(took.own() < AT_ONCE, "and waits for nobody: {took}");
    eventually("the fault is told", DEADLINE, async || fault(&gate).await.contains(told).then_some(())).await;
    assert!(is_ready(&gate).await, "and it is ready");
    assert_eq!((send(&gate, &known).await.0, send(&gate, &new).await.0), (202, 401));
    mend();
    let mended = Stopwatch::start();
    eventually("the new key is known", DEADLINE, async || (send(&gate, &new).await.0 == 202).then_some(())).await;
    assert!(mended.read().own() < AGAIN, "the new key is waited for: {}", mended.read());
    assert_eq!(send(&gate, &known).await.0, 401, "a key that is gone is not believed");
    (slowest, took)
}

/// Scenario: the issuer answers after 10 s, from the start of the gate, or from the moment at which a new key signs.
/// Guarantees: see the module; no answer waits for it longer than a second; soon after it is quick again the gate has the keys.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_come_late_hold_up_nobody_and_let_nobody_in() {
    let issuer = Issuer::start();
    issuer.answer_late(LATE);
    let cold = cold(&issuer, "no answer within", || issuer.answer_late(Duration::ZERO)).await;
    let (late, quick) = (|| issuer.answer_late(LATE), || issuer.answer_late(Duration::ZERO));
    let (refused, known) = warm(&issuer, "no answer within", late, quick).await;
    seen(
        "F23",
        &format!("keys after 10 s: not ready, 401 after {cold} at most; with known keys 401 after {refused}, a known one after {known}"),
    );
}

/// Scenario: the issuer's set of keys is empty, from the start of the gate, or from the moment at which a new key signs.
/// Guarantees: see the module: an empty set takes no key away, and is none; soon after there are keys again the gate has them.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_set_of_keys_takes_none_away_and_lets_nobody_in() {
    let issuer = Issuer::start();
    issuer.publish_nothing(true);
    let cold = cold(&issuer, "no key", || issuer.publish_nothing(false)).await;
    let (empty, full) = (|| issuer.publish_nothing(true), || issuer.publish_nothing(false));
    let (refused, known) = warm(&issuer, "no key", empty, full).await;
    seen("F23", &format!("no keys: not ready, 401 after {cold} at most; with known keys 401 after {refused}, a known one after {known}"));
}
