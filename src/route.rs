//! (Permit, event) → [`Routed`]: topic, key, headers, shape, bounds. A table from configuration; no I/O.
//!
//! A [`Routed`] is the only thing that sink and inbox take, and it can be made only from a [`Permit`] here, or by the
//! inbox from what was acknowledged before (`Routed::restore`). Whatever bound an event must meet at the broker or in
//! the inbox it meets here, before anything is sent, so that acceptability does not swing with the broker's health.

mod command;
mod holds;
mod records;
mod routed;
mod shape;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::grants::Grant;
use crate::auth::{Permit, Principal};
use crate::document;
use crate::event::{Event, EventId, Headers, Origin, Topic};
use crate::receipt::Refusal;
use crate::units::ByteSize;

use holds::Places;

pub use holds::{Documents, Holds, Kept};
pub use records::{RestoredRecords, RoutedRecords, fits, refusal_of};
pub use routed::{DocumentName, Restored, Routed};
pub use shape::Shape;

/// What Kafka adds to a record's key, value and headers, at most: the batch's header and the record's varints.
const RECORD_OVERHEAD: u64 = 61 + 40;

/// The header of a request's trace, and how long it is in W3C's form.
const TRACEPARENT: &str = "traceparent";
const TRACEPARENT_LENGTH: usize = 55;
/// A ULID, which the gate names an event by.
const EVENT_ID: usize = 26;
/// More than any door's name has.
const LONGEST_DOOR: usize = 16;

/// The names of the headers that the gate writes into every record. A sender's header of one of these names is refused.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The event's id: what consumers de-duplicate by.
    pub id: String,
    /// Who sent it: `<issuer>:<subject>`. Empty: not written.
    pub principal: String,
    /// Which door it came in by. Empty: not written.
    pub source: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { id: "x-deml-event-id".into(), principal: "x-deml-principal".into(), source: "x-deml-source".into() }
    }
}

impl Config {
    /// Mistakes that only this area can see.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.id.is_empty() {
            found.push(("id".to_owned(), "must not be empty: consumers de-duplicate by it".to_owned()));
        }
        for (key, name) in [("id", &self.id), ("principal", &self.principal), ("source", &self.source)] {
            if name.len() > 128 || !name.bytes().all(|b| b.is_ascii_graphic()) {
                found.push((key.to_owned(), "must be at most 128 visible ASCII characters".to_owned()));
            }
        }
        found
    }
}

/// One row of the table: the topics that it is for, and how their records look.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// The topic, or a prefix that ends in `*`. The first row that fits is taken; a topic that no row fits does not exist here.
    pub topic: Grant,
    /// `raw`: the sender's bytes. `command`: the platform's `frontend-events` value around them, whose `uid` is the token's
    /// subject, whichever issuer it is of: grant such a topic only to issuers whose subjects are its users. `telemetry`: the
    /// sender's object with `response_time` in seconds, key and headers of the platform's `telemetry-raw`.
    pub shape: Shape,
    /// The largest record (key, value and headers), in bytes. Larger ones are refused with `too_large`, broker up or down.
    pub max_event_bytes: ByteSize,
    /// Whether events of this route go to the inbox when the broker cannot take them. Without it they are refused with `unavailable`.
    pub inbox: bool,
    /// The collection of the Firestore inbox for this route. Default: `inbox.firestore.command_collection` for the shape
    /// `command`, else `inbox.firestore.collection`. What is in a collection of commands is read by somebody else's program,
    /// and never replayed.
    pub collection: Option<String>,
    /// How many partitions `sluicegate topics --create` makes. The gate itself never creates a topic.
    pub partitions: i32,
    /// How many replicas `sluicegate topics --create` makes; -1: the broker's default.
    pub replication: i32,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            topic: Grant::Exact("events".into()),
            shape: Shape::Raw,
            max_event_bytes: ByteSize::kib(960),
            inbox: true,
            collection: None,
            partitions: 3,
            replication: -1,
        }
    }
}

/// The table where none is written: a topic to try things with, and one for each signal of OTLP.
pub fn defaults() -> Vec<RouteConfig> {
    let named = |topic: &&str| RouteConfig { topic: Grant::Exact((*topic).into()), ..RouteConfig::default() };
    ["events", "otlp_spans", "otlp_metrics", "otlp_logs"].iter().map(named).collect()
}

impl RouteConfig {
    /// The one topic that the row names, with the partitions that it would be made with; none for a prefix.
    pub fn planned(&self) -> Option<(Topic, i32)> {
        match &self.topic {
            Grant::Exact(name) => Some((Topic::new(name).ok()?, self.partitions)),
            Grant::Prefix(_) => None,
        }
    }
}

/// Mistakes of the table: the row's number and the option, and what is wrong.
pub fn mistakes(rows: &[RouteConfig]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let mut say = |key: &str, what: &str| found.push((format!("[{i}].{key}"), what.to_owned()));
        match &row.topic {
            Grant::Exact(name) if Topic::new(name).is_err() => say("topic", "is not a topic that events can go to"),
            topic if rows[..i].iter().any(|before| before.topic == *topic) => say("topic", "stands in an earlier route already"),
            _ => {}
        }
        if row.max_event_bytes < ByteSize::kib(1) || row.max_event_bytes > ByteSize::mib(64) {
            say("max_event_bytes", "must be from 1 KiB to 64 MiB");
        }
        if row.collection.as_deref().is_some_and(|name| !document::is_collection(name)) {
            say("collection", "must be up to 200 letters, digits, `_`, `-`, `.`; not `.`, `..` or `__x__`");
        }
        if row.partitions < 1 {
            say("partitions", "must be at least 1");
        }
        if row.replication == 0 || row.replication < -1 {
            say("replication", "must be at least 1, or -1 for the broker's default");
        }
    }
    found
}

/// What a topic's broker demands of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// `max.message.bytes`.
    pub max_message_bytes: u64,
    /// `message.timestamp.before.max.ms`: how old a record may be.
    pub before_max_ms: u64,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker's clock it may be.
    pub after_max_ms: u64,
    /// `cleanup.policy` has `compact`: a record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type` is `LogAppendTime`: the broker stamps the records, whatever time they bring.
    pub log_append_time: bool,
}

impl Default for Bounds {
    /// Apache Kafka's own defaults.
    fn default() -> Self {
        Self {
            max_message_bytes: 1_048_588,
            before_max_ms: i64::MAX as u64,
            after_max_ms: 3_600_000,
            compacted: false,
            log_append_time: false,
        }
    }
}

/// What a header takes in a record.
const fn header_size(name: &str, value: usize) -> usize {
    name.len() + value + 10
}

/// What a shape makes of an event.
struct Shaped {
    id: EventId,
    key: Option<Bytes>,
    headers: Headers,
    value: Bytes,
}

/// The table of routes.
#[derive(Debug)]
pub struct Table {
    headers: Config,
    rows: Vec<RouteConfig>,
    /// One for each row, where the inbox is one of documents.
    places: Vec<Option<Places>>,
}

/// A row that is for a topic.
#[derive(Clone, Copy)]
struct Row<'a> {
    config: &'a RouteConfig,
    places: Option<&'a Places>,
}

impl Table {
    /// A table from configuration.
    pub fn new(headers: Config, rows: Vec<RouteConfig>) -> Self {
        Self { headers, rows, places: Vec::new() }
    }

    /// The same table before an inbox that holds this: what it could not hold is refused. Without this it holds anything.
    #[must_use]
    pub fn holding(mut self, holds: Holds) -> Self {
        self.places = self.rows.iter().map(|row| Places::of(row, &holds)).collect();
        self
    }

    /// The rows.
    pub fn rows(&self) -> &[RouteConfig] {
        &self.rows
    }

    /// Whether some row is for this topic.
    pub fn knows(&self, topic: &Topic) -> bool {
        self.row(topic).is_some()
    }

    /// How many partitions a topic would be made with that a row names exactly.
    pub fn planned_partitions(&self, topic: &Topic) -> Option<i32> {
        self.rows.iter().filter_map(RouteConfig::planned).find(|(planned, _)| planned == topic).map(|(_, partitions)| partitions)
    }

    /// Whether a row names exactly this topic: with no catalog ever seen it counts as existing.
    pub fn names(&self, topic: &Topic) -> bool {
        self.rows.iter().any(|row| matches!(&row.topic, Grant::Exact(name) if name == topic.as_str()))
    }

    /// The most that key and value of one record of this topic can take together, with so many bytes of headers of its
    /// door's own; none: no row is for it.
    pub fn room(&self, topic: &Topic, bounds: &Bounds, principal: &Principal, headers: u64) -> Option<u64> {
        let row = self.row(topic)?;
        let limit = row.config.max_event_bytes.get().min(bounds.max_message_bytes);
        let own = [
            (self.headers.id.as_str(), EVENT_ID),
            (self.headers.principal.as_str(), principal.name().len()),
            (self.headers.source.as_str(), LONGEST_DOOR),
            (TRACEPARENT, TRACEPARENT_LENGTH),
        ];
        let document = row.places.map_or(u64::MAX, |places| places.room(topic, principal.name(), &own, headers));
        let own: usize = own.into_iter().map(|(name, value)| header_size(name, value)).sum();
        Some(limit.saturating_sub(RECORD_OVERHEAD + own as u64 + headers).min(document))
    }

    /// Uses up the permit for the events of its topic: one result for each.
    pub fn route(&self, permit: Permit, bounds: &Bounds, origin: &Origin, events: Vec<Event>) -> Vec<Result<Routed, Refusal>> {
        let Some(row) = self.row(permit.topic()) else {
            let refusal = Refusal::Denied { topic: permit.topic().to_string() };
            return events.iter().map(|_| Err(refusal.clone())).collect();
        };
        events.into_iter().map(|event| self.route_one(&permit, row, bounds, origin, event)).collect()
    }

    fn route_one(&self, permit: &Permit, row: Row<'_>, bounds: &Bounds, origin: &Origin, event: Event) -> Result<Routed, Refusal> {
        self.check_headers(&event.headers)?;
        let time = event.time.unwrap_or(origin.arrived);
        check_time(time, origin.arrived, bounds)?;
        let (payload, partition) = (event.value.clone(), event.partition);
        let shaped = row.config.shape.apply(permit.principal(), origin, event)?;
        let routed = Routed {
            headers: self.complete(shaped.headers, &shaped.id, permit, origin),
            id: shaped.id,
            topic: permit.topic().clone(),
            principal: permit.principal().name().to_owned(),
            key: shaped.key,
            partition,
            value: shaped.value,
            payload,
            timestamp_ms: millis(time),
            inbox: row.config.inbox,
            kept: row.places.map(Places::events),
        };
        check_record(&routed, row.config, bounds)?;
        row.places.map_or(Ok(()), |places| places.check(&routed))?;
        Ok(routed)
    }

    fn row(&self, topic: &Topic) -> Option<Row<'_>> {
        let (i, config) = self.rows.iter().enumerate().find(|(_, row)| row.topic.covers(topic))?;
        Some(Row { config, places: self.places.get(i).and_then(Option::as_ref) })
    }

    /// The gate's own headers, each exactly once, behind the sender's.
    fn complete(&self, mut headers: Headers, id: &EventId, permit: &Permit, origin: &Origin) -> Headers {
        let own = [
            (&self.headers.id, id.as_str().to_owned()),
            (&self.headers.principal, permit.principal().name().to_owned()),
            (&self.headers.source, origin.door.as_str().to_owned()),
        ];
        headers.extend(own.into_iter().filter(|(name, _)| !name.is_empty()).map(|(name, value)| (name.clone(), Bytes::from(value))));
        if let Some(parent) = &origin.traceparent
            && !headers.iter().any(|(name, _)| name == TRACEPARENT)
        {
            headers.push((TRACEPARENT.into(), Bytes::from(parent.clone())));
        }
        headers
    }

    fn check_headers(&self, headers: &Headers) -> Result<(), Refusal> {
        for (name, _) in headers {
            if [&self.headers.id, &self.headers.principal, &self.headers.source].iter().any(|own| own.eq_ignore_ascii_case(name)) {
                return Err(Refusal::invalid(&format!("headers.{name}"), format!("the header `{name}` is set by the gate; leave it out")));
            }
        }
        Ok(())
    }
}

/// Milliseconds since 1970; times before it are 0.
fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn check_time(time: SystemTime, now: SystemTime, bounds: &Bounds) -> Result<(), Refusal> {
    if bounds.log_append_time {
        return Ok(());
    }
    let refuse = |what: &str, limit: u64| {
        Err(Refusal::invalid(
            "time",
            format!("the time is too far in the {what}: the topic takes at most {limit} ms; correct the clock or leave `time` out"),
        ))
    };
    if time + Duration::from_millis(bounds.before_max_ms.min(u64::from(u32::MAX) * 1_000)) < now {
        return refuse("past", bounds.before_max_ms);
    }
    if time > now + Duration::from_millis(bounds.after_max_ms.min(u64::from(u32::MAX) * 1_000)) {
        return refuse("future", bounds.after_max_ms);
    }
    Ok(())
}

fn check_record(routed: &Routed, row: &RouteConfig, bounds: &Bounds) -> Result<(), Refusal> {
    let limit = row.max_event_bytes.get().min(bounds.max_message_bytes);
    if routed.size() > limit {
        return Err(Refusal::TooLarge { what: "the size of the event as a record in bytes", actual: routed.size(), limit });
    }
    if bounds.compacted && routed.key.is_none() {
        return Err(Refusal::invalid("key", "the topic is compacted: every event needs a key"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
