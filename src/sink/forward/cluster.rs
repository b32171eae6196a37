//! Who leads which partition, and where the brokers are, as one of them said it last. Sans I/O.
//!
//! What always holds: a leader that is known has an address; only topics that are in use are asked for, and what is known
//! of the others is forgotten.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::Topic;

/// A topic that nothing was sent to for so long is not asked for any more.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// A broker's number in its cluster.
pub(super) type Node = i32;

/// A batch's way: its topic and partition.
pub(super) type Key = (Topic, i32);

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// A name or an IP address, without brackets.
    pub host: Arc<str>,
    pub port: u16,
}

impl Address {
    /// From two parts that came over the wire; none: nobody can be there.
    pub(super) fn new(host: &str, port: i32) -> Option<Self> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        (1..=253).contains(&host.len()).then(|| Self { host: host.into(), port })
    }

    /// From `host:port`, as it is configured.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        Self::new(host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// What a broker said when it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    pub brokers: Vec<(Node, Address)>,
    /// The partitions that have a leader, of the topics that it knows.
    pub topics: Vec<(Topic, Vec<(i32, Node)>)>,
}

#[derive(Debug)]
struct Leaders {
    of: HashMap<i32, Node>,
    used: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    brokers: HashMap<Node, Address>,
    topics: HashMap<Topic, Leaders>,
}

impl Cluster {
    /// A topic is in use: it is asked for from now on.
    pub(super) fn touch(&mut self, topic: &Topic, now: Instant) {
        match self.topics.get_mut(topic) {
            Some(leaders) => leaders.used = now,
            None => drop(self.topics.insert(topic.clone(), Leaders { of: HashMap::new(), used: now })),
        }
    }

    /// Who leads a partition, if that is known.
    pub(super) fn leader(&self, (topic, partition): &Key) -> Option<Node> {
        self.topics.get(topic)?.of.get(partition).copied()
    }

    /// The leader of a partition has said that it is none, or cannot be reached by what is known.
    pub(super) fn forget(&mut self, (topic, partition): &Key) {
        if let Some(leaders) = self.topics.get_mut(topic) {
            leaders.of.remove(partition);
        }
    }

    /// Where a broker is.
    pub(super) fn address(&self, node: Node) -> Option<&Address> {
        self.brokers.get(&node)
    }

    /// All addresses that a broker ever said, as of now.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let mut known: Vec<_> = self.brokers.iter().collect();
        known.sort_by_key(|(node, _)| **node);
        known.into_iter().map(|(_, address)| address.clone()).collect()
    }

    /// The topics to ask for.
    pub(super) fn topics(&mut self, now: Instant) -> Vec<Topic> {
        self.topics.retain(|_, leaders| now.duration_since(leaders.used) < FORGET_AFTER);
        self.topics.keys().cloned().collect()
    }

    /// Takes an answer for what is true now. Topics that came into use behind the question keep what they have: nothing.
    pub(super) fn learn(&mut self, asked: &[Topic], learned: Learned) {
        if !learned.brokers.is_empty() {
            self.brokers = learned.brokers.into_iter().collect();
        }
        for topic in asked {
            if let Some(leaders) = self.topics.get_mut(topic) {
                leaders.of.clear();
            }
        }
        for (topic, partitions) in learned.topics {
            if let Some(leaders) = self.topics.get_mut(&topic) {
                leaders.of = partitions.into_iter().filter(|(_, node)| self.brokers.contains_key(node)).collect();
            }
        }
        // What is led by a broker that is gone has no leader.
        for leaders in self.topics.values_mut() {
            leaders.of.retain(|_, node| self.brokers.contains_key(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_brackets_and_port_0_is_nowhere() {
        for (text, host) in [("localhost:9092", "localhost"), ("[::1]:9092", "::1"), (" 10.0.0.1:9092 ", "10.0.0.1")] {
            let address = Address::parse(text).expect("an address");
            assert_eq!((&*address.host, address.port), (host, 9092));
            assert_eq!(address.to_string(), text.trim());
        }
        for (host, port) in [("", 9092), ("h", 0), ("h", -1), ("h", 65_536)] {
            assert_eq!(Address::new(host, port), None);
        }
    }

    #[test]
    fn a_leader_without_an_address_is_no_leader_and_an_unused_topic_is_forgotten() {
        let (now, topic) = (Instant::now(), Topic::new("t").expect("a topic"));
        let mut cluster = Cluster::default();
        cluster.touch(&topic, now);
        let here = Address::new("h", 1).expect("an address");
        let learned = Learned { brokers: vec![(7, here.clone())], topics: vec![(topic.clone(), vec![(0, 7), (1, 8)])] };
        cluster.learn(&[topic.clone()], learned.clone());
        assert_eq!((cluster.leader(&(topic.clone(), 0)), cluster.leader(&(topic.clone(), 1))), (Some(7), None));
        assert_eq!(cluster.address(7), Some(&here));

        cluster.learn(&[topic.clone()], Learned { brokers: learned.brokers, topics: vec![] });
        assert_eq!(cluster.leader(&(topic.clone(), 0)), None, "the broker does not know the topic any more");
        assert_eq!(cluster.topics(now + FORGET_AFTER), []);
    }
}
