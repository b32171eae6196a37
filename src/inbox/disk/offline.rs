//! The inbox read beside its gate, for `sluicegate inbox list`, `show` and `sluicegate trace`: a person's view of the rows.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::event::{Topic, is_called};

use super::super::row::{self, Content};
use super::{file, now_ms};
use crate::records::Record;
use crate::route::{DocumentName, Routed};

/// A row as a person sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The name of its document.
    pub name: String,
    /// The event's id.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// Its partition; -1: not known yet.
    pub partition: i32,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: i64,
    /// `held`: the producer may still deliver it. `ready`: it waits for replay. `poison`: set aside.
    pub state: &'static str,
    /// Whether it may be delivered already.
    pub maybe: bool,
    /// How often the broker has refused it.
    pub attempts: u32,
    /// Why it was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes of its body.
    pub bytes: u64,
}

/// One row with its content.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The row.
    #[serde(flatten)]
    pub entry: Entry,
    /// Who sent it.
    pub principal: String,
    /// The record of an event.
    #[serde(flatten)]
    pub record: Option<ShownRecord>,
    /// The records of a producer's batch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<ShownRecord>,
    /// Why the records, or those behind them, are not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A record as a person sees it.
#[derive(Debug, Clone, Serialize)]
pub struct ShownRecord {
    /// Its time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key, as text as far as it is.
    pub key: Option<String>,
    /// Its headers, as text as far as they are.
    pub headers: Vec<(String, Option<String>)>,
    /// Its value, as text as far as it is; none: a tombstone.
    pub value: Option<String>,
}

/// What `show` decompresses of a batch at most.
const SHOWN_BYTES: usize = 64 << 20;

/// Rows that `trace` looks into at most.
const TRACED: u32 = 1_000;

/// Which rows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this topic alone.
    pub topic: Option<String>,
    /// Those set aside alone.
    pub poison: bool,
    /// At most so many; 0: all.
    pub limit: u32,
}

const ROWS: &str = "SELECT name, topic, partition, at, CASE WHEN not_before > ?2 THEN 'held' ELSE 'ready' END, maybe, attempts, NULL, body, seq FROM rows WHERE (?1 IS NULL OR topic = ?1)";
const POISON: &str =
    "SELECT name, topic, partition, at, 'poison', 1, attempts, reason, body, seq FROM poison WHERE (?1 IS NULL OR topic = ?1) AND ?2 = ?2";

/// Lists rows, the oldest first.
pub fn list(dir: &Path, filter: &Filter) -> Result<Vec<Entry>, String> {
    let connection = open(dir)?;
    let tables = if filter.poison { POISON.to_owned() } else { format!("{ROWS} UNION ALL {POISON}") };
    let limit = if filter.limit == 0 { i64::MAX } else { i64::from(filter.limit) };
    let read = || -> rusqlite::Result<Vec<Entry>> {
        let mut statement = connection.prepare(&format!("SELECT * FROM ({tables}) ORDER BY at, seq LIMIT ?3"))?;
        let rows = statement.query_map(params![filter.topic, now_ms(), limit], entry)?;
        rows.collect()
    };
    read().map_err(|error| said(dir, &error))
}

/// One row with its content, by its name or its event's id.
pub fn show(dir: &Path, wanted: &str) -> Result<Option<Shown>, String> {
    let connection = open(dir)?;
    let found = find(&connection, wanted).map_err(|error| said(dir, &error))?;
    Ok(found.map(|(entry, body)| shown(entry, &body)))
}

/// The rows of an event, oldest first: by its id, by the client's key in it, or by a row's name.
pub fn trace(dir: &Path, wanted: &str, topic: Option<&Topic>) -> Result<Vec<Shown>, String> {
    let connection = open(dir)?;
    let name = hex::decode(wanted).unwrap_or_default();
    // The end of an id, as it stands in a body's first line; what only looks like it is left out below.
    let quoted = serde_json::Value::from(wanted).to_string();
    let end = quoted.get(1..).unwrap_or_default().as_bytes();
    let sql = format!("SELECT * FROM ({ROWS} UNION ALL {POISON}) WHERE name = ?3 OR instr(body, ?4) > 0 ORDER BY at, seq LIMIT {TRACED}");
    let read = || -> rusqlite::Result<Vec<Shown>> {
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query(params![topic.map(Topic::as_str), now_ms(), name, end])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let entry = entry(row)?;
            if entry.name.eq_ignore_ascii_case(wanted) || is_called(&entry.id, wanted) {
                found.push(shown(entry, &row.get::<_, Vec<u8>>(8)?));
            }
        }
        Ok(found)
    };
    read().map_err(|error| said(dir, &error))
}

fn find(connection: &Connection, wanted: &str) -> rusqlite::Result<Option<(Entry, Vec<u8>)>> {
    let name = hex::decode(wanted).unwrap_or_default();
    for table in [ROWS, POISON] {
        // By name with the index; by id with a walk, which a person can wait for.
        let sql = format!("{table} AND (name = ?3 OR instr(body, ?4) > 0) LIMIT 1");
        let id = format!("\"id\":{}", serde_json::Value::from(wanted));
        let row = connection
            .query_row(&sql, params![None::<String>, now_ms(), name, id.as_bytes()], |row| Ok((entry(row)?, row.get::<_, Vec<u8>>(8)?)));
        if let Some(found) = row.optional()? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    let body: Vec<u8> = row.get(8)?;
    let topic: String = row.get(1)?;
    let name: Vec<u8> = row.get(0)?;
    let partition: i32 = row.get(2)?;
    let id = content(&name, &topic, partition, &body).map_or_else(String::new, |content| content.id().to_string());
    let state: String = row.get(4)?;
    Ok(Entry {
        name: hex::encode(name),
        id,
        topic,
        partition,
        at_ms: row.get(3)?,
        state: ["held", "ready", "poison"].into_iter().find(|known| *known == state).unwrap_or("ready"),
        maybe: row.get(5)?,
        attempts: row.get(6)?,
        reason: row.get(7)?,
        bytes: body.len() as u64,
    })
}

fn content(name: &[u8], topic: &str, partition: i32, body: &[u8]) -> Option<Content> {
    let name = DocumentName(name.try_into().ok()?);
    row::decode(name, &Topic::new(topic).ok()?, partition, body)
}

fn shown(entry: Entry, body: &[u8]) -> Shown {
    let found = content(&hex::decode(&entry.name).unwrap_or_default(), &entry.topic, entry.partition, body);
    let principal = found.as_ref().map_or_else(String::new, |content| content.principal().to_owned());
    let mut shown = Shown { entry, principal, record: None, records: Vec::new(), unreadable: None };
    match found {
        Some(Content::Event(routed)) => shown.record = Some(of_event(&routed)),
        Some(Content::Records(records)) => match records.batch().records(SHOWN_BYTES) {
            Ok(found) => shown.records = found.into_iter().map(of_batch).collect(),
            Err(bad) => shown.unreadable = Some(bad.to_string()),
        },
        None => shown.unreadable = Some(format!("the body is not one of ours: {}", text(body))),
    }
    shown
}

fn of_event(routed: &Routed) -> ShownRecord {
    ShownRecord {
        timestamp_ms: routed.timestamp_ms(),
        key: routed.key().map(|key| text(key)),
        headers: routed.headers().iter().map(|(name, value)| (name.clone(), Some(text(value)))).collect(),
        value: Some(text(routed.value())),
    }
}

fn of_batch(record: Record) -> ShownRecord {
    let optional = |bytes: Option<bytes::Bytes>| bytes.map(|bytes| text(&bytes));
    ShownRecord {
        timestamp_ms: record.timestamp_ms,
        key: optional(record.key),
        headers: record.headers.into_iter().map(|(name, value)| (text(&name), optional(value))).collect(),
        value: optional(record.value),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn open(dir: &Path) -> Result<Connection, String> {
    let database = dir.join("inbox.db");
    if !database.exists() {
        return Err(format!("there is no inbox in `{}`; is `inbox.dir` right?", dir.display()));
    }
    file::open_reader(&database).map_err(|error| said(dir, &error))
}

fn said(dir: &Path, error: &rusqlite::Error) -> String {
    format!("the inbox in `{}` cannot be read: {error}", dir.display())
}
