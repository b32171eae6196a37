//! A gate that starts while the broker is away, with nothing that it remembers of its topics: with Firestore it keeps no catalog.

use crate::support::{DEADLINE, eventually};

use super::stage::{Stage, store};

/// Scenario: a gate that has never seen its broker, before one topic that a route names and a family of them by a prefix.
/// Guarantees: what the table names is taken; of the family nobody can say which topics there are, so an event is neither
/// taken nor refused for good: 503, try again; what no route knows is denied as ever. When the broker is there, each is told
/// apart: the one that there is goes to it, the one that there is not is denied.
#[tokio::test(flavor = "multi_thread")]
async fn a_cold_gate_takes_what_the_table_names_and_does_not_deny_what_it_cannot_know() {
    let routes = "[[routes]]\ntopic = \"named\"\n[[routes]]\ntopic = \"family-*\"\n";
    let Some(mut stage) = Stage::new(&[("named", 1), ("family-real", 1)], routes).await else { return };
    stage.kafka.kill_9();
    let gate = stage.setup.start().await;
    let token = gate.token(&["--sub", "me", "--topics", "*"]).await;
    let post = async |topic: &str| gate.post(&format!("/v1/events/{topic}"), &token, "{\"data\":1}").await;
    store(&gate, &token, "named", "{\"data\":1}").await;
    for topic in ["family-real", "family-unreal"] {
        let unsure = post(topic).await;
        assert_eq!((unsure.status, unsure.json()["code"].as_str()), (503, Some("unavailable")), "{topic}: {}", unsure.text());
        assert!(unsure.header("retry-after").is_some(), "{topic}: {unsure:?}");
    }
    assert_eq!(post("nobodys").await.status, 403);
    stage.has_rows(1).await;

    stage.kafka.restart().await;
    eventually("the topic that there is takes events", DEADLINE, async || (post("family-real").await.status == 200).then_some(())).await;
    assert_eq!(post("family-unreal").await.status, 403);
    stage.replayed(&gate).await;
}
