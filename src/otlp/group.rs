//! Which items go together: those of one partition, one trace or one resource.
//!
//! What always holds: within a group the items are in the request's order; groups are in the order in which they first occur,
//! so that the same request always gives the same records. A filler goes where the item behind it goes.

use std::collections::HashMap;
use std::hash::Hash;

use bytes::Bytes;

use crate::partition;

use super::gather::{Gathered, Item};
use super::keys;
use super::{Keys, Plan, Signal};

/// Items that go to one partition, or under one key.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Their places in the index's items.
    pub items: Vec<u32>,
    pub key: Option<Bytes>,
    pub partition: Option<i32>,
}

/// How the items of a signal are told apart, and where in an item its trace id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Together,
    Partitions { of: i32, id: u32 },
    Traces { id: u32 },
    Resources,
}

pub(super) fn scheme(signal: Signal, plan: &Plan) -> Scheme {
    match (plan.keys, signal) {
        (Keys::ByTrace, Signal::Traces) if plan.partitions > 0 => Scheme::Partitions { of: plan.partitions, id: SPAN_TRACE },
        (Keys::TraceId, Signal::Traces) => Scheme::Traces { id: SPAN_TRACE },
        (Keys::TraceId, Signal::Logs) => Scheme::Traces { id: LOG_TRACE },
        (Keys::Resource, _) => Scheme::Resources,
        _ => Scheme::Together,
    }
}

const SPAN_TRACE: u32 = 1;
const LOG_TRACE: u32 = 9;

/// The groups of a request. Nothing: there are more of them than the plan allows records.
pub(super) fn group(gathered: &Gathered<'_>, scheme: Scheme, most: usize) -> Option<Vec<Group>> {
    let trace = |item: Item, id| keys::trace_id(gathered.bytes, item.piece.range(), id);
    match scheme {
        Scheme::Together => Some(vec![Group { items: (0..gathered.items.len() as u32).collect(), ..Group::default() }]),
        Scheme::Partitions { of, id } => {
            let mut known = None;
            let partition = |item| {
                let trace = trace(item, id)?;
                match known {
                    Some((same, partition)) if same == trace => Some(partition),
                    _ => Some(known.insert((trace, partition::of_key(&keys::hex(trace), of))).1),
                }
            };
            // A span of no trace goes with the one before it: it costs no envelope there.
            let partitions = of_each(gathered, partition);
            gathered_by(&carried(partitions), most, |partition| (None, partition))
        }
        Scheme::Traces { id } => {
            let traces = of_each(gathered, |item| Some(trace(item, id)));
            let key = |trace: Option<Option<[u8; 16]>>| (trace.flatten().map(|id| Bytes::copy_from_slice(&keys::hex(id))), None);
            gathered_by(&led(traces), most, key)
        }
        Scheme::Resources => {
            let entries = of_each(gathered, |item| Some(gathered.path(item.container).0[1]));
            gathered_by(&led(entries), most, |entry| (entry.and_then(|entry| resource(gathered, entry)), None))
        }
    }
}

fn resource(gathered: &Gathered<'_>, entry: u32) -> Option<Bytes> {
    let envelope = gathered.envelope(entry).iter().map(|piece| piece.range());
    keys::resource(gathered.bytes, envelope).map(|key| Bytes::copy_from_slice(&key))
}

/// What each item goes by; fillers and items that do not matter go by nothing.
fn of_each<K>(gathered: &Gathered<'_>, mut of: impl FnMut(Item) -> Option<K>) -> Vec<Option<K>> {
    gathered.items.iter().map(|item| if gathered.counts(*item) { of(*item) } else { None }).collect()
}

/// Lets what goes by nothing follow what is before it, and at the start what is behind it.
fn carried<K: Copy>(mut all: Vec<Option<K>>) -> Vec<Option<K>> {
    let mut last = all.iter().find_map(|key| *key);
    for key in &mut all {
        *key = key.or(last);
        last = *key;
    }
    all
}

/// Lets what goes by nothing lead what is behind it.
fn led<K: Copy>(mut all: Vec<Option<K>>) -> Vec<Option<K>> {
    all.reverse();
    all = carried(all);
    all.reverse();
    all
}

fn gathered_by<K: Copy + Eq + Hash>(
    all: &[Option<K>],
    most: usize,
    about: impl Fn(Option<K>) -> (Option<Bytes>, Option<i32>),
) -> Option<Vec<Group>> {
    let (mut groups, mut places) = (Vec::<Group>::new(), HashMap::new());
    let mut last = None;
    for (item, by) in all.iter().enumerate() {
        let place = match last {
            Some((same, place)) if same == *by => place,
            _ => *places.entry(*by).or_insert_with(|| {
                let (key, partition) = about(*by);
                groups.push(Group { items: Vec::new(), key, partition });
                groups.len() - 1
            }),
        };
        if groups.len() > most {
            return None;
        }
        last = Some((*by, place));
        groups[place].items.push(item as u32);
    }
    Some(groups)
}
