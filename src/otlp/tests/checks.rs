//! What is taken, what is refused, what is changed.

use bytes::Bytes;

use super::build::*;
use crate::otlp::{Checked, Depth, Fault, Signal, check};

fn full(signal: Signal, bytes: &Bytes) -> Result<Checked, Fault> {
    check(signal, bytes.clone(), Depth::Full, false)
}

fn fault(signal: Signal, bytes: &Bytes) -> Fault {
    full(signal, bytes).expect_err("a fault")
}

#[test]
fn what_is_good_comes_back_as_the_same_bytes() {
    let bytes = request(&[field(2, &span(1, "a")), field(2, &span(2, "b"))]);
    let checked = full(Signal::Traces, &bytes).expect("it is good");
    assert_eq!(checked.bytes.as_ptr(), bytes.as_ptr());
    assert_eq!((checked.items, checked.rejected, checked.repaired, checked.why), (2, 0, 0, None));
    let empty = full(Signal::Logs, &Bytes::new()).expect("an empty request is one");
    assert_eq!(empty.items, 0);
}

#[test]
fn items_are_counted_at_every_depth_and_for_every_kind_of_data() {
    let data = |number: u32, points: usize| field(number, &field(1, &fixed64(3, 1)).repeat(points));
    let metrics: Vec<_> = [5, 7, 9, 10, 11].iter().zip(1..).map(|(kind, points)| field(2, &data(*kind, points))).collect();
    let traces = request(&vec![field(2, &span(1, "a")); 7]);
    for depth in [Depth::Full, Depth::Structure, Depth::None] {
        assert_eq!(check(Signal::Metrics, request(&metrics), depth, true).expect("good").items, 15, "{depth:?}");
        assert_eq!(check(Signal::Traces, traces.clone(), depth, false).expect("good").items, 7, "{depth:?}");
    }
}

#[test]
fn a_fault_names_the_field_and_its_byte() {
    let spans: Vec<_> = (0..3).map(|_| field(2, &span(1, "a"))).chain([field(2, &field(1, &[1; 5]))]).collect();
    let bytes = request(&spans);
    let found = fault(Signal::Traces, &bytes);
    assert_eq!(found.what, "resource_spans[0].scope_spans[0].spans[3].trace_id has 5 bytes, and a trace id has 16 or none");
    assert_eq!(bytes[found.offset as usize..], [5, 1, 1, 1, 1, 1]);
    let second = [field(1, &[]), field(1, &field(1, &field(1, &attribute("k", &field(1, b"ab\xff")))))].concat();
    let found = fault(Signal::Logs, &second.clone().into());
    assert_eq!(found.what, "resource_logs[1].resource.attributes[0].value.string_value is not UTF-8");
    assert_eq!(second[found.offset as usize], 0xff);
    assert_eq!(found.to_string(), format!("{} (byte {})", found.what, found.offset));
}

#[test]
fn what_one_decoder_could_not_read_is_refused() {
    let cases: &[(&str, Vec<u8>)] = &[
        ("cut short", vec![0x2a, 5, b'a']),
        ("cut short", vec![0x2a]),
        ("cut short", vec![0x39, 1, 2]),
        ("cut short", vec![0x30, 0x80]),
        ("cut short", vec![0x80]),
        ("tag or a length", vec![0x2a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
        ("tag or a length", vec![0xaa, 0x80, 0x80, 0x80, 0x80, 0x00, 0x00]),
        ("tag or a length", vec![0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("64 bits", [vec![0x30], vec![0xff; 10]].concat()),
        ("64 bits", [vec![0x30], vec![0xff; 9], vec![2]].concat()),
        ("number 0", vec![0x00, 0x01]),
        ("number 0", vec![0x02, 0x00]),
        ("group", vec![0x0b, 0x0c]),
        ("group", vec![0xa3, 0x06]),
        ("wire type", vec![0x0f]),
        ("written as a varint", vec![0x28, 0x01]),
        ("written as 8 bytes", [vec![0x49], vec![0; 8]].concat()),
        ("written as a length", field(7, &[0; 8])),
        ("written as a length", field(16, &[0; 4])),
        ("span id", field(2, &[0; 16])),
        ("span id", field(4, &[0; 7])),
        ("trace id", field(13, &field(1, &[0; 8]))),
        ("UTF-8", field(3, &[0xc0, 0x80])),
        ("UTF-8", field(15, &field(2, &[0xed, 0xa0, 0x80]))),
    ];
    for (words, content) in cases {
        let bytes = request(&[field(2, content)]);
        let found = fault(Signal::Traces, &bytes);
        assert!(found.what.contains(words), "{content:?}: {found}");
        assert!(found.what.starts_with("resource_spans[0].scope_spans[0].spans[0]"), "{found}");
        assert!(found.offset <= bytes.len() as u64, "{found}");
    }
}

#[test]
fn lists_of_numbers_are_good_packed_and_one_by_one() {
    let point = |data: u32, content: &[u8]| request(&[field(2, &field(data, &field(1, content)))]);
    for good in [field(6, &[0; 24]), fixed64(6, 1).repeat(3), field(7, &[]), fixed64(7, 1), [field(6, &[0; 8]), fixed64(6, 1)].concat()] {
        full(Signal::Metrics, &point(9, &good)).expect("packed or not");
    }
    for good in [field(2, &[1, 0x80, 1]), number(2, 300)] {
        full(Signal::Metrics, &point(10, &field(8, &good))).expect("packed or not");
    }
    for (bad, data) in [(field(6, &[0; 9]), 9), (number(6, 1), 9), (fixed32(7, 1), 9), (field(9, &field(2, &[0x80])), 10)] {
        fault(Signal::Metrics, &point(data, &bad));
    }
}

#[test]
fn a_metric_has_one_data() {
    let twice = |one: u32, other: u32| request(&[field(2, &[field(one, &[]), field(other, &[])].concat())]);
    for (one, other) in [(5, 5), (5, 7), (9, 11), (10, 10)] {
        assert!(fault(Signal::Metrics, &twice(one, other)).what.contains("second data"), "{one} {other}");
    }
}

#[test]
fn nesting_is_bounded_where_decoders_give_up() {
    // Request, entry, scope, log record, body: a value is at 4, and each list adds two messages.
    let nested = |lists: usize, extra: bool| {
        let inner = if extra { field(5, &[]) } else { vec![] };
        let value = (0..lists).fold(inner, |inside, _| field(5, &field(1, &inside)));
        request(&[field(2, &field(5, &value))])
    };
    let deepest = nested(48, false);
    full(Signal::Logs, &deepest).expect("100 deep");
    prost_takes(&deepest, true);
    let deeper = nested(48, true);
    assert!(fault(Signal::Logs, &deeper).what.ends_with("is nested more than 100 messages deep"));
    prost_takes(&deeper, false);
    let endless = nested(20_000, false);
    assert!(fault(Signal::Logs, &endless).what.len() < 4_000);
    assert_eq!(check(Signal::Logs, endless, Depth::None, false).expect("not looked at").items, 1);
}

fn prost_takes(bytes: &Bytes, takes: bool) {
    use prost::Message;
    let decoded = opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest::decode(bytes.clone());
    assert_eq!(decoded.is_ok(), takes, "{:?}", decoded.err());
}

#[test]
fn a_smaller_depth_looks_at_less() {
    let bad_text = request(&[field(2, &field(5, &[0xff]))]);
    let bad_id = request(&[field(2, &field(1, &[1; 5]))]);
    let bad_tag = request(&[field(2, &[0x28, 0x01])]);
    for (bytes, structure) in [(&bad_text, true), (&bad_id, true), (&bad_tag, false)] {
        assert!(full(Signal::Traces, bytes).is_err());
        assert_eq!(check(Signal::Traces, bytes.clone(), Depth::Structure, true).is_ok(), structure);
        let counted = check(Signal::Traces, bytes.clone(), Depth::None, true).expect("only counted");
        assert_eq!((counted.items, counted.repaired), (1, 0));
    }
    assert!(check(Signal::Traces, vec![0x0a, 9].into(), Depth::None, false).is_err());
}

/// A name and a key, what becomes of them, and how many repairs that is.
type Repair<'a> = (&'a [u8], &'a [u8], &'a str, &'a str, u64);

#[test]
fn a_repair_changes_the_texts_and_the_lengths_around_them_and_nothing_else() {
    let spans = |name: &[u8], key: &[u8]| {
        let attribute = [field(2, &text("v")), field(1, key)].concat();
        let unknown = field(99, &[0xff; 40]);
        request(&[unknown.clone(), field(2, &[field(9, &attribute), unknown, field(5, name)].concat()), field(2, &span(3, "good"))])
    };
    let cases: [Repair<'_>; 4] = [
        (b"a\xffb", b"k", "a\u{fffd}b", "k", 1),
        // Lengths that need a byte more after the repair.
        (&[0xff; 60], &[0xfe; 50], &"\u{fffd}".repeat(60), &"\u{fffd}".repeat(50), 2),
        // As long as before.
        (b"\xf0\x9f\x98", b"k", "\u{fffd}", "k", 1),
        (b"\xed\xa0\x80", b"\xc3\xa9", "\u{fffd}\u{fffd}\u{fffd}", "é", 1),
    ];
    for (name, key, good_name, good_key, repaired) in cases {
        let bytes = spans(name, key);
        assert!(full(Signal::Traces, &bytes).is_err());
        let checked = check(Signal::Traces, bytes, Depth::Full, true).expect("it can be repaired");
        assert_eq!(checked.bytes, spans(good_name.as_bytes(), good_key.as_bytes()));
        assert_eq!((checked.repaired, checked.items), (repaired, 2));
        let again = full(Signal::Traces, &checked.bytes).expect("it is good now");
        assert_eq!(again.bytes.as_ptr(), checked.bytes.as_ptr());
    }
}

#[test]
fn a_length_that_is_written_long_stays_so() {
    // A resource whose length takes four bytes, as some encoders reserve them, beside a name that is repaired.
    let padded = |content: &[u8]| [vec![0x0a, content.len() as u8 | 0x80, 0x80, 0x80, 0x00], content.to_vec()].concat();
    let with = |name: &[u8]| {
        let entry = [padded(&field(1, &attribute("k", &text("v")))), field(2, &field(2, &field(5, name)))].concat();
        Bytes::from(field(1, &entry))
    };
    full(Signal::Traces, &with(b"x")).expect("decoders take it");
    assert_eq!(check(Signal::Traces, with(b"\xff"), Depth::Full, true).expect("repaired").bytes, with("\u{fffd}".as_bytes()));
}

#[test]
fn items_of_instrumentation_libraries_go_where_consumers_look() {
    let scope = field(2, &span(1, "a")).repeat(3);
    let resource = field(1, &field(1, &attribute("k", &text("v"))));
    let entry = |number: u32| field(1, &[resource.clone(), field(number, &scope), field(number, &scope)].concat());
    let good = field(1, &field(2, &field(2, &span(9, "b"))));
    let (old, new) = ([entry(1000), good.clone()].concat(), [entry(2), good].concat());
    for depth in [Depth::Full, Depth::Structure, Depth::None] {
        let checked = check(Signal::Traces, old.clone().into(), depth, false).expect("it is moved");
        assert_eq!((checked.bytes, checked.items, checked.rejected), (new.clone().into(), 7, 0), "{depth:?}");
    }
    // Bad texts in them are repaired too.
    let old = field(1, &field(1000, &field(2, &field(5, b"\xff"))));
    let new = field(1, &field(2, &field(2, &field(5, "\u{fffd}".as_bytes()))));
    assert_eq!(check(Signal::Traces, old.into(), Depth::Full, true).expect("both").bytes, new);
}

#[test]
fn items_that_no_consumer_would_see_are_rejected_and_counted() {
    let scope = |spans: usize| field(2, &span(1, "a")).repeat(spans);
    let mixed = field(1, &[field(1000, &scope(2)), field(2, &scope(3)), field(1000, &scope(4))].concat());
    let left = field(1, &field(2, &scope(3)));
    let checked = check(Signal::Traces, mixed.into(), Depth::Full, false).expect("the rest is good");
    assert_eq!((checked.bytes, checked.items, checked.rejected), (left.into(), 3, 6));
    assert_eq!(checked.why.as_deref(), Some("6 spans in field 1000 of an entry that has field 2 too: no consumer would see them"));
    // Elsewhere 1000 is a number like any other.
    let unknown = request(&[field(1000, b"\xff"), field(2, &field(1000, &[0xff]))]);
    assert_eq!(full(Signal::Traces, &unknown).expect("unknown").bytes.as_ptr(), unknown.as_ptr());
}
