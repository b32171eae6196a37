//! Lanes at work: the batches of a producer for a partition go one behind the other, each until it has landed or is refused.
//!
//! What always holds: one batch of a lane is under way at a time, so that none overtakes another; nothing goes to the broker
//! while something is owed to its partition, nor behind a refused batch of its lane; a batch is acknowledged only when it has
//! landed, in the broker or by the inbox's commit; what may have arrived goes again as the same bytes.
//!
//! Where the broker does not take a batch in time it goes to the inbox, if that may keep it. Else it is held for
//! `sink.outage_hold`, and its client is told to try again. While the gate drains nothing is held, and nothing is tried twice:
//! what the broker does not take goes to the inbox at once, or back to its client, who finds another gate.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout_at};

use super::Ingest;
use super::records::{Answer, RETRY_AFTER, count};
use crate::drain::Phase;
use crate::event::Topic;
use crate::inbox::row::{Content, Parcel};
use crate::inbox::{Settlement, StoreError, not_before_ms};
use crate::lane::{Course, is_before};
use crate::limits::inflight::InFlight;
use crate::receipt::{Doubt, Landed, Refusal};
use crate::route::RoutedRecords;
use crate::sink::breaker::State;
use crate::sink::catalog::Lookup;
use crate::sink::raw::{Journey, Raw, Sent, Step, lane_of};
use crate::sink::report::Never;
use crate::sink::verdict::Verdict;

/// Between two sendings of a batch that the broker could not take.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a batch waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    owner: Owner,
    topic: Topic,
    partition: i32,
}

/// Whose order is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Producer(i64),
    /// Without a producer's numbers there is only the order in which a connection brings batches.
    Connection(u64),
}

/// A batch that waits for its turn.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) records: Arc<RoutedRecords>,
    pub(super) arrival: u64,
    pub(super) started: Instant,
    pub(super) reply: oneshot::Sender<Answer>,
    pub(super) _guard: Arc<InFlight>,
}

/// The batches that wait; a place is there while its lane is at work.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<HashMap<Place, VecDeque<Entry>>>);

/// How far one batch has come.
struct Trial {
    journey: Journey,
    original: Arc<RoutedRecords>,
    arrival: u64,
    deadline: Instant,
    doubt: Doubt,
}

/// What a look at the outside says.
enum Way {
    /// The broker may have it.
    Open,
    /// It takes the inbox.
    Inbox,
    /// It waits.
    Hold,
}

impl Place {
    pub(super) fn of(records: &RoutedRecords, connection: u64) -> Self {
        let owner = records.producer().map_or(Owner::Connection(connection), |producer| Owner::Producer(producer.id));
        Self { owner, topic: records.topic().clone(), partition: records.partition() }
    }
}

impl Queues {
    /// Puts a batch in; true when its lane has to be set to work.
    fn push(&self, place: &Place, entry: Entry) -> bool {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place.clone()) {
            Slot::Occupied(mut queue) => {
                queue.get_mut().push_back(entry);
                false
            }
            Slot::Vacant(slot) => {
                slot.insert(VecDeque::from([entry]));
                true
            }
        }
    }

    /// The next batch of a lane; none: it has no more work, and is gone.
    fn next(&self, place: &Place) -> Option<Entry> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queues.get_mut(place)?.pop_front();
        if next.is_none() {
            queues.remove(place);
        }
        next
    }

    /// The first of the batches that wait behind this one and come before it by their numbers: a producer that has lost its
    /// connection may bring them in another order.
    fn take_earlier(&self, records: &RoutedRecords) -> Option<Entry> {
        let mine = records.producer()?;
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // With numbers the connection says nothing of a place.
        let queue = queues.get_mut(&Place::of(records, 0))?;
        let first = |entry: &Entry| entry.records.producer().filter(|other| other.epoch == mine.epoch).map(|other| other.first);
        let earlier =
            queue.iter().enumerate().filter_map(|(at, entry)| Some((at, first(entry)?))).filter(|(_, first)| is_before(*first, mine.first));
        let (at, _) = earlier.reduce(|one, other| if is_before(other.1, one.1) { other } else { one })?;
        queue.remove(at)
    }
}

/// A lane at work. If its work breaks off by a fault of ours, what waits is dropped, and with it refused; the lane goes on.
struct Turns {
    trunk: Arc<Ingest>,
    place: Place,
}

impl Drop for Turns {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.trunk.queues.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place);
        }
    }
}

impl Ingest {
    pub(super) fn queue(self: &Arc<Self>, place: Place, entry: Entry) {
        if self.queues.push(&place, entry) {
            let turns = Turns { trunk: Arc::clone(self), place };
            // Tracked: what is under way when the gate stops is answered.
            self.tasks.spawn(async move {
                while let Some(entry) = turns.trunk.queues.next(&turns.place) {
                    turns.trunk.turn(entry).await;
                }
            });
        }
    }

    /// Whether a batch would be answered at once, because an earlier one of its lane has not come back.
    pub(super) fn waits_for_an_earlier(&self, records: &RoutedRecords) -> bool {
        self.course(records) == Course::Refused
    }

    fn course(&self, records: &RoutedRecords) -> Course {
        let Some((lane, producer)) = lane_of(records).zip(records.producer()) else { return Course::Go };
        self.sink.lanes().course(&lane, &producer, records.batch().crc(), Instant::now())
    }

    /// A batch's turn: it is sent, stored, or refused, and its lane remembers which.
    async fn turn(&self, entry: Entry) {
        let Entry { records, arrival, started, reply, _guard } = entry;
        let answer = match self.course(&records) {
            // Its client has gone before its work was begun; it will send it again, and nothing may overtake it meanwhile.
            _ if reply.is_closed() => Err(not_stored()),
            Course::Landed(landed) => Ok(landed),
            Course::Refused => Err(not_stored()),
            course @ (Course::Go | Course::Strip) => self.deliver(&records, course == Course::Strip, arrival, started).await,
        };
        if let Some((lane, producer)) = lane_of(&records).zip(records.producer()) {
            self.remember(&lane, &producer, records.batch().crc(), &answer);
        }
        count(&answer, records.batch().count());
        // A client that has gone meanwhile does not hear of it; what has landed is known again when it comes back.
        let _ = reply.send(answer);
    }

    async fn deliver(&self, records: &Arc<RoutedRecords>, strip: bool, arrival: u64, admitted: Instant) -> Answer {
        let started = Instant::now();
        let mut trial = Trial {
            journey: Journey::new(Arc::clone(records)),
            original: Arc::clone(records),
            arrival,
            deadline: self.deadline(records, admitted, started),
            doubt: Doubt::NotStored,
        };
        let Some(raw) = self.sink.raw() else { return self.give_up(trial, started).await };
        if strip {
            raw.strip(&mut trial.journey, "reused_or_older_number");
        }
        loop {
            match self.way(raw, &trial).await {
                Way::Open => {}
                Way::Inbox => return self.store_records(trial, None, started).await,
                Way::Hold if Instant::now() < trial.deadline && !self.is_draining() => {
                    self.wait_for_change(raw, &trial).await;
                    continue;
                }
                Way::Hold => return Err(unavailable(trial.doubt)),
            }
            let mut sent = raw.send(&trial.journey);
            let Some(verdict) = self.wait_for_verdict(raw, &mut sent, &trial).await else {
                if self.may_store(&trial) {
                    return self.store_records(trial, Some(sent), started).await;
                }
                trial.doubt = Doubt::MaybeDelivered;
                return Err(unavailable(trial.doubt));
            };
            match raw.step(&mut trial.journey, verdict, Instant::now()) {
                // Replay may wait for its predecessor.
                Step::Again(_) if trial.journey.missing_since().is_some() && self.is_draining() => {
                    return self.give_up(trial, started).await;
                }
                Step::Again(pause) => match self.queues.take_earlier(&trial.original) {
                    // What it waits for waits behind it.
                    Some(earlier) => Box::pin(self.turn(earlier)).await,
                    None => sleep(pause).await,
                },
                Step::Over(Verdict::Landed(landed)) => return Ok(landed),
                Step::Over(Verdict::Permanent(never)) => return Err(self.refusal_of_batch(&trial, never)),
                Step::Over(verdict) => {
                    if matches!(verdict, Verdict::Unknown(_)) {
                        trial.doubt = Doubt::MaybeDelivered;
                    }
                    if self.sink.is_gone(trial.original.topic()) {
                        return Err(Refusal::Denied { topic: trial.original.topic().to_string() });
                    }
                    if self.is_draining() || Instant::now() + PAUSE >= trial.deadline {
                        return self.give_up(trial, started).await;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The broker does not get it any more: the inbox does, or its client has it back.
    async fn give_up(&self, trial: Trial, started: Instant) -> Answer {
        if self.may_store(&trial) { self.store_records(trial, None, started).await } else { Err(unavailable(trial.doubt)) }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.signal.phase() >= Phase::Finishing
    }

    /// Until when the broker has a batch. Where the inbox can take it: as long as it has an event, from its turn on, since a long
    /// queue is no outage. Else as long as it is held, from when it came: those behind it are held meanwhile.
    fn deadline(&self, records: &RoutedRecords, admitted: Instant, started: Instant) -> Instant {
        if !self.may_keep(records) {
            let config = self.sink.config();
            return (admitted + config.outage_hold.get()).max(started + config.failover_after.get());
        }
        match self.sink.raw() {
            Some(raw) if raw.breaker().is_proven() => started + self.sink.send_deadline(),
            _ => started + self.sink.first_deadline(),
        }
    }

    /// Whether the inbox may have it, and would take it now.
    fn may_store(&self, trial: &Trial) -> bool {
        self.may_keep(&trial.journey.records)
    }

    fn may_keep(&self, records: &RoutedRecords) -> bool {
        let numbers = records.producer().is_some();
        records.may_store() && self.inbox.takes() && (!numbers || self.inbox.keeps_numbers())
    }

    /// Which way is open: nothing goes behind what is owed to its partition, and a gate that is nearly open is waited for.
    async fn way(&self, raw: &Raw, trial: &Trial) -> Way {
        let (topic, partition) = (trial.original.topic(), trial.original.partition());
        let gates = self.sink.gates();
        if self.sink.is_opening(raw.breaker(), topic, partition) {
            let soon = tokio::time::Instant::now() + self.sink.config().failover_after.get();
            // A timeout says that it is not open; the next line sees it.
            let _ = timeout_at(soon, gates.opened(topic, partition)).await;
        }
        if gates.is_open(topic, partition) && raw.breaker().admits(Instant::now(), gates.total() > 0) {
            return Way::Open;
        }
        if self.may_store(trial) { Way::Inbox } else { Way::Hold }
    }

    /// Until the gate or the breaker may have changed, or the deadline.
    async fn wait_for_change(&self, raw: &Raw, trial: &Trial) {
        let (topic, partition) = (trial.original.topic(), trial.original.partition());
        let mut state = raw.breaker().watch();
        let deadline = tokio::time::Instant::from_std(trial.deadline);
        let mut signal = self.signal.clone();
        tokio::select! {
            () = signal.reached(Phase::Finishing) => {}
            () = async {
                // The owner of the breaker lives as long as the trunk; an error would only mean that nothing changes any more.
                let _ = state.wait_for(|state| *state == State::Closed).await;
                self.sink.gates().opened(topic, partition).await;
            } => {}
            // An open breaker lets a probe through now and then, and somebody must be it.
            () = sleep(PAUSE) => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }

    /// The answer, unless the deadline or the breaker's opening comes first.
    async fn wait_for_verdict(&self, raw: &Raw, sent: &mut Sent, trial: &Trial) -> Option<Verdict> {
        let mut state = raw.breaker().watch();
        let closed_at_first = *state.borrow_and_update() == State::Closed;
        let leaves = closed_at_first && self.may_store(trial);
        // A batch whose predecessor is missing waits for it, and its client with it.
        let deadline =
            trial.deadline.max(Instant::now() + if trial.journey.missing_since().is_some() { PAUSE * 20 } else { Duration::ZERO });
        let mut signal = self.signal.clone();
        tokio::select! {
            biased;
            verdict = sent.verdict() => Some(verdict),
            // The last moment in which the inbox takes something.
            () = signal.reached(Phase::Storing) => None,
            () = tokio::time::sleep_until(tokio::time::Instant::from_std(deadline)) => None,
            _ = state.wait_for(|state| *state == State::Open), if leaves => None,
        }
    }

    /// What a batch that will never be taken is told.
    fn refusal_of_batch(&self, trial: &Trial, never: Never) -> Refusal {
        let topic = trial.original.topic();
        // The broker knows something of the topic that we do not.
        self.sink.catalog().want();
        match never {
            Never::NoTopic => Refusal::Denied { topic: topic.to_string() },
            Never::TooLarge => {
                let actual = trial.original.batch().bytes().len() as u64;
                let known = match self.sink.catalog().peek(topic) {
                    Lookup::Known(facts) => facts.bounds.max_message_bytes,
                    _ => actual,
                };
                Refusal::TooLarge { what: "the size of the record batch in bytes", actual, limit: known.min(actual.saturating_sub(1)) }
            }
            Never::Invalid("invalid_timestamp") => Refusal::invalid("time", "the topic refuses a record's time"),
            Never::Invalid(reason) => Refusal::invalid("records", format!("the topic refuses the batch: {reason}")),
        }
    }

    /// Stores a batch, and answers after the commit. If it is still on its way upstream, its late answer settles the row.
    async fn store_records(&self, trial: Trial, mut sent: Option<Sent>, started: Instant) -> Answer {
        if let Some(demands) = trial.original.demands() {
            self.look_at(trial.original.batch(), demands).await?;
        }
        let (name, original) = (trial.original.name(), &trial.original);
        sent.iter_mut().for_each(Sent::not_waited_for);
        let pending = sent.is_some();
        let parcel = Parcel {
            content: Content::Records(Arc::clone(&trial.journey.records)),
            name,
            arrival: trial.arrival,
            not_before_ms: if pending { not_before_ms(self.upstream_for()) } else { 0 },
            maybe: pending || trial.doubt == Doubt::MaybeDelivered,
            owed: self.sink.gates().owe(original.topic(), original.partition()),
        };
        let mut commit = self.put(parcel);
        let deadline = tokio::time::Instant::from_std(started + self.sink.config().answer_deadline.get().max(trial.deadline - started));
        let mut doubt = if pending { Doubt::MaybeDelivered } else { trial.doubt };
        loop {
            tokio::select! {
                biased;
                committed = async { commit.as_mut().expect("asked only while there is one").await }, if commit.is_some() => {
                    commit = None;
                    match committed {
                        Ok(Ok(_)) => {
                            self.settle_late(name, sent);
                            return Ok(Landed::Inbox);
                        }
                        Ok(Err(StoreError::Unknown)) | Err(_) => doubt = Doubt::MaybeDelivered,
                        Ok(Err(_)) => {}
                    }
                }
                verdict = async { sent.as_mut().expect("asked only while there is one").verdict().await }, if sent.is_some() => {
                    sent = None;
                    self.inbox.settle(name, settlement(&verdict));
                    if let Verdict::Landed(landed) = verdict {
                        return Ok(landed);
                    }
                }
                () = tokio::time::sleep_until(deadline), if commit.is_some() || sent.is_some() => {
                    let doubt = if commit.is_some() { Doubt::MaybeDelivered } else { doubt };
                    self.settle_late(name, sent);
                    return Err(unavailable(doubt));
                }
                else => return Err(unavailable(doubt)),
            }
        }
    }

    /// How long a batch may stay upstream: it waits for its turn, and then for its answer.
    fn upstream_for(&self) -> Duration {
        self.sink.config().raw_timeout.get() * 2 + Duration::from_secs(2)
    }

    /// The answer that comes after the row's commit goes to the inbox, through the same queue as the row.
    fn settle_late(&self, name: crate::route::DocumentName, sent: Option<Sent>) {
        let Some(mut sent) = sent else { return };
        let inbox = Arc::clone(&self.inbox);
        tokio::spawn(async move {
            let verdict = sent.verdict().await;
            inbox.settle(name, settlement(&verdict));
        });
    }
}

fn settlement(verdict: &Verdict) -> Settlement {
    match verdict {
        Verdict::Landed(_) => Settlement::Delivered,
        Verdict::Unknown(_) => Settlement::NotDelivered { maybe: true },
        // Replay sends it again, and judges.
        Verdict::NotStored(_) | Verdict::Strip(_) | Verdict::Predecessor | Verdict::Permanent(_) => {
            Settlement::NotDelivered { maybe: false }
        }
    }
}

fn not_stored() -> Refusal {
    unavailable(Doubt::NotStored)
}

fn unavailable(doubt: Doubt) -> Refusal {
    Refusal::Unavailable { wait: RETRY_AFTER, doubt }
}
