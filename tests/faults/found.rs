//! What lies in the end where events can lie: in the broker's partitions, in the inbox, and aside as poison.
//!
//! What always holds: everything is read, to the end of every partition; the inbox is read beside its gate, without a lock
//! that the gate could feel, and by code that is not the gate's.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::kafka_records::Record;
use super::log::sha256;
use super::rules::{Found, Place};

/// The gate's name of an event, in every record.
const ID_HEADER: &str = "x-deml-event-id";

/// The version of a row that has a producer's batch.
const BATCH: u64 = 2;

/// A record of a topic.
pub fn of_record(topic: &str, record: &Record) -> Found {
    Found {
        topic: topic.to_owned(),
        place: Place::Broker { partition: record.partition, offset: record.offset },
        id: record.header(ID_HEADER).unwrap_or_default().to_owned(),
        key: record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()),
        sha256: sha256(&record.value),
    }
}

/// The events in an inbox, those set aside too. A file that is not there holds nothing.
pub fn in_inbox(database: &Path) -> Result<Vec<Found>, String> {
    if !database.is_file() {
        return Ok(Vec::new());
    }
    let mut found = read(database, "SELECT topic, body FROM rows ORDER BY seq", &Place::Inbox)?;
    found.extend(read(database, "SELECT topic, body FROM poison ORDER BY seq", &Place::Poison)?);
    Ok(found)
}

fn read(database: &Path, sql: &str, place: &Place) -> Result<Vec<Found>, String> {
    let rows = || -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    let rows = rows().map_err(|error| format!("{}: {error}", database.display()))?;
    Ok(rows.iter().flat_map(|(topic, body)| of_row(topic, body, place)).collect())
}

/// A body is a line of JSON, a line feed, and a value or a producer's batch. One that is not is found as an event that nobody has sent.
fn of_row(topic: &str, body: &[u8], place: &Place) -> Vec<Found> {
    let line = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
    let head: Value = serde_json::from_slice(&body[..line]).unwrap_or_default();
    let bytes = body.get(line + 1..).unwrap_or_default();
    let found = |id: &str, key: Option<String>, value: &[u8]| Found {
        topic: topic.to_owned(),
        place: place.clone(),
        id: id.to_owned(),
        key,
        sha256: sha256(value),
    };
    if head["v"] == BATCH
        && let Ok(set) = RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(bytes))
    {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        return set.records.iter().map(|one| found("", one.key.as_ref().map(text), one.value.as_deref().unwrap_or_default())).collect();
    }
    vec![found(head["id"].as_str().unwrap_or_default(), head["key"].as_str().map(str::to_owned), bytes)]
}
