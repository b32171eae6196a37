//! Rows as Firestore's documents, and back.
//!
//! Two shapes: a command has the fields that its reader knows and no other; everything else has the general one, which can be
//! sent as it came. A document that cannot be read back is told apart from one that is not there: it is set aside, never guessed at.

use std::collections::HashMap;
use std::sync::Arc;

use super::fs::precondition::ConditionType;
use super::fs::value::ValueType;
use super::fs::write::Operation;
use super::{fs, order};
use crate::document;
use crate::event::{EventId, Headers};
use crate::gate::TopicPartition;
use crate::inbox::row::{self, Content, Parcel, Place, Row};
use crate::route::{DocumentName, Restored, Routed, RoutedRecords};
use bytes::Bytes;

/// The version of the general shape.
const VERSION: i64 = 1;

/// The field of a document that is read back.
const AUDITED: &str = "audited";

/// The fields of a document.
pub type Fields = HashMap<String, fs::Value>;

/// The general shape of a row.
pub fn general(parcel: &Parcel, instance: &str, now_ms: i64) -> Fields {
    let (topic, partition) = parcel.owed.lane();
    let mut fields = match &parcel.content {
        Content::Event(routed) => event(routed),
        Content::Records(records) => batch(records),
    };
    fields.extend([
        ("v", integer(VERSION)),
        ("topic", text(topic.as_str())),
        ("partition", integer(i64::from(*partition))),
        ("order", text(order::order(parcel.owed.lane(), parcel.arrival, &parcel.name))),
        ("id", text(parcel.content.id().as_str())),
        ("principal", text(parcel.content.principal())),
        ("stored_at", timestamp(now_ms)),
        ("not_before", integer(parcel.not_before_ms)),
        ("maybe_delivered", value(ValueType::BooleanValue(parcel.maybe))),
        ("attempts", integer(0)),
        ("instance", text(instance)),
    ]);
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn event(routed: &Routed) -> HashMap<&'static str, fs::Value> {
    let header = |(name, bytes_of): &(_, Bytes)| map([("name", text::<&String>(name)), ("value", bytes(bytes_of.clone()))]);
    let headers = routed.headers().iter().map(header).collect();
    HashMap::from([
        ("kind", text("event")),
        ("key", routed.key().map_or(value(ValueType::NullValue(0)), |key| bytes(key.clone()))),
        ("headers", value(ValueType::ArrayValue(fs::ArrayValue { values: headers }))),
        ("value", bytes(routed.value().clone())),
        ("time", timestamp(routed.timestamp_ms())),
    ])
}

fn batch(records: &RoutedRecords) -> HashMap<&'static str, fs::Value> {
    HashMap::from([
        ("kind", text("batch")),
        ("value", bytes(records.batch().bytes().clone())),
        ("chosen", integer(i64::from(records.partition()))),
        ("records", integer(i64::from(records.batch().count()))),
    ])
}

/// The fields of a document whose shape somebody else has made.
pub fn fields(fields: document::Fields) -> Fields {
    fields.into_iter().map(|(name, value)| (name, wire(value))).collect()
}

fn wire(of: document::Value) -> fs::Value {
    use document::Value;
    value(match of {
        Value::Null => ValueType::NullValue(0),
        Value::Bool(flag) => ValueType::BooleanValue(flag),
        Value::Integer(number) => ValueType::IntegerValue(number),
        Value::Double(number) => ValueType::DoubleValue(number),
        Value::Text(text) => ValueType::StringValue(text),
        Value::Bytes(bytes) => ValueType::BytesValue(bytes),
        Value::Timestamp { millis } => return timestamp(millis),
        Value::Array(values) => ValueType::ArrayValue(fs::ArrayValue { values: values.into_iter().map(wire).collect() }),
        Value::Map(of) => ValueType::MapValue(fs::MapValue { fields: fields(of) }),
    })
}

/// Makes a document that must not be there yet.
pub fn create(name: String, fields: Fields) -> fs::Write {
    write(Operation::Update(document(name, fields)), Some(ConditionType::Exists(false)))
}

/// Deletes a document, if it is there.
/// A document that is made says that it will be read back.
pub fn mark_audited(write: &mut fs::Write) {
    if let Some(Operation::Update(document)) = &mut write.operation {
        document.fields.insert(AUDITED.to_owned(), flag(true));
    }
}

/// Whether whoever has made it reads it back.
pub fn is_audited(document: &fs::Document) -> bool {
    matches!(kind_of(&document.fields, AUDITED), Some(ValueType::BooleanValue(true)))
}

/// Whether this instance has made it.
pub fn is_of(document: &fs::Document, instance: &str) -> bool {
    text_of(&document.fields, "instance") == Some(instance)
}

/// When Firestore has made it, in milliseconds since 1970.
pub fn created_ms(document: &fs::Document) -> Option<i64> {
    let at = document.create_time.as_ref()?;
    at.seconds.checked_mul(1_000)?.checked_add(i64::from(at.nanos) / 1_000_000)
}

pub fn delete(name: String) -> fs::Write {
    write(Operation::Delete(name), None)
}

/// Changes these fields of a document that is there: those that stand in the mask and not among the fields are taken away.
pub fn update(name: String, fields: Fields, mask: &[&str]) -> fs::Write {
    // Reasons are words of ours, all of them short; the sizes of rows are computed with a longer one.
    debug_assert!(text_of(&fields, "reason").is_none_or(|reason| reason.len() <= document::LONGEST_REASON));
    let mut write = write(Operation::Update(document(name, fields)), Some(ConditionType::Exists(true)));
    write.update_mask = Some(fs::DocumentMask { field_paths: mask.iter().map(|path| (*path).to_owned()).collect() });
    write
}

fn document(name: String, fields: Fields) -> fs::Document {
    fs::Document { name, fields, create_time: None, update_time: None }
}

fn write(operation: Operation, condition: Option<ConditionType>) -> fs::Write {
    let current_document = condition.map(|condition| fs::Precondition { condition_type: Some(condition) });
    fs::Write { operation: Some(operation), current_document, ..fs::Write::default() }
}

/// A row of ours that waits. None: the document has neither our name nor our order, so it is not one.
pub fn row(document: &fs::Document, instance: &str) -> Option<Row> {
    let name = name_of(document)?;
    let (lane, arrival) = order::parse(text_of(&document.fields, "order")?)?;
    Some(waiting(document, instance, name, lane, arrival))
}

/// A row of ours that is set aside.
pub fn row_aside(document: &fs::Document, instance: &str) -> Option<Row> {
    let name = name_of(document)?;
    let (lane, arrival) = order::parse(text_of(&document.fields, "order")?.strip_prefix(order::ASIDE.0)?)?;
    Some(waiting(document, instance, name, lane, arrival))
}

fn waiting(document: &fs::Document, instance: &str, name: DocumentName, lane: TopicPartition, arrival: u64) -> Row {
    let fields = &document.fields;
    let content = content(fields, name, &lane);
    Row {
        place: Place { name, lane, arrival, ours: is_of(document, instance) },
        not_before_ms: integer_of(fields, "not_before").unwrap_or(0),
        maybe: matches!(kind_of(fields, "maybe_delivered"), Some(ValueType::BooleanValue(true))),
        attempts: integer_of(fields, "attempts").and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
        at_ms: millis_of(fields, "stored_at").unwrap_or(0),
        content,
    }
}

/// The last part of its name, which is ours if it is a hash in hex.
pub fn name_of(document: &fs::Document) -> Option<DocumentName> {
    let id = document.name.rsplit('/').next()?;
    let mut name = [0; 20];
    hex::decode_to_slice(id, &mut name).ok()?;
    Some(DocumentName(name))
}

fn content(fields: &Fields, name: DocumentName, (topic, partition): &TopicPartition) -> Option<Content> {
    if integer_of(fields, "v")? != VERSION {
        return None;
    }
    let id = EventId::restore(text_of(fields, "id")?);
    let principal = text_of(fields, "principal")?.to_owned();
    let value = bytes_of(fields, "value")?.clone();
    match text_of(fields, "kind")? {
        "event" => Some(Content::Event(Arc::new(Routed::restore(Restored {
            id,
            topic: topic.clone(),
            principal,
            key: key(fields)?,
            headers: headers(fields)?,
            value,
            timestamp_ms: millis_of(fields, "time")?,
        })))),
        "batch" => {
            let chosen = integer_of(fields, "chosen").and_then(|chosen| i32::try_from(chosen).ok());
            row::restored_batch(id, (topic, *partition), chosen, principal, value, name)
        }
        _ => None,
    }
}

/// The key of an event; the outer none: it has no key that can be read.
#[expect(clippy::option_option, reason = "a record without a key is not one whose key cannot be read")]
fn key(fields: &Fields) -> Option<Option<Bytes>> {
    match kind_of(fields, "key")? {
        ValueType::NullValue(_) => Some(None),
        ValueType::BytesValue(key) => Some(Some(key.clone())),
        _ => None,
    }
}

fn headers(fields: &Fields) -> Option<Headers> {
    let ValueType::ArrayValue(headers) = kind_of(fields, "headers")? else { return None };
    let header = |header: &fs::Value| match header.value_type.as_ref()? {
        ValueType::MapValue(map) => Some((text_of(&map.fields, "name")?.to_owned(), bytes_of(&map.fields, "value")?.clone())),
        _ => None,
    };
    headers.values.iter().map(header).collect()
}

fn kind_of<'a>(fields: &'a Fields, name: &str) -> Option<&'a ValueType> {
    fields.get(name)?.value_type.as_ref()
}

/// The text in a field.
pub fn text_of<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    match kind_of(fields, name)? {
        ValueType::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The number in a field.
pub fn integer_of(fields: &Fields, name: &str) -> Option<i64> {
    match kind_of(fields, name)? {
        ValueType::IntegerValue(number) => Some(*number),
        _ => None,
    }
}

/// The bytes in a field.
pub fn bytes_of<'a>(fields: &'a Fields, name: &str) -> Option<&'a Bytes> {
    match kind_of(fields, name)? {
        ValueType::BytesValue(bytes) => Some(bytes),
        _ => None,
    }
}

/// The time in a field, in milliseconds since 1970.
pub fn millis_of(fields: &Fields, name: &str) -> Option<i64> {
    match kind_of(fields, name)? {
        ValueType::TimestampValue(at) => at.seconds.checked_mul(1_000)?.checked_add(i64::from(at.nanos) / 1_000_000),
        _ => None,
    }
}

fn value(of: ValueType) -> fs::Value {
    fs::Value { value_type: Some(of) }
}

/// A text.
pub fn text<T: Into<String>>(of: T) -> fs::Value {
    value(ValueType::StringValue(of.into()))
}

/// A number.
pub fn integer(of: i64) -> fs::Value {
    value(ValueType::IntegerValue(of))
}

/// Yes or no.
pub fn flag(of: bool) -> fs::Value {
    value(ValueType::BooleanValue(of))
}

/// A time, from milliseconds since 1970.
pub fn timestamp(millis: i64) -> fs::Value {
    let nanos = i32::try_from(millis.rem_euclid(1_000)).unwrap_or(0) * 1_000_000;
    value(ValueType::TimestampValue(prost_types::Timestamp { seconds: millis.div_euclid(1_000), nanos }))
}

fn bytes(of: Bytes) -> fs::Value {
    value(ValueType::BytesValue(of))
}

fn map<const N: usize>(of: [(&str, fs::Value); N]) -> fs::Value {
    let fields = of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    value(ValueType::MapValue(fs::MapValue { fields }))
}

#[cfg(test)]
mod tests;
