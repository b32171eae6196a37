//! The ledger: what was attempted, what was said of it, and whether what is found afterwards agrees.
//!
//! What always holds: an attempt is written down before it is sent; every value is unlike every other, so that its hash
//! names the attempt; a record that no attempt explains is as bad as a lost one. The checks are themselves checked with
//! planted bugs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::support::kafka_read::Record;

/// What names an attempt: the hash of its value.
pub type Name = [u8; 32];

/// The hash of a value.
pub fn name_of(value: &[u8]) -> Name {
    Sha256::digest(value).into()
}

/// One event, as it was about to be sent.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Where to.
    pub topic: String,
    /// With which key.
    pub key: Option<String>,
    /// Which id the sender gave it, if any.
    pub client_id: Option<String>,
    /// Its number among those of its key, where one sender alone uses the key and waits for each answer.
    pub seq: Option<u64>,
}

/// What was said of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted, under this id.
    Ack {
        /// The event's name.
        id: String,
        /// Whether the inbox has it, or the broker.
        inbox: bool,
    },
    /// Refused.
    Reject {
        /// Why.
        code: String,
        /// Whether the same may be accepted later: then it may be there all the same.
        retryable: bool,
    },
    /// Nothing, yet or for ever.
    Unknown,
}

#[derive(Debug)]
struct Line {
    attempt: Attempt,
    outcome: Outcome,
    /// When the answer was read.
    at: Option<Instant>,
}

/// What lies in the broker.
#[derive(Debug, Clone)]
pub struct Found {
    /// In which topic.
    pub topic: String,
    /// In which partition of it.
    pub partition: i32,
    /// At which place there.
    pub offset: i64,
    /// The event's name, as its header says.
    pub id: String,
    /// Its key.
    pub key: Option<String>,
    /// The hash of its value.
    pub name: Name,
}

impl Found {
    /// A record of this topic.
    pub fn new(topic: &str, record: &Record) -> Self {
        Self {
            topic: topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            id: record.event_id().to_owned(),
            key: record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()),
            name: name_of(&record.value),
        }
    }
}

/// What a check has found. `clean` says whether it is as promised.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Attempts.
    pub attempts: usize,
    /// Accepted ones.
    pub acked: usize,
    /// Those of them that the inbox took.
    pub by_inbox: usize,
    /// Attempts of which nothing is known.
    pub unknown: usize,
    /// Records.
    pub records: usize,
    /// Records beyond the first of their event.
    pub duplicates: usize,
    /// Records of the event that has the most.
    pub most_copies: usize,
    /// Accepted and nowhere.
    pub lost: Vec<String>,
    /// Found and never attempted, or not as they were sent.
    pub strangers: Vec<String>,
    /// Found although refused for good.
    pub refused_but_found: Vec<String>,
    /// Found under another topic, key or id.
    pub mismatched: Vec<String>,
    /// Found before one of the same key that was acknowledged earlier.
    pub out_of_order: Vec<String>,
}

impl Verdict {
    /// Fails the test unless everything is as promised; shows a few of what is not.
    pub fn assert_clean(&self) {
        let faults = [&self.lost, &self.strangers, &self.refused_but_found, &self.mismatched, &self.out_of_order];
        if faults.iter().any(|list| !list.is_empty()) {
            let names = ["lost", "strangers", "refused but found", "mismatched", "out of order"];
            let shown = faults.iter().zip(names).filter(|(list, _)| !list.is_empty());
            let shown: Vec<String> =
                shown.map(|(list, name)| format!("{name}: {}\n  {}", list.len(), list[..list.len().min(10)].join("\n  "))).collect();
            panic!("the ledger does not agree: {self}\n{}", shown.join("\n"));
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { attempts, acked, by_inbox, unknown, records, duplicates, most_copies, .. } = self;
        write!(
            f,
            "{attempts} attempts, {acked} accepted ({by_inbox} by the inbox), {unknown} unknown; {records} records, {duplicates} duplicates, at most {most_copies} of one"
        )
    }
}

/// The log of all attempts.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<HashMap<Name, Line>>,
}

impl Ledger {
    /// Writes an attempt down. Comes before the send.
    pub fn attempt(&self, value: &[u8], attempt: Attempt) -> Name {
        let name = name_of(value);
        let entry = Line { attempt, outcome: Outcome::Unknown, at: None };
        assert!(self.lock().insert(name, entry).is_none(), "every value is unlike every other");
        name
    }

    /// Writes down what was said of an attempt.
    pub fn outcome(&self, name: Name, outcome: Outcome) {
        let mut entries = self.lock();
        let entry = entries.get_mut(&name).expect("an attempt comes before its outcome");
        (entry.outcome, entry.at) = (outcome, Some(Instant::now()));
    }

    /// How many attempts were accepted so far.
    pub fn acked(&self) -> usize {
        self.lock().values().filter(|entry| matches!(entry.outcome, Outcome::Ack { .. })).count()
    }

    /// How long after `since` the inbox answered for the first time.
    pub fn first_inbox_answer(&self, since: Instant) -> Option<Duration> {
        let entries = self.lock();
        let stored = entries.values().filter(|entry| matches!(entry.outcome, Outcome::Ack { inbox: true, .. }));
        stored.filter_map(|entry| entry.at?.checked_duration_since(since)).min()
    }

    /// Holds what is found in the broker, and the ids of the rows in the inbox, against what was attempted.
    pub fn check(&self, broker: &[Found], inbox_ids: &[String]) -> Verdict {
        let entries = self.lock();
        let mut verdict = Verdict { attempts: entries.len(), records: broker.len(), ..Verdict::default() };
        let mut firsts: HashMap<Name, &Found> = HashMap::new();
        let mut copies: HashMap<Name, usize> = HashMap::new();
        let mut sorted: Vec<&Found> = broker.iter().collect();
        sorted.sort_by_key(|found| (&found.topic, found.partition, found.offset));
        for found in sorted {
            let Some(entry) = entries.get(&found.name) else {
                verdict.strangers.push(format!("{found:?}"));
                continue;
            };
            match firsts.entry(found.name) {
                Entry::Occupied(_) => verdict.duplicates += 1,
                Entry::Vacant(first) => drop(first.insert(found)),
            }
            *copies.entry(found.name).or_default() += 1;
            compare(found, entry, &mut verdict);
        }
        verdict.most_copies = copies.into_values().max().unwrap_or(0);
        let rows: HashSet<&str> = inbox_ids.iter().map(String::as_str).collect();
        let mut names_of_ids: HashMap<&str, usize> = HashMap::new();
        for (name, entry) in entries.iter() {
            match &entry.outcome {
                Outcome::Ack { id, inbox } => {
                    verdict.acked += 1;
                    verdict.by_inbox += usize::from(*inbox);
                    *names_of_ids.entry(id).or_default() += 1;
                    if !firsts.contains_key(name) && !rows.contains(id.as_str()) {
                        verdict.lost.push(format!("{id}: {:?}", entry.attempt));
                    }
                }
                Outcome::Unknown => verdict.unknown += 1,
                Outcome::Reject { .. } => {}
            }
        }
        let shared = names_of_ids.iter().filter(|(_, count)| **count > 1);
        verdict.mismatched.extend(shared.map(|(id, count)| format!("{count} accepted events have the id {id}")));
        check_order(&entries, &firsts, &mut verdict);
        verdict
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Line>> {
        self.entries.lock().expect("nothing panics under this lock but a failing test")
    }
}

/// Whether a record is what its attempt said, and may be there.
fn compare(found: &Found, Line { attempt, outcome, .. }: &Line, verdict: &mut Verdict) {
    if (&found.topic, &found.key) != (&attempt.topic, &attempt.key) {
        verdict.mismatched.push(format!("{found:?} is not {attempt:?}"));
    }
    if let Some(own) = &attempt.client_id
        && found.id.split_once('.').map(|(_, own)| own) != Some(own)
    {
        verdict.mismatched.push(format!("{found:?} does not have its sender's id {own}"));
    }
    match outcome {
        Outcome::Ack { id, .. } if *id != found.id => verdict.mismatched.push(format!("{found:?} was acknowledged as {id}")),
        Outcome::Reject { code, retryable: false } => verdict.refused_but_found.push(format!("{code}: {found:?}")),
        Outcome::Ack { .. } | Outcome::Reject { .. } | Outcome::Unknown => {}
    }
}

/// The first copies of what one sender had acknowledged lie in one partition, in the order of its numbers.
fn check_order(entries: &HashMap<Name, Line>, firsts: &HashMap<Name, &Found>, verdict: &mut Verdict) {
    let mut lanes: BTreeMap<(&str, &str), Vec<(u64, &Found)>> = BTreeMap::new();
    for (name, Line { attempt, outcome, .. }) in entries {
        if let (Some(seq), Some(key), Outcome::Ack { .. }, Some(found)) = (attempt.seq, &attempt.key, outcome, firsts.get(name)) {
            lanes.entry((&attempt.topic, key)).or_default().push((seq, found));
        }
    }
    for ((topic, key), mut lane) in lanes {
        lane.sort_by_key(|(seq, _)| *seq);
        for pair in lane.windows(2) {
            let [(before, first), (after, second)] = pair else { continue };
            if first.partition != second.partition || first.offset >= second.offset {
                let place = |found: &Found| format!("{}/{}", found.partition, found.offset);
                verdict.out_of_order.push(format!("{topic} {key}: {before} at {}, {after} at {}", place(first), place(second)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty attempts of one sender, all accepted, and the broker as it should be then.
    fn honest() -> (Ledger, Vec<Found>) {
        let ledger = Ledger::default();
        let mut broker = Vec::new();
        for seq in 0..20_u64 {
            let value = format!("value {seq}");
            let key = Some("k".to_owned());
            let attempt = Attempt { topic: "t".to_owned(), key: key.clone(), client_id: Some(format!("c{seq}")), seq: Some(seq) };
            let name = ledger.attempt(value.as_bytes(), attempt);
            let id = format!("0123456789ab.c{seq}");
            ledger.outcome(name, Outcome::Ack { id: id.clone(), inbox: seq % 2 == 0 });
            let offset = i64::try_from(seq).expect("small");
            broker.push(Found { topic: "t".to_owned(), partition: 0, offset, id, key, name });
        }
        (ledger, broker)
    }

    /// How many faults of each kind a check finds: lost, strangers, refused but found, mismatched, out of order.
    fn faults(ledger: &Ledger, broker: &[Found]) -> [usize; 5] {
        let v = ledger.check(broker, &[]);
        [v.lost.len(), v.strangers.len(), v.refused_but_found.len(), v.mismatched.len(), v.out_of_order.len()]
    }

    #[test]
    fn an_honest_broker_is_clean_and_copies_are_counted() {
        let (ledger, mut broker) = honest();
        let verdict = ledger.check(&broker, &[]);
        verdict.assert_clean();
        assert_eq!((verdict.acked, verdict.by_inbox, verdict.duplicates, verdict.unknown), (20, 10, 0, 0));
        broker.push(Found { offset: 20, ..broker[3].clone() });
        let verdict = ledger.check(&broker, &[]);
        verdict.assert_clean();
        assert_eq!((verdict.records, verdict.duplicates, verdict.most_copies), (21, 1, 2));
    }

    #[test]
    fn one_dropped_event_is_lost_unless_the_inbox_has_it() {
        let (ledger, mut broker) = honest();
        let dropped = broker.remove(7);
        assert_eq!(faults(&ledger, &broker), [1, 0, 0, 0, 0]);
        ledger.check(&broker, &[dropped.id]).assert_clean();
    }

    #[test]
    fn a_flipped_bit_is_a_stranger_and_a_loss() {
        let (ledger, mut broker) = honest();
        broker[4].name = name_of(b"value 5 with a flipped bit");
        assert_eq!(faults(&ledger, &broker), [1, 1, 0, 0, 0]);
    }

    #[test]
    fn a_swapped_topic_key_or_id_is_a_mismatch() {
        let (ledger, broker) = honest();
        let planted: [fn(&mut Found); 4] = [
            |found| "other".clone_into(&mut found.topic),
            |found| found.key = Some("other".to_owned()),
            |found| found.key = None,
            |found| "0123456789ab.c9".clone_into(&mut found.id),
        ];
        for (n, plant) in planted.iter().enumerate() {
            let mut broker = broker.clone();
            plant(&mut broker[19]);
            assert!(faults(&ledger, &broker)[3] >= 1, "bug {n}");
        }
    }

    #[test]
    fn one_id_for_two_accepted_events_is_a_mismatch() {
        let (ledger, broker) = honest();
        ledger.outcome(broker[0].name, Outcome::Ack { id: broker[1].id.clone(), inbox: false });
        assert!(faults(&ledger, &broker)[3] >= 1);
    }

    #[test]
    fn a_record_before_one_that_was_acknowledged_earlier_is_out_of_order() {
        let (ledger, mut broker) = honest();
        (broker[10].offset, broker[11].offset) = (11, 10);
        assert_eq!(faults(&ledger, &broker), [0, 0, 0, 0, 1]);
        // A copy that comes later is no disorder.
        let (ledger, mut broker) = honest();
        broker.push(Found { offset: 20, ..broker[0].clone() });
        ledger.check(&broker, &[]).assert_clean();
        // The same key in two partitions is.
        broker[19].partition = 1;
        assert_eq!(faults(&ledger, &broker), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_was_refused_for_good_must_not_be_found_and_what_is_unknown_may() {
        let (ledger, broker) = honest();
        ledger.outcome(broker[2].name, Outcome::Reject { code: "denied".to_owned(), retryable: false });
        assert_eq!(faults(&ledger, &broker), [0, 0, 1, 0, 0]);
        ledger.outcome(broker[2].name, Outcome::Reject { code: "unavailable".to_owned(), retryable: true });
        ledger.check(&broker, &[]).assert_clean();
        ledger.outcome(broker[2].name, Outcome::Unknown);
        ledger.check(&broker, &[]).assert_clean();
        assert_eq!(ledger.check(&broker[3..], &[]).lost.len(), 2);
    }
}
