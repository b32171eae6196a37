//! Two gates before one collection.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::gate::{Gate, Setup};
use crate::support::kafka_read::Record;
use crate::support::{DEADLINE, eventually};

use super::stage::{LEASES, REPLAYED, Stage, send, status, store, with_firestore};

const ROUTES: &str = "[[routes]]\ntopic = \"events\"\n[[routes]]\ntopic = \"calm\"\n";

/// A lease that a test can sit out.
const LEASE: (&str, &str) = ("SLUICEGATE__INBOX__FIRESTORE__LEASE", "5s");

struct Two {
    stage: Stage,
    setups: [Setup; 2],
}

impl Two {
    async fn new(partitions: i32) -> Option<Self> {
        let stage = Stage::new(&[("events", partitions), ("calm", 1)], ROUTES).await?;
        let setup = |setup: Setup| setup.env(LEASE.0, LEASE.1);
        let setups = [setup(stage.setup.clone()), setup(stage.another(ROUTES))];
        Some(Self { stage, setups })
    }

    /// Both gates, each with a token that it takes.
    async fn start(&self) -> [(Gate, String); 2] {
        let one = async |setup: &Setup| {
            let gate = setup.start().await;
            let token = gate.token(&["--sub", "me"]).await;
            (gate, token)
        };
        let (first, second) = tokio::join!(one(&self.setups[0]), one(&self.setups[1]));
        [first, second]
    }
}

/// How often each number is there, and the numbers of a key in the order of their first copies.
fn copies(records: &[Record]) -> HashMap<u64, usize> {
    let mut copies = HashMap::new();
    records.iter().for_each(|record| *copies.entry(record.json().as_u64().expect("a number")).or_default() += 1);
    copies
}

fn firsts(records: &[Record], key: &str) -> Vec<u64> {
    let mut seen = Vec::new();
    for record in records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes())) {
        let n = record.json().as_u64().expect("a number");
        if !seen.contains(&n) {
            seen.push(n);
        }
    }
    seen
}

/// An event of the gate's is taken by the broker.
async fn by_broker(gate: &Gate, token: &str, topic: &str) {
    let taken = async || (send(gate, token, topic, "{\"key\":\"late\",\"data\":1000000}").await["tier"] == "broker").then_some(());
    eventually(&format!("{topic} is taken by the broker"), REPLAYED, taken).await;
}

/// Scenario: in an outage one sender's events reach now the one gate, now the other; then the broker is back.
/// Guarantees: every row is replayed once, by whichever gate it was stored, in the order in which they came; afterwards
/// both gates go by the broker at once.
#[tokio::test(flavor = "multi_thread")]
async fn gates_that_share_a_collection_replay_each_row_once_and_in_order() {
    let Some(mut two) = Two::new(3).await else { return };
    let gates = two.start().await;
    for (gate, token) in &gates {
        by_broker(gate, token, "calm").await;
    }
    two.stage.kafka.kill_9();
    for n in 0..200 {
        let (gate, token) = &gates[n % 3 % 2];
        store(gate, token, "events", &format!("{{\"key\":\"k{}\",\"data\":{n}}}", n % 7)).await;
    }
    let instances = two.stage.has_rows(200).await.into_iter().map(|row| row.instance).collect::<std::collections::HashSet<_>>();
    assert_eq!(instances.len(), 2, "{instances:?}");
    two.stage.kafka.restart().await;
    for (gate, token) in &gates {
        two.stage.replayed(gate).await;
        by_broker(gate, token, "events").await;
    }
    let records: Vec<_> =
        two.stage.kafka.consume_all("events").await.into_iter().filter(|record| record.key.as_deref() != Some(b"late")).collect();
    let copies = copies(&records);
    assert!(copies.len() == 200 && copies.values().all(|count| *count == 1), "{} of 200, {:?} copies", copies.len(), copies.values().max());
    for key in 0..7 {
        assert_eq!(firsts(&records, &format!("k{key}")), (0..200).filter(|n| n % 7 == key).collect::<Vec<_>>(), "k{key}");
    }
}

/// Scenario: of two gates one replays nothing by itself; it stores events in an outage; the broker is back, and the other
/// gate replays them.
/// Guarantees: the one that did not replay finds that its partitions are owed nothing, and goes by the broker.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_gate_of_one_that_did_not_replay_opens_when_another_has() {
    let Some(mut two) = Two::new(1).await else { return };
    two.setups[1] = two.setups[1].clone().env("SLUICEGATE__INBOX__FIRESTORE__REPLAY", "request");
    two.stage.kafka.kill_9();
    let gates = two.start().await;
    let (idle, token) = &gates[1];
    for n in 0..20 {
        store(idle, token, "events", &format!("{{\"key\":\"k\",\"data\":{n}}}")).await;
    }
    assert_eq!(status(idle).await["inbox"]["rows"], 20);
    two.stage.kafka.restart().await;
    two.stage.has_rows(0).await;
    by_broker(idle, token, "events").await;
    assert_eq!(status(idle).await["inbox"]["rows"], 0);
    let records = two.stage.kafka.consume_all("events").await;
    assert_eq!(firsts(&records, "k"), (0..20).collect::<Vec<_>>());
}

/// For so long a sender makes no pause at all.
const NO_PAUSE: Duration = Duration::from_secs(60);

/// Sends without a pause, ten events and one, until the broker takes five single ones in a row; gives how many were sent. Where two
/// senders, two gates, a broker and the emulator share too little of a machine for replay to keep up, they slow down after a minute.
async fn send_until_home(gate: &Gate, token: &str, key: &str) -> u64 {
    let (began, mut sent, mut home) = (Instant::now(), 0, 0);
    while home < 5 {
        assert!(began.elapsed() < 2 * REPLAYED, "{key} is not taken by the broker after {sent} events: {}", status(gate).await["inbox"]);
        let event = |n: u64| format!("{{\"key\":\"{key}\",\"data\":{n}}}");
        let ten: Vec<_> = (sent..sent + 10).map(event).collect();
        let answer = gate.post("/v1/events/events", token, format!("[{}]", ten.join(","))).await;
        assert!(matches!(answer.status, 200 | 202) && answer.json()["accepted"] == 10, "{}", answer.text());
        home = if send(gate, token, "events", &event(sent + 10)).await["tier"] == "broker" { home + 1 } else { 0 };
        sent += 11;
        let slower = began.elapsed().saturating_sub(NO_PAUSE) / 200;
        tokio::time::sleep(slower).await; // The load's own pace.
    }
    sent
}

/// Scenario: two gates before one partition store in an outage more than is waited for; the broker is back, and the senders of
/// neither make a pause.
/// Guarantees: both gates come home, the one too that does not replay the partition; each sender's events are there in its order.
#[tokio::test(flavor = "multi_thread")]
async fn gates_come_home_while_their_senders_make_no_pause() {
    let Some(mut two) = Two::new(1).await else { return };
    two.stage.kafka.kill_9();
    let gates = two.start().await;
    let both = async {
        let [one, other] = &gates;
        tokio::join!(send_until_home(&one.0, &one.1, "first"), send_until_home(&other.0, &other.1, "second"))
    };
    let rows = async || status(&gates[0].0).await["inbox"]["rows"].as_u64().filter(|rows| *rows > 1_200);
    let back = async {
        eventually("rows are stored", REPLAYED, rows).await;
        two.stage.kafka.restart().await;
        Instant::now()
    };
    let (sent, back) = tokio::join!(both, back);
    let (first, second, took) = (sent.0, sent.1, back.elapsed());
    for (gate, _) in &gates {
        two.stage.replayed(gate).await;
    }
    let records = two.stage.kafka.consume_all("events").await;
    eprintln!("{first} and {second} events, {} records; both home {took:?} after the broker's return", records.len());
    assert_eq!(firsts(&records, "first"), (0..first).collect::<Vec<_>>());
    assert_eq!(firsts(&records, "second"), (0..second).collect::<Vec<_>>());
}

/// Scenario: a gate has the lease of a partition and reads its rows, which takes Firestore longer than the lease lasts; meanwhile
/// it cannot be renewed, and another gate takes the partition over.
/// Guarantees: the rows that come late are not sent again by the first one: each is there once.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_when_their_lease_is_another_gates_are_not_sent() {
    let Some(mut two) = Two::new(1).await else { return };
    two.setups[1] = with_firestore(two.setups[1].clone(), &two.stage.firestore.address());
    // It waits five times as long for a query: more than a lease.
    let patient =
        two.setups[0].clone().env("SLUICEGATE__INBOX__FIRESTORE__CALL_TIMEOUT", "2s").env("SLUICEGATE__SINK__ANSWER_DEADLINE", "6s");
    let mut slow = patient.start().await;
    let token = slow.token(&["--sub", "me"]).await;
    by_broker(&slow, &token, "calm").await;
    two.stage.kafka.kill_9();
    // This one may still be delivered, and its row is held for that; those after it are not.
    store(&slow, &token, "calm", "{\"data\":1000000}").await;
    for n in 0..20 {
        store(&slow, &token, "events", &format!("{{\"key\":\"k\",\"data\":{n}}}")).await;
    }
    let leased = async |wanted: bool| {
        let leases = two.stage.firestore.documents(LEASES).await;
        (leases.iter().any(|lease| lease["fields"]["lane"]["stringValue"] == "events/0") == wanted).then_some(())
    };
    eventually("a gate whose broker is out of sight lets go", REPLAYED, async || leased(false).await).await;
    two.stage.faulty.answer_queries_late(Duration::from_secs(8));
    two.stage.kafka.restart().await;
    eventually("the partition is the first gate's", REPLAYED, async || leased(true).await).await;
    two.stage.faulty.ignore("BatchWrite");
    let other = two.setups[1].start().await;
    two.stage.has_rows(0).await;
    two.stage.faulty.heal();
    let answered = async || (two.stage.faulty.in_flight() == 0).then_some(());
    eventually("every late answer has come", REPLAYED, answered).await;
    two.stage.replayed(&slow).await;
    two.stage.replayed(&other).await;
    by_broker(&slow, &token, "events").await;
    slow.sigterm();
    slow.wait(DEADLINE).await;
    let records: Vec<_> =
        two.stage.kafka.consume_all("events").await.into_iter().filter(|record| record.key.as_deref() == Some(b"k")).collect();
    assert_eq!(copies(&records), (0..20).map(|n| (n, 1)).collect());
    assert_eq!(firsts(&records, "k"), (0..20).collect::<Vec<_>>());
}

/// Who holds a lease; with the names of all holders.
async fn holder(stage: &Stage) -> Option<String> {
    let leases = stage.firestore.documents(LEASES).await;
    leases.iter().find_map(|lease| lease["fields"]["holder"]["stringValue"].as_str().map(str::to_owned))
}

/// Scenario: of two gates one replays a partition, slowly, and is killed in the midst.
/// Guarantees: when its lease has run out the other goes on; every row of both is there, the first copies in order; copies
/// are of what was on its way, no more.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_holder_of_a_lease_is_killed_the_other_goes_on_after_the_lease() {
    const ROWS: u64 = 1_500;
    let Some(mut two) = Two::new(1).await else { return };
    two.stage.kafka.kill_9();
    let gates = two.start().await;
    for (n, (gate, token)) in (0..ROWS / 50).zip(gates.iter().cycle()) {
        let events: Vec<_> = (n * 50..(n + 1) * 50).map(|n| format!("{{\"key\":\"k{}\",\"data\":{n}}}", n % 5)).collect();
        let answer = gate.post("/v1/events/events", token, format!("[{}]", events.join(","))).await;
        assert_eq!((answer.status, &answer.json()["accepted"]), (202, &Value::from(50)), "{}", answer.text());
    }
    let rows = two.stage.has_rows(usize::try_from(ROWS).expect("small")).await;
    // The first row was stored by the first gate, for it came first.
    let first = rows[0].instance.clone();
    two.stage.faulty.delay(Duration::from_millis(100));
    two.stage.kafka.restart().await;
    let begun = async || {
        let left = two.stage.rows().await.len();
        let holder = holder(&two.stage).await?;
        (left < rows.len()).then_some((holder, left))
    };
    let (holder, left) = eventually("a gate replays", REPLAYED, begun).await;
    let [first_gate, second_gate] = gates;
    let ((mut killed, _), (other, token)) = if holder == first { (first_gate, second_gate) } else { (second_gate, first_gate) };
    killed.kill_9();
    let since = Instant::now();
    let went_on = async || (two.stage.rows().await.len() < left.saturating_sub(600)).then(|| since.elapsed());
    let went_on = if left > 600 { Some(eventually("the other goes on", REPLAYED, went_on).await) } else { None };
    two.stage.faulty.heal();
    two.stage.replayed(&other).await;
    by_broker(&other, &token, "events").await;
    let records: Vec<_> =
        two.stage.kafka.consume_all("events").await.into_iter().filter(|record| record.key.as_deref() != Some(b"late")).collect();
    let copies = copies(&records);
    assert_eq!(copies.len() as u64, ROWS, "every row is there");
    for key in 0..5 {
        assert_eq!(firsts(&records, &format!("k{key}")), (0..ROWS).filter(|n| n % 5 == key).collect::<Vec<_>>(), "k{key}");
    }
    let more = records.len() - copies.len();
    eprintln!("the holder was killed with {left} of {ROWS} rows left; the other went on after {went_on:?}; {more} copies");
    assert!(more <= 600, "{more} copies");
}
