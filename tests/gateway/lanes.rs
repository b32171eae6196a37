//! Lanes: order, duplicates, outages. Each of these was a loss, a dead client or a duplicate in an experiment; the broker is
//! a scripted one, because a real one cannot be told to do it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluicegate::drain::Phase;
use sluicegate::ingest::Landed;
use sluicegate::receipt::{Doubt, Refusal};
use sluicegate::records::RecordBatch;
use sluicegate::units::Span;
use tempfile::TempDir;

use super::support::DEADLINE;
use super::support::batches::{Producer, batch, batch_of};
use super::support::eventually;
use super::support::scripted_broker::{Hold, Scripted, Verdict};
use super::support::trunk::{Answer, TOPIC, Trunk, answers, settings};

const NOT_STORED: Doubt = Doubt::NotStored;

async fn bench() -> (Scripted, Trunk, TempDir) {
    bench_with(|_| {}).await
}

async fn bench_with(change: impl FnOnce(&mut sluicegate::config::Config)) -> (Scripted, Trunk, TempDir) {
    let cluster = Scripted::start(1, &[(TOPIC, 3)]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = settings(&dir, &cluster.brokers());
    change(&mut config);
    let trunk = Trunk::start(config).await;
    // The first acknowledgement: from here on the leg is one that has proven itself.
    assert!(in_broker(&trunk.send(2, batch(&["first of all"])).await));
    (cluster, trunk, dir)
}

/// A producer of this principal's, as InitProducerId would make it.
fn producer(trunk: &Trunk) -> Producer {
    Producer { id: trunk.ingest.producer_id(&trunk.principal), epoch: 0, sequence: 0 }
}

fn at(producer: Producer, sequence: i32) -> Producer {
    Producer { sequence, ..producer }
}

fn in_broker(answer: &Answer) -> bool {
    matches!(answer, Ok(Landed::Broker { .. }))
}

fn in_inbox(answer: &Answer) -> bool {
    matches!(answer, Ok(Landed::Inbox))
}

fn try_again(answer: &Answer, doubt: Doubt) -> bool {
    matches!(answer, Err(Refusal::Unavailable { doubt: said, .. }) if *said == doubt)
}

/// The batches of a partition, as they stand in its log.
fn log(cluster: &Scripted, partition: i32) -> Vec<RecordBatch> {
    cluster.stored(TOPIC, partition).into_iter().map(|stored| RecordBatch::parse(stored.batch).expect("a batch")).collect()
}

/// The values in a partition's log, in order.
fn values(cluster: &Scripted, partition: i32) -> Vec<String> {
    let value = |record: sluicegate::records::Record| String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
    log(cluster, partition).iter().flat_map(|batch| batch.records(1 << 20).expect("records")).map(value).collect()
}

fn has_numbers(batch: &RecordBatch) -> bool {
    batch.producer().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_arrives_byte_for_byte_and_its_repetition_is_answered_from_memory() {
    let (cluster, trunk, _dir) = bench().await;
    let sent = batch_of(producer(&trunk), &["a", "b"]);
    let first = trunk.send(0, sent.clone()).await.expect("it lands");
    assert_eq!(trunk.send(0, sent.clone()).await, Ok(first));
    let log = log(&cluster, 0);
    assert_eq!(log.len(), 1, "the repetition is not sent");
    // The base offset is the broker's to write; the scripted one leaves it as it came.
    assert_eq!(log[0], sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_refused_batch_everything_waits_until_it_has_come_back() {
    let (cluster, trunk, _dir) = bench_with(|config| {
        config.inbox.idempotent = Some(false);
        config.sink.outage_hold = Span::millis(300);
    })
    .await;
    let mine = producer(&trunk);
    assert!(in_broker(&trunk.send(0, batch_of(mine, &["0"])).await));
    cluster.script(|part| if part.partition == 0 { Verdict::Code(19) } else { Verdict::Append });
    assert!(try_again(&trunk.send(0, batch_of(at(mine, 1), &["1"])).await, NOT_STORED));
    cluster.script(|_| Verdict::Append);
    assert!(try_again(&trunk.send(0, batch_of(at(mine, 2), &["2"])).await, NOT_STORED), "else the client takes 1 for delivered");
    for sequence in 1..=2 {
        assert!(in_broker(&trunk.send(0, batch_of(at(mine, sequence), &[sequence.to_string()])).await), "{sequence}");
    }
    assert_eq!(values(&cluster, 0), ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_now_covers_the_whole_request_and_one_for_good_does_not() {
    let (cluster, trunk, _dir) = bench_with(|config| {
        config.inbox.idempotent = Some(false);
        config.sink.outage_hold = Span::millis(300);
    })
    .await;
    let mine = producer(&trunk);
    cluster.script(|part| if part.partition == 0 { Verdict::Code(19) } else { Verdict::Append });
    assert!(try_again(&trunk.send(0, batch_of(mine, &["0"])).await, NOT_STORED));
    let (behind, beside) = (batch_of(at(mine, 1), &["1"]), batch_of(mine, &["beside"]));
    let both = answers(trunk.admit(1, vec![(0, behind.clone()), (1, beside.clone())]).await).await;
    assert!(both.iter().all(|answer| try_again(answer, NOT_STORED)), "a client that repeats all of it stores nothing twice: {both:?}");
    assert!(values(&cluster, 1).is_empty());
    let mixed = answers(trunk.admit(1, vec![(1, beside), (7, behind)]).await).await;
    assert!(in_broker(&mixed[0]) && matches!(mixed[1], Err(Refusal::Denied { .. })), "{mixed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_batches_take_the_inbox_and_are_replayed_in_order_before_the_lane_goes_live_again() {
    let (mut cluster, trunk, _dir) = bench().await;
    let mine = producer(&trunk);
    assert!(in_broker(&trunk.send(0, batch_of(mine, &["0"])).await));
    cluster.kill(1).await;
    for sequence in 1..=20 {
        for (partition, sent) in [(0, batch_of(at(mine, sequence), &[sequence.to_string()])), (1, batch(&[sequence.to_string()]))] {
            let answer = trunk.send(partition, sent).await;
            assert!(in_inbox(&answer), "{sequence} to {partition}: {answer:?}");
        }
    }
    cluster.revive(1).await;
    let last = trunk.send(0, batch_of(at(mine, 21), &["21"])).await;
    assert!(last.is_ok(), "{last:?}");
    trunk.is_replayed().await;
    assert_eq!(values(&cluster, 0), (0..=21).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(log(&cluster, 0).iter().all(has_numbers), "the same bytes");
    assert_eq!(values(&cluster, 1), (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_that_thaws_makes_no_second_copy() {
    let (cluster, trunk, _dir) = bench().await;
    let hold = Hold::default();
    cluster.next(TOPIC, 0, [Verdict::Hold(hold.clone())]);
    let stored = trunk.send(0, batch(&["frozen"])).await;
    assert!(in_inbox(&stored), "{stored:?}");
    assert!(in_inbox(&trunk.send(0, batch(&["behind"])).await), "nothing overtakes it");
    hold.release();
    trunk.is_replayed().await;
    assert_eq!(values(&cluster, 0), ["frozen", "behind"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_was_lost_is_asked_for_again_with_the_same_bytes() {
    let (cluster, trunk, _dir) = bench().await;
    cluster.next(TOPIC, 0, [Verdict::CloseAfterAppend, Verdict::Code(46)]);
    let sent = batch_of(producer(&trunk), &["once"]);
    assert_eq!(
        trunk.send(0, sent.clone()).await,
        Ok(Landed::Broker { base_offset: -1, log_append_time_ms: -1, log_start_offset: -1 }),
        "a duplicate has landed; where, the broker does not say"
    );
    let received: Vec<_> = cluster.received().into_iter().filter(|part| part.partition == 0).map(|part| part.batch).collect();
    assert_eq!(received, [sent.bytes().clone(), sent.bytes().clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_the_broker_no_longer_accepts_are_stripped_and_so_are_those_behind() {
    for code in [47, 59] {
        let (cluster, trunk, _dir) = bench().await;
        let mine = producer(&trunk);
        cluster.next(TOPIC, 0, [Verdict::Code(code)]);
        for sequence in 0..3 {
            assert!(in_broker(&trunk.send(0, batch_of(at(mine, sequence), &[sequence.to_string()])).await));
        }
        assert_eq!(values(&cluster, 0), ["0", "1", "2"]);
        assert!(!log(&cluster, 0).iter().any(has_numbers), "{code}");
        let newer = Producer { epoch: 1, ..mine };
        assert!(in_broker(&trunk.send(0, batch_of(newer, &["new epoch"])).await));
        assert!(log(&cluster, 0).last().is_some_and(has_numbers), "a newer epoch begins anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_predecessor_is_waited_for_ten_seconds_and_then_the_records_go_without_numbers() {
    let (cluster, trunk, _dir) = bench().await;
    let begun = std::time::Instant::now();
    cluster.script(|part| match RecordBatch::parse(part.batch.clone()) {
        Ok(batch) if batch.producer().is_some() => Verdict::Code(45),
        _ => Verdict::Append,
    });
    let mine = at(producer(&trunk), 13);
    let answer = trunk.send(0, batch_of(mine, &["13"])).await;
    assert!(in_broker(&answer), "never 45 to a client: {answer:?}");
    assert!(begun.elapsed().as_secs() >= 9, "another gate had time to bring what it holds");
    let quick = std::time::Instant::now();
    assert!(in_broker(&trunk.send(0, batch_of(at(mine, 14), &["14"])).await));
    assert!(quick.elapsed().as_secs() < 5, "the lane remembers");
    assert_eq!(values(&cluster, 0), ["13", "14"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_comes_while_it_is_waited_for_goes_first() {
    let (cluster, trunk, _dir) = bench().await;
    let mine = producer(&trunk);
    assert!(in_broker(&trunk.send(0, batch_of(mine, &["0"])).await));
    // The broker of a producer whose next number is 1, and then any.
    let one_is_there = AtomicBool::new(false);
    cluster.script(move |part| match RecordBatch::parse(part.batch.clone()).expect("a batch").producer().map(|numbers| numbers.first) {
        Some(1) => {
            one_is_there.store(true, Ordering::SeqCst);
            Verdict::Append
        }
        Some(2 | 3) if !one_is_there.load(Ordering::SeqCst) => Verdict::Code(45),
        _ => Verdict::Append,
    });
    let third = trunk.admit(1, vec![(0, batch_of(at(mine, 2), &["2"]))]).await;
    cluster.has_received(3).await;
    let (fourth, second) =
        (trunk.admit(2, vec![(0, batch_of(at(mine, 3), &["3"]))]).await, trunk.send(0, batch_of(at(mine, 1), &["1"])).await);
    assert!(in_broker(&second) && in_broker(&answers(third).await[0]) && in_broker(&answers(fourth).await[0]));
    assert_eq!(values(&cluster, 0), ["0", "1", "2", "3"]);
    assert!(log(&cluster, 0).iter().all(has_numbers), "nothing had to lose its numbers");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_replay_finds_out_of_order_is_delivered_all_the_same() {
    let (mut cluster, trunk, _dir) = bench().await;
    let mine = at(producer(&trunk), 5);
    cluster.kill(1).await;
    for sequence in 5..8 {
        assert!(in_inbox(&trunk.send(0, batch_of(at(mine, sequence), &[sequence.to_string()])).await));
    }
    cluster.script(|part| match RecordBatch::parse(part.batch.clone()) {
        Ok(batch) if batch.producer().is_some() => Verdict::Code(45),
        _ => Verdict::Append,
    });
    cluster.revive(1).await;
    trunk.is_replayed().await;
    assert_eq!(values(&cluster, 0), ["5", "6", "7"]);
    assert!(!log(&cluster, 0).iter().any(has_numbers));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_epoch_behind_a_newer_one_loses_its_numbers() {
    let (cluster, trunk, _dir) = bench().await;
    let mine = producer(&trunk);
    assert!(in_broker(&trunk.send(0, batch_of(Producer { epoch: 3, ..mine }, &["new"])).await));
    assert!(in_broker(&trunk.send(0, batch_of(Producer { epoch: 2, ..mine }, &["old"])).await), "Redpanda would drop it as a duplicate");
    let log = log(&cluster, 0);
    assert!(has_numbers(&log[0]) && !has_numbers(&log[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_used_again_for_other_records_is_another_batch() {
    let (cluster, trunk, _dir) = bench().await;
    let mine = producer(&trunk);
    assert!(in_broker(&trunk.send(0, batch_of(mine, &["one"])).await));
    assert!(in_broker(&trunk.send(0, batch_of(mine, &["another"])).await), "a broker would answer 46 and keep nothing");
    assert_eq!(values(&cluster, 0), ["one", "another"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_not_the_principals_own_cannot_meet_its_owners_numbers() {
    let (cluster, trunk, _dir) = bench().await;
    assert!(in_broker(&trunk.send(0, batch_of(Producer { id: 4_711, epoch: 0, sequence: 0 }, &["mine"])).await));
    assert!(!has_numbers(&log(&cluster, 0)[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_not_begun_for_a_client_that_has_gone_is_dropped_and_what_was_begun_is_finished() {
    let (cluster, trunk, _dir) = bench().await;
    let mine = producer(&trunk);
    let hold = Hold::default();
    cluster.next(TOPIC, 0, [Verdict::Hold(hold.clone())]);
    let before = cluster.received().len();
    let begun = trunk.admit(1, vec![(0, batch_of(mine, &["begun"]))]).await;
    cluster.has_received(before + 1).await;
    drop(trunk.admit(1, vec![(0, batch_of(at(mine, 1), &["not begun"]))]).await);
    drop(begun);
    hold.release();
    assert!(in_broker(&trunk.send(0, batch_of(at(mine, 1), &["sent again"])).await));
    assert_eq!(values(&cluster, 0), ["begun", "sent again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_starts_again_replays_what_an_earlier_one_has_acknowledged_before_anything_newer() {
    let (mut cluster, trunk, dir) = bench().await;
    let mine = producer(&trunk);
    cluster.kill(1).await;
    for sequence in 0..5 {
        assert!(in_inbox(&trunk.send(0, batch_of(at(mine, sequence), &[sequence.to_string()])).await));
    }
    trunk.end().await;
    cluster.revive(1).await;
    let trunk = Trunk::start(settings(&dir, &cluster.brokers())).await;
    assert!(trunk.send(0, batch_of(at(mine, 5), &["5"])).await.is_ok());
    trunk.is_replayed().await;
    assert_eq!(values(&cluster, 0), ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_inbox_a_batch_is_held_and_then_refused_for_now() {
    let (mut cluster, trunk, _dir) = bench_with(|config| {
        config.inbox.kind = sluicegate::inbox::Kind::None;
        config.sink.outage_hold = Span::secs(1);
    })
    .await;
    cluster.kill(1).await;
    let begun = std::time::Instant::now();
    let answer = trunk.send(0, batch(&["x"])).await;
    assert!(matches!(answer, Err(Refusal::Unavailable { .. })) && begun.elapsed().as_millis() >= 900, "{answer:?}");
    cluster.revive(1).await;
    eventually("the leg is trusted again", DEADLINE, async || in_broker(&trunk.send(0, batch(&["y"])).await).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_gate_drains_nothing_is_held_for_a_broker_that_takes_nothing() {
    let (cluster, trunk, _dir) = bench_with(|config| {
        config.inbox.kind = sluicegate::inbox::Kind::None;
        // Longer than anybody waits here: a batch that is still held fails the test.
        config.sink.outage_hold = Span::secs(3_600);
    })
    .await;
    cluster.script(|_| Verdict::Code(19));
    let held = trunk.admit(1, vec![(0, batch(&["x"]))]).await;
    cluster.has_received(2).await;
    trunk.drains(Phase::Finishing);
    assert!(try_again(&answers(held).await[0], NOT_STORED));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_gate_drains_what_the_broker_does_not_take_goes_to_the_inbox_at_once() {
    let (cluster, trunk, _dir) = bench_with(|config| config.sink.send_deadline = Span::secs(3_600)).await;
    let mine = producer(&trunk);
    assert!(in_broker(&trunk.send(0, batch_of(mine, &["0"])).await));
    // 1 has no predecessor at the broker, and 19 is not the last word.
    cluster.script(|part| if part.partition == 0 { Verdict::Code(45) } else { Verdict::Code(19) });
    let waiting = trunk.admit(1, vec![(0, batch_of(at(mine, 1), &["1"])), (1, batch(&["x"]))]).await;
    cluster.has_received(6).await;
    trunk.drains(Phase::Finishing);
    let answers = answers(waiting).await;
    assert!(answers.iter().all(in_inbox), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_without_a_leader_holds_up_no_other() {
    let (cluster, trunk, _dir) = bench().await;
    cluster.move_leader(TOPIC, 0, 0);
    let (dead, alive) = tokio::join!(trunk.send(0, batch(&["dead"])), trunk.send(1, batch(&["alive"])));
    assert!(in_inbox(&dead) && in_broker(&alive), "{dead:?} {alive:?}");
    cluster.move_leader(TOPIC, 0, 1);
    trunk.is_replayed().await;
    assert_eq!(values(&cluster, 0), ["dead"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_producers_meet_an_outage_and_every_one_finds_its_records_once_and_in_order() {
    let (mut cluster, trunk, _dir) = bench().await;
    let (trunk, met) = (Arc::new(trunk), Arc::new(AtomicBool::new(false)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (trunk, met) = (Arc::clone(&trunk), Arc::clone(&met));
        tasks.spawn(async move {
            let mine = producer(&trunk);
            // Until the outage was met, and some more.
            let (mut sequence, mut more) = (0, 20);
            while more > 0 {
                let sent = batch_of(at(mine, sequence), &[format!("{number}:{sequence}")]);
                assert!(trunk.send(number % 3, sent).await.is_ok());
                sequence += 1;
                more -= i32::from(met.load(Ordering::SeqCst));
            }
            usize::try_from(sequence).expect("counted up")
        });
    }
    cluster.has_received(60).await;
    cluster.kill(1).await;
    eventually("some take the inbox", DEADLINE, async || (trunk.tiers.gates.total() > 0).then_some(())).await;
    met.store(true, Ordering::SeqCst);
    cluster.revive(1).await;
    let sent: usize = tasks.join_all().await.into_iter().sum();
    trunk.is_replayed().await;
    let all: Vec<String> = (0..3).flat_map(|partition| values(&cluster, partition)).filter(|value| value.contains(':')).collect();
    let distinct: HashSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), sent, "none is lost");
    for number in 0..8 {
        let prefix = format!("{number}:");
        let mut seen: Vec<i32> = all.iter().filter_map(|value| value.strip_prefix(&prefix)).map(|n| n.parse().expect("a number")).collect();
        // A scripted broker does not know duplicates: what was sent again because its answer was lost stands twice, side by side.
        seen.dedup();
        assert!(seen.is_sorted(), "{number}: {seen:?}");
    }
}
