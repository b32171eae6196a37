//! The platform's front end as it is: the Firebase JS SDK, unmodified, with an ID token of a test issuer.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::support::callable::call;
use super::support::gate::{Gate, Setup};
use super::support::issuer::Issuer;
use super::support::kafka::Kafka;
use super::support::{DEADLINE, eventually};

const PATH: &str = "/ingestEvent";
const TOPIC: &str = "frontend-events";

/// A gate in front of a project's users, with these further lines of configuration.
fn setup(issuer: &Issuer, more: &str) -> Setup {
    Setup::new().config(&format!(
        "[auth.issuers.firebase]\nkind = \"firebase\"\nproject = \"demo\"\njwks_url = \"{}\"\ntopics = [\"{TOPIC}\"]\n\
         tier_claim = \"tier\"\n[[routes]]\ntopic = \"{TOPIC}\"\nshape = \"command\"\n{more}",
        issuer.jwks_url()
    ))
}

fn millis(time: SystemTime) -> i128 {
    i128::try_from(time.duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("not that late")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_resolves_and_its_record_is_the_platforms_field_by_field() {
    let kafka = Kafka::start().await;
    kafka.create_topic(TOPIC, 3, &[]).await;
    let issuer = Issuer::start();
    let gate = setup(&issuer, "").broker(&kafka).start().await;
    let token = issuer.firebase_token("demo", "firebase-uid");
    let before = SystemTime::now();
    let data = json!({"action": "get_stats", "nested": {"n": 1.5, "list": [1, null, "ü"]}, "idempotency_key": "order-2026-07-01-1"});
    let answer = call(&gate, PATH, Some(&token), &data, false).await;
    let result = &answer["data"];
    assert_eq!((&result["status"], &result["tier"], &result["topic"]), (&json!("accepted"), &json!("broker"), &json!(TOPIC)), "{answer}");
    assert!(result["message"].as_str().is_some_and(|message| !message.is_empty()));
    // Without a key one is made; a stream is answered too; the SDK wraps large integers.
    let plain = call(&gate, PATH, Some(&token), &json!({"action": "ping"}), true).await;
    assert_eq!(plain["data"]["status"], "accepted", "{plain}");
    let after = SystemTime::now();

    let records = kafka.consume_all(TOPIC).await;
    assert_eq!(records.len(), 2);
    let first = records.iter().find(|record| record.event_id() == result["id"]).expect("the record of the first call");
    assert_eq!((json!(first.partition), json!(first.offset)), (result["partition"].clone(), result["offset"].clone()));
    for record in &records {
        let value = record.json();
        let fields: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(fields, ["uid", "timestamp", "idempotency_key", "version", "payload"]);
        assert_eq!((&value["uid"], &value["version"]), (&json!("firebase-uid"), &json!("1.0")));
        assert_eq!(record.key.as_deref(), Some(b"firebase-uid".as_slice()), "the key is the uid");
        let text = value["timestamp"].as_str().expect("a time");
        assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
        let time = OffsetDateTime::parse(text, &Rfc3339).expect("RFC 3339").unix_timestamp_nanos() / 1_000_000;
        assert!((millis(before) - 1..=millis(after)).contains(&time), "{text}");
        assert_eq!(record.header("x-deml-principal"), Some("firebase:firebase-uid"));
    }
    assert_eq!(first.json()["idempotency_key"], "order-2026-07-01-1");
    assert_eq!(first.json()["payload"], data, "the payload is the data, whole");
    let made = records.iter().find(|record| record.event_id() != result["id"]).expect("the other").json();
    let key = made["idempotency_key"].as_str().expect("a key");
    assert!((16..=128).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
}

/// How the SDK reports a failed call: its code, and ours in the details.
async fn fails(gate: &Gate, token: Option<&str>, data: &Value, code: &str, details: Option<&str>) -> Value {
    for stream in [false, true] {
        let answer = call(gate, PATH, token, data, stream).await;
        assert_eq!(answer["code"], format!("functions/{code}"), "{answer} (stream: {stream})");
        assert_eq!(answer["details"]["code"].as_str(), details, "{answer} (stream: {stream})");
        if stream {
            return answer;
        }
    }
    unreachable!("the second round returns")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_the_code_that_the_sdk_knows_for_it() {
    let issuer = Issuer::start();
    let more = "max_event_bytes = \"2 KiB\"\n[limits.tiers.tiny]\nevents_per_second = 0.001\nburst = 1\n\
                [auth.issuers.outside]\nkind = \"oidc\"\nissuer = \"outside\"\naudience = \"test\"\njwks_url = \"JWKS\"\n";
    let gate = setup(&issuer, &more.replace("JWKS", &issuer.jwks_url())).start().await;
    let token = issuer.firebase_token("demo", "u1");
    let good = json!({"action": "x"});
    assert_eq!(call(&gate, PATH, Some(&token), &good, false).await["data"]["tier"], "inbox");

    fails(&gate, None, &good, "unauthenticated", None).await;
    fails(&gate, Some(&issuer.firebase_token("other", "u1")), &good, "unauthenticated", None).await;
    let outsider = issuer.token(&json!({"iss": "outside"}));
    fails(&gate, Some(&outsider), &good, "permission-denied", Some("denied")).await;
    let invalid = fails(&gate, Some(&token), &json!({"action": ""}), "invalid-argument", Some("invalid")).await;
    assert_eq!(invalid["details"]["field"], "data.action");
    fails(&gate, Some(&token), &Value::Null, "invalid-argument", Some("invalid")).await;
    let large = json!({"action": "x", "text": "x".repeat(3000)});
    let large = fails(&gate, Some(&token), &large, "invalid-argument", Some("too_large")).await;
    assert_eq!(large["details"]["limit"], 2048);

    let tiny =
        issuer.token(&json!({"iss": "https://securetoken.google.com/demo", "aud": "demo", "sub": "u2", "tier": "tiny", "auth_time": 1}));
    assert_eq!(call(&gate, PATH, Some(&tiny), &good, false).await["data"]["status"], "accepted");
    let throttled = fails(&gate, Some(&tiny), &good, "resource-exhausted", Some("throttled")).await;
    assert!(throttled["details"]["retry_after_ms"].as_u64().is_some_and(|wait| wait > 1000), "the wait is in the details: {throttled}");

    // The SDK sends well-formed JSON only: what is malformed comes by hand.
    let bearer = format!("bEaReR {token}");
    for body in [
        "{\"data\":{\"action\":\"x\"},\"more\":1}",
        "{\"data\":",
        "[]",
        "{\"data\":{\"@type\":\"type.googleapis.com/google.protobuf.Int64Value\",\"value\":\"1x\"}}",
    ] {
        let answer = gate.post_with(PATH, &[("authorization", &bearer), ("content-type", "application/json; charset=utf-8")], body).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status, &error["status"], &error["message"]),
            (400, &json!("INVALID_ARGUMENT"), &json!("Bad Request")),
            "{body}"
        );
        assert_eq!(error["details"]["code"], "malformed");
    }
    let wrong_type = gate.post_with(PATH, &[("authorization", &bearer), ("content-type", "text/plain")], "{\"data\":{}}").await;
    assert_eq!((wrong_type.status, &wrong_type.json()["error"]["message"]), (400, &json!("Bad Request")));
    for method in [http::Method::GET, http::Method::PUT] {
        let headers = [("authorization", bearer.as_str())];
        let answer = gate.client.send(method, &gate.url(PATH), &headers, "").await.expect("an answer");
        assert_eq!((answer.status, &answer.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_neither_tier_takes_is_unavailable() {
    let issuer = Issuer::start();
    let gate = setup(&issuer, "[inbox]\nkind = \"none\"\n").start().await;
    let token = issuer.firebase_token("demo", "u1");
    let answer = fails(&gate, Some(&token), &json!({"action": "x"}), "unavailable", Some("unavailable")).await;
    assert!(answer["details"]["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{answer}");
    let probe = gate.admin_get("/readyz").await;
    assert_eq!(probe.status, 503, "{}", probe.text());
}

/// Scenario: the bytes in flight are used up by a body that lacks its last byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_which_there_is_no_room_is_unavailable_with_a_wait() {
    let issuer = Issuer::start();
    let gate = setup(&issuer, "[limits]\nin_flight = \"1 MiB\"\n").start().await;
    let token = issuer.firebase_token("demo", "u1");
    let mut holder = super::support::wire::Wire::connect(&gate, "http/1.1").await;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n"
    );
    holder.send(head).await;
    holder.send(vec![b' '; (1 << 20) - 1]).await;
    eventually("the room is taken", DEADLINE, async || {
        (gate.admin_get("/status").await.json()["limits"]["in_flight"].as_u64() >= Some((1 << 20) - 1)).then_some(())
    })
    .await;
    let answer = fails(&gate, Some(&token), &json!({"action": "x"}), "unavailable", Some("overloaded")).await;
    assert!(answer["details"]["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{answer}");
    drop(holder);
    eventually("the room is free again", DEADLINE, async || {
        (gate.admin_get("/status").await.json()["limits"]["in_flight"] == 0).then_some(())
    })
    .await;
    assert_eq!(call(&gate, PATH, Some(&token), &json!({"action": "x"}), false).await["data"]["status"], "accepted");
}

/// Scenario: App Check enforced, watched, and off; a call with a token of the app, with another project's, and with none.
/// Guarantees: only where it is enforced, and only without a valid one, the call is refused like one without credentials.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_cannot_prove_itself_is_refused_where_that_is_enforced() {
    let issuer = Issuer::start();
    let user = issuer.firebase_token("demo", "firebase-uid");
    let app = |number: &str| {
        let claims = json!({"iss": format!("https://firebaseappcheck.googleapis.com/{number}"), "aud": [format!("projects/{number}"), "projects/demo"], "sub": "1:123:web:a"});
        issuer.token(&claims)
    };
    for (mode, without) in [("enforce", 401), ("watch", 202), ("off", 202)] {
        let section =
            format!("[http.callable.app_check]\nmode = \"{mode}\"\nproject_number = \"123\"\njwks_url = \"{}\"", issuer.jwks_url());
        let gate = setup(&issuer, &section).start().await;
        for (token, status) in [(Some(app("123")), 202), (Some(app("124")), without), (None, without)] {
            let bearer = format!("Bearer {user}");
            let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
            headers.extend(token.as_deref().map(|token| ("x-firebase-appcheck", token)));
            let answer = gate.post_with(PATH, &headers, r#"{"data":{"action":"ping"}}"#).await;
            // The callable answers every success with 200.
            let expected = if status == 202 { 200 } else { status };
            assert_eq!(answer.status, expected, "{mode}: {answer:?}");
            // The same command by the native door.
            let answer = gate.post_with("/v1/events/frontend-events", &headers, r#"{"data":{"action":"ping"}}"#).await;
            assert_eq!(answer.status, status, "{mode}: {answer:?}");
        }
    }
}
