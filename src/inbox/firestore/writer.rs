//! The writer: one task that turns the queue into calls of Firestore, several at once, and answers after each.
//!
//! What always holds:
//! - One command of a document is out at a time; those behind it wait for its end. So a report never overtakes its row, and
//!   no document stands twice in a call.
//! - Nothing waits for a batch to fill: what is there goes, as long as calls may be made.
//! - A row is answered for after Firestore has said that it is there, and was read back where it was picked for that.
//! - What may or may not have happened is tried again, the same way, as long as somebody waits for it; creates and deletes
//!   say what they expect to find, so that a second time does no harm.
//! - One event that Firestore will never take is found by halving its call, and all others of the call are stored.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use tokio::time::{Instant, sleep_until};

use super::answer::Tally;
use super::audit::Auditor;
use super::books::Books;
use super::call::{self, Calls, End};
use super::job::{Drawn, Forms, Held, Job};
use super::pacer::{Pacer, Shut};
use super::queue::{Command, Queue};
use super::{fs, proto};
use crate::inbox::StoreError;
use crate::route::DocumentName;

/// At most so many bytes in one call, but always one write.
const MAX_CALL_BYTES: usize = 3 << 20;

/// What is still written after the queue has closed; a little less than the drain waits for it.
pub(super) const CLOSE_SHARE: Duration = Duration::from_millis(1_300);

/// Between two questions whether Firestore lets us again, or is back. The first one comes at once: it waits for the new token
/// as long as any call does, and most often that is all there was to it.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// But so long after the one before it, should Firestore let us ask and not write.
const PROBE_AGAIN: Duration = Duration::from_millis(500);

/// What the writer works with.
#[derive(Debug)]
pub(super) struct Desk<'a, C> {
    pub(super) calls: &'a C,
    pub(super) queue: &'a Queue,
    pub(super) pacer: &'a Pacer,
    pub(super) auditor: &'a Auditor,
    pub(super) books: &'a Books,
    pub(super) tally: &'a Tally,
    pub(super) forms: &'a Forms,
}

/// What a call that has ended gives back.
pub(super) enum Ended {
    Call(Vec<Job>, End),
    Probe,
}

/// See the module.
pub(super) struct Writer<'a, C> {
    pub(super) desk: &'a Desk<'a, C>,
    /// Those that wait for the command of their document that is out; none of a document: nothing of it is out.
    pub(super) behind: HashMap<DocumentName, VecDeque<Job>>,
    pub(super) ready: VecDeque<Job>,
    /// Halves of calls that Firestore has refused as a whole.
    halves: Vec<Vec<Job>>,
    /// Those that rest before they are tried again.
    pub(super) later: BTreeMap<(Instant, u64), Job>,
    pub(super) nth: u64,
    pub(super) held: Held,
    pub(super) abandoned: Option<Instant>,
    /// When it was last said that Firestore will never take something, and of how many that was not said since.
    pub(super) nevers: (Option<Instant>, u64),
    under_way: FuturesUnordered<BoxFuture<'a, Ended>>,
    /// When Firestore is asked again whether it lets us, or is back; none: it does, and is.
    probe: Option<Instant>,
    /// When it was last asked.
    probed: Option<Instant>,
}

impl<'a, C: Calls> Writer<'a, C> {
    pub(super) fn new(desk: &'a Desk<'a, C>) -> Self {
        Self {
            desk,
            behind: HashMap::new(),
            ready: VecDeque::new(),
            halves: Vec::new(),
            later: BTreeMap::new(),
            nth: 0,
            held: Held::default(),
            abandoned: None,
            nevers: (None, 0),
            under_way: FuturesUnordered::new(),
            probe: None,
            probed: None,
        }
    }

    /// Writes until the queue is closed and all of it is answered, or the time for that is over.
    pub(super) async fn run(mut self) {
        let mut until = None;
        loop {
            self.wake();
            self.shed();
            self.send();
            if until.is_some_and(|until| self.behind.is_empty() || Instant::now() >= until) {
                break;
            }
            let next = self.next(until);
            tokio::select! {
                biased;
                Some(ended) = self.under_way.next(), if !self.under_way.is_empty() => match ended {
                    Ended::Call(jobs, end) => self.ended(jobs, end),
                    Ended::Probe => {}
                },
                taken = self.desk.queue.take(), if until.is_none() => match taken {
                    Some(commands) => commands.into_iter().for_each(|command| self.accept(command)),
                    None => until = Some(Instant::now() + CLOSE_SHARE),
                },
                () = sleep_until(next) => {}
            }
            self.desk.tally.set_held(self.held.len());
        }
        self.close();
    }

    fn accept(&mut self, command: Command) {
        let job = Job::new(command, self.desk.forms);
        if job.is_left() {
            return self.desk.queue.release(job.bytes());
        }
        if job.is_insert() && self.desk.pacer.has_room(self.ready.len()).is_err() {
            return self.turn_away(job, StoreError::Full);
        }
        match self.behind.entry(job.name) {
            Entry::Occupied(mut behind) => behind.get_mut().push_back(job),
            Entry::Vacant(slot) => {
                slot.insert(VecDeque::new());
                self.ready.push_back(job);
            }
        }
    }

    /// What has rested long enough goes on.
    fn wake(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let job = first.remove();
            self.ready.push_back(job);
        }
    }

    /// While nothing is taken nobody waits for nothing.
    fn shed(&mut self) {
        let Some(shut) = self.desk.pacer.shut() else { return };
        let why = match shut {
            Shut::Denied => StoreError::Denied,
            Shut::Paused => StoreError::Busy,
        };
        let mut kept = VecDeque::new();
        // Who is refused makes way for the next of its document, which is looked at too.
        while let Some(job) = self.ready.pop_front() {
            match job.is_insert() {
                true => self.refuse(job, why),
                false => kept.push_back(job),
            }
        }
        self.ready = kept;
    }

    fn send(&mut self) {
        let desk = self.desk;
        while self.under_way.len() < desk.pacer.calls() && desk.pacer.pause().is_none() {
            let Some((mut jobs, writes)) = self.form() else { break };
            self.under_way.push(Box::pin(async move {
                let end = call::make(desk.calls, desk.pacer, desk.auditor, &mut jobs, writes).await;
                Ended::Call(jobs, end)
            }));
        }
        self.ask();
    }

    /// Asks now and then whether Firestore lets us again, or is back.
    fn ask(&mut self) {
        if self.desk.pacer.shut() != Some(Shut::Denied) && !self.desk.pacer.is_away() {
            self.probe = None;
            return;
        }
        let now = Instant::now();
        let first = self.probed.map_or(now, |probed| now.max(probed + PROBE_AGAIN));
        if *self.probe.get_or_insert(first) > now {
            return;
        }
        (self.probe, self.probed) = (Some(now + PROBE_EVERY), Some(now));
        let desk = self.desk;
        self.under_way.push(Box::pin(async move {
            let collection = desk.forms.collections.all().first().copied().unwrap_or_default();
            let nothing = desk.calls.name(collection, "sluicegate-probe");
            call::probe(desk.calls, desk.pacer, proto::delete(nothing)).await;
            Ended::Probe
        }));
    }

    /// The next call: half of one that was refused, or what is ready, as much as goes into one.
    fn form(&mut self) -> Option<(Vec<Job>, Vec<fs::Write>)> {
        let (mut jobs, mut writes, mut bytes) = (Vec::new(), Vec::new(), 0);
        let half = self.halves.pop();
        let limit = half.as_ref().map_or_else(|| self.desk.pacer.batch(), Vec::len);
        if let Some(half) = half {
            half.into_iter().rev().for_each(|job| self.ready.push_front(job));
        }
        while jobs.len() < limit {
            let Some(job) = self.ready.pop_front() else { break };
            let Some((job, write)) = self.draw(job) else { continue };
            bytes += write.encoded_len();
            if bytes > MAX_CALL_BYTES && !jobs.is_empty() {
                self.ready.push_front(job);
                break;
            }
            jobs.push(job);
            writes.push(write);
        }
        jobs.iter().for_each(|job| self.held.remember(job));
        (!jobs.is_empty()).then_some((jobs, writes))
    }

    /// A job with its write; none: it has ended without one.
    fn draw(&mut self, mut job: Job) -> Option<(Job, fs::Write)> {
        if job.is_left() {
            self.refuse(job, StoreError::Unknown);
            return None;
        }
        if !job.is_insert() {
            job.deposit = self.held.deposit(&job.name);
        }
        match job.draw(self.desk.calls, self.desk.forms) {
            Drawn::Write(write) => return Some((job, write)),
            Drawn::Nothing => self.settled(job, false),
            Drawn::Never(why) => self.never(job, &why),
        }
        None
    }

    /// Those of a call that Firestore has refused as a whole.
    pub(super) fn halve(&mut self, mut jobs: Vec<Job>) {
        let other = jobs.split_off(jobs.len() / 2);
        self.halves.extend([other, jobs]);
    }

    /// When there is something to do next, if nothing comes. Replay may hear what we do not: then it is we who ask.
    fn next(&self, until: Option<Instant>) -> Instant {
        let now = Instant::now();
        let pause = self.desk.pacer.pause().map(|left| now + left);
        let rested = self.later.first_key_value().map(|((at, _), _)| *at);
        [until, pause, rested, self.probe].into_iter().flatten().fold(now + PROBE_EVERY, Instant::min)
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
