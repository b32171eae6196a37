//! The fields that are written are the fields that are counted.

use std::collections::BTreeSet;

use super::*;
use crate::event::Topic;
use crate::gate::Gates;

/// A batch of one record, compressed by something.
fn batch() -> Bytes {
    let mut raw = vec![0; 70];
    raw[8..12].copy_from_slice(&58_i32.to_be_bytes());
    raw[16] = 2;
    raw[21..23].copy_from_slice(&4_i16.to_be_bytes());
    raw[43..57].fill(0xff);
    raw[57..61].copy_from_slice(&1_i32.to_be_bytes());
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    raw.into()
}

#[test]
fn a_row_has_no_field_whose_size_is_not_counted() {
    let (id, topic) = (EventId::restore("1"), Topic::new("t").expect("a topic"));
    let event = Routed::restore(Restored {
        id: id.clone(),
        topic: topic.clone(),
        principal: "dev:me".into(),
        key: None,
        headers: vec![("a".into(), Bytes::from_static(b"1"))],
        value: Bytes::from_static(b"x"),
        timestamp_ms: 0,
    });
    let name = event.name();
    let batch = row::restored_batch(id, (&topic, 0), Some(0), "dev:me".into(), batch(), name).expect("a batch");
    let fields = |content| {
        let owed = Arc::new(Gates::default()).owe(&topic, 0);
        general(&Parcel { content, name, arrival: 1, not_before_ms: 0, maybe: false, owed }, "me", 0)
    };
    let mut written: BTreeSet<String> = fields(Content::Event(Arc::new(event))).into_keys().collect();
    written.extend(fields(batch).into_keys());
    // When it is set aside, and where it is read back.
    written.extend(["reason".to_owned(), AUDITED.to_owned()]);
    assert_eq!(written, document::GENERAL.map(str::to_owned).into());
}
