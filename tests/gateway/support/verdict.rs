//! What brokers have of an order, held against what its client was told.
//!
//! What always holds: what record number i is follows from the order alone, to the last byte; what is in the topic and is
//! not exactly that is not of the order, and is counted.

use std::collections::{BTreeMap, BTreeSet};

use super::kafka_clients::{Order, Summary};
use super::kafka_read::Record;

/// What is wrong; nothing, by default.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, and not there.
    pub lost: Vec<usize>,
    /// There more than once.
    pub twice: Vec<usize>,
    /// There behind a later one of the same partition. (What is there again is looked at once.)
    pub late: Vec<usize>,
    /// Acknowledged with an offset that is not its own.
    pub misplaced: Vec<usize>,
    /// In the topic, and not of this order to the last byte.
    pub strange: usize,
}

impl Order {
    /// Holds what is in its topic against a summary. What has another order's key is left out.
    pub fn verdict(&self, found: &[Record], summary: &Summary) -> Verdict {
        let mut verdict = Verdict::default();
        let mut offsets: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        let mut last: BTreeMap<i32, usize> = BTreeMap::new();
        for record in found.iter().filter(|record| self.may_be_mine(record)) {
            let Some(i) = self.number(record) else {
                verdict.strange += 1;
                continue;
            };
            let again = offsets.entry(i).or_default();
            if again.is_empty() && last.insert(record.partition, i).is_some_and(|last| last > i) {
                verdict.late.push(i);
            }
            again.push(record.offset);
        }
        let acked: BTreeSet<_> = summary.acks.iter().map(|(i, _)| *i).collect();
        verdict.lost = acked.iter().filter(|i| !offsets.contains_key(i)).copied().collect();
        verdict.twice = offsets.iter().filter(|(_, found)| found.len() > 1).map(|(i, _)| *i).collect();
        let wrong = |(i, offset): &&(usize, i64)| *offset >= 0 && offsets.get(i).is_some_and(|found| !found.contains(offset));
        verdict.misplaced = summary.acks.iter().filter(wrong).map(|(i, _)| *i).collect();
        verdict
    }

    fn may_be_mine(&self, record: &Record) -> bool {
        let prefix = format!("{}-", self.run);
        record.key.as_deref().is_none_or(|key| key.starts_with(prefix.as_bytes()))
    }

    /// Which record of this order it is, if it is one.
    fn number(&self, record: &Record) -> Option<usize> {
        let i: usize = record.header("n")?.parse().ok()?;
        let offset = record.offset;
        (i < self.count && *record == self.record(i, offset)).then_some(i)
    }

    /// What record `i` is, wherever it lies. `tests/clients/kafka` has it in four languages.
    fn record(&self, i: usize, offset: i64) -> Record {
        let mut value = format!("{} {i} ", self.run).into_bytes();
        value.extend((0..i * 37 % 200).map(|j| u8::try_from((i + j) % 256).expect("a byte")));
        value.resize(value.len() + self.more_bytes, 0);
        Record {
            partition: i32::try_from(i % self.partitions).expect("few partitions"),
            offset,
            key: Some(format!("{}-{i}", self.run).into_bytes()),
            headers: vec![("n".to_owned(), i.to_string().into_bytes()), ("empty".to_owned(), Vec::new())],
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kafka_clients::{Address, Login};
    use super::*;

    fn order() -> Order {
        let address = Address { bootstrap: String::new(), ca: None, login: Login::Nobody };
        Order { count: 12, ..Order::new(address, "events", "run") }
    }

    /// All of an order, as it should be in the brokers, and what its client should say.
    fn whole() -> (Vec<Record>, Summary) {
        let offset = |i: usize| i64::try_from(i / 6).expect("small");
        let found = (0..12).map(|i| order().record(i, offset(i))).collect();
        let acks = (0..12).map(|i| (i, offset(i))).collect();
        (found, Summary { client: String::new(), version: String::new(), seconds: 0.0, acks, errors: Vec::new() })
    }

    /// The verdict when something was done to what is in the brokers.
    fn after(fault: impl FnOnce(&mut Vec<Record>)) -> Verdict {
        let (mut found, summary) = whole();
        fault(&mut found);
        order().verdict(&found, &summary)
    }

    #[test]
    fn whatever_is_planted_is_found() {
        assert_eq!(after(|_| ()), Verdict::default());
        assert_eq!(after(|found| drop(found.remove(3))).lost, [3]);
        assert_eq!(after(|found| found.push(Record { offset: 9, ..found[3].clone() })).twice, [3]);
        assert_eq!(after(|found| found.swap(1, 7)).late, [1]);
        assert_eq!(after(|found| found[5].offset = 7).misplaced, [5]);
        for bend in [
            (|one: &mut Record| one.value[7] ^= 1) as fn(&mut Record),
            |one| one.key = None,
            |one| one.partition += 1,
            |one| drop(one.headers.pop()),
            |one| one.headers.swap(0, 1),
            |one| one.headers[1].1.push(0),
        ] {
            let verdict = after(|found| bend(&mut found[4]));
            assert_eq!((verdict.strange, verdict.lost), (1, vec![4]));
        }
    }

    #[test]
    fn another_orders_records_are_nobodys_fault() {
        let other = Order { run: "other".to_owned(), ..order() };
        assert_eq!(after(|found| found.push(other.record(0, 5))), Verdict::default());
    }
}
