//! Faults of the store itself: a torn log, a power cut, a disk that becomes read-only, and a store of the release before.
//!
//! What always holds: what was acknowledged before the moment in question is there after it; what was being written then is
//! there whole or not at all.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::support::gate::{Gate, Setup};
use crate::support::image::Image;
use crate::support::kafka::{Kafka, Options};
use crate::support::{DEADLINE, checkout, eventually, not_run};

use super::disk::{assert_unavailable, latched, post};
use super::ledger::Ledger;
use super::load::{Dice, Load, seed};
use super::{REPLAYED, Stage, create_topics, rounds, seen, status, token};

/// A store that a gate of an earlier release has left: see `what_the_fixture_holds`.
const FIXTURE: &str = "tests/faults/fixtures/inbox-v1.db";

/// The numbers of the events in a store that lies there, in order.
fn numbers_in(database: &Path) -> Vec<u64> {
    let connection = Connection::open(database).expect("a store of ours");
    let mut statement = connection.prepare("SELECT body FROM rows ORDER BY arrival").expect("its tables are known");
    let bodies = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    let number = |body: Vec<u8>| {
        let end = body.iter().position(|byte| *byte == b'\n').expect("a line before the value");
        let value: serde_json::Value = serde_json::from_slice(&body[end + 1..]).expect("the value as it was sent");
        value["number"].as_u64().expect("its number")
    };
    bodies.map(|body| number(body.expect("a body"))).collect()
}

fn owned_alone(dir: &Path) {
    std::fs::create_dir_all(dir).expect("a folder of ours");
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).expect("ours");
}

/// Stores events one after the other and kills the gate; gives how long the log was after each acknowledgement, and none where
/// the store has tidied up meanwhile, so that its length says nothing.
async fn filled_and_killed(stage: &Stage, events: u64, dice: &mut Dice) -> Option<Vec<u64>> {
    let mut gate = stage.setup.start().await;
    let token = token(&gate).await;
    let mut lengths = vec![0];
    for number in 0..events {
        let size = usize::try_from(10 + dice.below(9_000)).expect("small");
        assert_eq!(post(&gate, &token, &stage.ledger, "alpha", number, size).await.status, 202);
        lengths.push(std::fs::metadata(stage.inbox.with_extension("db-wal")).expect("the log").len());
    }
    gate.kill_9();
    lengths.windows(2).all(|pair| pair[0] < pair[1]).then_some(lengths)
}

/// Scenario: a gate is killed; its log is cut at random places, and behind some of the cuts is what a disk may have there
/// instead; a gate opens each, and in the end the whole one is replayed.
/// Guarantees: each opens; of what was acknowledged, all that lies before the cut is there, and nothing that is not whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_log_keeps_every_event_that_lies_before_the_tear() {
    const EVENTS: u64 = 60;
    let seed = seed("torn log");
    let mut dice = Dice::new(seed);
    let (mut stage, lengths) = loop {
        let mut stage = Stage::with(Kafka::prepare(Options::default()));
        stage.ledger.broken("no broker");
        stage.setup = stage.setup.patient();
        if let Some(lengths) = filled_and_killed(&stage, EVENTS, &mut dice).await {
            break (stage, lengths);
        }
    };
    let (whole, log) = (stage.inbox.clone(), stage.inbox.with_extension("db-wal"));
    let length = *lengths.last().expect("some");
    let torn = tempfile::tempdir().expect("a folder");
    let mut kept = Vec::new();
    let cuts = rounds(10, 40);
    for round in 0..cuts {
        let dir = torn.path().join(round.to_string());
        owned_alone(&dir);
        let mut bytes = std::fs::read(&log).expect("the log");
        let cut = usize::try_from(dice.below(length)).expect("small");
        match round % 3 {
            0 => bytes.truncate(cut),
            1 => bytes[cut..].fill(0),
            _ => bytes[cut..].iter_mut().for_each(|byte| *byte = u8::try_from(dice.below(256)).expect("a byte")),
        }
        std::fs::copy(&whole, dir.join("inbox.db")).expect("files of ours");
        std::fs::write(dir.join("inbox.db-wal"), bytes).expect("files of ours");
        let setup = stage.setup.clone().without_env("REDPANDA_BROKERS").env("SLUICEGATE__INBOX__DIR", &dir.display().to_string());
        let mut gate = setup.start().await;
        let rows = status(&gate).await["inbox"]["rows"].as_u64().expect("a number");
        gate.sigterm();
        gate.wait(DEADLINE).await;
        let numbers = numbers_in(&dir.join("inbox.db"));
        assert_eq!(numbers, (0..rows).collect::<Vec<_>>(), "the first ones, each whole, none twice");
        let before = lengths.iter().filter(|length| **length <= cut as u64).count() as u64 - 1;
        assert!(rows >= before, "{rows} of {before} that lie before a cut at {cut} (round {round})");
        kept.push(format!("{rows}/{before}"));
    }
    // The whole one.
    stage.restart_broker().await;
    create_topics(&stage.kafka).await;
    let gate = stage.setup.start().await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen(
        "F18",
        &format!("{cuts} torn logs of {EVENTS} events, rows there/acknowledged before the tear: {}; whole: {verdict}", kept.join(" ")),
    );
    verdict.assert_clean();
    assert_eq!(verdict.acked as u64, EVENTS);
}

/// A stage whose inbox is on an image, and its broker dead.
async fn on_an_image(mib: u64) -> Option<(Stage, Image, Gate, String)> {
    let image = Image::make(mib)?;
    let mut stage = Stage::new().await;
    let data = image.path().join("data");
    stage.setup = stage.setup.env("SLUICEGATE__INBOX__DIR", &data.display().to_string()).env("SLUICEGATE__INBOX__MIN_FREE", "8 MiB");
    stage.inbox = data.join("inbox.db");
    let gate = stage.setup.start().await;
    let token = token(&gate).await;
    Some((stage, image, gate, token))
}

/// Scenario: under load without a broker, the power goes: what the disk has at that moment is copied; several times.
/// Guarantees: a gate opens each copy, and everything that was acknowledged before is in it.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_cut_every_acknowledged_event_is_on_the_disk() {
    let Some((mut stage, image, mut gate, token)) = on_an_image(96).await else { return not_run(1, "nobody may mount an image here") };
    let seed = seed("power cut");
    let mut dice = Dice::new(seed);
    stage.kill_broker();
    let mut load = Load::new(&stage.ledger, &token, 16, 20, seed).rate(500);
    let running = load.start(&gate, None);
    let copies = tempfile::tempdir().expect("a folder");
    let cuts = rounds(4, 12);
    let file = |cut: usize, kind: &str| copies.path().join(format!("{cut}.{kind}"));
    for cut in 0..cuts {
        stage.acked(stage.ledger.acked() + 50 + usize::try_from(dice.below(300)).expect("small")).await;
        stage.ledger.broken("power");
        gate.stop();
        // The answers that have left the gate are on their way to the log for a moment.
        stage.ledger.snapshot(&file(cut, "jsonl"));
        image.copy(&file(cut, "image"));
        gate.cont();
        stage.ledger.healed("power");
    }
    let tally = load.end(running).await;
    assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
    gate.kill_9();
    stage.restart_broker().await;
    let mut found = Vec::new();
    for cut in 0..cuts {
        let copy = Image::of(&file(cut, "image"));
        let data = copy.path().join("data");
        let setup = stage.setup.clone().without_env("REDPANDA_BROKERS").env("SLUICEGATE__INBOX__DIR", &data.display().to_string());
        let mut opened = setup.start().await;
        opened.sigterm();
        opened.wait(DEADLINE).await;
        let inbox = data.join("inbox.db").display().to_string();
        let where_to_look = ["--brokers", &stage.kafka.brokers(), "--topics", "alpha,beta,gamma,forbidden", "--inbox", &inbox];
        let verdict = Ledger::verdict_of(&file(cut, "jsonl"), &where_to_look).await;
        assert!(verdict.lost.is_empty() && verdict.mismatched.is_empty(), "cut {cut}: {verdict}\n{}", verdict.table());
        // Nothing but what was not answered yet is there besides.
        assert!(verdict.rows >= verdict.acked && verdict.strangers.len() <= verdict.rows - verdict.acked, "cut {cut}: {}", verdict.table());
        found.push(format!("{}/{}", verdict.rows, verdict.acked));
    }
    let gate = stage.setup.start().await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen("F19", &format!("{cuts} power cuts, rows there/acknowledged: {}; in the end {verdict}", found.join(" ")));
    verdict.assert_clean();
    drop(gate);
}

/// Scenario: without a broker, the file system under the inbox breaks and is read-only from then on; the broker comes back;
/// then the disk is repaired and the gate started again.
/// Guarantees: the inbox refuses with 503 and Retry-After; the broker's path goes on; everything acknowledged is there after
/// the restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_becomes_read_only_stops_the_inbox_alone_until_a_restart() {
    let Some((mut stage, image, mut gate, token)) = on_an_image(96).await else { return not_run(1, "nobody may mount an image here") };
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", 0, 100).await.status, 200);
    stage.kill_broker();
    for number in 1..40 {
        assert_eq!(post(&gate, &token, &stage.ledger, "alpha", number, 1_000).await.status, 202);
    }
    stage.ledger.broken("disk");
    if !image.break_down() {
        return not_run(1, "this kernel breaks no file system on demand");
    }
    let mut number = 40;
    let refuses = async |number: u64| {
        let answer = post(&gate, &token, &stage.ledger, "alpha", number, 1_000).await;
        if answer.status == 503 {
            assert_unavailable(&answer);
        }
        answer.status == 503
    };
    // What the kernel had taken already may still be stored.
    while !refuses(number).await {
        number += 1;
        assert!(number < 60, "a read-only disk stores nothing");
    }
    assert!(latched(&gate).await);
    stage.restart_broker().await;
    let numbers = std::sync::atomic::AtomicU64::new(number + 1);
    let through = async || {
        let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (post(&gate, &token, &stage.ledger, "gamma", number, 100).await.status == 200).then_some(())
    };
    eventually("the broker's path goes on", REPLAYED, through).await;
    gate.kill_9();
    assert!(image.repair(), "the file system can be mounted again");
    let gate = stage.setup.start().await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict_of(&["alpha", "gamma"]).await;
    seen("F16", &format!("read-only: {verdict}"));
    verdict.assert_clean();
    drop(gate);
}

/// The values of the fixture's events, by topic, and how many records its batch has.
fn what_the_fixture_holds() -> Vec<(&'static str, String)> {
    let event = |number: u64| ("alpha", format!(r#"{{"fixture":{number}}}"#));
    (0..6).map(event).chain((6..9).map(|number| ("beta", format!(r#"{{"fixture":{number}}}"#)))).collect()
}

/// Makes the fixture anew, when it is asked for: with the gate as it is now.
async fn make_fixture() {
    let setup = Setup::new().config(super::CONFIG);
    let mut gate = setup.start().await;
    let token = gate.token(&["--sub", super::SENDER, "--topics", "alpha,beta"]).await;
    for (number, (topic, value)) in what_the_fixture_holds().into_iter().enumerate() {
        let more = ["", r#""key":"k","#, r#""id":"mine-%","headers":{"odd":"ü"},"#][number % 3].replace('%', &number.to_string());
        let answer = gate.post(&format!("/v1/events/{topic}"), &token, format!(r#"{{{more}"data":{value}}}"#)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    gate.sigterm();
    gate.wait(DEADLINE).await;
    let database = setup.path("data/inbox.db");
    // One of them is aside, as a gate does it.
    let aside = "INSERT INTO poison (name, topic, partition, arrival, attempts, at, set_aside, reason, body)
                 SELECT name, topic, partition, arrival, 5, at, at, 'too_large', body FROM rows ORDER BY arrival DESC LIMIT 1;
                 DELETE FROM rows WHERE name IN (SELECT name FROM poison); PRAGMA wal_checkpoint(TRUNCATE); VACUUM;
                 PRAGMA wal_checkpoint(TRUNCATE);";
    Connection::open(&database).and_then(|connection| connection.execute_batch(aside)).expect("its tables are known");
    std::fs::create_dir_all(checkout("tests/faults/fixtures")).expect("the checkout can be written");
    std::fs::copy(database, checkout(FIXTURE)).expect("the checkout can be written");
}

/// Scenario: a gate is started on the store that a gate of the release before has left.
/// Guarantees: it opens, and every event is delivered as it was sent, what was aside stays there until a person says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_release_before_is_opened_and_replayed() {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        make_fixture().await;
    }
    let kafka = Kafka::start().await;
    create_topics(&kafka).await;
    let stage = Stage::with(kafka);
    owned_alone(&stage.setup.path("data"));
    let database: PathBuf = stage.setup.path("data/inbox.db");
    std::fs::copy(checkout(FIXTURE), &database).expect("the fixture is in the checkout");
    let mut gate = stage.setup.start().await;
    let replayed = async || (status(&gate).await["inbox"]["rows"] == 0).then_some(());
    eventually("the inbox is empty", REPLAYED, replayed).await;
    assert_eq!(status(&gate).await["inbox"]["poison"], 1);
    gate.sigterm();
    gate.wait(DEADLINE).await;
    let restored = stage.setup.run(&["inbox", "replay"]).await;
    assert_eq!(restored.status, 0, "{}{}", restored.stdout, restored.stderr);
    let mut found = Vec::new();
    for topic in ["alpha", "beta"] {
        for record in stage.kafka.consume_all(topic).await {
            assert_eq!(record.header("x-deml-source"), Some("events"));
            found.push((topic, String::from_utf8(record.value).expect("JSON")));
        }
    }
    found.sort();
    let mut held = what_the_fixture_holds();
    held.sort();
    assert_eq!(found, held);
    seen("F31", &format!("the store of the release before: {} events delivered, one of them from aside", found.len()));
}
