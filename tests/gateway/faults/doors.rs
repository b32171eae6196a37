//! The quick rows at the other doors: what is broken, and what must hold.
//!
//! What always holds: the same log, the same checker, the same faults as at the HTTPS door; what differs is who sends, and what
//! an answer looks like.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::gate::Gate;
use crate::support::stopwatch::{Stopwatch, Took};
use crate::support::{DEADLINE, eventually, free_port, not_run};

use super::disk::{SmallDisk, resident_kib};
use super::load::{Dice, seed};
pub use super::senders::Door;
use super::senders::{SPANS, Senders, Told};
use super::{CONFIG, Stage, TOPICS, rounds, seen};

/// What a stop may take, less what the machine was late by.
const STOP: Duration = Duration::from_secs(8);

/// A stage with an inbox on disk, whose gate has the same port all its lives.
pub async fn on_disk() -> Stage {
    let mut stage = Stage::new().await;
    prepare(&mut stage).await;
    stage
}

/// A topic for telemetry, and the same port for all the lives of the gate.
pub async fn prepare(stage: &mut Stage) {
    stage.kafka.create_topic(SPANS, 3, &[]).await;
    let setup = stage.setup.clone().config(&format!("{CONFIG}\n[[routes]]\ntopic = \"{SPANS}\"\n"));
    stage.setup = setup.env("SLUICEGATE__LISTENERS__BIND", &format!("127.0.0.1:{}", free_port()));
}

async fn judged(stage: &Stage, gate: &Gate, door: Door, row: &str, told: &Told, more: &str) {
    stage.replayed(gate).await;
    let verdict = stage.verdict_of(&[&TOPICS[..], &[SPANS]].concat()).await;
    let inbox = if stage.firestore.is_some() { "Firestore, " } else { "" };
    let (slowest, refused, errors) = (told.slowest, told.refused.len(), told.errors.len());
    seen(
        door.row(),
        &format!("{row}, {inbox}{}: {more}slowest answer {slowest}, {refused} refused, {errors} unanswered; {verdict}", door.words()),
    );
    verdict.assert_clean();
    assert!(verdict.acked > 0, "{verdict}");
}

/// F1. No request fails; what was accepted is all found.
pub async fn broker_killed(door: Door, stage: &mut Stage) {
    let gate = stage.setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed("broker killed"), 500).await;
    stage.acked(500).await;
    stage.ledger.broken("broker killed");
    stage.kafka.kill_9();
    stage.acked(stage.ledger.acked() + 1_000).await;
    stage.kafka.restart().await;
    stage.trusted(&gate).await;
    stage.acked(stage.ledger.acked() + 500).await;
    let told = senders.end().await;
    stage.replayed(&gate).await;
    stage.ledger.healed("broker killed");
    judged(stage, &gate, door, "F1", &told, "").await;
    assert_eq!((told.refused.len(), told.errors.len()), (0, 0), "{told:?}");
}

/// F2. The same with a broker that freezes for 1 to 6 s.
pub async fn broker_frozen(door: Door, stage: &mut Stage) {
    let gate = stage.setup.clone().env("SLUICEGATE__SINK__MESSAGE_TIMEOUT", "120s").start().await;
    let seed = seed("broker frozen");
    let mut dice = Dice::new(seed);
    let senders = Senders::start(door, &gate, &stage.ledger, seed, 300).await;
    for _ in 0..rounds(2, 10) {
        stage.acked(stage.ledger.acked() + 200).await;
        stage.ledger.broken("broker frozen");
        stage.kafka.stop();
        tokio::time::sleep(Duration::from_millis(1_000 + dice.below(5_000))).await; // The fault's own length.
        stage.kafka.cont();
        stage.trusted(&gate).await;
        stage.acked(stage.ledger.acked() + 100).await;
        stage.replayed(&gate).await;
        stage.ledger.healed("broker frozen");
    }
    let told = senders.end().await;
    judged(stage, &gate, door, "F2", &told, "").await;
    assert_eq!((told.refused.len(), told.errors.len()), (0, 0), "{told:?}");
}

/// F15 with an inbox on disk: the disk is full.
pub async fn both_away(door: Door) {
    let Some(disk) = SmallDisk::mount("32m") else { return not_run(1, "nobody may mount a small disk here") };
    let mut stage = on_disk().await;
    let data = disk.path().join("data");
    let setup = stage.setup.clone().env("SLUICEGATE__INBOX__DIR", &data.display().to_string());
    stage.setup = setup.env("SLUICEGATE__INBOX__ALLOW_VOLATILE", "true").env("SLUICEGATE__INBOX__MIN_FREE", "8 MiB");
    stage.inbox = data.join("inbox.db");
    let free = |file: PathBuf| std::fs::remove_file(file).expect("a file of ours");
    inbox_away(door, "F15", &mut stage, || disk.fill(0), free).await;
}

/// Broker and inbox are away, the latter as `take` does it, until `give` undoes that. Nothing is accepted meanwhile; senders hear so
/// in time, or wait; everything goes on afterwards.
pub async fn inbox_away<T>(door: Door, row: &str, stage: &mut Stage, take: impl FnOnce() -> T, give: impl FnOnce(T)) {
    let gate = stage.setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed("both away"), 300).await;
    stage.acked(300).await;
    stage.ledger.broken("both away");
    let taken = take();
    stage.kafka.kill_9();
    // What was on its way then is answered by now.
    let still = async || {
        let before = stage.ledger.acked();
        tokio::time::sleep(Duration::from_secs(1)).await;
        (stage.ledger.acked() == before).then_some(before)
    };
    let acked = eventually("nothing is accepted any more", DEADLINE, still).await;
    let memory = resident_kib(&gate);
    tokio::time::sleep(Duration::from_secs(8)).await; // The fault's own length.
    assert_eq!(stage.ledger.acked(), acked, "nothing is accepted");
    let grown = resident_kib(&gate).saturating_sub(memory) >> 10;
    give(taken);
    stage.kafka.restart().await;
    stage.trusted(&gate).await;
    stage.acked(acked + 300).await;
    let told = senders.end().await;
    stage.replayed(&gate).await;
    stage.ledger.healed("both away");
    judged(stage, &gate, door, row, &told, &format!("{grown} MiB more; ")).await;
    assert!(told.errors.is_empty() && grown <= 64, "{grown} MiB more, {:?}", told.errors.first());
    assert_eq!(door == Door::Otlp, !told.refused.is_empty(), "{:?}", told.refused.first());
}

/// F20. Killed at random moments, with a broker that is well or frozen; what it had accepted is found.
pub async fn gate_killed(door: Door, stage: &mut Stage) {
    let seed = seed("gate killed");
    let mut dice = Dice::new(seed);
    let mut gate = stage.setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed, 500).await;
    let kills = rounds(6, 30);
    for round in 0..kills {
        let frozen = round % 3 == 1;
        if frozen {
            stage.ledger.broken("broker frozen");
            stage.kafka.stop();
        }
        stage.acked(stage.ledger.acked() + 1 + usize::try_from(dice.below(400)).expect("small")).await;
        stage.ledger.broken("gate killed");
        gate.kill_9();
        if frozen {
            stage.kafka.cont();
        }
        gate = stage.setup.start().await;
        stage.acked(stage.ledger.acked() + 10).await;
        // With Firestore a kill is over when all is replayed: a call on its way then may have come behind what was sent next.
        if stage.firestore.is_none() {
            stage.ledger.healed("gate killed");
        } else if round % 2 == 1 {
            stage.replayed(&gate).await;
            stage.ledger.healed("gate killed");
        }
        if frozen {
            stage.ledger.healed("broker frozen");
        }
    }
    stage.ledger.broken("what the last kill has left");
    let told = senders.end().await;
    stage.replayed(&gate).await;
    stage.ledger.healed("what the last kill has left");
    if stage.firestore.is_some() && kills % 2 == 1 {
        stage.ledger.healed("gate killed");
    }
    judged(stage, &gate, door, "F20", &told, &format!("{kills} kills; ")).await;
    if door != Door::Otlp {
        assert_eq!(told.errors.len(), 0, "a producer tries again: {:?}", told.errors.first());
    }
}

/// F21. Asked to stop under load, and started again; no request that was sent goes unanswered.
pub async fn gate_stopped(door: Door, stage: &mut Stage) {
    let seed = seed("gate stopped");
    let setup = stage.setup.clone().env("SLUICEGATE__DRAIN__LIMIT", "60s");
    let mut gate = setup.start().await;
    let senders = Senders::start(door, &gate, &stage.ledger, seed, 400).await;
    let stops = rounds(4, 10);
    let mut slowest = Took::default();
    for round in 0..stops {
        let frozen = round % 2 == 1;
        stage.acked(stage.ledger.acked() + 200).await;
        stage.ledger.broken("gate stopped");
        if frozen {
            stage.kafka.stop();
        }
        gate.sigterm();
        let watch = Stopwatch::start();
        let status = gate.wait(DEADLINE).await;
        let took = watch.read();
        assert_eq!(status.code(), Some(0));
        assert!(took.own() <= STOP, "{took}");
        slowest = slowest.max(took);
        if frozen {
            stage.kafka.cont();
        }
        gate = setup.start().await;
        let began = Instant::now();
        stage.acked(stage.ledger.acked() + 50).await;
        eprintln!("gate stopped, round {round}: after {took}, 50 more accepted {:?} after it was ready again", began.elapsed());
        stage.replayed(&gate).await;
        stage.ledger.healed("gate stopped");
    }
    let told = senders.end().await;
    judged(stage, &gate, door, "F21", &told, &format!("{stops} stops, the slowest {slowest}; ")).await;
    assert_eq!(told.errors.len(), 0, "what was sent is answered: {:?}", told.errors.first());
}

/// Nothing is broken: every event is there once.
pub async fn well(door: Door, stage: &mut Stage) {
    let gate = stage.setup.clone().patient().start().await;
    stage.ledger.patient();
    let senders = Senders::start(door, &gate, &stage.ledger, seed("well"), 1_000).await;
    stage.acked(3_000).await;
    let told = senders.end().await;
    judged(stage, &gate, door, "no fault", &told, "").await;
    assert_eq!((told.refused.len(), told.errors.len()), (0, 0), "{told:?}");
}
