//! One broker, as the plan sees it: its queue, its connections and the trust in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Change, Loss, Parcel};
use crate::sink::forward::cluster::{Address, Key};
use crate::sink::forward::fault::Fault;

/// Between two attempts to connect, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a connection does.
#[derive(Debug)]
pub(in crate::sink::forward) enum State {
    /// It is being made.
    Opening,
    /// Nothing.
    Idle,
    /// The broker has asked for a rest (`throttle_time_ms`).
    Resting,
    /// It waits for the answer to a request.
    Busy { parcels: Vec<Parcel>, since: Instant, alone: bool },
}

/// See the module.
#[derive(Debug)]
pub(in crate::sink::forward) struct Broker {
    pub address: Address,
    /// The lines whose next parcel may go, in the order in which they came.
    pub ready: VecDeque<Key>,
    links: BTreeMap<u64, State>,
    /// Connections to an address where the broker is no more.
    leaving: BTreeSet<u64>,
    /// Attempts to connect that failed, one behind the other.
    failures: u32,
    retry_at: Option<Instant>,
    last_fault: Option<Fault>,
    down: bool,
}

impl Broker {
    pub(super) const fn new(address: Address) -> Self {
        Self {
            address,
            ready: VecDeque::new(),
            links: BTreeMap::new(),
            leaving: BTreeSet::new(),
            failures: 0,
            retry_at: None,
            last_fault: None,
            down: false,
        }
    }

    /// Connections, and those that are ready or at work.
    pub(in crate::sink::forward) fn connections(&self) -> usize {
        self.links.values().filter(|state| !matches!(state, State::Opening)).count()
    }

    /// Batches that wait for the broker's answer.
    pub(in crate::sink::forward) fn in_flight(&self) -> usize {
        self.links.values().map(|state| if let State::Busy { parcels, .. } = state { parcels.len() } else { 0 }).sum()
    }

    /// The last fault; kept when the broker is back, for a person who looks later.
    pub(in crate::sink::forward) const fn last_fault(&self) -> Option<&Fault> {
        self.last_fault.as_ref()
    }

    /// Whether the last attempt to connect failed.
    pub(in crate::sink::forward) const fn is_down(&self) -> bool {
        self.down
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.links.contains_key(&number)
    }

    pub(super) fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connections() > 0
    }

    pub(super) fn set(&mut self, number: u64, state: State) {
        self.links.insert(number, state);
    }

    pub(super) fn take(&mut self, number: u64) -> Option<State> {
        self.links.remove(&number)
    }

    /// The connection that has nothing to do; always the oldest, so that those that are not needed grow old and end.
    pub(super) fn idle(&self) -> Option<u64> {
        self.links.iter().find(|(_, state)| matches!(state, State::Idle)).map(|(number, _)| *number)
    }

    /// Requests of one partition that travels alone.
    pub(super) fn alone(&self) -> usize {
        self.links.values().filter(|state| matches!(state, State::Busy { alone: true, .. })).count()
    }

    pub(super) fn may_open(&self, limit: usize, now: Instant) -> bool {
        let opening = self.links.values().any(|state| matches!(state, State::Opening));
        !opening && self.links.len() < limit && self.retry_at.is_none_or(|at| at <= now)
    }

    /// A connection is ready.
    pub(super) fn is_up(&mut self) -> Change {
        (self.failures, self.retry_at) = (0, None);
        if std::mem::take(&mut self.down) { Change::Up } else { Change::None }
    }

    /// A connection ended.
    pub(super) fn lost(&mut self, loss: &Loss, jitter: f64, now: Instant) -> Change {
        let (fault, unreachable) = match loss {
            Loss::Quiet => return Change::None,
            Loss::Unreachable(fault) => (fault, true),
            Loss::Broken { fault, .. } => (fault, false),
        };
        self.last_fault = Some(fault.clone());
        if unreachable {
            self.failures = self.failures.saturating_add(1);
        }
        let longest = (BACKOFF.0 * 2_u32.pow(self.failures.clamp(1, 6) - 1)).min(BACKOFF.1);
        self.retry_at = Some(now + longest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
        if unreachable && !std::mem::replace(&mut self.down, true) { Change::Down } else { Change::None }
    }

    /// It is somewhere else now: what is connected to the old place is used no more.
    pub(super) fn moved(&mut self, address: Address) {
        self.address = address;
        self.leaving.extend(self.links.keys());
        self.retry_at = None;
    }

    /// Whether a connection leads to where the broker was.
    pub(super) fn is_leaving(&mut self, number: u64) -> bool {
        self.leaving.remove(&number)
    }

    /// All connections that have nothing to do; they are the plan's no more.
    pub(super) fn take_idle(&mut self) -> Vec<u64> {
        let idle = self.links.extract_if(.., |_, state| matches!(state, State::Idle | State::Resting));
        idle.map(|(number, _)| number).collect()
    }
}
