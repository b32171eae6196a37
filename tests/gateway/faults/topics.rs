//! Faults of the topics: deleted, not ours to write to any more, or narrower than they were, while events of them are in the inbox.
//!
//! What always holds: what was acknowledged is kept whatever becomes of its topic, in the inbox or aside, and shown; what comes
//! later is refused at the door; when a person has mended the topic, everything is delivered.

use crate::support::gate::Gate;
use crate::support::kafka::{Kafka, Options};
use crate::support::security::{PASSWORD, USER};
use crate::support::{DEADLINE, eventually};

use super::ledger::Ledger;
use super::load::{Load, outcome, seed};
use super::log::Attempt;
use super::{REPLAYED, Stage, attempt, create_topics, seen, status, token};
use crate::support::stopwatch::Stopwatch;

const ALARM: &str = "acknowledged events wait in the inbox for a topic";

/// Sends one event of about `size` bytes without a key, and gives the status of its answer.
async fn post(gate: &Gate, token: &str, ledger: &Ledger, topic: &str, name: &str, size: usize) -> u16 {
    let value = format!(r#"{{"name":"{name}","pad":"{}"}}"#, "x".repeat(size));
    let name = ledger.attempt(value.as_bytes(), Attempt { key: Some("k".to_owned()), ..attempt(topic) });
    let watch = Stopwatch::start();
    let answer = gate.post(&format!("/v1/events/{topic}"), token, format!(r#"{{"key":"k","data":{value}}}"#)).await;
    let body = answer.json();
    ledger.outcome(&name, outcome(body["results"].get(0).unwrap_or(&body)), watch.read());
    answer.status
}

/// Events of every topic are in the inbox of a gate that is dead, and the broker, which has none of them, is there again.
async fn in_the_inbox(stage: &mut Stage, test: &str) -> String {
    let mut gate = stage.setup.start().await;
    let token = token(&gate).await;
    stage.kill_broker();
    let mut load = Load::new(&stage.ledger, &token, 8, 20, seed(test));
    let mut running = load.start(&gate, Some(600));
    let tally = load.join(&mut running).await;
    assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
    gate.kill_9();
    stage.restart_broker().await;
    token
}

/// Rows of a topic that nothing can be written to: shown, said once, and in the metrics; all others are delivered.
async fn is_alarmed(gate: &Gate) -> u64 {
    let all_but_those = async || {
        let inbox = status(gate).await["inbox"].clone();
        (inbox["rows"] == inbox["stranded"] && inbox["rows"] != 0).then_some(inbox["rows"].as_u64().expect("a number"))
    };
    let rows = eventually("all rows but the topic's are delivered", REPLAYED, all_but_those).await;
    // Time enough to say it again and again.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let alarms: Vec<_> = gate.lines().into_iter().filter(|line| line.contains(ALARM)).collect();
    assert_eq!(alarms.len(), 1, "one loud line: {alarms:?}");
    assert!(alarms[0].contains("ERROR") && alarms[0].contains("alpha"), "{alarms:?}");
    let metrics = gate.admin_get("/metrics").await.text();
    assert!(metrics.contains(&format!("sluicegate_inbox_stranded {rows}.0")), "{metrics}");
    assert_eq!(status(gate).await["inbox"]["poison"], 0, "nothing is set aside");
    rows
}

/// Scenario: events of three topics are in the inbox; one topic is deleted; the gate replays, restarts, and senders go on;
/// then the topic is made again.
/// Guarantees: what comes for the topic is refused for good; what was acknowledged stays, shown and alarmed, and holds
/// nobody else up; it is delivered when the topic is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_keeps_what_was_acknowledged_in_the_inbox_and_says_so() {
    let mut stage = Stage::new().await;
    let token = in_the_inbox(&mut stage, "topic deleted").await;
    stage.kafka.delete_topic("alpha").await;
    let gate = stage.setup.start().await;
    let rows = is_alarmed(&gate).await;
    let refused = async || (post(&gate, &token, &stage.ledger, "alpha", "late", 10).await == 403).then_some(());
    eventually("an event for a topic that is gone is refused", DEADLINE, refused).await;
    assert_eq!(post(&gate, &token, &stage.ledger, "beta", "well", 10).await, 200);
    let verdict = stage.verdict().await;
    verdict.assert_clean();
    assert_eq!(verdict.rows as u64, rows, "{verdict}");
    stage.kafka.create_topic("alpha", 3, &[]).await;
    stage.replayed(&gate).await;
    assert_eq!(status(&gate).await["inbox"]["stranded"], 0);
    let verdict = stage.verdict().await;
    seen("F8", &format!("topic deleted: {rows} rows kept, one line, refused at the door; made again: {verdict}"));
    verdict.assert_clean();
    assert_eq!(verdict.rows, 0, "{verdict}");
}

/// The same where the topic is there and listed, and the broker refuses our writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_we_may_not_write_to_any_more_keeps_what_was_acknowledged_and_says_so() {
    let properties = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:ANONYMOUS"),
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let properties = properties.map(|(key, value)| (key, value.to_owned())).to_vec();
    let kafka = Kafka::start_with(Options { secure: true, properties, ..Options::default() }).await;
    create_topics(&kafka).await;
    let mut stage = Stage::with(kafka);
    let setup = stage.setup.clone().env("REDPANDA_BROKERS", &stage.kafka.sasl_brokers()).env("REDPANDA_SASL_USERNAME", USER);
    let setup = setup.env("REDPANDA_SECURITY_PROTOCOL", "SASL_PLAINTEXT").env("REDPANDA_SASL_MECHANISM", "SCRAM-SHA-256");
    stage.setup = setup.env("REDPANDA_SASL_PASSWORD", PASSWORD);
    let token = in_the_inbox(&mut stage, "no right to write").await;
    stage.kafka.deny_writing("alpha").await;
    let gate = stage.setup.start().await;
    let rows = is_alarmed(&gate).await;
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", "late", 10).await, 503, "nothing is added to what waits for a person");
    assert_eq!(post(&gate, &token, &stage.ledger, "beta", "well", 10).await, 200);
    let verdict = stage.verdict().await;
    verdict.assert_clean();
    stage.kafka.allow_writing("alpha").await;
    stage.replayed(&gate).await;
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", "again", 10).await, 200);
    let verdict = stage.verdict().await;
    seen("F8", &format!("not ours to write to: {rows} rows kept, one line; allowed again: {verdict}"));
    verdict.assert_clean();
    assert_eq!(verdict.rows, 0, "{verdict}");
}

/// Scenario: large and small events of one partition are in the inbox when the topic's limit is lowered below the large ones.
/// Guarantees: the small ones are delivered, the large ones are set aside: kept and counted; what is too large now is refused
/// at the door; with the old limit a person sends on what was aside.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_before_a_limit_was_lowered_is_set_aside_and_kept() {
    const LARGE: usize = 100_000;
    let mut stage = Stage::new().await;
    // What is compressed well is as small as the topic wants it.
    stage.setup = stage.setup.env("SLUICEGATE__SINK__COMPRESSION", "none");
    let mut gate = stage.setup.start().await;
    let token = token(&gate).await;
    stage.kill_broker();
    for number in 0..20 {
        let size = if number % 7 == 3 { LARGE } else { 100 };
        assert_eq!(post(&gate, &token, &stage.ledger, "alpha", &number.to_string(), size).await, 202);
    }
    gate.kill_9();
    stage.restart_broker().await;
    stage.kafka.alter_topic("alpha", &[("max.message.bytes", "20000")]).await;
    let mut gate = stage.setup.start().await;
    let aside = async || {
        let inbox = status(&gate).await["inbox"].clone();
        (inbox["rows"] == 0 && inbox["poison"] == 3).then_some(())
    };
    eventually("three rows are aside and the others delivered", REPLAYED, aside).await;
    let metrics = gate.admin_get("/metrics").await.text();
    assert!(metrics.contains("sluicegate_inbox_poison 3.0") && metrics.contains("sluicegate_inbox_poisoned_total 3"), "{metrics}");
    let too_large = async || (post(&gate, &token, &stage.ledger, "alpha", "large", LARGE).await == 413).then_some(());
    eventually("an event that is too large now is refused", DEADLINE, too_large).await;
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", "small", 100).await, 200);
    let verdict = stage.verdict().await;
    seen("F9", &format!("lowered below 3 of 20: {verdict}"));
    verdict.assert_clean();
    assert_eq!((verdict.rows, verdict.acked), (3, verdict.records + 3), "{verdict}");

    stage.kafka.alter_topic("alpha", &[]).await;
    gate.sigterm();
    gate.wait(DEADLINE).await;
    let replayed = stage.setup.run(&["inbox", "replay"]).await;
    assert_eq!(replayed.status, 0, "{}{}", replayed.stdout, replayed.stderr);
    let verdict = stage.verdict().await;
    verdict.assert_clean();
    assert_eq!((verdict.rows, verdict.duplicates), (0, 0), "{verdict}");
}
