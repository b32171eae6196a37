//! Requests for tests: written by hand, and at random.
//!
//! What always holds: what is random is good OTLP, in an order, with repetitions and with unknown fields that no SDK
//! would send.

use bytes::Bytes;

use crate::otlp::Signal;

/// A field with a length.
pub fn field(number: u32, content: &[u8]) -> Vec<u8> {
    [varint(u64::from(number << 3 | 2)), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field with a varint.
pub fn number(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

/// A field of 8 bytes.
pub fn fixed64(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3 | 1)), value.to_le_bytes().to_vec()].concat()
}

/// A field of 4 bytes.
pub fn fixed32(number: u32, value: u32) -> Vec<u8> {
    [varint(u64::from(number << 3 | 5)), value.to_le_bytes().to_vec()].concat()
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

pub fn text(value: &str) -> Vec<u8> {
    field(1, value.as_bytes())
}

pub fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, value)].concat()
}

/// A request of one entry and one scope.
pub fn request(scope_fields: &[Vec<u8>]) -> Bytes {
    let resource = field(1, &field(1, &attribute("service.name", &text("svc"))));
    let scope = field(2, &[vec![field(1, &field(1, b"lib"))], scope_fields.to_vec()].concat().concat());
    Bytes::from(field(1, &[resource, scope].concat()))
}

pub fn span(trace: u8, name: &str) -> Vec<u8> {
    let id = if trace == 0 { vec![] } else { field(1, &[trace; 16]) };
    [id, field(2, &[7; 8]), field(5, name.as_bytes()), fixed64(7, 1), fixed64(8, 2)].concat()
}

/// Random numbers that are the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % most.max(1)
    }

    fn text(&mut self) -> String {
        let letters = ['a', 'b', 'é', '日', '🦀', ' ', '"', '\0'];
        let most = if self.below(20) == 0 { 300 } else { 12 };
        (0..self.below(most)).map(|_| letters[self.below(letters.len() as u64) as usize]).collect()
    }

    fn id(&mut self, length: usize) -> Vec<u8> {
        if self.below(4) == 0 { vec![] } else { vec![self.below(6) as u8; length] }
    }

    /// So many fields, each by its maker, in any order.
    fn some(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> Vec<u8>) -> Vec<Vec<u8>> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn shuffled(&mut self, mut fields: Vec<Vec<u8>>) -> Vec<u8> {
        if self.below(3) == 0 {
            for place in (1..fields.len()).rev() {
                fields.swap(place, self.below(place as u64 + 1) as usize);
            }
        }
        fields.concat()
    }

    fn unknown(&mut self) -> Vec<u8> {
        let unknown = 20 + self.below(2_000) as u32;
        // 1000 is not unknown everywhere.
        let unknown = if unknown == 1000 { 1001 } else { unknown };
        let value = self.below(u64::MAX);
        match self.below(12) {
            0 => number(unknown, value),
            1 => fixed64(unknown, value),
            2 => fixed32(unknown, value as u32),
            3 => field(unknown, &value.to_le_bytes()),
            _ => vec![],
        }
    }

    fn value(&mut self, depth: u64) -> Vec<u8> {
        match self.below(if depth > 3 { 7 } else { 9 }) {
            0 => vec![],
            1 => number(2, self.below(2)),
            2 => number(3, self.below(u64::MAX)),
            3 => fixed64(4, self.below(u64::MAX)),
            4 => field(7, &[0xff, 0xfe, 0x00]),
            5 | 6 => text(&self.text()),
            7 => field(5, &self.some(3, |dice| field(1, &dice.value(depth + 1))).concat()),
            _ => field(6, &self.some(3, |dice| field(1, &dice.attribute(depth + 1))).concat()),
        }
    }

    fn attribute(&mut self, depth: u64) -> Vec<u8> {
        let fields = vec![field(1, self.text().as_bytes()), field(2, &self.value(depth)), self.unknown()];
        self.shuffled(fields)
    }

    fn attributes(&mut self, under: u32, most: u64) -> Vec<u8> {
        self.some(most, |dice| field(under, &dice.attribute(0))).concat()
    }

    fn span(&mut self) -> Vec<u8> {
        let events = self.some(2, |dice| field(11, &[fixed64(1, 9), field(2, dice.text().as_bytes()), dice.attributes(3, 2)].concat()));
        let links = self.some(2, |dice| field(13, &[field(1, &dice.id(16)), field(2, &dice.id(8)), fixed32(6, 1)].concat()));
        let fields = vec![
            field(1, &self.id(16)),
            field(2, &self.id(8)),
            field(4, &self.id(8)),
            field(5, self.text().as_bytes()),
            number(6, self.below(6)),
            fixed64(7, 1),
            self.attributes(9, 3),
            events.concat(),
            links.concat(),
            field(15, &[field(2, self.text().as_bytes()), number(3, 1)].concat()),
            fixed32(16, 257),
            self.unknown(),
        ];
        self.shuffled(fields)
    }

    fn log(&mut self) -> Vec<u8> {
        let fields = vec![
            fixed64(1, 5),
            number(2, self.below(24)),
            field(5, &self.value(0)),
            self.attributes(6, 3),
            field(9, &self.id(16)),
            field(10, &self.id(8)),
            field(12, self.text().as_bytes()),
            self.unknown(),
        ];
        self.shuffled(fields)
    }

    fn exemplar(&mut self) -> Vec<u8> {
        [fixed64(2, 1), fixed64(3, 2), field(4, &self.id(8)), field(5, &self.id(16)), self.attributes(7, 1)].concat()
    }

    fn point(&mut self, data: u32) -> Vec<u8> {
        let buckets = |dice: &mut Self| {
            [number(1, 3), if dice.below(2) == 0 { field(2, &[1, 2, 0x80, 1]) } else { [number(2, 1), number(2, 300)].concat() }].concat()
        };
        let packed = |dice: &mut Self, under| {
            if dice.below(2) == 0 { field(under, &[0; 16]) } else { [fixed64(under, 1), fixed64(under, 2)].concat() }
        };
        let mut fields = vec![fixed64(2, 1), fixed64(3, 2), self.unknown()];
        fields.extend(match data {
            5 | 7 => vec![fixed64(4, 1), self.attributes(7, 2), field(5, &self.exemplar()), number(8, 1)],
            9 => vec![fixed64(4, 3), packed(self, 6), packed(self, 7), self.attributes(9, 2), field(8, &self.exemplar())],
            10 => vec![number(6, 3), field(8, &buckets(self)), field(9, &buckets(self)), self.attributes(1, 2), fixed64(14, 0)],
            _ => vec![fixed64(4, 3), field(6, &[fixed64(1, 1), fixed64(2, 2)].concat()), self.attributes(7, 2)],
        });
        self.shuffled(fields)
    }

    fn metric(&mut self) -> Vec<u8> {
        let data = [5, 7, 9, 10, 11][self.below(5) as usize];
        let mut inside = self.some(5, |dice| field(1, &dice.point(data)));
        if matches!(data, 7 | 9 | 10) {
            inside.push(number(2, 1));
        }
        inside.push(self.unknown());
        let inside = self.shuffled(inside);
        let mut fields = vec![field(1, self.text().as_bytes()), field(3, self.text().as_bytes()), self.attributes(12, 1), self.unknown()];
        if self.below(8) > 0 {
            fields.push(field(data, &inside));
        }
        self.shuffled(fields)
    }

    fn scope(&mut self, signal: Signal) -> Vec<u8> {
        let mut fields = self.some(6, |dice| match signal {
            Signal::Traces => field(2, &dice.span()),
            Signal::Logs => field(2, &dice.log()),
            Signal::Metrics => field(2, &dice.metric()),
        });
        fields.push(field(1, &[field(1, self.text().as_bytes()), self.attributes(3, 1)].concat()));
        fields.push(field(3, self.text().as_bytes()));
        fields.push(self.unknown());
        self.shuffled(fields)
    }

    fn entry(&mut self, signal: Signal) -> Vec<u8> {
        let mut fields = self.some(3, |dice| field(2, &dice.scope(signal)));
        let entity = field(3, &[field(2, b"host"), field(3, self.text().as_bytes()), field(3, b"x")].concat());
        fields.push(field(1, &[self.attributes(1, 3), entity].concat()));
        if self.below(4) == 0 {
            // Resources are merged by decoders.
            fields.push(field(1, &self.attributes(1, 1)));
        }
        fields.push(self.unknown());
        self.shuffled(fields)
    }

    pub fn request(&mut self, signal: Signal) -> Bytes {
        let mut fields = self.some(4, |dice| field(1, &dice.entry(signal)));
        fields.push(self.unknown());
        self.shuffled(fields).into()
    }
}
