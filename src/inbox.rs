//! The inbox: where an event is durably kept when the broker cannot take it, and from where it is replayed.
//!
//! What always holds:
//! - [`Inbox::store`] answers after the commit that holds the row.
//! - A row that the producer may still deliver is *held*: its late report settles it through the same queue as the
//!   insert, so never before it. Held rows are not replayed until their time is over.
//! - Replay orders by arrival, a number taken before the send, not by insertion.
//! - Storing an event that is there already is success, and leaves one row.
//! - Rows are deleted only after the broker's acknowledgement, or set aside, kept and counted.

mod disk;
pub mod firestore;
pub mod offline;
pub mod replay;
pub mod row;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::drain::Drain;
use crate::event::Topic;
use crate::gate::{Gates, TopicPartition};
use crate::route::DocumentName;
use crate::units::ByteSize;

use disk::Disk;
use firestore::Firestore;
use row::{Parcel, Place, Row};

pub use disk::OpenError;
pub use firestore::{Collections, Numbers as FirestoreNumbers};

/// Where events are kept while the broker cannot take them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `disk`: an embedded store in `dir`. `firestore`: documents of a Firestore database. `none`: without a broker events are refused with `unavailable`.
    pub kind: Kind,
    /// The folder of the disk inbox. One gate uses it at a time. The topics' catalog is kept there too; with another inbox it is not kept.
    pub dir: PathBuf,
    /// Bytes that the inbox may hold, its log included. Beyond, events are refused with `unavailable`.
    pub max_bytes: ByteSize,
    /// The inbox takes nothing more when the disk has less than this free: deletes need room too.
    pub min_free: ByteSize,
    /// Allow an inbox that is not durable: a disk's on Cloud Run (`K_SERVICE`) or on a tmpfs, a Firestore emulator on Cloud Run or
    /// beyond loopback. What is acknowledged there can be lost.
    pub allow_volatile: bool,
    /// Whether batches of idempotent Kafka producers may be kept here too, and be acknowledged. Right for one gate behind an
    /// address (or with stickiness by address): with several, a producer's next batch can meet a gate that does not have the
    /// one before it, and is then written without its numbers. `false`: they are held for `sink.outage_hold`, then refused for now.
    /// Default: `true` with a disk, which is one gate's; `false` with Firestore, which several gates share as a rule.
    pub idempotent: Option<bool>,
    /// A row that the broker has refused so often is set aside: kept, counted, and sent again only by `sluicegate inbox replay`.
    pub max_attempts: u32,
    /// The database of `kind = "firestore"`, and how it is reached.
    pub firestore: firestore::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::Disk,
            dir: PathBuf::from("data"),
            max_bytes: ByteSize::mib(4096),
            min_free: ByteSize::mib(64),
            allow_volatile: false,
            idempotent: None,
            max_attempts: 5,
            firestore: firestore::Config::default(),
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
        // The platform's variables may name a database that is not this gate's business.
        if self.kind == Kind::Firestore {
            found.extend(self.firestore.mistakes().into_iter().map(|(key, problem)| (format!("firestore.{key}"), problem)));
        }
        found
    }
}

/// Whether the inbox could be opened, as far as can be seen without opening it.
pub fn check(config: &Config) -> Result<(), OpenError> {
    match config.kind {
        Kind::Disk => disk::check(&config.dir, config.allow_volatile),
        Kind::Firestore => firestore::check(config).map_err(OpenError::Settings),
        Kind::None => Ok(()),
    }
}

/// Which inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An embedded store on a disk.
    Disk,
    /// Documents of a Firestore database.
    Firestore,
    /// None.
    None,
}

/// What comes of a row after its commit.
type Commit = oneshot::Receiver<Result<Stored, StoreError>>;

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
    /// The queue, the budget or the disk is full; or more is written than Firestore's ramp or the day's quota allows.
    #[error("the inbox is full")]
    Full,
    /// The file is locked by somebody else; or Firestore has asked for a pause.
    #[error("the inbox is busy")]
    Busy,
    /// The disk has failed earlier; nothing is stored until a restart.
    #[error("the inbox's disk has failed")]
    Latched,
    /// The commit failed in a way that leaves it open whether the row is there.
    #[error("the inbox failed at the commit")]
    Unknown,
    /// Firestore does not let us write.
    #[error("the inbox's credentials are refused")]
    Denied,
    /// The inbox will never take it. It should have been refused before.
    #[error("the inbox will not take it")]
    Refused,
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
    /// `disk`, `firestore` or `none`.
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
    /// What Firestore is asked to do, and what came of it; none: the inbox is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firestore: Option<FirestoreNumbers>,
}

/// See the module.
#[derive(Debug)]
pub struct Inbox {
    config: Config,
    gates: Arc<Gates>,
    store: Store,
}

/// What stands behind it.
#[derive(Debug)]
enum Store {
    Disk(Disk),
    Firestore(Firestore),
    None,
}

impl Inbox {
    /// Opens the inbox. Rows that an earlier process held on the disk are ready now, and may be delivered already; their gates are closed.
    /// `collections`: where the rows of each topic are kept, if it is Firestore's.
    pub fn open(config: &Config, collections: Collections, gates: &Arc<Gates>) -> Result<Self, OpenError> {
        let store = match config.kind {
            Kind::Disk => Store::Disk(Disk::open(config, gates)?),
            Kind::Firestore => Store::Firestore(Firestore::open(config, collections, gates).map_err(OpenError::Settings)?),
            Kind::None => Store::None,
        };
        Ok(Self { config: config.clone(), gates: Arc::clone(gates), store })
    }

    /// Starts what runs in the background.
    pub fn start(&self, drain: &Drain) {
        match &self.store {
            Store::Firestore(firestore) => firestore.start(drain),
            Store::Disk(_) | Store::None => {}
        }
    }

    /// Whether its rows are replayed without being asked for.
    pub fn replays_by_itself(&self) -> bool {
        !matches!(self.store, Store::Firestore(_)) || self.config.firestore.replay == firestore::ReplayWhen::Background
    }

    /// Waits until the gates of what waits in it already are closed; the disk's are from the beginning.
    pub async fn is_open(&self) {
        if let Store::Firestore(firestore) = &self.store {
            firestore.has_looked().await;
        }
    }

    /// Whether there is an inbox at all.
    pub fn exists(&self) -> bool {
        !matches!(self.store, Store::None)
    }

    /// Whether it would take a row now, as far as can be seen.
    pub fn takes(&self) -> bool {
        match &self.store {
            Store::Disk(disk) => disk.takes(),
            Store::Firestore(firestore) => firestore.takes(),
            Store::None => false,
        }
    }

    /// Whether batches of idempotent Kafka producers may be kept in it.
    pub fn keeps_numbers(&self) -> bool {
        match self.store {
            Store::Disk(_) => self.config.idempotent.unwrap_or(true),
            Store::Firestore(_) => self.config.idempotent.unwrap_or(false),
            Store::None => false,
        }
    }

    /// Whether it cannot delete before a restart what it holds: then that is not sent before.
    pub fn is_latched(&self) -> bool {
        match &self.store {
            Store::Disk(disk) => disk.is_latched(),
            Store::Firestore(_) | Store::None => false,
        }
    }

    /// Whether it was not to be reached when it was asked last.
    fn is_away(&self) -> bool {
        match &self.store {
            Store::Firestore(firestore) => firestore.is_away(),
            Store::Disk(_) | Store::None => false,
        }
    }

    /// Whether somebody else has what waits in hand.
    fn is_in_other_hands(&self) -> bool {
        match &self.store {
            Store::Firestore(firestore) => firestore.is_in_other_hands(),
            Store::Disk(_) | Store::None => false,
        }
    }

    /// How long a store may take, where it is more than a disk's commit: the broker must leave that much of an answer's time.
    pub fn store_time(&self) -> Option<Duration> {
        match &self.store {
            Store::Firestore(firestore) => Some(firestore.store_time()),
            Store::Disk(_) | Store::None => None,
        }
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Puts a record into the queue; the answer comes after the commit that holds it.
    pub fn store(&self, parcel: Parcel) -> Result<Commit, StoreError> {
        match &self.store {
            Store::Disk(disk) => disk.store(parcel),
            Store::Firestore(firestore) => firestore.store(parcel),
            Store::None => Err(StoreError::None),
        }
    }

    /// Tells the writer the late report of a row.
    pub fn settle(&self, name: DocumentName, settlement: Settlement) {
        match &self.store {
            Store::Disk(disk) => disk.settle(name, settlement),
            Store::Firestore(firestore) => firestore.settle(name, settlement),
            Store::None => {}
        }
    }

    /// Rows set aside go back among the others; gives their number.
    pub async fn restore(&self, topic: Option<Topic>) -> u64 {
        match &self.store {
            Store::Disk(disk) => disk.restore(topic).await,
            Store::Firestore(firestore) => firestore.restore(topic).await,
            Store::None => 0,
        }
    }

    /// Deletes rows for good, those set aside or all; gives their number.
    pub async fn purge(&self, topic: Option<Topic>, only_poison: bool) -> u64 {
        match &self.store {
            Store::Disk(disk) => disk.purge(topic, only_poison).await,
            Store::Firestore(firestore) => firestore.purge(topic, only_poison).await,
            Store::None => 0,
        }
    }

    /// Numbers of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let seen = match &self.store {
            Store::Disk(disk) => Snapshot { max_bytes: self.config.max_bytes.get(), ..disk.snapshot() },
            Store::Firestore(firestore) => firestore.snapshot(),
            Store::None => return Snapshot { kind: "none", ..Snapshot::default() },
        };
        Snapshot { rows: self.gates.total().max(seen.rows), stranded: self.gates.stranded(), ..seen }
    }

    /// Commits what is queued and ends the writer; for the drain's last phase.
    pub async fn close(&self) {
        match &self.store {
            Store::Disk(disk) => disk.close().await,
            Store::Firestore(firestore) => firestore.close().await,
            Store::None => {}
        }
    }

    /// The lanes that wait for replay.
    fn lanes(&self) -> Vec<TopicPartition> {
        match &self.store {
            Store::Firestore(firestore) => firestore.lanes(),
            Store::Disk(_) | Store::None => self.gates.closed(),
        }
    }

    /// The same, and those that somebody else replays.
    fn all_lanes(&self) -> Vec<TopicPartition> {
        match &self.store {
            Store::Firestore(firestore) => firestore.all_lanes(),
            Store::Disk(_) | Store::None => self.gates.closed(),
        }
    }

    /// Whether nothing is known to wait that this process may replay.
    fn is_done(&self) -> bool {
        match &self.store {
            Store::Firestore(firestore) => firestore.is_done(),
            Store::Disk(_) | Store::None => self.gates.closed().is_empty(),
        }
    }

    /// Looks for lanes that others have left, where several share a store.
    async fn look(&self) {
        match &self.store {
            Store::Firestore(firestore) => firestore.look().await,
            Store::Disk(_) | Store::None => {}
        }
    }

    /// How many rows wait.
    pub async fn left(&self) -> u64 {
        match &self.store {
            Store::Firestore(firestore) => firestore.left().await,
            Store::Disk(_) | Store::None => self.gates.total(),
        }
    }

    /// Whether this process may replay a lane now: where several share a store, one of them does.
    async fn claim(&self, lane: &TopicPartition) -> bool {
        match &self.store {
            Store::Firestore(firestore) => firestore.claim(lane).await,
            Store::Disk(_) | Store::None => true,
        }
    }

    /// Whether others may store and replay beside us.
    fn is_shared(&self) -> bool {
        matches!(self.store, Store::Firestore(_))
    }

    /// Leaves a lane to others.
    async fn let_go(&self, lane: &TopicPartition) {
        match &self.store {
            Store::Firestore(firestore) => firestore.let_go(lane).await,
            Store::Disk(_) | Store::None => {}
        }
    }

    /// While it lives, what this process has claimed of a lane stays claimed.
    fn hand(&self, lane: &TopicPartition) -> Option<firestore::Hand> {
        match &self.store {
            Store::Firestore(firestore) => Some(firestore.hand(lane)),
            Store::Disk(_) | Store::None => None,
        }
    }

    /// Whether a lane that was claimed still is.
    fn holds(&self, lane: &TopicPartition) -> bool {
        match &self.store {
            Store::Firestore(firestore) => firestore.holds(lane),
            Store::Disk(_) | Store::None => true,
        }
    }

    /// How long a lane rests in which nothing is ready: a look may cost something.
    fn rest(&self) -> Duration {
        match &self.store {
            Store::Firestore(_) => Duration::from_secs(1),
            Store::Disk(_) | Store::None => Duration::from_millis(100),
        }
    }

    /// The next rows of a partition in the order of their arrival.
    async fn rows(&self, lane: &TopicPartition, limit: usize) -> Vec<Row> {
        match &self.store {
            Store::Disk(disk) => disk.rows(lane.clone(), limit).await,
            Store::Firestore(firestore) => firestore.rows(lane, limit).await,
            Store::None => Vec::new(),
        }
    }

    /// Deletes delivered rows; false when that could not be promised.
    async fn remove(&self, rows: Vec<Place>) -> bool {
        match &self.store {
            Store::Disk(disk) => disk.remove(rows).await,
            Store::Firestore(firestore) => firestore.remove(rows).await,
            Store::None => false,
        }
    }

    /// Counts a refusal by the broker; `aside`: the last one, and why.
    async fn refused(&self, row: &Row, aside: Option<&'static str>) {
        match &self.store {
            Store::Disk(disk) => disk.refused(row.place.name, aside),
            Store::Firestore(firestore) => firestore.refused(row, aside).await,
            Store::None => {}
        }
    }

    /// Gives rows of a lane their partitions.
    async fn assign(&self, from: &TopicPartition, rows: Vec<(Place, i32)>) -> bool {
        match &self.store {
            Store::Disk(disk) => disk.assign(from.clone(), rows).await,
            Store::Firestore(firestore) => firestore.assign(from, rows).await,
            Store::None => false,
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Milliseconds since 1970 when this process began to hold rows, `ahead` of now. Counted by the clock that nobody sets: when
/// the other one goes back an hour, no row is held for an hour. What an earlier process held, nobody holds any more.
pub fn not_before_ms(ahead: Duration) -> i64 {
    static BEGAN: LazyLock<(Instant, i64)> = LazyLock::new(|| (Instant::now(), now_ms()));
    let (began, at_ms) = *BEGAN;
    at_ms.saturating_add(i64::try_from((began.elapsed() + ahead).as_millis()).unwrap_or(i64::MAX))
}
