//! The commands that look into the two tiers: `topics` and `inbox`, with a real broker, alone and beside a running gate.

use serde_json::{Value, json};

use super::support::gate::{Gate, Setup};
use super::support::kafka::Kafka;
use super::support::{DEADLINE, eventually};

/// The lines that a command has printed, as JSON.
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

async fn store(gate: &Gate, count: usize) -> Vec<String> {
    let token = gate.token(&["--sub", "me"]).await;
    let mut names = Vec::new();
    for n in 0..count {
        let answer = gate.post("/v1/events/events", &token, format!("{{\"key\":\"k\",\"data\":{n}}}")).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        names.push(answer.json()["results"][0]["document"].as_str().expect("a document").to_owned());
    }
    names
}

async fn stop(gate: &mut Gate) {
    gate.sigterm();
    assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_is_listed_shown_and_purged_by_commands() {
    let mut gate = Setup::new().start().await;
    let setup = gate.setup.clone();
    let empty = setup.run(&["inbox", "list"]).await;
    assert_eq!((empty.status, empty.stdout.as_str()), (0, "the inbox is empty\n"));
    let names = store(&gate, 3).await;

    let beside = objects(&setup.run(&["inbox", "list", "--json"]).await.stdout);
    assert_eq!(beside.iter().map(|row| row["name"].as_str().expect("a name")).collect::<Vec<_>>(), names, "oldest first");
    assert!(beside.iter().all(|row| row["topic"] == "events" && row["state"] == "ready"), "{beside:?}");
    let table = setup.run(&["inbox", "list"]).await.stdout;
    assert!(table.starts_with("NAME") && table.lines().count() == 4 && table.contains(&names[0]), "{table}");
    assert_eq!(objects(&setup.run(&["inbox", "list", "--json", "--limit", "1"]).await.stdout).len(), 1);
    assert!(setup.run(&["inbox", "list", "--json", "--topic", "other"]).await.stdout.is_empty());

    let shown: Value = serde_json::from_str(&setup.run(&["inbox", "show", &names[1]]).await.stdout).expect("JSON");
    assert_eq!((&shown["value"], &shown["key"], &shown["principal"]), (&json!("1"), &json!("k"), &json!("dev:me")));
    let unknown = setup.run(&["inbox", "show", "00"]).await;
    assert!(unknown.status == 1 && unknown.stderr.contains("inbox list"), "{}", unknown.stderr);

    let unsure = setup.run(&["inbox", "purge"]).await;
    assert!(unsure.status == 64 && unsure.stderr.contains("--yes"), "{}", unsure.stderr);
    stop(&mut gate).await;
    let none = setup.run(&["inbox", "purge", "--yes", "--topic", "other", "--json"]).await;
    assert_eq!((none.status, none.stdout.as_str()), (0, "{\"purged\":0}\n"), "{}", none.stderr);
    let alone = setup.run(&["inbox", "purge", "--yes", "--json"]).await;
    assert_eq!((alone.status, alone.stdout.as_str()), (0, "{\"purged\":3}\n"), "{}", alone.stderr);
    assert!(setup.run(&["inbox", "list", "--json"]).await.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_purged_through_a_running_gate() {
    let setup = admin_at_a_known_port(Setup::new());
    let gate = setup.start().await;
    store(&gate, 2).await;
    let purged = setup.run(&["inbox", "purge", "--yes", "--json"]).await;
    assert_eq!((purged.status, purged.stdout.as_str()), (0, "{\"purged\":2}\n"), "{}", purged.stderr);
    assert_eq!(gate.admin_get("/status").await.json()["inbox"]["rows"], 0);
    store(&gate, 1).await;
    assert_eq!(gate.admin_get("/status").await.json()["inbox"]["rows"], 1);
}

/// The commands find the gate beside them by its configured address, which must therefore be one.
fn admin_at_a_known_port(setup: Setup) -> Setup {
    setup.env("SLUICEGATE__ADMIN__BIND", &format!("127.0.0.1:{}", super::support::free_port()))
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_and_the_missing_ones_made_only_on_request() {
    let kafka = Kafka::start().await;
    let setup = Setup::new().config("[[routes]]\ntopic = \"a\"\npartitions = 2\n[[routes]]\ntopic = \"b-*\"\n[[routes]]\ntopic = \"c\"\n");
    let nowhere = setup.run(&["topics"]).await;
    assert!(nowhere.status == 1 && nowhere.stderr.contains("REDPANDA_BROKERS"), "{}", nowhere.stderr);
    let setup = setup.broker(&kafka);
    kafka.create_topic("c", 1, &[]).await;
    let states = |text: &str| objects(text).iter().map(|topic| topic["state"].as_str().expect("a state").to_owned()).collect::<Vec<_>>();
    assert_eq!(states(&setup.run(&["topics", "--json"]).await.stdout), ["missing", "missing", "there"]);
    assert_eq!(kafka.topics().await, ["c"], "looking makes nothing");
    let made = setup.run(&["topics", "--create", "--json"]).await;
    assert_eq!((made.status, states(&made.stdout)), (0, ["created", "missing", "there"].map(str::to_owned).to_vec()), "{}", made.stderr);
    assert_eq!(kafka.topics().await, ["a", "c"]);
    let seen = eventually("the broker shows it", DEADLINE, async || {
        let seen = objects(&setup.run(&["topics", "--json"]).await.stdout);
        (seen[0]["state"] == "there").then_some(seen)
    })
    .await;
    assert_eq!((&seen[0]["topic"], &seen[0]["partitions"]), (&json!("a"), &json!(2)));
    assert!(setup.run(&["topics"]).await.stdout.starts_with("TOPIC"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_is_replayed_to_the_broker_by_a_command_alone_and_beside_a_running_gate() {
    let kafka = Kafka::start().await;
    kafka.create_topic("events", 1, &[]).await;
    let mut gate = Setup::new().start().await;
    store(&gate, 5).await;
    stop(&mut gate).await;
    let nowhere = gate.setup.run(&["inbox", "replay"]).await;
    assert!(nowhere.status == 1 && nowhere.stderr.contains("no broker"), "{}", nowhere.stderr);

    let setup = admin_at_a_known_port(gate.setup.clone().broker(&kafka));
    let alone = setup.run(&["inbox", "replay", "--json"]).await;
    assert_eq!((alone.status, alone.stdout.as_str()), (0, "{\"delivered\":5}\n"), "{}", alone.stderr);
    let values = |records: &[super::support::kafka_read::Record]| {
        records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&kafka.consume_all("events").await), ["0", "1", "2", "3", "4"]);

    let mut idle = setup.clone().without_env("REDPANDA_BROKERS").start().await;
    store(&idle, 2).await;
    stop(&mut idle).await;
    let gate = setup.start().await;
    let beside = setup.run(&["inbox", "replay"]).await;
    assert_eq!(beside.status, 0, "{}", beside.stderr);
    assert!(beside.stdout.contains("rows delivered"), "{}", beside.stdout);
    assert_eq!(gate.admin_get("/status").await.json()["inbox"]["rows"], 0);
    assert_eq!(kafka.consume_all("events").await.len(), 7);
}
