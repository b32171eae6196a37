//! The inbox read beside its gates, for `sluicegate inbox list`, `show` and `sluicegate trace`: a person's view of the rows,
//! the same whatever they are kept in. Nothing is changed by it.

use serde::Serialize;

use super::firestore::{self, Collections};
use super::row::Content;
use super::{Config, Kind, disk};
use crate::event::Topic;
use crate::records::Record;
use crate::route::Routed;

/// The state of a command in the collection that somebody else's program drains.
pub const LEFT: &str = "left to its reader";

/// Where rows are kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Which inbox.
    pub config: Config,
    /// Where Firestore has the rows of each topic.
    pub collections: Collections,
    /// The collections of commands, and their topics.
    pub commands: Vec<(String, String)>,
}

impl Kept {
    /// Lists rows, the oldest first.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Entry>, String> {
        match self.config.kind {
            Kind::Firestore => firestore::offline::Reader::new(self)?.list(filter).await,
            Kind::Disk | Kind::None => disk::offline::list(&self.config.dir, filter),
        }
    }

    /// One row with its content, by its name or its event's id.
    pub async fn show(&self, wanted: &str) -> Result<Option<Shown>, String> {
        match self.config.kind {
            Kind::Firestore => firestore::offline::Reader::new(self)?.show(wanted).await,
            Kind::Disk | Kind::None => disk::offline::show(&self.config.dir, wanted),
        }
    }

    /// The rows of an event, oldest first: by its id, by the client's key in it, or by a row's name.
    pub async fn trace(&self, wanted: &str, topic: Option<&Topic>) -> Result<Vec<Shown>, String> {
        match self.config.kind {
            Kind::Firestore => firestore::offline::Reader::new(self)?.trace(wanted, topic).await,
            Kind::Disk => disk::offline::trace(&self.config.dir, wanted, topic),
            Kind::None => Err("inbox.kind is none: there is no inbox to look into".into()),
        }
    }
}

/// What `show` decompresses of a batch at most.
const SHOWN_BYTES: usize = 64 << 20;

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
    /// `held`: the producer may still deliver it. `ready`: it waits for replay. `poison`: set aside. [`LEFT`]: not ours to replay.
    pub state: &'static str,
    /// Whether it may be delivered already.
    pub maybe: bool,
    /// How often the broker has refused it.
    pub attempts: u32,
    /// Why it was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes of its body; none: it was not read for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
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

impl Shown {
    /// A row and what it holds; `unreadable` says why that cannot be told.
    pub(super) fn of(entry: Entry, content: Option<&Content>, unreadable: impl FnOnce() -> String) -> Self {
        let principal = content.map_or_else(String::new, |content| content.principal().to_owned());
        let mut shown = Self { entry, principal, record: None, records: Vec::new(), unreadable: None };
        match content {
            Some(Content::Event(routed)) => shown.record = Some(of_event(routed)),
            Some(Content::Records(records)) => match records.batch().records(SHOWN_BYTES) {
                Ok(found) => shown.records = found.into_iter().map(of_batch).collect(),
                Err(bad) => shown.unreadable = Some(bad.to_string()),
            },
            None => shown.unreadable = Some(unreadable()),
        }
        shown
    }
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

/// Bytes as text, as far as they are.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
