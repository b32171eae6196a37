//! Commands of the front end in an outage: the platform's own reader takes them, and nobody else does.

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::gate::Gate;
use crate::support::issuer::Issuer;
use crate::support::kafka_read::Record;

use super::stage::{COMMANDS_TOPIC as TOPIC, ROWS, Stage, status, store};

/// The source that a document says, unless it is set otherwise.
const SOURCE: &str = "firebase-fallback";

/// A gate in front of a project's users, with their commands' route, and another one. A topic takes more than a document can.
fn config(issuer: &Issuer) -> String {
    format!(
        "[auth.issuers.firebase]\nkind = \"firebase\"\nproject = \"demo\"\njwks_url = \"{}\"\ntopics = [\"{TOPIC}\", \"other\"]\n\
         [[routes]]\ntopic = \"{TOPIC}\"\nshape = \"command\"\nmax_event_bytes = \"1500 KiB\"\n[[routes]]\ntopic = \"other\"\n",
        issuer.jwks_url()
    )
}

async fn stage(issuer: &Issuer) -> Option<Stage> {
    let stage = Stage::new(&[("other", 1)], &config(issuer)).await?;
    stage.kafka.create_topic(TOPIC, 1, &[("max.message.bytes", "2000000")]).await;
    Some(stage)
}

async fn call(gate: &Gate, token: &str, data: &Value) -> Answer {
    gate.post("/ingestEvent", token, format!("{{\"data\":{data}}}")).await
}

/// The same with data that no library would write.
async fn call_raw(gate: &Gate, token: &str, data: &str) -> Answer {
    gate.post("/ingestEvent", token, format!("{{\"data\":{data}}}")).await
}

/// A call that is accepted; by which tier.
async fn tier(gate: &Gate, token: &str, data: &Value) -> String {
    let answer = call(gate, token, data).await;
    assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text());
    let result = &answer.json()["result"];
    assert_eq!(result["status"], "accepted", "{result}");
    result["tier"].as_str().expect("a tier").to_owned()
}

/// Everything that JSON has and a document can hold, some of it at its bounds.
fn payloads() -> Vec<Value> {
    let mut deep = json!({"n": 1});
    for level in 0..9 {
        deep = json!({"list": [deep], "level": level});
    }
    vec![
        json!({"action": "get_stats"}),
        json!({"action": "numbers", "half": 1.5, "third": 0.333_333_333_333_333_3, "huge": 1.797_693_134_862_315_7e308, "tiny": 5e-324,
               "minus": -2.25e-10, "whole": 2.0, "zero": 0, "max": i64::MAX, "min": i64::MIN, "odd": 9_007_199_254_740_993_i64}),
        json!({"action": "lists", "in_maps": {"a": [{"b": [{"c": [1, 2.5, null]}]}], "none": [], "no": {}}, "mixed": [true, "x", {}, 7]}),
        json!({"action": "grüße 🚀", "ключ": "значение", "組": {"値": "\u{1F600}\u{200D}"}, "null\u{1}": "\u{0}\n\t\"\\", "spaces in names": " "}),
        json!({"action": "null", "nothing": null, "list": [null], "map": {"nothing": null}}),
        json!({"action": "names", "a.b": 1, "`": 2, "_x": 3, "x__": 4, "__x": 5, "0": 6}),
        json!({"action": "deep", "deep": deep}),
        json!({"action": "long", "text": "x".repeat(500_000)}),
    ]
}

fn with_key(payload: &Value, key: &str) -> Value {
    let mut payload = payload.clone();
    payload["idempotency_key"] = json!(key);
    payload
}

/// Whether two values say the same: the numbers of a document are what they are, without the digits that they came in.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one == other,
            _ => one.as_f64() == other.as_f64(),
        },
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other)),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

fn without_time(mut value: Value) -> Value {
    let time = value.as_object_mut().expect("an object").remove("timestamp").expect("a time");
    assert!(time.as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{time}");
    value
}

fn record_of(records: &[Record], key: &str) -> Value {
    records.iter().map(Record::json).find(|value| value["idempotency_key"] == key).unwrap_or_else(|| panic!("no record of {key}"))
}

/// Scenario: commands come while the broker is up, and the same once more while it is dead; then it is back, and more come.
/// Guarantees: those of the outage are documents that the platform's reader takes, every one; a document and the record of
/// the same command say the same, and differ in `source` and in when they came; what Firestore has of a number, a list, a
/// null is of that type. The gate replays none of them, holds nothing for them, and goes on by the broker at once.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_an_outage_are_documents_that_the_platforms_reader_takes() {
    let issuer = Issuer::start();
    let Some(mut stage) = stage(&issuer).await else { return };
    let gate = stage.setup.start().await;
    let token = issuer.firebase_token("demo", "firebase-uid");
    let payloads: Vec<_> = payloads().iter().enumerate().map(|(n, payload)| with_key(payload, &format!("0123456789abcdef-{n}"))).collect();
    for payload in &payloads {
        assert_eq!(tier(&gate, &token, payload).await, "broker");
    }
    stage.kafka.kill_9();
    // The first one is the producer's still, which delivers it late; so its document may go.
    assert_eq!(tier(&gate, &token, &json!({"action": "first"})).await, "inbox");
    for payload in &payloads {
        assert_eq!(tier(&gate, &token, payload).await, "inbox", "{}", payload["action"]);
    }
    assert_eq!(tier(&gate, &token, &json!({"action": "without a key"})).await, "inbox");
    assert_eq!(stage.firestore.documents(ROWS).await, [Value::Null; 0], "commands are none of the gate's own rows");
    assert_eq!(status(&gate).await["inbox"]["rows"], 0, "nothing is owed");

    stage.kafka.restart().await;
    let again = async || (tier(&gate, &token, &json!({"action": "after"})).await == "broker").then_some(());
    crate::support::eventually("the broker takes commands again", super::stage::REPLAYED, again).await;
    let mut reader = stage.reader();
    reader.drain().await;
    assert_eq!((&reader.dead, reader.duplicates), (&Vec::new(), 0));
    let records = stage.kafka.consume_all(TOPIC).await;
    for payload in &payloads {
        let key = payload["idempotency_key"].as_str().expect("a key");
        let command =
            reader.commands.iter().find(|command| command.idempotency_key == key).unwrap_or_else(|| panic!("no document of {key}"));
        assert_eq!((command.uid.as_str(), command.source.as_str()), ("firebase-uid", SOURCE));
        assert!(same(&command.payload, payload), "{payload} became {}", command.typed_payload);
        let (document, record) = (without_time(command.record()), without_time(record_of(&records, key)));
        assert!(same(&document, &record), "{record} became {document}");
        assert_eq!(records.iter().filter(|record| record.json()["idempotency_key"] == key).count(), 1, "none of them is replayed");
    }
    let typed = |n: usize, name: &str| {
        let key = &payloads[n]["idempotency_key"];
        let command = reader.commands.iter().find(|command| key == &command.idempotency_key).expect("it is there");
        command.typed_payload["mapValue"]["fields"][name].clone()
    };
    for (name, value) in [("max", i64::MAX), ("min", i64::MIN), ("odd", 9_007_199_254_740_993), ("zero", 0)] {
        assert_eq!(typed(1, name), json!({"integerValue": value.to_string()}));
    }
    assert_eq!(typed(1, "half"), json!({"doubleValue": 1.5}));
    assert!(typed(1, "tiny")["doubleValue"].as_f64().is_some_and(|tiny| tiny > 0.0), "{}", typed(1, "tiny"));
    assert_eq!(typed(4, "nothing"), json!({"nullValue": null}));
    let made = reader.commands.iter().find(|command| command.payload["action"] == "without a key").expect("it is there");
    assert!(made.idempotency_key.len() >= 16, "a key is made where there is none");
}

/// Scenario: one command is sent three times in an outage, and another payload with its key.
/// Guarantees: the one is one document; the other is one of its own, so that the reader sees the conflict.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_sent_again_is_one_document_and_its_key_with_another_payload_a_second() {
    let issuer = Issuer::start();
    let Some(mut stage) = stage(&issuer).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = issuer.firebase_token("demo", "u1");
    let once = with_key(&json!({"action": "pay", "amount": 1}), "order-2026-07-01-1");
    for _ in 0..3 {
        assert_eq!(tier(&gate, &token, &once).await, "inbox");
    }
    let mut reader = stage.reader();
    assert_eq!((reader.poll().await, reader.commands.len()), (1, 1));
    let other = with_key(&json!({"action": "pay", "amount": 2}), "order-2026-07-01-1");
    assert_eq!(tier(&gate, &token, &other).await, "inbox");
    reader.drain().await;
    assert_eq!((reader.commands.len(), reader.dead.len()), (1, 1), "{:?}", reader.dead);
    assert!(reader.dead[0].1.contains("two payloads"));
}

/// A small document with large indexes.
const INDEXED: &str = "3,000 values under a long name";

/// What is JSON, and the broker would take, and a document cannot hold.
fn impossible() -> Vec<(&'static str, String)> {
    // Each of them is twice in the indexes, under the whole of its name.
    let indexed: Vec<_> = (0..3_000).map(|n| format!("\"{n}\":1")).collect();
    let nested = |levels: usize| format!("{{\"action\":\"x\",\"deep\":{}1{}}}", "{\"a\":".repeat(levels), "}".repeat(levels));
    vec![
        ("a list in a list", "{\"action\":\"x\",\"list\":[1,[2]]}".to_owned()),
        ("a list in a list in a map", "{\"action\":\"x\",\"map\":{\"list\":[{\"inner\":[[]]}]}}".to_owned()),
        ("21 levels with the payload", nested(20)),
        ("a name that is Firestore's", "{\"action\":\"x\",\"__x__\":1}".to_owned()),
        ("a name without a letter", "{\"action\":\"x\",\"map\":{\"\":1}}".to_owned()),
        ("more than 2^63", "{\"action\":\"x\",\"n\":9223372036854775809}".to_owned()),
        ("less than -2^63", "{\"action\":\"x\",\"list\":[-9223372036854775809]}".to_owned()),
        ("a text of 1 MiB", format!("{{\"action\":\"x\",\"text\":\"{}\"}}", "x".repeat(1 << 20))),
        ("a long name", format!("{{\"action\":\"x\",\"{}\":1}}", "n".repeat(1_501))),
        (INDEXED, format!("{{\"action\":\"x\",\"{}\":{{{}}}}}", "n".repeat(1_400), indexed.join(","))),
        ("more than 10,000 values", format!("{{\"action\":\"x\",\"list\":[{}0]}}", "0,".repeat(10_000))),
    ]
}

/// Scenario: commands that the broker would take and a document cannot hold, with the broker up and with it dead.
/// Guarantees: each is refused for good, with the place where it stands, in the same words both times; none of it is
/// anywhere; to another topic, whose documents hold bytes, the same is fine.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_cannot_hold_is_refused_with_the_place_broker_up_or_down() {
    let issuer = Issuer::start();
    let Some(mut stage) = stage(&issuer).await else { return };
    let gate = stage.setup.start().await;
    let token = issuer.firebase_token("demo", "u1");
    let refusals = async || {
        let mut refusals = Vec::new();
        for (name, data) in impossible() {
            let answer = call_raw(&gate, &token, &data).await;
            let error = &answer.json()["error"];
            assert_eq!((answer.status, &error["status"]), (400, &json!("INVALID_ARGUMENT")), "{name}: {}", answer.text());
            refusals.push((name, error.clone()));
        }
        refusals
    };
    assert_eq!(tier(&gate, &token, &json!({"action": "x"})).await, "broker");
    let up = refusals().await;
    stage.kafka.kill_9();
    assert_eq!(tier(&gate, &token, &json!({"action": "x"})).await, "inbox");
    let down = refusals().await;
    assert_eq!(up, down, "the same words");
    let field =
        |name: &str| up.iter().find(|(other, _)| *other == name).map(|(_, error)| error["details"]["field"].clone()).expect("a case");
    let places = [
        ("a list in a list", "data.list[1]"),
        ("a list in a list in a map", "data.map.list[0].inner[0]"),
        ("less than -2^63", "data.list[0]"),
        ("more than 2^63", "data.n"),
    ];
    for (name, place) in places {
        assert_eq!(field(name), place, "{name}");
    }
    let indexed = up.iter().find(|(name, _)| *name == INDEXED).expect("a case").1.to_string();
    assert!(indexed.contains("indexes") && indexed.contains("8388608"), "{indexed}");
    assert_eq!(stage.faulty.stores(), 1, "nothing of it was sent to Firestore");
    let mut reader = stage.reader();
    reader.drain().await;
    assert_eq!((reader.commands.len(), reader.dead.len()), (1, 0));
    let other = store(&gate, &token, "other", "{\"data\":[[1],9223372036854775809,{\"\":{\"__x__\":1}}]}").await;
    assert!(other["document"].is_string(), "{other}");
    stage.kafka.restart().await;
    stage.replayed(&gate).await;
    let there: Vec<_> = stage.kafka.consume_all(TOPIC).await.iter().map(|record| record.json()["payload"].clone()).collect();
    // The second one was the producer's still when the inbox took it.
    assert!(!there.is_empty() && there.len() <= 2 && there.iter().all(|payload| *payload == json!({"action": "x"})), "{there:?}");
}

/// Scenario: the settings name another source and another collection.
/// Guarantees: that is what is written, and to where.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_and_the_collection_of_commands_are_settings() {
    let issuer = Issuer::start();
    let Some(mut stage) = stage(&issuer).await else { return };
    stage.kafka.kill_9();
    let setup = stage.setup.clone().env("SLUICEGATE__INBOX__FIRESTORE__SOURCE", "edge");
    let gate = setup.env("SLUICEGATE__INBOX__FIRESTORE__COMMAND_COLLECTION", "elsewhere").start().await;
    assert_eq!(tier(&gate, &issuer.firebase_token("demo", "u1"), &json!({"action": "x"})).await, "inbox");
    let documents = stage.firestore.documents("elsewhere").await;
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0]["fields"]["source"], json!({"stringValue": "edge"}));
}

/// Scenario: nothing of Firestore is set but the kind, and the platform's own names in the environment.
/// Guarantees: that is enough: the project's database `deml`, the collection that the platform's reader polls.
#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_own_environment_is_enough() {
    let issuer = Issuer::start();
    let Some(mut stage) = stage(&issuer).await else { return };
    stage.kafka.kill_9();
    let setup =
        stage.setup.clone().without_env("SLUICEGATE__INBOX__FIRESTORE__PROJECT").without_env("SLUICEGATE__INBOX__FIRESTORE__DATABASE");
    let gate = setup.env("FIREBASE_PROJECT_ID", "demo").start().await;
    assert_eq!(tier(&gate, &issuer.firebase_token("demo", "u1"), &json!({"action": "x"})).await, "inbox");
    let mut reader = stage.reader();
    reader.drain().await;
    assert_eq!((reader.commands.len(), reader.dead.len()), (1, 0), "{:?}", reader.dead);
}
