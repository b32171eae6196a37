//! What is refused for a document's sake, broker up or down, and where the rest of it goes.

use super::*;
use crate::document::LARGEST_DOCUMENT;
use crate::records::RecordBatch;

fn documents() -> Documents {
    Documents {
        source: "firebase-fallback".into(),
        command_collection: "commands".into(),
        collection: "own".into(),
        leases: "own_leases".into(),
    }
}

fn row(shape: Shape) -> RouteConfig {
    RouteConfig { topic: "t".parse().expect("a grant"), shape, max_event_bytes: ByteSize::mib(2), ..RouteConfig::default() }
}

fn before_documents(row: RouteConfig) -> Table {
    Table::new(Config::default(), vec![row]).holding(Holds::Documents(documents()))
}

/// A broker that takes more than a document does.
fn generous() -> Bounds {
    Bounds { max_message_bytes: 8 << 20, ..Bounds::default() }
}

fn sent(table: &Table, event: Event) -> Result<Routed, Refusal> {
    let permit = authorize(&principal(), &event.topic).expect("granted");
    table.route(permit, &generous(), &origin(), vec![event]).pop().expect("one result for one event")
}

fn command(data: &str) -> Result<Routed, Refusal> {
    sent(&before_documents(row(Shape::Command)), event("t", data))
}

fn raw(bytes: usize) -> Event {
    event("t", &"x".repeat(bytes))
}

/// An empty batch with so many bytes of records behind its header, compressed by something.
fn batch(bytes: usize) -> RecordBatch {
    let mut raw = vec![0; bytes];
    raw[8..12].copy_from_slice(&i32::try_from(bytes - 12).expect("small").to_be_bytes());
    raw[16] = 2;
    raw[21..23].copy_from_slice(&4i16.to_be_bytes());
    raw[43..57].fill(0xff);
    raw[57..61].copy_from_slice(&1i32.to_be_bytes());
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::parse(raw.into()).expect("a batch")
}

fn sent_batch(table: &Table, bytes: usize) -> Result<RoutedRecords, Refusal> {
    let permit = authorize(&principal(), &Topic::new("t").expect("a topic")).expect("granted");
    let demands = generous().demands(origin().arrived);
    table.route_records(&permit, &generous(), demands, 0, batch(bytes))
}

#[test]
fn a_command_that_no_document_could_hold_is_refused_at_its_place() {
    for (data, field, told) in [
        (r#"{"action":"a","m":[[1]]}"#, "data.m[0]", "put an object between"),
        (r#"{"action":"a","m":{"n":[1e400]}}"#, "data.m.n[0]", "send it as text"),
        (r#"{"action":"a","id":18446744073709551617}"#, "data.id", "send it as text"),
        (r#"{"action":"a","":1}"#, "data", "give it a name"),
        (r#"{"action":"a","__x__":1}"#, "data.__x__", "another name"),
        (r#"{"action":"a","s":"\ud83d"}"#, "data.s", "both halves"),
        (&format!(r#"{{"action":"a","{}":1}}"#, "n".repeat(1_493)), &format!("data.{}", "n".repeat(192)), "shorter names"),
        (&format!(r#"{{"action":"a","d":{}1{}}}"#, r#"{"d":"#.repeat(20), "}".repeat(20)), &format!("data{}", ".d".repeat(20)), "flatter"),
    ] {
        let Err(Refusal::Invalid { message, field: Some(at) }) = command(data) else { panic!("{data} was taken") };
        assert_eq!(at, field, "{data}");
        assert!(message.starts_with(&format!("`{field}`: ")) && message.contains(told), "{message}");
        // Before a disk it is as it always was.
        assert!(route(Shape::Command, Bounds::default(), event("t", data)).is_ok(), "{data}");
    }
    let deepest = format!(r#"{{"action":"a","d":{}1{}}}"#, r#"{"d":"#.repeat(19), "}".repeat(19));
    for data in [deepest.as_str(), r#"{"action":"a","m":[[1]],"m":1}"#, r#"{"action":"a","n":-0.1,"__":[],"a.b":{}}"#] {
        assert!(command(data).is_ok(), "{data}");
    }
}

#[test]
fn what_is_too_large_for_a_document_is_refused_with_the_limit() {
    let too_large = |result: Result<Routed, Refusal>, limit: u64| match result {
        Err(Refusal::TooLarge { what, actual, limit: said }) => {
            assert!(actual > limit && said == limit, "{what} {actual} {said}");
            what
        }
        other => panic!("{other:?}"),
    };
    let with = |member: &str| format!(r#"{{"action":"a",{member}}}"#);
    let text = |bytes: usize| with(&format!(r#""s":"{}""#, "x".repeat(bytes)));
    assert!(command(&text(1_048_000)).is_ok());
    assert!(too_large(command(&text(1_048_400)), LARGEST_DOCUMENT).contains("command as a document"));
    assert!(too_large(command(&text(1_048_488)), 1_048_487).contains("text"));
    assert!(too_large(command(&with(&format!(r#""a":[{}1]"#, "1,".repeat(10_000)))), 10_000).contains("values"));

    for shape in [Shape::Raw, Shape::Telemetry] {
        let table = before_documents(row(shape));
        let sized = |bytes: usize| sent(&table, event("t", &format!(r#"{{"url":"{}"}}"#, "x".repeat(bytes))));
        assert!(sized(1_046_000).is_ok());
        assert!(too_large(sized(1_048_000), LARGEST_DOCUMENT).contains("event as a document"));
    }
    let table = before_documents(row(Shape::Raw));
    assert!(sent_batch(&table, 1_047_500).is_ok());
    let Err(refused @ Refusal::TooLarge { limit: LARGEST_DOCUMENT, .. }) = sent_batch(&table, 1_048_000) else { panic!("taken") };
    assert!(refused.to_string().contains("record batch as a document") && refused.is_for_good());
}

#[test]
fn a_route_without_an_inbox_or_before_a_disk_has_no_documents() {
    let nowhere = before_documents(RouteConfig { inbox: false, ..row(Shape::Raw) });
    let disk = Table::new(Config::default(), vec![row(Shape::Raw)]).holding(Holds::Anything);
    for table in [nowhere, disk] {
        assert_eq!(sent(&table, raw(1_500_000)).expect("routed").kept(), None);
        assert_eq!(sent_batch(&table, 1_500_000).expect("routed").collection(), None);
    }
}

#[test]
fn each_goes_to_its_collection_and_no_batch_to_one_of_commands() {
    let general = |name: &str| Kept::General { collection: name.into() };
    let commands = |name: &str| Kept::Command { collection: name.into() };
    for (shape, named, event_to, batch_to) in [
        (Shape::Raw, None, general("own"), "own"),
        (Shape::Telemetry, Some("mine"), general("mine"), "mine"),
        (Shape::Command, None, commands("commands"), "own"),
        (Shape::Command, Some("mine"), commands("mine"), "own"),
    ] {
        let table = before_documents(RouteConfig { collection: named.map(str::to_owned), ..row(shape) });
        let routed = sent(&table, event("t", r#"{"action":"a"}"#)).expect("routed");
        assert_eq!(routed.kept(), Some(&event_to));
        let batch = sent_batch(&table, 100).expect("routed");
        assert_eq!((batch.collection().map(AsRef::as_ref), batch.stripped().collection()), (Some(batch_to), batch.collection()));
    }
}

#[test]
fn what_a_document_has_room_for_is_routed() {
    let topic = Topic::new("t").expect("a topic");
    let table = before_documents(row(Shape::Raw));
    let room = table.room(&topic, &generous(), &principal(), 100).expect("a row is for it");
    assert!((1_046_000..LARGEST_DOCUMENT).contains(&room), "{room}");
    let mut filled = raw(usize::try_from(room).expect("small") - 10);
    filled.key = Some(Bytes::from_static(b"0123456789"));
    filled.headers = (0..4).map(|i| (format!("x-{i}"), Bytes::from("y".repeat(12)))).collect();
    assert!(sent(&table, filled).is_ok());
    let small = Bounds { max_message_bytes: 2_000, ..Bounds::default() };
    let plain = Table::new(Config::default(), vec![row(Shape::Raw)]);
    assert_eq!(table.room(&topic, &small, &principal(), 100), plain.room(&topic, &small, &principal(), 100));
}

#[test]
fn collections_have_names_that_firestore_takes_and_commands_share_theirs_with_nothing() {
    let named = |shape, name: &str| RouteConfig { collection: Some(name.to_owned()), ..row(shape) };
    for name in ["", "a/b", ".", "..", "__x__", "__", "ü", "a b", "a`b", &"x".repeat(201)] {
        let found = mistakes(&[named(Shape::Raw, name)]);
        assert!(matches!(found.as_slice(), [(key, _)] if key == "[0].collection"), "{name}: {found:?}");
    }
    for name in ["mine", "__x", "...", "A-b_c.d", &"x".repeat(200)] {
        assert_eq!(mistakes(&[named(Shape::Raw, name)]), [], "{name}");
    }
    let clashes = |rows: &[RouteConfig]| documents().mistakes(rows).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(clashes(&[row(Shape::Raw), row(Shape::Command), named(Shape::Raw, "mine"), named(Shape::Command, "theirs")]), [""; 0]);
    assert_eq!(clashes(&[named(Shape::Raw, "commands")]), ["[0].collection"]);
    assert_eq!(clashes(&[named(Shape::Command, "own")]), ["[0].collection"]);
    assert_eq!(clashes(&[named(Shape::Raw, "x"), row(Shape::Raw), named(Shape::Command, "x")]), ["[0].collection", "[2].collection"]);
    for shape in [Shape::Raw, Shape::Command, Shape::Telemetry] {
        let [(key, problem)] = &documents().mistakes(&[named(shape, "own_leases")])[..] else { panic!("one mistake") };
        assert!(key == "[0].collection" && problem.contains("leases"), "{problem}");
    }
    assert_eq!(clashes(&[RouteConfig { inbox: false, ..named(Shape::Raw, "commands") }]), [""; 0]);
}
