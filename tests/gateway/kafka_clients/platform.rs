//! The platform's own function, which writes with kafkajs to one broker address and is not changed for the gate.

use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::kafka_clients::{Address, Login, last_word, program};
use crate::support::process::Process;

use super::stage::{Stage, Wish};

const EVENTS_TOPIC: &str = "frontend-events";

/// Has the function send these events, and gives what it was answered.
async fn function(address: &Address, events: &Value) -> Vec<Value> {
    let Login::Password(mechanism, user, password) = &address.login else { panic!("the function has a password") };
    let mut node = program("function.mjs");
    node.env("REDPANDA_BROKERS", &address.bootstrap)
        .env("REDPANDA_SECURITY_PROTOCOL", if address.ca.is_some() { "SASL_SSL" } else { "SASL_PLAINTEXT" })
        .env("REDPANDA_SASL_MECHANISM", mechanism)
        .env("REDPANDA_SASL_USERNAME", user)
        .env("REDPANDA_SASL_PASSWORD", password)
        .env("CA", address.ca.clone().unwrap_or_default())
        .env("EVENTS", events.to_string());
    last_word(&mut Process::spawn("the function", &mut node), DEADLINE).await
}

/// Events as the function makes them, of three users.
fn events(run: &str) -> Value {
    let event = |i: usize| {
        json!({
            "uid": format!("user-{}", i % 3),
            "timestamp": "2026-07-01T12:00:00.000Z",
            "idempotency_key": format!("{run}:an-idempotency-key:{i}"),
            "version": "1.0",
            "payload": {"action": "get_stats", "text": "ü\u{1F600}\"\\"},
        })
    };
    (0..12).map(event).collect()
}

/// Sends, and looks that each event is in the broker as it was, where and when it was said to be, with its user's others.
async fn assert_delivers(stage: &Stage, address: &Address, run: &str) {
    let events = events(run);
    let answers = function(address, &events).await;
    stage.replayed().await;
    let found = stage.cluster.consume_all(EVENTS_TOPIC).await;
    let mine: Vec<_> = found.iter().filter(|record| String::from_utf8_lossy(&record.value).contains(run)).collect();
    let events = events.as_array().expect("an array");
    assert_eq!((answers.len(), mine.len()), (events.len(), events.len()), "{answers:?}");
    for (event, answer) in events.iter().zip(&answers) {
        let record = mine.iter().find(|record| record.value == event.to_string().as_bytes());
        let record = record.unwrap_or_else(|| panic!("{event} is not there as it was: {mine:?}"));
        assert_eq!(record.key.as_deref(), event["uid"].as_str().map(str::as_bytes));
        assert_eq!(answer["errorCode"], 0);
        assert_eq!(answer["partition"], record.partition);
        assert_eq!(answer["baseOffset"], record.offset.to_string());
    }
    for user in ["user-0", "user-1", "user-2"] {
        let of_user: Vec<_> = mine.iter().filter(|record| record.key.as_deref() == Some(user.as_bytes())).collect();
        assert!(of_user.iter().all(|record| record.partition == of_user[0].partition), "one user, one partition");
        let keys: Vec<_> = of_user.iter().map(|record| record.json()["idempotency_key"].to_string()).collect();
        let sent: Vec<_> = events.iter().filter(|event| event["uid"] == user).map(|event| event["idempotency_key"].to_string()).collect();
        assert_eq!(keys, sent, "in the order in which they were sent");
    }
}

/// Both ways in, at a gate before brokers as they are, or as narrow as Redpanda.
async fn assert_both_ways(narrow: bool) {
    let stage = Stage::new(Wish { plaintext: true, narrow, ..Wish::default() }).await;
    stage.create_topic(EVENTS_TOPIC, 3).await;
    let login = stage.login("SCRAM-SHA-256").await;
    assert_delivers(&stage, &stage.secure(login.clone()), "with-tls").await;
    if stage.gate.is_some() {
        assert_delivers(&stage, &stage.plain(login), "without-tls").await;
        assert_eq!(stage.cluster.too_wide(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_function_delivers_with_and_without_tls_to_one_address() {
    assert_both_ways(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_function_delivers_to_a_gate_before_brokers_as_narrow_as_redpanda() {
    assert_both_ways(true).await;
}
