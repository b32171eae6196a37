//! What a person sees of an inbox in Firestore, and what a gate does with what it has stored itself.

use super::*;

/// Scenario: rows that wait, one that is set aside, a command of somebody else's reader.
/// Guarantees: `inbox list` names them, `inbox show` and `trace` find them by name, by id, and by the client's key; a command is found
/// by its own key and is shown as its reader's; nothing is changed by looking.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_listed_shown_and_traced_without_a_gate() {
    let Some(firestore) = Firestore::start().await else { return };
    let mut rows = Rows::of(&firestore);
    rows.store((0..3).map(|n| Row { value: format!("value {n}"), ..Row::default() }).collect()).await;
    rows.store(vec![Row { value: "aside".into(), aside: true, ..Row::default() }]).await;
    let command = vec![("uid", text("u1")), ("idempotency_key", text("command-1")), ("version", text("1.0"))];
    let command = rows.document("frontend_command_inbox", &"ab".repeat(20), command);
    rows.put(vec![command]).await;
    let config = "[[routes]]\ntopic = \"events\"\n[[routes]]\ntopic = \"frontend-events\"\nshape = \"command\"\n";
    let setup = setup(&firestore).config(config);

    let listed = setup.run(&["inbox", "list", "--json"]).await;
    let listed: Vec<Value> = listed.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let states: Vec<_> = listed.iter().map(|row| row["state"].as_str().expect("a state")).collect();
    assert_eq!(states.iter().filter(|state| **state == "ready").count(), 3, "{listed:?}");
    assert_eq!(states.iter().filter(|state| **state == "poison").count(), 1, "{listed:?}");
    let poison = setup.run(&["inbox", "list", "--poison", "--json"]).await;
    assert!(poison.stdout.contains("too_large") && poison.stdout.lines().count() == 1, "{}", poison.stdout);
    assert_eq!(setup.run(&["inbox", "list", "--topic", "orders"]).await.stdout.trim(), "the inbox is empty");
    assert_eq!(setup.run(&["inbox", "list", "--limit", "2", "--json"]).await.stdout.lines().count(), 2);

    let name = listed[0]["name"].as_str().expect("a name").to_owned();
    for wanted in [name.as_str(), listed[0]["id"].as_str().expect("an id")] {
        let shown: Value = serde_json::from_str(&setup.run(&["inbox", "show", wanted]).await.stdout).expect("JSON");
        assert_eq!((shown["name"].as_str(), shown["principal"].as_str()), (Some(name.as_str()), Some("dev:hand")));
        assert!(shown["value"].as_str().is_some_and(|value| value.starts_with("value ")), "{shown}");
        let traced: Value = serde_json::from_str(&setup.run(&["trace", wanted, "--json"]).await.stdout).expect("JSON");
        assert_eq!((traced["where"].as_str(), traced["name"].as_str()), (Some("inbox"), Some(name.as_str())));
    }
    let traced: Value = serde_json::from_str(&setup.run(&["trace", "command-1", "--json"]).await.stdout).expect("JSON");
    assert_eq!((traced["state"].as_str(), traced["topic"].as_str()), (Some("left to its reader"), Some("frontend-events")));
    assert_eq!((setup.run(&["inbox", "show", "nobody"]).await.status, rows.left().await), (1, 4));
}

/// Scenario: a gate without a broker stores events with keys, is killed, and starts again beside a broker.
/// Guarantees: `trace` finds an event by its client's key while it waits; what was acknowledged before the end is in the broker before
/// what comes after the start, key by key.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_a_restart_goes_before_what_comes_after_it() {
    let Some((firestore, mut kafka)) = parts().await else { return };
    let setup = setup(&firestore).shipped().env("SLUICEGATE__SINK__ANSWER_DEADLINE", "30s").broker(&kafka);
    let mut gate = setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    kafka.kill_9();
    for n in 0..20 {
        let body = format!("{{\"key\":\"k\",\"id\":\"before-{n}\",\"data\":{n}}}");
        let answer = gate.post("/v1/events/events", &token, body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let traced = setup.run(&["trace", "before-7", "--json"]).await;
    assert!(traced.stdout.contains("\"where\":\"inbox\""), "{}{}", traced.stdout, traced.stderr);
    gate.kill_9();
    kafka.restart().await;
    let gate = setup.start().await;
    for n in 20..40 {
        let answer = gate.post("/v1/events/events", &token, format!("{{\"key\":\"k\",\"data\":{n}}}")).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    }
    Rows::of(&firestore).are_gone().await;
    let found: Vec<_> = values(&kafka).await.into_iter().flatten().collect();
    let mut first = Vec::new();
    for value in found {
        if !first.contains(&value) {
            first.push(value);
        }
    }
    assert_eq!(first, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    drop(gate);
}
