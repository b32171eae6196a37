//! From a line to a request: what may go, goes, as much as fits, over the connections that there are.

use std::time::Instant;

use super::broker::{Broker, State};
use super::{Action, Link, MAX_REQUEST, Parcel, Plan};
use crate::sink::forward::cluster::{Key, Node};

impl Plan {
    /// Puts a line into its leader's queue if its next parcel may go.
    pub(super) fn line_up(&mut self, key: &Key) {
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
    pub(super) fn dispatch(&mut self, now: Instant) {
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
}
