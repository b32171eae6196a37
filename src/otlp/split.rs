//! Makes records of a request: the same bytes where it is one, else fragments that each are a request.
//!
//! What always holds: a record is within the plan's limit, together with its key; every item is in one fragment or rejected,
//! none in two; how many fragments there are and what they take together is bounded before the first is written; the same
//! request and plan give the same fragments.

use bytes::Bytes;
use twox_hash::XxHash64;

use super::gather::{self, Gathered};
use super::group::{self, Group, Scheme};
use super::keys;
use super::levels;
use super::pack::{Large, Packer, Part};
use super::validate::{MAX_BYTES, fault};
use super::wire::{Broken, Cursor, Why};
use super::{Cut, CutError, Fragment, Keys, Plan, Rejected, Signal};

/// How many rejections are told one by one.
const TOLD: usize = 16;

/// How much of an item's name is told.
const NAME: usize = 100;

/// Cuts a request that [`check`](super::check) has looked at. One fragment with the same bytes where nothing needs cutting;
/// none for a request of no bytes.
pub fn cut(signal: Signal, bytes: &Bytes, plan: &Plan) -> Result<Cut, CutError> {
    if bytes.is_empty() {
        return Ok(Cut::default());
    }
    let malformed = |broken| CutError::from(fault(signal, bytes, broken));
    if bytes.len() > MAX_BYTES {
        return Err(malformed(Broken { at: 0, why: Why::TooLarge }));
    }
    let scheme = group::scheme(signal, plan);
    if scheme == Scheme::Together && bytes.len() as u64 <= plan.record_bytes {
        let count = levels::count(bytes, Cursor::new(bytes), levels::request(signal)).map_err(malformed)?;
        return Ok(whole(bytes, Group::default(), count.items));
    }
    let gathered = gather::gather(signal, bytes)?;
    let too_many = || CutError::TooManyFragments { most: plan.max_fragments, record_bytes: plan.record_bytes };
    let mut groups = group::group(&gathered, scheme, plan.max_fragments).ok_or_else(too_many)?;
    if let [only] = groups.as_mut_slice()
        && bytes.len() as u64 <= limit(plan, only)
    {
        let items = gathered.items.iter().filter(|item| gathered.counts(**item)).count() as u64;
        return Ok(whole(bytes, std::mem::take(only), items));
    }
    fragments(signal, &gathered, groups, plan)
}

/// What a record of a group may take besides its key.
fn limit(plan: &Plan, group: &Group) -> u64 {
    plan.record_bytes.saturating_sub(group.key.as_ref().map_or(0, |key| key.len() as u64))
}

fn fragments(signal: Signal, gathered: &Gathered<'_>, mut groups: Vec<Group>, plan: &Plan) -> Result<Cut, CutError> {
    let mut packer = Packer::new(gathered);
    let (mut parts, mut large) = (Vec::new(), Vec::new());
    let mut room = Room { plan, bytes: gathered.bytes.len(), count: 0, taken: 0 };
    for (place, group) in groups.iter_mut().enumerate() {
        let limit = usize::try_from(limit(plan, group)).unwrap_or(usize::MAX);
        packer.pack(group, limit, &mut large, |part| {
            room.take(part.bytes)?;
            parts.push((place, part));
            Ok::<(), CutError>(())
        })?;
    }
    let fragment = |(place, part): &(usize, Part)| {
        let group = &groups[*place];
        let value = packer.write(group, part).into();
        Fragment { value, key: group.key.clone(), partition: group.partition, items: part.counts }
    };
    let fragments = parts.iter().map(fragment).collect();
    Ok(Cut { fragments, rejected: rejected(signal, gathered, &large, plan.record_bytes) })
}

/// What consumers tell repeated fragments by, together with a fragment's place: it depends on the request, the limit and the
/// keys, so that another cut of the same request is not taken for this one.
pub fn fragment_id(bytes: &[u8], plan: &Plan) -> u64 {
    let keys = match plan.keys {
        Keys::ByTrace => 0,
        Keys::None => 1,
        Keys::TraceId => 2,
        Keys::Resource => 3,
    };
    let mut how = [0; 13];
    how[0] = keys;
    how[1..9].copy_from_slice(&plan.record_bytes.to_le_bytes());
    how[9..].copy_from_slice(&plan.partitions.to_le_bytes());
    XxHash64::oneshot(XxHash64::oneshot(0, &how), bytes)
}

fn whole(bytes: &Bytes, group: Group, items: u64) -> Cut {
    let fragment = Fragment { value: bytes.clone(), key: group.key, partition: group.partition, items };
    Cut { fragments: vec![fragment], rejected: Vec::new() }
}

/// What the plan leaves for more fragments.
struct Room<'a> {
    plan: &'a Plan,
    bytes: usize,
    count: usize,
    taken: u64,
}

impl Room<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), CutError> {
        (self.count, self.taken) = (self.count + 1, self.taken + bytes as u64);
        if self.count > self.plan.max_fragments {
            return Err(CutError::TooManyFragments { most: self.plan.max_fragments, record_bytes: self.plan.record_bytes });
        }
        if self.taken > self.plan.max_bytes {
            return Err(CutError::TooManyBytes { bytes: self.bytes as u64, most: self.plan.max_bytes });
        }
        Ok(())
    }
}

/// Tells what was too large: the first ones by name, the rest by their number.
fn rejected(signal: Signal, gathered: &Gathered<'_>, large: &[Large], limit: u64) -> Vec<Rejected> {
    let mut told: Vec<(Large, u64)> = Vec::new();
    let mut more = 0;
    for one in large {
        let (item, items) = (gathered.items[one.item as usize], u64::from(gathered.counts(gathered.items[one.item as usize])));
        let same = |last: &Large| last.envelope as u64 > limit && gathered.items[last.item as usize].container == item.container;
        if let Some((_, count)) = told.last_mut().filter(|(last, _)| same(last)) {
            // What describes the container is too large by itself, and that is said once.
            *count += items;
        } else if told.len() < TOLD {
            told.push((*one, items));
        } else {
            more += items;
        }
    }
    let mut rejected: Vec<_> = told.into_iter().map(|(one, items)| tell(signal, gathered, one, items, limit)).collect();
    if more > 0 {
        let what = format!("{more} more {}s take more than the limit of a record, {limit} bytes", signal.item());
        rejected.push(Rejected { items: more, what });
    }
    rejected
}

fn tell(signal: Signal, gathered: &Gathered<'_>, one: Large, items: u64, limit: u64) -> Rejected {
    let Large { bytes, envelope, .. } = one;
    let (kind, name) = (signal.item(), name(signal, gathered, one).map(|name| format!(" `{name}`")).unwrap_or_default());
    let what = if items == 0 {
        format!("resources, scopes or metrics without {kind}s take {bytes} bytes, the limit of a record is {limit}")
    } else if envelope as u64 > limit {
        format!("the resource and scope of {kind}{name} take {envelope} bytes without any {kind}, the limit of a record is {limit}")
    } else {
        format!("{kind}{name} takes {bytes} bytes with its envelope, the limit of a record is {limit}")
    };
    Rejected { items, what }
}

/// What an item calls itself: a span its name, a log record its event, a data point its metric.
fn name(signal: Signal, gathered: &Gathered<'_>, one: Large) -> Option<String> {
    let item = gathered.items[one.item as usize];
    let text = match signal {
        Signal::Traces => keys::text(gathered.bytes, item.piece.range(), 5)?,
        Signal::Logs => keys::text(gathered.bytes, item.piece.range(), 12)?,
        Signal::Metrics => {
            let metric = gathered.containers[item.container as usize].parent;
            gathered.envelope(metric).iter().rev().find_map(|piece| keys::last(gathered.bytes, piece.range(), 1).ok()?)?
        }
    };
    let text = String::from_utf8_lossy(&gathered.bytes[text]);
    Some(text.chars().take(NAME).collect()).filter(|name: &String| !name.is_empty())
}
