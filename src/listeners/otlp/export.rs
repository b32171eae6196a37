//! One export, from its bytes to what became of it: looked over, cut into records, handed to the trunk as one batch.
//!
//! What always holds: every span, data point and log record of a request that could be read is counted once, by what became of
//! it; what could be taken later refuses all of the request, what is wrong for good only itself, unless that is all there is.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::reply::Refused;
use super::status::Partial;
use super::{Config, Door, Encoding, work};
use crate::auth::Principal;
use crate::event::{self, Batch, Event, Origin, Topic};
use crate::ingest::{Hold, Room};
use crate::limits::inflight::InFlight;
use crate::listeners::http::lobby::Head;
use crate::otlp::{self, Cut, Depth, Fragment, Plan, Signal};
use crate::receipt::{self, Position, Receipt, Refusal, Tier};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{self, Outcome};

/// By what consumers of their own tell a fragment that they have seen: `<hash>/<index from 0>/<count>`.
const FRAGMENT: &str = "x-sluicegate-fragment";

/// All fragments together may take so many times the request, since each has a copy of what its items have in common.
const AMPLIFICATION: u64 = 4;
/// And so many bytes beside, for small requests.
const AMPLIFICATION_FLOOR: u64 = 1 << 20;

/// What the trunk needs at least, when most of the time has gone by before it was asked.
const LEAST: Duration = Duration::from_secs(3);

/// Reasons that an answer names; the others it counts.
const NAMED: usize = 3;

/// A request that was read.
pub(super) struct Request {
    pub door: event::Door,
    pub signal: Signal,
    pub encoding: Encoding,
    pub bytes: Bytes,
    pub guard: InFlight,
    pub hold: Option<Duration>,
    pub deadline: Instant,
}

/// A request of which everything that can be taken was taken.
pub(super) struct Exported {
    pub partial: Partial,
    pub guard: InFlight,
}

/// What is made of a request's bytes.
struct Prepared {
    fragments: Vec<Fragment>,
    /// Names the request and how it is cut.
    id: u64,
    items: u64,
    invalid: u64,
    too_large: u64,
    reasons: Vec<String>,
    repaired: u64,
    deviations: otlp::json::Deviations,
}

impl Door {
    /// Takes a request, or says why not.
    pub(super) async fn export(&self, head: &Head<'_>, principal: &Principal, request: Request) -> Result<Exported, Refused> {
        let Request { door, signal, encoding, bytes, guard, hold, deadline } = request;
        let counted = Counted { door, signal };
        metrics().body_bytes.at(counted.door()).inc_by(guard.bytes());
        let topic = self.topic(signal);
        let charged = bytes.len() as u64;
        let until = hold.map(|hold| std::time::Instant::now() + hold);
        let asking = until.map(|until| Hold { until, guard: &guard });
        let room = self.parts.ingest.room(principal, topic, asking).await.inspect_err(|refusal| counted.unread(refusal))?;
        let plan = self.plan(signal, charged, room);
        let config = self.config.clone();
        // The guard goes with the work: who hangs up does not free memory that is still held.
        let mut guard = guard;
        let prepare = move || (prepare(signal, encoding, bytes, &plan, &config, &mut guard), guard);
        let (prepared, guard) = work::on(usize::try_from(charged).unwrap_or(usize::MAX), prepare).await?;
        let prepared = prepared.inspect_err(|refusal| counted.unread(refusal))?;
        counted.repaired(&prepared);
        let taken = prepared.items.saturating_sub(prepared.invalid + prepared.too_large);
        let mut partial = Partial { rejected: prepared.invalid + prepared.too_large, message: told(&prepared.reasons) };
        if taken == 0 {
            return if partial.rejected == 0 {
                Ok(Exported { partial, guard })
            } else {
                counted.rejected(&prepared);
                counted.event(Outcome::Invalid);
                Err(Refusal::Invalid { message: partial.message, field: None }.into())
            };
        }
        let items: Vec<u64> = prepared.fragments.iter().map(|fragment| fragment.items).collect();
        let traceparent = head.context.traceparent.clone();
        let origin = Origin { door, arrived: head.arrived, address: self.parts.lobby.address(head), traceparent };
        let batch = Batch { events: events(topic, &prepared), origin, charged_bytes: Some(charged), hold: until.map(left), guard };
        let deadline = deadline.max(Instant::now() + LEAST.min(self.config.answer_within.get()));
        let Ok(outcomes) = timeout_at(deadline, self.parts.ingest.accept(principal, batch)).await else {
            counted.items(Outcome::Unavailable, taken);
            counted.rejected(&prepared);
            return Err(Refused::Late);
        };
        counted.rejected(&prepared);
        counted.landed(&outcomes.results, &items);
        let refused = refused_for_good(&outcomes.results, &items)?;
        partial.rejected += refused.rejected;
        if refused.rejected > 0 {
            partial.message = told(&prepared.reasons.into_iter().chain([refused.message]).collect::<Vec<_>>());
        }
        if partial.rejected > 0 {
            // What stands in the message is the sender's; the log has the numbers.
            tracing::warn!(
                principal = principal.name(),
                signal = signal.as_str(),
                rejected = partial.rejected,
                taken,
                "a part of an OTLP request was rejected for good; its sender was told which"
            );
        }
        Ok(Exported { partial, guard: outcomes.guard })
    }

    fn plan(&self, signal: Signal, bytes: u64, room: Room) -> Plan {
        Plan {
            keys: self.config.keys(signal),
            partitions: room.partitions,
            record_bytes: room.record_bytes,
            max_fragments: self.config.max_fragments,
            max_bytes: bytes * AMPLIFICATION + AMPLIFICATION_FLOOR,
        }
    }
}

fn left(until: std::time::Instant) -> Duration {
    until.saturating_duration_since(std::time::Instant::now())
}

/// Looks a request over and cuts it.
fn prepare(
    signal: Signal,
    encoding: Encoding,
    bytes: Bytes,
    plan: &Plan,
    config: &Config,
    guard: &mut InFlight,
) -> Result<Prepared, Refusal> {
    let malformed = |fault: otlp::Fault| {
        let position = Position { offset: fault.offset, line: 0, column: 0 };
        Refusal::Malformed { message: format!("{} (at byte {})", fault.what, fault.offset), position: Some(position) }
    };
    let (bytes, items, deviations) = match encoding {
        Encoding::Protobuf => (bytes, None, otlp::json::Deviations::default()),
        Encoding::Json => {
            let transcoded = otlp::json::transcode(signal, &bytes).map_err(malformed)?;
            guard.grow(transcoded.bytes.len() as u64)?;
            (Bytes::from(transcoded.bytes), Some(transcoded.items), transcoded.deviations)
        }
    };
    // What was written by us needs no second look; only its old fields, of which JSON has none, and its size count.
    let depth = if items.is_some() { Depth::None } else { config.validation };
    let checked = otlp::check(signal, bytes, depth, config.repair_utf8).map_err(malformed)?;
    let Cut { fragments, rejected } =
        otlp::cut(signal, &checked.bytes, plan).map_err(|error| Refusal::Invalid { message: error.to_string(), field: None })?;
    guard.grow(weight(&fragments).saturating_sub(checked.bytes.len() as u64))?;
    let id = if fragments.len() > 1 { otlp::fragment_id(&checked.bytes, plan) } else { 0 };
    let too_large = rejected.iter().map(|rejected| rejected.items).sum();
    let reasons = checked.why.into_iter().chain(rejected.into_iter().map(|rejected| rejected.what)).collect();
    // `items` of a check are those that are left.
    let items = checked.items + checked.rejected;
    Ok(Prepared { fragments, id, items, invalid: checked.rejected, too_large, reasons, repaired: checked.repaired, deviations })
}

fn events(topic: &Topic, prepared: &Prepared) -> Vec<Event> {
    let count = prepared.fragments.len();
    let event = |(index, fragment): (usize, &Fragment)| Event {
        topic: topic.clone(),
        client_key: None,
        key: fragment.key.clone(),
        partition: fragment.partition,
        items: u32::try_from(fragment.items).unwrap_or(u32::MAX),
        headers: match count {
            1 => Vec::new(),
            _ => vec![(FRAGMENT.to_owned(), Bytes::from(format!("{:016x}/{index}/{count}", prepared.id)))],
        },
        time: None,
        value: fragment.value.clone(),
    };
    prepared.fragments.iter().enumerate().map(event).collect()
}

fn weight(fragments: &[Fragment]) -> u64 {
    let weight = |fragment: &Fragment| fragment.value.len() + fragment.key.as_ref().map_or(0, Bytes::len) + size_of::<Event>();
    fragments.iter().map(|fragment| weight(fragment) as u64).sum()
}

/// What of the fragments was refused for good, while the others were taken. Anything else that was refused refuses all.
fn refused_for_good(results: &[Result<Receipt, Refusal>], items: &[u64]) -> Result<Partial, Refusal> {
    if let Some(Err(worst)) = receipt::worst(results)
        && (!worst.is_for_good() || results.iter().all(Result::is_err))
    {
        return Err(worst.clone());
    }
    let mut partial = Partial::default();
    for (result, items) in results.iter().zip(items) {
        if let Err(refusal) = result {
            partial.rejected += items;
            partial.message = refusal.to_string();
        }
    }
    Ok(partial)
}

/// The first reasons, and how many more there are.
fn told(reasons: &[String]) -> String {
    let mut text = reasons.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    if reasons.len() > NAMED {
        text.push_str(&format!("; and {} more", reasons.len() - NAMED));
    }
    text
}

/// Counts what becomes of one request.
#[derive(Clone, Copy)]
struct Counted {
    door: event::Door,
    signal: Signal,
}

impl Counted {
    fn door(self) -> labels::Door {
        labels::Door::named(self.door.as_str())
    }

    fn signal(self) -> labels::Signal {
        labels::Signal::named(self.signal.as_str())
    }

    fn items(self, outcome: Outcome, items: u64) {
        metrics().otlp_items.at((self.signal(), outcome)).inc_by(items);
    }

    /// The request as one event; the trunk counts those that it hears of.
    fn event(self, outcome: Outcome) {
        metrics().events.at((self.door(), outcome)).inc();
    }

    /// A request whose items nobody has counted.
    fn unread(self, refusal: &Refusal) {
        self.event(Outcome::refused(refusal.code()));
    }

    fn rejected(self, prepared: &Prepared) {
        self.items(Outcome::Invalid, prepared.invalid);
        self.items(Outcome::TooLarge, prepared.too_large);
    }

    fn repaired(self, prepared: &Prepared) {
        metrics().otlp_repaired.at(self.signal()).inc_by(prepared.repaired);
        for (name, count) in prepared.deviations.named() {
            if let Some(deviation) = labels::Deviation::named(name) {
                metrics().otlp_json_deviations.at((self.signal(), deviation)).inc_by(count);
            }
        }
    }

    /// One outcome for what is answered as one: that of the record that fared worst, but for what was refused for good beside others.
    fn landed(self, results: &[Result<Receipt, Refusal>], items: &[u64]) {
        let of = |result: &Result<Receipt, Refusal>| match result {
            Ok(Receipt { tier: Tier::Broker { .. }, .. }) => Outcome::AcceptedBroker,
            Ok(Receipt { tier: Tier::Inbox { .. }, .. }) => Outcome::AcceptedInbox,
            Err(refusal) => Outcome::refused(refusal.code()),
        };
        let all = items.iter().sum();
        match refused_for_good(results, items) {
            Err(worst) => self.items(Outcome::refused(worst.code()), all),
            Ok(_) => {
                metrics().otlp_records.at(self.signal()).inc_by(results.iter().flatten().count() as u64);
                for (result, items) in results.iter().zip(items).filter(|(result, _)| result.is_err()) {
                    self.items(of(result), *items);
                }
                let taken = results.iter().zip(items).filter(|(result, _)| result.is_ok()).map(|(_, items)| items).sum();
                let receipts: Vec<_> = results.iter().filter(|result| result.is_ok()).cloned().collect();
                if let Some(worst) = receipt::worst(&receipts) {
                    self.items(of(worst), taken);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;
    use crate::receipt::Doubt;

    fn taken() -> Result<Receipt, Refusal> {
        let tier = Tier::Broker { partition: 0, offset: 0 };
        Ok(Receipt { id: EventId::generate(), topic: Topic::new("t").expect("a topic"), tier })
    }

    #[test]
    fn what_is_refused_for_good_refuses_itself_and_what_could_be_taken_later_refuses_all() {
        let later = || Err(Refusal::Unavailable { wait: Duration::from_secs(2), doubt: Doubt::NotStored });
        let never = || Err(Refusal::invalid("x", "no"));
        assert_eq!(refused_for_good(&[taken(), taken()], &[1, 2]), Ok(Partial::default()));
        assert_eq!(refused_for_good(&[taken(), never()], &[1, 2]), Ok(Partial { rejected: 2, message: "no".into() }));
        assert_eq!(refused_for_good(&[taken(), later()], &[1, 2]), Err(later().expect_err("refused")));
        assert_eq!(refused_for_good(&[never(), later(), taken()], &[1, 2, 3]), Err(later().expect_err("refused")));
        assert_eq!(refused_for_good(&[never(), never()], &[1, 2]), Err(never().expect_err("refused")));
    }

    #[test]
    fn an_answer_names_the_first_reasons_and_counts_the_others() {
        let reasons = |count| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(told(&reasons(0)), "");
        assert_eq!(told(&reasons(3)), "0; 1; 2");
        assert_eq!(told(&reasons(5)), "0; 1; 2; and 2 more");
    }

    #[test]
    fn every_deviation_has_its_label() {
        for (name, _) in otlp::json::Deviations::default().named() {
            assert!(labels::Deviation::named(name).is_some(), "{name}");
        }
    }
}
