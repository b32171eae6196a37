//! The path of an event, on a real broker: where an acknowledged event is, byte for byte.

use serde_json::json;

use crate::support::gate::Setup;
use crate::support::kafka::Kafka;
use crate::support::{DEADLINE, eventually};

/// Scenario: a gate with a healthy broker is started and the first event is sent at once.
/// Guarantees: it is in the broker, not in the inbox, at the partition and offset that the answer names, with exactly its
/// bytes, key and headers.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_of_a_cold_start_is_in_the_broker_byte_for_byte() {
    let kafka = Kafka::start().await;
    kafka.create_topic("events", 3, &[]).await;
    let gate = Setup::new().broker(&kafka).start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let body = r#"{"key":"k-1","headers":{"mine":"yes"},"id":"order-1","data":{ "n": 1.50, "a" : [1e2] }}"#;
    let answer = gate.post("/v1/events/events", &token, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let result = &answer.json()["results"][0];
    assert_eq!((&result["status"], &result["tier"], &result["topic"]), (&json!("accepted"), &json!("broker"), &json!("events")));
    let records = kafka.consume_all("events").await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((json!(record.partition), json!(record.offset)), (result["partition"].clone(), result["offset"].clone()));
    assert_eq!(record.value, br#"{ "n": 1.50, "a" : [1e2] }"#);
    assert_eq!(record.key.as_deref(), Some(b"k-1".as_slice()));
    assert_eq!(record.header("mine"), Some("yes"));
    assert_eq!(record.event_id(), result["id"]);
}

/// Scenario: events are stored while there is no broker; then the same gate is pointed at one.
/// Guarantees: what was acknowledged is replayed once, in order per key, and the next event goes straight to the broker.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_without_a_broker_is_replayed_in_order_when_there_is_one() {
    let kafka = Kafka::start().await;
    let setup = Setup::new();
    let mut gate = setup.start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let answer = gate.post("/v1/events/events", &token, format!(r#"{{"key":"k","data":{n}}}"#)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.push(answer.json()["results"][0]["id"].as_str().expect("an id").to_owned());
    }
    gate.sigterm();
    gate.wait(DEADLINE).await;
    let setup = setup.broker(&kafka);
    assert_eq!(setup.run(&["topics", "--create"]).await.status, 0);
    let gate = setup.start().await;
    eventually("the inbox is empty", DEADLINE, || async { (gate.admin_get("/status").await.json()["inbox"]["rows"] == 0).then_some(()) })
        .await;
    let answer = gate.post("/v1/events/events", &token, r#"{"key":"k","data":20}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let records = kafka.consume_all("events").await;
    let values: Vec<String> = records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect();
    assert_eq!(values, (0..=20).map(|n| n.to_string()).collect::<Vec<_>>());
    let found: Vec<_> = records.iter().take(20).map(|record| record.event_id()).collect();
    assert_eq!(found, ids.iter().map(String::as_str).collect::<Vec<_>>());
}
