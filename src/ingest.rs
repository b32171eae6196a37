//! THE TRUNK: authorize → charge → route → send, else store → receipt.
//!
//! All doors meet in [`Ingest::accept`]. Every event of a batch has exactly one outcome, in its place, and it is counted
//! here, once. What the broker has not acknowledged by its deadline is the inbox's; what neither took is refused with
//! what is known of it.

mod hold;
mod lanes;
pub mod producer_ids;
mod records;
mod replay;
mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{Permit, Principal, authorize};
use crate::drain::{Drain, Signal};
use crate::event::{self, Batch, ClientKey, Event, EventId, Origin, Topic};
use crate::inbox::Inbox;
use crate::inbox::replay::Replay;
use crate::journal::{Entry, Journal};
use crate::limits::inflight::InFlight;
use crate::limits::quota::Quotas;
use crate::receipt::{self, Outcomes, Receipt, Refusal, Tier};
use crate::route::{Bounds, Routed, Table};
use crate::sink::catalog::{Facts, Lookup};
use crate::sink::{Fate, Sink, Unsent};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{self, Outcome};

pub use crate::receipt::Landed;
pub use hold::Hold;
use producer_ids::ProducerIds;
pub use records::{Admitted, MAX_OWED, RecordsOutcomes, RecordsPart, RecordsRequest, TopicState};
pub use replay::{NotReplayed, Replayed};

/// After which time to try again when the catalog cannot say whether a topic exists.
const UNSURE_WAIT: Duration = Duration::from_secs(1);

/// A compressed batch can take 8 MiB and a second to be looked at.
const LOOKS: usize = 2;

/// Bytes of headers that a door may add to a record that was cut for [`Ingest::room`].
const DOORS_HEADERS: u64 = 100;

/// One result for one event.
type Answer = Result<Receipt, Refusal>;

/// The one place in which all doors meet.
#[derive(Debug)]
pub struct Ingest {
    quotas: Arc<Quotas>,
    table: Table,
    sink: Arc<Sink>,
    inbox: Arc<Inbox>,
    tasks: tokio_util::task::TaskTracker,
    signal: Signal,
    queues: lanes::Queues,
    producer_ids: ProducerIds,
    /// Compressed batches that are looked at at once.
    looks: Arc<tokio::sync::Semaphore>,
    journal: Option<Journal>,
    replay: Arc<Replay>,
    /// Held while a share of the replay runs for somebody.
    share: Arc<tokio::sync::Mutex<()>>,
}

#[cfg(test)]
impl Ingest {
    /// A trunk for tests of what stands before it: it knows these topics, and has neither a broker nor an inbox.
    pub(crate) fn without_tiers(topics: &[&str]) -> Self {
        let (gates, drain) = (Arc::new(crate::gate::Gates::default()), Drain::default());
        let nowhere = crate::inbox::Config { kind: crate::inbox::Kind::None, ..Default::default() };
        let row = |name: &&str| crate::route::RouteConfig { topic: name.parse().expect("a topic"), ..Default::default() };
        let catalog = crate::sink::catalog::Catalog::open(None, Duration::from_secs(30));
        let sink = Arc::new(Sink::new(crate::sink::Config::default(), Arc::clone(&gates), catalog).expect("no broker"));
        let inbox = Arc::new(Inbox::open(&nowhere, crate::inbox::Collections::default(), &gates).expect("no inbox"));
        Self {
            quotas: Arc::new(Quotas::new(&crate::limits::Config::default())),
            table: Table::new(crate::route::Config::default(), topics.iter().map(row).collect()),
            replay: Replay::new(Arc::clone(&inbox), Arc::clone(&sink)),
            share: Arc::default(),
            sink,
            inbox,
            tasks: drain.tasks().clone(),
            signal: drain.signal(),
            queues: lanes::Queues::default(),
            producer_ids: ProducerIds::by_key(b"tests"),
            looks: Arc::new(tokio::sync::Semaphore::new(LOOKS)),
            journal: None,
        }
    }
}

/// The two ends of the trunk, and what leads from the one to the other.
#[derive(Debug)]
pub struct TrunkTiers {
    /// The broker.
    pub sink: Arc<Sink>,
    /// The durable fallback.
    pub inbox: Arc<Inbox>,
    /// From there to the broker.
    pub replay: Arc<Replay>,
}

/// What goes with the events of a batch, all the way.
struct Terms {
    origin: Origin,
    charged_bytes: Option<u64>,
    hold: Option<Duration>,
    guard: InFlight,
}

/// The events of a batch that go to one topic, with their places in it.
struct Share {
    permit: Permit,
    facts: Option<Facts>,
    places: Vec<usize>,
    events: Vec<Event>,
}

/// What a door that cuts its payload into records must know beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The topic's partitions; 0: not known now.
    pub partitions: i32,
    /// The most that key and value of one record may take together, with what a door adds in headers of its own.
    pub record_bytes: u64,
}

impl Ingest {
    /// The trunk, from its parts. Its tasks are the drain's, so that it waits for them, and they hear of it.
    pub fn new(quotas: impl Into<Arc<Quotas>>, table: Table, tiers: TrunkTiers, drain: &Drain, producer_ids: ProducerIds) -> Self {
        let quotas = quotas.into();
        let looks = Arc::new(tokio::sync::Semaphore::new(LOOKS));
        let (tasks, signal) = (drain.tasks().clone(), drain.signal());
        let TrunkTiers { sink, inbox, replay } = tiers;
        let (queues, share) = (lanes::Queues::default(), Arc::default());
        Self { quotas, table, sink, inbox, tasks, signal, queues, producer_ids, looks, replay, share, journal: None }
    }

    /// The same, and refusals of events that have a name are written down.
    #[must_use]
    pub fn journaled(self, journal: Option<Journal>) -> Self {
        Self { journal, ..self }
    }

    /// The routes.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Forgets accounts that nobody draws on; called once a minute.
    pub fn tidy(&self) {
        self.quotas.tidy();
    }

    /// Takes a batch; the outcomes are one for each event, in order. It runs in a task of its own, so that a client that
    /// hangs up does not cut a write in half.
    pub async fn accept(self: &Arc<Self>, principal: &Principal, batch: Batch) -> Outcomes {
        let Batch { events, origin, charged_bytes, hold, guard } = batch;
        let (places, door, nothing) = (events.len(), origin.door, guard.nothing());
        let task = {
            let (trunk, principal) = (Arc::clone(self), principal.clone());
            let terms = Terms { origin, charged_bytes, hold, guard };
            // The guard goes with it: who hangs up does not free memory that is still held.
            async move {
                let named = trunk.named(&events);
                let results = trunk.decide(&principal, events, &terms).await;
                trunk.write_down(door, &principal, named, &results);
                count(door, &results);
                (results, terms.guard)
            }
        };
        // The task is of our own making: it ends early only by a panic, of which nothing is acknowledged.
        let (results, guard) = self.tasks.spawn(task).await.unwrap_or_else(|_| {
            let results = vec![Err(Refusal::Internal); places];
            count(door, &results);
            (results, nothing)
        });
        Outcomes { results, guard }
    }

    /// The events that their senders have named; nobody can ask for the others.
    fn named(&self, events: &[Event]) -> Vec<(usize, Topic, ClientKey)> {
        let named = |(place, event): (usize, &Event)| Some((place, event.topic.clone(), event.client_key.clone()?));
        if self.journal.is_some() { events.iter().enumerate().filter_map(named).collect() } else { Vec::new() }
    }

    fn write_down(&self, door: event::Door, principal: &Principal, named: Vec<(usize, Topic, ClientKey)>, results: &[Answer]) {
        let Some(journal) = &self.journal else { return };
        for (place, topic, key) in named {
            if let Some(Err(refusal)) = results.get(place) {
                let id = EventId::scoped(principal.hash(), &key).to_string();
                journal.write(Entry::new(door.as_str(), principal.name(), (&topic, id), refusal));
            }
        }
    }

    /// What one record of this topic can take, before anything is made into records of it. Who may not send to it is refused;
    /// while nobody can say whether there is such a topic, the question is held.
    pub async fn room(&self, principal: &Principal, topic: &Topic, hold: Option<Hold<'_>>) -> Result<Room, Refusal> {
        let share = loop {
            let asked = self.permit(principal, topic, Instant::now()).await;
            match (asked, hold.filter(|hold| !hold.is_over() && !self.is_draining())) {
                (Err(refusal), Some(hold)) if refusal.is_outage() => self.look_again(hold).await,
                (asked, _) => break asked?,
            }
        };
        let bounds = share.facts.map_or_else(Bounds::default, |facts| facts.bounds);
        let room = self.table.room(topic, &bounds, principal, DOORS_HEADERS);
        let record_bytes = room.ok_or_else(|| Refusal::Denied { topic: topic.to_string() })?;
        Ok(Room { partitions: share.facts.map_or(0, |facts| facts.partitions), record_bytes })
    }

    async fn decide(&self, principal: &Principal, events: Vec<Event>, terms: &Terms) -> Vec<Answer> {
        let started = Instant::now();
        let mut answers: Vec<Option<Answer>> = events.iter().map(|_| None).collect();
        let shares = self.authorize(principal, events, &mut answers, started).await;
        if let Some(refusal) = self.charge(principal, &shares, terms.charged_bytes) {
            return filled(answers, &refusal);
        }
        let (places, routed) = self.route(shares, &terms.origin, &mut answers);
        let landed = match terms.hold {
            Some(hold) => self.land_or_hold(routed, started, Hold { until: started + hold, guard: &terms.guard }).await,
            None => self.land(routed, started, None).await,
        };
        for (place, answer) in places.into_iter().zip(landed) {
            answers[place] = Some(answer);
        }
        filled(answers, &Refusal::Internal)
    }

    /// To the broker, and what it has not acknowledged to the inbox: one answer for each, by the deadline of answers or
    /// until `until`.
    async fn land(&self, routed: Vec<(Routed, Option<i32>)>, started: Instant, until: Option<Instant>) -> Vec<Answer> {
        let fates = self.sink.send(routed, started).await;
        let mut answers: Vec<Option<Answer>> = fates.iter().map(|_| None).collect();
        let (places, unsent) = keep(fates, &mut answers);
        let stored = self.store(unsent, started, until).await;
        for (place, answer) in places.into_iter().zip(stored) {
            answers[place] = Some(answer);
        }
        filled(answers, &Refusal::Internal)
    }

    /// One permit for each distinct topic; events of the others are refused in their places.
    async fn authorize(&self, principal: &Principal, events: Vec<Event>, answers: &mut [Option<Answer>], started: Instant) -> Vec<Share> {
        let mut of_topic: HashMap<Topic, usize> = HashMap::new();
        let mut shares: Vec<Result<Share, Refusal>> = Vec::new();
        for (place, event) in events.into_iter().enumerate() {
            let index = match of_topic.get(&event.topic) {
                Some(index) => *index,
                None => {
                    of_topic.insert(event.topic.clone(), shares.len());
                    shares.push(self.permit(principal, &event.topic, started).await);
                    shares.len() - 1
                }
            };
            match &mut shares[index] {
                Ok(share) => {
                    share.places.push(place);
                    share.events.push(event);
                }
                Err(refusal) => answers[place] = Some(Err(refusal.clone())),
            }
        }
        shares.into_iter().filter_map(Result::ok).collect()
    }

    /// May they, and is there such a topic? The answer to both is the same.
    async fn permit(&self, principal: &Principal, topic: &Topic, started: Instant) -> Result<Share, Refusal> {
        let denied = || Refusal::Denied { topic: topic.to_string() };
        let permit = authorize(principal, topic)?;
        if !self.table.knows(topic) {
            return Err(denied());
        }
        let unsure = || Refusal::Unavailable { wait: UNSURE_WAIT, doubt: crate::receipt::Doubt::NotStored };
        let facts = match self.sink.catalog().look(topic, started).await {
            // What is acknowledged already waits for a person: nothing is added to it.
            Lookup::Known(_) if self.sink.gates().is_stranded(topic) => return Err(unsure()),
            Lookup::Known(facts) => Some(facts),
            Lookup::NeverSeen if self.table.names(topic) => None,
            // A gate that starts while the broker is away, and that keeps no catalog, cannot say that there is no such topic.
            Lookup::NeverSeen if self.sink.has_broker() => return Err(unsure()),
            Lookup::NeverSeen | Lookup::Absent => return Err(denied()),
            Lookup::Unsure => return Err(unsure()),
        };
        Ok(Share { permit, facts, places: Vec::new(), events: Vec::new() })
    }

    /// The whole batch is charged, or nothing of it.
    fn charge(&self, principal: &Principal, shares: &[Share], bytes: Option<u64>) -> Option<Refusal> {
        let items = shares.iter().flat_map(|share| &share.events).fold(0_u32, |sum, event| sum.saturating_add(event.items));
        if items == 0 {
            return None;
        }
        let weighed: usize = shares
            .iter()
            .flat_map(|share| &share.events)
            .map(|event| event.value.len() + event.key.as_ref().map_or(0, |key| key.len()))
            .sum();
        self.quotas.charge(principal, items, bytes.unwrap_or(weighed as u64)).refusal()
    }

    fn route(&self, shares: Vec<Share>, origin: &Origin, answers: &mut [Option<Answer>]) -> (Vec<usize>, Vec<(Routed, Option<i32>)>) {
        let mut parts: Vec<(usize, (Routed, Option<i32>))> = Vec::new();
        for Share { permit, facts, places, events } in shares {
            let bounds = facts.map_or_else(Bounds::default, |facts| facts.bounds);
            for (place, routed) in places.into_iter().zip(self.table.route(permit, &bounds, origin, events)) {
                match routed {
                    Ok(routed) => parts.push((place, (routed, facts.map(|facts| facts.partitions)))),
                    Err(refusal) => answers[place] = Some(Err(refusal)),
                }
            }
        }
        // Arrivals are numbered in the sender's order, over all topics.
        parts.sort_by_key(|(place, _)| *place);
        parts.into_iter().unzip()
    }
}

/// Receipts and refusals go to their places; what is left is the inbox's.
fn keep(fates: Vec<Fate>, answers: &mut [Option<Answer>]) -> (Vec<usize>, Vec<Unsent>) {
    let mut left = (Vec::new(), Vec::new());
    for (place, fate) in fates.into_iter().enumerate() {
        match fate {
            Fate::Delivered { routed, partition, offset } => answers[place] = Some(Ok(in_broker(&routed, partition, offset))),
            Fate::Refused(refusal) => answers[place] = Some(Err(refusal)),
            Fate::Unsent(unsent) => {
                left.0.push(place);
                left.1.push(unsent);
            }
        }
    }
    left
}

fn in_broker(routed: &Routed, partition: i32, offset: i64) -> Receipt {
    Receipt { id: routed.id().clone(), topic: routed.topic().clone(), tier: Tier::Broker { partition, offset } }
}

/// An event without an answer would be dropped in silence: it is refused instead.
fn filled(answers: Vec<Option<Answer>>, otherwise: &Refusal) -> Vec<Answer> {
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(otherwise.clone()))).collect()
}

fn count(door: event::Door, results: &[Answer]) {
    let counted: Vec<&Answer> = if door.is_whole() { receipt::whole(results).into_iter().collect() } else { results.iter().collect() };
    for result in counted {
        let outcome = match result {
            Ok(Receipt { tier: Tier::Broker { .. }, .. }) => Outcome::AcceptedBroker,
            Ok(Receipt { tier: Tier::Inbox { .. }, .. }) => Outcome::AcceptedInbox,
            Err(refusal) => Outcome::refused(refusal.code()),
        };
        metrics().events.at((labels::Door::named(door.as_str()), outcome)).inc();
    }
}
