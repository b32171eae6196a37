//! The one queue into the writer.
//!
//! What always holds: inserts and the late reports of their rows come through the same queue, so that a report never
//! overtakes its row; inserts are bounded in bytes from here until they are answered, also while the writer has them; a
//! report is always taken, because there is at most one for each row.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::inbox::row::Parcel;
use crate::inbox::{Settlement, StoreError, Stored};
use crate::route::DocumentName;

/// Work for the writer.
#[derive(Debug)]
pub enum Command {
    /// A row; answered when Firestore has said that it is there.
    Insert {
        /// What is to be stored.
        parcel: Box<Parcel>,
        /// Who waits for it.
        reply: oneshot::Sender<Result<Stored, StoreError>>,
    },
    /// The late report of a row.
    Settle {
        /// Its name.
        name: DocumentName,
        /// What the producer says.
        settlement: Settlement,
    },
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Insert { parcel, .. } => Self::bytes_of(parcel),
            Self::Settle { .. } => 0,
        }
    }

    /// What an insert takes of the queue's room.
    pub(super) fn bytes_of(parcel: &Parcel) -> usize {
        usize::try_from(parcel.content.size()).unwrap_or(usize::MAX)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    limit: usize,
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    commands: VecDeque<Command>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// A queue for so many bytes of inserts, but always for one.
    pub fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default(), filled: Notify::new() }
    }

    /// Puts work in; an insert that finds no room is given back, and everything when the queue is closed.
    pub fn push(&self, command: Command) -> Result<(), Command> {
        let bytes = command.bytes();
        let mut inner = self.lock();
        let full = bytes > 0 && inner.bytes > 0 && inner.bytes.saturating_add(bytes) > self.limit;
        if inner.closed || full {
            return Err(command);
        }
        inner.bytes = inner.bytes.saturating_add(bytes);
        inner.commands.push_back(command);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Bytes of inserts that are not answered yet.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Nothing more comes in; what is in is still taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Whether nothing comes in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Closes it for want of a taker: who still waits in it is answered, and owes nothing.
    pub(super) fn abandon(&self) {
        let left = {
            let mut inner = self.lock();
            (inner.closed, inner.bytes) = (true, 0);
            std::mem::take(&mut inner.commands)
        };
        for command in left {
            if let Command::Insert { parcel, reply } = command {
                // The gate opens before the answer is heard.
                drop(parcel);
                let _ = reply.send(Err(StoreError::Unknown));
            }
        }
    }

    /// All that has come, or waits for something to come. None: closed, and all of it was taken. For one taker.
    pub(super) async fn take(&self) -> Option<VecDeque<Command>> {
        loop {
            {
                let mut inner = self.lock();
                if !inner.commands.is_empty() {
                    return Some(std::mem::take(&mut inner.commands));
                }
                if inner.closed {
                    return None;
                }
            }
            // Whoever comes between the look and the wait leaves a permit.
            self.filled.notified().await;
        }
    }

    /// Room of inserts that are answered.
    pub(super) fn release(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(n: u8) -> Command {
        Command::Settle { name: DocumentName([n; 20]), settlement: Settlement::Delivered }
    }

    #[tokio::test]
    async fn what_was_put_in_comes_out_in_its_order_and_then_the_end() {
        let queue = Queue::new(10);
        for n in 0..3 {
            queue.push(settle(n)).expect("open");
        }
        queue.close();
        assert!(queue.push(settle(9)).is_err());
        let taken = queue.take().await.expect("three");
        let names: Vec<u8> = taken.iter().map(|command| if let Command::Settle { name, .. } = command { name.0[0] } else { 99 }).collect();
        assert_eq!(names, [0, 1, 2]);
        assert!(queue.take().await.is_none());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_work_and_by_the_end() {
        let queue = std::sync::Arc::new(Queue::new(10));
        let taker = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { (queue.take().await.map(|taken| taken.len()), queue.take().await.is_none()) }
        });
        tokio::task::yield_now().await;
        queue.push(settle(1)).expect("open");
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(taker.await.expect("no panic"), (Some(1), true));
    }
}
