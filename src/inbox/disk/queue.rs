//! The one queue into the inbox's writer.
//!
//! Inserts and the late reports of their rows come through the same queue, so that a report never overtakes its row.
//! Inserts are bounded in bytes; what shrinks the inbox is always taken, because there is at most one for each row.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::event::Topic;
use crate::gate::TopicPartition;
use crate::route::DocumentName;

use super::super::row::Parcel;
use super::{Settlement, StoreError, Stored};

/// At most so many rows in one commit.
const MAX_COMMIT_ROWS: usize = 200;

/// At most so many bytes in one commit, but always one row.
const MAX_COMMIT_BYTES: usize = 1 << 20;

/// Work for the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// A row; answered after its commit.
    Insert { parcel: Box<Parcel>, reply: oneshot::Sender<Result<Stored, StoreError>> },
    /// The late report of a row.
    Settle { name: DocumentName, settlement: Settlement },
    /// Rows that replay has delivered; answered after the commit.
    Remove { names: Vec<DocumentName>, reply: oneshot::Sender<()> },
    /// A row that the broker has refused; `aside` when it has been refused too often.
    Refused { name: DocumentName, aside: Option<&'static str> },
    /// Rows that have found their partition.
    Assign { from: TopicPartition, rows: Vec<(DocumentName, i32)>, reply: oneshot::Sender<()> },
    /// Rows set aside go back among the others; answered with their number.
    Restore { topic: Option<Topic>, reply: oneshot::Sender<u64> },
    /// Rows are deleted for good, those set aside or all; answered with their number.
    Purge { topic: Option<Topic>, only_poison: bool, reply: oneshot::Sender<u64> },
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Insert { parcel, .. } => usize::try_from(parcel.content.size()).unwrap_or(usize::MAX),
            _ => 0,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    inner: Mutex<Inner>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    commands: VecDeque<Command>,
    bytes: usize,
    closed: bool,
}

/// What the writer finds.
pub(super) enum Taken {
    /// Work for one commit.
    Group(Vec<Command>),
    /// Nothing for a while.
    Idle,
    /// Closed, and all of it is done.
    Over,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default(), filled: Condvar::new() }
    }

    /// Puts work in; an insert that finds no room is given back.
    pub(super) fn push(&self, command: Command) -> Result<(), Command> {
        let bytes = command.bytes();
        let mut inner = self.lock();
        let full = bytes > 0 && inner.bytes > 0 && inner.bytes.saturating_add(bytes) > self.limit;
        if inner.closed || full {
            return Err(command);
        }
        inner.bytes += bytes;
        inner.commands.push_back(command);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Bytes of inserts that wait.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Nothing more comes in; what is in is still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Takes work for one commit, or waits for it, at most so long.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let mut inner = self.lock();
        if inner.commands.is_empty() && !inner.closed {
            let waited = self.filled.wait_timeout_while(inner, patience, |inner| inner.commands.is_empty() && !inner.closed);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.commands.is_empty() {
            return if inner.closed { Taken::Over } else { Taken::Idle };
        }
        let (mut group, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = inner.commands.front() {
            let size = next.bytes();
            if rows == MAX_COMMIT_ROWS || (bytes > 0 && bytes + size > MAX_COMMIT_BYTES) || group.len() == 4 * MAX_COMMIT_ROWS {
                break;
            }
            rows += usize::from(size > 0);
            bytes += size;
            group.extend(inner.commands.pop_front());
        }
        inner.bytes = inner.bytes.saturating_sub(bytes);
        Taken::Group(group)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
