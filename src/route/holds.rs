//! What stands behind the table for when the broker is away, and where in it a record goes.
//!
//! An inbox of documents holds less than a topic does. What it could not hold is refused before anything is sent, broker
//! up or down: only then does an acknowledgement not depend on which of the two there is.

use std::collections::HashSet;
use std::sync::Arc;

use super::{EVENT_ID, RouteConfig, Routed, Shape, header_size};
use crate::document::{self, Extent, Fault, Name, Unstorable};
use crate::event::Topic;
use crate::receipt::Refusal;
use crate::records::RecordBatch;

/// Headers of its own that a door may add to a record, counted generously.
const DOORS_HEADERS: usize = 4;

/// What the inbox behind the table can hold.
#[derive(Debug, Clone, Default)]
pub enum Holds {
    /// Whatever a topic can: a disk; or there is no inbox.
    #[default]
    Anything,
    /// Documents of Firestore.
    Documents(Documents),
}

/// An inbox of documents.
#[derive(Debug, Clone)]
pub struct Documents {
    /// What a command's document has as its `source`.
    pub source: String,
    /// Where the commands of a route go that names no collection.
    pub command_collection: String,
    /// Where everything else goes, of routes that name no collection; and the batches of Kafka producers to a topic of commands.
    pub collection: String,
    /// Where the gates keep their leases: no route's place.
    pub leases: String,
}

impl Documents {
    /// Mistakes of the table in front of them: the row's number and the option, and what is wrong. The reader of commands
    /// takes whatever is in its collection for a command, and deletes it; a lease among rows is a row that cannot be read.
    pub fn mistakes(&self, rows: &[RouteConfig]) -> Vec<(String, String)> {
        let stored = || rows.iter().enumerate().filter(|(_, row)| row.inbox);
        let used = |commands: bool| stored().filter(move |(_, row)| is_command(row) == commands).map(|(_, row)| self.collection_of(row));
        let commands: HashSet<&str> = used(true).chain([self.command_collection.as_str(), self.leases.as_str()]).collect();
        let others: HashSet<&str> = used(false).chain([self.collection.as_str(), self.leases.as_str()]).collect();
        let clash = |row: &RouteConfig| {
            let (mine, theirs, what) = match is_command(row) {
                true => (self.collection_of(row), &others, "is where the gate keeps what it replays itself"),
                false => (self.collection_of(row), &commands, "is where somebody else reads commands and deletes them"),
            };
            let what = if mine == self.leases { "is where the gates keep their leases" } else { what };
            theirs.contains(mine).then(|| format!("`{mine}` {what}: expected another collection"))
        };
        stored().filter_map(|(i, row)| Some((format!("[{i}].collection"), clash(row)?))).collect()
    }

    /// The collection of a route's events.
    fn collection_of<'a>(&'a self, row: &'a RouteConfig) -> &'a str {
        row.collection.as_deref().unwrap_or(match row.shape {
            Shape::Command => &self.command_collection,
            Shape::Raw | Shape::Telemetry => &self.collection,
        })
    }
}

fn is_command(row: &RouteConfig) -> bool {
    row.shape == Shape::Command
}

/// Which document becomes of an event, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The command's own fields, for somebody else to read and delete.
    Command {
        /// In this collection.
        collection: Arc<str>,
    },
    /// The general shape, for the gate itself to replay.
    General {
        /// In this collection.
        collection: Arc<str>,
    },
}

/// Where the records of one route go.
#[derive(Debug)]
pub(super) struct Places {
    source: Arc<str>,
    events: Kept,
    batches: Arc<str>,
}

impl Places {
    /// None: the route's records go nowhere, or where there are no such bounds.
    pub(super) fn of(row: &RouteConfig, holds: &Holds) -> Option<Self> {
        let Holds::Documents(documents) = holds else { return None };
        if !row.inbox {
            return None;
        }
        let collection: Arc<str> = documents.collection_of(row).into();
        let (events, batches) = match row.shape {
            Shape::Command => (Kept::Command { collection }, documents.collection.as_str().into()),
            Shape::Raw | Shape::Telemetry => (Kept::General { collection: Arc::clone(&collection) }, collection),
        };
        Some(Self { source: documents.source.as_str().into(), events, batches })
    }

    /// Which document becomes of an event.
    pub(super) fn events(&self) -> Kept {
        self.events.clone()
    }

    /// The collection of the route's batches.
    pub(super) fn batches(&self) -> Arc<str> {
        Arc::clone(&self.batches)
    }

    /// Whether the document of an event can be.
    pub(super) fn check(&self, routed: &Routed) -> Result<(), Refusal> {
        match &self.events {
            Kept::Command { collection } => {
                document::command(&routed.value, &self.source, Name::hashed(collection)).map(drop).map_err(refusal_of_command)
            }
            Kept::General { collection } => {
                let extent = Extent {
                    topic: routed.topic.as_str(),
                    principal: &routed.principal,
                    id: routed.id.as_str().len(),
                    key: routed.key.as_ref().map(|key| key.len()),
                    headers: routed.headers.len(),
                    header_bytes: routed.headers.iter().map(|(name, value)| name.len() + value.len()).sum(),
                    value: routed.value.len(),
                };
                document::general_fits(Name::hashed(collection), &extent).map_err(|unstorable| refusal_of(&unstorable, &EVENT))
            }
        }
    }

    /// Whether the document of a batch can be.
    pub(super) fn check_batch(&self, topic: &Topic, principal: &str, batch: &RecordBatch) -> Result<(), Refusal> {
        let extent = Extent { topic: topic.as_str(), principal, id: EVENT_ID, value: batch.bytes().len(), ..Extent::default() };
        document::general_fits(Name::hashed(&self.batches), &extent).map_err(|unstorable| refusal_of(&unstorable, &BATCH))
    }

    /// The most that key and value of an event can take together in its document, with the gate's own headers (name and
    /// length of each) and so many bytes of its door's. A command's document is its value's, which nobody cuts.
    pub(super) fn room(&self, topic: &Topic, principal: &str, own: &[(&str, usize)], headers: u64) -> u64 {
        let Kept::General { collection } = &self.events else { return u64::MAX };
        let extent = Extent {
            topic: topic.as_str(),
            principal,
            id: EVENT_ID,
            headers: own.len() + DOORS_HEADERS,
            header_bytes: own.iter().map(|(name, value)| header_size(name, *value)).sum(),
            ..Extent::default()
        };
        document::general_room(Name::hashed(collection), &extent).saturating_sub(headers)
    }
}

/// What is too large: what its document's bytes and values are called.
struct Measured {
    bytes: &'static str,
    values: &'static str,
    entries: &'static str,
}

const COMMAND: Measured = Measured {
    bytes: "the size of the command as a document of the inbox in bytes",
    values: "the number of values in the command",
    entries: "the size of the names and values of the command's fields in the inbox's indexes in bytes",
};
const EVENT: Measured = Measured {
    bytes: "the size of the event as a document of the inbox in bytes",
    values: "the number of values in the event's document",
    entries: "the size of the event's headers in the inbox's indexes in bytes",
};
const BATCH: Measured = Measured {
    bytes: "the size of the record batch as a document of the inbox in bytes",
    values: "the number of values in the record batch's document",
    entries: "the size of the record batch in the inbox's indexes in bytes",
};

/// What the sender of a command is told that no document could hold. Its `data` is the document's `payload`.
fn refusal_of_command(unstorable: Unstorable) -> Refusal {
    let path = match unstorable.path.strip_prefix("payload") {
        Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => format!("data{rest}"),
        _ => unstorable.path,
    };
    refusal_of(&Unstorable { path, fault: unstorable.fault }, &COMMAND)
}

fn refusal_of(unstorable: &Unstorable, measured: &Measured) -> Refusal {
    let too_large = |what, actual, limit| Refusal::TooLarge { what, actual, limit };
    match unstorable.fault {
        Fault::Document { actual } => too_large(measured.bytes, actual, document::LARGEST_DOCUMENT),
        Fault::Entries { actual } => too_large(measured.entries, actual, document::LARGEST_ENTRIES),
        Fault::Leaves { actual } => too_large(measured.values, actual as u64, document::MOST_LEAVES as u64),
        Fault::LongText { actual } => too_large("the length of a text in bytes", actual as u64, document::LONGEST_TEXT as u64),
        _ => Refusal::invalid(&unstorable.path, unstorable.to_string()),
    }
}
