//! How large a row can be: what the gate reckons, against what the emulator takes.

use std::collections::HashMap;

use sluicegate::document::{Extent, GENERAL, LONGEST_INSTANCE, LONGEST_REASON, Name, general_fits, general_room};
use sluicegate::inbox::firestore::client::{Client, Written};
use sluicegate::inbox::firestore::fs::value::ValueType;
use sluicegate::inbox::firestore::fs::{self, ArrayValue, MapValue, Value};

use super::super::support::firestore::Firestore;
use super::{EVENTS, client, write};

fn value(of: ValueType) -> Value {
    Value { value_type: Some(of) }
}

fn text(bytes: usize) -> Value {
    value(ValueType::StringValue("x".repeat(bytes)))
}

fn bytes(of: usize) -> Value {
    value(ValueType::BytesValue(vec![0; of].into()))
}

/// A row in its largest form: set aside, with every field that one can have.
fn general(extent: &Extent<'_>) -> HashMap<String, Value> {
    let header = |bytes_of: usize| {
        let fields = [("name".to_owned(), text(0)), ("value".to_owned(), bytes(bytes_of))].into();
        value(ValueType::MapValue(MapValue { fields }))
    };
    let headers = (0..extent.headers).map(|i| header(if i == 0 { extent.header_bytes } else { 0 })).collect();
    let field = |name: &str| match name {
        "kind" => text("event".len()),
        "topic" => text(extent.topic.len()),
        // `!/<topic>/<10>/<20>/<8>`
        "order" => text(extent.topic.len() + 43),
        "id" => text(extent.id),
        "principal" => text(extent.principal.len()),
        "key" => extent.key.map_or(value(ValueType::NullValue(0)), bytes),
        "headers" => value(ValueType::ArrayValue(ArrayValue { values: Vec::clone(&headers) })),
        "value" => bytes(extent.value),
        "time" | "stored_at" => value(ValueType::TimestampValue(sluicegate::inbox::firestore::Timestamp { seconds: 1, nanos: 0 })),
        "maybe_delivered" | "audited" => value(ValueType::BooleanValue(true)),
        "instance" => text(LONGEST_INSTANCE),
        "reason" => text(LONGEST_REASON),
        "v" | "partition" | "not_before" | "attempts" | "chosen" | "records" => value(ValueType::IntegerValue(1)),
        unknown => panic!("`{unknown}` is counted, and this test does not know it"),
    };
    GENERAL.iter().map(|name| ((*name).to_owned(), field(name))).collect()
}

/// Whether the emulator takes it.
async fn is_taken(client: &Client, extent: &Extent<'_>) -> bool {
    let document = fs::Document { name: client.name(EVENTS, &"a".repeat(40)), fields: general(extent), ..Default::default() };
    match client.write(vec![write(fs::write::Operation::Update(document), None)]).await {
        Ok(results) => matches!(results[..], [Written::Ok(_)]),
        Err(fault) => {
            assert!(fault.to_string().contains("size"), "{fault:?}");
            false
        }
    }
}

/// Scenario: rows of every field, an event's with headers and a batch's without, filled up to what the gate takes.
/// Guarantees: the emulator takes each; one byte more it does not take, but for what it does not count of maps (32 bytes each).
#[tokio::test]
async fn what_is_reckoned_to_fit_is_taken_and_not_a_byte_is_forgotten() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore).await;
    let event = Extent { topic: "orders", principal: "dev:me", id: 26, headers: 4, header_bytes: 200, ..Extent::default() };
    for extent in [event, Extent { headers: 0, header_bytes: 0, ..event }] {
        let room = usize::try_from(general_room(Name::hashed(EVENTS), &extent)).expect("small");
        let filled = |more: usize| Extent { value: room + more, ..extent };
        assert_eq!(general_fits(Name::hashed(EVENTS), &filled(0)), Ok(()));
        general_fits(Name::hashed(EVENTS), &filled(1)).expect_err("one byte more");
        let uncounted = 32 * extent.headers;
        assert!(is_taken(&client, &filled(0)).await && is_taken(&client, &filled(uncounted)).await, "{extent:?}");
        assert!(!is_taken(&client, &filled(uncounted + 1)).await, "{extent:?}");
    }
}
