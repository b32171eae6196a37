//! The containers of a request, from outside in, and how their items are counted without looking into them.
//!
//! What always holds: only a field with a length is a container or an item; the same number written otherwise is envelope.

use super::Signal;
use super::schema::LEGACY;
use super::wire::{Broken, Cursor, Tag, Wire};

/// One kind of container.
pub(super) struct Level {
    /// The numbers of the fields that hold what is below, as bits.
    numbers: u16,
    /// The containers below; none: items.
    pub below: Option<&'static Level>,
    /// Whether field 1000 holds what is below too.
    entry: bool,
}

/// How deep the containers are: a data point is in request, entry, scope, metric and data.
pub(super) const DEEPEST: usize = 5;

const fn level(numbers: u16, below: Option<&'static Level>) -> Level {
    Level { numbers, below, entry: false }
}

const fn entry(below: &'static Level) -> Level {
    Level { numbers: 1 << 2, below: Some(below), entry: true }
}

static REQUEST: Level = level(1 << 1, Some(&ENTRY));
static ENTRY: Level = entry(&SCOPE);
static SCOPE: Level = level(1 << 2, None);

static METRICS_REQUEST: Level = level(1 << 1, Some(&METRICS_ENTRY));
static METRICS_ENTRY: Level = entry(&METRICS_SCOPE);
static METRICS_SCOPE: Level = level(1 << 2, Some(&METRIC));
static METRIC: Level = level(1 << 5 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 11, Some(&DATA));
static DATA: Level = level(1 << 1, None);

pub(super) fn request(signal: Signal) -> &'static Level {
    match signal {
        Signal::Traces | Signal::Logs => &REQUEST,
        Signal::Metrics => &METRICS_REQUEST,
    }
}

impl Level {
    /// Whether a field holds what is below.
    #[inline(always)]
    pub fn holds(&self, tag: Tag) -> bool {
        tag.number < 16 && self.numbers >> tag.number & 1 == 1 && tag.wire == Wire::Length
    }

    /// Whether a field holds what is below in the way of instrumentation libraries.
    #[inline(always)]
    pub fn is_legacy(&self, tag: Tag) -> bool {
        self.entry && tag.number == LEGACY && tag.wire == Wire::Length
    }
}

/// How many items there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub items: u64,
    /// Whether some are below fields of number 1000.
    pub legacy: bool,
}

/// Counts the items in a container.
pub(super) fn count(bytes: &[u8], mut cursor: Cursor<'_>, level: &'static Level) -> Result<Count, Broken> {
    let mut count = Count::default();
    while let Some(tag) = cursor.tag()? {
        let legacy = level.is_legacy(tag);
        if !legacy && !level.holds(tag) {
            cursor.skip(tag.wire)?;
            continue;
        }
        let content = cursor.content()?;
        count.legacy |= legacy;
        match level.below {
            Some(below) => {
                let inside = self::count(bytes, Cursor::of(bytes, content), below)?;
                count.items += inside.items;
                count.legacy |= inside.legacy;
            }
            None => count.items += 1,
        }
    }
    Ok(count)
}
