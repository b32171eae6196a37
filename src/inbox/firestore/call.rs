//! One call of the writer's: its turn, its writes, and the look back at some of them.
//!
//! What always holds: a write that was picked for the audit is not *done* before it was read back; when one of a call is not
//! there, none of its inserts is, nor of any other call while Firestore is not trusted; what the call says of Firestore's
//! health is told to the pacer here, once for each call.

use tokio::time::Instant;

use super::audit::{Auditor, Finding};
use super::client::{Client, Fault, Written};
use super::job::Job;
use super::pacer::{Pacer, Spent};
use super::{fs, proto};
use crate::route::DocumentName;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{FirestoreEnd, FirestoreMethod};

/// What the writer asks of Firestore.
pub trait Calls: Sync {
    /// Makes writes, each for itself: one result for each, in their order.
    fn write(&self, writes: Vec<fs::Write>) -> impl Future<Output = Result<Vec<Written>, Fault>> + Send;
    /// Documents by their full names, in the order asked.
    fn get(&self, names: Vec<String>) -> impl Future<Output = Result<Vec<Option<fs::Document>>, Fault>> + Send;
    /// A document's full name.
    fn name(&self, collection: &str, id: &str) -> String;
}

impl Calls for Client {
    fn write(&self, writes: Vec<fs::Write>) -> impl Future<Output = Result<Vec<Written>, Fault>> + Send {
        Self::write(self, writes)
    }

    fn get(&self, names: Vec<String>) -> impl Future<Output = Result<Vec<Option<fs::Document>>, Fault>> + Send {
        Self::get(self, names)
    }

    fn name(&self, collection: &str, id: &str) -> String {
        Self::name(self, collection, id)
    }
}

/// What a call has come to.
#[derive(Debug)]
pub(super) enum End {
    /// Each of its writes.
    Each(Vec<Outcome>),
    /// It was not made.
    Spent(Spent),
    /// All of it has failed.
    Failed(Fault),
}

/// What has become of one write.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// What Firestore says of it; where it was to be read back it was.
    Said(Written),
    /// It could not be read back, or was not there for the first time: it is made again.
    NotReadBack,
    /// It was made and read back twice, and is not there.
    Missing,
}

/// Makes the writes of these jobs.
pub(super) async fn make<C: Calls>(calls: &C, pacer: &Pacer, auditor: &Auditor, jobs: &mut [Job], mut writes: Vec<fs::Write>) -> End {
    let count = writes.len();
    if let Err(spent) = pacer.permit(u32::try_from(count).unwrap_or(u32::MAX), true).await {
        return End::Spent(spent);
    }
    // All inserts are watched: one that is missing has the whole call looked at.
    let mut watched: Vec<DocumentName> = Vec::with_capacity(count);
    for (job, write) in jobs.iter_mut().zip(&mut writes).filter(|(job, _)| job.is_insert()) {
        job.picked = job.picked || auditor.picks();
        watched.push(job.name);
        // Others leave it where it is until it was read back. Somebody else's commands have no such field.
        if job.picked && job.deposit.as_ref().is_some_and(|deposit| deposit.gated) {
            proto::mark_audited(write);
        }
    }
    auditor.watch(watched.iter().copied());
    let started = Instant::now();
    let written = calls.write(writes).await;
    metrics().inbox_commit_seconds.observe(started.elapsed().as_secs_f64());
    note(pacer, &written, count, started);
    let end = match written {
        Ok(written) => End::Each(read_back(calls, auditor, jobs, written).await),
        Err(fault) => End::Failed(fault),
    };
    watched.iter().for_each(|name| auditor.forget(name));
    end
}

/// A write that changes nothing, to hear whether Firestore lets us again, or is back.
pub(super) async fn probe<C: Calls>(calls: &C, pacer: &Pacer, write: fs::Write) {
    // Urgent: it does not wait in the line of the rest, and not for a pause either; the next one comes soon enough.
    if pacer.permit(1, true).await.is_ok() {
        let started = Instant::now();
        note(pacer, &calls.write(vec![write]).await, 1, started);
    }
}

/// What a call's end says of Firestore's health.
fn note(pacer: &Pacer, written: &Result<Vec<Written>, Fault>, count: usize, started: Instant) {
    let took = started.elapsed();
    let end = match written {
        Ok(written) => {
            let again = written.iter().filter(|one| **one == Written::Again).count();
            metrics().firestore_writes.inc_by((count - again.min(count)) as u64);
            // One or two are contended; many say that it is too much.
            match again * 2 >= count.max(1) {
                true => pacer.exhausted(),
                false => pacer.answered(count, took),
            }
            FirestoreEnd::Ok
        }
        Err(fault) => {
            match fault {
                Fault::Exhausted(_) => pacer.exhausted(),
                Fault::Denied(words) => pacer.denied(words),
                Fault::Invalid(_) => pacer.works(),
                Fault::Slow | Fault::Unreachable(_) | Fault::Other(_) => pacer.unanswered(took),
            }
            ended(fault)
        }
    };
    metrics().firestore_call(FirestoreMethod::BatchWrite, end, took);
}

/// What a fault is counted as.
fn ended(fault: &Fault) -> FirestoreEnd {
    match fault {
        Fault::Exhausted(_) => FirestoreEnd::Exhausted,
        Fault::Denied(_) => FirestoreEnd::Denied,
        Fault::Invalid(_) => FirestoreEnd::Invalid,
        Fault::Slow => FirestoreEnd::Slow,
        Fault::Unreachable(_) => FirestoreEnd::Unreachable,
        Fault::Other(_) => FirestoreEnd::Failed,
    }
}

async fn read_back<C: Calls>(calls: &C, auditor: &Auditor, jobs: &mut [Job], written: Vec<Written>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = written.into_iter().map(Outcome::Said).collect();
    // Whoever answers with fewer has not said what became of the others.
    outcomes.resize_with(jobs.len(), || Outcome::Said(Written::Again));
    let stored = |at: &usize| matches!(outcomes[*at], Outcome::Said(Written::Ok(_) | Written::AlreadyExists));
    let (picked, unread): (Vec<usize>, Vec<usize>) =
        (0..jobs.len()).filter(|at| jobs[*at].is_insert() && stored(at)).partition(|at| jobs[*at].picked);
    let missing = look(calls, auditor, jobs, &picked, &mut outcomes).await;
    if missing || auditor.is_on_probation() {
        look(calls, auditor, jobs, &unread, &mut outcomes).await;
    }
    outcomes
}

/// Reads these back; gives whether one was not there.
async fn look<C: Calls>(calls: &C, auditor: &Auditor, jobs: &mut [Job], asked: &[usize], outcomes: &mut [Outcome]) -> bool {
    if asked.is_empty() {
        return false;
    }
    let names = asked.iter().map(|at| jobs[*at].path(calls)).collect();
    let started = Instant::now();
    let found = calls.get(names).await;
    metrics().firestore_call(FirestoreMethod::BatchGet, found.as_ref().map_or_else(ended, |_| FirestoreEnd::Ok), started.elapsed());
    let mut missing = false;
    for (nth, at) in asked.iter().enumerate() {
        let job = &mut jobs[*at];
        // Whatever comes of this look: it is not answered for unread.
        job.picked = true;
        let finding =
            found.as_ref().ok().and_then(|found| found.get(nth)).map(|found| auditor.judge(&job.name, found.is_some(), job.missed));
        missing |= matches!(finding, Some(Finding::Suspect | Finding::Missing));
        match finding {
            Some(Finding::There) => {}
            Some(Finding::Missing) => outcomes[*at] = Outcome::Missing,
            Some(Finding::Suspect) => {
                job.missed = true;
                outcomes[*at] = Outcome::NotReadBack;
            }
            None => outcomes[*at] = Outcome::NotReadBack,
        }
    }
    missing
}
