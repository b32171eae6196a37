//! The raw leg against brokers that were told what to do: moved leaders, lost answers, silence, lies.

use std::time::Duration;

use sluicegate::drain::Phase;
use sluicegate::sink::Config;
use sluicegate::sink::forward::{Answer, Ticket};
use sluicegate::units::{ByteSize, Span};

use super::forward::{Leg, answer, config, offset, topic};
use super::support::batches::{Producer, batch, batch_of};
use super::support::scripted_broker::{Hold, Lie, Scripted, Verdict};
use super::support::stopwatch::Stopwatch;
use super::support::{DEADLINE, eventually};

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;

/// A leg that gives up early, so that tests are quick.
fn hasty(cluster: &Scripted) -> Leg {
    Leg::new(&Config { raw_timeout: Span::millis(600), ..config(&cluster.brokers()) })
}

fn patient(cluster: &Scripted) -> Leg {
    Leg::new(&Config { raw_timeout: Span::secs(30), ..config(&cluster.brokers()) })
}

async fn all(tickets: &mut [Ticket]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for ticket in tickets {
        answers.push(answer(ticket).await);
    }
    answers
}

/// Not before `least`, and by itself not later than `most`.
fn within(watch: &Stopwatch, least: Duration, most: Duration) {
    let took = watch.read();
    assert!(took.whole >= least && took.own() < most, "{took}");
}

fn code(answer: Answer) -> Option<i16> {
    if let Answer::Answered { code, .. } = answer { Some(code) } else { None }
}

#[tokio::test]
async fn redpandas_versions_are_spoken_and_no_socket_is_closed_for_another() {
    let cluster = Scripted::start(1, &[("raw", 2)]).await;
    let leg = patient(&cluster);
    assert_eq!(cluster.connections(), 0, "nothing is opened before the first batch");
    let sent = batch(&["one", "two"]);
    assert_eq!(offset(answer(&mut leg.send("raw", 1, sent.clone())).await), Some(0));
    assert_eq!(offset(leg.ask("raw", 1, "three").await), Some(2));
    assert_eq!((cluster.versions(PRODUCE), cluster.versions(METADATA)), (vec![7], vec![8]));
    assert_eq!(&cluster.stored("raw", 1)[0].batch, sent.bytes(), "byte for byte");
    assert!(cluster.received().iter().all(|part| part.acks == -1));
    assert_eq!(cluster.connections(), 2, "one that asks, one that sends");
}

#[tokio::test]
async fn a_broker_that_offers_only_what_is_closed_on_is_not_used() {
    let cluster = Scripted::start(1, &[("raw", 1)]).await;
    cluster.offer(&[(0, 0, 2), (3, 0, 8), (18, 0, 3)]);
    assert_eq!(hasty(&cluster).ask("raw", 0, "x").await, Answer::NotSent("no_leader"));
    assert_eq!(cluster.requests(PRODUCE), 0);
}

#[tokio::test]
async fn what_waits_for_an_answer_leaves_as_one_request_behind_it() {
    let cluster = Scripted::start(1, &[("raw", 50), ("other", 50)]).await;
    let leg = Leg::new(&Config { raw_connections: 1, raw_timeout: Span::secs(30), ..config(&cluster.brokers()) });
    // From here on it is known who leads the two topics.
    assert_eq!((offset(leg.ask("raw", 1, "x").await), offset(leg.ask("other", 0, "x").await)), (Some(0), Some(0)));
    let hold = Hold::default();
    cluster.next("raw", 0, [Verdict::Hold(hold.clone())]);
    let mut tickets = vec![leg.send("raw", 0, batch(&["first"]))];
    cluster.has_received(3).await;
    for partition in 0..50 {
        tickets.push(leg.send("raw", partition, batch(&["second"])));
        tickets.push(leg.send("other", partition, batch(&["second"])));
    }
    hold.release();
    assert!(all(&mut tickets).await.into_iter().all(|answer| offset(answer).is_some()));
    assert_eq!(cluster.requests(PRODUCE), 4);
    assert_eq!(cluster.stored("raw", 0).len(), 2);
}

#[tokio::test]
async fn a_slow_request_holds_its_own_partitions_only() {
    let cluster = Scripted::start(1, &[("raw", 4)]).await;
    let leg = patient(&cluster);
    let hold = Hold::default();
    cluster.next("raw", 0, [Verdict::Hold(hold.clone())]);
    let mut slow = leg.send("raw", 0, batch(&["slow"]));
    cluster.has_received(1).await;
    let mut behind = leg.send("raw", 0, batch(&["behind"]));
    for n in 0..3 {
        assert_eq!(offset(leg.ask("raw", 1, "quick").await), Some(n));
    }
    assert_eq!(cluster.stored("raw", 0).len(), 0, "order: the second waits for the first");
    hold.release();
    assert_eq!((offset(answer(&mut slow).await), offset(answer(&mut behind).await)), (Some(0), Some(1)));
}

#[tokio::test]
async fn a_moved_leader_is_said_in_the_brokers_words_and_the_next_batch_finds_the_new_one() {
    let cluster = Scripted::start(2, &[("raw", 2)]).await;
    let leg = patient(&cluster);
    assert_eq!(offset(leg.ask("raw", 0, "here").await), Some(0));
    cluster.move_leader("raw", 0, 2);
    assert_eq!(code(leg.ask("raw", 0, "moved").await), Some(6));
    assert!(leg.upstream.leader_changed(&topic("raw"), 0, DEADLINE).await);
    assert_eq!(offset(leg.ask("raw", 0, "there").await), Some(1));
    assert_eq!(cluster.received().last().map(|part| part.node), Some(2));
}

#[tokio::test]
async fn a_leader_that_is_told_late_is_asked_for_again() {
    let cluster = Scripted::start(2, &[("raw", 1)]).await;
    let leg = patient(&cluster);
    cluster.tell_leader("raw", 0, Some(1));
    cluster.move_leader("raw", 0, 2);
    assert_eq!(code(leg.ask("raw", 0, "stale").await), Some(6));
    assert_eq!(code(leg.ask("raw", 0, "stale").await), Some(6));
    cluster.tell_leader("raw", 0, Some(0));
    // Until the answer that is stale is forgotten, and as long as nobody leads, batches wait.
    assert!(!leg.upstream.leader_changed(&topic("raw"), 0, DEADLINE).await);
    let mut waits = leg.send("raw", 0, batch(&["waits"]));
    let asked = cluster.requests(METADATA);
    eventually("it is asked again", DEADLINE, async || (cluster.requests(METADATA) > asked + 1).then_some(())).await;
    cluster.tell_leader("raw", 0, None);
    assert_eq!(offset(answer(&mut waits).await), Some(0));
}

#[tokio::test]
async fn every_code_of_the_broker_is_handed_on() {
    let cluster = Scripted::start(1, &[("raw", 1)]).await;
    let leg = patient(&cluster);
    for expected in [2, 7, 10, 19, 20, 29, 45, 46, 47, 59, 87, -1] {
        cluster.next("raw", 0, [Verdict::Code(expected)]);
        assert_eq!(code(leg.ask("raw", 0, "x").await), Some(expected));
    }
    assert_eq!(offset(leg.ask("raw", 0, "x").await), Some(0));
}

#[tokio::test]
async fn an_answer_that_is_lost_is_unknown_and_what_waits_behind_it_does_not_overtake() {
    let cluster = Scripted::start(1, &[("raw", 2)]).await;
    let leg = patient(&cluster);
    let mine = |sequence| batch_of(Producer { id: 1, epoch: 0, sequence }, &["mine"]);
    for (number, verdict) in [Verdict::CloseAfterAppend, Verdict::CloseBefore].into_iter().enumerate() {
        cluster.next("raw", 1, [verdict]);
        let mut first = leg.send("raw", 1, mine(0));
        let mut second = leg.send("raw", 1, mine(1));
        assert_eq!(answer(&mut first).await, Answer::Unknown("connection"));
        assert_eq!(answer(&mut second).await, Answer::NotSent("behind"));
        assert_eq!(cluster.stored("raw", 1).len(), 1, "appended in the first round only, now {number}");
    }
    assert_eq!(offset(leg.ask("raw", 1, "next").await), Some(1), "over a new connection");
}

#[tokio::test]
async fn a_broker_that_is_silent_is_given_up_in_time_and_reached_over_another_connection() {
    let cluster = Scripted::start(1, &[("raw", 2)]).await;
    let leg = hasty(&cluster);
    cluster.next("raw", 0, [Verdict::SilenceAfterAppend]);
    let watch = Stopwatch::start();
    assert_eq!(leg.ask("raw", 0, "x").await, Answer::Unknown("timed_out"));
    within(&watch, Duration::from_millis(600), Duration::from_secs(3));
    assert_eq!(offset(leg.ask("raw", 0, "y").await), Some(1));
    assert_eq!(offset(leg.ask("raw", 1, "z").await), Some(0));
}

#[tokio::test]
async fn lies_end_the_connection_and_the_outcome_is_unknown() {
    let cluster = Scripted::start(1, &[("raw", 2)]).await;
    let leg = hasty(&cluster);
    assert_eq!(offset(leg.ask("raw", 0, "the truth").await), Some(0));
    let lies = [Lie::Correlation, Lie::HugeFrame, Lie::NegativeFrame, Lie::LargeFrame, Lie::Short, Lie::OtherPartition, Lie::HostileCount];
    for lie in lies {
        cluster.lie(lie);
        let before = cluster.connections();
        let unknown = leg.ask("raw", 0, "x").await;
        assert!(matches!(unknown, Answer::Unknown("protocol" | "timed_out")), "{lie:?}: {unknown:?}");
        assert!(offset(leg.ask("raw", 0, "y").await).is_some(), "{lie:?}");
        assert!(cluster.connections() > before, "{lie:?}: whoever lies is not asked again over the same connection");
    }
    cluster.lie(Lie::Twice);
    assert!(offset(leg.ask("raw", 0, "x").await).is_some());
    for _ in 0..3 {
        leg.until_appended("raw", 0, "an answer to no question ends its connection").await;
    }
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for_and_then_said() {
    let mut cluster = Scripted::start(2, &[("raw", 2)]).await;
    cluster.move_leader("raw", 1, 2);
    let leg = hasty(&cluster);
    assert_eq!((offset(leg.ask("raw", 0, "x").await), offset(leg.ask("raw", 1, "x").await)), (Some(0), Some(0)));
    cluster.kill(2).await;
    let gone = eventually("the loss is noticed", DEADLINE, async || match leg.ask("raw", 1, "x").await {
        Answer::NotSent(reason) => Some(reason),
        _ => None,
    });
    assert_eq!(gone.await, "connection");
    assert_eq!(offset(leg.ask("raw", 0, "y").await), Some(1), "the other broker's partitions go on");
    let status = leg.upstream.status();
    assert!(status[1].down && status[1].last_error.is_some() && !status[0].down, "{status:?}");
    cluster.revive(2).await;
    leg.until_appended("raw", 1, "z").await;
    assert!(!leg.upstream.status()[1].down);
}

#[tokio::test]
async fn a_connection_that_the_broker_closes_in_peace_costs_nothing() {
    let mut cluster = Scripted::start(1, &[("raw", 1)]).await;
    let leg = patient(&cluster);
    for n in 0..5 {
        assert_eq!(offset(leg.ask("raw", 0, "x").await), Some(n));
        cluster.kill(1).await;
        eventually("the end is noticed", DEADLINE, async || (leg.upstream.status()[0].connections == 0).then_some(())).await;
        cluster.revive(1).await;
    }
}

#[tokio::test]
async fn brokers_that_do_not_say_who_leads_are_passed_over() {
    let cluster = Scripted::start(1, &[("raw", 1)]).await;
    let mute = Scripted::start(1, &[]).await;
    mute.mute_metadata(true);
    let leg = patient_of(&format!("{},{}", mute.brokers(), cluster.brokers()));
    let watch = Stopwatch::start();
    assert_eq!(offset(leg.ask("raw", 0, "x").await), Some(0));
    within(&watch, Duration::from_millis(300), Duration::from_secs(5));
}

fn patient_of(brokers: &str) -> Leg {
    Leg::new(&Config { raw_timeout: Span::secs(30), ..config(brokers) })
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let cluster = Scripted::start(1, &[("raw", 1)]).await;
    let leg = Leg::new(&Config { raw_queue: ByteSize::bytes(1_000), raw_timeout: Span::secs(30), ..config(&cluster.brokers()) });
    let hold = Hold::default();
    cluster.next("raw", 0, [Verdict::Hold(hold.clone())]);
    let mut first = leg.send("raw", 0, batch(&["x"]));
    cluster.has_received(1).await;
    let large = "x".repeat(700);
    let mut fits = leg.send("raw", 0, batch(&[&large]));
    assert_eq!(answer(&mut leg.send("raw", 0, batch(&[&large]))).await, Answer::NotSent("queue_full"));
    hold.release();
    assert_eq!((offset(answer(&mut first).await), offset(answer(&mut fits).await)), (Some(0), Some(1)));
}

#[tokio::test]
async fn the_brokers_wish_for_a_rest_is_kept() {
    let cluster = Scripted::start(1, &[("raw", 1)]).await;
    let leg = Leg::new(&Config { raw_connections: 1, raw_timeout: Span::secs(30), ..config(&cluster.brokers()) });
    cluster.throttle(700);
    assert_eq!(offset(leg.ask("raw", 0, "x").await), Some(0), "answered at once");
    let watch = Stopwatch::start();
    assert_eq!(offset(leg.ask("raw", 0, "y").await), Some(1));
    within(&watch, Duration::from_millis(600), Duration::from_secs(5));
}

#[tokio::test]
async fn at_the_drains_end_what_waits_is_told_and_what_was_written_is_answered() {
    let cluster = Scripted::start(1, &[("raw", 1)]).await;
    let leg = patient(&cluster);
    let hold = Hold::default();
    cluster.next("raw", 0, [Verdict::Hold(hold.clone())]);
    let mut written = leg.send("raw", 0, batch(&["written"]));
    cluster.has_received(1).await;
    let mut waits = leg.send("raw", 0, batch(&["waits"]));
    leg.drain.enter(Phase::Storing);
    assert_eq!(answer(&mut waits).await, Answer::NotSent("draining"));
    hold.release();
    assert_eq!(offset(answer(&mut written).await), Some(0));
    assert_eq!(leg.ask("raw", 0, "late").await, Answer::NotSent("draining"));
    eventually("the connections end", DEADLINE, async || leg.upstream.status().iter().all(|broker| broker.connections == 0).then_some(()))
        .await;
}
