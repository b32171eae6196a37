//! The store's front: what the trunk asks of it, and the writer's beginning and end.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::answer::Tally;
use super::audit::{Audit, Auditor};
use super::job::Forms;
use super::pacer::Pace;
use super::queue::{Command, Queue};
use super::writer::{Desk, Writer};
use super::{Collections, Config, Firestore, Shared};
use crate::drain::Drain;
use crate::inbox::row::Parcel;
use crate::inbox::{Settlement, Snapshot, StoreError, Stored};
use crate::route::DocumentName;

/// Bytes of rows that may wait for their answer.
const QUEUE_BYTES: usize = 64 << 20;

/// What an operator wants to know of Firestore at a moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Numbers {
    /// What went wrong last, if nothing has gone well since.
    pub trouble: Option<String>,
    /// How much it is asked to do.
    #[serde(flatten)]
    pub pace: Pace,
    /// What came of reading back what it has said.
    pub audit: Audit,
}

/// The writer's things, and its task.
#[derive(Debug)]
pub(in crate::inbox) struct Writing {
    pub(super) queue: Queue,
    pub(super) auditor: Auditor,
    tally: Tally,
    forms: Forms,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writing {
    pub(super) fn new(config: &Config, collections: &Collections, instance: &str) -> Self {
        Self {
            queue: Queue::new(QUEUE_BYTES),
            auditor: Auditor::new(config.audit_one_in),
            tally: Tally::default(),
            forms: Forms { collections: collections.clone(), instance: instance.to_owned(), source: config.source.clone() },
            task: Mutex::default(),
        }
    }
}

impl Firestore {
    pub(in crate::inbox) fn start(&self, drain: &Drain) {
        if let Some(emulator) = &self.shared.config.emulator {
            tracing::warn!(emulator, "the inbox is a Firestore emulator: nothing that is acknowledged from it is durable");
        }
        let (client, signal) = (self.shared.client.clone(), drain.signal());
        tokio::spawn(async move { client.start(signal).await });
        let writer = tokio::spawn(write(Arc::clone(&self.shared)));
        let (watcher, signal) = (self.clone(), drain.signal());
        tokio::spawn(async move { watcher.watch(signal).await });
        *self.shared.writing.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    }

    pub(in crate::inbox) fn takes(&self) -> bool {
        self.shared.pacer.takes() && self.shared.client.has_token()
    }

    pub(in crate::inbox) fn store(&self, parcel: Parcel) -> Result<oneshot::Receiver<Result<Stored, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let insert = Command::Insert { parcel: Box::new(parcel), reply };
        self.shared.writing.queue.push(insert).map_err(|_| StoreError::Full)?;
        Ok(answer)
    }

    pub(in crate::inbox) fn settle(&self, name: DocumentName, settlement: Settlement) {
        // Closed: the report is lost, the row stays and is replayed when its time is over.
        let _ = self.shared.writing.queue.push(Command::Settle { name, settlement });
    }

    pub(in crate::inbox) fn snapshot(&self) -> Snapshot {
        let writing = &self.shared.writing;
        Snapshot {
            kind: "firestore",
            held: writing.tally.held(),
            poison: self.shared.lanes.aside(),
            stored: writing.tally.stored(),
            queued_bytes: writing.queue.bytes() as u64,
            full: !self.takes(),
            firestore: Some(Numbers {
                trouble: self.shared.client.last_error(),
                pace: self.shared.pacer.snapshot(),
                audit: writing.auditor.snapshot(),
            }),
            ..Snapshot::default()
        }
    }

    /// What is queued is still written, for the writer's share of the drain.
    pub(in crate::inbox) async fn close(&self) {
        self.shared.writing.queue.close();
        let task = self.shared.writing.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the inbox's writer has ended by a fault of ours");
        }
        self.leave().await;
    }
}

async fn write(shared: Arc<Shared>) {
    /// Should the writer end by a fault of ours, nothing more is taken.
    struct Closing<'a>(&'a Queue);
    impl Drop for Closing<'_> {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let writing = &shared.writing;
    let _closing = Closing(&writing.queue);
    let desk = Desk {
        calls: &shared.client,
        queue: &writing.queue,
        pacer: &shared.pacer,
        auditor: &writing.auditor,
        books: &shared.books,
        tally: &writing.tally,
        forms: &writing.forms,
    };
    Writer::new(&desk).run().await;
}
