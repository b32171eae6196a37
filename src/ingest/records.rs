//! The trunk's way for a producer's record batches: the same questions in the same order as for events, and then lanes.
//!
//! What always holds: a request's batches have their places in their lanes when [`Ingest::admit`] returns; either all that
//! could be taken are, or all of them are refused for now, because some clients repeat the whole of a request for one
//! refusal; what is refused for good is refused alone; a refusal for now is remembered by its lane.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::lanes::{Entry, Place};
use super::{Ingest, Share};
use crate::auth::Principal;
use crate::event::{Origin, Topic};
use crate::lane::Lane;
use crate::limits::inflight::InFlight;
use crate::receipt::{Doubt, Landed, Refusal};
use crate::records::{Compression, Demands, Producer, RecordBatch};
use crate::route::{Bounds, RouteConfig, RoutedRecords, fits, refusal_of};
use crate::sink::catalog::Facts;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{self, Outcome};

/// A larger batch is looked at off the reactor.
const LARGE: usize = 256 << 10;

/// What a sender that is refused for now is told to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who owes its quotas more is refused for now, on whatever connection it comes.
pub const MAX_OWED: Duration = Duration::from_secs(60);

/// One batch of a request, and where it shall go.
#[derive(Clone, Debug)]
pub struct RecordsPart {
    /// The topic.
    pub topic: Topic,
    /// The partition that its producer has chosen.
    pub partition: i32,
    /// The batch.
    pub batch: RecordBatch,
}

/// What one [`Ingest::admit`] handles. No two parts are for the same partition: the door has seen to that.
#[derive(Debug)]
pub struct RecordsRequest {
    /// The batches, in the sender's order.
    pub parts: Vec<RecordsPart>,
    /// Where they come from.
    pub origin: Origin,
    /// The number of the client's connection: it is the lane of batches that have no producer id.
    pub connection: u64,
    /// The bytes in flight.
    pub guard: InFlight,
}

/// What became of one batch.
pub(super) type Answer = Result<Landed, Refusal>;

/// A request that was taken in. Its batches are on their way; those whose turn has not come when it is dropped are not sent:
/// their client has gone, and will send them again.
#[derive(Debug)]
pub struct Admitted {
    /// How long the principal owes its quotas: the door says it at once, and sits it out before it reads on.
    pub owed: Duration,
    places: Vec<Pending>,
    guard: Arc<InFlight>,
}

#[derive(Debug)]
enum Pending {
    Said(Answer),
    Awaited(oneshot::Receiver<Answer>),
}

/// One result for each batch, in order.
#[derive(Debug)]
pub struct RecordsOutcomes {
    /// One for each part.
    pub results: Vec<Result<Landed, Refusal>>,
    /// The bytes in flight; held until the answer is written.
    pub guard: Arc<InFlight>,
}

/// What a principal may know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// It exists, with so many partitions.
    Partitions(i32),
    /// There is no such topic, or no grant: the same.
    Denied,
    /// It cannot be said now: the catalog is cold, in an outage.
    Unsure,
}

/// What a request brings to topics that its principal may send to.
#[derive(Default)]
struct Sent {
    events: u32,
    bytes: u64,
}

impl Sent {
    fn add(&mut self, batch: &RecordBatch) {
        self.events = self.events.saturating_add(batch.count());
        self.bytes = self.bytes.saturating_add(batch.bytes().len() as u64);
    }
}

/// What a part is by its own word: what is remembered when it is refused before it is routed.
struct Claim {
    records: u32,
    crc: u32,
    numbers: Option<(Lane, Producer)>,
}

impl Ingest {
    /// Takes a request in: grants, quotas, bounds, lanes. When it returns, the batches have their places in their lanes, so
    /// that who calls it in the order of a connection's requests keeps their order. All of a request is admitted, or all that
    /// could be retried is refused; what is refused for good is refused alone.
    pub async fn admit(self: &Arc<Self>, principal: &Principal, request: RecordsRequest) -> Admitted {
        let RecordsRequest { parts, origin, connection, guard } = request;
        let (guard, started) = (Arc::new(guard), Instant::now());
        let claims: Vec<Claim> = parts.iter().map(|part| self.claim(principal, part)).collect();
        let in_debt = self.in_debt(principal);
        let (routed, sent) = self.route_parts(principal, parts, &origin, started).await;
        let refused = in_debt.or_else(|| self.refused_for_now(&routed));
        let owed = if sent.events == 0 { Duration::ZERO } else { self.quotas.draw(principal, sent.events, sent.bytes) };
        let mut places = Vec::with_capacity(routed.len());
        for (place, claim) in routed.into_iter().zip(claims) {
            places.push(match (place, &refused) {
                (Err(refusal), _) => self.refuse(refusal, &claim),
                (Ok(_), Some(refusal)) => self.refuse(refusal.clone(), &claim),
                (Ok(records), None) => self.enqueue(records, connection, &guard),
            });
        }
        Admitted { owed, places, guard }
    }

    /// What the principal may know of these topics, or of all that it may send to; names that are no topic's are denied.
    pub async fn describe(&self, principal: &Principal, topics: Option<&[String]>) -> Vec<(String, TopicState)> {
        let Some(names) = topics else { return self.describe_all(principal) };
        let (begun, mut described) = (Instant::now(), Vec::with_capacity(names.len()));
        for name in names {
            let state = match Topic::new(name) {
                Ok(topic) => self.describe_one(principal, &topic, begun).await,
                Err(_) => TopicState::Denied,
            };
            described.push((name.clone(), state));
        }
        described
    }

    async fn describe_one(&self, principal: &Principal, topic: &Topic, begun: Instant) -> TopicState {
        match self.permit(principal, topic, begun).await {
            Ok(share) => self.facts(&share).map_or(TopicState::Unsure, |facts| TopicState::Partitions(facts.partitions)),
            Err(Refusal::Unavailable { .. }) => TopicState::Unsure,
            Err(_) => TopicState::Denied,
        }
    }

    /// What is known of a topic. Where there is no broker at all, it is as it would be made.
    fn facts(&self, share: &Share) -> Option<Facts> {
        let planned = || self.table.planned_partitions(share.permit.topic()).filter(|_| !self.sink.has_broker());
        share.facts.or_else(|| planned().map(|partitions| Facts { partitions, bounds: Bounds::default() }))
    }

    fn describe_all(&self, principal: &Principal) -> Vec<(String, TopicState)> {
        let granted = |topic: &Topic| principal.grants().cover(topic) && self.table.knows(topic);
        let known = self.sink.catalog().topics().into_iter().map(|(topic, facts)| (topic, facts.partitions));
        let planned = self.table.rows().iter().filter(|_| !self.sink.has_broker()).filter_map(RouteConfig::planned);
        let granted = known.chain(planned).filter(|(topic, _)| granted(topic));
        granted.map(|(topic, partitions)| (topic.to_string(), TopicState::Partitions(partitions))).collect()
    }

    /// A new producer id of this principal. No broker is asked: it works in an outage.
    pub fn producer_id(&self, principal: &Principal) -> i64 {
        self.producer_ids.new_id(principal)
    }

    /// Whether a producer id was made by us for this principal.
    pub fn owns_producer_id(&self, principal: &Principal, id: i64) -> bool {
        self.producer_ids.owns(principal, id)
    }

    async fn route_parts(
        &self,
        principal: &Principal,
        parts: Vec<RecordsPart>,
        origin: &Origin,
        started: Instant,
    ) -> (Vec<Result<RoutedRecords, Refusal>>, Sent) {
        let mut permits: HashMap<Topic, Result<Share, Refusal>> = HashMap::new();
        let (mut routed, mut sent) = (Vec::with_capacity(parts.len()), Sent::default());
        for part in parts {
            if !permits.contains_key(&part.topic) {
                permits.insert(part.topic.clone(), self.permit(principal, &part.topic, started).await);
            }
            let result = match &permits[&part.topic] {
                Ok(share) => {
                    // Also what is refused costs: it was looked at.
                    sent.add(&part.batch);
                    self.route_part(principal, share, part, origin).await
                }
                Err(refusal) => Err(refusal.clone()),
            };
            routed.push(result);
        }
        (routed, sent)
    }

    async fn route_part(&self, principal: &Principal, share: &Share, part: RecordsPart, origin: &Origin) -> Result<RoutedRecords, Refusal> {
        // Without a catalog nobody knows what the topic demands; nobody was told of its partitions either.
        let facts = self.facts(share).ok_or(Refusal::Unavailable { wait: RETRY_AFTER, doubt: Doubt::NotStored })?;
        if !(0..facts.partitions).contains(&part.partition) {
            return Err(Refusal::Denied { topic: part.topic.to_string() });
        }
        fits(&part.batch, &facts.bounds)?;
        let demands = facts.bounds.demands(origin.arrived);
        if !part.batch.claims(&demands) {
            self.look_at(&part.batch, &demands).await?;
        }
        // An id that is not this principal's must not meet the numbers of the one whose it is.
        let foreign = part.batch.producer().is_some_and(|producer| !self.producer_ids.owns(principal, producer.id));
        let batch = if foreign { part.batch.strip() } else { part.batch.detached() };
        self.table.route_records(&share.permit, &facts.bounds, demands, part.partition, batch)
    }

    /// A debt is paid by waiting, which a connection does; whoever comes by many has to wait too.
    fn in_debt(&self, principal: &Principal) -> Option<Refusal> {
        let owed = self.quotas.owed(principal);
        (owed > MAX_OWED).then_some(Refusal::Overloaded { what: "what a principal may owe its quotas", wait: owed })
    }

    /// Why the whole of a request is refused for now: a part that could be repeated is refused, or waits for an earlier one.
    fn refused_for_now(&self, routed: &[Result<RoutedRecords, Refusal>]) -> Option<Refusal> {
        let for_now = |refusal: &Refusal| refusal.retry_after().is_some();
        let waits = |records: &RoutedRecords| self.waits_for_an_earlier(records);
        routed.iter().find_map(|part| match part {
            Err(refusal) if for_now(refusal) => Some(refusal.clone()),
            Ok(records) if waits(records) => Some(Refusal::Unavailable { wait: RETRY_AFTER, doubt: Doubt::NotStored }),
            _ => None,
        })
    }

    /// Holds what the topic demands against every record. A broker does so itself; so this is for what it would refuse by its
    /// header already, and for what the inbox is to keep: there nobody else would look before it is acknowledged.
    ///
    /// Little bytes can stand for many: what is compressed is looked at off the reactor, and few at a time.
    pub(super) async fn look_at(&self, batch: &RecordBatch, demands: &Demands) -> Result<(), Refusal> {
        if batch.compression() == Compression::None && batch.bytes().len() <= LARGE {
            return batch.check(demands).map_err(refusal_of);
        }
        let turn = Arc::clone(&self.looks).acquire_owned().await.map_err(|_| Refusal::Internal)?;
        let (batch, demands) = (batch.clone(), *demands);
        let looked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            batch.check(&demands)
        });
        looked.await.map_err(|_| Refusal::Internal)?.map_err(refusal_of)
    }

    fn claim(&self, principal: &Principal, part: &RecordsPart) -> Claim {
        let own = part.batch.producer().filter(|producer| self.producer_ids.owns(principal, producer.id));
        let lane = |producer: Producer| (Lane { producer: producer.id, topic: part.topic.clone(), partition: part.partition }, producer);
        Claim { records: part.batch.count(), crc: part.batch.crc(), numbers: own.map(lane) }
    }

    fn refuse(&self, refusal: Refusal, claim: &Claim) -> Pending {
        let answer = Err(refusal);
        if let Some((lane, producer)) = &claim.numbers {
            self.remember(lane, producer, claim.crc, &answer);
        }
        count(&answer, claim.records);
        Pending::Said(answer)
    }

    /// What a lane has to know of an answer that was given in it.
    pub(super) fn remember(&self, lane: &Lane, producer: &Producer, crc: u32, answer: &Answer) {
        let now = Instant::now();
        match answer {
            Ok(landed) => self.sink.lanes().landed(lane, producer, crc, *landed, now),
            Err(refusal) if refusal.retry_after().is_some() || *refusal == Refusal::Internal => {
                let stored_for_sure_not = matches!(
                    refusal,
                    Refusal::Unavailable { doubt: Doubt::NotStored, .. } | Refusal::Overloaded { .. } | Refusal::Throttled { .. }
                );
                self.sink.lanes().refuse(lane, producer, crc, !stored_for_sure_not, now);
            }
            // A client that splits what is too large keeps its numbers.
            Err(Refusal::TooLarge { .. }) => {}
            Err(_) => self.sink.lanes().lost(lane, producer, now),
        }
    }

    fn enqueue(self: &Arc<Self>, records: RoutedRecords, connection: u64, guard: &Arc<InFlight>) -> Pending {
        let place = Place::of(&records, connection);
        let (reply, answer) = oneshot::channel();
        let arrival = self.sink.gates().arrivals(1);
        self.queue(place, Entry { records: Arc::new(records), arrival, started: Instant::now(), reply, _guard: Arc::clone(guard) });
        Pending::Awaited(answer)
    }
}

/// Each of a batch's records has the batch's outcome.
pub(super) fn count(answer: &Answer, records: u32) {
    let outcome = match answer {
        Ok(Landed::Broker { .. }) => Outcome::AcceptedBroker,
        Ok(Landed::Inbox) => Outcome::AcceptedInbox,
        Err(refusal) => Outcome::refused(refusal.code()),
    };
    metrics().events.at((labels::Door::Kafka, outcome)).inc_by(u64::from(records));
}

impl Admitted {
    /// Waits for the outcomes.
    pub async fn outcomes(self) -> RecordsOutcomes {
        let mut results = Vec::with_capacity(self.places.len());
        for place in self.places {
            results.push(match place {
                Pending::Said(answer) => answer,
                // A lane that ends early has acknowledged nothing.
                Pending::Awaited(answer) => answer.await.unwrap_or(Err(Refusal::Internal)),
            });
        }
        RecordsOutcomes { results, guard: self.guard }
    }
}
