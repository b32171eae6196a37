//! One command on its way to its document, and what the writer remembers of documents that a producer may still settle.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::call::Calls;
use super::queue::Command;
use super::{Collections, fs, proto};
use crate::document;
use crate::gate::TopicPartition;
use crate::inbox::row::{Content, Parcel};
use crate::inbox::{Settlement, StoreError, Stored, now_ms};
use crate::route::{DocumentName, Kept, Routed};

/// A report may come so long after its row's time.
const GRACE: Duration = Duration::from_secs(60);

/// No more rows than this are remembered for their reports: a producer that holds its full 64 MiB has fewer.
const MOST_HELD: usize = 1 << 18;

/// How the documents look, and where they stand.
#[derive(Debug)]
pub(super) struct Forms {
    /// Where each topic's rows of the general shape are.
    pub(super) collections: Collections,
    /// Who we are.
    pub(super) instance: String,
    /// What commands say of where they come from.
    pub(super) source: String,
}

/// Where a document stands.
#[derive(Debug, Clone)]
pub(super) struct Deposit {
    /// Its collection.
    pub(super) collection: String,
    /// Whether its lane waits for it: somebody else drains commands.
    pub(super) gated: bool,
    /// The lane.
    pub(super) lane: TopicPartition,
}

/// A command that the writer has taken.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: DocumentName,
    pub(super) work: Work,
    /// Where its document is; a report's is not known before its turn.
    pub(super) deposit: Option<Deposit>,
    /// Whether an attempt has an unknown outcome, so that it may be stored all the same.
    pub(super) unknown: bool,
    /// Since when it is tried.
    pub(super) since: Instant,
    attempts: u32,
    /// Whether it is read back before it is answered for: once picked it stays so, and each try may pick it.
    pub(super) picked: bool,
    /// Whether it was read back, and was not there.
    pub(super) missed: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Insert { parcel: Box<Parcel>, reply: oneshot::Sender<Result<Stored, StoreError>> },
    Settle(Settlement),
}

/// What a job is written as.
pub(super) enum Drawn {
    Write(fs::Write),
    /// There is nothing to write.
    Nothing,
    /// Its document cannot be: why, without a word of what is in it.
    Never(String),
}

impl Job {
    pub(super) fn new(command: Command, forms: &Forms) -> Self {
        let (name, work, deposit) = match command {
            Command::Insert { parcel, reply } => {
                let deposit = forms.deposit(&parcel);
                (parcel.name, Work::Insert { parcel, reply }, Some(deposit))
            }
            Command::Settle { name, settlement } => (name, Work::Settle(settlement), None),
        };
        Self { name, work, deposit, unknown: false, since: Instant::now(), attempts: 0, picked: false, missed: false }
    }

    pub(super) fn is_insert(&self) -> bool {
        matches!(self.work, Work::Insert { .. })
    }

    /// What it takes of the queue's room.
    pub(super) fn bytes(&self) -> usize {
        match &self.work {
            Work::Insert { parcel, .. } => Command::bytes_of(parcel),
            Work::Settle(_) => 0,
        }
    }

    /// Whether the one who asked has gone.
    pub(super) fn is_left(&self) -> bool {
        matches!(&self.work, Work::Insert { reply, .. } if reply.is_closed())
    }

    /// How long it rests before it is tried again: 50 ms, doubled up to a second.
    pub(super) fn rest(&mut self) -> Duration {
        let rest = Duration::from_millis(50 << self.attempts.min(5)).min(Duration::from_secs(1));
        self.attempts += 1;
        rest
    }

    /// Its document's full name.
    pub(super) fn path<C: Calls>(&self, calls: &C) -> String {
        let collection = self.deposit.as_ref().map_or("", |deposit| &deposit.collection);
        calls.name(collection, &self.name.to_string())
    }

    /// Its write.
    pub(super) fn draw<C: Calls>(&self, calls: &C, forms: &Forms) -> Drawn {
        let Some(deposit) = &self.deposit else { return Drawn::Nothing };
        let path = self.path(calls);
        match &self.work {
            Work::Insert { parcel, .. } => match forms.fields(parcel) {
                Ok(fields) => Drawn::Write(proto::create(path, fields)),
                Err(why) => Drawn::Never(why),
            },
            Work::Settle(Settlement::Delivered) => Drawn::Write(delete(path)),
            Work::Settle(Settlement::NotDelivered { maybe }) if deposit.gated => Drawn::Write(make_ready(path, *maybe)),
            Work::Settle(Settlement::NotDelivered { .. }) => Drawn::Nothing,
        }
    }
}

impl Forms {
    fn deposit(&self, parcel: &Parcel) -> Deposit {
        let lane = parcel.owed.lane().clone();
        match command_of(parcel) {
            Some((_, collection)) => Deposit { collection: collection.to_string(), gated: false, lane },
            None => Deposit { collection: self.collections.of(&lane.0).to_owned(), gated: true, lane },
        }
    }

    fn fields(&self, parcel: &Parcel) -> Result<proto::Fields, String> {
        let Some((routed, collection)) = command_of(parcel) else { return Ok(proto::general(parcel, &self.instance, now_ms())) };
        let fields = document::command(routed.value(), &self.source, document::Name::hashed(collection));
        // Where in it, nobody is told: that would be its own words.
        fields.map(proto::fields).map_err(|_| "a document cannot hold this command".to_owned())
    }
}

/// A command, and the collection that somebody else drains.
fn command_of(parcel: &Parcel) -> Option<(&Routed, &str)> {
    match &parcel.content {
        Content::Event(routed) => match routed.kept() {
            Some(Kept::Command { collection }) => Some((routed, collection)),
            Some(Kept::General { .. }) | None => None,
        },
        Content::Records(_) => None,
    }
}

/// Only if it is there: a document that somebody else has deleted is not ours to be paid for.
fn delete(path: String) -> fs::Write {
    let there = fs::precondition::ConditionType::Exists(true);
    fs::Write { current_document: Some(fs::Precondition { condition_type: Some(there) }), ..proto::delete(path) }
}

/// Its producer has it no more. What may be delivered already stays so.
fn make_ready(path: String, maybe: bool) -> fs::Write {
    let mut fields = proto::Fields::from([("not_before".to_owned(), proto::integer(0))]);
    if !maybe {
        return proto::update(path, fields, &["not_before"]);
    }
    fields.insert("maybe_delivered".to_owned(), flag(true));
    proto::update(path, fields, &["not_before", "maybe_delivered"])
}

fn flag(of: bool) -> fs::Value {
    fs::Value { value_type: Some(fs::value::ValueType::BooleanValue(of)) }
}

/// The rows that a producer may still settle.
#[derive(Debug, Default)]
pub(super) struct Held {
    rows: HashMap<DocumentName, HeldRow>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct HeldRow {
    deposit: Deposit,
    /// Its arrival, once its lane is owed it.
    counted: Option<u64>,
    until: Instant,
}

impl Held {
    /// A row is about to be written. One that nobody can settle is not remembered.
    pub(super) fn remember(&mut self, job: &Job) {
        let (Work::Insert { parcel, .. }, Some(deposit)) = (&job.work, &job.deposit) else { return };
        if parcel.not_before_ms <= 0 {
            return;
        }
        self.sweep();
        if self.rows.len() >= MOST_HELD && !self.rows.contains_key(&job.name) {
            return;
        }
        let left = u64::try_from(parcel.not_before_ms.saturating_sub(now_ms())).unwrap_or(0);
        let until = Instant::now() + Duration::from_millis(left).min(GRACE * 10) + GRACE;
        let row = HeldRow { deposit: deposit.clone(), counted: None, until };
        let row = self.rows.entry(job.name).or_insert(row);
        row.until = row.until.max(until);
    }

    /// It is there, and its lane is owed it.
    pub(super) fn counted(&mut self, name: &DocumentName, arrival: u64) {
        if let Some(row) = self.rows.get_mut(name) {
            row.counted = Some(arrival);
        }
    }

    /// Where a row is whose report has come.
    pub(super) fn deposit(&self, name: &DocumentName) -> Option<Deposit> {
        self.rows.get(name).map(|row| row.deposit.clone())
    }

    /// Its report is dealt with; gives its arrival if its lane was owed it.
    pub(super) fn forget(&mut self, name: &DocumentName) -> Option<u64> {
        self.rows.remove(name).and_then(|row| row.counted)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Those whose reports are long overdue go.
    fn sweep(&mut self) {
        let now = Instant::now();
        if self.swept.is_some_and(|swept| now.duration_since(swept) < Duration::from_secs(10)) {
            return;
        }
        self.swept = Some(now);
        self.rows.retain(|_, row| row.until > now);
    }
}
