//! Faults of the gate's own process: killed at any moment, asked to stop under load, started twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::gate::Gate;
use crate::support::stopwatch::{Stopwatch, Took};
use crate::support::wire::Wire;
use crate::support::{DEADLINE, eventually};

use super::ledger::{Ledger, Name};
use super::load::{Dice, Load, Tally, is_nobody_there, outcome, seed};
use super::{Stage, attempt, rounds, seen, token};

/// What a stop may take, less what the machine was late by.
const STOP: Duration = Duration::from_secs(8);

/// Scenario: the gate is killed at random moments under load: with a healthy broker, with a frozen one (rows in the
/// inbox that the producer still holds), and while it replays; each time it starts again on the same folder.
/// Guarantees: every event that was accepted before is found afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_killed_at_any_moment_has_lost_nothing_that_it_accepted() {
    let stage = Stage::new().await;
    let seed = seed("gate killed");
    let mut dice = Dice::new(seed);
    let mut gate = stage.setup.start().await;
    let mut load = Load::new(&stage.ledger, &token(&gate).await, 64, 40, seed);
    let rounds = rounds(6, 30);
    for round in 0..rounds {
        // Healthy; frozen; replaying what the frozen round has left in the inbox.
        let frozen = round % 3 == 1;
        if frozen {
            stage.ledger.broken("broker frozen");
            stage.kafka.stop();
        }
        let running = load.start(&gate, None);
        let more = usize::try_from(1 + dice.below(2_000)).expect("small");
        stage.acked(stage.ledger.acked() + more).await;
        stage.ledger.broken("gate killed");
        gate.kill_9();
        let tally = load.end(running).await;
        assert_eq!(tally.refused.len(), 0, "{tally:?}");
        if frozen {
            stage.kafka.cont();
        }
        let started = Instant::now();
        gate = stage.setup.start().await;
        stage.ledger.healed("gate killed");
        if frozen {
            stage.ledger.healed("broker frozen");
        }
        eprintln!(
            "gate killed, round {round}: {} {more} more events, {} requests cut off, ready again after {:?}",
            if frozen { "broker frozen," } else { "broker healthy," },
            tally.errors.len(),
            started.elapsed()
        );
    }
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen("F20", &format!("{rounds} kills: {verdict}"));
    verdict.assert_clean();
}

/// Scenario: SIGTERM under load, with requests in flight and others whose body is still on its way; once with a healthy
/// broker, once with a frozen one.
/// Guarantees: every request whose head was sent is answered, the gate ends with 0 within 8 s, nothing accepted is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_asked_to_stop_answers_every_request_that_it_has() {
    let stage = Stage::new().await;
    let (mut sender, mut slowest) = (None, Took::default());
    let rounds = rounds(2, 10);
    for round in 0..rounds {
        let frozen = round % 2 == 1;
        // The limit of the drain is beyond what is allowed: what a stalled machine holds up is not given up, and still counts.
        let mut gate = stage.setup.clone().env("SLUICEGATE__DRAIN__LIMIT", "60s").start().await;
        let token = token(&gate).await;
        let load = sender.get_or_insert_with(|| Load::new(&stage.ledger, &token, 32, 20, seed("gate stopped")));
        let mut running = load.start(&gate, None);
        stage.acked(stage.ledger.acked() + 500).await;
        if frozen {
            stage.ledger.broken("broker frozen");
            stage.kafka.stop();
        }
        let mut slow = Vec::new();
        for n in 0..8 {
            slow.push(SlowRequest::begin(&gate, &token, &stage.ledger, &format!("slow-{round}-{n}")).await);
        }
        gate.sigterm();
        let watch = Stopwatch::start();
        eventually("the gate no longer accepts connections", DEADLINE, async || said(&gate, "Leaving").then_some(())).await;
        for request in slow {
            request.finish(&stage.ledger).await;
        }
        let tally: Tally = load.join(&mut running).await;
        let status = gate.wait(DEADLINE).await;
        let took = watch.read();
        eprintln!(
            "gate stopped, frozen broker {frozen}: {status} after {took}; {} requests, slowest {}, {} refused as the machine stalled",
            tally.answered, tally.slowest, tally.held_up
        );
        assert_eq!(status.code(), Some(0));
        assert!(took.own() <= STOP, "{took}");
        assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
        slowest = slowest.max(took);
        if frozen {
            stage.kafka.cont();
            stage.ledger.healed("broker frozen");
        }
    }
    let gate = stage.setup.start().await;
    stage.replayed(&gate).await;
    let verdict = stage.verdict().await;
    seen("F21", &format!("{rounds} stops, the slowest {slowest}, every request answered: {verdict}"));
    verdict.assert_clean();
    assert_eq!(verdict.unknown, 0, "every request is answered");
}

/// Scenario: two gates with an inbox each before one broker; one after the other is asked to stop under load and started
/// again, as in a rolling restart, while the other one serves; once with a frozen broker.
/// Guarantees: each stop is in time and answers every request; nothing that either accepted is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_two_gates_answers_every_request_and_loses_nothing() {
    let stage = Stage::new().await;
    let brokers = stage.kafka.brokers();
    let other = crate::support::gate::Setup::new().shipped().config(super::CONFIG).env("REDPANDA_BROKERS", &brokers);
    let setups = [&stage.setup, &other].map(|setup| setup.clone().env("SLUICEGATE__DRAIN__LIMIT", "60s"));
    let seed = seed("rolling restart");
    let (mut gates, mut loads, mut running) = (Vec::new(), Vec::new(), Vec::new());
    for (place, setup) in setups.iter().enumerate() {
        let gate = setup.start().await;
        let load = Load::new(&stage.ledger, &token(&gate).await, 16, 20, seed ^ place as u64);
        loads.push(load.numbered_from(place * 16).rate(300));
        running.push(Some(loads[place].start(&gate, None)));
        gates.push(gate);
    }
    let mut slowest = Took::default();
    let rounds = rounds(2, 10);
    for round in 0..2 * rounds {
        let place = round % 2;
        let frozen = round % 4 == 3;
        stage.acked(stage.ledger.acked() + 300).await;
        if frozen {
            stage.ledger.broken("broker frozen");
            stage.kafka.stop();
        }
        let watch = Stopwatch::start();
        gates[place].sigterm();
        let tally = loads[place].join(running[place].as_mut().expect("they send")).await;
        let status = gates[place].wait(DEADLINE).await;
        let took = watch.read();
        // A sender that was at rest when its connection was closed finds nobody there, and has sent nothing.
        let cut_off: Vec<_> = tally.errors.iter().filter(|error| !is_nobody_there(error)).collect();
        assert_eq!((status.code(), cut_off.len(), tally.refused.len()), (Some(0), 0, 0), "{cut_off:?} {:?}", tally.refused);
        assert!(took.own() <= STOP, "{took}");
        slowest = slowest.max(took);
        if frozen {
            stage.kafka.cont();
        }
        gates[place] = setups[place].start().await;
        running[place] = Some(loads[place].start(&gates[place], None));
        if frozen {
            stage.trusted(&gates[1 - place]).await;
            stage.ledger.healed("broker frozen");
        }
    }
    for (load, running) in loads.iter_mut().zip(running.into_iter().flatten()) {
        let tally = load.end(running).await;
        assert_eq!((tally.errors.len(), tally.refused.len()), (0, 0), "{tally:?}");
    }
    for gate in &gates {
        stage.replayed(gate).await;
    }
    let verdict = stage.verdict().await;
    seen("F31", &format!("{rounds} rolling restarts of two gates, the slowest stop {slowest}, every request answered: {verdict}"));
    verdict.assert_clean();
    assert_eq!(verdict.unknown, 0, "every request is answered");
}

/// Whether the gate has logged the end of a phase of its drain.
fn said(gate: &Gate, phase: &str) -> bool {
    gate.lines().iter().any(|line| line.contains("a phase of the drain is over") && line.contains(phase))
}

/// A request whose head is sent, and whose body is not.
struct SlowRequest {
    wire: Wire,
    rest: String,
    name: Name,
}

impl SlowRequest {
    async fn begin(gate: &Gate, token: &str, ledger: &Arc<Ledger>, value: &str) -> Self {
        let value = format!("\"{value}\"");
        let name = ledger.attempt(value.as_bytes(), attempt("alpha"));
        let body = format!(r#"{{"data":{value}}}"#);
        let (now, later) = body.split_at(5);
        let mut wire = Wire::connect(gate, "http/1.1").await;
        let head = format!(
            "POST /v1/events/alpha HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{now}",
            body.len()
        );
        wire.send(head).await;
        Self { wire, rest: later.to_owned(), name }
    }

    async fn finish(mut self, ledger: &Ledger) {
        self.wire.send(&self.rest).await;
        let answer = String::from_utf8_lossy(&self.wire.read_to_close().await).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "200" | "202"), "a request whose head was sent is answered: {answer:?}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        let body = answer.split_once("\r\n\r\n").expect("a whole head").1;
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        // How long it took is its own doing.
        ledger.outcome(&self.name, outcome(&body["results"][0]), Took::default());
    }
}

/// Scenario: a second gate is started on the folder of one that runs.
/// Guarantees: it ends with 2 and says so; the first one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_gate_on_the_same_folder_ends_with_2() {
    let setup = crate::support::gate::Setup::new();
    let gate = setup.start().await;
    let mut second = setup.spawn(&[]);
    let status = second.wait(DEADLINE).await;
    assert_eq!(status.code(), Some(2), "{:?}", second.lines());
    assert!(second.lines().iter().any(|line| line.contains("another gate uses the inbox")), "{:?}", second.lines());
    let token = gate.token(&["--sub", "sender"]).await;
    assert_eq!(gate.post("/v1/events/events", &token, r#"{"data":1}"#).await.status, 202);
}
