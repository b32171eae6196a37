//! Events of other topics: the general shape field by field, and their way back into the broker.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::support::gate::Gate;
use crate::support::kafka_read::Record;
use crate::support::security::{PASSWORD, USER};
use crate::support::{DEADLINE, eventually};

use super::stage::{COMMANDS_TOPIC, LEASES, REPLAYED, ROWS, Row, Stage, send, status, store};

fn values(records: &[Record], key: &str) -> Vec<u64> {
    let mine = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    mine.map(|record| record.json().as_u64().expect("a number")).collect()
}

/// Ten digits of a partition, from 1 on, and twenty of an arrival.
fn order_of(row: &Row) -> (String, u64) {
    let parts: Vec<_> = row.order.split('/').collect();
    assert!(parts.len() == 4 && parts[1].len() == 10 && parts[2].len() == 20 && parts[3].len() == 8, "{}", row.order);
    assert_eq!(parts[1].parse::<i32>().expect("a number"), row.partition + 1);
    assert!(row.name.starts_with(parts[3]), "{}: {}", row.name, row.order);
    (parts[0].to_owned(), parts[2].parse().expect("a number"))
}

/// Scenario: an event with everything that a sender can say, and one with nothing, in an outage.
/// Guarantees: each is one document, named as the answer says, of exactly these fields; nothing is said of a partition's
/// number that is not so; the rows are in the order in which they came.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_outage_is_a_document_of_the_general_shape_field_by_field() {
    let Some(mut stage) = Stage::routed(&[("events", 3)]).await else { return };
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    assert_eq!(send(&gate, &token, "events", "{\"key\":\"k\",\"data\":0}").await["tier"], "broker");
    let partition = stage.kafka.consume_all("events").await[0].partition;
    stage.kafka.kill_9();
    let before = OffsetDateTime::from(SystemTime::now() - Duration::from_millis(1));
    let full =
        r#"{"id":"order-17","key":"k","time":"2026-07-01T12:00:00.123Z","headers":{"a":"1","ü":"😀"},"data":{"b": [[1.50]],"c":null}}"#;
    let full = store(&gate, &token, "events", full).await;
    let plain = store(&gate, &token, "events", "{\"data\":\"x\"}").await;
    let after = OffsetDateTime::from(SystemTime::now());
    let rows = stage.has_rows(2).await;
    let find = |result: &Value| rows.iter().find(|row| row.name == result["document"]).expect("the answer names its document").clone();
    let (full_row, plain_row) = (find(&full), find(&plain));
    for (row, result) in [(&full_row, &full), (&plain_row, &plain)] {
        assert_eq!((row.kind.as_str(), row.topic.as_str(), row.principal.as_str(), row.attempts), ("event", "events", "dev:me", 0));
        assert_eq!((json!(row.id), row.name.len()), (result["id"].clone(), 40));
        assert!(row.stored_at >= before && row.stored_at <= after && !row.instance.is_empty(), "{row:?}");
        assert!(row.not_before >= 0 && row.reason.is_none() && row.chosen.is_none(), "{row:?}");
        assert_eq!(order_of(row).0, "events");
        let id = row.headers.iter().find(|(name, _)| name == "x-deml-event-id").expect("it is in the headers");
        assert_eq!(id.1, row.id.as_bytes());
    }
    assert_eq!(full_row.instance, plain_row.instance);
    assert_eq!((full_row.key.as_deref(), full_row.partition), (Some(b"k".as_slice()), partition), "the partition is the key's");
    assert_eq!(full_row.value, b"{\"b\": [[1.50]],\"c\":null}", "the bytes as they came");
    assert_eq!(full_row.time.map(OffsetDateTime::unix_timestamp_nanos), Some(1_782_907_200_123_000_000));
    for (name, value) in [("a", "1"), ("ü", "😀")] {
        assert!(full_row.headers.contains(&(name.to_owned(), value.as_bytes().to_vec())), "{:?}", full_row.headers);
    }
    assert!(full_row.id.ends_with(".order-17"), "{}", full_row.id);
    assert_eq!((plain_row.key.clone(), plain_row.value.as_slice()), (None, b"\"x\"".as_slice()));
    assert!(plain_row.time >= Some(before - Duration::from_secs(1)) && plain_row.time <= Some(after), "{plain_row:?}");
    let (one, two) = (order_of(&full_row).1, order_of(&plain_row).1);
    assert!(
        two > one && u128::from(one) / 1_000_000 <= after.unix_timestamp().unsigned_abs().into() && one > 1_700_000_000_000_000,
        "{one} {two}"
    );
    assert_eq!(status(&gate).await["inbox"]["rows"], 2);

    stage.kafka.restart().await;
    stage.replayed(&gate).await;
    let records = stage.kafka.consume_all("events").await;
    let replayed = records.iter().find(|record| record.event_id() == full_row.id).expect("it is replayed");
    assert_eq!(
        (replayed.value.as_slice(), replayed.key.clone(), replayed.partition),
        (full_row.value.as_slice(), full_row.key.clone(), partition)
    );
    assert_eq!(replayed.headers, full_row.headers, "every header, in order");
}

/// Scenario: no broker has ever been seen, so that no partition is known; then there is one.
/// Guarantees: the row says -1, and is replayed all the same, by its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_partition_that_is_not_known_yet_is_replayed_when_it_is() {
    let Some(mut stage) = Stage::routed(&[("events", 3)]).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    for n in 0..20 {
        store(&gate, &token, "events", &format!("{{\"key\":\"k{}\",\"data\":{n}}}", n % 4)).await;
    }
    let rows = stage.has_rows(20).await;
    assert!(rows.iter().all(|row| row.partition == -1), "{rows:?}");
    rows.iter().for_each(|row| assert_eq!(order_of(row).0, "events"));
    stage.kafka.restart().await;
    stage.replayed(&gate).await;
    let records = stage.kafka.consume_all("events").await;
    for key in 0..4 {
        assert_eq!(values(&records, &format!("k{key}")), (0..5).map(|n| n * 4 + key).collect::<Vec<_>>());
    }
}

/// Scenario: 600 events of two topics in an outage, with thirty keys and without any; a name of the one begins as the
/// other's; the broker comes back, and events go on coming meanwhile.
/// Guarantees: each is in the broker once, in order for each key with what came after; no document and no lease is left;
/// no call was larger than Firestore takes.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_replayed_in_order_for_each_key_and_then_deleted() {
    let topics = [("events", 4), ("events-too", 2)];
    let Some(mut stage) = Stage::routed(&topics).await else { return };
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    send(&gate, &token, "events", "{\"data\":0}").await;
    stage.kafka.kill_9();
    let body = |topic: &str, n: u64| {
        let key = if n % 31 == 30 { "null".to_owned() } else { format!("\"k{}\"", n % 31) };
        format!("{{\"topic\":\"{topic}\",\"key\":{key},\"data\":{n}}}")
    };
    let batch = async |from: u64, to: u64| {
        for topic in ["events", "events-too"] {
            let events: Vec<_> = (from..to).map(|n| body(topic, n)).collect();
            let answer = gate.post("/v1/events", &token, format!("[{}]", events.join(","))).await;
            assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text());
        }
    };
    for step in 0..6 {
        batch(1 + step * 50, 51 + step * 50).await;
    }
    assert_eq!(stage.has_rows(600).await.iter().map(|row| row.name.clone()).collect::<HashSet<_>>().len(), 600);
    stage.kafka.restart().await;
    for step in 6..12 {
        batch(1 + step * 50, 51 + step * 50).await;
    }
    stage.replayed(&gate).await;
    for (topic, first) in [("events", 1), ("events-too", 0)] {
        let mut records = stage.kafka.consume_all(topic).await;
        // The first batch was on its way when the broker died: its producer may deliver it late, beside the inbox.
        let mut seen = HashSet::new();
        records.retain(|record| seen.insert(record.json()) || record.json().as_u64().is_none_or(|n| n > 50));
        assert_eq!(records.len(), 600 + first, "{topic}: each once");
        for key in 0..30 {
            let expected: Vec<_> = (1..601).filter(|n| n % 31 == key).collect();
            assert_eq!(values(&records, &format!("k{key}")), expected, "{topic}, k{key}");
        }
    }
    let none = async || stage.firestore.documents(LEASES).await.is_empty().then_some(());
    eventually("the leases are given back", DEADLINE, none).await;
    assert!(stage.faulty.largest_batch() <= 500, "{}", stage.faulty.largest_batch());
}

/// Scenario: the broker freezes with events on their way, so that the inbox takes what the producer still holds; it thaws.
/// Guarantees: the late success of the producer deletes the document: every event is in the broker once.
#[tokio::test(flavor = "multi_thread")]
async fn the_late_success_of_the_producer_deletes_the_document() {
    let Some(mut stage) = Stage::routed(&[("events", 1)]).await else { return };
    // Longer than the freeze and any stall of the machine: the producer gives nothing up.
    // And a call has time: one that is given up, and is made by the emulator all the same when its document is gone, makes it anew.
    stage.setup = stage.setup.clone().env("SLUICEGATE__SINK__MESSAGE_TIMEOUT", "120s");
    stage.setup = stage.setup.env("SLUICEGATE__SINK__ANSWER_DEADLINE", "20s").env("SLUICEGATE__INBOX__FIRESTORE__CALL_TIMEOUT", "10s");
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    assert_eq!(send(&gate, &token, "events", "{\"data\":\"first\"}").await["tier"], "broker");
    stage.kafka.stop();
    let sent = async |n: u64| store(&gate, &token, "events", &format!("{{\"key\":\"k\",\"data\":{n}}}")).await;
    let all = tokio::join!(sent(0), sent(1), sent(2), sent(3));
    assert_eq!(all.0["tier"], "inbox");
    let rows = stage.has_rows(4).await;
    let held = rows.iter().filter(|row| row.not_before > 0 && row.maybe).count();
    assert!(held > 0, "the producer holds what came before the breaker opened: {rows:?}");
    assert!(rows.iter().filter(|row| row.not_before > 0).all(|row| row.not_before > row.stored_at.unix_timestamp() * 1_000), "{rows:?}");
    stage.kafka.cont();
    stage.replayed(&gate).await;
    let records = stage.kafka.consume_all("events").await;
    let mut found: Vec<_> = records.iter().map(|record| record.json()).filter(|value| value.is_u64()).collect();
    found.sort_by_key(Value::as_u64);
    assert_eq!(found, [json!(0), json!(1), json!(2), json!(3)], "each once");
}

/// Scenario: one event is sent three times in an outage, by one key of its sender's; another sender has the same key.
/// Guarantees: the three are one document, whose name each answer has; the other is a second.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_twice_is_one_document() {
    let Some(mut stage) = Stage::routed(&[("events", 1)]).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let (me, you) = (gate.token(&["--sub", "me"]).await, gate.token(&["--sub", "you"]).await);
    let body = "{\"id\":\"order-17\",\"data\":1}";
    let first = store(&gate, &me, "events", body).await;
    for _ in 0..2 {
        assert_eq!(store(&gate, &me, "events", body).await["document"], first["document"]);
    }
    assert_eq!(stage.has_rows(1).await[0].name, first["document"]);
    // Twice in one request too, which a call must not have.
    let twice = gate.post("/v1/events/events", &me, format!("[{body},{body},{{\"data\":2}}]")).await;
    assert_eq!((twice.status, &twice.json()["accepted"]), (202, &json!(3)), "{}", twice.text());
    let other = store(&gate, &you, "events", body).await;
    assert_ne!(other["document"], first["document"]);
    stage.has_rows(3).await;
    stage.kafka.restart().await;
    stage.replayed(&gate).await;
    assert_eq!(stage.kafka.consume_all("events").await.len(), 3);
}

/// Scenario: the route of a topic names a collection of its own.
/// Guarantees: its rows are there and nowhere else, and are replayed from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_name_a_collection_of_its_own() {
    let config = "[[routes]]\ntopic = \"events\"\n[[routes]]\ntopic = \"orders\"\ncollection = \"orders_inbox\"\n";
    let Some(mut stage) = Stage::new(&[("events", 1), ("orders", 1)], config).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    store(&gate, &token, "events", "{\"data\":1}").await;
    store(&gate, &token, "orders", "{\"data\":2}").await;
    let topic = |document: &Value| Row::of(document).topic;
    assert_eq!(stage.firestore.documents("orders_inbox").await.iter().map(topic).collect::<Vec<_>>(), ["orders"]);
    assert_eq!(stage.firestore.documents(ROWS).await.iter().map(topic).collect::<Vec<_>>(), ["events"]);
    stage.kafka.restart().await;
    stage.replayed(&gate).await;
    let none = async || stage.firestore.documents("orders_inbox").await.is_empty().then_some(());
    eventually("the other collection is empty too", REPLAYED, none).await;
    assert_eq!((stage.kafka.consume_all("orders").await.len(), stage.kafka.consume_all("events").await.len()), (1, 1));
}

/// A client of Kafka's that numbers nothing, with its records in one batch.
fn producer(gate: &Gate) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", gate.https.to_string()).set("security.protocol", "SASL_SSL");
    config.set("sasl.mechanism", "PLAIN").set("sasl.username", USER).set("sasl.password", PASSWORD);
    config.set("ssl.ca.location", gate.ca().expect("it has one").display().to_string());
    config.set("enable.idempotence", "false").set("linger.ms", "300").set("compression.type", "zstd");
    config.set("message.timeout.ms", "60000").create().expect("a producer")
}

/// The batches in a log of Kafka's, each with its place.
fn batches(log: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (log, Vec::new());
    while rest.len() > 12 {
        let length = 12 + usize::try_from(u32::from_be_bytes(rest[8..12].try_into().expect("four bytes"))).expect("a length");
        found.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    found
}

/// Scenario: a Kafka client writes three compressed batches, the second in an outage, to a topic that is a command's for
/// others, and to one that is not.
/// Guarantees: the batch is one document of the gate's own collection, whatever the route; it holds the producer's bytes,
/// and those bytes are in the broker's log in the end, but for the eight and four of them that are the broker's to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_clients_batch_is_stored_and_replayed_byte_for_byte() {
    let config = format!("[[routes]]\ntopic = \"events\"\n[[routes]]\ntopic = \"{COMMANDS_TOPIC}\"\nshape = \"command\"\n");
    let Some(mut stage) = Stage::new(&[("events", 1), (COMMANDS_TOPIC, 1)], &config).await else { return };
    let users = stage.setup.path("users.toml").display().to_string();
    stage.setup = stage.setup.clone().env("SLUICEGATE__AUTH__USERS_FILE", &users);
    let file = stage.setup.path("secret.txt");
    std::fs::write(&file, PASSWORD).expect("a file in a folder of ours");
    let file = file.display().to_string();
    let added = stage.setup.run(&["user", "add", USER, "--topics", "*", "--password-file", &file]).await;
    assert_eq!(added.status, 0, "{}", added.stderr);
    let gate = stage.setup.start().await;
    let producer = producer(&gate);
    let write = async |topic: &str, name: &str| {
        let name = name.to_owned();
        let sends = (0..10).map(|n| {
            let (producer, name, topic) = (producer.clone(), name.clone(), topic.to_owned());
            async move {
                let (payload, key) = (format!("{name}-{n}-{}", "x".repeat(200)), format!("k{n}"));
                let headers =
                    OwnedHeaders::new().insert(Header { key: "h", value: Some(&name) }).insert(Header::<&str> { key: "none", value: None });
                let record = FutureRecord::to(&topic).key(&key).payload(&payload).headers(headers);
                producer.send(record, Timeout::Never).await.map_err(|(error, _)| error).expect("it is taken")
            }
        });
        futures_util::future::join_all(sends).await
    };
    for topic in ["events", COMMANDS_TOPIC] {
        write(topic, "before").await;
    }
    stage.kafka.kill_9();
    for topic in ["events", COMMANDS_TOPIC] {
        let placed = write(topic, "outage").await;
        // librdkafka counts on from the first: -1, 0, 1 ...
        assert!(placed.iter().any(|placed| placed.offset == -1), "what the inbox takes has no place yet: {placed:?}");
    }
    let rows = stage.rows().await;
    assert_eq!(
        stage.firestore.documents(crate::support::platform_reader::COMMANDS).await.len(),
        0,
        "a batch is nothing for the platform's reader"
    );
    let mut by_topic: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        assert_eq!((row.kind.as_str(), row.chosen, row.partition), ("batch", Some(0), 0), "{row:?}");
        assert!(row.principal.contains(USER), "{}", row.principal);
        by_topic.entry(row.topic.clone()).or_default().push(row);
    }
    assert_eq!(by_topic.keys().map(String::as_str).collect::<Vec<_>>(), ["events", COMMANDS_TOPIC]);
    stage.kafka.restart().await;
    write("events", "after").await;
    stage.replayed(&gate).await;
    for (topic, rows) in &by_topic {
        let log = batches(&stage.kafka.log(topic, 0));
        for row in rows {
            // Base offset (8) and leader epoch (4 after the length's 4) are the broker's own; from the magic on it is the producer's.
            let copies = log.iter().filter(|batch| batch[16..] == row.value[16..]).count();
            assert_eq!(copies, 1, "{topic}: the bytes of {} are in the log once", row.name);
        }
    }
    let records = stage.kafka.consume_all("events").await;
    let names: Vec<_> =
        records.iter().map(|record| String::from_utf8_lossy(&record.value).split('-').next().expect("a name").to_owned()).collect();
    let expected: Vec<_> = ["before", "outage", "after"].iter().flat_map(|name| vec![(*name).to_owned(); 10]).collect();
    assert_eq!(names, expected, "in the order in which they came");
    assert!(records.iter().all(|record| record.headers.len() == 2), "{:?}", records[0].headers);
}
