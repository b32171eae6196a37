//! `POST /v1/admin/replay`: the inbox is sent on for who administers, and for nobody else.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::support::client::Answer;
use super::support::gate::{Gate, Setup};
use super::support::kafka::Kafka;
use super::support::{DEADLINE, eventually};

const PATH: &str = "/v1/admin/replay";
const PASSWORD: &str = "canary-password of ada";

async fn keep(gate: &Gate, events: usize) {
    let token = gate.token(&["--sub", "sender"]).await;
    for event in 0..events {
        let answer = gate.post("/v1/events/events", &token, format!("{{\"data\":{event}}}")).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

async fn basic(gate: &Gate, name: &str) -> Answer {
    let credentials = format!("Basic {}", STANDARD.encode(format!("{name}:{PASSWORD}")));
    gate.post_with(PATH, &[("authorization", &credentials)], "").await
}

/// Scenario: tokens and users with every topic, and with the right to administer, ask for a replay without a broker.
/// Guarantees: without credentials 401; topics, `*` included, never give the right: 403, whatever the body; who has it reads what
/// is left and why, cannot send by it, and says it in 1 KiB at most.
#[tokio::test(flavor = "multi_thread")]
async fn who_administers_may_and_no_topics_make_an_administrator() {
    let gate = Setup::new().start().await;
    keep(&gate, 2).await;
    let stranger = gate.post_with(PATH, &[], "").await;
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some("Bearer")));
    for topics in ["*", "admin", "admin,*"] {
        let token = gate.token(&["--sub", "me", "--topics", topics]).await;
        let denied = gate.post(PATH, &token, "").await;
        assert_eq!((denied.status, denied.json()["code"].as_str()), (403, Some("denied")), "{topics}");
        assert_eq!(denied.header("content-type"), Some("application/problem+json"));
    }
    for body in ["[]".to_owned(), " ".repeat(2_000)] {
        let token = gate.token(&["--sub", "me", "--topics", "*"]).await;
        assert_eq!(gate.post(PATH, &token, body).await.status, 403, "the right is asked for before the body is read");
    }
    let admin = gate.token(&["--sub", "scheduler", "--admin"]).await;
    let large = gate.post(PATH, &admin, format!("{:1025}", "{\"seconds\":1}")).await;
    assert_eq!((large.status, large.json()["code"].as_str()), (413, Some("too_large")), "{}", large.text());
    let told = large.json()["detail"].as_str().expect("a text").to_owned();
    assert!(told.contains("1025") && told.contains("1024") && told.contains("body"), "{told}");
    assert_eq!(gate.post(PATH, &admin, format!("{:1024}", "{\"seconds\":1}")).await.status, 200);
    let answer = gate.post(PATH, &admin, "{\"seconds\":1}").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), json!({ "replayed": 0, "left": 2, "complete": false, "waiting_for": "broker" }));
    for (body, status) in [("{\"seconds\":0}", 422), ("{\"seconds\":301}", 422), ("{\"second\":1}", 400), ("[]", 400)] {
        assert_eq!(gate.post(PATH, &admin, body).await.status, status, "{body}");
    }
    assert_eq!(gate.post("/v1/events/events", &admin, "{\"data\":1}").await.status, 403, "it sends nothing by it");
    let both = gate.token(&["--sub", "operator", "--admin", "--topics", "events"]).await;
    assert_eq!(gate.post("/v1/events/events", &both, "{\"data\":1}").await.status, 202);
    assert_eq!(gate.post(PATH, &both, "{\"seconds\":1}").await.json()["left"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_administers_where_the_file_says_so() {
    let setup = Setup::new();
    let file = setup.path("users.toml").display().to_string();
    let setup = setup.env("SLUICEGATE__AUTH__USERS_FILE", &file);
    let secret = setup.path("secret.txt");
    std::fs::write(&secret, PASSWORD).expect("a file in a folder of ours");
    let secret = secret.display().to_string();
    for user in [&["ada", "--topics", "*"][..], &["root", "--admin"]] {
        let ran = setup.run(&[&["user", "add"], user, &["--password-file", &secret]].concat()).await;
        assert_eq!(ran.status, 0, "{}", ran.stderr);
    }
    let gate = setup.start().await;
    assert_eq!(basic(&gate, "ada").await.status, 403);
    let answer = basic(&gate, "root").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "replayed": 0, "left": 0, "complete": true })));
    let added = setup.run(&["user", "add", "ada", "--replace", "--admin", "--password-file", &secret]).await;
    assert_eq!(added.status, 0, "{}", added.stderr);
    eventually("the new right is taken up", DEADLINE, async || (basic(&gate, "ada").await.status == 200).then_some(())).await;
}

/// Scenario: a replay of five minutes waits for the broker when a second one is asked for, and then the gate is told to stop.
/// Guarantees: the second is answered 409 with `Retry-After` at once; the first is answered in the drain, which is in time.
#[tokio::test(flavor = "multi_thread")]
async fn one_replay_runs_at_a_time_and_the_drain_answers_it() {
    let mut gate = Setup::new().start().await;
    keep(&gate, 1).await;
    let admin = gate.token(&["--sub", "scheduler", "--admin"]).await;
    let headers = [("authorization", format!("Bearer {admin}")), ("content-type", "application/json".to_owned())];
    let (client, url) = (gate.client.clone(), gate.url(PATH));
    let first = tokio::spawn(async move {
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        client.send(http::Method::POST, &url, &headers, "{\"seconds\":300}").await
    });
    let begun = |line: &String| line.contains("a replay is asked for");
    eventually("the first has begun", DEADLINE, async || gate.lines().iter().any(begun).then_some(())).await;
    let refused = gate.post(PATH, &admin, "{\"seconds\":1}").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!((refused.json()["code"].as_str(), refused.header("retry-after")), (Some("replay_runs"), Some("20")));
    gate.sigterm();
    let answer = first.await.expect("no panic").expect("an answer");
    assert_eq!((answer.status, &answer.json()["left"]), (200, &1.into()), "{}", answer.text());
    assert!(gate.wait(DEADLINE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_asked_for_ends_when_the_inbox_is_empty() {
    let mut kafka = Kafka::start().await;
    kafka.create_topic("events", 3, &[]).await;
    let gate = Setup::new().shipped().broker(&kafka).start().await;
    kafka.kill_9();
    keep(&gate, 5).await;
    let admin = gate.token(&["--sub", "scheduler", "--admin"]).await;
    let (answer, ()) =
        tokio::join!(gate.post(PATH, &admin, format!("{{\"seconds\":{}}}", Duration::from_secs(300).as_secs())), kafka.restart());
    assert_eq!((&answer.json()["left"], &answer.json()["complete"]), (&0.into(), &true.into()), "{}", answer.text());
    let mut kept: Vec<_> = kafka.consume_all("events").await.iter().map(|record| record.value.clone()).collect();
    kept.sort();
    kept.dedup();
    assert_eq!(kept.len(), 5);
}
