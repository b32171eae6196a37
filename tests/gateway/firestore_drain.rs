//! What waits in Firestore is sent on: in order, by one instance at a time, to the end. The documents are made by hand, as
//! another gate has left them.

mod people;
mod several;

use serde_json::Value;
use sluicegate::inbox::firestore::client::{Client, Written};
use sluicegate::inbox::firestore::{Config, Timestamp, fs};

use super::support::firestore::{DATABASE, Firestore, PROJECT};
use super::support::gate::{Gate, Setup};
use super::support::kafka::Kafka;
use super::support::{DEADLINE, eventually};

const COLLECTION: &str = "sluicegate_inbox";
const LEASES: &str = "sluicegate_inbox_leases";
const REPLAY: &str = "/v1/admin/replay";

/// Rows by hand.
struct Rows<'a> {
    firestore: &'a Firestore,
    client: Client,
    made: u64,
}

/// One of them: what a test wants to be different is named.
#[derive(Default)]
struct Row<'a> {
    partition: i32,
    key: Option<&'a str>,
    value: String,
    aside: bool,
}

fn value(of: fs::value::ValueType) -> fs::Value {
    fs::Value { value_type: Some(of) }
}

fn text(of: &str) -> fs::Value {
    value(fs::value::ValueType::StringValue(of.to_owned()))
}

fn integer(of: i64) -> fs::Value {
    value(fs::value::ValueType::IntegerValue(of))
}

fn bytes(of: &str) -> fs::Value {
    value(fs::value::ValueType::BytesValue(of.to_owned().into()))
}

fn timestamp(seconds: i64) -> fs::Value {
    value(fs::value::ValueType::TimestampValue(Timestamp { seconds, nanos: 0 }))
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("behind 1970");
    i64::try_from(since.as_secs()).expect("a time")
}

impl<'a> Rows<'a> {
    fn of(firestore: &'a Firestore) -> Self {
        let config = Config {
            project: Some(PROJECT.to_owned()),
            database: DATABASE.to_owned(),
            emulator: Some(firestore.address()),
            call_timeout: sluicegate::units::Span::secs(10),
            ..Config::default()
        };
        Self { firestore, client: Client::new(&config).expect("settings without mistakes"), made: 0 }
    }

    /// Stores rows in their order, in lots.
    async fn store(&mut self, rows: Vec<Row<'_>>) {
        let writes: Vec<_> = rows.into_iter().map(|row| self.write(row)).collect();
        for some in writes.chunks(200) {
            self.put(some.to_vec()).await;
        }
    }

    /// Makes writes, which may be made twice: a busy machine's emulator takes its time.
    async fn put(&self, writes: Vec<fs::Write>) {
        eventually("the emulator takes it", DEADLINE, async || {
            let written = self.client.write(writes.clone()).await.ok()?;
            written.iter().all(|one| matches!(one, Written::Ok(_))).then_some(())
        })
        .await;
    }

    fn write(&mut self, row: Row<'_>) -> fs::Write {
        self.made += 1;
        let name = format!("{:040x}", u128::from(self.made) * 0x9e37_79b9_7f4a_7c15);
        let aside = if row.aside { "!/" } else { "" };
        let order = format!("{aside}events/{:010}/{:020}/{}", row.partition + 1, 1_000_000 + self.made, &name[..8]);
        let mut fields = vec![
            ("v", integer(1)),
            ("kind", text("event")),
            ("topic", text("events")),
            ("partition", integer(row.partition.into())),
            ("order", text(&order)),
            ("id", text(&format!("id-{}", self.made))),
            ("principal", text("dev:hand")),
            ("key", row.key.map_or(value(fs::value::ValueType::NullValue(0)), bytes)),
            ("headers", value(fs::value::ValueType::ArrayValue(fs::ArrayValue { values: Vec::new() }))),
            ("value", bytes(&row.value)),
            ("time", timestamp(now())),
            ("stored_at", timestamp(now())),
            ("not_before", integer(0)),
            ("maybe_delivered", value(fs::value::ValueType::BooleanValue(false))),
            ("attempts", integer(0)),
            ("instance", text("somebody else")),
        ];
        if row.aside {
            fields.push(("reason", text("too_large")));
        }
        self.document(COLLECTION, &name, fields)
    }

    fn document(&self, collection: &str, id: &str, fields: Vec<(&str, fs::Value)>) -> fs::Write {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let document = fs::Document { name: self.client.name(collection, id), fields, ..Default::default() };
        fs::Write { operation: Some(fs::write::Operation::Update(document)), ..Default::default() }
    }

    async fn left(&self) -> usize {
        self.firestore.documents(COLLECTION).await.len()
    }

    async fn are_gone(&self) {
        eventually("nothing is left in Firestore", DEADLINE, async || (self.left().await == 0).then_some(())).await;
    }
}

fn setup(firestore: &Firestore) -> Setup {
    Setup::new()
        .env("SLUICEGATE__INBOX__KIND", "firestore")
        .env("SLUICEGATE__INBOX__FIRESTORE__PROJECT", PROJECT)
        .env("SLUICEGATE__INBOX__FIRESTORE__CALL_TIMEOUT", "5s")
        .env("SLUICEGATE__INBOX__FIRESTORE__AUDIT_ONE_IN", "0")
        .env("SLUICEGATE__INBOX__FIRESTORE__RAMP_FROM", "5000")
        .env("FIRESTORE_EMULATOR_HOST", &firestore.address())
}

fn keyed(key: usize, turn: usize) -> Row<'static> {
    let partition = i32::try_from(key % 3).expect("small");
    Row { partition, value: format!("{key}:{turn}"), ..Row::default() }
}

/// The values of a topic, by partition in the broker's order.
async fn values(kafka: &Kafka) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new(); 3];
    for record in kafka.consume_all("events").await {
        found[usize::try_from(record.partition).expect("a partition")].push(String::from_utf8(record.value.clone()).expect("UTF-8"));
    }
    found
}

async fn parts() -> Option<(Firestore, Kafka)> {
    let firestore = Firestore::start().await?;
    let kafka = Kafka::start().await;
    kafka.create_topic("events", 3, &[]).await;
    Some((firestore, kafka))
}

async fn replayed(gate: &Gate) -> Value {
    let admin = gate.token(&["--sub", "scheduler", "--admin"]).await;
    let answer = gate.post(REPLAY, &admin, "{\"seconds\":50}").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Scenario: 900 rows in three lanes wait, beside some that never found a partition, one that is set aside, one that is nobody's
/// row, and an empty lane's lease of somebody who died.
/// Guarantees: each lane's rows are in the broker in their order, each once; those without a partition are where their key belongs;
/// what is set aside, and what is no row, stays, out of the way; no lease is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_gate_has_left_is_delivered_in_order_and_deleted() {
    let Some((firestore, kafka)) = parts().await else { return };
    let mut rows = Rows::of(&firestore);
    rows.store((0..900).map(|n| keyed(n % 3, n / 3)).collect()).await;
    rows.store((0..20).map(|n| Row { partition: -1, key: Some("k"), value: format!("homeless:{n}"), ..Row::default() }).collect()).await;
    rows.store(vec![Row { value: "aside".into(), aside: true, ..Row::default() }]).await;
    let stray = rows.document(COLLECTION, "stray", vec![("order", text("events/0000000001/00000000000000000001/0000"))]);
    rows.put(vec![stray]).await;
    let gate = setup(&firestore).broker(&kafka).start().await;
    eventually("all but two are gone", DEADLINE, async || (rows.left().await == 2).then_some(())).await;
    let found = values(&kafka).await;
    for (partition, values) in found.iter().enumerate() {
        let of_lane: Vec<_> = values.iter().filter(|value| !value.starts_with('h')).cloned().collect();
        assert_eq!(of_lane, (0..300).map(|turn| format!("{partition}:{turn}")).collect::<Vec<_>>());
    }
    let homeless: Vec<_> = found.iter().map(|values| values.iter().filter(|value| value.starts_with('h')).count()).collect();
    assert!(homeless.contains(&20) && homeless.iter().sum::<usize>() == 20, "one key, one partition: {homeless:?}");
    let left = firestore.documents(COLLECTION).await;
    let orders: Vec<_> = left.iter().filter_map(|document| document["fields"]["order"]["stringValue"].as_str()).collect();
    assert!(orders.iter().all(|order| order.starts_with("!/events/")), "{orders:?}");
    eventually("no lease is left", DEADLINE, async || firestore.documents(LEASES).await.is_empty().then_some(())).await;
    drop(gate);
}

/// Scenario: a gate that replays on request alone, with rows of others; a scheduler's request; rows that come after it.
/// Guarantees: nothing is sent without a request; the answer says how many were and that nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn on_request_alone_rows_go_when_they_are_asked_for() {
    let Some((firestore, kafka)) = parts().await else { return };
    let mut rows = Rows::of(&firestore);
    rows.store((0..30).map(|n| keyed(n % 3, n / 3)).collect()).await;
    let gate = setup(&firestore).env("SLUICEGATE__INBOX__FIRESTORE__REPLAY", "request").broker(&kafka).start().await;
    eventually("the gate has seen that something waits", DEADLINE, async || {
        gate.lines().iter().any(|line| line.contains("rows of an earlier time")).then_some(())
    })
    .await;
    assert_eq!(rows.left().await, 30);
    assert_eq!(replayed(&gate).await, serde_json::json!({ "replayed": 30, "left": 0, "complete": true }));
    assert_eq!(rows.left().await, 0);
    rows.store((30..36).map(|n| keyed(n % 3, n / 3)).collect()).await;
    assert_eq!(replayed(&gate).await["replayed"], 6);
    assert_eq!(values(&kafka).await[0].len(), 12);
}
