//! Single packets lost on the way to the broker, in both directions.
//!
//! What always holds: gate, broker, senders and checker are in a network namespace of their own, whose loopback loses what a rule
//! of nftables says and nothing else; the machine's own network has no such rule. So the test starts itself once more in there.

use std::process::Command;
use std::time::Duration;

use crate::support::not_run;

use super::load::{Load, p99, seed};
use super::{SLOWEST_ANSWER, Stage, seen, token};

/// Set in the namespace.
const INSIDE: &str = "SLUICEGATE_IN_A_NETWORK_OF_ITS_OWN";

/// Of a hundred packets so many are lost, and for how long.
const PHASES: [(u32, Duration); 3] = [(1, Duration::from_secs(8)), (5, Duration::from_secs(8)), (30, Duration::from_secs(6))];

/// Loses packets to and from a port, until it is dropped.
struct Loss;

impl Loss {
    fn of(port: &str, percent: u32) -> Self {
        let lost = format!("numgen random mod 100 < {percent} drop");
        let rules = format!(
            "table inet loss {{ chain on_the_way {{ type filter hook input priority 0; tcp dport {port} {lost}; tcp sport {port} {lost}; }}; }}"
        );
        assert!(nft(&[&rules]), "a rule of our own namespace");
        Self
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        nft(&["delete table inet loss"]);
    }
}

fn nft(words: &[&str]) -> bool {
    Command::new("nft").args(words).status().is_ok_and(|status| status.success())
}

/// Whether a namespace can be made that loses packets.
fn possible() -> bool {
    let script = "ip link set lo up && nft 'table inet probe { chain c { type filter hook input priority 0; tcp dport 1 numgen random mod 100 < 1 drop; }; }'";
    Command::new("unshare").args(["--net", "sh", "-c", script]).output().is_ok_and(|output| output.status.success())
}

/// Scenario: under load a packet in a hundred is lost each way, then one in twenty, then nearly every third.
/// Guarantees: no request fails or is late; nothing is lost; when the way is well again it is used.
#[test]
fn packets_that_are_lost_on_the_way_delay_and_lose_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().expect("a runtime").block_on(under_loss());
    }
    if !possible() {
        return not_run(1, "no network namespace with nftables: this needs root, and `apt-get install nftables iproute2 util-linux`");
    }
    let myself = std::env::current_exe().expect("a test");
    let name = "faults::loss::packets_that_are_lost_on_the_way_delay_and_lose_nothing";
    let again = format!("ip link set lo up && exec '{}' {name} --exact --nocapture", myself.display());
    let ended = Command::new("unshare").args(["--net", "sh", "-c", &again]).env(INSIDE, "1").output().expect("unshare runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}\n{said}", String::from_utf8_lossy(&ended.stdout));
    said.lines().filter(|line| line.starts_with("F28")).for_each(|line| eprintln!("{line}"));
}

async fn under_loss() {
    let mut stage = Stage::new().await;
    stage.deadline = SLOWEST_ANSWER;
    let gate = stage.setup.start().await;
    let port = stage.kafka.brokers().rsplit(':').next().expect("a port").to_owned();
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 16, 20, seed("loss")).rate(400).beside("F28", true);
    let mut told = Vec::new();
    for (percent, length) in PHASES {
        let running = load.start(&gate, None);
        stage.ledger.broken("packets");
        let loss = Loss::of(&port, percent);
        tokio::time::sleep(length).await; // The fault's own length.
        drop(loss);
        stage.trusted(&gate).await;
        let tally = load.end(running).await;
        stage.replayed(&gate).await;
        stage.ledger.healed("packets");
        assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{percent} of 100 packets: {tally:?}");
        assert!(tally.slowest.own() <= SLOWEST_ANSWER, "{percent} of 100 packets: {}", tally.slowest);
        told.push(format!("{percent} of 100 packets: slowest answer {}, p99 {:?}", tally.slowest, p99(tally.times)));
    }
    let verdict = stage.verdict().await;
    seen("F28", &format!("{}; {verdict}", told.join("; ")));
    verdict.assert_clean();
    assert_eq!(verdict.unknown, 0, "{verdict}");
}
