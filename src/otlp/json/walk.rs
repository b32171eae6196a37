//! Goes through a request along its [schema](super::schema), and writes what it reads.
//!
//! What always holds: the text is read once and in order; what is written is in the order of the text. A field is written
//! once, and one member of a oneof.

use super::fault::{Broken, Outcome};
use super::scan::Scan;
use super::schema::{Field, Kind, Message, Presence};
use super::text::Text;
use super::write::Writer;
use super::{Deviations, Transcoded};

pub(super) struct Walk<'a> {
    pub(super) scan: Scan<'a>,
    pub(super) out: Writer,
    pub(super) deviations: Deviations,
    /// Where strings with escapes are written down.
    pub(super) room: Vec<u8>,
    items: u64,
}

/// What was seen of a message.
#[derive(Default)]
struct Seen {
    /// The fields that have a value, by their place in the table.
    fields: u32,
    one_of: bool,
    any_known: bool,
    any_unknown: bool,
}

impl<'a> Walk<'a> {
    pub fn new(scan: Scan<'a>) -> Self {
        // JSON from SDKs shrinks to a third or less.
        let out = Writer::with_capacity(scan.len() / 2);
        Self { scan, out, deviations: Deviations::default(), room: Vec::new(), items: 0 }
    }

    pub fn finish(self) -> Transcoded {
        Transcoded { bytes: self.out.finish(), items: self.items, deviations: self.deviations }
    }

    /// The whole text.
    pub fn request(&mut self, message: &'static Message) -> Outcome<()> {
        let seen = self.message(message)?;
        self.scan.end()?;
        if seen.any_unknown && !seen.any_known {
            let name = message.fields.first().map_or("", |field| field.name);
            return Err(Broken::new(0, format!("no field of it belongs to this signal: `{name}` expected")));
        }
        Ok(())
    }

    fn message(&mut self, message: &'static Message) -> Outcome<Seen> {
        self.scan.open(b'{', "an object")?;
        let mut seen = Seen::default();
        let (mut is_first, mut next) = (true, 0);
        while let Some(place) = self.place(message, is_first, next)? {
            is_first = false;
            let Some(field) = message.fields.get(place) else {
                seen.any_unknown = true;
                self.deviations.unknown_fields += 1;
                self.scan.skip()?;
                continue;
            };
            next = place + 1;
            seen.any_known = true;
            self.member(field, place, &mut seen).map_err(|broken| broken.within_field(field.name))?;
        }
        self.items += u64::from(message.is_item);
        Ok(seen)
    }

    /// The next member's place in the table, which is behind its end for one that is not known; none: the object is closed.
    #[inline]
    fn place(&mut self, message: &'static Message, is_first: bool, next: usize) -> Outcome<Option<usize>> {
        // Senders write fields in one order, and the tables have it.
        if message.fields.get(next).is_some_and(|field| self.scan.member_is(is_first, field.name)) {
            return Ok(Some(next));
        }
        let name = self.scan.member(is_first)?;
        Ok(name.map(|name| self.find(message, name, next).unwrap_or(usize::MAX)))
    }

    #[inline]
    fn find(&mut self, message: &'static Message, name: Text<'_>, next: usize) -> Option<usize> {
        let name = name.meant(&mut self.room, &mut self.deviations.lone_surrogates);
        let (before, after) = message.fields.split_at(next);
        let is_it = |field: &Field| field.name.as_bytes() == name;
        let found = after.iter().position(is_it).map(|place| place + next).or_else(|| before.iter().position(is_it));
        if found.is_some() || !name.contains(&b'_') {
            return found;
        }
        let place = message.fields.iter().position(|field| field.snake.as_bytes() == name);
        self.deviations.snake_case += u64::from(place.is_some());
        place
    }

    #[inline]
    fn member(&mut self, field: &'static Field, place: usize, seen: &mut Seen) -> Outcome<()> {
        if self.scan.peek() == b'n' {
            return self.scan.literal().map(drop);
        }
        if seen.fields & 1 << place != 0 {
            return Err(Broken::new(self.scan.at(), "the same field a second time"));
        }
        seen.fields |= 1 << place;
        if field.presence == Presence::OneOf && std::mem::replace(&mut seen.one_of, true) {
            return Err(Broken::new(self.scan.at(), "a second value where there can be one only"));
        }
        self.value(field)
    }

    fn value(&mut self, field: &'static Field) -> Outcome<()> {
        let number = field.number;
        match field.kind {
            Kind::Message(message) => self.nested(number, message),
            Kind::Messages(message) => self.elements(|walk| walk.nested(number, message)),
            Kind::Text => self.text(number, field.presence == Presence::Plain),
            Kind::Texts => self.elements(|walk| walk.text(number, false)),
            Kind::Doubles => self.packed(number, |walk| walk.double().map(|double| walk.out.raw(&double.to_le_bytes()))),
            Kind::Fixed64s => self.packed(number, |walk| walk.unsigned(64).map(|size| walk.out.raw(&size.to_le_bytes()))),
            Kind::Uint64s => self.packed(number, |walk| walk.unsigned(64).map(|size| walk.out.varint(size))),
            _ => self.scalar(field),
        }
    }

    fn nested(&mut self, number: u32, message: &'static Message) -> Outcome<()> {
        let mark = self.out.open(number, message.width);
        self.message(message)?;
        self.out.close(mark);
        Ok(())
    }

    fn packed(&mut self, number: u32, each: impl FnMut(&mut Self) -> Outcome<()>) -> Outcome<()> {
        let mark = self.out.open(number, 1);
        self.elements(each)?;
        self.out.close_unless_empty(mark);
        Ok(())
    }

    #[inline]
    pub(super) fn elements(&mut self, mut each: impl FnMut(&mut Self) -> Outcome<()>) -> Outcome<()> {
        self.scan.open(b'[', "an array")?;
        let mut index = 0;
        while self.scan.element(index == 0)? {
            self.scan.peek();
            each(self).map_err(|broken| broken.within_element(index))?;
            index += 1;
        }
        Ok(())
    }

    #[inline]
    fn text(&mut self, number: u32, may_be_left_out: bool) -> Outcome<()> {
        if self.scan.peek() != b'"' {
            return Err(self.scan.expected("a string"));
        }
        let text = self.scan.string()?.meant(&mut self.room, &mut self.deviations.lone_surrogates);
        if !(text.is_empty() && may_be_left_out) {
            self.out.delimited(number, text);
        }
        Ok(())
    }
}
