//! The real parts that tests are made with.
//!
//! What always holds: a part that was started is ended when its value is dropped; a part that cannot be had makes the
//! test fail or say "NOT RUN", never pass.
#![allow(dead_code)] // A toolbox: not every tool is in use at every time.

pub mod batches;
pub mod callable;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod fault;
pub mod faulty_firestore;
pub mod firestore;
pub mod firestore_caller;
pub mod gate;
pub mod group;
pub mod image;
pub mod issuer;
pub mod kafka;
pub mod kafka_clients;
pub mod kafka_read;
pub mod kafka_records;
pub mod link;
pub mod narrow;
pub mod otlp_clients;
pub mod platform_reader;
pub mod probe;
pub mod process;
pub mod redis;
pub mod scripted_broker;
pub mod security;
pub mod stopwatch;
pub mod switch;
pub mod telemetry;
pub mod trunk;

pub mod verdict;
pub mod websocket;
pub mod wire;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the parts of a test may take to come up, each. Generous: the machine may be busy.
pub const START_DEADLINE: Duration = Duration::from_secs(120);

/// How long anything may take that is only waited for, and has no bound that is promised to anybody. It costs nothing
/// where all is well; a promise about time is held against a `Stopwatch`.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A path below the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Public test data, where this machine has it: `SLUICEGATE_VECTORS`, else beside the checkout.
pub fn vectors(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SLUICEGATE_VECTORS").map_or_else(|| checkout("../shared/vectors"), PathBuf::from);
    Some(root.join(folder)).filter(|path| path.is_dir())
}

/// Says that `tests` checks could not be made on this machine, and why. `tests/run` shows it and does not count them as passed.
pub fn not_run(tests: usize, why: &str) {
    eprintln!("NOT RUN {tests}: {why}");
    if let Some(path) = std::env::var_os("SLUICEGATE_NOT_RUN") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of tests/run can be written");
        writeln!(file, "{tests} {why}").expect("the file of tests/run can be written");
    }
}

/// The long form of a test (20 rounds for 5) was asked for: `tests/run --full`.
pub fn full() -> bool {
    std::env::var_os("SLUICEGATE_FULL").is_some()
}

/// Asks again and again until there is an answer. Fails the test with `what` after `deadline`.
pub async fn eventually<T, F>(what: &str, deadline: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: a client that knocks at a
/// stopped broker can then never be connected to itself. No two tests of one run get the same.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..12_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (std::process::id().wrapping_mul(37).wrapping_add(step)) % 12_000;
        let port = u16::try_from(port).expect("20000 to 31999");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000 on loopback");
}
