//! The disk inbox read beside its gate: a person's view of the rows.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::event::{Topic, is_called};

use super::super::offline::{self, Entry, Filter, Shown};
use super::super::row::{self, Content};
use super::{file, now_ms};
use crate::route::DocumentName;

/// Rows that `trace` looks into at most.
const TRACED: u32 = 1_000;

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
        bytes: Some(body.len() as u64),
    })
}

fn content(name: &[u8], topic: &str, partition: i32, body: &[u8]) -> Option<Content> {
    let name = DocumentName(name.try_into().ok()?);
    row::decode(name, &Topic::new(topic).ok()?, partition, body)
}

fn shown(entry: Entry, body: &[u8]) -> Shown {
    let found = content(&hex::decode(&entry.name).unwrap_or_default(), &entry.topic, entry.partition, body);
    Shown::of(entry, found.as_ref(), || format!("the body is not one of ours: {}", offline::text(body)))
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
