//! What operators do with a Firestore inbox: look into it, set right what was set aside, and ask for the replay.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gate::{Gate, Setup};
use crate::support::platform_reader::COMMANDS;

use super::stage::{LEASES, REPLAYED, Stage, send, status, store};

/// The lines that a command has printed, as JSON.
async fn objects(setup: &Setup, args: &[&str]) -> Vec<Value> {
    let ran = setup.run(args).await;
    assert_eq!(ran.status, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{args:?}: {line}: {error}"))).collect()
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().expect("a name")).collect()
}

/// Scenario: rows of two topics in an outage, beside a command.
/// Guarantees: `list` names the gate's own, oldest first, and never a command; `show` and `trace` find one by its name, by
/// its id and by its sender's key; `purge` takes those away that it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_is_listed_shown_traced_and_purged_by_commands() {
    let Some(mut stage) = Stage::routed(&[("events", 1), ("others", 1)]).await else { return };
    stage.kafka.kill_9();
    let mut gate = stage.setup.start().await;
    let setup = gate.setup.clone();
    let empty = setup.run(&["inbox", "list"]).await;
    assert_eq!((empty.status, empty.stdout.as_str()), (0, "the inbox is empty\n"), "{}", empty.stderr);
    let token = gate.token(&["--sub", "me"]).await;
    let mut stored = Vec::new();
    for (topic, body) in [
        ("events", "{\"key\":\"k\",\"data\":{\"secret\":0}}"),
        ("others", "{\"id\":\"order-17\",\"data\":1}"),
        ("events", "{\"key\":\"k\",\"data\":2}"),
    ] {
        stored.push(store(&gate, &token, topic, body).await);
    }
    let documents: Vec<_> = stored.iter().map(|result| result["document"].as_str().expect("a document")).collect();
    let listed = objects(&setup, &["inbox", "list", "--json"]).await;
    assert_eq!(names(&listed), documents, "oldest first");
    assert!(listed.iter().all(|row| row["state"] == "ready" || row["state"] == "held"), "{listed:?}");
    assert!(listed.iter().all(|row| row.get("bytes").is_none()), "a list reads no values: {listed:?}");
    assert_eq!(
        listed.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(),
        stored.iter().map(|row| row["id"].clone()).collect::<Vec<_>>()
    );
    assert!(listed.iter().all(|row| row["at_ms"].as_i64().is_some_and(|at| at > 0)), "{listed:?}");
    assert_eq!(names(&objects(&setup, &["inbox", "list", "--json", "--topic", "others"]).await), [documents[1]]);
    assert_eq!(objects(&setup, &["inbox", "list", "--json", "--limit", "2"]).await.len(), 2);
    let table = setup.run(&["inbox", "list"]).await.stdout;
    assert!(table.starts_with("NAME") && table.lines().count() == 4 && !table.contains("secret"), "{table}");

    let shown: Value = serde_json::from_str(&setup.run(&["inbox", "show", documents[0]]).await.stdout).expect("JSON");
    assert_eq!((&shown["value"], &shown["key"], &shown["principal"]), (&json!("{\"secret\":0}"), &json!("k"), &json!("dev:me")));
    assert!(shown["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{shown}");
    let unknown = setup.run(&["inbox", "show", "00"]).await;
    assert!(unknown.status == 1 && unknown.stderr.contains("inbox list"), "{}", unknown.stderr);
    for wanted in [documents[1], stored[1]["id"].as_str().expect("an id"), "order-17"] {
        let found = objects_of_trace(&setup, wanted).await;
        assert_eq!((found.len(), &found[0]["where"], &found[0]["name"]), (1, &json!("inbox"), &stored[1]["document"]), "{wanted}");
    }

    let purged = setup.run(&["inbox", "purge", "--yes", "--topic", "others", "--json"]).await;
    assert_eq!((purged.status, purged.stdout.as_str()), (0, "{\"purged\":1}\n"), "{}", purged.stderr);
    assert_eq!(stage.rows().await.len(), 2);
    gate.sigterm();
    assert_eq!(gate.wait(crate::support::DEADLINE).await.code(), Some(0));
    let alone = setup.run(&["inbox", "purge", "--yes", "--json"]).await;
    assert_eq!((alone.status, alone.stdout.as_str()), (0, "{\"purged\":2}\n"), "{}", alone.stderr);
    assert_eq!((stage.rows().await.len(), stage.firestore.documents(LEASES).await.len()), (0, 0));
}

/// Without a broker the search ends with 3, and says what it has found all the same.
async fn objects_of_trace(setup: &Setup, wanted: &str) -> Vec<Value> {
    let ran = setup.run(&["trace", "--json", wanted]).await;
    assert!(matches!(ran.status, 0 | 3), "{wanted}: {}{}", ran.stdout, ran.stderr);
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Scenario: an event was stored before its topic was there, and the topic does not take it; another behind it is fine.
/// Guarantees: it is set aside after so many attempts, with the reason, kept and counted, and what is behind it goes on;
/// it is listed, shown and traced as such; sent again by hand when the topic takes it, it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refuses_for_good_is_set_aside_and_can_be_sent_again() {
    let Some(mut stage) = Stage::routed(&[]).await else { return };
    let routes = format!("{}[[routes]]\ntopic = \"events\"\n", super::stage::NO_QUOTA);
    stage.setup =
        stage.setup.clone().config(&routes).env("SLUICEGATE__INBOX__MAX_ATTEMPTS", "2").env("SLUICEGATE__SINK__CATALOG_REFRESH", "1s");
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let bad = store(&gate, &token, "events", "{\"data\":\"without a key\"}").await;
    let good = store(&gate, &token, "events", "{\"key\":\"k\",\"data\":\"with one\"}").await;
    stage.kafka.restart().await;
    stage.kafka.create_topic("events", 1, &[("cleanup.policy", "compact")]).await;
    let aside = async || (status(&gate).await["inbox"]["poison"] == 1 && status(&gate).await["inbox"]["rows"] == 0).then_some(());
    eventually("one is set aside and the other is gone", REPLAYED, aside).await;
    let rows = stage.has_rows(1).await;
    let row = &rows[0];
    assert_eq!((json!(row.name), row.reason.as_deref()), (bad["document"].clone(), Some("invalid_record")));
    assert!(row.order.starts_with("!/events/") && row.attempts >= 2, "{row:?}");
    assert_eq!(
        stage.kafka.consume_all("events").await.iter().map(|record| json!(record.event_id())).collect::<Vec<_>>(),
        [good["id"].clone()]
    );

    let setup = &gate.setup;
    let listed = objects(setup, &["inbox", "list", "--json", "--poison"]).await;
    assert_eq!((listed.len(), &listed[0]["state"], &listed[0]["reason"]), (1, &json!("poison"), &json!("invalid_record")));
    let found = objects_of_trace(setup, bad["id"].as_str().expect("an id")).await;
    assert_eq!((&found[0]["where"], &found[0]["reason"]), (&json!("set_aside"), &json!("invalid_record")));
    let shown: Value = serde_json::from_str(&setup.run(&["inbox", "show", &row.name]).await.stdout).expect("JSON");
    assert_eq!((&shown["value"], &shown["state"]), (&json!("\"without a key\""), &json!("poison")));
    // It does not stand in the way of those that come.
    assert_eq!(send(&gate, &token, "events", "{\"key\":\"k\",\"data\":3}").await["tier"], "broker");

    stage.kafka.alter_topic("events", &[("cleanup.policy", "delete")]).await;
    let replayed = setup.run(&["inbox", "replay"]).await;
    assert_eq!(replayed.status, 0, "{}{}", replayed.stdout, replayed.stderr);
    stage.has_rows(0).await;
    let there = stage.kafka.consume_all("events").await;
    assert!(there.iter().any(|record| record.event_id() == bad["id"]), "it has arrived");
    let none = async || (status(&gate).await["inbox"]["poison"] == 0).then_some(());
    eventually("the gate knows that nothing is aside", REPLAYED, none).await;
}

/// A token for operators.
async fn admin_token(gate: &Gate) -> String {
    gate.token(&["--sub", "operator", "--admin"]).await
}

/// Scenario: the replay is asked for and not done in the background, as where no processor is there between requests; rows
/// wait, the broker is back.
/// Guarantees: nothing is replayed before it is asked for; who has no token gets 401, who has no grant 403, and neither moves
/// anything; the answer says how many were replayed and how many are left; then events go by the broker.
#[tokio::test(flavor = "multi_thread")]
async fn the_replay_can_be_asked_for_and_is_then_not_done_before() {
    let Some(mut stage) = Stage::routed(&[("events", 2), ("calm", 1)]).await else { return };
    stage.setup = stage.setup.clone().env("SLUICEGATE__INBOX__FIRESTORE__REPLAY", "request");
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    for n in 0..30 {
        store(&gate, &token, "events", &format!("{{\"key\":\"k{}\",\"data\":{n}}}", n % 3)).await;
    }
    stage.kafka.restart().await;
    // So many events later, which is time enough for a replay that was not asked for. (A partition that is owed something
    // takes the inbox until the replay is asked for, this one too.)
    let mut calm = 0;
    for n in 0..200 {
        calm += usize::from(send(&gate, &token, "calm", &format!("{{\"data\":{n}}}")).await["tier"] == "inbox");
    }
    assert_eq!(
        stage.has_rows(30 + calm).await.iter().filter(|row| row.topic == "events").count(),
        30,
        "nothing is replayed before it is asked for"
    );
    assert_eq!(stage.kafka.consume_all("events").await.len(), 0);
    store(&gate, &token, "events", "{\"key\":\"k0\",\"data\":30}").await;

    let ask = async |headers: &[(&str, &str)], body: &str| {
        let json = [("content-type", "application/json")];
        gate.post_with("/v1/admin/replay", &[&json, headers].concat(), body.to_owned()).await
    };
    assert_eq!(ask(&[], "").await.status, 401);
    let plain = format!("Bearer {token}");
    assert_eq!(ask(&[("authorization", &plain)], "{\"seconds\":20}").await.status, 403);
    assert_eq!(stage.rows().await.len(), 31 + calm);
    let admin = format!("Bearer {}", admin_token(&gate).await);
    assert_eq!(ask(&[("authorization", &admin)], "{\"seconds\":\"many\"}").await.status, 400);
    let answer = ask(&[("authorization", &admin)], "{\"seconds\":20}").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"replayed": 31 + calm, "left": 0, "complete": true})), "{}", answer.text());
    assert_eq!(stage.rows().await.len(), 0);
    let again = ask(&[("authorization", &admin)], "").await;
    assert_eq!((again.status, again.json()), (200, json!({"replayed": 0, "left": 0, "complete": true})));
    assert_eq!(send(&gate, &token, "events", "{\"key\":\"k0\",\"data\":31}").await["tier"], "broker");
    let records = stage.kafka.consume_all("events").await;
    for key in 0..3 {
        let mine = records.iter().filter(|record| record.key.as_deref() == Some(format!("k{key}").as_bytes()));
        let numbers: Vec<_> = mine.map(|record| record.json().as_u64().expect("a number")).collect();
        assert!(numbers.is_sorted() && numbers.len() >= 10, "k{key}: {numbers:?}");
    }
    // A broker that has just come back, on a busy machine, may answer too late for a probe, which is then sent again.
    let ids: HashSet<_> = records.iter().map(|record| record.event_id()).collect();
    assert!(ids.len() == 32 && records.len() <= 34, "{} of {} are there, {} copies", ids.len(), 32, records.len() - ids.len());
}

/// Scenario: commands wait for the platform's reader, and the gate's own rows for the replay.
/// Guarantees: `list`, `replay` and `purge` leave the commands alone.
#[tokio::test(flavor = "multi_thread")]
async fn operators_never_touch_the_commands() {
    let config = "[[routes]]\ntopic = \"events\"\n[[routes]]\ntopic = \"frontend-events\"\nshape = \"command\"\n";
    let Some(mut stage) = Stage::new(&[("events", 1), ("frontend-events", 1)], config).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let command = gate.post("/v1/events/frontend-events", &token, "{\"data\":{\"action\":\"x\"}}").await;
    assert_eq!(command.status, 202, "{}", command.text());
    store(&gate, &token, "events", "{\"data\":1}").await;
    assert_eq!(objects(&gate.setup, &["inbox", "list", "--json"]).await.len(), 1);
    let purged = gate.setup.run(&["inbox", "purge", "--yes", "--json"]).await;
    assert_eq!((purged.status, purged.stdout.as_str()), (0, "{\"purged\":1}\n"), "{}", purged.stderr);
    assert_eq!((stage.rows().await.len(), stage.firestore.documents(COMMANDS).await.len()), (0, 1));
    let mut reader = stage.reader();
    reader.drain().await;
    assert_eq!((reader.commands.len(), reader.dead.len()), (1, 0), "{:?}", reader.dead);
}
