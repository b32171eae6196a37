//! Topics that come, go and change while the gate runs: what the broker would refuse is refused at the door, and nothing
//! that a sender does makes a topic.

use std::time::{Duration, SystemTime};

use super::support::client::Answer;
use super::support::gate::{Gate, Setup};
use super::support::kafka::{Kafka, Options};
use super::support::stopwatch::{Stopwatch, Took};
use super::support::{DEADLINE, eventually};

/// No refusal of a topic takes longer by itself. The goal is a second.
const BOUND: Duration = Duration::from_secs(3);

/// How long the broker may be silent, and an event may wait for a partition that goes away: half of the bound. As it is
/// shipped the gate bears 750 ms, which a broker that has just been started needs for itself on a busy machine.
const PATIENCE: &str = "1500ms";

/// A machine that stalls for less, all in all, makes no broker silent for as long as that.
const STALL: Duration = Duration::from_millis(100);

async fn send(gate: &Gate, token: &str, topic: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-request-id", "same")];
    gate.post_with(&format!("/v1/events/{topic}"), &headers, body.to_owned()).await
}

/// Sends once, and reports how long the answer took.
async fn timed(gate: &Gate, token: &str, topic: &str) -> (Answer, Took) {
    let watch = Stopwatch::start();
    let answer = send(gate, token, topic, "{\"data\":1}").await;
    (answer, watch.read())
}

fn setup(kafka: &Kafka, topics: &[&str]) -> Setup {
    let routes: String = topics.iter().map(|topic| format!("[[routes]]\ntopic = \"{topic}\"\n")).collect();
    Setup::new().config(&routes).broker(kafka)
}

async fn breaker(gate: &Gate) -> String {
    gate.admin_get("/status").await.json()["sink"]["breaker"].as_str().expect("a state").to_owned()
}

/// How often the breaker has opened.
async fn openings(gate: &Gate) -> u64 {
    let text = gate.admin_get("/metrics").await.text();
    let count = text.lines().find_map(|line| line.strip_prefix("sluicegate_breaker_openings_total "));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count of openings: {text}"))
}

/// Waits until an event for the topic is in the broker.
async fn delivered(gate: &Gate, token: &str, topic: &str) {
    let taken = async || (send(gate, token, topic, "{\"data\":1}").await.status == 200).then_some(());
    eventually("the broker takes an event", DEADLINE, taken).await;
}

/// Scenario: topics that never existed, that exist without a grant, and one that is deleted while events go to it.
/// Guarantees: all are refused in the same words, soon; the breaker stays closed, other topics go on, and the broker has
/// not one topic more, whatever it would do by itself.
async fn a_missing_topic_is_refused_like_one_without_a_grant(auto_create: bool) {
    let kafka = Kafka::start_with(Options { auto_create, ..Options::default() }).await;
    for topic in ["there", "doomed", "others"] {
        kafka.create_topic(topic, 1, &[]).await;
    }
    let setup = setup(&kafka, &["there", "doomed", "others", "missing", "new-*"]);
    let gate = setup.env("SLUICEGATE__SINK__FAILOVER_AFTER", PATIENCE).start().await;
    let token = gate.token(&["--sub", "me", "--topics", "there,doomed,missing,new-*,unrouted"]).await;

    let (ungranted, _) = timed(&gate, &token, "others").await;
    assert_eq!((ungranted.status, ungranted.json()["code"].as_str()), (403, Some("denied")));
    assert!(ungranted.text().contains("topics --create"), "it names the command: {}", ungranted.text());
    for topic in ["missing", "new-one", "unrouted"] {
        let (answer, took) = timed(&gate, &token, topic).await;
        assert_eq!((answer.status, answer.text()), (403, ungranted.text().replace("others", topic)));
        assert!(took.own() < BOUND, "{topic}: {took}");
        eprintln!("a refusal of `{topic}` took {took} (goal: 1 s)");
    }

    let all = Stopwatch::start();
    delivered(&gate, &token, "doomed").await;
    let deletion = kafka.delete_topic("doomed");
    let mut gone = false;
    let in_use = async {
        let mut slowest = Took::default();
        let watch = Stopwatch::start();
        // While it goes there may be refusals and acceptances in turn; in the end it is gone for good.
        for after_it_was_gone in 0.. {
            let (answer, took) = timed(&gate, &token, "doomed").await;
            slowest = slowest.max(took);
            match answer.status {
                200 | 202 => {}
                _ => assert_eq!((answer.status, answer.text()), (403, ungranted.text().replace("others", "doomed"))),
            }
            gone = answer.status == 403;
            if gone && after_it_was_gone > 20 && watch.read().whole > Duration::from_secs(1) {
                break;
            }
            assert!(watch.read().whole < DEADLINE, "it is never refused");
        }
        slowest
    };
    let ((), slowest) = tokio::join!(deletion, in_use);
    assert!(slowest.own() < BOUND, "an answer for the deleted topic took {slowest}");
    eprintln!("the slowest answer for the deleted topic took {slowest} (goal: 1 s)");
    assert_eq!(timed(&gate, &token, "doomed").await.0.status, 403);

    // A stalled machine opens the breaker, as a stalled broker would; then it closes again. A topic that is gone does not.
    delivered(&gate, &token, "there").await;
    let closed = async || (breaker(&gate).await == "closed").then_some(());
    eventually("the others go on", DEADLINE, closed).await;
    let (openings, took) = (openings(&gate).await, all.read());
    assert!(openings == 0 || took.stalled >= STALL, "the breaker has opened {openings} times in {took}");
    assert_eq!(kafka.topics().await, ["others", "there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_deleted_topic_is_refused_like_one_without_a_grant() {
    a_missing_topic_is_refused_like_one_without_a_grant(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_deleted_topic_is_not_made_by_a_broker_that_makes_topics() {
    a_missing_topic_is_refused_like_one_without_a_grant(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_while_the_gate_runs_is_used_at_once() {
    let kafka = Kafka::start().await;
    kafka.create_topic("there", 1, &[]).await;
    let gate = setup(&kafka, &["there", "new-*"]).start().await;
    let token = gate.token(&["--sub", "me"]).await;
    assert_eq!(send(&gate, &token, "new-1", "{\"data\":1}").await.status, 403);
    kafka.create_topic("new-1", 2, &[]).await;
    let watch = Stopwatch::start();
    let answer = eventually("the new topic is used", DEADLINE, async || {
        let answer = send(&gate, &token, "new-1", "{\"data\":1}").await;
        (answer.status != 403).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    eprintln!("the new topic was used after {} (goal: about 1 s)", watch.read());
    assert_eq!(kafka.consume_all("new-1").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_demands_is_asked_before_anything_is_acknowledged() {
    let kafka = Kafka::start().await;
    kafka.create_topic("small", 1, &[("max.message.bytes", "20000")]).await;
    kafka.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let bounds = [("message.timestamp.before.max.ms", "3600000"), ("message.timestamp.after.max.ms", "60000")];
    kafka.create_topic("timely", 1, &bounds).await;
    let gate = setup(&kafka, &["small", "compacted", "timely"]).start().await;
    let token = gate.token(&["--sub", "me"]).await;

    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(30_000));
    let refused = send(&gate, &token, "small", &large).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (413, Some("too_large")));
    assert_eq!(refused.json()["limit"], 20_000);
    assert_eq!(send(&gate, &token, "small", "{\"data\":1}").await.status, 200);

    let keyless = send(&gate, &token, "compacted", "{\"data\":1}").await;
    assert_eq!((keyless.status, keyless.json()["code"].as_str(), keyless.json()["field"].as_str()), (422, Some("invalid"), Some("key")));
    assert_eq!(send(&gate, &token, "compacted", "{\"key\":\"k\",\"data\":1}").await.status, 200);

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    for (ahead, status) in [(0, 200), (-1_800_000, 200), (-7_200_000, 422), (30_000, 200), (600_000, 422)] {
        let answer = send(&gate, &token, "timely", &format!("{{\"time\":{},\"data\":1}}", now + ahead)).await;
        assert_eq!(answer.status, status, "{ahead} ms ahead: {}", answer.text());
        if status == 422 {
            assert_eq!(answer.json()["field"], "time");
        }
    }
    assert_eq!(breaker(&gate).await, "closed");
}

/// Scenario: a topic's `max.message.bytes` is lowered while the gate runs.
/// Guarantees: an event that no longer fits is refused before any acknowledgement, also when the gate has not heard of
/// the change yet; smaller ones go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_longer_fits_a_topic_is_refused_before_it_is_acknowledged() {
    let kafka = Kafka::start().await;
    kafka.create_topic("shrinking", 1, &[]).await;
    let gate = setup(&kafka, &["shrinking"]).start().await;
    let token = gate.token(&["--sub", "me"]).await;
    // Letters that do not compress: what counts at the broker is the size of the batch as it is sent.
    let mut seed = 7_u64;
    let mut letter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((seed >> 33) % 64).expect("below 64"))
    };
    let text: String = (0..300_000).map(|_| letter()).filter(|c| c.is_ascii_alphanumeric()).collect();
    let large = format!("{{\"data\":\"{text}\"}}");
    assert_eq!(send(&gate, &token, "shrinking", &large).await.status, 200);
    kafka.alter_topic("shrinking", &[("max.message.bytes", "50000")]).await;
    for _ in 0..3 {
        let refused = send(&gate, &token, "shrinking", &large).await;
        assert_eq!((refused.status, refused.json()["code"].as_str()), (413, Some("too_large")), "{}", refused.text());
    }
    assert_eq!(send(&gate, &token, "shrinking", "{\"data\":1}").await.status, 200);
    let status = gate.admin_get("/status").await.json();
    assert_eq!((&status["inbox"]["rows"], &status["inbox"]["poison"]), (&0.into(), &0.into()));
    assert_eq!(kafka.consume_all("shrinking").await.len(), 2);
}
