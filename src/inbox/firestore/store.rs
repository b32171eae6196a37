//! The store's front: what the trunk asks of it, and the writer's beginning and end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::answer::Tally;
use super::audit::{Audit, Auditor};
use super::job::Forms;
use super::pacer::Pace;
use super::queue::{Command, Queue};
use super::writer::{CLOSE_SHARE, Desk, Writer};
use super::{Collections, Config, Firestore, Shared};
use crate::drain::Drain;
use crate::inbox::row::Parcel;
use crate::inbox::{Settlement, Snapshot, StoreError, Stored};
use crate::route::DocumentName;

/// Bytes of rows that may wait for their answer.
const QUEUE_BYTES: usize = 64 << 20;

/// What a store takes beside its call: its turn, and a second try of one that has failed at once.
const AROUND_CALL: Duration = Duration::from_millis(200);

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
        // A token that is not there yet is fetched by the first call that needs it.
        self.shared.pacer.takes() && !self.shared.client.is_without_token() && !self.shared.writing.queue.is_closed()
    }

    /// One call that takes all of its time, and what is around it.
    pub(in crate::inbox) fn store_time(&self) -> Duration {
        self.shared.config.call_timeout.get() + AROUND_CALL
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

    /// What is queued is still written, for the writer's share of the drain; meanwhile others get our leases.
    pub(in crate::inbox) async fn close(&self) {
        self.shared.writing.queue.close();
        let task = self.shared.writing.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let written = async {
            if let Some(task) = task {
                // How it has ended it has said itself.
                let _ = task.await;
            }
        };
        end(written, self.leave()).await;
    }
}

/// The writer's end, and that of our leases, at once and each within its share: a lease that is not given back runs out.
async fn end(written: impl Future<Output = ()>, left: impl Future<Output = ()>) {
    let left = async {
        if tokio::time::timeout(CLOSE_SHARE, left).await.is_err() {
            tracing::debug!("leases could not be given back in time; they run out");
        }
    };
    tokio::join!(written, left);
}

/// Should the writer end by a fault of ours, nothing more is taken, and nobody waits for it.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the inbox's writer has ended by a fault of ours: nothing is stored before a restart");
        }
        self.0.abandon();
    }
}

async fn write(shared: Arc<Shared>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gates;

    /// A Firestore that nobody has started, and that nobody answers for.
    fn nowhere(config: Config) -> Firestore {
        let config = Config { project: Some("demo".to_owned()), ..config };
        let config = crate::inbox::Config { kind: crate::inbox::Kind::Firestore, firestore: config, ..crate::inbox::Config::default() };
        Firestore::open(&config, Collections::default(), &Arc::new(Gates::default())).expect("settings without mistakes")
    }

    fn emulator() -> Config {
        Config { emulator: Some("127.0.0.1:1".to_owned()), ..Config::default() }
    }

    #[tokio::test]
    async fn it_takes_rows_without_any_background_until_a_token_was_asked_for_and_did_not_come() {
        assert!(nowhere(emulator()).takes());
        let machine = nowhere(Config { metadata_host: "127.0.0.1:1".to_owned(), ..Config::default() });
        assert!(machine.takes());
        assert!(machine.shared.client.get(vec!["a".to_owned()]).await.is_err());
        assert!(!machine.takes());
    }

    #[tokio::test]
    async fn a_writer_that_has_ended_by_a_fault_takes_nothing() {
        let firestore = nowhere(emulator());
        assert!(firestore.takes());
        let shared = Arc::clone(&firestore.shared);
        let writer = tokio::spawn(async move {
            let _closing = Closing(&shared.writing.queue);
            panic!("a fault of ours");
        });
        assert!(writer.await.is_err_and(|error| error.is_panic()) && !firestore.takes());
    }

    #[tokio::test]
    async fn no_lane_is_claimed_when_the_day_has_no_delete_left() {
        let firestore = nowhere(Config { writes_per_day: 1, ..emulator() });
        firestore.shared.pacer.permit(1, true).await.expect("the day's only write");
        assert!(!firestore.claim(&(crate::event::Topic::new("t").expect("a topic"), 0)).await);
        assert_eq!(firestore.shared.client.last_error(), None, "nobody was asked");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_takes_no_longer_than_the_writers_share() {
        let began = tokio::time::Instant::now();
        end(tokio::time::sleep(CLOSE_SHARE), std::future::pending()).await;
        assert_eq!(began.elapsed(), CLOSE_SHARE);
    }

    #[tokio::test]
    async fn a_store_may_take_a_call_and_a_little_more() {
        assert_eq!(nowhere(emulator()).store_time(), Duration::from_millis(1_200));
    }
}
