//! Faults of some of three brokers: leaders that move, too few replicas, one of them dead.
//!
//! What always holds: the cluster as a whole is there, so most events find a broker; what does not takes the inbox, alone.

use std::time::Duration;

use crate::support::cluster::{Cluster, FailOver, SIZE};
use crate::support::gate::Gate;
use crate::support::stopwatch::Took;
use crate::support::{DEADLINE, eventually};

use super::disk::post;
use super::load::{Dice, Load, p99, seed};
use super::{CONFIG, DENIED_TOPIC, PARTITIONS, SENDER, SLOWEST_ANSWER, Stage, TOPICS, rounds, seen, token};

/// Topics of one replica: where its broker is dead, they are nowhere.
const LONE: [&str; 6] = ["lone-a", "lone-b", "lone-c", "lone-d", "lone-e", "lone-f"];

/// Probes before and while something is broken.
const PROBES: usize = 300;

async fn three_brokers() -> Stage<Cluster> {
    let cluster = Cluster::start(FailOver::Quick).await;
    for (topic, partitions) in TOPICS.iter().zip(PARTITIONS).chain([(&DENIED_TOPIC, 1)]) {
        cluster.create_topic(topic, partitions, &[]).await;
    }
    let mut stage = Stage::with(cluster);
    stage.deadline = SLOWEST_ANSWER;
    stage
}

/// Scenario: under load one broker after another leaves in order, which moves what it leads, and comes back.
/// Guarantees: no request fails or is late; nothing is lost, and what is twice there is explained. Goal, reported: the inbox
/// is hardly needed.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_move_are_followed_and_no_sender_sees_it() {
    let mut stage = three_brokers().await;
    let gate = stage.setup.start().await;
    let seed = seed("leaders move");
    let mut dice = Dice::new(seed);
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 16, 20, seed).rate(300).beside("F4", true);
    let running = load.start(&gate, None);
    let moves = rounds(3, 9);
    let first = usize::try_from(dice.below(3)).expect("small");
    for round in 0..moves {
        stage.acked(stage.ledger.acked() + 200).await;
        let place = (first + round) % SIZE;
        stage.ledger.broken("a leader moves");
        stage.kafka.shutdown(place).await;
        stage.acked(stage.ledger.acked() + 200).await;
        stage.kafka.restart(place).await;
        stage.trusted(&gate).await;
        stage.ledger.healed("a leader moves");
    }
    let tally = load.end(running).await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen("F4", &format!("{moves} brokers leave in order: slowest answer {}; {verdict}", tally.slowest));
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
}

/// Scenario: two of three brokers freeze, for 5 s; then one topic demands three replicas while one broker is dead.
/// Guarantees: no request fails or is late; the topic that cannot be written to takes the inbox, and others do not; nothing
/// is lost.
#[tokio::test(flavor = "multi_thread")]
async fn with_one_replica_left_or_too_few_events_take_the_inbox() {
    let mut stage = three_brokers().await;
    let gate = stage.setup.start().await;
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 16, 20, seed("too few replicas")).rate(300).beside("F5", true);
    let running = load.start(&gate, None);
    stage.acked(200).await;
    stage.ledger.broken("two brokers");
    stage.kafka.stop(1);
    stage.kafka.stop(2);
    tokio::time::sleep(Duration::from_secs(5)).await; // The fault's own length.
    stage.kafka.cont(1);
    stage.kafka.cont(2);
    stage.trusted(&gate).await;
    stage.replayed(&gate).await;
    stage.ledger.healed("two brokers");
    let frozen = load.end(running).await;

    stage.ledger.broken("min.insync.replicas");
    stage.kafka.alter_topic("alpha", &[("min.insync.replicas", "3")]).await;
    let place = stage.kafka.leader("gamma").await;
    stage.kafka.kill_9(place);
    let others = async || stage.kafka.leaders("beta").await.iter().all(|leader| leader.is_some_and(|at| at != place)).then_some(());
    eventually("the others have leaders again", DEADLINE, others).await;
    let running = load.start(&gate, None);
    let waits = async || (super::status(&gate).await["inbox"]["rows"].as_u64() > Some(0)).then_some(());
    eventually("events of the topic wait in the inbox", DEADLINE, waits).await;
    let number = std::sync::atomic::AtomicU64::new(0);
    let next = async |topic: &str| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        post(&gate, &load_token(&gate).await, &stage.ledger, topic, number, 100).await.status
    };
    eventually("another topic goes to its brokers", DEADLINE, async || (next("beta").await == 200).then_some(())).await;
    assert_eq!(next("alpha").await, 202, "the topic itself does not");
    let few = load.end(running).await;
    stage.kafka.restart(place).await;
    stage.replayed(&gate).await;
    stage.ledger.healed("min.insync.replicas");
    let verdict = stage.verdict().await;
    let slowest = frozen.slowest.max(few.slowest);
    seen("F5", &format!("two brokers frozen; one dead and three replicas demanded: slowest answer {slowest}; {verdict}"));
    verdict.assert_clean();
    for tally in [&frozen, &few] {
        assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
    }
    assert_eq!(verdict.unknown, 0, "{verdict}");
    assert!(slowest.own() <= SLOWEST_ANSWER, "{slowest}");
}

async fn load_token(gate: &Gate) -> String {
    let topics = [&TOPICS[..], &LONE].concat().join(",");
    gate.token(&["--sub", SENDER, "--topics", &topics]).await
}

/// Scenario: one of three brokers is killed under load, and with it a topic that has no replica elsewhere.
/// Guarantees: that topic's events take the inbox; the events of a topic of another broker are answered as quickly as before
/// (goal: p99 at most 1.5 times as long, reported); nothing is lost. Until the dead one is known for dead, the brokers that live
/// hold what was to be copied to it, and with it what stands behind that on the same connection: some of it takes the inbox.
#[tokio::test(flavor = "multi_thread")]
async fn one_broker_of_three_that_dies_holds_nobody_up_who_does_not_need_it() {
    let mut stage = three_brokers().await;
    for topic in LONE {
        stage.kafka.create_topic_of(topic, 1, 1, &[]).await;
    }
    let routes: String = LONE.iter().map(|topic| format!("\n[[routes]]\ntopic = \"{topic}\"\n")).collect();
    stage.setup = stage.setup.config(&format!("{CONFIG}{routes}"));
    let gate = stage.setup.start().await;
    let token = load_token(&gate).await;
    let mut homes = Vec::new();
    for topic in LONE {
        homes.push((topic, stage.kafka.leaders(topic).await[0].expect("a leader")));
    }
    // Not the controller, whose end takes longer.
    let place = stage.kafka.leader("gamma").await;
    let dead = homes.iter().find(|(_, home)| *home == place);
    let well = homes.iter().find(|(_, home)| *home != place).expect("six topics on three brokers").0;
    let mut load = Load::new(&stage.ledger, &token, 8, 10, seed("one of three")).rate(200).beside("F6", true);
    let running = load.start(&gate, None);
    stage.acked(200).await;
    let number = std::sync::atomic::AtomicU64::new(0);
    let probes = async || {
        let (mut times, mut slowest, mut inbox) = (Vec::new(), Took::default(), 0);
        for _ in 0..PROBES {
            let watch = crate::support::stopwatch::Stopwatch::start();
            let next = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let answer = post(&gate, &token, &stage.ledger, well, next, 100).await;
            let took = watch.read();
            assert!(matches!(answer.status, 200 | 202), "{answer:?}");
            inbox += usize::from(answer.status == 202);
            times.push(took.whole);
            slowest = slowest.max(took);
        }
        (p99(times), slowest, inbox)
    };
    let before = probes().await;
    stage.ledger.broken("a broker");
    stage.kafka.kill_9(place);
    let during = probes().await;
    if let Some((dead, _)) = dead {
        for number in 1_000..1_010 {
            assert_eq!(post(&gate, &token, &stage.ledger, dead, number, 100).await.status, 202, "{dead} is nowhere but in the inbox");
        }
        let after = probes().await;
        seen("F6", &format!("with events for the dead broker: p99 of another's {:?}, {} of {PROBES} by the inbox", after.0, after.2));
        assert!(after.1.own() <= SLOWEST_ANSWER, "{}", after.1);
    }
    let tally = load.end(running).await;
    stage.kafka.restart(place).await;
    stage.trusted(&gate).await;
    stage.replayed(&gate).await;
    stage.ledger.healed("a broker");
    let verdict = stage.verdict_of(&[&TOPICS[..], &[DENIED_TOPIC], &LONE].concat()).await;
    let ratio = during.0.as_secs_f64() / before.0.as_secs_f64();
    seen(
        "F6",
        &format!(
            "one of three killed: p99 of another's topic {:?} before, {:?} after, {ratio:.1} times (goal 1.5), {} of {PROBES} by the inbox; slowest answer of all {}; {verdict}",
            before.0, during.0, during.2, tally.slowest
        ),
    );
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(during.1.own() <= SLOWEST_ANSWER && tally.slowest.own() <= SLOWEST_ANSWER, "{} {}", during.1, tally.slowest);
    // Loose: the machine is shared.
    assert!(during.0 <= before.0.mul_f64(1.5) + Duration::from_secs(1), "{:?} after {:?}", during.0, before.0);
}
