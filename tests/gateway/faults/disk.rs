//! Faults of the disk under the inbox: a sync that fails, and no room.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::client::Answer;
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::stopwatch::Stopwatch;
use crate::support::{DEADLINE, eventually, not_run};

use super::ledger::Ledger;
use super::load::{Load, outcome, seed};
use super::log::{Attempt, Outcome};
use super::{SLOWEST_ANSWER, Stage, asked, attempt, seen, status, token};

/// How long both are away, in seconds, unless the whole matrix is asked for.
const BOTH_AWAY: u64 = 10;

/// What a gate may take more in that time: a few buffers of each connection, and nothing of what it refuses.
const MOST_GROWTH_MIB: u64 = 64;

const CALLS: &str = "fsync,fdatasync";

/// Sends one event of about `size` bytes and writes down what comes of it.
pub async fn post(gate: &Gate, token: &str, ledger: &Ledger, topic: &str, number: u64, size: usize) -> Answer {
    let value = format!(r#"{{"number":{number},"pad":"{}"}}"#, "x".repeat(size));
    let attempt = Attempt { key: Some("k".to_owned()), sequence: Some(number), ..attempt(topic) };
    let name = ledger.attempt(value.as_bytes(), attempt);
    let watch = Stopwatch::start();
    let answer = gate.post(&format!("/v1/events/{topic}"), token, format!(r#"{{"key":"k","data":{value}}}"#)).await;
    let body = answer.json();
    let took = watch.read();
    ledger.outcome(&name, outcome(body["results"].get(0).unwrap_or(&body)), took);
    answer
}

pub fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(matches!(outcome(&answer.json()), reject @ Outcome::Reject { .. } if !reject.is_final()), "{answer:?}");
}

fn wal(gate: &Gate) -> PathBuf {
    gate.setup.path("data/inbox.db-wal").canonicalize().expect("the inbox has its log")
}

pub async fn latched(gate: &Gate) -> bool {
    !status(gate).await["inbox"]["latched"].is_null()
}

/// Scenario: the broker is down, and rows are ready to be replayed; the sync of the inbox's log fails; the disk gets well,
/// the broker too; then the gate is started again.
/// Guarantees: what was not acknowledged got 503; the store takes nothing more until the restart, even with a disk that
/// is well again; its rows, which it cannot delete, are not sent; after the restart all of them are found.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_log_that_fails_latches_the_store_until_a_restart_and_loses_nothing() {
    if !Fault::possible() {
        return not_run(1, "no strace that may trace");
    }
    let mut stage = Stage::new().await;
    let mut gate = stage.setup.start().await;
    let token = token(&gate).await;
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", 0, 100).await.status, 200);
    stage.kill_broker();
    for number in 1..20 {
        assert_eq!(post(&gate, &token, &stage.ledger, "alpha", number, 100).await.status, 202);
    }
    gate.kill_9(); // Nobody holds the rows any more.
    let mut gate = stage.setup.start().await;
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", 20, 100).await.status, 202);

    stage.ledger.broken("disk");
    let mut fault = Fault::inject(gate.id(), CALLS, "error=EIO", Some(&wal(&gate)));
    assert_unavailable(&post(&gate, &token, &stage.ledger, "alpha", 21, 100).await);
    fault.wait_for_one();
    drop(fault);
    assert!(latched(&gate).await);
    for number in 22..26 {
        assert_unavailable(&post(&gate, &token, &stage.ledger, "alpha", number, 100).await);
    }
    stage.restart_broker().await;
    // The broker's own path goes on, for a partition that is owed nothing.
    let through = async || (post_unnumbered(&gate, &token).await == 200).then_some(());
    eventually("the broker takes events again", DEADLINE, through).await;
    // Time enough for a replay that cannot delete what it has sent to send its 20 rows again and again: 160 times, once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(latched(&gate).await);
    gate.sigterm();
    gate.wait(DEADLINE).await;
    let gate = stage.setup.start().await;
    stage.replayed(&gate).await;
    assert!(!latched(&gate).await);
    let verdict = stage.verdict_of(&["alpha"]).await;
    seen("F17", &format!("the log's sync: {verdict}"));
    verdict.assert_clean();
    // What was on its way when the disk failed arrives once more after the restart; nothing is sent again and again.
    assert!(verdict.duplicates <= 20, "rows of a store that cannot delete are not sent: {verdict}");
}

/// An event that is not in the ledger, to another topic.
async fn post_unnumbered(gate: &Gate, token: &str) -> u16 {
    gate.post("/v1/events/gamma", token, r#"{"data":"alive"}"#).await.status
}

/// Scenario: without a broker, the sync of the inbox's database fails, which happens when its log is brought in.
/// Guarantees: the store takes nothing more until a restart; after it everything acknowledged is there, and is replayed.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_database_that_fails_latches_the_store_until_a_restart_and_loses_nothing() {
    if !Fault::possible() {
        return not_run(1, "no strace that may trace");
    }
    let mut stage = Stage::new().await;
    let mut gate = stage.setup.start().await;
    let token = token(&gate).await;
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", 0, 100).await.status, 200);
    stage.kill_broker();
    let database = gate.setup.path("data/inbox.db").canonicalize().expect("the inbox has its file");
    stage.ledger.broken("disk");
    let mut fault = Fault::inject(gate.id(), CALLS, "error=EIO", Some(&database));
    let mut number = 1;
    // Until an idle store has brought its log in, which is when it syncs the database.
    while !latched(&gate).await {
        let answer = post(&gate, &token, &stage.ledger, "alpha", number, 100).await;
        assert!(matches!(answer.status, 202 | 503), "{answer:?}");
        number += 1;
        let failed = async || (fault.count() > 0 && latched(&gate).await).then_some(());
        eventually("the store is latched", DEADLINE, failed).await;
    }
    fault.wait_for_one();
    drop(fault);
    assert_unavailable(&post(&gate, &token, &stage.ledger, "alpha", number, 100).await);
    gate.kill_9();
    let gate = stage.setup.start().await;
    assert_eq!(post(&gate, &token, &stage.ledger, "alpha", number + 1, 100).await.status, 202);
    stage.restart_broker().await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict_of(&["alpha"]).await;
    seen("F17", &format!("the database's sync: {verdict}"));
    verdict.assert_clean();
}

/// A small file system of its own, unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this machine lets nobody mount.
    pub fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("sluicegate-disk-").tempdir().expect("a temporary folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What somebody else writes on the same disk, to its last byte but `free`.
    pub fn fill(&self, free: u64) -> PathBuf {
        let path = self.path().join("somebody-elses");
        let mut file = File::create(&path).expect("a file on a disk of ours");
        let chunk = vec![0; 64 << 10];
        let mut written = 0;
        while let Ok(n) = file.write(&chunk) {
            written += n as u64;
        }
        file.set_len(written.saturating_sub(free)).expect("a file can be cut");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").args(["-l"]).arg(self.path()).status());
    }
}

/// Scenario: the disk under the inbox is full: first by somebody else's file, with a healthy broker and with a dead one,
/// then by the inbox's own rows; later there is room again.
/// Guarantees: the inbox refuses with 503 and Retry-After; the broker's path goes on; the inbox resumes by itself, when
/// the file is gone and when replay has made room; nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_inbox_alone_and_only_until_there_is_room() {
    let Some(disk) = SmallDisk::mount("32m") else { return not_run(1, "nobody may mount a small disk here") };
    let mut stage = Stage::new().await;
    let data = disk.path().join("data");
    let setup = stage.setup.clone().env("SLUICEGATE__INBOX__DIR", &data.display().to_string());
    stage.setup = setup.env("SLUICEGATE__INBOX__ALLOW_VOLATILE", "true").env("SLUICEGATE__INBOX__MIN_FREE", "8 MiB");
    stage.inbox = data.join("inbox.db");
    let gate = stage.setup.start().await;
    let token = token(&gate).await;
    let (number, ledger) = (AtomicU64::new(0), Arc::clone(&stage.ledger));
    let next = async |size: usize| post(&gate, &token, &ledger, "alpha", number.fetch_add(1, Ordering::Relaxed), size).await;

    // Somebody else's file: the broker's path goes on, the inbox refuses when it is needed, and takes when the file is gone.
    let file = disk.fill(0);
    assert_eq!(next(1_000).await.status, 200);
    stage.kill_broker();
    assert_unavailable(&next(1_000).await);
    std::fs::remove_file(&file).expect("a file of ours");
    let taken = async || (next(1_000).await.status == 202).then_some(());
    eventually("the inbox takes events when the disk has room", DEADLINE, taken).await;

    // Its own rows.
    let mut stored = 0;
    let full = loop {
        let answer = next(100_000).await;
        if answer.status != 202 {
            break answer;
        }
        stored += 1;
        assert!(stored < 400, "32 MiB never are full");
    };
    assert_unavailable(&full);
    let rows = status(&gate).await["inbox"]["rows"].clone();
    stage.restart_broker().await;
    stage.replayed(&gate).await;
    assert_eq!(next(1_000).await.status, 200);
    stage.kill_broker();
    let taken = async || (next(1_000).await.status == 202).then_some(());
    eventually("the inbox takes events when replay has made room", DEADLINE, taken).await;

    // The last byte is gone while rows are delivered: they cannot be deleted yet, and are not sent again.
    let file = disk.fill(0);
    stage.restart_broker().await;
    let alive = async || (post_unnumbered(&gate, &token).await == 200).then_some(());
    eventually("the broker takes events again", DEADLINE, alive).await;
    std::fs::remove_file(&file).expect("a file of ours");
    stage.replayed(&gate).await;
    assert!(!latched(&gate).await, "no room is no fault of the disk");
    let verdict = stage.verdict_of(&["alpha"]).await;
    seen("F16", &format!("{rows} rows filled it; {verdict}"));
    verdict.assert_clean();
}

/// Scenario: broker and inbox are both away: the one killed, the other without room; senders go on for ten seconds; then
/// both come back.
/// Guarantees: every event is refused with 503 and Retry-After within the deadline, and none accepted; memory does not
/// grow with what is refused; with the faults gone events are accepted again, and nothing that was refused is found twice.
#[tokio::test(flavor = "multi_thread")]
async fn with_broker_and_inbox_away_everything_is_refused_in_time_and_memory_stays_flat() {
    let Some(disk) = SmallDisk::mount("32m") else { return not_run(1, "nobody may mount a small disk here") };
    let mut stage = Stage::new().await;
    stage.deadline = SLOWEST_ANSWER;
    let data = disk.path().join("data");
    let setup = stage.setup.clone().env("SLUICEGATE__INBOX__DIR", &data.display().to_string());
    stage.setup = setup.env("SLUICEGATE__INBOX__ALLOW_VOLATILE", "true").env("SLUICEGATE__INBOX__MIN_FREE", "8 MiB");
    stage.inbox = data.join("inbox.db");
    let gate = stage.setup.start().await;
    let token = token(&gate).await;
    let mut load = Load::new(&stage.ledger, &token, 16, 20, seed("both away")).rate(400);
    let mut running = load.start(&gate, Some(500));
    load.join(&mut running).await;

    let file = disk.fill(0);
    stage.kill_broker();
    assert_unavailable(&post(&gate, &token, &stage.ledger, "gamma", 0, 100).await);
    let (acked, before) = (stage.ledger.acked(), resident_kib(&gate));
    let running = load.start(&gate, None);
    let away = Duration::from_secs(asked("SLUICEGATE_BOTH_AWAY_SECONDS", BOTH_AWAY));
    tokio::time::sleep(away).await; // The fault's own length, which is waited for by nobody.
    let tally = load.end(running).await;
    let grown = resident_kib(&gate).saturating_sub(before) >> 10;
    assert_unavailable(&post(&gate, &token, &stage.ledger, "gamma", 1, 100).await);
    assert_eq!((stage.ledger.acked(), &tally.errors), (acked, &Vec::new()), "nothing is accepted, everything is answered");
    // Where a batch holds what can never be accepted beside what can, each event has its own refusal, and the status is 207.
    let other: Vec<_> = tally.refused.iter().filter(|refused| !refused.starts_with("503 ") && !refused.starts_with("207 ")).collect();
    assert!(tally.refused.len() > 100 && other.is_empty(), "{} refused, {other:?}", tally.refused.len());
    assert!(grown <= MOST_GROWTH_MIB, "{grown} MiB more");

    std::fs::remove_file(&file).expect("a file of ours");
    stage.restart_broker().await;
    let number = AtomicU64::new(2);
    let next = async || post(&gate, &token, &stage.ledger, "gamma", number.fetch_add(1, Ordering::Relaxed), 100).await;
    let alive = async || (next().await.status == 200).then_some(());
    eventually("the broker takes events again", DEADLINE, alive).await;
    let mut running = load.start(&gate, Some(500));
    load.join(&mut running).await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen(
        "F15",
        &format!("{away:?} without both: {} requests refused, slowest {}, {grown} MiB more; {verdict}", tally.refused.len(), tally.slowest),
    );
    verdict.assert_clean();
}

/// Scenario: without a broker, each sync of the inbox's log takes five seconds, and senders go on.
/// Guarantees: what is not stored in time is refused with 503 and Retry-After, in time; the queue is bounded, and so is memory;
/// with a quick disk the inbox takes events at once; nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_is_refused_for_in_time_and_fills_no_memory() {
    if !Fault::possible() {
        return not_run(1, "no strace that may trace");
    }
    let mut stage = Stage::new().await;
    stage.deadline = SLOWEST_ANSWER;
    let gate = stage.setup.start().await;
    let token = token(&gate).await;
    stage.kill_broker();
    assert_eq!(post(&gate, &token, &stage.ledger, "gamma", 0, 100).await.status, 202);
    let before = resident_kib(&gate);
    stage.ledger.broken("disk");
    let fault = Fault::inject(gate.id(), CALLS, "delay_enter=5000000", Some(&wal(&gate)));
    let mut load = Load::new(&stage.ledger, &token, 16, 20, seed("slow disk")).rate(400).beside("F11", true);
    let running = load.start(&gate, None);
    tokio::time::sleep(Duration::from_secs(12)).await; // The fault's own length, which is waited for by nobody.
    let tally = load.end(running).await;
    let grown = resident_kib(&gate).saturating_sub(before) >> 10;
    assert_unavailable(&post(&gate, &token, &stage.ledger, "gamma", 1, 100).await);
    drop(fault);
    let number = AtomicU64::new(2);
    let next = async || post(&gate, &token, &stage.ledger, "gamma", number.fetch_add(1, Ordering::Relaxed), 100).await;
    let taken = async || (next().await.status == 202).then_some(());
    eventually("the inbox takes events at once", DEADLINE, taken).await;
    stage.restart_broker().await;
    stage.replayed(&gate).await;
    stage.ledger.healed("disk");
    let verdict = stage.verdict().await;
    let (refused, slowest) = (tally.refused.len(), tally.slowest);
    seen("F11", &format!("5 s for a sync: {refused} requests refused, slowest {slowest}, {grown} MiB more; {verdict}"));
    verdict.assert_clean();
    let other: Vec<_> = tally.refused.iter().filter(|refused| !refused.starts_with("503 ") && !refused.starts_with("207 ")).collect();
    assert!(tally.errors.is_empty() && other.is_empty() && refused > 0, "{refused} refused, {other:?} {:?}", tally.errors);
    assert!(grown <= MOST_GROWTH_MIB, "{grown} MiB more");
}

/// How much memory a gate has, in KiB.
pub fn resident_kib(gate: &Gate) -> u64 {
    memory_kib(gate, "VmRSS:")
}

/// The same by what the system counts: `VmRSS:` what it has, `VmPeak:` the most that it has ever asked for.
pub fn memory_kib(gate: &Gate, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.id())).expect("the gate runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("every process has some");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
