//! The raw leg as the trunk and replay see it: a batch goes up, and its answers become steps.
//!
//! What always holds: the breaker sees every batch that somebody waits for, and every answer; a batch goes again with the
//! same bytes, or stripped, and nothing else; a batch whose numbers were stripped makes its lane remember it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::Breaker;
use super::forward::{Ticket, Upstream};
use super::verdict::Verdict;
use crate::lane::{Lane, Lanes};
use crate::route::RoutedRecords;

/// How long a batch waits for one of its producer's that is missing at the broker: another gate behind the same address
/// may hold it.
const PREDECESSOR: Duration = Duration::from_secs(10);

/// How often it is tried meanwhile.
const PREDECESSOR_EVERY: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub struct Raw {
    upstream: Arc<Upstream>,
    breaker: Arc<Breaker>,
    lanes: Arc<Lanes>,
}

/// A batch upstream that somebody waits for. Dropped, it may still arrive.
#[derive(Debug)]
pub struct Sent {
    ticket: Ticket,
    breaker: Arc<Breaker>,
    waited_for: bool,
}

/// A batch on its way, over as many sendings as it takes.
#[derive(Debug)]
pub struct Journey {
    /// As it is to be sent now.
    pub records: Arc<RoutedRecords>,
    lane: Option<Lane>,
    /// Since when its predecessor is missing.
    missing: Option<Instant>,
}

/// What comes next for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes again, after so long.
    Again(Duration),
    /// That is what became of this sending; what follows is for others to decide.
    Over(Verdict),
}

impl Raw {
    /// A leg over these connections.
    pub fn new(upstream: Arc<Upstream>, breaker: Arc<Breaker>, lanes: Arc<Lanes>) -> Self {
        Self { upstream, breaker, lanes }
    }

    /// The trust in this leg.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// The connections.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether nothing waits for an answer of a broker.
    pub fn is_idle(&self) -> bool {
        self.upstream.status().iter().all(|broker| broker.in_flight == 0)
    }

    /// What is remembered of lanes.
    pub fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// Sends a batch as it is. It counts as waited for until its answer, or until nobody waits any more.
    pub fn send(&self, journey: &Journey) -> Sent {
        if let Some((lane, producer)) = journey.numbers() {
            self.lanes.sent(lane, &producer, Instant::now());
        }
        self.breaker.sent(1, Instant::now());
        let mut sent = self.ticket(journey);
        sent.waited_for = true;
        sent
    }

    /// What an answer means for a batch: the numbers that are no longer accepted are stripped here.
    pub fn step(&self, journey: &mut Journey, verdict: Verdict, now: Instant) -> Step {
        match verdict {
            // Nothing is left to take away: whatever the broker means by it, it is not our numbers.
            Verdict::Predecessor | Verdict::Strip(_) if journey.numbers().is_none() => return Step::Over(Verdict::Unknown("no_numbers")),
            Verdict::Predecessor => {
                let since = *journey.missing.get_or_insert(now);
                if now.saturating_duration_since(since) < PREDECESSOR {
                    return Step::Again(PREDECESSOR_EVERY);
                }
                self.strip(journey, "out_of_order_sequence_number");
            }
            Verdict::Strip(why) => self.strip(journey, why),
            over => {
                journey.missing = None;
                return Step::Over(over);
            }
        }
        Step::Again(Duration::ZERO)
    }

    /// Sends a row of the inbox until it is over. Nobody's patience is tried.
    pub async fn replay(&self, records: &Arc<RoutedRecords>) -> Verdict {
        let mut journey = Journey::new(Arc::clone(records));
        if journey.numbers().is_some_and(|(lane, producer)| !self.lanes.keeps_numbers(lane, &producer)) {
            self.strip(&mut journey, "older_epoch");
        }
        loop {
            let verdict = self.ticket(&journey).verdict().await;
            match self.step(&mut journey, verdict, Instant::now()) {
                Step::Again(pause) => tokio::time::sleep(pause).await,
                Step::Over(verdict) => return verdict,
            }
        }
    }

    /// The same records without their producer's numbers; the lane remembers it, unless it has gone on already: a row that comes
    /// late, because nobody knew that it was stored, takes nothing from those behind it.
    pub fn strip(&self, journey: &mut Journey, why: &'static str) {
        if let Some((lane, producer)) = journey.numbers() {
            if !self.lanes.has_gone_on(lane, &producer) {
                self.lanes.stripped(lane, &producer, Instant::now());
            }
            tracing::debug!(topic = %lane.topic, partition = lane.partition, why, "a batch goes on without its producer's numbers");
        }
        journey.records = Arc::new(journey.records.stripped());
        journey.missing = None;
    }

    fn ticket(&self, journey: &Journey) -> Sent {
        let records = &journey.records;
        let ticket = self.upstream.send(records.topic(), records.partition(), records.batch().clone());
        Sent { ticket, breaker: Arc::clone(&self.breaker), waited_for: false }
    }
}

impl Journey {
    /// A batch that has not been sent yet.
    pub fn new(records: Arc<RoutedRecords>) -> Self {
        Self { lane: lane_of(&records), records, missing: None }
    }

    /// Since when it waits for its predecessor.
    pub fn missing_since(&self) -> Option<Instant> {
        self.missing
    }

    /// Its lane and its numbers, unless they are stripped or it never had any.
    pub fn numbers(&self) -> Option<(&Lane, crate::records::Producer)> {
        self.lane.as_ref().zip(self.records.producer())
    }
}

/// The lane of a batch that has a producer's numbers.
pub fn lane_of(records: &RoutedRecords) -> Option<Lane> {
    let producer = records.producer()?;
    Some(Lane { producer: producer.id, topic: records.topic().clone(), partition: records.partition() })
}

impl Sent {
    /// Waits for the answer. May be left and begun again.
    pub async fn verdict(&mut self) -> Verdict {
        let answer = self.ticket.answer().await;
        let verdict = Verdict::of(&answer);
        if matches!(verdict, Verdict::Landed(_)) {
            self.breaker.acknowledged(Instant::now());
        } else if Verdict::is_answer(&answer) {
            self.breaker.answered(Instant::now());
        }
        self.not_waited_for();
        verdict
    }

    /// It has another keeper from here on: the breaker does not count it any more.
    pub fn not_waited_for(&mut self) {
        if std::mem::take(&mut self.waited_for) {
            self.breaker.left(1);
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.not_waited_for();
    }
}
