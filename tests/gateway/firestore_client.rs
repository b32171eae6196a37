//! The client of Firestore against Google's own emulator: what it writes and reads, what it does when the service is away,
//! and that the token that it sends is the one it was given.

mod calls;
mod metadata;
mod outage;
mod size;
mod start;
mod tokens;

use sluicegate::inbox::firestore::client::{Client, Fault, Written};
use sluicegate::inbox::firestore::{Config, fs};
use sluicegate::units::Span;

use super::support::firestore::{DATABASE, Firestore, PROJECT};
use super::support::{DEADLINE, eventually};

/// The collection of these tests.
const EVENTS: &str = "events";

/// Settings for an emulator. Its first calls take it more than the deadline that is shipped, on a busy machine.
fn settings(firestore: &Firestore) -> Config {
    Config {
        project: Some(PROJECT.to_owned()),
        database: DATABASE.to_owned(),
        emulator: Some(firestore.address()),
        call_timeout: Span::secs(10),
        ..Config::default()
    }
}

/// A client that has had an answer already.
async fn client(firestore: &Firestore) -> Client {
    let client = Client::new(&settings(firestore)).expect("settings without mistakes");
    let name = client.name(EVENTS, "none");
    eventually("an answer", DEADLINE, async || client.get(vec![name.clone()]).await.ok()).await;
    client
}

/// Makes a document, and is patient: a busy machine's emulator may take its time for its first call.
async fn make(client: &Client, id: &str) -> Result<Vec<Written>, Fault> {
    eventually("an answer", DEADLINE, async || match client.write(vec![create(client, id, 1)]).await {
        Err(Fault::Slow) => None,
        answer => Some(answer),
    })
    .await
}

fn document(client: &Client, id: &str, number: i64) -> fs::Document {
    let value = fs::Value { value_type: Some(fs::value::ValueType::IntegerValue(number)) };
    fs::Document { name: client.name(EVENTS, id), fields: [("number".to_owned(), value)].into(), ..Default::default() }
}

fn write(operation: fs::write::Operation, condition: Option<fs::precondition::ConditionType>) -> fs::Write {
    let current_document = condition.map(|condition| fs::Precondition { condition_type: Some(condition) });
    fs::Write { operation: Some(operation), current_document, ..Default::default() }
}

/// A write that makes a document, if it is not there.
fn create(client: &Client, id: &str, number: i64) -> fs::Write {
    let condition = fs::precondition::ConditionType::Exists(false);
    write(fs::write::Operation::Update(document(client, id, number)), Some(condition))
}

fn delete(client: &Client, id: &str) -> fs::Write {
    write(fs::write::Operation::Delete(client.name(EVENTS, id)), None)
}

/// All documents of the collection, by their number, up to a limit.
fn by_number(limit: i32) -> fs::StructuredQuery {
    let field = fs::structured_query::FieldReference { field_path: "number".to_owned() };
    let order = fs::structured_query::Order { field: Some(field), direction: fs::structured_query::Direction::Ascending as i32 };
    fs::StructuredQuery {
        from: vec![fs::structured_query::CollectionSelector { collection_id: EVENTS.to_owned(), all_descendants: false }],
        order_by: vec![order],
        limit: Some(limit),
        ..Default::default()
    }
}

fn number(document: &fs::Document) -> Option<i64> {
    match document.fields.get("number")?.value_type {
        Some(fs::value::ValueType::IntegerValue(number)) => Some(number),
        _ => None,
    }
}
