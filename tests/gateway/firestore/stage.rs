//! A broker, Google's emulator, the proxy that can break it, and what a gate before them is started with.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::faulty_firestore::FaultyFirestore;
use crate::support::firestore::{DATABASE, Firestore, PROJECT};
use crate::support::firestore_caller::warm;
use crate::support::gate::{Gate, Setup};
use crate::support::kafka::Kafka;
use crate::support::platform_reader::PlatformReader;
use crate::support::{eventually, free_port};

/// The topic of the front end's commands.
pub const COMMANDS_TOPIC: &str = "frontend-events";

/// The collection of the rows that the gate drains itself.
pub const ROWS: &str = "sluicegate_inbox";

/// The collection of its leases.
pub const LEASES: &str = "sluicegate_inbox_leases";

/// How long the inbox may take to be empty after a fault is healed. Generous: the machine may be busy.
pub const REPLAYED: Duration = Duration::from_secs(120);

/// No quota stands in the way.
pub const NO_QUOTA: &str =
    "[limits.tiers.standard]\nevents_per_second = 1000000.0\nburst = 1000000\nkib_per_second = 1000000.0\nkib_burst = 1000000\n";

/// The parts, each its own.
pub struct Stage {
    pub kafka: Kafka,
    pub firestore: Firestore,
    pub faulty: FaultyFirestore,
    pub setup: Setup,
}

impl Stage {
    /// With a broker that has these topics; none, and a word about it, without an emulator.
    pub async fn new(topics: &[(&str, i32)], config: &str) -> Option<Self> {
        let firestore = Firestore::start().await?;
        warm(&firestore).await;
        let faulty = FaultyFirestore::before(&firestore.address()).await;
        let kafka = Kafka::start().await;
        for (topic, partitions) in topics {
            kafka.create_topic(topic, *partitions, &[]).await;
        }
        let setup = with_firestore(Setup::new().shipped(), &faulty.address()).config(&format!("{NO_QUOTA}{config}")).broker(&kafka);
        Some(Self { kafka, firestore, faulty, setup })
    }

    /// The same with a route for each topic, and no more.
    pub async fn routed(topics: &[(&str, i32)]) -> Option<Self> {
        let routes: String = topics.iter().map(|(topic, _)| format!("[[routes]]\ntopic = \"{topic}\"\n")).collect();
        Self::new(topics, &routes).await
    }

    /// A gate of another folder, with the same broker and the same Firestore, and with the same development key.
    pub fn another(&self, config: &str) -> Setup {
        with_firestore(Setup::new().shipped(), &self.faulty.address()).config(&format!("{NO_QUOTA}{config}")).broker(&self.kafka)
    }

    /// The rows that the gate's own collection holds, in the order in which they are to be replayed; what was set aside comes first.
    pub async fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.firestore.documents(ROWS).await.iter().map(Row::of).collect();
        rows.sort_by(|one, other| one.order.cmp(&other.order));
        rows
    }

    /// Waits until the collection holds so many rows.
    pub async fn has_rows(&self, count: usize) -> Vec<Row> {
        let rows = async || Some(self.rows().await).filter(|rows| rows.len() == count);
        eventually(&format!("{count} rows are in Firestore"), REPLAYED, rows).await
    }

    /// The platform's worker.
    pub fn reader(&self) -> PlatformReader {
        PlatformReader::of(&self.firestore.address(), PROJECT, DATABASE)
    }

    /// Waits until everything is replayed, in the gate's eyes and in Firestore.
    pub async fn replayed(&self, gate: &Gate) {
        self.has_rows(0).await;
        let empty = async || (status(gate).await["inbox"]["rows"] == 0).then_some(());
        eventually("the gate knows that nothing waits", REPLAYED, empty).await;
    }
}

/// With a Firestore at this address as the inbox, and an admin listener that the commands find.
pub fn with_firestore(setup: Setup, address: &str) -> Setup {
    setup
        .env("SLUICEGATE__INBOX__KIND", "firestore")
        .env("SLUICEGATE__INBOX__FIRESTORE__PROJECT", PROJECT)
        .env("SLUICEGATE__INBOX__FIRESTORE__DATABASE", DATABASE)
        .env("FIRESTORE_EMULATOR_HOST", address)
        .env("SLUICEGATE__ADMIN__BIND", &format!("127.0.0.1:{}", free_port()))
}

/// What the gate says of itself.
pub async fn status(gate: &Gate) -> Value {
    gate.admin_get("/status").await.json()
}

/// Sends an event that is taken, and gives its result.
pub async fn send(gate: &Gate, token: &str, topic: &str, body: &str) -> Value {
    let answer = gate.post(&format!("/v1/events/{topic}"), token, body.to_owned()).await;
    assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.text());
    answer.json()["results"][0].clone()
}

/// The same, and the inbox has it.
pub async fn store(gate: &Gate, token: &str, topic: &str, body: &str) -> Value {
    let result = send(gate, token, topic, body).await;
    assert_eq!(result["tier"], "inbox", "{result}");
    result
}

/// A document of the general shape, every field of its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The id of its document.
    pub name: String,
    pub kind: String,
    pub topic: String,
    pub partition: i32,
    pub order: String,
    pub id: String,
    pub principal: String,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub value: Vec<u8>,
    pub time: Option<OffsetDateTime>,
    pub stored_at: OffsetDateTime,
    pub not_before: i64,
    pub maybe: bool,
    pub attempts: i64,
    pub instance: String,
    pub reason: Option<String>,
    pub chosen: Option<i64>,
}

/// The fields of every row.
const FIELDS: [&str; 13] = [
    "attempts",
    "id",
    "instance",
    "kind",
    "maybe_delivered",
    "not_before",
    "order",
    "partition",
    "principal",
    "stored_at",
    "topic",
    "v",
    "value",
];

/// Those of an event, and those of a producer's batch, besides.
const OF_EVENTS: [&str; 3] = ["headers", "key", "time"];
const OF_BATCHES: [&str; 2] = ["chosen", "records"];

impl Row {
    /// Reads a document of the REST API; anything that is not as it should be ends the test.
    pub fn of(document: &Value) -> Self {
        let fields = &document["fields"];
        let kind = text(fields, "kind");
        let mut expected = FIELDS.to_vec();
        expected.extend(["reason", "audited"].into_iter().filter(|name| !fields[*name].is_null()));
        let batch = kind == "batch";
        expected.extend(if batch { &OF_BATCHES[..] } else { &OF_EVENTS });
        expected.sort_unstable();
        let mut names: Vec<_> = fields.as_object().expect("fields").keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{document}");
        assert_eq!(int(fields, "v"), 1);
        let headers = fields["headers"]["arrayValue"]["values"].as_array().cloned();
        Self {
            name: document["name"].as_str().expect("a name").rsplit('/').next().expect("an id").to_owned(),
            topic: text(fields, "topic"),
            partition: i32::try_from(int(fields, "partition")).expect("a partition"),
            order: text(fields, "order"),
            id: text(fields, "id"),
            principal: text(fields, "principal"),
            key: if batch || fields["key"].get("nullValue").is_some() { None } else { Some(bytes(fields, "key")) },
            headers: headers.unwrap_or_default().iter().map(header).collect(),
            value: bytes(fields, "value"),
            time: (!batch).then(|| time(fields, "time")),
            stored_at: time(fields, "stored_at"),
            not_before: int(fields, "not_before"),
            maybe: fields["maybe_delivered"]["booleanValue"].as_bool().expect("true or false"),
            attempts: int(fields, "attempts"),
            instance: text(fields, "instance"),
            reason: (!fields["reason"].is_null()).then(|| text(fields, "reason")),
            chosen: batch.then(|| int(fields, "chosen")),
            kind,
        }
    }
}

fn text(fields: &Value, name: &str) -> String {
    fields[name]["stringValue"].as_str().unwrap_or_else(|| panic!("{name} is no string: {fields}")).to_owned()
}

fn int(fields: &Value, name: &str) -> i64 {
    let text = fields[name]["integerValue"].as_str().unwrap_or_else(|| panic!("{name} is no integer: {fields}"));
    text.parse().expect("an integer")
}

fn bytes(fields: &Value, name: &str) -> Vec<u8> {
    let text = fields[name]["bytesValue"].as_str().unwrap_or_else(|| panic!("{name} are no bytes: {fields}"));
    STANDARD.decode(text).expect("base64")
}

fn time(fields: &Value, name: &str) -> OffsetDateTime {
    let text = fields[name]["timestampValue"].as_str().unwrap_or_else(|| panic!("{name} is no time: {fields}"));
    OffsetDateTime::parse(text, &Rfc3339).expect("RFC 3339")
}

fn header(value: &Value) -> (String, Vec<u8>) {
    let fields = &value["mapValue"]["fields"];
    assert_eq!(fields.as_object().expect("a map").len(), 2, "{value}");
    (text(fields, "name"), bytes(fields, "value"))
}
