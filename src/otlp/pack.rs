//! Fills records with items: first every size, then every byte.
//!
//! What always holds: a record is full when the next item would not fit, to the byte; an item that fits into no record is
//! rejected by itself and the record goes on; no byte is copied before all sizes are known and within the plan's bounds.
//! A container that is continued in the next record repeats its envelope there, verbatim and in order, before what it holds.

use std::ops::Range;

use super::gather::{Gathered, Item};
use super::group::Group;
use super::levels::DEEPEST;
use super::wire::{put_varint, varint_bytes};

/// One record, not written yet.
pub(super) struct Part {
    /// What of its group's items it holds, less the rejected ones.
    pub items: Range<usize>,
    /// The first of its containers' sizes.
    first_size: usize,
    pub bytes: usize,
    pub counts: u64,
}

/// What did not fit into a record by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Large {
    /// Its place in the index's items.
    pub item: u32,
    /// What a record of it alone takes.
    pub bytes: usize,
    /// What its containers' envelopes take of that.
    pub envelope: usize,
}

/// The containers that are open, from the request inwards, and how large their contents are up to here.
#[derive(Clone, Copy, Default)]
struct Open {
    containers: [u32; DEEPEST],
    sizes: [usize; DEEPEST],
    /// Where their sizes will be written down.
    slots: [usize; DEEPEST],
    count: usize,
}

impl Open {
    /// What the whole record takes.
    #[inline(always)]
    fn total(&self) -> usize {
        let inner = self.sizes[self.count.saturating_sub(1)];
        self.sizes[..self.count.saturating_sub(1)].iter().rev().fold(inner, |inside, own| own + field_bytes(inside))
    }

    /// Closes all but so many, and writes their sizes down.
    fn close(&mut self, keep: usize, mut written: Option<&mut [u32]>) {
        while self.count > keep {
            self.count -= 1;
            let size = self.sizes[self.count];
            if let Some(written) = written.as_deref_mut() {
                written[self.slots[self.count]] = size as u32;
            }
            if self.count > 0 {
                self.sizes[self.count - 1] += field_bytes(size);
            }
        }
    }
}

/// What a field of so many bytes takes with its tag, which is one byte at all levels, and its length.
#[inline(always)]
fn field_bytes(content: usize) -> usize {
    1 + varint_bytes(content) + content
}

pub(super) struct Packer<'a> {
    gathered: &'a Gathered<'a>,
    /// The sizes of all containers of all parts, in the order in which they are opened.
    sizes: Vec<u32>,
}

impl<'a> Packer<'a> {
    pub fn new(gathered: &'a Gathered<'a>) -> Self {
        Self { gathered, sizes: Vec::new() }
    }

    /// Cuts a group into parts of at most `limit` bytes; each part is given to `found`, which may end it. What is too large
    /// leaves the group.
    pub fn pack<E>(
        &mut self,
        group: &mut Group,
        limit: usize,
        large: &mut Vec<Large>,
        mut found: impl FnMut(Part) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut open, mut kept, mut first, mut first_size, mut counts) = (Open::default(), 0, 0, self.sizes.len(), 0);
        for place in 0..group.items.len() {
            let number = group.items[place];
            let item = self.gathered.items[number as usize];
            let mut next = self.with(open, item.container, item.piece.len());
            if next.total() > limit {
                let alone = self.with(Open::default(), item.container, item.piece.len());
                if alone.total() > limit {
                    let envelope = self.with(Open::default(), item.container, 0).total();
                    large.push(Large { item: number, bytes: alone.total(), envelope });
                    continue;
                }
                open.close(0, Some(&mut self.sizes));
                found(Part { items: first..kept, first_size, bytes: open.sizes[0], counts })?;
                (first, first_size, counts, open, next) = (kept, self.sizes.len(), 0, Open::default(), alone);
            }
            open = self.commit(open, next);
            group.items[kept] = number;
            kept += 1;
            counts += u64::from(self.gathered.counts(item));
        }
        group.items.truncate(kept);
        if kept > first {
            open.close(0, Some(&mut self.sizes));
            found(Part { items: first..kept, first_size, bytes: open.sizes[0], counts })?;
        }
        Ok(())
    }

    /// What would be open behind an item, if it came next.
    #[inline(always)]
    fn with(&self, mut open: Open, container: u32, bytes: usize) -> Open {
        if open.count == 0 || open.containers[open.count - 1] != container {
            let (path, depth) = self.gathered.path(container);
            let common = (0..open.count.min(depth + 1)).take_while(|place| open.containers[*place] == path[*place]).count();
            open.close(common, None);
            for (place, container) in path.iter().enumerate().take(depth + 1).skip(common) {
                open.containers[place] = *container;
                open.sizes[place] = self.gathered.containers[*container as usize].envelope as usize;
                open.slots[place] = usize::MAX;
            }
            open.count = depth + 1;
        }
        open.sizes[open.count - 1] += bytes;
        open
    }

    /// Takes what was tried: closes what is not open any more, and makes room for the sizes of what was opened.
    #[inline(always)]
    fn commit(&mut self, mut before: Open, mut after: Open) -> Open {
        if before.count == after.count && before.containers[..before.count] == after.containers[..after.count] {
            return after;
        }
        let common = (0..before.count.min(after.count)).take_while(|place| before.containers[*place] == after.containers[*place]).count();
        before.close(common, Some(&mut self.sizes));
        for place in common..after.count {
            after.slots[place] = self.sizes.len();
            self.sizes.push(0);
        }
        after
    }

    /// Writes a part, into exactly the room that it takes.
    pub fn write(&self, group: &Group, part: &Part) -> Vec<u8> {
        let mut writer = Writer {
            gathered: self.gathered,
            sizes: self.sizes[part.first_size..].iter(),
            out: Vec::with_capacity(part.bytes),
            open: ([0; DEEPEST], 0),
            run: 0..0,
        };
        for number in &group.items[part.items.clone()] {
            writer.item(self.gathered.items[*number as usize]);
        }
        writer.settle();
        debug_assert_eq!(writer.out.len(), part.bytes, "a part is as large as it was counted");
        writer.out
    }
}

/// Writes a part whose sizes are known.
struct Writer<'a> {
    gathered: &'a Gathered<'a>,
    /// Those of the containers that are still to be opened.
    sizes: std::slice::Iter<'a, u32>,
    out: Vec<u8>,
    /// The containers that are open, and how many.
    open: ([u32; DEEPEST], usize),
    /// Items that are next to one another in the request are copied as one.
    run: Range<usize>,
}

impl Writer<'_> {
    fn item(&mut self, item: Item) {
        let (open, count) = self.open;
        if count == 0 || open[count - 1] != item.container {
            self.settle();
            let (path, depth) = self.gathered.path(item.container);
            let common = (0..count.min(depth + 1)).take_while(|place| open[*place] == path[*place]).count();
            path[common..=depth].iter().for_each(|container| self.container(*container));
            self.open = (path, depth + 1);
        }
        let piece = item.piece.range();
        if self.run.end != piece.start {
            self.settle();
            self.run.start = piece.start;
        }
        self.run.end = piece.end;
    }

    fn container(&mut self, number: u32) {
        let (container, size) = (self.gathered.containers[number as usize], self.sizes.next().copied().unwrap_or_default());
        if container.depth > 0 {
            self.out.push(container.tag);
            put_varint(&mut self.out, size as usize);
        }
        for piece in self.gathered.envelope(number) {
            self.out.extend_from_slice(&self.gathered.bytes[piece.range()]);
        }
    }

    fn settle(&mut self) {
        self.out.extend_from_slice(&self.gathered.bytes[std::mem::take(&mut self.run)]);
    }
}
