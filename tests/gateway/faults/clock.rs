//! Faults of the clock: the gate's own wall clock is set forward and back an hour, while the steady one goes on.
//!
//! What always holds: senders' clocks are right; what the gate promises about time, it promises by the steady clock.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::not_run;

use super::load::{Load, Tally, seed};
use super::{SENDER, SLOWEST_ANSWER, Stage, TOPICS, seen, token};

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// What libfaketime does not know, made by the compiler that has made librdkafka.
fn waits(stage: &Stage) -> String {
    let (source, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/faults/waits.c"), stage.setup.path("waits.so"));
    let made = std::process::Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(made.is_ok_and(|status| status.success()), "cc makes {source}");
    library.display().to_string()
}

/// Scenario: under load the clock goes an hour forward, then two back, then right again, each time with the broker frozen
/// shortly before, so that rows are held by the time that was.
/// Guarantees: no answer is late, no id is there twice, nothing is lost; what was held is delivered soon after the broker is
/// back, and not when an hour is over. (librdkafka's own threads then wait for the hour; they are replaced.)
#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_an_hour_moves_no_deadline_and_holds_no_row() {
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).is_file()) else { return not_run(1, "no libfaketime") };
    let mut stage = Stage::new().await;
    stage.deadline = SLOWEST_ANSWER;
    let clock = stage.setup.path("clock");
    let set = |to: &str| {
        // One rename: nobody reads half of it.
        let next = clock.with_extension("new");
        std::fs::write(&next, to).and_then(|()| std::fs::rename(&next, &clock)).expect("a file of ours");
    };
    set("+0");
    let plain = stage.setup.clone();
    let libraries = format!("{}:{library}", waits(&stage));
    let setup = stage.setup.clone().env("LD_PRELOAD", &libraries).env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string());
    stage.setup = setup.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let gate = stage.setup.start().await;
    let _ = token(&gate).await;
    // A token that was signed two hours ago and holds for a day: the jumps are not to be about tokens.
    let early = plain.under(&["faketime", "-f", "-2h"]);
    let topics = TOPICS.join(",");
    let minted = early.run(&["token", "--sub", SENDER, "--topics", &topics, "--ttl", "24h"]).await;
    assert_eq!(minted.status, 0, "{}{}", minted.stdout, minted.stderr);
    let token = minted.stdout.trim().lines().last().expect("a token").to_owned();
    let mut load = Load::new(&stage.ledger, &token, 16, 20, seed("clock")).rate(400).beside("F22", true);
    let (mut delivered, mut tally) = (Vec::new(), Tally::default());
    for to in ["+3600", "-3600", "+0"] {
        let running = load.start(&gate, None);
        stage.acked(stage.ledger.acked() + 300).await;
        stage.ledger.broken("broker frozen, clock set");
        stage.kafka.stop();
        let by_inbox = Instant::now();
        let first = async || stage.ledger.first_inbox_answer(by_inbox);
        crate::support::eventually("the inbox answers", crate::support::DEADLINE, first).await;
        set(to);
        tokio::time::sleep(Duration::from_millis(1_500)).await; // The fault's own length.
        stage.kafka.cont();
        let thawed = Instant::now();
        stage.trusted(&gate).await;
        tally.add(load.end(running).await);
        stage.replayed(&gate).await;
        delivered.push(thawed.elapsed());
        stage.ledger.healed("broker frozen, clock set");
    }
    let verdict = stage.verdict().await;
    seen("F22", &format!("+1 h, -1 h, right: inbox empty {delivered:?} after each thaw, slowest answer {}; {verdict}", tally.slowest));
    verdict.assert_clean();
    assert_eq!((tally.errors.len(), tally.refused.len(), verdict.unknown), (0, 0, 0), "{tally:?}");
    assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{}", tally.slowest);
    assert!(verdict.by_inbox > 0, "{verdict}");
}
