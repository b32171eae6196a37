//! What the SDK for JavaScript sends as JSON and a Collector refuses, with everything beside it in the batch.

use serde_json::{Value, json};

use crate::support::otlp_clients::{Client, Order, Protocol, Task};

use super::stage::Stage;

/// Scenario: numbers beyond 64 bits, numbers that are none, half a character.
/// Guarantees: all of it arrives: an integer out of range as the double that it was, what JSON has no form for as nothing,
/// half a character as the one that stands for such.
#[tokio::test(flavor = "multi_thread")]
async fn what_javascript_has_no_honest_json_for_arrives_through_the_gate() {
    let stage = Stage::new().await;
    let order = Order { client: Client::Node, protocol: Protocol::Json, gzip: true, delta: false, task: Task::Odd };
    assert_eq!(order.at(&stage.endpoint).await.errors, Vec::<String>::new());
    let telemetry = stage.behind.telemetry(&order.run(), 2).await;
    let [span] = telemetry.named("span odd") else { panic!("{telemetry:?}") };
    let attribute = |key: &str| {
        let all = span["item"]["attributes"].as_array().expect("attributes");
        all.iter().find(|attribute| attribute["key"] == key).unwrap_or_else(|| panic!("no {key}: {span}"))["value"].clone()
    };
    assert_eq!(attribute("huge"), json!({"doubleValue": 1e21}));
    assert_eq!(attribute("largest"), json!({"doubleValue": f64::MAX}));
    assert_eq!(attribute("nan"), json!({}));
    assert_eq!(attribute("infinite"), json!({}));
    assert_eq!(attribute("lone"), json!({"stringValue": "a\u{fffd}b"}));
    let [point] = telemetry.named("sum odd ") else { panic!("{telemetry:?}") };
    assert_eq!(point["item"]["asDouble"].as_f64(), Some(1e20), "{point}");
    assert_eq!(point["item"]["asInt"], Value::Null);
}
