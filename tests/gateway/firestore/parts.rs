//! The parts that the tests of the Firestore inbox lean on do what those think they do.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::faulty_firestore::{ABORTED, ANY, FaultyFirestore, Lie, Loss, RESOURCE_EXHAUSTED, Times, UNAUTHENTICATED};
use crate::support::firestore::{DATABASE, Firestore, PROJECT};
use crate::support::firestore_caller::Caller;
use crate::support::platform_reader::{COMMANDS, DEAD_LETTERS, PlatformReader};

async fn ids(firestore: &Firestore, collection: &str) -> Vec<String> {
    let name = |document: &serde_json::Value| document["name"].as_str().expect("a name").rsplit('/').next().expect("an id").to_owned();
    firestore.documents(collection).await.iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_firestore_hands_on_what_it_was_not_told_to_break_and_breaks_what_it_was() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let faulty = FaultyFirestore::before(&firestore.address()).await;
    let caller = Caller::of(&faulty.address());
    assert_eq!(caller.create(&["a", "b"]).await, Ok(vec![0, 0]));
    assert_eq!(caller.create(&["b", "c"]).await, Ok(vec![6, 0]), "one that is there, one that is new");
    assert_eq!(ids(&firestore, "things").await, ["a", "b", "c"]);

    faulty.fail("BatchWrite", RESOURCE_EXHAUSTED, "too much, 100 %\n", Times::Only(2));
    for code in [RESOURCE_EXHAUSTED, RESOURCE_EXHAUSTED, 0] {
        assert_eq!(caller.create(&["d"]).await, Ok(vec![code]));
    }
    faulty.fail("Commit", ABORTED, "", Times::UntilHealed);
    assert_eq!(caller.create(&["e"]).await, Ok(vec![0]), "another method");
    faulty.fail(ANY, ABORTED, "", Times::UntilHealed);
    assert_eq!(caller.create(&["f"]).await, Ok(vec![ABORTED]));
    faulty.heal();
    faulty.admit_only(&["somebody"]);
    assert_eq!(caller.create(&["f"]).await, Ok(vec![UNAUTHENTICATED]));
    faulty.admit_only(&["somebody", "owner"]);
    assert_eq!(caller.create(&["f"]).await, Ok(vec![0]));
    faulty.heal();

    faulty.answer_then_lose(Loss::Reset, Times::Only(1));
    assert!(caller.create(&["g"]).await.is_err());
    assert_eq!(caller.create(&["g"]).await, Ok(vec![6]), "it was done");
    faulty.answer_then_lose(Loss::Silence, Times::Only(1));
    let silent = tokio::time::timeout(Duration::from_millis(300), caller.create(&["h"])).await;
    assert!(silent.is_err(), "{silent:?}");
    faulty.lie(Lie::Every(2));
    for (id, code) in [("i", 0), ("j", 0), ("k", 0), ("j", 0), ("h", 6)] {
        assert_eq!(caller.create(&[id]).await, Ok(vec![code]), "{id}");
    }
    assert_eq!(ids(&firestore, "things").await, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "k"]);
    let lied: Vec<_> = faulty.lied().iter().map(|name| name.rsplit('/').next().expect("an id").to_owned()).collect();
    assert_eq!(lied, ["j", "j"]);

    faulty.heal();
    faulty.delay(Duration::from_millis(200));
    let begun = Instant::now();
    let (one, two) = tokio::join!(caller.create(&["l"]), caller.create(&["m"]));
    assert_eq!((one, two), (Ok(vec![0]), Ok(vec![0])));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    faulty.heal();
    faulty.answer_late(Duration::from_secs(60));
    let late = tokio::time::timeout(Duration::from_millis(500), caller.create(&["n"])).await;
    assert!(late.is_err() && ids(&firestore, "things").await.contains(&"n".to_owned()), "it is done before it is answered");
    assert_eq!((faulty.largest_batch(), faulty.most_in_flight()), (2, 2));
    assert_eq!((faulty.count(ANY), faulty.count("BatchWrite"), faulty.count("Commit")), (faulty.stores(), faulty.stores(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_reader_takes_what_is_exactly_as_it_wants_it_and_moves_the_rest_aside_after_five_failures() {
    let Some(firestore) = Firestore::start().await else { return };
    let text = |text: &str| json!({"stringValue": text});
    let payload = |action: &str| {
        let inner = json!({"mapValue": {"fields": {"n": {"integerValue": "-7"}, "x": {"doubleValue": 1.5}, "no": {"nullValue": null}}}});
        let list = json!({"arrayValue": {"values": [inner, {"booleanValue": true}]}});
        json!({"mapValue": {"fields": {"action": {"stringValue": action}, "list": list, "none": {"arrayValue": {}}}}})
    };
    let good = json!({
        "uid": text("u1"), "timestamp": text("2026-07-01T12:00:00.000Z"), "idempotency_key": text("0123456789abcdef"),
        "version": text("1.0"), "source": text("firebase-fallback"), "payload": payload("get_stats"),
    });
    let with = |name: &str, value: serde_json::Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    let mut without = good.clone();
    without.as_object_mut().expect("fields").remove("source");
    let bad = [
        ("more", with("kind", text("event"))),
        ("fewer", without),
        ("type", with("timestamp", json!({"timestampValue": "2026-07-01T12:00:00Z"}))),
        ("time", with("timestamp", text("yesterday"))),
        ("version", with("version", text("1"))),
        ("short", with("idempotency_key", text("0123456789abcde"))),
        ("odd", with("idempotency_key", text("-123456789abcdef"))),
        ("action", with("payload", payload(""))),
        ("list", with("payload", json!({"arrayValue": {}}))),
        ("conflict", with("payload", payload("get_other"))),
    ];
    let client = crate::support::client::Client::trusting(None);
    let put = async |id: &str, fields: &serde_json::Value| {
        let path = format!("/v1/projects/{PROJECT}/databases/{DATABASE}/documents/{COMMANDS}?documentId={id}");
        let url = format!("http://{}{path}", firestore.address());
        let body = json!({"fields": fields}).to_string();
        let answer = client.send(http::Method::POST, &url, &[("content-type", "application/json")], body).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    put("good", &good).await;
    let mut reader = PlatformReader::of(&firestore.address(), PROJECT, DATABASE);
    assert_eq!((reader.poll().await, reader.commands.len()), (1, 1));
    put("again", &good).await;
    for (id, fields) in &bad {
        put(id, fields).await;
    }
    for _ in 0..4 {
        reader.poll().await;
    }
    assert_eq!((reader.dead.len(), ids(&firestore, COMMANDS).await.len()), (0, bad.len()), "four failures are none too many");
    reader.drain().await;
    assert_eq!((reader.commands.len(), reader.duplicates, reader.dead.len()), (1, 1, bad.len()), "{:?}", reader.dead);
    assert!(ids(&firestore, COMMANDS).await.is_empty());
    let mut names: Vec<_> = bad.iter().map(|(id, _)| (*id).to_owned()).collect();
    names.sort();
    assert_eq!(ids(&firestore, DEAD_LETTERS).await, names);
    let record = json!({
        "uid": "u1", "timestamp": "2026-07-01T12:00:00.000Z", "idempotency_key": "0123456789abcdef", "version": "1.0",
        "payload": {"action": "get_stats", "list": [{"n": -7, "x": 1.5, "no": null}, true], "none": []},
    });
    assert_eq!(reader.commands[0].record(), record);
}
