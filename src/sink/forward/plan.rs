//! What goes next, and over which connection: the rules of the raw leg, sans I/O.
//!
//! What always holds: a partition has at most one batch on its way at a time, and the next one goes when that one is
//! answered, so that order does not hang on connections; a connection has at most one request; a request has a partition
//! once. Every parcel is told exactly one answer: what was not written may be told [`Answer::NotSent`] or go another way,
//! what was written, even in part, is [`Answer::Unknown`] when no answer came.
//!
//! Whoever changes the plan carries out its [`Action`]s.

mod broker;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::event::Topic;
use crate::records::RecordBatch;
use crate::telemetry::metrics;

use super::Answer;
use super::cluster::{Address, Cluster, Key, Learned, Node};
use super::fault::Fault;
pub(super) use broker::Broker;
use broker::State;

/// The most bytes of batches in one merged request; one larger batch goes alone.
pub(super) const MAX_REQUEST: usize = 1 << 20;

/// A partition whose request was not answered in time travels alone until it is answered, at most for so long: who waited
/// with it must not wait again.
const ALONE_FOR: Duration = Duration::from_secs(60);

/// An answer within this is quick: its partitions may travel in company again.
const QUICK: Duration = Duration::from_millis(250);

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections to one broker.
    pub links: usize,
    /// Bytes that wait.
    pub queue: usize,
    /// How long a batch waits for its turn.
    pub timeout: Duration,
}

/// Names one connection, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Link {
    pub node: Node,
    pub number: u64,
}

/// A batch and who waits for its answer.
#[derive(Debug)]
pub(super) struct Parcel {
    key: Key,
    batch: RecordBatch,
    arrived: Instant,
    told: oneshot::Sender<Answer>,
}

/// A batch as a connection writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub topic: Topic,
    pub partition: i32,
    pub batch: RecordBatch,
}

/// What is to be done after a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Open a connection.
    Open { link: Link, address: Address },
    /// Write a request.
    Send { link: Link, pieces: Vec<Piece> },
    /// End a connection that has nothing to do.
    Close { link: Link },
    /// Ask who leads what.
    Refresh,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// In peace: it was idle, or it was asked to.
    Quiet,
    /// It was never there.
    Unreachable(Fault),
    /// It broke. `written`: bytes of the request that it had may be on their way.
    Broken { fault: Fault, written: bool },
}

/// What happened to the trust in a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Up,
    Down,
}

/// What waits for one partition.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Parcel>,
    in_flight: bool,
    /// In whose queue it stands.
    queued: Option<Node>,
    /// Until when it travels alone.
    alone: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    limits: Limits,
    cluster: Cluster,
    lines: HashMap<Key, Line>,
    brokers: BTreeMap<Node, Broker>,
    waiting: usize,
    waiting_bytes: usize,
    opened: u64,
    refreshes: u64,
    refresh_wanted: bool,
    closing: bool,
    /// Brokers that may have something to do since the last look.
    restless: BTreeSet<Node>,
    actions: Vec<Action>,
}

impl Parcel {
    pub(super) fn new(key: Key, batch: RecordBatch, arrived: Instant) -> (Self, oneshot::Receiver<Answer>) {
        let (told, ticket) = oneshot::channel();
        (Self { key, batch, arrived, told }, ticket)
    }

    fn size(&self) -> usize {
        self.batch.bytes().len()
    }

    /// Batches of one producer must not overtake each other. Those of nobody in particular may all be of one.
    fn lane(&self) -> Option<i64> {
        self.batch.producer().map(|producer| producer.id)
    }

    fn piece(&self) -> Piece {
        Piece { topic: self.key.0.clone(), partition: self.key.1, batch: self.batch.clone() }
    }

    pub(super) fn tell(self, answer: Answer) {
        match answer {
            Answer::Answered { .. } => metrics().forward_answered.inc(),
            Answer::NotSent(_) => metrics().forward_not_sent.inc(),
            Answer::Unknown(_) => metrics().forward_unknown.inc(),
        };
        // Nobody may be waiting any more; the batch went its way all the same.
        let _ = self.told.send(answer);
    }
}

impl Plan {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            cluster: Cluster::default(),
            lines: HashMap::new(),
            brokers: BTreeMap::new(),
            waiting: 0,
            waiting_bytes: 0,
            opened: 0,
            refreshes: 0,
            refresh_wanted: false,
            closing: false,
            restless: BTreeSet::new(),
            actions: Vec::new(),
        }
    }

    /// What is to be done since this was asked last.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether something waits for its turn: then [`tick`](Self::tick) must come.
    pub(super) const fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Bytes that wait for their turn.
    pub(super) const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// All brokers that anything was ever sent to or is known of.
    pub(super) fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// Takes a batch in.
    pub(super) fn add(&mut self, parcel: Parcel, now: Instant) {
        if self.closing {
            return parcel.tell(Answer::NotSent("draining"));
        }
        if self.waiting_bytes + parcel.size() > self.limits.queue {
            return parcel.tell(Answer::NotSent("queue_full"));
        }
        let key = parcel.key.clone();
        self.cluster.touch(&key.0, now);
        self.wait(parcel, VecDeque::push_back);
        self.line_up(&key);
        self.dispatch(now);
    }

    fn wait(&mut self, parcel: Parcel, place: fn(&mut VecDeque<Parcel>, Parcel)) {
        self.waiting += 1;
        self.waiting_bytes += parcel.size();
        place(&mut self.lines.entry(parcel.key.clone()).or_default().waiting, parcel);
    }

    /// A parcel has left its line.
    fn left(&mut self, parcel: &Parcel) {
        self.waiting -= 1;
        self.waiting_bytes -= parcel.size();
    }

    /// Puts a line into its leader's queue if its next parcel may go.
    fn line_up(&mut self, key: &Key) {
        let Some(line) = self.lines.get_mut(key) else { return };
        if line.in_flight || line.waiting.is_empty() {
            if !line.in_flight && line.alone.is_none() {
                self.lines.remove(key);
            }
            return;
        }
        let known = self.cluster.leader(key);
        let Some((node, address)) = known.and_then(|node| Some((node, self.cluster.address(node)?))) else {
            line.queued = None;
            return self.want_refresh();
        };
        let broker = self.brokers.entry(node).or_insert_with(|| Broker::new(address.clone()));
        if line.queued != Some(node) {
            line.queued = Some(node);
            broker.ready.push_back(key.clone());
        }
        self.restless.insert(node);
    }

    /// The end of every change: what may go, goes. Only here, so that all that a change sets free travels together.
    fn dispatch(&mut self, now: Instant) {
        while let Some(node) = self.restless.pop_first() {
            self.dispatch_to(node, now);
        }
    }

    /// Gives what may go to connections that have nothing to do, and opens one more when there is none.
    fn dispatch_to(&mut self, node: Node, now: Instant) {
        loop {
            let Some(broker) = self.brokers.get_mut(&node) else { return };
            if broker.ready.is_empty() {
                return;
            }
            let Some(number) = broker.idle() else { return self.open(node, now) };
            let (parcels, alone) = self.pick(node);
            if parcels.is_empty() {
                return;
            }
            let link = Link { node, number };
            self.actions.push(Action::Send { link, pieces: parcels.iter().map(Parcel::piece).collect() });
            let broker = self.brokers.get_mut(&node).expect("it was there above");
            broker.set(number, State::Busy { parcels, since: now, alone });
        }
    }

    /// The next request: lines in the order in which they came, each with its first parcel.
    fn pick(&mut self, node: Node) -> (Vec<Parcel>, bool) {
        let Some(broker) = self.brokers.get_mut(&node) else { return (Vec::new(), false) };
        let may_go_alone = broker.alone() < (self.limits.links / 2).max(1);
        let (mut taken, mut left, mut size, mut alone) = (Vec::new(), Vec::new(), 0, false);
        while let Some(key) = broker.ready.pop_front() {
            let Some(line) = self.lines.get_mut(&key).filter(|line| line.queued == Some(node)) else { continue };
            let first = line.waiting.front().map_or(0, Parcel::size);
            alone = line.alone.is_some();
            if alone && (!taken.is_empty() || !may_go_alone) {
                left.push(key);
                alone = false;
                continue;
            }
            if !taken.is_empty() && size + first > MAX_REQUEST {
                left.push(key);
                break;
            }
            size += first;
            (line.queued, line.in_flight) = (None, true);
            taken.extend(line.waiting.pop_front());
            if alone || size >= MAX_REQUEST {
                break;
            }
        }
        left.into_iter().rev().for_each(|key| broker.ready.push_front(key));
        taken.iter().for_each(|parcel| self.left(parcel));
        (taken, alone)
    }

    /// One more connection, when all have something to do, none is on its way, and the broker was not just tried in vain.
    fn open(&mut self, node: Node, now: Instant) {
        let (limit, closing) = (self.limits.links, self.closing);
        let Some(broker) = self.brokers.get_mut(&node) else { return };
        if closing || !broker.may_open(limit, now) {
            return;
        }
        let link = Link { node, number: self.opened };
        self.opened += 1;
        broker.set(link.number, State::Opening);
        self.actions.push(Action::Open { link, address: broker.address.clone() });
    }

    /// A connection is ready.
    pub(super) fn opened(&mut self, link: Link, now: Instant) -> Change {
        let Some(broker) = self.brokers.get_mut(&link.node).filter(|broker| broker.has(link.number)) else { return Change::None };
        let change = broker.is_up();
        self.rest_or_close(link, State::Idle);
        self.dispatch(now);
        change
    }

    /// All of a request is answered, in its order. `throttled`: the connection shall rest; [`rested`](Self::rested) follows.
    pub(super) fn answered(&mut self, link: Link, answers: Vec<Answer>, throttled: bool, now: Instant) {
        let Some(broker) = self.brokers.get_mut(&link.node) else { return };
        let Some(State::Busy { parcels, since, .. }) = broker.take(link.number) else { return };
        let quick = now.duration_since(since) < QUICK;
        metrics().forward_answer_seconds.observe(now.duration_since(since).as_secs_f64());
        self.rest_or_close(link, if throttled { State::Resting } else { State::Idle });
        for (parcel, answer) in parcels.into_iter().zip(answers) {
            self.settle(parcel, answer, quick, now);
        }
        self.dispatch(now);
    }

    /// One parcel of a request, and what it means for those behind it.
    fn settle(&mut self, parcel: Parcel, answer: Answer, quick: bool, now: Instant) {
        let (key, lane) = (parcel.key.clone(), parcel.lane());
        let line = self.lines.entry(key.clone()).or_default();
        line.in_flight = false;
        match answer {
            Answer::Answered { code: 0 | code::DUPLICATE_SEQUENCE, .. } if quick => line.alone = None,
            Answer::Answered { code: code::REQUEST_TIMED_OUT, .. } | Answer::Unknown("timed_out") => line.alone = Some(now + ALONE_FOR),
            _ => {}
        }
        if let Answer::Answered { code: code::UNKNOWN_TOPIC | code::LEADER_NOT_AVAILABLE | code::NOT_LEADER, .. } = answer {
            self.cluster.forget(&key);
            self.want_refresh();
        }
        parcel.tell(answer);
        if !matches!(answer, Answer::Answered { code: 0 | code::DUPLICATE_SEQUENCE, .. }) {
            self.refuse_behind(&key, lane);
        }
        self.line_up(&key);
    }

    /// What waits behind a batch of the same producer that is not known to be stored must not overtake it.
    fn refuse_behind(&mut self, key: &Key, lane: Option<i64>) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let (behind, others): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut line.waiting).into_iter().partition(|parcel| parcel.lane() == lane);
        line.waiting = others;
        if line.waiting.is_empty() {
            line.queued = None;
        }
        for parcel in behind {
            self.left(&parcel);
            parcel.tell(Answer::NotSent("behind"));
        }
    }

    /// A connection that had to rest may work again.
    pub(super) fn rested(&mut self, link: Link, now: Instant) {
        if self.brokers.get(&link.node).is_some_and(|broker| broker.has(link.number)) {
            self.rest_or_close(link, State::Idle);
            self.dispatch(now);
        }
    }

    /// A connection is gone. `jitter`, from 0 to 1, spreads the next attempt.
    pub(super) fn gone(&mut self, link: Link, loss: &Loss, jitter: f64, now: Instant) -> Change {
        let Some(broker) = self.brokers.get_mut(&link.node) else { return Change::None };
        let Some(state) = broker.take(link.number) else { return Change::None };
        let change = broker.lost(loss, jitter, now);
        if let State::Busy { parcels, .. } = state {
            match loss {
                Loss::Broken { fault, written: true } => {
                    parcels.into_iter().for_each(|parcel| self.settle(parcel, Answer::Unknown(fault.reason()), false, now));
                }
                _ => parcels.into_iter().rev().for_each(|parcel| self.put_back(parcel)),
            }
        }
        if *loss != Loss::Quiet {
            self.want_refresh();
        }
        self.restless.insert(link.node);
        self.dispatch(now);
        change
    }

    /// Not a byte of it was written: it is the first of its line again.
    fn put_back(&mut self, parcel: Parcel) {
        if self.closing {
            let key = parcel.key.clone();
            self.lines.remove(&key);
            return parcel.tell(Answer::NotSent("draining"));
        }
        let key = parcel.key.clone();
        self.wait(parcel, VecDeque::push_front);
        self.lines.entry(key.clone()).or_default().in_flight = false;
        self.line_up(&key);
    }

    /// The connection goes back to its broker's idle ones, unless that broker has moved or the plan ends.
    fn rest_or_close(&mut self, link: Link, state: State) {
        let Some(broker) = self.brokers.get_mut(&link.node) else { return };
        if broker.is_leaving(link.number) || self.closing || self.cluster.address(link.node).is_none() {
            broker.take(link.number);
            self.actions.push(Action::Close { link });
        } else {
            broker.set(link.number, state);
            self.restless.insert(link.node);
        }
    }

    /// What time brings: who waited too long is told so, and brokers are tried again. Every 25 ms while something waits.
    pub(super) fn tick(&mut self, now: Instant) {
        let keys: Vec<Key> = self.lines.keys().cloned().collect();
        for key in keys {
            self.expire(&key, now);
            self.line_up(&key);
        }
        self.restless.extend(self.brokers.keys());
        self.dispatch(now);
    }

    fn expire(&mut self, key: &Key, now: Instant) {
        let reason = self.waits_for(key);
        let timeout = self.limits.timeout;
        loop {
            let Some(line) = self.lines.get_mut(key) else { return };
            line.alone = line.alone.filter(|until| *until > now);
            let Some(parcel) = line.waiting.pop_front_if(|first| now.duration_since(first.arrived) >= timeout) else { return };
            if line.waiting.is_empty() {
                line.queued = None;
            }
            let lane = parcel.lane();
            self.left(&parcel);
            parcel.tell(Answer::NotSent(reason));
            self.refuse_behind(key, lane);
        }
    }

    fn waits_for(&self, key: &Key) -> &'static str {
        match self.cluster.leader(key).map(|node| self.brokers.get(&node)) {
            None => "no_leader",
            Some(Some(broker)) if broker.is_connected() => "stalled",
            Some(_) => "connection",
        }
    }

    /// Who leads what is wanted anew.
    pub(super) fn want_refresh(&mut self) {
        if !self.refresh_wanted {
            self.refresh_wanted = true;
            self.actions.push(Action::Refresh);
        }
    }

    /// Wants it anew for somebody who waits: the number of the first refresh that begins after this.
    pub(super) fn want_refresh_of(&mut self, topic: &Topic, now: Instant) -> u64 {
        self.cluster.touch(topic, now);
        self.want_refresh();
        self.refreshes + 1
    }

    /// Who leads a partition, if that is known.
    pub(super) fn leader(&self, key: &Key) -> Option<Node> {
        self.cluster.leader(key)
    }

    /// A refresh begins: its number, and the topics to ask for.
    pub(super) fn begin_refresh(&mut self, now: Instant) -> (u64, Vec<Topic>) {
        self.refresh_wanted = false;
        self.refreshes += 1;
        (self.refreshes, self.cluster.topics(now))
    }

    /// The addresses that brokers have said.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.cluster.addresses()
    }

    /// Takes a broker's word for who leads what.
    pub(super) fn learn(&mut self, asked: &[Topic], learned: Learned, now: Instant) {
        self.cluster.learn(asked, learned);
        for (node, broker) in &mut self.brokers {
            if let Some(address) = self.cluster.address(*node).filter(|address| **address != broker.address) {
                broker.moved(address.clone());
            } else if self.cluster.address(*node).is_some() {
                continue;
            }
            for number in broker.take_idle() {
                self.actions.push(Action::Close { link: Link { node: *node, number } });
            }
        }
        self.brokers.retain(|node, broker| broker.has_links() || self.cluster.address(*node).is_some());
        let keys: Vec<Key> = self.lines.keys().cloned().collect();
        keys.iter().for_each(|key| self.line_up(key));
        self.dispatch(now);
    }

    /// The end: what waits is told so, what was written is waited for.
    pub(super) fn close(&mut self) {
        self.closing = true;
        for line in self.lines.values_mut() {
            line.queued = None;
            line.waiting.drain(..).for_each(|parcel| parcel.tell(Answer::NotSent("draining")));
        }
        (self.waiting, self.waiting_bytes) = (0, 0);
        for (node, broker) in &mut self.brokers {
            for number in broker.take_idle() {
                self.actions.push(Action::Close { link: Link { node: *node, number } });
            }
        }
    }
}

/// Kafka's error codes that mean something to the plan.
mod code {
    pub(super) const UNKNOWN_TOPIC: i16 = 3;
    pub(super) const LEADER_NOT_AVAILABLE: i16 = 5;
    pub(super) const NOT_LEADER: i16 = 6;
    pub(super) const REQUEST_TIMED_OUT: i16 = 7;
    pub(super) const DUPLICATE_SEQUENCE: i16 = 46;
}

#[cfg(test)]
mod tests;
