//! The inbox: where an event is durably kept when the broker cannot take it, and from where it is replayed.
//!
//! What always holds:
//! - [`Inbox::store`] answers after the commit that holds the row.
//! - A row that the producer may still deliver is *held*: its late report settles it through the same queue as the
//!   insert, so never before it. Held rows are not replayed until their time is over.
//! - Replay orders by arrival, a number taken before the send, not by insertion.
//! - Storing an event that is there already is success, and leaves one row.
//! - Rows are deleted only after the broker's acknowledgement, or set aside, kept and counted.

mod file;
pub mod offline;
mod queue;
pub mod replay;
pub mod row;
mod state;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::event::Topic;
use crate::gate::{Gates, TopicPartition};
use crate::route::DocumentName;
use crate::units::ByteSize;

use queue::{Command, Queue};
use row::{Parcel, Row};
use state::State;
use writer::Writer;

pub use file::{Folder, OpenError};

/// Bytes of rows that may wait for their commit.
const QUEUE_BYTES: usize = 64 << 20;

/// Where events are kept while the broker cannot take them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `disk`: an embedded store in `dir`. `none`: without a broker events are refused with `unavailable`.
    pub kind: Kind,
    /// The folder of the disk inbox. One gate uses it at a time. The topics' catalog is kept there too.
    pub dir: PathBuf,
    /// Bytes that the inbox may hold, its log included. Beyond, events are refused with `unavailable`.
    pub max_bytes: ByteSize,
    /// The inbox takes nothing more when the disk has less than this free: deletes need room too.
    pub min_free: ByteSize,
    /// Allow the disk inbox where it is not durable: on Cloud Run (`K_SERVICE`), or on a tmpfs. What is acknowledged there can be lost.
    pub allow_volatile: bool,
    /// Whether batches of idempotent Kafka producers may be kept here too, and be acknowledged. Right for one gate behind an
    /// address (or with stickiness by address): with several, a producer's next batch can meet a gate that does not have the
    /// one before it, and is then written without its numbers. `false`: they are held for `sink.outage_hold`, then refused for now.
    pub idempotent: bool,
    /// A row that the broker has refused so often is set aside: kept, counted, and sent again only by `sluicegate inbox replay`.
    pub max_attempts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::Disk,
            dir: PathBuf::from("data"),
            max_bytes: ByteSize::mib(4096),
            min_free: ByteSize::mib(64),
            allow_volatile: false,
            idempotent: true,
            max_attempts: 5,
        }
    }
}

impl Config {
    /// Mistakes that only this area can see.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.max_attempts == 0 {
            found.push(("max_attempts".to_owned(), "must be at least 1".to_owned()));
        }
        if self.min_free < ByteSize::mib(8) {
            found.push(("min_free".to_owned(), "must be at least 8 MiB: what was delivered must be deletable on a full disk".to_owned()));
        }
        if self.max_bytes < ByteSize::mib(1) {
            found.push(("max_bytes".to_owned(), "must be at least 1 MiB".to_owned()));
        }
        found
    }
}

/// Whether the disk inbox could be opened, as far as can be seen without opening it.
pub fn check(config: &Config) -> Result<(), OpenError> {
    file::check(&config.dir, config.allow_volatile)
}

/// Which inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An embedded store on a disk.
    Disk,
    /// None.
    None,
}

/// A row that is durably there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The name of its document.
    pub name: String,
}

/// Why a row was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no inbox.
    #[error("no inbox")]
    None,
    /// The queue, the budget or the disk is full.
    #[error("the inbox is full")]
    Full,
    /// The file is locked by somebody else.
    #[error("the inbox is busy")]
    Busy,
    /// The disk has failed earlier; nothing is stored until a restart.
    #[error("the inbox's disk has failed")]
    Latched,
    /// The commit failed in a way that leaves it open whether the row is there.
    #[error("the inbox's disk failed at the commit")]
    Unknown,
}

/// What the producer says late of a row that is stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is in the broker: the row goes.
    Delivered,
    /// The producer has given it up: the row is ready.
    NotDelivered {
        /// Whether it may be in the broker all the same.
        maybe: bool,
    },
}

/// Numbers of the inbox at a moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    /// `disk` or `none`.
    pub kind: &'static str,
    /// Rows that wait to be delivered.
    pub rows: u64,
    /// Those of them that the producer may still deliver.
    pub held: u64,
    /// Those of them whose topic the broker does not have, or does not let us write to.
    pub stranded: u64,
    /// Rows set aside.
    pub poison: u64,
    /// Bytes of live pages and of the log.
    pub bytes: u64,
    /// Bytes that it may hold.
    pub max_bytes: u64,
    /// Age of the oldest row in seconds.
    pub oldest_age_s: Option<u64>,
    /// Rows stored since the start.
    pub stored: u64,
    /// Bytes of rows that wait for their commit.
    pub queued_bytes: u64,
    /// Whether it takes nothing for want of room.
    pub full: bool,
    /// Whether its disk has failed.
    pub latched: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Inbox {
    config: Config,
    gates: Arc<Gates>,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    queue: Arc<Queue>,
    state: Arc<State>,
    reader: Arc<Mutex<Connection>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _folder: Folder,
}

impl Inbox {
    /// Opens the inbox. Rows that an earlier process held are ready now, and may be delivered already; their gates are closed.
    pub fn open(config: &Config, gates: &Arc<Gates>) -> Result<Self, OpenError> {
        let disk = match config.kind {
            Kind::Disk => Some(Disk::open(config, gates)?),
            Kind::None => None,
        };
        Ok(Self { config: config.clone(), gates: Arc::clone(gates), disk })
    }

    /// Whether there is an inbox at all.
    pub fn exists(&self) -> bool {
        self.disk.is_some()
    }

    /// Whether it would take a row now, as far as can be seen.
    pub fn takes(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| !disk.state.is_latched() && !disk.state.is_full())
    }

    /// Whether its disk has failed: what it holds cannot be deleted before a restart, and so is not sent before.
    pub fn is_latched(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.state.is_latched())
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Puts a record into the queue; the answer comes after the commit that holds it.
    pub fn store(&self, parcel: Parcel) -> Result<oneshot::Receiver<Result<Stored, StoreError>>, StoreError> {
        let disk = self.disk.as_ref().ok_or(StoreError::None)?;
        if disk.state.is_latched() {
            return Err(StoreError::Latched);
        }
        let (reply, answer) = oneshot::channel();
        disk.queue.push(Command::Insert { parcel: Box::new(parcel), reply }).map_err(|_| StoreError::Full)?;
        Ok(answer)
    }

    /// Tells the writer the late report of a row.
    pub fn settle(&self, name: DocumentName, settlement: Settlement) {
        self.push(Command::Settle { name, settlement });
    }

    /// Rows set aside go back among the others; gives their number.
    pub async fn restore(&self, topic: Option<Topic>) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Restore { topic, reply });
        answer.await.unwrap_or(0)
    }

    /// Deletes rows for good, those set aside or all; gives their number.
    pub async fn purge(&self, topic: Option<Topic>, only_poison: bool) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Purge { topic, only_poison, reply });
        answer.await.unwrap_or(0)
    }

    /// Numbers of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let Some(disk) = &self.disk else { return Snapshot { kind: "none", ..Snapshot::default() } };
        let age = disk.state.oldest_ms().map(|at| u64::try_from(writer::now_ms() - at).unwrap_or(0) / 1_000);
        Snapshot {
            kind: "disk",
            rows: self.gates.total(),
            held: disk.state.held(),
            stranded: self.gates.stranded(),
            poison: disk.state.aside(),
            bytes: disk.state.used_bytes(),
            max_bytes: self.config.max_bytes.get(),
            oldest_age_s: age,
            stored: disk.state.stored(),
            queued_bytes: disk.queue.bytes() as u64,
            full: disk.state.is_full(),
            latched: disk.state.is_latched(),
        }
    }

    /// Commits what is queued and ends the writer. Blocks; for the drain's last phase.
    pub fn close(&self) {
        let Some(disk) = &self.disk else { return };
        disk.queue.close();
        let thread = disk.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the inbox's writer has ended by a fault of ours");
        }
    }

    /// The next rows of a partition in the order of their arrival.
    async fn rows(&self, lane: TopicPartition, limit: usize) -> Vec<Row> {
        let Some(disk) = &self.disk else { return Vec::new() };
        let reader = Arc::clone(&disk.reader);
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

    /// Deletes delivered rows; false when that could not be promised.
    async fn remove(&self, names: Vec<DocumentName>) -> bool {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Remove { names, reply });
        answer.await.is_ok()
    }

    fn refused(&self, name: DocumentName, aside: Option<&'static str>) {
        self.push(Command::Refused { name, aside });
    }

    async fn assign(&self, from: TopicPartition, rows: Vec<(DocumentName, i32)>) -> bool {
        let (reply, answer) = oneshot::channel();
        self.push(Command::Assign { from, rows, reply });
        answer.await.is_ok()
    }

    /// What shrinks the inbox is taken by the queue unless it is closed; then a late report is lost, the row stays, and the next start replays it.
    fn push(&self, command: Command) {
        if let Some(disk) = &self.disk {
            let _ = disk.queue.push(command);
        }
    }
}

impl Disk {
    fn open(config: &Config, gates: &Arc<Gates>) -> Result<Self, OpenError> {
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
        let row = Row {
            name: DocumentName(row.get(0)?),
            topic: lane.0.clone(),
            partition: lane.1,
            arrival: row.get::<_, i64>(1)?.cast_unsigned(),
            not_before_ms: row.get(2)?,
            maybe: row.get(3)?,
            attempts: row.get(4)?,
            at_ms: row.get(5)?,
            body: row.get(6)?,
        };
        bytes += row.body.len();
        rows.push(row);
        if bytes > MAX_READ_BYTES {
            break;
        }
    }
    Ok(rows)
}

/// Milliseconds since 1970 when this process began to hold rows, `ahead` of now. Counted by the clock that nobody sets: when
/// the other one goes back an hour, no row is held for an hour. What an earlier process held, nobody holds any more.
pub fn not_before_ms(ahead: Duration) -> i64 {
    static BEGAN: LazyLock<(Instant, i64)> = LazyLock::new(|| (Instant::now(), writer::now_ms()));
    let (began, at_ms) = *BEGAN;
    at_ms.saturating_add(i64::try_from((began.elapsed() + ahead).as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
