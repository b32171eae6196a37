//! Too little of what a machine has: memory, descriptors, time on a processor.
//!
//! What always holds: the gate alone is short of it; broker, senders and checker are not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::gate::Gate;
use crate::support::group::Group;
use crate::support::{DEADLINE, eventually, not_run};

use super::disk::{post, resident_kib};
use super::load::{Load, p99, seed};
use super::{REPLAYED, Stage, asked, seen, token};

/// What the gate may have in all, and what of it requests may take.
const MEMORY: u64 = 192 << 20;
const IN_FLIGHT: &str = "24 MiB";

/// Events of a hundred kilobytes in one request, and who sends them at once.
const LARGE: usize = 100_000;
const LARGE_SENDERS: u64 = 48;

/// Sends large requests until it is stopped by its time; counts what they are answered.
async fn press(gate: &Gate, token: &str, sender: u64, length: Duration) -> (u64, u64, Vec<String>) {
    let (mut taken, mut shed, mut other) = (0, 0, Vec::new());
    let until = std::time::Instant::now() + length;
    let pad = "x".repeat(LARGE);
    let mut number = 0;
    while std::time::Instant::now() < until {
        let events: Vec<_> =
            (0..9).map(|n| format!(r#"{{"topic":"beta","data":{{"s":{sender},"n":{number},"e":{n},"pad":"{pad}"}}}}"#)).collect();
        number += 1;
        let headers = [("authorization", format!("Bearer {token}")), ("content-type", "application/json".to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        match gate.client.send(http::Method::POST, &gate.url("/v1/events"), &headers, format!("[{}]", events.join(","))).await {
            Ok(answer) if matches!(answer.status, 200 | 202 | 207) => taken += 1,
            Ok(answer) if matches!(answer.status, 429 | 503) => shed += 1,
            Ok(answer) => other.push(format!("{}: {}", answer.status, answer.text().chars().take(200).collect::<String>())),
            Err(error) => other.push(error),
        }
    }
    (taken, shed, other)
}

/// Scenario: a gate in a group with 192 MiB, its broker frozen, and more large requests at once than it may hold, beside the
/// usual load.
/// Guarantees: it sheds before the limit and is not killed; what it accepted is there in the end.
#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_short_is_shed_before_and_never_taken_from_what_was_accepted() {
    let Some(group) = Group::of_memory(MEMORY) else { return not_run(1, "nobody may make a control group here") };
    let mut stage = Stage::new().await;
    let plain = stage.setup.clone();
    stage.setup = stage.setup.env("SLUICEGATE__LIMITS__IN_FLIGHT", IN_FLIGHT).under(&group.starter());
    let gate = stage.setup.start().await;
    let token = {
        let setup = plain.clone();
        let minted = setup.run(&["token", "--sub", super::SENDER, "--topics", &super::TOPICS.join(",")]).await;
        minted.stdout.trim().lines().last().expect("a token").to_owned()
    };
    let mut load = Load::new(&stage.ledger, &token, 8, 10, seed("memory")).rate(200);
    stage.ledger.broken("memory");
    let running = load.start(&gate, None);
    stage.acked(200).await;
    stage.kafka.stop();
    let length = Duration::from_secs(asked("SLUICEGATE_PRESSURE_SECONDS", 8));
    let mut pressed = Vec::new();
    let pressing = (0..LARGE_SENDERS).map(|sender| press(&gate, &token, sender, length));
    for one in futures_of(pressing).await {
        pressed.push(one);
    }
    stage.kafka.cont();
    let peak = group.number(&["memory.max_usage_in_bytes", "memory.peak"]).unwrap_or(0) >> 20;
    let resident = resident_kib(&gate) >> 10;
    let tally = load.end(running).await;
    let (taken, shed) = pressed.iter().fold((0, 0), |(taken, shed), one| (taken + one.0, shed + one.1));
    let other: Vec<_> = pressed.iter().flat_map(|one| &one.2).collect();
    stage.replayed(&gate).await;
    stage.ledger.healed("memory");
    let verdict = stage.verdict_of(&["alpha", "gamma", "forbidden"]).await;
    seen(
        "F25",
        &format!(
            "192 MiB: {taken} requests of 0.9 MB taken, {shed} shed, {} otherwise; peak {peak} MiB with pages of files, {resident} MiB resident; of the usual load {} refused, slowest {}",
            other.len(),
            tally.refused.len(),
            tally.slowest
        ),
    );
    assert!(other.is_empty(), "{:?}", other.first());
    assert!(shed > 0, "more was sent than it may hold");
    assert_eq!(tally.errors.len(), 0, "{:?}", tally.errors.first());
    let beta_apart = verdict.lost.iter().filter(|lost| !lost.contains("\"beta\"")).count();
    assert_eq!(beta_apart, 0, "{}", verdict.table());
    drop(gate);
    drop(group);
}

async fn futures_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures_util::future::join_all(all).await
}

/// Scenario: a gate with 128 descriptors; idle connections take all that it gives to connections; then the broker dies and
/// comes back.
/// Guarantees: who is connected is served; the inbox and the broker's connections have descriptors of their own; when the
/// idle ones are gone, others are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_are_taken_leave_broker_and_inbox_theirs_and_the_accept_loop_alive() {
    let mut stage = Stage::new().await;
    let plain = stage.setup.clone();
    stage.setup = stage.setup.env("SLUICEGATE__LISTENERS__HEADER_TIMEOUT", "60s").under(&["prlimit", "--nofile=128:128"]);
    let gate = stage.setup.start().await;
    let minted = plain.run(&["token", "--sub", super::SENDER, "--topics", &super::TOPICS.join(",")]).await;
    let token = minted.stdout.trim().lines().last().expect("a token").to_owned();
    let number = AtomicU64::new(0);
    let next = async || post(&gate, &token, &stage.ledger, "alpha", number.fetch_add(1, Ordering::Relaxed), 100).await.status;
    assert_eq!(next().await, 200);
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(gate.https).await);
    }
    assert_eq!(next().await, 200, "who is connected is served");
    stage.ledger.broken("broker");
    stage.kafka.stop();
    let inbox = async || (next().await == 202).then_some(());
    eventually("the inbox takes events", DEADLINE, inbox).await;
    stage.kafka.cont();
    let broker = async || (next().await == 200).then_some(());
    eventually("the broker takes events again", REPLAYED, broker).await;
    drop(idle);
    let fresh = crate::support::client::Client::trusting(gate.ca().as_deref());
    let headers = [("authorization", format!("Bearer {token}")), ("content-type", "application/json".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let accepted = async || fresh.send(http::Method::POST, &gate.url("/v1/events/gamma"), &headers, r#"{"data":"alive"}"#).await.ok();
    let answer = eventually("others are accepted again", DEADLINE, accepted).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    stage.replayed(&gate).await;
    stage.ledger.healed("broker");
    let verdict = stage.verdict_of(&["alpha"]).await;
    seen("F26", &format!("128 descriptors, 300 idle connections, a frozen broker: {verdict}"));
    verdict.assert_clean();
}

/// Scenario: a gate with a tenth of a processor, and more senders than it can serve.
/// Guarantees: every request is answered, as accepted or shed, by its deadline or not much later; what was accepted is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenth_of_a_processor_sheds_and_loses_nothing() {
    let Some(group) = Group::of_processor(10) else { return not_run(1, "nobody may make a control group here") };
    let mut stage = Stage::new().await;
    stage.setup = stage.setup.under(&group.starter());
    let gate = stage.setup.start().await;
    let token = token(&gate).await;
    let mut load = Load::new(&stage.ledger, &token, 16, 50, seed("a tenth of a processor")).beside("F27", true);
    stage.ledger.broken("processor");
    let running = load.start(&gate, None);
    tokio::time::sleep(Duration::from_secs(10)).await; // The fault's own length.
    let tally = load.end(running).await;
    stage.replayed(&gate).await;
    stage.ledger.healed("processor");
    let verdict = stage.verdict().await;
    let (answered, slowest, longest) = (tally.answered, tally.slowest, p99(tally.times.clone()));
    let shed: Vec<_> =
        tally.refused.iter().filter(|said| !said.starts_with("503") && !said.starts_with("429") && !said.starts_with("207")).collect();
    seen(
        "F27",
        &format!("{answered} requests in 10 s, p99 {longest:?}, slowest {slowest} (goal 3 s), {} shed; {verdict}", tally.refused.len()),
    );
    verdict.assert_clean();
    assert!(tally.errors.is_empty() && shed.is_empty(), "{:?} {shed:?}", tally.errors.first());
    assert!(slowest.whole <= Duration::from_secs(10), "{slowest}");
    drop(gate);
    drop(group);
}
