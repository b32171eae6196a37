//! While nothing can be taken: how long a request is held, and that it is answered before its sender has given up.

use std::time::Duration;

use crate::support::gate::Setup;
use crate::support::kafka::{Kafka, Options};
use crate::support::stopwatch::Stopwatch;
use crate::support::{DEADLINE, eventually};

use super::grpc::EXPORT;
use super::samples::{PATHS, of};
use super::status::UNAVAILABLE;
use super::target::{PARTITIONS, Stage, TOPICS, Target, brokerless, is_elsewhere, marker, own, setup};

fn without_inbox(setup: Setup) -> Setup {
    setup.env("SLUICEGATE__INBOX__KIND", "none")
}

/// Rule: JS over gRPC drops a batch at whatever code, so a call is held before UNAVAILABLE: until a second before its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_held_until_a_second_before_its_deadline() {
    let Some(target) = brokerless(without_inbox).await else { return };
    // Every spelling of four seconds, and one of three.
    for (timeout, limit) in [("4S", 4), ("4000m", 4), ("4000000u", 4), ("3S", 3)] {
        let watch = Stopwatch::start();
        let reply = target.call(EXPORT[0]).field("grpc-timeout", timeout).message(&of(0, &marker())).send().await;
        let took = watch.read();
        assert_eq!(reply.refused(), UNAVAILABLE, "{timeout}");
        assert!(took.own() < Duration::from_secs(limit), "{timeout}: {took}");
        assert!(took.whole >= Duration::from_millis(limit * 1_000 - 1_600), "{timeout}: {took}");
    }
}

/// Rule: at most five seconds, without a deadline or with a far one, and never more than nine in all.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_held_for_five_seconds_at_most() {
    let Some(target) = brokerless(without_inbox).await else { return };
    for timeout in [None, Some("1H"), Some("99999999H")] {
        let call = target.call(EXPORT[0]).message(&of(0, &marker()));
        let watch = Stopwatch::start();
        let reply = timeout.into_iter().fold(call, |call, timeout| call.field("grpc-timeout", timeout)).send().await;
        let took = watch.read();
        assert_eq!(reply.refused(), UNAVAILABLE, "{timeout:?}");
        assert!(took.own() < Duration::from_secs(9) && took.whole > Duration::from_secs(3), "{timeout:?}: {took}");
    }
    let watch = Stopwatch::start();
    assert_eq!(target.post(PATHS[0]).protobuf(of(0, &marker())).send().await.status, 503);
    assert!(watch.read().own() < Duration::from_secs(9), "{}", watch.read());
}

/// Rule: a broker that is silent makes no answer late either: the call is answered before its own deadline, as one that may
/// have been stored, and HTTP within nine seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_makes_no_answer_late() {
    let Some(target) = own(|setup| without_inbox(setup).shipped()).await else { return };
    let warm = async || (target.call(EXPORT[0]).message(&of(0, &marker())).send().await.code() == 0).then_some(());
    eventually("the broker takes a call", DEADLINE, warm).await;
    target.kafka().stop();
    let watch = Stopwatch::start();
    let reply = target.call(EXPORT[0]).field("grpc-timeout", "4S").message(&of(0, &marker())).send().await;
    let (call, code) = (watch.read(), reply.refused());
    let watch = Stopwatch::start();
    let answer = target.post(PATHS[0]).protobuf(of(0, &marker())).send().await;
    let post = watch.read();
    target.kafka().cont();
    assert!(matches!(code, 4 | 14) && call.own() < Duration::from_secs(4), "{code} after {call}");
    assert!(answer.status == 503 && post.own() < Duration::from_secs(9), "{} after {post}", answer.status);
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
}

/// Rule: a deadline that cannot be read is no reason to lose data: the call is answered as if it had none, or refused as bad.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_cannot_be_read_does_no_harm() {
    let target = super::target::target().await;
    for timeout in ["", "S", "5", "-1S", "999999999S", "5x"] {
        let reply = target.call(EXPORT[0]).field("grpc-timeout", timeout).message(&of(0, &marker())).send().await;
        assert!(matches!(reply.code(), 0 | 3 | 13), "{timeout:?}: {reply:?}");
    }
}

/// Rule: a call that is held while the broker comes back is stored, and answered as a success.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_held_is_taken_when_the_broker_comes_back() {
    if is_elsewhere("a broker that is stopped behind the gate") {
        return;
    }
    let mut kafka = Kafka::start().await;
    for topic in TOPICS {
        kafka.create_topic(topic, PARTITIONS, &[]).await;
    }
    let gate = without_inbox(setup())
        .shipped()
        .env("SLUICEGATE__OTLP__HOLD", "60s")
        .env("SLUICEGATE__OTLP__ANSWER_WITHIN", "60s")
        .broker(&kafka)
        .start()
        .await;
    let target = Target::of(std::sync::Arc::new(Stage { gate, kafka: None })).await;
    let warm = async || (target.call(EXPORT[0]).message(&of(0, &marker())).send().await.code() == 0).then_some(());
    eventually("the broker takes a call", DEADLINE, warm).await;
    kafka.kill_9();
    let down = async || (target.gate().admin_get("/status").await.json()["sink"]["breaker"] != "closed").then_some(());
    // What was on its way when the broker went is in doubt, and is not what is asked here.
    target.post(PATHS[0]).protobuf(of(0, &marker())).send().await;
    eventually("the breaker opens", DEADLINE, down).await;
    let marker = marker();
    let call = target.call(EXPORT[0]).message(&of(0, &marker));
    let (reply, ()) = tokio::join!(call.send(), kafka.restart());
    assert!(reply.accepted().is_empty());
    let records = kafka.consume_all(TOPICS[0]).await;
    assert!(records.iter().any(|record| record.value.windows(marker.len()).any(|window| window == marker.as_bytes())));
}

/// Rule: what the inbox took is acknowledged, and arrives when the broker is back, as it would have.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_inbox_took_arrives_when_the_broker_is_back() {
    if is_elsewhere("a broker that is stopped behind the gate") {
        return;
    }
    let mut kafka = Kafka::prepare(Options::default());
    let gate = setup().shipped().broker(&kafka).start().await;
    let target = Target::of(std::sync::Arc::new(Stage { gate, kafka: None })).await;
    let marker = marker();
    let bodies: Vec<_> = (0..3).map(|signal| of(signal, &marker)).collect();
    for (path, body) in PATHS.into_iter().zip(&bodies) {
        let answer = target.post(path).protobuf(body.clone()).send().await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}: {}", answer.text());
    }
    kafka.restart().await;
    for topic in TOPICS {
        kafka.create_topic(topic, PARTITIONS, &[]).await;
    }
    let empty = async || (target.gate().admin_get("/status").await.json()["inbox"]["rows"] == 0).then_some(());
    eventually("the inbox is empty", Duration::from_secs(180), empty).await;
    for (topic, body) in TOPICS.into_iter().zip(&bodies) {
        let records = kafka.consume_all(topic).await;
        assert_eq!(records.iter().map(|record| &record.value).collect::<Vec<_>>(), [body], "{topic}");
    }
}

/// Rule: a gate that can take nothing is not ready, and its health check says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_says_not_serving_while_nothing_can_be_taken() {
    let Some(target) = brokerless(without_inbox).await else { return };
    let not = async || {
        let message = target.call(super::grpc::HEALTH).message(b"").send().await.accepted();
        (message.as_ref() == [0x08, 2]).then_some(())
    };
    eventually("the health check says NOT_SERVING", DEADLINE, not).await;
}
