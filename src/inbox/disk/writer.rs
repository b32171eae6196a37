//! The inbox's one writer: a thread that turns the queue into commits and answers after each.
//!
//! What always holds: a row is answered for after the commit that holds it; a commit that failed by I/O is *unknown*
//! and latches the store until a restart, because after a failed sync the file's state is; a full disk only stops
//! inserts, and room made elsewhere lets them go on; what was delivered and cannot be deleted yet is not forgotten.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use crate::event::Topic;
use crate::gate::{Gates, TopicPartition};
use crate::route::DocumentName;
use crate::telemetry::metrics;

use super::super::row::{self, Parcel};
use super::queue::{Command, Queue, Taken};
use super::state::State;
use super::{Config, Settlement, StoreError, Stored, file, now_ms};

/// Between looks at what an idle store could tidy.
const IDLE: Duration = Duration::from_millis(500);

/// The log is brought into the file when it is so long, or shorter where little is to stay free or to be held.
const MAX_LOG_BYTES: u64 = 32 << 20;
const MIN_LOG_BYTES: u64 = 1 << 20;

/// Free pages are given back to the disk so many at a time.
const VACUUM_PAGES: u64 = 2_000;

/// The writer and what it owns.
pub(super) struct Writer {
    pub(super) config: Config,
    pub(super) connection: Connection,
    pub(super) database: PathBuf,
    pub(super) queue: Arc<Queue>,
    pub(super) gates: Arc<Gates>,
    pub(super) state: Arc<State>,
    /// Work that shrinks the store and could not be done yet.
    pub(super) backlog: Vec<Command>,
}

/// What a command has done, once it is committed.
enum Effect {
    Inserted { existed: bool },
    Paid(HashMap<TopicPartition, u64>),
    Purged { aside: u64, paid: HashMap<TopicPartition, u64> },
    Owed(HashMap<TopicPartition, u64>),
    Assigned(Vec<(i32, u64)>),
    Nothing,
}

impl Writer {
    pub(super) fn run(mut self) {
        self.measure();
        let mut tidied = Instant::now();
        loop {
            let taken = self.queue.take(IDLE);
            // A store without room is never idle while senders try: room is made beside them.
            let tidy = matches!(taken, Taken::Idle) || (self.state.is_full() && tidied.elapsed() >= IDLE);
            match taken {
                Taken::Group(group) => self.take(group),
                Taken::Idle => {}
                Taken::Over => break,
            }
            if tidy {
                self.tidy();
                tidied = Instant::now();
            }
        }
        self.take(Vec::new());
        if !self.state.is_latched() {
            // The next start does this again, and checks it.
            let _ = file::checkpoint(&self.connection, "TRUNCATE");
        }
    }

    fn take(&mut self, group: Vec<Command>) {
        let mut work = std::mem::take(&mut self.backlog);
        work.extend(group);
        if self.state.is_latched() {
            return refuse(work, StoreError::Latched);
        }
        if let Some(why) = self.no_room() {
            let (inserts, rest) = split(work);
            refuse(inserts, why);
            work = rest;
        }
        if !work.is_empty() {
            self.commit(work);
        }
        if self.state.is_latched() {
            return;
        }
        // Not by the log's size on the disk: it keeps that when it begins anew.
        if file::log_bytes(&self.connection) >= self.log_limit() {
            self.checkpoint();
        }
        self.measure();
    }

    /// A commit of all of it or, when that does not fit, of what shrinks the store.
    fn commit(&mut self, work: Vec<Command>) {
        let started = Instant::now();
        match self.write(&work) {
            Ok(effects) => self.apply(work, effects, started),
            Err(error) => match class(&error) {
                StoreError::Latched => {
                    self.latch(&error);
                    refuse(work, StoreError::Unknown);
                }
                other => {
                    let (inserts, rest) = split(work);
                    if inserts.is_empty() {
                        // Tried again when the store is tidied, as often as it takes: one line for all of it.
                        tracing::debug!(%error, "the inbox cannot delete what was delivered yet");
                        self.backlog = rest;
                        return;
                    }
                    tracing::warn!(%error, "a commit of the inbox failed; nothing of it is stored");
                    refuse(inserts, other);
                    // Without inserts, it is tried once more; whatever comes of that counts.
                    if !rest.is_empty() {
                        self.commit(rest);
                    }
                }
            },
        }
    }

    fn write(&mut self, work: &[Command]) -> rusqlite::Result<Vec<Effect>> {
        let now = now_ms();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let effects = work.iter().map(|command| write_one(&transaction, command, now)).collect::<rusqlite::Result<Vec<_>>>()?;
        transaction.commit()?;
        Ok(effects)
    }

    fn apply(&mut self, work: Vec<Command>, effects: Vec<Effect>, started: Instant) {
        let mut stored = 0;
        for (command, effect) in work.into_iter().zip(effects) {
            let changed = self.settle_gates(&command, effect);
            stored += u64::from(matches!(command, Command::Insert { .. }));
            count(&command, changed);
            answer(command, changed);
        }
        self.state.committed(stored);
        metrics().inbox_stored.inc_by(stored);
        metrics().inbox_commit_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// What the commit means for the gates; gives the number of rows that it was about.
    fn settle_gates(&self, command: &Command, effect: Effect) -> u64 {
        match effect {
            Effect::Inserted { existed } => u64::from(!existed),
            Effect::Paid(lanes) => self.pay(&lanes),
            Effect::Purged { aside, paid } => aside + self.pay(&paid),
            Effect::Owed(lanes) => lanes
                .iter()
                .map(|(lane, rows)| {
                    self.gates.owe_rows(lane, *rows);
                    *rows
                })
                .sum(),
            Effect::Assigned(partitions) => {
                if let Command::Assign { from, .. } = command {
                    partitions.iter().for_each(|(partition, rows)| self.gates.assign(from, *partition, *rows));
                }
                0
            }
            Effect::Nothing => 0,
        }
    }

    fn pay(&self, lanes: &HashMap<TopicPartition, u64>) -> u64 {
        lanes.iter().for_each(|(lane, rows)| self.gates.paid(lane, *rows));
        lanes.values().sum()
    }

    fn no_room(&self) -> Option<StoreError> {
        let free = file::free_bytes(self.database.parent()?);
        let full = free < self.config.min_free.get() || self.state.used_bytes() >= self.config.max_bytes.get();
        self.state.set_full(full);
        full.then_some(StoreError::Full)
    }

    fn latch(&mut self, error: &rusqlite::Error) {
        self.state.latch();
        tracing::error!(%error, "the inbox's disk has failed: nothing more is stored until a restart; what was acknowledged is kept");
    }

    fn checkpoint(&mut self) {
        if let Err(error) = file::checkpoint(&self.connection, "PASSIVE") {
            match class(&error) {
                StoreError::Latched => self.latch(&error),
                _ => tracing::warn!(%error, "the inbox's log could not be brought into its file; it is tried again"),
            }
        }
    }

    fn tidy(&mut self) {
        if self.state.is_latched() {
            return;
        }
        if !self.backlog.is_empty() {
            return self.take(Vec::new());
        }
        self.no_room();
        // First the log, then the vacuum: its step is written to the log too, and must find room there.
        if file::wal_bytes(&self.database) > 0 && self.state.has_written() {
            self.checkpoint();
        }
        self.vacuum();
        self.measure();
    }

    /// Gives free pages back to the disk, in steps that fit the log.
    fn vacuum(&mut self) {
        let free: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap_or(0);
        let step = VACUUM_PAGES.min(self.log_limit() / 2 / 4096);
        if free.unsigned_abs() <= step || self.state.is_latched() {
            return;
        }
        if let Err(error) = file::vacuum(&self.connection, step)
            && matches!(class(&error), StoreError::Latched)
        {
            self.latch(&error);
        }
    }

    /// What the log may grow to. Bringing it in makes the file grow by as much, on a disk that has at least `min_free`.
    fn log_limit(&self) -> u64 {
        MAX_LOG_BYTES.min(self.config.min_free.get() / 2).min(self.config.max_bytes.get() / 4).max(MIN_LOG_BYTES)
    }

    fn measure(&self) {
        let count =
            |sql: &str| self.connection.prepare_cached(sql).and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)));
        if let Ok(bytes) = file::used_bytes(&self.connection, &self.database) {
            self.state.set_used(bytes);
        }
        let oldest = count("SELECT at FROM rows ORDER BY seq LIMIT 1").ok();
        self.state.set_oldest(oldest);
        if let Ok(held) = count("SELECT count(*) FROM rows WHERE not_before > 0") {
            self.state.set_held(held);
        }
        if let Ok(aside) = count("SELECT count(*) FROM poison") {
            self.state.set_aside(aside);
        }
    }
}

fn write_one(transaction: &Transaction<'_>, command: &Command, now: i64) -> rusqlite::Result<Effect> {
    match command {
        Command::Insert { parcel, .. } => insert(transaction, parcel, now),
        Command::Settle { name, settlement } => match settlement {
            Settlement::Delivered => {
                delete(transaction, "DELETE FROM rows WHERE name = ?1 RETURNING topic, partition", params![name.0]).map(Effect::Paid)
            }
            Settlement::NotDelivered { maybe } => {
                let sql = "UPDATE rows SET not_before = 0, maybe = max(maybe, ?2) WHERE name = ?1";
                transaction.prepare_cached(sql)?.execute(params![name.0, maybe])?;
                Ok(Effect::Nothing)
            }
        },
        Command::Remove { names, .. } => {
            let mut paid = HashMap::new();
            for name in names {
                for (lane, rows) in delete(transaction, "DELETE FROM rows WHERE name = ?1 RETURNING topic, partition", params![name.0])? {
                    *paid.entry(lane).or_default() += rows;
                }
            }
            Ok(Effect::Paid(paid))
        }
        Command::Refused { name, aside } => {
            transaction
                .prepare_cached("UPDATE rows SET attempts = attempts + 1, not_before = 0 WHERE name = ?1")?
                .execute(params![name.0])?;
            match aside {
                Some(reason) => set_aside(transaction, "name = ?3", params![now, reason, name.0], params![name.0]),
                None => Ok(Effect::Nothing),
            }
        }
        Command::Assign { from, rows, .. } => assign(transaction, from, rows),
        Command::Restore { topic, .. } => restore(transaction, topic.as_ref().map(Topic::as_str)),
        Command::Purge { topic, only_poison, .. } => purge(transaction, topic.as_ref().map(Topic::as_str), *only_poison),
    }
}

fn purge(transaction: &Transaction<'_>, topic: Option<&str>, only_poison: bool) -> rusqlite::Result<Effect> {
    let aside = transaction.execute("DELETE FROM poison WHERE ?1 IS NULL OR topic = ?1", params![topic])? as u64;
    let paid = match only_poison {
        true => HashMap::new(),
        false => delete(transaction, "DELETE FROM rows WHERE ?1 IS NULL OR topic = ?1 RETURNING topic, partition", params![topic])?,
    };
    Ok(Effect::Purged { aside, paid })
}

fn insert(transaction: &Transaction<'_>, parcel: &Parcel, now: i64) -> rusqlite::Result<Effect> {
    let (topic, partition) = parcel.owed.lane();
    let sql = "INSERT INTO rows (name, topic, partition, arrival, not_before, maybe, attempts, at, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8) ON CONFLICT (name) DO NOTHING";
    let made = transaction.prepare_cached(sql)?.execute(params![
        parcel.name.0,
        topic.as_str(),
        partition,
        parcel.arrival.cast_signed(),
        parcel.not_before_ms,
        parcel.maybe,
        now,
        row::encode(&parcel.content)
    ])?;
    if made == 0 {
        // The same event again: one document, which waits for the later of the two.
        let sql = "UPDATE rows SET not_before = max(not_before, ?2), maybe = max(maybe, ?3) WHERE name = ?1";
        transaction.prepare_cached(sql)?.execute(params![parcel.name.0, parcel.not_before_ms, parcel.maybe])?;
    }
    Ok(Effect::Inserted { existed: made == 0 })
}

/// Deletes rows and says from which lanes they were.
fn delete(transaction: &Transaction<'_>, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<HashMap<TopicPartition, u64>> {
    let mut lanes: HashMap<TopicPartition, u64> = HashMap::new();
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        if let Some(lane) = lane_of(row.get(0)?, row.get(1)?) {
            *lanes.entry(lane).or_default() += 1;
        }
    }
    Ok(lanes)
}

fn lane_of(topic: String, partition: i32) -> Option<TopicPartition> {
    Topic::new(&topic).ok().map(|topic| (topic, partition))
}

fn set_aside(
    transaction: &Transaction<'_>,
    which: &str,
    copy: impl rusqlite::Params,
    remove: impl rusqlite::Params,
) -> rusqlite::Result<Effect> {
    let sql = format!(
        "INSERT OR REPLACE INTO poison (name, topic, partition, arrival, attempts, at, set_aside, reason, body)
         SELECT name, topic, partition, arrival, attempts, at, ?1, ?2, body FROM rows WHERE {which}"
    );
    transaction.prepare_cached(&sql)?.execute(copy)?;
    delete(transaction, &format!("DELETE FROM rows WHERE {} RETURNING topic, partition", which.replace("?3", "?1")), remove)
        .map(Effect::Paid)
}

fn assign(transaction: &Transaction<'_>, from: &TopicPartition, rows: &[(DocumentName, i32)]) -> rusqlite::Result<Effect> {
    let mut statement = transaction.prepare_cached("UPDATE rows SET partition = ?2 WHERE name = ?1 AND topic = ?3 AND partition = ?4")?;
    let mut partitions: HashMap<i32, u64> = HashMap::new();
    for (name, partition) in rows {
        *partitions.entry(*partition).or_default() += statement.execute(params![name.0, partition, from.0.as_str(), from.1])? as u64;
    }
    Ok(Effect::Assigned(partitions.into_iter().collect()))
}

fn restore(transaction: &Transaction<'_>, topic: Option<&str>) -> rusqlite::Result<Effect> {
    let sql = "INSERT INTO rows (name, topic, partition, arrival, not_before, maybe, attempts, at, body)
               SELECT name, topic, partition, arrival, 0, 1, 0, at, body FROM poison WHERE ?1 IS NULL OR topic = ?1
               ON CONFLICT (name) DO NOTHING RETURNING topic, partition";
    let lanes = delete(transaction, sql, params![topic])?;
    transaction.execute("DELETE FROM poison WHERE ?1 IS NULL OR topic = ?1", params![topic])?;
    Ok(Effect::Owed(lanes))
}

fn count(command: &Command, rows: u64) {
    match command {
        Command::Settle { settlement: Settlement::Delivered, .. } => {
            metrics().inbox_settled_late.inc_by(rows);
        }
        Command::Refused { aside: Some(_), .. } => {
            metrics().inbox_poisoned.inc_by(rows);
        }
        _ => {}
    }
}

fn split(work: Vec<Command>) -> (Vec<Command>, Vec<Command>) {
    work.into_iter().partition(|command| matches!(command, Command::Insert { .. }))
}

/// Nobody may be listening any more; then nobody needs the answer.
fn answer(command: Command, rows: u64) {
    match command {
        Command::Insert { parcel, reply } => {
            let Parcel { name, owed, .. } = *parcel;
            match rows {
                0 => drop(owed),
                _ => owed.stored(),
            }
            let _ = reply.send(Ok(Stored { name: name.to_string() }));
        }
        Command::Remove { reply, .. } | Command::Assign { reply, .. } => {
            let _ = reply.send(());
        }
        Command::Restore { reply, .. } | Command::Purge { reply, .. } => {
            let _ = reply.send(rows);
        }
        Command::Settle { .. } | Command::Refused { .. } => {}
    }
}

fn refuse(work: Vec<Command>, why: StoreError) {
    for command in work {
        if let Command::Insert { parcel, reply } = command {
            // The gate opens before the answer is heard.
            drop(parcel);
            let _ = reply.send(Err(why));
        }
    }
}

fn class(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
        _ => StoreError::Latched,
    }
}
