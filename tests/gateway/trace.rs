//! `sluicegate trace`: the place that it names is the place that the event is in, at every station of its way.

use std::time::{Duration, SystemTime};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::support::gate::{Gate, Ran, Setup};
use super::support::kafka::Kafka;
use super::support::{DEADLINE, eventually};

/// A gate with one topic, `events`.
const ROUTE: &str = "[[routes]]\ntopic = \"events\"\n";

/// A broker with the topic.
async fn broker() -> Kafka {
    let kafka = Kafka::start().await;
    kafka.create_topic("events", 3, &[]).await;
    kafka
}

/// The result of one event that was sent and taken.
async fn send(gate: &Gate, token: &str, body: &str) -> Value {
    let answer = gate.post("/v1/events/events", token, body.to_owned()).await;
    assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text());
    answer.json()["results"][0].clone()
}

fn id(result: &Value) -> &str {
    result["id"].as_str().expect("an id")
}

async fn trace(setup: &Setup, args: &[&str]) -> (i32, Vec<Value>, String) {
    let Ran { status, stdout, stderr } = setup.run(&[&["trace", "--json"], args].concat()).await;
    let places = stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")));
    (status, places.collect(), stderr)
}

/// The one place that a search has brought.
async fn only(setup: &Setup, args: &[&str]) -> Value {
    match trace(setup, args).await {
        (0, mut places, _) if places.len() == 1 => places.remove(0),
        other => panic!("{args:?} is not in one place: {other:?}"),
    }
}

/// Scenario: events in the broker, with ids of the gate and with the senders' own, one of them sent twice, one key chosen by two.
/// Guarantees: each is found where the answer says that it is, by its id and by its key; copies are counted; whose each is
/// is said; no value is shown unless it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_broker_is_found_by_id_and_by_key_with_its_copies() {
    let kafka = broker().await;
    let gate = Setup::new().config(ROUTE).broker(&kafka).start().await;
    let (setup, token) = (&gate.setup, gate.token(&["--sub", "me"]).await);
    let first = send(&gate, &token, "{\"key\":\"a\",\"data\":\"first-value\"}").await;
    let keyed = send(&gate, &token, "{\"id\":\"order-17\",\"data\":1}").await;
    send(&gate, &token, "{\"id\":\"order-17\",\"data\":1}").await;
    let other = send(&gate, &gate.token(&["--sub", "you"]).await, "{\"id\":\"order-17\",\"data\":2}").await;

    let found = only(setup, &[id(&first)]).await;
    assert_eq!((&found["where"], &found["topic"], &found["id"]), (&json!("broker"), &json!("events"), &first["id"]));
    assert_eq!((&found["partition"], &found["offset"]), (&first["partition"], &first["offset"]));
    assert_eq!((&found["principal"], &found["source"], found.get("value")), (&json!("dev:me"), &json!("events"), None));
    assert_eq!(only(setup, &[id(&first), "--value", "--topic", "events", "--since", "10m"]).await["value"], "\"first-value\"");
    let said = setup.run(&["trace", id(&first)]).await;
    let place = format!("topic events, partition {}, offset {}", first["partition"], first["offset"]);
    assert!(said.status == 0 && said.stdout.contains(&place) && said.stdout.contains("dev:me"), "{said:?}");
    assert!(!said.stdout.contains("first-value") && said.stderr.is_empty(), "{said:?}");

    let (status, places, _) = trace(setup, &["order-17", "--all-copies"]).await;
    let mut whose: Vec<_> = places.iter().map(|place| place["principal"].as_str().expect("a principal")).collect();
    whose.sort_unstable();
    assert_eq!((status, whose), (0, vec!["dev:me", "dev:me", "dev:you"]));
    let (_, places, _) = trace(setup, &[id(&keyed), "--all-copies"]).await;
    assert!(places.len() == 2 && places.iter().all(|place| place["id"] == keyed["id"]), "{places:?}");
    assert_eq!(only(setup, &[id(&other), "--all-copies"]).await["offset"], other["offset"]);
    assert!(only(setup, &["order-17"]).await["id"].as_str().expect("an id").ends_with(".order-17"), "it stops at the first");
    let said = setup.run(&["trace", id(&keyed), "--all-copies"]).await;
    assert!(said.stdout.lines().last().is_some_and(|line| line.starts_with("2 copies in 4 records ")), "{said:?}");
}

/// Scenario: an event that nobody has sent, topics and bounds that leave no room for it, and arguments that mean nothing.
/// Guarantees: each has its exit code, and says what was looked at.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_with_what_was_looked_at() {
    let kafka = broker().await;
    let setup = Setup::new().config(ROUTE);
    let idle = setup.run(&["trace", "order-17"]).await;
    assert!(idle.status == 2 && idle.stderr.contains("REDPANDA_BROKERS"), "{idle:?}");
    let gate = setup.broker(&kafka).start().await;
    let (setup, token) = (&gate.setup, gate.token(&["--sub", "me"]).await);
    let nothing = setup.run(&["trace", "order-17"]).await;
    assert!(nothing.status == 1 && nothing.stderr.contains("not in 0 records (0 B) of events since 20"), "{nothing:?}");
    for n in 0..5 {
        send(&gate, &token, &format!("{{\"data\":\"order-17 \\\"id\\\":\\\"order-17\\\" {n}\"}}")).await;
    }
    let unknown = setup.run(&["trace", "order-17"]).await;
    assert_eq!((unknown.status, unknown.stdout.as_str()), (1, ""));
    assert!(unknown.stderr.contains("`order-17` was not found in the inbox, and not in 5 records ("), "{unknown:?}");
    let bounded = setup.run(&["trace", "order-17", "--max-bytes", "1"]).await;
    assert!(bounded.status == 1 && bounded.stderr.contains("in 1 records") && bounded.stderr.contains("--max-bytes"), "{bounded:?}");
    let elsewhere = setup.run(&["trace", "order-17", "--topic", "nowhere"]).await;
    assert!(elsewhere.status == 2 && elsewhere.stderr.contains("no topic `nowhere`"), "{elsewhere:?}");
    for args in [&["trace"][..], &["trace", "x", "--topic", "a b"], &["trace", "x", "--since", "soon"]] {
        assert_eq!(setup.run(args).await.status, 64, "{args:?}");
    }
    assert_eq!(kafka.topics().await, ["events"], "looking makes nothing");
    let help = setup.run(&["trace", "--help"]).await.stdout;
    assert!(help.contains("Examples:") && help.contains("inbox show") && help.contains("--all-copies"), "{help}");
}

/// Scenario: the broker goes away, an event is sent, the broker comes back.
/// Guarantees: it is found in the inbox while the broker is away, and by the same id in the broker afterwards; with the broker
/// away what is not in the inbox is not said to be nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_outage_is_found_in_the_inbox_and_then_in_the_broker() {
    let mut kafka = broker().await;
    let gate = Setup::new().shipped().config(ROUTE).broker(&kafka).start().await;
    let (setup, token) = (&gate.setup, gate.token(&["--sub", "me"]).await);
    eventually("the broker has taken one", DEADLINE, async || {
        (send(&gate, &token, "{\"data\":0}").await["tier"] == "broker").then_some(())
    })
    .await;
    kafka.shutdown().await;
    let sent = send(&gate, &token, "{\"id\":\"order-18\",\"data\":{\"secret\":1}}").await;
    assert_eq!(sent["tier"], "inbox");
    for name in [id(&sent), "order-18", sent["document"].as_str().expect("a document")] {
        let found = only(setup, &[name]).await;
        assert_eq!((&found["where"], &found["id"], &found["name"]), (&json!("inbox"), &sent["id"], &sent["document"]), "{name}");
        assert_eq!((&found["principal"], found["attempts"].as_u64(), found.get("value")), (&json!("dev:me"), Some(0), None));
        assert!(found["state"] == "held" || found["state"] == "ready", "{found}");
    }
    assert_eq!(only(setup, &["order-18", "--value"]).await["value"], "{\"secret\":1}");
    let said = setup.run(&["trace", "order-18"]).await;
    assert!(said.stdout.starts_with(&format!("in the inbox: {} of dev:me, topic events, since 20", id(&sent))), "{said:?}");

    let (status, places, stderr) = trace(setup, &["order-18", "--all-copies"]).await;
    assert!(status == 3 && places.len() == 1 && stderr.contains(&kafka.brokers()), "{status} {places:?} {stderr}");
    let (status, places, _) = trace(setup, &["order-19"]).await;
    assert_eq!((status, places.len()), (3, 0));

    kafka.restart().await;
    let found = eventually("it is replayed", DEADLINE, async || {
        let (status, mut places, _) = trace(setup, &[id(&sent)]).await;
        (status == 0 && places[0]["where"] == "broker").then(|| places.remove(0))
    })
    .await;
    let there = kafka.consume_all("events").await.into_iter().find(|record| record.event_id() == id(&sent)).expect("it is there");
    assert_eq!((&found["partition"], &found["offset"]), (&json!(there.partition), &json!(there.offset)));
}

/// Scenario: an event was taken before its topic was there, and the topic is one that does not take it.
/// Guarantees: it is found among what was set aside, with the broker's reason.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_found_with_the_reason() {
    let mut gate = Setup::new().config(ROUTE).start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let sent = send(&gate, &token, "{\"data\":1}").await;
    assert_eq!(only(&gate.setup, &[id(&sent)]).await["where"], "inbox", "without any broker");
    gate.sigterm();
    gate.wait(DEADLINE).await;

    let kafka = Kafka::start().await;
    kafka.create_topic("events", 1, &[("cleanup.policy", "compact")]).await;
    let gate = gate.setup.clone().broker(&kafka).env("SLUICEGATE__INBOX__MAX_ATTEMPTS", "1").start().await;
    let found = eventually("it is set aside", DEADLINE, async || {
        let (_, mut places, _) = trace(&gate.setup, &[id(&sent)]).await;
        places.pop().filter(|place| place["where"] == "set_aside")
    })
    .await;
    assert_eq!((&found["reason"], &found["principal"], &found["state"]), (&json!("invalid_record"), &json!("dev:me"), &json!("poison")));
    let said = gate.setup.run(&["trace", id(&sent)]).await;
    assert!(said.status == 0 && said.stdout.starts_with("set aside: ") && said.stdout.contains("invalid_record"), "{said:?}");
}

/// Scenario: an event with a time of its sender's, five hours ago, between others of now and of three hours ago.
/// Guarantees: it is found as far back as is asked for, and no further.
#[tokio::test(flavor = "multi_thread")]
async fn how_far_back_it_looks_goes_by_the_records_time() {
    let kafka = Kafka::start().await;
    kafka.create_topic("events", 1, &[]).await;
    let gate = Setup::new().config(ROUTE).broker(&kafka).start().await;
    let (setup, token) = (&gate.setup, gate.token(&["--sub", "me"]).await);
    for (key, hours) in [("old", 5), ("between", 3), ("new", 0)] {
        let time = OffsetDateTime::from(SystemTime::now() - Duration::from_secs(hours * 3_600)).format(&Rfc3339).expect("a time");
        send(&gate, &token, &format!("{{\"id\":\"{key}\",\"data\":1,\"time\":\"{time}\"}}")).await;
    }
    assert_eq!(only(setup, &["new"]).await["offset"], 2);
    assert_eq!(trace(setup, &["old"]).await.0, 1, "an hour, where nobody says");
    let short = setup.run(&["trace", "old", "--since", "4h"]).await;
    assert!(short.status == 1 && short.stderr.contains("not in 2 records"), "{short:?}");
    assert_eq!(only(setup, &["old", "--since", "1d"]).await["offset"], 0);
}

/// Scenario: a topic with what others have written, by transactions whose marks take offsets, and records with other headers.
/// Guarantees: the search comes to its end all the same, sees what is not committed, and shows which fragment a record is.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_beside_it_does_not_stop_the_search() {
    let kafka = Kafka::start().await;
    kafka.create_topic("events", 1, &[]).await;
    let brokers = kafka.brokers();
    let write = move || {
        let mut config = ClientConfig::new();
        let producer: BaseProducer =
            config.set("bootstrap.servers", &brokers).set("transactional.id", "other").create().expect("a producer");
        producer.init_transactions(DEADLINE).expect("a coordinator");
        for (id, commit) in [("one", true), ("two", false)] {
            producer.begin_transaction().expect("a transaction");
            let header = |key, value| Header { key, value: Some(value) };
            let headers = OwnedHeaders::new().insert(header("x-id", id)).insert(header("x-sluicegate-fragment", "ab/1/2"));
            producer.send(BaseRecord::<(), str>::to("events").payload("1").headers(headers)).map_err(|(error, _)| error).expect("room");
            producer.send(BaseRecord::<(), str>::to("events").payload("2")).map_err(|(error, _)| error).expect("room");
            producer.flush(DEADLINE).expect("the broker has it");
            let ended = if commit { producer.commit_transaction(DEADLINE) } else { producer.abort_transaction(DEADLINE) };
            ended.expect("the transaction ends");
        }
    };
    tokio::task::spawn_blocking(write).await.expect("it is written");
    let setup = Setup::new().config(ROUTE).broker(&kafka).env("SLUICEGATE__HEADERS__ID", "x-id");
    let found = only(&setup, &["one", "--all-copies"]).await;
    assert_eq!((&found["offset"], &found["fragment"], &found["principal"]), (&json!(0), &json!("ab/1/2"), &Value::Null));
    assert_eq!(only(&setup, &["two"]).await["offset"], 3);
    let nothing = setup.run(&["trace", "three"]).await;
    assert!(nothing.status == 1 && nothing.stderr.contains("`three` was not found in 4 records"), "{nothing:?}");
    assert!(nothing.stderr.contains("there is no inbox in `data`"), "{nothing:?}");
}

/// Scenario: two topics of three partitions with a record for every 30 s of three hours, each with a copy of the same event.
/// Guarantees: every record is read once, from the first to the last, whatever the steps are that the search goes back in.
#[tokio::test(flavor = "multi_thread")]
async fn the_steps_back_read_every_record_once() {
    const RECORDS: i64 = 360;
    let kafka = Kafka::start().await;
    for topic in ["events", "others"] {
        kafka.create_topic(topic, 3, &[]).await;
    }
    let (brokers, now) = (kafka.brokers(), OffsetDateTime::now_utc().unix_timestamp() * 1_000);
    let write = move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a producer");
        for (step, topic) in (1..=RECORDS).rev().flat_map(|step| [(step, "events"), (step, "others")]) {
            let headers = OwnedHeaders::new().insert(Header { key: "x-deml-event-id", value: Some("0123456789ab.same") });
            let record = BaseRecord::<(), str>::to(topic).payload("1").headers(headers).timestamp(now - step * 30_000);
            producer.send(record.partition(i32::try_from(step % 3).expect("a partition"))).map_err(|(error, _)| error).expect("room");
        }
        producer.flush(DEADLINE).expect("the broker has them");
    };
    tokio::task::spawn_blocking(write).await.expect("they are written");
    let setup = Setup::new().config("[[routes]]\ntopic = \"*\"\n").broker(&kafka);
    let nothing = setup.run(&["trace", "other", "--since", "4h"]).await;
    assert!(nothing.status == 1 && nothing.stderr.contains(&format!("in {} records", 2 * RECORDS)), "{nothing:?}");
    let (_, places, _) = trace(&setup, &["same", "--all-copies", "--since", "4h"]).await;
    assert_eq!(places.len(), 2 * usize::try_from(RECORDS).expect("a number"));
    let (_, places, _) = trace(&setup, &["same", "--all-copies", "--since", "4h", "--topic", "others"]).await;
    assert_eq!(places.len(), usize::try_from(RECORDS).expect("a number"));
    assert!(only(&setup, &["same"]).await["offset"].as_i64() >= Some(RECORDS / 3 - 3), "the newest are looked at first");
}

/// Scenario: an event with a name of its sender's is refused for good, then mended and sent again; another one was never named.
/// Guarantees: the refusal is found by the name, with its code and place, beside the place where the event is now; no payload stands in the journal.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_is_found_with_the_reason() {
    let config = "[[routes]]\ntopic = \"events\"\nmax_event_bytes = \"1 KiB\"\n";
    let gate = Setup::new().config(config).start().await;
    let (setup, token) = (&gate.setup, gate.token(&["--sub", "me"]).await);
    let large = format!("{{\"id\":\"order-17\",\"data\":\"secret-{}\"}}", "x".repeat(2_000));
    assert_eq!(gate.post("/v1/events/events", &token, large.clone()).await.status, 413);
    assert_eq!(gate.post("/v1/events/events", &token, large.replace("\"id\":\"order-17\",", "")).await.status, 413);
    let refusal = eventually("the refusal is in the journal", DEADLINE, || async {
        let (_, places, _) = trace(setup, &["order-17"]).await;
        places.into_iter().next()
    });
    let refusal = refusal.await;
    assert_eq!((&refusal["where"], &refusal["code"], &refusal["topic"]), (&json!("refused"), &json!("too_large"), &json!("events")));
    send(&gate, &token, "{\"id\":\"order-17\",\"data\":1}").await;
    let (status, places, _) = trace(setup, &["order-17"]).await;
    let places: Vec<_> = places.iter().map(|place| place["where"].as_str().expect("a place")).collect();
    assert_eq!((status, places), (0, vec!["inbox", "refused"]));
    let journal = std::fs::read_to_string(setup.path("data/outcomes.jsonl")).expect("a journal");
    assert_eq!((journal.lines().count(), journal.contains("secret")), (1, false));
}
