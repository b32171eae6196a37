//! What the writer makes of a call's end: answers, gates, another try.
//!
//! What always holds: every job that was taken ends in exactly one of [`Writer::done`]'s callers, or rests and is tried again;
//! a gate that opens does so before the answer is heard.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Calls, End, Outcome};
use super::client::{Fault, Written};
use super::job::{Job, Work};
use super::writer::Writer;
use crate::inbox::row::Parcel;
use crate::inbox::{Settlement, StoreError, Stored};
use crate::telemetry::metrics;

/// A report is tried for so long.
const SETTLE_FOR: Duration = Duration::from_secs(60);

/// One line in so long says that reports were given up.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What the writer has done, for whoever asks.
#[derive(Debug, Default)]
pub struct Tally {
    stored: AtomicU64,
    held: AtomicUsize,
}

impl Tally {
    /// Events stored since the start.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Rows that a producer may still deliver.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed) as u64
    }

    pub(super) fn set_held(&self, held: usize) {
        self.held.store(held, Ordering::Relaxed);
    }
}

impl<C: Calls> Writer<'_, C> {
    pub(super) fn ended(&mut self, jobs: Vec<Job>, end: End) {
        match end {
            End::Each(outcomes) => jobs.into_iter().zip(outcomes).for_each(|(job, outcome)| self.one(job, outcome)),
            End::Failed(Fault::Invalid(_)) if jobs.len() > 1 => self.halve(jobs),
            End::Failed(Fault::Invalid(words)) => jobs.into_iter().for_each(|job| self.never(job, &words)),
            // In their order, before all others, when the pause is over; in a long one they are refused.
            End::Failed(Fault::Exhausted(_)) => jobs.into_iter().rev().for_each(|job| self.ready.push_front(job)),
            End::Failed(Fault::Denied(_)) => jobs.into_iter().for_each(|job| self.refuse_or_retry(job, StoreError::Denied)),
            End::Failed(fault) => {
                tracing::debug!(%fault, writes = jobs.len(), "a call of the inbox's writer has an unknown outcome");
                jobs.into_iter().for_each(|job| self.again(job));
            }
            End::Spent(why) => {
                tracing::debug!(%why, writes = jobs.len(), "a call of the inbox's writer may not be made");
                jobs.into_iter().for_each(|job| self.refuse_or_retry(job, StoreError::Full));
            }
        }
    }

    fn one(&mut self, mut job: Job, outcome: Outcome) {
        let insert = job.is_insert();
        match outcome {
            Outcome::Said(Written::Ok(_) | Written::AlreadyExists) if insert => self.stored(job),
            Outcome::Said(Written::Ok(_)) => self.settled(job, true),
            Outcome::Said(Written::NotFound | Written::Precondition | Written::AlreadyExists) if !insert => self.settled(job, false),
            Outcome::Said(Written::Refused(words)) => self.never(job, &words),
            Outcome::Said(_) => self.again(job),
            Outcome::NotReadBack => {
                job.unknown = true;
                self.retry(job);
            }
            Outcome::Missing => {
                job.unknown = true;
                self.refuse(job, StoreError::Unknown);
            }
        }
    }

    /// It is there. If it was there before, nobody knows whether it is owed for: an earlier attempt may have had no answer, or
    /// another instance has stored it. So it is owed for once more, and what is too much is paid when its lane is seen empty.
    fn stored(&mut self, job: Job) {
        let (name, bytes) = (job.name, job.bytes());
        let gated = job.deposit.as_ref().is_some_and(|deposit| deposit.gated);
        let Work::Insert { parcel, reply } = job.work else { return };
        let Parcel { owed, arrival, .. } = *parcel;
        match gated {
            true => self.desk.books.stored(owed, arrival),
            // Who drains a command's collection is not waited for.
            false => drop(owed),
        }
        self.held.counted(&name, arrival);
        self.desk.tally.stored.fetch_add(1, Ordering::Relaxed);
        metrics().inbox_stored.inc();
        self.done(&name, bytes);
        // Nobody may be listening any more; then nobody needs the answer.
        let _ = reply.send(Ok(Stored { name: name.to_string() }));
    }

    /// A report is dealt with; `gone`: by the row's change or end.
    pub(super) fn settled(&mut self, job: Job, gone: bool) {
        let counted = self.held.forget(&job.name);
        if let (Work::Settle(Settlement::Delivered), true, Some(deposit)) = (&job.work, gone, &job.deposit) {
            metrics().inbox_settled_late.inc();
            if deposit.gated {
                self.desk.books.gone(&deposit.lane, counted);
            }
        }
        self.done(&job.name, 0);
    }

    /// Its outcome is not known: the same again, as long as somebody waits.
    fn again(&mut self, mut job: Job) {
        job.unknown = true;
        self.retry(job);
    }

    fn refuse_or_retry(&mut self, job: Job, why: StoreError) {
        match job.is_insert() {
            true => self.refuse(job, why),
            false => self.retry(job),
        }
    }

    fn retry(&mut self, mut job: Job) {
        let now = Instant::now();
        if !job.is_insert() && now.duration_since(job.since) >= SETTLE_FOR {
            return self.abandon(job);
        }
        self.nth += 1;
        self.later.insert((now + job.rest(), self.nth), job);
    }

    /// A report that could not be written: its row stays, and is sent again by replay.
    fn abandon(&mut self, job: Job) {
        let now = Instant::now();
        if self.abandoned.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
            self.abandoned = Some(now);
            tracing::warn!(
                document = %job.name,
                "Firestore could not be told for a minute what became of held rows: they stay, and may be delivered twice (said once a minute)"
            );
        }
        self.settled(job, false);
    }

    /// It can never be written.
    pub(super) fn never(&mut self, job: Job, words: &str) {
        let (now, (said, unsaid)) = (Instant::now(), self.nevers);
        // Its words name the sender's own fields.
        tracing::debug!(document = %job.name, words, "Firestore will never take this");
        self.nevers = match said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
            true => {
                tracing::error!(
                    document = %job.name, before = unsaid, code = "invalid_argument",
                    "Firestore will never take this; it should have been refused at the door (said once a minute)"
                );
                (Some(now), 0)
            }
            false => (said, unsaid + 1),
        };
        match job.is_insert() {
            true => self.refuse(job, StoreError::Refused),
            false => self.settled(job, false),
        }
    }

    /// It is not stored; or that is not known.
    pub(super) fn refuse(&mut self, job: Job, why: StoreError) {
        let name = job.name;
        let bytes = job.bytes();
        if let (true, Work::Insert { parcel, .. }, Some(deposit)) = (job.unknown, &job.work, &job.deposit)
            && deposit.gated
        {
            // It may be there, and nobody counts it: replay must not count it off.
            self.desk.books.uncounted(&deposit.lane, parcel.arrival);
        }
        answer(job, why);
        self.done(&name, bytes);
    }

    /// Refuses one that has not got its turn among those of its document.
    pub(super) fn turn_away(&self, job: Job, why: StoreError) {
        self.desk.queue.release(job.bytes());
        answer(job, why);
    }

    /// One is out no more: the next of its document is.
    fn done(&mut self, name: &crate::route::DocumentName, bytes: usize) {
        self.desk.queue.release(bytes);
        let Some(behind) = self.behind.get_mut(name) else { return };
        match behind.pop_front() {
            Some(mut next) => {
                next.since = Instant::now();
                self.ready.push_back(next);
            }
            None => {
                self.behind.remove(name);
            }
        }
    }

    /// The end: what was never tried is refused. Of the rest nobody knows, which is what a dropped answer says.
    pub(super) fn close(mut self) {
        let left = self.behind.len();
        if left > 0 {
            tracing::warn!(documents = left, "the inbox's writer ends before Firestore has answered for all");
        }
        for job in std::mem::take(&mut self.ready) {
            self.turn_away(job, StoreError::Full);
        }
    }
}

fn answer(job: Job, why: StoreError) {
    let Work::Insert { parcel, reply } = job.work else { return };
    // The gate opens before the answer is heard.
    drop(parcel);
    // An earlier attempt may have stored it all the same.
    let _ = reply.send(Err(if job.unknown { StoreError::Unknown } else { why }));
}
