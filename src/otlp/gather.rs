//! Finds the items of a request, the containers that they are in, and the containers' envelopes: as places, nothing is copied.
//!
//! What always holds: containers are in the order of the request, an item's after those around it; items of one container
//! are next to one another, and a *filler* stands before the items of its container. A filler is a run of containers without
//! items: it goes along once, and counts nothing. The index is bounded by the request's size, because two bytes can make
//! a container.

use std::ops::Range;

use super::levels::{self, DEEPEST, Level};
use super::wire::{Broken, Cursor, Wire};
use super::{CutError, Signal};

/// Runs of empty containers are cut off behind this: a run is sent whole.
const RUN: u32 = 4096;

/// How many bytes of index a byte of the request may cost, and how many there always are.
const INDEX_RATIO: usize = 3;
const INDEX_FLOOR: usize = 1 << 16;

/// A stretch of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub start: u32,
    pub end: u32,
}

impl Piece {
    fn of(range: Range<usize>) -> Self {
        // A request is smaller than 1 GiB.
        Self { start: range.start as u32, end: range.end as u32 }
    }

    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Something that holds items, directly or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container {
    /// The one that it is in; the request is in itself.
    pub parent: u32,
    /// How many containers are around it.
    pub depth: u8,
    /// Its field's tag.
    pub tag: u8,
    /// How large its envelope is.
    pub envelope: u32,
    first_piece: u32,
    pieces: u32,
}

/// An item, or a filler.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub container: u32,
    /// The whole field, from its tag to its end.
    pub piece: Piece,
}

/// The index of a request.
pub(super) struct Gathered<'a> {
    pub bytes: &'a [u8],
    pub containers: Vec<Container>,
    pub items: Vec<Item>,
    pieces: Vec<Piece>,
    /// How deep the container of an item is; what lies higher is a filler.
    leaf: u8,
    /// How many bytes the index may still take.
    room: usize,
}

/// Why there is no index.
pub(super) enum Ungathered {
    Broken(Broken),
    TooManyParts,
}

impl From<Broken> for Ungathered {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

pub(super) fn gather(signal: Signal, bytes: &[u8]) -> Result<Gathered<'_>, CutError> {
    let mut gathered = Gathered {
        bytes,
        containers: Vec::new(),
        items: Vec::new(),
        pieces: Vec::new(),
        leaf: if signal == Signal::Metrics { DEEPEST as u8 - 1 } else { 2 },
        room: bytes.len() * INDEX_RATIO + INDEX_FLOOR,
    };
    let mut fillers = false;
    match gathered.container(0..bytes.len(), levels::request(signal), Around { parent: 0, depth: 0, tag: 0 }, &mut fillers) {
        Ok(_) => {}
        Err(Ungathered::TooManyParts) => return Err(CutError::TooManyParts { bytes: bytes.len() as u64 }),
        Err(Ungathered::Broken(broken)) => return Err(super::validate::fault(signal, bytes, broken).into()),
    }
    if fillers {
        // Containers have their numbers from outside in, so a filler comes before what its container holds besides.
        gathered.items.sort_by_key(|item| item.container);
    }
    Ok(gathered)
}

/// Where a container is.
#[derive(Clone, Copy)]
struct Around {
    parent: u32,
    depth: u8,
    tag: u8,
}

impl Gathered<'_> {
    /// Whether it is an item, not a filler.
    #[inline(always)]
    pub fn counts(&self, item: Item) -> bool {
        self.containers[item.container as usize].depth == self.leaf
    }

    pub fn envelope(&self, container: u32) -> &[Piece] {
        let Container { first_piece, pieces, .. } = self.containers[container as usize];
        &self.pieces[first_piece as usize..(first_piece + pieces) as usize]
    }

    /// The containers around an item, from the request to its own.
    #[inline(always)]
    pub fn path(&self, container: u32) -> ([u32; DEEPEST], usize) {
        let (mut path, mut at) = ([0; DEEPEST], container);
        let depth = self.containers[container as usize].depth as usize;
        for place in (0..=depth).rev() {
            path[place] = at;
            at = self.containers[at as usize].parent;
        }
        (path, depth)
    }

    /// Goes into a container; false: nothing in it counts, and it left no trace.
    fn container(&mut self, range: Range<usize>, level: &'static Level, around: Around, fillers: &mut bool) -> Result<bool, Ungathered> {
        let (own, first_piece, first_item, room) = (self.containers.len() as u32, self.pieces.len(), self.items.len(), self.room);
        self.spend(size_of::<Container>())?;
        let Around { parent, depth, tag } = around;
        self.containers.push(Container { parent, depth, tag, envelope: 0, first_piece: first_piece as u32, pieces: 0 });
        // The envelope first, also where it comes behind what the container holds.
        self.fields(range.clone(), level, own)?;
        let pieces = &self.pieces[first_piece..];
        let envelope = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let entry = &mut self.containers[own as usize];
        (entry.envelope, entry.pieces) = (envelope as u32, pieces.len() as u32);
        let any = match level.below {
            Some(below) => self.containers_in(range, level, below, own, fillers)?,
            None => self.items.len() > first_item,
        };
        if !any && depth > 0 {
            self.containers.truncate(own as usize);
            self.pieces.truncate(first_piece);
            self.items.truncate(first_item);
            self.room = room;
        }
        Ok(any)
    }

    /// The envelope of a container; and the items, where it holds some.
    fn fields(&mut self, range: Range<usize>, level: &'static Level, own: u32) -> Result<(), Ungathered> {
        let first_piece = self.pieces.len();
        let mut cursor = Cursor::of(self.bytes, range);
        while let Some(tag) = cursor.tag()? {
            cursor.skip(tag.wire)?;
            if !level.holds(tag) {
                match self.pieces[first_piece..].last_mut() {
                    Some(last) if last.end as usize == tag.at => last.end = cursor.at() as u32,
                    _ => {
                        self.spend(size_of::<Piece>())?;
                        self.pieces.push(Piece::of(tag.at..cursor.at()));
                    }
                }
            } else if level.below.is_none() {
                self.spend(size_of::<Item>())?;
                self.items.push(Item { container: own, piece: Piece::of(tag.at..cursor.at()) });
            }
        }
        Ok(())
    }

    /// The containers in a container; false: nothing in them counts.
    fn containers_in(
        &mut self,
        range: Range<usize>,
        level: &'static Level,
        below: &'static Level,
        own: u32,
        fillers: &mut bool,
    ) -> Result<bool, Ungathered> {
        let depth = self.containers[own as usize].depth + 1;
        let (mut cursor, mut any) = (Cursor::of(self.bytes, range), false);
        while let Some(tag) = cursor.tag()? {
            if !level.holds(tag) {
                cursor.skip(tag.wire)?;
                continue;
            }
            let content = cursor.content()?;
            let around = Around { parent: own, depth, tag: (tag.number << 3) as u8 | LENGTH };
            if self.container(content.clone(), below, around, fillers)? {
                any = true;
            } else {
                *fillers = true;
                self.filler(own, tag.at..content.end)?;
            }
        }
        Ok(any)
    }

    fn filler(&mut self, own: u32, range: Range<usize>) -> Result<(), Ungathered> {
        match self.items.last_mut() {
            Some(last) if last.container == own && last.piece.end as usize == range.start && (last.piece.end - last.piece.start) < RUN => {
                last.piece.end = range.end as u32;
            }
            _ => {
                self.spend(size_of::<Item>())?;
                self.items.push(Item { container: own, piece: Piece::of(range) });
            }
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Ungathered> {
        self.room = self.room.checked_sub(bytes).ok_or(Ungathered::TooManyParts)?;
        Ok(())
    }
}

/// How a field with a length is written in its tag.
const LENGTH: u8 = 2;
const _: () = assert!(Wire::Length as u8 == LENGTH);
