//! The disk inbox: SQLite, one writer thread, and a reader for replay.

mod file;
pub mod offline;
mod queue;
mod state;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::event::Topic;
use crate::gate::{Gates, TopicPartition};
use crate::route::DocumentName;

use super::row::{self, Parcel, Place, Row};
use super::{Commit, Config, Settlement, Snapshot, StoreError, Stored, now_ms};

use queue::{Command, Queue};
use state::State;
use writer::Writer;

pub use file::{Folder, OpenError};

/// Bytes of rows that may wait for their commit.
const QUEUE_BYTES: usize = 64 << 20;

/// Whether it could be opened, as far as can be seen without opening it.
pub(super) fn check(dir: &Path, allow_volatile: bool) -> Result<(), OpenError> {
    file::check(dir, allow_volatile)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    queue: Arc<Queue>,
    state: Arc<State>,
    reader: Arc<Mutex<Connection>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _folder: Folder,
}

impl Disk {
    pub(super) fn open(config: &Config, gates: &Arc<Gates>) -> Result<Self, OpenError> {
        let folder = Folder::lock(&config.dir, config.allow_volatile)?;
        let connection = folder.open_writer()?;
        let failed = |error: rusqlite::Error| OpenError::Io { dir: config.dir.clone(), error: error.to_string() };
        take_over(&connection, gates).map_err(failed)?;
        let reader = file::open_reader(&folder.database()).map_err(failed)?;
        let (queue, state) = (Arc::new(Queue::new(QUEUE_BYTES)), Arc::new(State::default()));
        let writer = Writer {
            config: config.clone(),
            connection,
            database: folder.database(),
            queue: Arc::clone(&queue),
            gates: Arc::clone(gates),
            state: Arc::clone(&state),
            backlog: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("inbox writer".into()).spawn(move || writer.run());
        let thread = thread.map_err(|error| OpenError::Io { dir: config.dir.clone(), error: error.to_string() })?;
        Ok(Self { queue, state, reader: Arc::new(Mutex::new(reader)), thread: Mutex::new(Some(thread)), _folder: folder })
    }

    pub(super) fn takes(&self) -> bool {
        !self.state.is_latched() && !self.state.is_full()
    }

    pub(super) fn is_latched(&self) -> bool {
        self.state.is_latched()
    }

    pub(super) fn store(&self, parcel: Parcel) -> Result<Commit, StoreError> {
        if self.state.is_latched() {
            return Err(StoreError::Latched);
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Command::Insert { parcel: Box::new(parcel), reply }).map_err(|_| StoreError::Full)?;
        Ok(answer)
    }

    pub(super) fn settle(&self, name: DocumentName, settlement: Settlement) {
        self.push(Command::Settle { name, settlement });
    }

    pub(super) async fn restore(&self, topic: Option<Topic>) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Restore { topic, reply });
        answer.await.unwrap_or(0)
    }

    pub(super) async fn purge(&self, topic: Option<Topic>, only_poison: bool) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Purge { topic, only_poison, reply });
        answer.await.unwrap_or(0)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            kind: "disk",
            held: self.state.held(),
            poison: self.state.aside(),
            bytes: self.state.used_bytes(),
            oldest_age_s: self.state.oldest_ms().map(|at| u64::try_from(now_ms() - at).unwrap_or(0) / 1_000),
            stored: self.state.stored(),
            queued_bytes: self.queue.bytes() as u64,
            full: self.state.is_full(),
            latched: self.state.is_latched(),
            ..Snapshot::default()
        }
    }

    pub(super) async fn close(&self) {
        self.queue.close();
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the inbox's writer has ended by a fault of ours");
        }
    }

    pub(super) async fn rows(&self, lane: TopicPartition, limit: usize) -> Vec<Row> {
        let reader = Arc::clone(&self.reader);
        let read = move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            read_lane(&reader, &lane, limit)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the inbox could not be read; it is tried again");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    pub(super) async fn remove(&self, rows: Vec<Place>) -> bool {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Remove { names: rows.into_iter().map(|row| row.name).collect(), reply });
        answer.await.is_ok()
    }

    pub(super) fn refused(&self, name: DocumentName, aside: Option<&'static str>) {
        self.push(Command::Refused { name, aside });
    }

    pub(super) async fn assign(&self, from: TopicPartition, rows: Vec<(Place, i32)>) -> bool {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Assign { from, rows: rows.into_iter().map(|(row, to)| (row.name, to)).collect(), reply });
        answer.await.is_ok()
    }

    /// What shrinks the inbox is taken by the queue unless it is closed; then a late report is lost, the row stays, and the next start replays it.
    fn push(&self, command: Command) {
        let _ = self.queue.push(command);
    }
}

/// Makes what an earlier process left ours: nobody holds its rows any more, and what it held may be delivered.
fn take_over(connection: &Connection, gates: &Arc<Gates>) -> rusqlite::Result<()> {
    connection.execute("UPDATE rows SET maybe = 1, not_before = 0 WHERE not_before > 0", [])?;
    let last: i64 = connection.query_row("SELECT coalesce(max(arrival), 0) FROM rows", [], |row| row.get(0))?;
    gates.begin_at(last.cast_unsigned());
    let mut statement = connection.prepare("SELECT topic, partition, count(*) FROM rows GROUP BY topic, partition")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (topic, partition, count): (String, i32, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Ok(topic) = Topic::new(&topic) {
            gates.owe_rows(&(topic, partition), count.cast_unsigned());
        }
    }
    Ok(())
}

/// At most this many bytes of rows are read at once, but always one row.
const MAX_READ_BYTES: usize = 4 << 20;

fn read_lane(connection: &Connection, lane: &TopicPartition, limit: usize) -> rusqlite::Result<Vec<Row>> {
    let sql = "SELECT name, arrival, not_before, maybe, attempts, at, body FROM rows WHERE topic = ?1 AND partition = ?2 ORDER BY arrival LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query(params![lane.0.as_str(), lane.1, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let name = DocumentName(row.get(0)?);
        let body: Vec<u8> = row.get(6)?;
        rows.push(Row {
            place: Place { name, lane: lane.clone(), arrival: row.get::<_, i64>(1)?.cast_unsigned(), ours: true },
            not_before_ms: row.get(2)?,
            maybe: row.get(3)?,
            attempts: row.get(4)?,
            at_ms: row.get(5)?,
            content: row::decode(name, &lane.0, lane.1, &body),
        });
        bytes += body.len();
        if bytes > MAX_READ_BYTES {
            break;
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
