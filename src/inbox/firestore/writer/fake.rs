//! Firestore as the writer's tests have it: documents in memory, and faults by script.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::event::{EventId, Topic};
use crate::gate::{Gates, TopicPartition};
use crate::inbox::firestore::client::{Fault, Written};
use crate::inbox::firestore::{Collections, Config};
use crate::inbox::row::{Content, Parcel};
use crate::inbox::{Settlement, Stored, not_before_ms};
use crate::route::{Restored, Routed};

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Step {
    /// It is made.
    Made,
    /// It fails, and nothing has happened.
    Fails(Fault),
    /// It fails, and has happened.
    MadeAndFails(Fault),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) documents: Mutex<HashMap<String, fs::Document>>,
    /// The names in each call, `-` before one that is deleted.
    pub(super) calls: Mutex<Vec<Vec<String>>>,
    pub(super) sizes: Mutex<Vec<usize>>,
    pub(super) reads: Mutex<Vec<Vec<String>>>,
    pub(super) steps: Mutex<VecDeque<Step>>,
    /// What all calls come to that no step is for.
    pub(super) always: Mutex<Option<Fault>>,
    /// A call with this document is refused as a whole.
    pub(super) poison: Mutex<Option<String>>,
    pub(super) read_fails: AtomicBool,
    /// The documents that are read next are taken by somebody else first.
    pub(super) taken: AtomicBool,
    /// It says that it has stored, and has not.
    pub(super) lies: AtomicBool,
    pub(super) delay: Mutex<Duration>,
}

impl Fake {
    fn apply(&self, write: fs::Write) -> Written {
        use fs::precondition::ConditionType::Exists;
        use fs::write::Operation;
        let mut documents = self.documents.lock().expect("whole");
        let name = name_of(&write);
        let wanted = write.current_document.as_ref().and_then(|condition| condition.condition_type.as_ref());
        match (wanted, documents.contains_key(&name)) {
            (Some(Exists(false)), true) => return Written::AlreadyExists,
            (Some(Exists(true)), false) => return Written::NotFound,
            _ => {}
        }
        match write.operation {
            _ if self.lies.load(Ordering::Relaxed) => {}
            Some(Operation::Update(document)) if write.update_mask.is_some() => {
                documents.get_mut(&name).expect("it is there").fields.extend(document.fields);
            }
            Some(Operation::Update(document)) => {
                documents.insert(name, document);
            }
            Some(Operation::Delete(_)) => {
                documents.remove(&name);
            }
            _ => panic!("the writer makes no transforms"),
        }
        Written::Ok(None)
    }

    pub(super) fn field(&self, name: &DocumentName, field: &str) -> Option<fs::value::ValueType> {
        self.documents.lock().expect("whole").get(&self.name("inbox", &name.to_string()))?.fields.get(field)?.value_type.clone()
    }
}

fn name_of(write: &fs::Write) -> String {
    match write.operation.as_ref().expect("an operation") {
        fs::write::Operation::Update(document) => document.name.clone(),
        fs::write::Operation::Delete(name) => name.clone(),
        _ => panic!("the writer makes no transforms"),
    }
}

impl Calls for Fake {
    async fn write(&self, writes: Vec<fs::Write>) -> Result<Vec<Written>, Fault> {
        let deleted = |write: &fs::Write| matches!(write.operation, Some(fs::write::Operation::Delete(_)));
        let said = |write: &fs::Write| format!("{}{}", if deleted(write) { "-" } else { "" }, name_of(write));
        let names: Vec<String> = writes.iter().map(said).collect();
        let poisoned = self.poison.lock().expect("whole").as_ref().is_some_and(|poison| names.contains(poison));
        self.sizes.lock().expect("whole").push(writes.iter().map(Message::encoded_len).sum());
        self.calls.lock().expect("whole").push(names);
        let step = self.steps.lock().expect("whole").pop_front();
        let step = step.or_else(|| self.always.lock().expect("whole").clone().map(Step::Fails)).unwrap_or(Step::Made);
        let delay = *self.delay.lock().expect("whole");
        tokio::time::sleep(delay).await;
        match step {
            _ if poisoned => Err(Fault::Invalid("poison".to_owned())),
            Step::Fails(fault) => Err(fault),
            Step::Made => Ok(writes.into_iter().map(|write| self.apply(write)).collect()),
            Step::MadeAndFails(fault) => {
                writes.into_iter().for_each(|write| drop(self.apply(write)));
                Err(fault)
            }
        }
    }

    async fn get(&self, names: Vec<String>) -> Result<Vec<Option<fs::Document>>, Fault> {
        self.reads.lock().expect("whole").push(names.clone());
        if self.read_fails.swap(false, Ordering::Relaxed) {
            return Err(Fault::Slow);
        }
        let mut documents = self.documents.lock().expect("whole");
        if self.taken.swap(false, Ordering::Relaxed) {
            names.iter().for_each(|name| drop(documents.remove(name)));
        }
        Ok(names.iter().map(|name| documents.get(name).cloned()).collect())
    }

    fn name(&self, collection: &str, id: &str) -> String {
        format!("{collection}/{id}")
    }
}

/// A writer and all that it works with.
pub(super) struct Bench {
    pub(super) fake: Fake,
    pub(super) queue: Queue,
    pub(super) pacer: Pacer,
    pub(super) auditor: Auditor,
    pub(super) books: Books,
    pub(super) tally: Tally,
    pub(super) gates: Arc<Gates>,
    forms: Forms,
}

pub(super) type Reply = oneshot::Receiver<Result<Stored, StoreError>>;

/// Events a second and a day that no test reaches, and no audit.
pub(super) fn plenty() -> Config {
    Config { ramp_from: 1_000_000, writes_per_second: 1_000_000, audit_one_in: 0, ..Config::default() }
}

impl Bench {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        let gates = Arc::new(Gates::default());
        let forms = Forms {
            collections: Collections::new(Vec::new(), "inbox".to_owned(), Vec::new()),
            instance: "me".to_owned(),
            source: config.source.clone(),
        };
        Arc::new(Self {
            fake: Fake::default(),
            queue: Queue::new(64 << 20),
            pacer: Pacer::new(config),
            auditor: Auditor::new(config.audit_one_in),
            books: Books::new(Arc::clone(&gates)),
            tally: Tally::default(),
            gates,
            forms,
        })
    }

    /// A bench whose writer is at work.
    pub(super) fn at_work(config: &Config) -> (Arc<Self>, JoinHandle<()>) {
        let bench = Self::new(config);
        let writer = bench.start();
        (bench, writer)
    }

    pub(super) fn start(self: &Arc<Self>) -> JoinHandle<()> {
        let bench = Arc::clone(self);
        tokio::spawn(async move {
            let Self { fake, queue, pacer, auditor, books, tally, forms, .. } = &*bench;
            let desk = Desk { calls: fake, queue, pacer, auditor, books, tally, forms };
            Writer::new(&desk).run().await;
        })
    }

    pub(super) fn put(&self, routed: &Arc<Routed>, held: Option<Duration>) -> Reply {
        let (reply, answer) = oneshot::channel();
        let parcel = Parcel {
            content: Content::Event(Arc::clone(routed)),
            name: routed.name(),
            arrival: self.gates.arrivals(1),
            not_before_ms: held.map_or(0, not_before_ms),
            maybe: false,
            owed: self.gates.owe(routed.topic(), 0),
        };
        self.queue.push(Command::Insert { parcel: Box::new(parcel), reply }).map_err(|_| "full").expect("room");
        answer
    }

    /// Puts a small event of this number.
    pub(super) fn event(&self, n: usize) -> (DocumentName, Reply) {
        let routed = routed(n, 10);
        (routed.name(), self.put(&routed, None))
    }

    pub(super) fn settle(&self, name: DocumentName, settlement: Settlement) {
        self.queue.push(Command::Settle { name, settlement }).map_err(|_| "closed").expect("open");
    }

    /// How many writes there were in each call.
    pub(super) fn calls(&self) -> Vec<usize> {
        self.fake.calls.lock().expect("whole").iter().map(Vec::len).collect()
    }

    pub(super) fn documents(&self) -> usize {
        self.fake.documents.lock().expect("whole").len()
    }

    pub(super) fn lane(&self) -> TopicPartition {
        (Topic::new("t").expect("a topic"), 0)
    }
}

/// An event of so many bytes.
pub(super) fn routed(n: usize, size: usize) -> Arc<Routed> {
    Arc::new(Routed::restore(Restored {
        id: EventId::restore(&n.to_string()),
        topic: Topic::new("t").expect("a topic"),
        principal: "dev:me".into(),
        key: None,
        headers: Vec::new(),
        value: Bytes::from(vec![b'x'; size]),
        timestamp_ms: 1_782_907_200_123,
    }))
}
