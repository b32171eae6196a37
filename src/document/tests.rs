//! What a document holds, held against what Google's emulator (1.19.9) took and refused.
//!
//! The numbers were measured by bisection: documents of one shape and a growing text, committed to the collection
//! `sluicegate_inbox` under a name of 40 hex digits, until the last that was taken stood beside the first that was not.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NAME: Name = Name::hashed("sluicegate_inbox");

fn fault(json: &str) -> (String, Fault) {
    let Unstorable { path, fault } = Value::of_json(json.as_bytes()).expect_err(json);
    (path, fault)
}

fn read(json: &str) -> Value {
    Value::of_json(json.as_bytes()).unwrap_or_else(|unstorable| panic!("{json}: {unstorable}"))
}

fn text(bytes: usize) -> Value {
    Value::Text("x".repeat(bytes))
}

fn map(fields: Vec<(&str, Value)>) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn document(fields: Vec<(&str, Value)>) -> u64 {
    let Value::Map(fields) = map(fields) else { unreachable!("a map") };
    size(NAME, &fields)
}

/// So many maps, or maps and arrays, in each other.
fn nested(levels: usize, arrays: bool) -> String {
    let open = |level: usize| if arrays && level % 2 == 1 { ("[", "]") } else { (r#"{"a":"#, "}") };
    let (mut before, mut behind) = (String::new(), String::new());
    for level in 0..levels {
        before += open(level).0;
        behind = open(level).1.to_owned() + &behind;
    }
    before + "null" + &behind
}

#[test]
fn json_is_read_as_its_values_with_the_last_of_a_name() {
    let value = read(r#" {"n":null,"t":true,"i":-7,"d":1.5,"s":"a\u00fc\n","a":[1,{"x":[]}],"i":8,"\u0069":9} "#);
    let array = Value::Array(vec![Value::Integer(1), map(vec![("x", Value::Array(vec![]))])]);
    let expected = vec![
        ("n", Value::Null),
        ("t", Value::Bool(true)),
        ("i", Value::Integer(9)),
        ("d", Value::Double(1.5)),
        ("s", Value::Text("aü\n".into())),
        ("a", array),
    ];
    assert_eq!(value, map(expected));
    assert_eq!(read(r#"{"a":[[1]],"a":1}"#), map(vec![("a", Value::Integer(1))]), "what is not taken is not looked into");
    for bad in ["", "{", "{} {}", "nul", "01", "\"\t\"", "{1:2}", "[1,]"] {
        assert_eq!(fault(bad), (String::new(), Fault::NotJson), "{bad}");
    }
}

#[test]
fn whole_numbers_of_64_bits_are_integers_and_the_rest_are_doubles() {
    for (json, integer) in [("0", 0), ("-0", 0), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)] {
        assert_eq!(read(json), Value::Integer(integer), "{json}");
    }
    for json in [
        "0.1",
        "-0.0",
        "1.0",
        "1e2",
        "100000000000000000000.000E-0",
        "1e23",
        "5e-324",
        "4.9e-324",
        "1.7976931348623157e308",
        "0.10000000000000001",
        "0.1000000000000000055511151231257827",
        "18446744073709551616",
        "18446744073709552000",
        "0e999999999999999999999",
        "-0.00e-99999999999999999999",
        "9007199254740993.0e0",
    ] {
        let exact = json != "9007199254740993.0e0";
        assert_eq!(Value::of_json(json.as_bytes()).is_ok(), exact, "{json}");
        if exact {
            assert_eq!(read(json), Value::Double(json.parse().expect("a number")));
        }
    }
}

#[test]
fn a_number_that_the_document_would_change_is_refused() {
    let long = format!("0.{}1", "1234567890".repeat(80));
    for json in
        ["1e400", "-1e400", "1e-400", "18446744073709551617", "9223372036854775809", "9007199254740993.0", "3.141592653589793238", &long]
    {
        assert_eq!(fault(&format!(r#"{{"a":[1,{json}]}}"#)), ("a[1]".to_owned(), Fault::Number), "{json}");
    }
}

#[test]
fn what_the_emulator_refuses_is_refused_where_it_is() {
    let long = "x".repeat(1_500);
    for (json, path, expected) in [
        (r#"[1,[2]]"#, "[1]", Fault::ArrayInArray),
        (r#"{"a":{"b":[0,{"c":[[]]}]}}"#, "a.b[1].c[0]", Fault::ArrayInArray),
        (r#"{"a":{"":1}}"#, "a", Fault::NoName),
        (r#"{"a":{"__x__":1}}"#, "a.__x__", Fault::ReservedName),
        (r#"{"a":[{"_____":1}]}"#, "a[0]._____", Fault::ReservedName),
        // The emulator takes this one; Google's words (`__.*__`) do not.
        (r#"{"____":1}"#, "____", Fault::ReservedName),
        (r#"{"__\n__":1}"#, "__\n__", Fault::ReservedName),
        (r#"{"a":"\ud800"}"#, "a", Fault::NotText),
        (r#"{"a":{"\udfff":1}}"#, "a", Fault::NotText),
    ] {
        assert_eq!(fault(json), (path.to_owned(), expected), "{json}");
    }
    for json in [r#"[{"x":[]}]"#, r#"{"__":1,"___":1,"__x":1,"x__":1,"__x_":1,".":1,"a.b":1,"`":1,"/":1,"\u0000":"\u0000"}"#] {
        read(json);
    }
    // Paths are counted in bytes, with dots between the names, and arrays have no part in them.
    for (json, actual) in [
        (format!(r#"{{"{long}":1}}"#), None),
        (format!(r#"{{"{long}x":1}}"#), Some(1_501)),
        (format!(r#"{{"p":[{{"{}":1}}]}}"#, &long[2..]), None),
        (format!(r#"{{"p":[{{"{}":1}}]}}"#, &long[1..]), Some(1_501)),
        (format!(r#"{{"p":{{"q":{{"{}":1}}}}}}"#, &long[4..]), None),
        (format!(r#"{{"p":{{"{}":{{"y":1}}}}}}"#, &long[4..]), None),
        (format!(r#"{{"p":{{"{}":{{"y":1}}}}}}"#, &long[3..]), Some(1_501)),
        (format!(r#"{{"{}":1}}"#, "ü".repeat(751)), Some(1_502)),
    ] {
        let found = Value::of_json(json.as_bytes()).err().map(|unstorable| unstorable.fault);
        assert_eq!(found, actual.map(|actual| Fault::LongPath { actual }));
    }
}

#[test]
fn twenty_levels_are_taken_and_what_is_deeper_costs_nothing() {
    for arrays in [false, true] {
        read(&nested(DEEPEST, arrays));
        for levels in [DEEPEST + 1, 100_000] {
            assert_eq!(fault(&nested(levels, arrays)).1, Fault::Deep);
        }
    }
}

#[test]
fn leaves_are_counted_and_what_is_empty_is_one() {
    for element in ["1", "{}", r#"{"a":{}}"#, r#"{"a":[]}"#] {
        let many = |count: usize| format!(r#"{{"a":[{}]}}"#, vec![element; count].join(","));
        read(&many(MOST_LEAVES));
        assert_eq!(fault(&many(MOST_LEAVES + 1)).1, Fault::Leaves { actual: MOST_LEAVES + 1 });
    }
    let fields = |count: usize| format!("{{{}}}", (0..count).map(|i| format!(r#""f{i}":1"#)).collect::<Vec<_>>().join(","));
    read(&fields(MOST_LEAVES));
    assert_eq!(fault(&fields(MOST_LEAVES + 1)).1, Fault::Leaves { actual: MOST_LEAVES + 1 });
    let same = format!("{{{}}}", vec![r#""f":1"#; MOST_LEAVES + 1].join(","));
    assert_eq!(read(&same), map(vec![("f", Value::Integer(1))]));
}

#[test]
fn a_path_is_cut_to_what_can_be_shown() {
    let name = "ü".repeat(300);
    let (path, _) = fault(&format!(r#"{{"a":{{"{name}":{{"b":[[]]}}}}}}"#));
    assert!(path.starts_with("a.üü") && path.len() <= 200, "{path}");
    assert!(fault(&format!(r#"{{"a":"{}"}}"#, "x".repeat(LONGEST_TEXT + 1))).1 == Fault::LongText { actual: LONGEST_TEXT + 1 });
}

/// The largest of each shape that the emulator took is exactly as large as a document may be.
#[test]
fn sizes_are_the_emulators_to_the_byte_but_for_maps() {
    let seven = || Value::Array(vec![Value::Integer(7); 5_000]);
    let half = || text(500_000);
    for (shape, fields) in [
        ("one text", vec![("a", text(1_048_467))]),
        ("two texts", vec![("a", half()), ("b", text(548_464))]),
        ("bytes", vec![("a", Value::Bytes(vec![0; 1_048_468].into()))]),
        ("two-byte characters", vec![("a", Value::Text("ü".repeat(524_233) + "x"))]),
        ("integers", vec![("a", seven()), ("b", half()), ("c", text(508_462))]),
        ("null", vec![("a", text(1_000_000)), ("c", text(48_461)), ("k", Value::Null)]),
        ("a moment", vec![("a", text(1_000_000)), ("c", text(48_454)), ("k", Value::Timestamp { millis: 0 })]),
        ("a double", vec![("a", text(1_000_000)), ("c", text(48_454)), ("k", Value::Double(1.5))]),
        ("an empty array", vec![("a", text(1_000_000)), ("c", text(48_461)), ("k", Value::Array(vec![]))]),
        ("two in an array", vec![("a", text(1_000_000)), ("c", text(48_460)), ("k", Value::Array(vec![Value::Null; 2]))]),
        ("no bytes", vec![("a", text(1_000_000)), ("c", text(48_462)), ("k", Value::Bytes(Bytes::new()))]),
        ("a longer name", vec![("a", text(1_000_000)), ("c", text(48_460)), ("ü", Value::Null)]),
    ] {
        assert_eq!(document(fields), LARGEST_DOCUMENT, "{shape}");
    }
    // The emulator counts none of the 32 bytes of a map that Google's page has.
    let null = || Value::Null;
    for (maps, shape, left) in [
        (1, map(vec![]), 48_461),
        (1, map(vec![("z", null())]), 48_459),
        (1, map(vec![("z", null()), ("y", null())]), 48_456),
        (2, map(vec![("z", map(vec![]))]), 48_459),
        (2, map(vec![("z", map(vec![("q", null())]))]), 48_457),
        (1, Value::Array(vec![map(vec![])]), 48_461),
        (2, Value::Array(vec![map(vec![("z", null())]), map(vec![("z", null())])]), 48_456),
    ] {
        let fields = vec![("a", text(1_000_000)), ("c", text(left)), ("k", shape)];
        assert_eq!(document(fields), LARGEST_DOCUMENT + 32 * maps, "{left}");
    }
    let other = size(Name::hashed(&"x".repeat(26)), &[("a".to_owned(), text(1_000_000)), ("c".to_owned(), text(48_454))]);
    assert_eq!(other, LARGEST_DOCUMENT);
}

#[test]
fn a_command_is_the_five_fields_of_its_value_and_its_source() {
    let name = Name::hashed("frontend_command_inbox");
    let value = |data: &str| {
        format!(
            r#"{{"uid":"u","timestamp":"2026-07-01T12:00:00.123Z","idempotency_key":"0123456789abcdef","version":"1.0","payload":{data}}}"#
        )
    };
    let fields = command(value(r#"{"action":"a"}"#).as_bytes(), "firebase-fallback", name).expect("a document");
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["uid", "timestamp", "idempotency_key", "version", "payload", "source"]);
    assert_eq!(fields[4].1, map(vec![("action", Value::Text("a".into()))]));
    assert_eq!(fields[5].1, Value::Text("firebase-fallback".into()));

    let sized = |bytes: usize| command(value(&format!(r#"{{"action":"{}"}}"#, "x".repeat(bytes))).as_bytes(), "firebase-fallback", name);
    let (mut fits, mut not) = (1, 1_048_576);
    while not - fits > 1 {
        let middle = (fits + not) / 2;
        if sized(middle).is_ok() { fits = middle } else { not = middle }
    }
    assert_eq!(fits, COMMAND_ON_THE_EMULATOR - 32, "one map");
    let Err(Unstorable { path, fault: Fault::Document { actual } }) = sized(not) else { panic!("too large") };
    assert_eq!((path.as_str(), actual), ("", LARGEST_DOCUMENT + 1));
    assert_eq!(command(b"[]", "", name), Err(Fault::NotAnObject.into()));
    // The payload is the first of the twenty levels.
    assert!(command(value(&nested(DEEPEST, false)).as_bytes(), "", name).is_ok());
    let deep = command(value(&nested(DEEPEST + 1, false)).as_bytes(), "", name).expect_err("too deep");
    assert!(deep.path.starts_with("payload.a.a") && deep.to_string().contains("20 levels"), "{deep}");
}

/// The longest `action` of the command above that the emulator took.
const COMMAND_ON_THE_EMULATOR: usize = 1_048_337;

/// A document of the general shape in its largest form.
fn general(extent: &Extent<'_>) -> Fields {
    let text = |bytes: usize| Value::Text("x".repeat(bytes));
    let bytes = |bytes: usize| Value::Bytes(vec![0; bytes].into());
    let header = |bytes: usize| map(vec![("name", text(0)), ("value", Value::Bytes(vec![0; bytes].into()))]);
    let first = |i: usize| if i == 0 { extent.header_bytes } else { 0 };
    let order = format!("!/{}/{:010}/{:020}/{:08x}", extent.topic, 1, 1, 1);
    let time = Value::Timestamp { millis: 0 };
    let fields = vec![
        ("v", Value::Integer(1)),
        ("kind", Value::Text("event".into())),
        ("topic", Value::Text(extent.topic.to_owned())),
        ("partition", Value::Integer(-1)),
        ("order", Value::Text(order)),
        ("id", text(extent.id)),
        ("principal", Value::Text(extent.principal.to_owned())),
        ("key", extent.key.map_or(Value::Null, bytes)),
        ("headers", Value::Array((0..extent.headers).map(|i| header(first(i))).collect())),
        ("value", bytes(extent.value)),
        ("time", time.clone()),
        ("stored_at", time),
        ("not_before", Value::Integer(0)),
        ("maybe_delivered", Value::Bool(true)),
        ("audited", Value::Bool(true)),
        ("attempts", Value::Integer(0)),
        ("instance", text(LONGEST_INSTANCE)),
        ("reason", text(LONGEST_REASON)),
        ("chosen", Value::Integer(0)),
        ("records", Value::Integer(0)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn the_general_shape_is_measured_without_making_it() {
    let event = Extent { topic: "orders", principal: "dev:me", id: 26, key: Some(3), headers: 4, header_bytes: 200, value: 0 };
    let batch = Extent { key: None, headers: 0, header_bytes: 0, ..event };
    let names: Vec<String> = general(&event).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, GENERAL);
    for (extent, on_the_emulator) in [(event, EVENT_ON_THE_EMULATOR), (batch, BATCH_ON_THE_EMULATOR)] {
        let room = usize::try_from(LARGEST_DOCUMENT - size(NAME, &general(&extent))).expect("small");
        assert_eq!(room, on_the_emulator - AUDITED - 32 * extent.headers);
        let fits = |value| general_fits(NAME, &Extent { value, ..extent });
        assert_eq!(fits(room), Ok(()));
        assert_eq!(fits(room + 1), Err(Fault::Document { actual: LARGEST_DOCUMENT + 1 }.into()));
        let key = extent.key.unwrap_or(1);
        assert_eq!(general_room(NAME, &extent), (room + key - 1) as u64);
    }
    let many = Extent { headers: 5_000, ..event };
    assert!(matches!(general_fits(NAME, &many), Err(Unstorable { fault: Fault::Leaves { .. }, .. })));
}

/// The longest `value` of the two documents above that the emulator took, before they had the field `audited`, which takes the
/// last number.
const EVENT_ON_THE_EMULATOR: usize = 1_047_273;
const BATCH_ON_THE_EMULATOR: usize = 1_047_522;
const AUDITED: usize = 9;

/// A value as JSON again.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => json!(null),
        Value::Bool(yes) => json!(yes),
        Value::Integer(integer) => json!(integer),
        Value::Double(double) => json!(double),
        Value::Text(text) => json!(text),
        Value::Bytes(_) | Value::Timestamp { .. } => panic!("JSON has none"),
        Value::Array(values) => values.iter().map(json).collect(),
        Value::Map(fields) => serde_json::Value::Object(fields.iter().map(|(name, value)| (name.clone(), json(value))).collect()),
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let number = prop_oneof![any::<i64>().prop_map(|n| json!(n)), any::<f64>().prop_map(|n| json!(n))];
    let leaf = prop_oneof![Just(json!(null)), any::<bool>().prop_map(|yes| json!(yes)), number, ".{0,8}".prop_map(|text| json!(text))];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
            prop::collection::vec((".{0,6}|__a?__", inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_taken_says_the_same_again(value in any_json(), spaced in any::<bool>()) {
        let sent = if spaced { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.expect("JSON");
        if let Ok(read) = Value::of_json(&sent) {
            prop_assert_eq!(json(&read), value);
        }
    }

    #[test]
    fn no_bytes_at_all_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..64), json in r#"[\[\]{}",:0-9eE.\\ud\-+a ]{0,32}"#) {
        let _ = (Value::of_json(&bytes), Value::of_json(json.as_bytes()));
    }

    #[test]
    fn every_double_is_taken_as_it_is_commonly_written(double in any::<f64>().prop_filter("finite", |double| double.is_finite())) {
        for written in [format!("{double:?}"), format!("{double:e}"), format!("{double:.16e}")] {
            let integer = written.parse::<i64>().is_ok();
            prop_assert!(integer || Value::of_json(written.as_bytes()) == Ok(Value::Double(double)), "{}", written);
        }
    }
}
