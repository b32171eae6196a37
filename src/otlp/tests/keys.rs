//! Keys as the Collector's exporter gives them.

use super::build::*;
use crate::otlp::keys::{hex, resource, trace_id};

/// The key of a resource with these attributes.
fn key(attributes: &[(&str, Vec<u8>)]) -> Option<String> {
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| field(1, &attribute(key, value))).collect();
    let bytes = field(1, &attributes.concat());
    resource(&bytes, std::iter::once(0..bytes.len())).map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn a_resource_has_the_key_of_the_collectors_exporter() {
    let known = "60719756c71b0e24cbad0e92d00a366b";
    assert_eq!(key(&[("service.name", text("svc")), ("a", number(3, 5))]).as_deref(), Some(known));
    assert_eq!(key(&[("a", number(3, 5)), ("service.name", text("svc"))]).as_deref(), Some(known), "whatever the order");
    assert_eq!(key(&[]).as_deref(), Some("00000000000000000000000000000000"));
}

/// The key of what is hashed, written out by hand.
fn hashed(what: &[u8]) -> String {
    let one = twox_hash::XxHash64::oneshot(0, what).to_le_bytes();
    let other = twox_hash::XxHash64::oneshot(0, &[what, b"\xf3"].concat()).to_le_bytes();
    one.iter().chain(&other).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_kind_of_value_is_hashed_in_its_own_way() {
    let list = field(5, &[field(1, &text("x")), field(1, &[]), field(1, &number(2, 0))].concat());
    let map = field(6, &[field(1, &attribute("z", &number(2, 1))), field(1, &attribute("b", &text("")))].concat());
    let cases: Vec<(Vec<u8>, &[u8])> = vec![
        (text("é"), b"\xf4k\xf7\xc3\xa9"),
        (number(2, 1), b"\xf4k\xf8"),
        (number(2, 0), b"\xf4k\xf9"),
        (number(3, u64::MAX), b"\xf4k\xfa\xff\xff\xff\xff\xff\xff\xff\xff"),
        (fixed64(4, 1.5f64.to_bits()), b"\xf4k\xfb\0\0\0\0\0\0\xf8\x3f"),
        (field(7, &[1, 2]), b"\xf4k\xf6\x01\x02"),
        (vec![], b"\xf4k\xf5"),
        (number(8, 3), b"\xf4k\xf5"),
        (list, b"\xf4k\xfe\xf7x\xf5\xf9\xff"),
        (map, b"\xf4k\xfc\xf4b\xf7\xf4z\xf8\xfd"),
        // Of two, the last.
        ([text("x"), number(2, 1)].concat(), b"\xf4k\xf8"),
    ];
    for (value, what) in cases {
        assert_eq!(key(&[("k", value.clone())]), Some(hashed(what)), "{value:?}");
    }
    let twice = key(&[("k", text("1")), ("a", vec![]), ("k", text("2"))]);
    assert_eq!(twice, Some(hashed(b"\xf4a\xf5\xf4k\xf71\xf4k\xf71")), "a key that comes twice has its first value, twice");
}

#[test]
fn a_resource_that_would_be_much_work_has_no_key() {
    let large = text(&"x".repeat(100_000));
    let mut attributes = vec![("k", large)];
    attributes.extend(std::iter::repeat_n(("k", vec![]), 5_000));
    assert_eq!(key(&attributes), None);
    assert_eq!(key(&vec![("k", vec![]); 10_001]), None);
    let nested = (0..200).fold(vec![], |inside, _| field(5, &field(1, &inside)));
    assert_eq!(key(&[("k", nested)]), None);
}

#[test]
fn a_trace_id_of_zeros_is_none() {
    let id = |content: &[u8]| {
        let item = field(2, &[field(5, b"name"), field(1, content)].concat());
        trace_id(&item, 0..item.len(), 1)
    };
    assert_eq!(id(&[0xab; 16]), Some([0xab; 16]));
    assert_eq!((id(&[0; 16]), id(&[]), id(&[1; 5])), (None, None, None));
    assert_eq!(&hex([0x0f; 16]), b"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f");
}
