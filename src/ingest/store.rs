//! The trunk's second half: what the broker has not acknowledged goes to the inbox.
//!
//! A part that the producer still has is handed over together with its row, so that its late report finds the row. If
//! the inbox does not take it, the part waits for that report until the answer's deadline.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep_until;

use crate::drain::{Phase, Signal};
use crate::inbox::row::{Content, Parcel};
use crate::inbox::{Settlement, StoreError, Stored, not_before_ms};
use crate::receipt::{Doubt, Receipt, Refusal, Tier};
use crate::sink::Unsent;
use crate::sink::flight::{HandOver, Late, Pending};
use crate::sink::report::Report;

use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::InboxRefusal;

use super::{Answer, Ingest, in_broker};

/// What a refused sender is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Kept free of `answer_deadline` for the answer itself.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// What the inbox says after the commit.
type Commit = oneshot::Receiver<Result<Stored, StoreError>>;

/// Where a part is after it was offered to the inbox.
enum Offered {
    /// In the inbox's queue; the answer comes after the commit.
    Queued(Commit),
    /// Not taken.
    NotTaken,
    /// The producer's report was quicker.
    Reported(Report),
}

/// Until when parts are waited for.
struct Deadline {
    soon: tokio::time::Instant,
    /// Unless the gate drains: then it is the other one.
    late: tokio::time::Instant,
    signal: Signal,
}

impl Deadline {
    /// What came of it in time.
    async fn before<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            sleep_until(self.soon).await;
            let mut signal = self.signal.clone();
            tokio::select! {
                () = sleep_until(self.late) => {}
                () = signal.reached(Phase::Finishing) => {}
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = over => None,
        }
    }
}

/// A part between the two tiers.
struct Part {
    receipt: Receipt,
    doubt: Doubt,
    pending: Option<Pending>,
    offered: Offered,
    routed: std::sync::Arc<crate::route::Routed>,
}

impl Ingest {
    /// Stores parts, in their order, and answers each after its commit: by the deadline of answers, or until `until` if that is
    /// later and the gate does not drain.
    pub(super) async fn store(&self, unsent: Vec<Unsent>, started: Instant, until: Option<Instant>) -> Vec<Answer> {
        let limit = self.sink.config().answer_deadline.get().saturating_sub(ANSWER_MARGIN);
        let soon = tokio::time::Instant::from_std(started + limit);
        let deadline = Deadline { soon, late: until.map_or(soon, |until| soon.max(until.into())), signal: self.signal.clone() };
        let parts: Vec<Part> = unsent.into_iter().map(|unsent| self.offer(unsent)).collect();
        let mut answers = Vec::with_capacity(parts.len());
        for part in parts {
            answers.push(self.settle(part, &deadline).await);
        }
        answers
    }

    fn offer(&self, unsent: Unsent) -> Part {
        let Unsent { routed, arrival, owed, doubt, pending } = unsent;
        // The name is a hash of all of it: not before there is somebody to ask.
        let name = (routed.may_store() && self.inbox.takes()).then(|| routed.name());
        let told = name.map(|name| name.to_string()).unwrap_or_default();
        let receipt = Receipt { id: routed.id().clone(), topic: routed.topic().clone(), tier: Tier::Inbox { name: told } };
        let mut part = Part { receipt, doubt, pending, offered: Offered::NotTaken, routed };
        let Some(name) = name else { return part };
        let held = if part.pending.is_some() { not_before_ms(self.held_for()) } else { 0 };
        let maybe = doubt == Doubt::MaybeDelivered;
        let parcel =
            Parcel { content: Content::Event(std::sync::Arc::clone(&part.routed)), name, arrival, not_before_ms: held, maybe, owed };
        part.offered = match &part.pending {
            None => self.put(parcel).map_or(Offered::NotTaken, Offered::Queued),
            Some(pending) => self.hand_over(pending, parcel),
        };
        part
    }

    fn hand_over(&self, pending: &Pending, parcel: Parcel) -> Offered {
        let name = parcel.name;
        let inbox = std::sync::Arc::clone(&self.inbox);
        let late: Late = Box::new(move |report| inbox.settle(name, settlement(&report)));
        let (mut queued, mut parcel) = (None, Some(parcel));
        let outcome = pending.hand_over(late, || {
            queued = parcel.take().and_then(|parcel| self.put(parcel));
            queued.is_some()
        });
        match (outcome, queued) {
            // The producer has it no more: it is the inbox's alone.
            (HandOver::Reported(Report::NotStored(_) | Report::Unknown(_)), _) => {
                let ready = parcel.map(|parcel| Parcel { not_before_ms: 0, ..parcel });
                ready.and_then(|parcel| self.put(parcel)).map_or(Offered::NotTaken, Offered::Queued)
            }
            (HandOver::Reported(report), _) => Offered::Reported(report),
            (HandOver::Taken, Some(commit)) => Offered::Queued(commit),
            (HandOver::Taken | HandOver::NoRoom, _) => Offered::NotTaken,
        }
    }

    pub(super) fn put(&self, parcel: Parcel) -> Option<Commit> {
        self.inbox.store(parcel).inspect_err(|why| count(*why)).ok()
    }

    async fn settle(&self, part: Part, deadline: &Deadline) -> Answer {
        let Part { receipt, mut doubt, pending, offered, routed } = part;
        let (mut report, mut may_be_stored) = (None, false);
        match offered {
            Offered::Queued(commit) => match deadline.before(commit).await {
                Some(Ok(Ok(_))) => return Ok(receipt),
                // Not answered in time, or not known: it may be stored, and be delivered by replay.
                None | Some(Ok(Err(StoreError::Unknown)) | Err(_)) => {
                    count(StoreError::Unknown);
                    may_be_stored = true;
                }
                Some(Ok(Err(why))) => count(why),
            },
            Offered::NotTaken => {}
            Offered::Reported(early) => report = Some(early),
        }
        if let (None, Some(pending)) = (&report, &pending) {
            // A timeout leaves the report away: the outcome stays unknown.
            let _ = deadline.before(pending.all_reported()).await;
            report = pending.reported();
        }
        match report {
            Some(Report::Delivered { partition, offset }) => return Ok(in_broker(&routed, partition, offset)),
            Some(Report::NotStored(_)) => doubt = Doubt::NotStored,
            Some(Report::Permanent(never)) => match self.sink.refusal(&routed, never) {
                Some(refusal) if !may_be_stored => return Err(refusal),
                _ => doubt = Doubt::NotStored,
            },
            Some(Report::Unknown(_)) | None => {}
        }
        let doubt = if may_be_stored { Doubt::MaybeDelivered } else { doubt };
        Err(Refusal::Unavailable { wait: RETRY_AFTER, doubt })
    }

    /// How long the producer may still deliver what it has.
    fn held_for(&self) -> Duration {
        self.sink.config().message_timeout.get() + Duration::from_secs(2)
    }
}

fn count(why: StoreError) {
    let reason = match why {
        StoreError::None => return,
        StoreError::Full => InboxRefusal::Budget,
        StoreError::Busy => InboxRefusal::Busy,
        StoreError::Latched => InboxRefusal::Latched,
        StoreError::Unknown => InboxRefusal::Io,
        StoreError::Denied => InboxRefusal::Credentials,
        StoreError::Refused => InboxRefusal::Document,
    };
    metrics().inbox_refused.at(reason).inc();
}

fn settlement(report: &Report) -> Settlement {
    match report {
        Report::Delivered { .. } => Settlement::Delivered,
        Report::NotStored(_) => Settlement::NotDelivered { maybe: false },
        Report::Unknown(_) => Settlement::NotDelivered { maybe: true },
        // The topic may come back; and what was refused may have been the batch that it travelled in. Replay sends it alone, and
        // sets it aside only when that is refused too.
        Report::Permanent(_) => Settlement::NotDelivered { maybe: false },
    }
}
