//! The inbox's file: SQLite, opened so that what it has said to be stored is there after a crash.
//!
//! Each setting and check here was a loss in an experiment. The automatic checkpoint is off, because it swallows I/O
//! errors while the log grows; at the open, before the first write, the log is brought into the file and must then be
//! empty, because behind a frame whose sync had failed, acknowledged ones could be cut by a power loss.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The version of the tables.
const SCHEMA_VERSION: i64 = 1;

/// `f_type` of a tmpfs, from `statfs(2)`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

const SCHEMA: &str = "
CREATE TABLE rows (
  seq INTEGER PRIMARY KEY,
  name BLOB NOT NULL UNIQUE,
  topic TEXT NOT NULL,
  partition INTEGER NOT NULL,
  arrival INTEGER NOT NULL,
  not_before INTEGER NOT NULL,
  maybe INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  at INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE INDEX rows_lane ON rows (topic, partition, arrival);
CREATE INDEX rows_held ON rows (not_before) WHERE not_before > 0;
CREATE TABLE poison (
  seq INTEGER PRIMARY KEY,
  name BLOB NOT NULL UNIQUE,
  topic TEXT NOT NULL,
  partition INTEGER NOT NULL,
  arrival INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  at INTEGER NOT NULL,
  set_aside INTEGER NOT NULL,
  reason TEXT NOT NULL,
  body BLOB NOT NULL
) STRICT;
";

/// Why the inbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another gate has it.
    #[error("another gate uses the inbox in `{}`; stop it, or give this one its own `inbox.dir`", .0.display())]
    InUse(PathBuf),
    /// It would not be durable.
    #[error("the inbox in `{}` would not be durable: it is {why}; set `inbox.kind = \"none\"`, or `inbox.allow_volatile = true` if losing it is acceptable", .dir.display())]
    Volatile {
        /// The folder.
        dir: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// The files are not as we made them.
    #[error("the inbox in `{}` cannot be trusted: {why}", .dir.display())]
    Untrusted {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Its settings cannot be used: the whole key, and what is wrong.
    #[error("{0}")]
    Settings(String),
    /// The disk said no.
    #[error("the inbox in `{}` cannot be opened: {error}", .dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// The disk's words.
        error: String,
    },
}

/// The folder, and the lock on it that ends with the process.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder for this process alone; makes it where it is missing.
    pub fn lock(dir: &Path, allow_volatile: bool) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::Io { dir: dir.to_owned(), error: error.to_string() };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        check_trust(dir)?;
        if !allow_volatile && let Some(why) = volatile(dir) {
            return Err(OpenError::Volatile { dir: dir.to_owned(), why });
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The database in it.
    pub fn database(&self) -> PathBuf {
        self.dir.join("inbox.db")
    }

    /// Opens the database for the one writer; makes it where it is missing.
    pub fn open_writer(&self) -> Result<Connection, OpenError> {
        let path = self.database();
        self.prepare(&path).map_err(|error| self.failed(&error))?;
        let connection = Connection::open(&path).map_err(|error| self.failed(&error))?;
        self.configure(&connection).map_err(|error| self.failed(&error))?;
        let left = checkpoint(&connection, "TRUNCATE").map_err(|error| self.failed(&error))?;
        if left != (0, 0, 0) {
            return Err(OpenError::Untrusted {
                dir: self.dir.clone(),
                why: format!("its log could not be brought in: {left:?}; is it open elsewhere?"),
            });
        }
        self.migrate(&connection)?;
        // The files' names in the folder, and the folder's own in its parent.
        let folder = self.dir.canonicalize().map_err(|error| self.failed(&error))?;
        for dir in [Some(folder.as_path()), folder.parent()].into_iter().flatten() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| self.failed(&error))?;
        }
        Ok(connection)
    }

    /// The file exists with the right mode before SQLite opens it; a link in its place is refused.
    fn prepare(&self, path: &Path) -> io::Result<()> {
        let found = path.symlink_metadata();
        if found.as_ref().is_ok_and(|meta| !meta.is_file()) {
            return Err(io::Error::other(format!("{} is not a plain file", path.display())));
        }
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?
            .set_permissions(PermissionsExt::from_mode(0o600))
    }

    fn configure(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_timeout(Duration::from_millis(250))?;
        connection.pragma_update(None, "page_size", 4096)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(())
    }

    fn migrate(&self, connection: &Connection) -> Result<(), OpenError> {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| self.failed(&error))?;
        match version {
            0 => {
                let make = format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
                connection.execute_batch(&make).map_err(|error| self.failed(&error))
            }
            SCHEMA_VERSION => Ok(()),
            other => {
                let why = format!("its tables are of version {other}, this gate knows {SCHEMA_VERSION}; use the newer gate to replay it");
                Err(OpenError::Untrusted { dir: self.dir.clone(), why })
            }
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> OpenError {
        OpenError::Io { dir: self.dir.clone(), error: error.to_string() }
    }
}

/// Opens the database to read beside its writer.
pub fn open_reader(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_millis(250))?;
    Ok(connection)
}

/// Brings the log into the file; gives (busy, frames in the log, frames brought in).
pub fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64, i64)> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

/// Gives so many free pages back. SQLite frees one for each row of the answer that is asked for (`execute_batch` asks for one).
pub fn vacuum(connection: &Connection, pages: u64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut freed = statement.query([])?;
    while freed.next()?.is_some() {}
    Ok(())
}

/// Bytes of the log that are not in the file yet.
pub fn log_bytes(connection: &Connection) -> u64 {
    checkpoint(connection, "NOOP").map_or(0, |(_, logged, brought_in)| u64::try_from(logged - brought_in).unwrap_or(0) * 4096)
}

/// Bytes of live pages and of the log.
pub fn used_bytes(connection: &Connection, database: &Path) -> rusqlite::Result<u64> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(u64::try_from(pages).unwrap_or(0) * 4096 + wal_bytes(database))
}

/// Bytes of the log.
pub fn wal_bytes(database: &Path) -> u64 {
    let mut wal = database.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).map_or(0, |meta| meta.len())
}

/// Bytes that the disk has free for us.
pub fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether the folder would do, without making or locking it.
pub fn check(dir: &Path, allow_volatile: bool) -> Result<(), OpenError> {
    let there = dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    if there == dir {
        check_trust(dir)?;
    }
    match volatile(there) {
        Some(why) if !allow_volatile => Err(OpenError::Volatile { dir: dir.to_owned(), why }),
        _ => Ok(()),
    }
}

/// The folder is ours, and nobody else writes in it.
fn check_trust(dir: &Path) -> Result<(), OpenError> {
    let untrusted = |why: String| OpenError::Untrusted { dir: dir.to_owned(), why };
    let meta = dir.metadata().map_err(|error| untrusted(error.to_string()))?;
    if meta.mode() & 0o022 != 0 {
        return Err(untrusted(format!("others may write in it (mode {:o}); run `chmod go-w` on it", meta.mode() & 0o777)));
    }
    Ok(())
}

fn volatile(dir: &Path) -> Option<&'static str> {
    if std::env::var_os("K_SERVICE").is_some() {
        return Some("on Cloud Run, whose files are memory");
    }
    let disk = rustix::fs::statfs(dir).ok()?;
    (u64::try_from(disk.f_type).ok()? == TMPFS_MAGIC).then_some("on a tmpfs, which is memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(connection: &Connection, name: &str) -> i64 {
        connection.pragma_query_value(None, name, |row| row.get(0)).expect("a number")
    }

    #[test]
    fn free_pages_go_back_to_the_disk_and_the_log_is_measured_by_what_is_not_in_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).expect("ours");
        let folder = Folder::lock(dir.path(), true).expect("ours alone");
        let connection = folder.open_writer().expect("a database");
        let fill = "CREATE TABLE large (body BLOB) STRICT; INSERT INTO large VALUES (zeroblob(4000000)); DROP TABLE large;";
        connection.execute_batch(fill).expect("room");
        assert!(log_bytes(&connection) > 4_000_000);
        checkpoint(&connection, "PASSIVE").expect("room");
        assert_eq!(log_bytes(&connection), 0);
        assert!(wal_bytes(&folder.database()) > 4_000_000, "the log keeps its size on the disk");
        let before = (number(&connection, "freelist_count"), number(&connection, "page_count"));
        assert!(before.0 > 900, "{before:?}");
        vacuum(&connection, 500).expect("room");
        let after = (number(&connection, "freelist_count"), number(&connection, "page_count"));
        assert!(before.0 - after.0 >= 500 && before.1 - after.1 >= 500, "{before:?} {after:?}");
    }
}
