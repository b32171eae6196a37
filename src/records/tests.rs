//! Real batches, each compression, and what is wrong with them.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::records::{self as official, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_700_000_000_000;

/// Takes anything that can be read.
const ANY: Demands = Demands { not_before_ms: i64::MIN, not_after_ms: i64::MAX, keys: false, broker_time: false };

fn record(index: i32, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> official::Record {
    official::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 77,
        producer_epoch: 3,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(index),
        sequence: 10 + index,
        timestamp,
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers: [("trace".into(), Some(Bytes::from_static(b"abc"))), ("none".into(), None)].into_iter().collect(),
    }
}

fn three() -> Vec<official::Record> {
    let long = b"a value that says the same, the same, the same, the same".repeat(40);
    vec![record(0, NOW, Some(b"k0"), Some(b"v0")), record(1, NOW + 5, None, Some(&long)), record(2, NOW - 5, Some(b""), None)]
}

const ALL: [Compression; 5] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn encode(records: &[official::Record], compression: Compression) -> Bytes {
    encode_with(records, compression, compressed)
}

fn encode_with(records: &[official::Record], compression: Compression, with: fn(&[u8], Compression) -> Vec<u8>) -> Bytes {
    let code = match compression {
        Compression::None => official::Compression::None,
        Compression::Gzip => official::Compression::Gzip,
        Compression::Snappy => official::Compression::Snappy,
        Compression::Lz4 => official::Compression::Lz4,
        Compression::Zstd => official::Compression::Zstd,
    };
    let compressor = |plain: &mut BytesMut, out: &mut BytesMut, _| {
        out.put_slice(&with(plain, compression));
        Ok(())
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: code };
    RecordBatchEncoder::encode_with_custom_compression(&mut bytes, records, &options, Some(compressor)).unwrap();
    bytes.freeze()
}

fn compressed(plain: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => plain.to_vec(),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(plain).unwrap();
            gzip.finish().unwrap()
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        Compression::Lz4 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            lz4.write_all(plain).unwrap();
            lz4.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(plain, 3).unwrap(),
    }
}

fn xerial(plain: &[u8], _: Compression) -> Vec<u8> {
    let mut framed = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    for block in plain.chunks(100) {
        let block = compressed(block, Compression::Snappy);
        framed.put_i32(block.len() as i32);
        framed.put_slice(&block);
    }
    framed
}

/// A batch by hand: a header that fits, around a body that need not.
fn by_hand(attributes: i16, count: i32, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i64(0);
    bytes.put_i32((49 + body.len()) as i32);
    bytes.put_i32(-1);
    bytes.put_i8(2);
    bytes.put_u32(0);
    bytes.put_i16(attributes);
    bytes.put_i32(count - 1);
    bytes.put_i64(NOW);
    bytes.put_i64(NOW);
    bytes.put_i64(-1);
    bytes.put_i16(-1);
    bytes.put_i32(-1);
    bytes.put_i32(count);
    bytes.put_slice(body);
    changed(&bytes.freeze(), |_| {})
}

/// The bytes with a change, and a CRC that fits it.
fn changed(bytes: &Bytes, change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::from(&bytes[..]);
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn parsed(bytes: &Bytes) -> RecordBatch {
    RecordBatch::parse(bytes.clone()).unwrap()
}

fn malformed(bytes: Bytes) -> &'static str {
    match RecordBatch::parse(bytes) {
        Err(BadBatch::Malformed(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_says_what_its_encoder_was_told() {
    for compression in ALL {
        let bytes = encode(&three(), compression);
        let batch = parsed(&bytes);
        assert_eq!((batch.count(), batch.compression(), batch.bytes()), (3, compression, &bytes));
        assert_eq!((batch.base_timestamp_ms(), batch.max_timestamp_ms()), (NOW - 5, NOW + 5));
        assert_eq!(batch.producer(), Some(Producer { id: 77, epoch: 3, first: 10, last: 12 }));
        assert_eq!(batch.crc(), crc32c::crc32c(&bytes[21..]));
    }
}

#[test]
fn records_are_read_as_they_were_written_whatever_compresses_them() {
    let mut batches: Vec<_> = ALL.map(|compression| encode(&three(), compression)).into();
    batches.push(encode_with(&three(), Compression::Snappy, xerial));
    for bytes in batches {
        let batch = parsed(&bytes);
        assert_eq!(batch.check(&ANY), Ok(()), "{:?}", batch.compression());
        let records = batch.records(1 << 20).unwrap();
        assert_eq!(records.len(), 3);
        for (read, written) in records.iter().zip(three()) {
            assert_eq!((read.timestamp_ms, &read.key, &read.value), (written.timestamp, &written.key, &written.value));
            let headers: Vec<_> =
                written.headers.into_iter().map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), value)).collect();
            assert_eq!(read.headers, headers);
        }
    }
}

#[test]
fn only_so_many_records_are_read_as_fit_the_limit() {
    for compression in ALL {
        let batch = parsed(&encode(&three(), compression));
        assert_eq!(batch.records(10).unwrap().len(), 0, "{compression:?}");
        assert_eq!(batch.records(1000).unwrap().len(), 1, "{compression:?}");
    }
}

#[test]
fn strip_changes_the_producer_and_the_crc_and_nothing_else() {
    let bytes = encode(&three(), Compression::Zstd);
    let stripped = parsed(&bytes).strip();
    assert_eq!(parsed(stripped.bytes()), stripped, "it parses: the CRC is right");
    assert_eq!(stripped.producer(), None);
    let is_producers = |at: &usize| (17..21).contains(at) || (43..57).contains(at);
    let differ: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != stripped.bytes()[*at]).collect();
    assert!(differ.iter().all(is_producers), "{differ:?}");
    assert_eq!(stripped.bytes()[43..57], [0xff; 14]);
    assert_eq!(stripped.strip(), stripped);
}

#[test]
fn the_sequence_of_the_last_record_wraps_to_zero() {
    for (first, last) in [(0, 2), (i32::MAX - 2, i32::MAX), (i32::MAX - 1, 0), (i32::MAX, 1)] {
        let bytes = changed(&encode(&three(), Compression::None), |bytes| bytes[53..57].copy_from_slice(&first.to_be_bytes()));
        assert_eq!(parsed(&bytes).producer().unwrap().last, last, "from {first}");
    }
}

#[test]
fn what_clients_without_a_producer_id_send_is_nobodys() {
    for (epoch, sequence) in [(0_i16, 0_i32), (-1, 0), (-1, -1)] {
        let bytes = changed(&encode(&three(), Compression::None), |bytes| {
            bytes[43..51].fill(0xff);
            bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
            bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
        });
        assert_eq!(parsed(&bytes).producer(), None);
    }
}

#[test]
fn the_base_offset_and_the_leader_epoch_are_nobodys_business() {
    let mut bytes = BytesMut::from(&encode(&three(), Compression::None)[..]);
    bytes[..8].fill(0x5a);
    bytes[12..16].fill(0x5a);
    parsed(&bytes.freeze());
}

#[test]
fn a_header_that_cannot_be_is_refused() {
    let good = encode(&three(), Compression::None);
    let with = |at: usize, field: &[u8]| changed(&good, |bytes| bytes[at..at + field.len()].copy_from_slice(field));
    assert_eq!(RecordBatch::parse(with(16, &[0])), Err(BadBatch::OldFormat));
    assert_eq!(RecordBatch::parse(with(16, &[1])), Err(BadBatch::OldFormat));
    assert_eq!(RecordBatch::parse(with(21, &[0, 1 << 4])), Err(BadBatch::Transactional));
    assert_eq!(RecordBatch::parse(with(21, &[0, 1 << 5])), Err(BadBatch::Transactional));
    let mut flipped = BytesMut::from(&good[..]);
    flipped[70] ^= 1;
    assert_eq!(RecordBatch::parse(flipped.freeze()), Err(BadBatch::Crc));
    let cases: [(usize, &[u8], &str); 10] = [
        (16, &[3], "magic"),
        (21, &[0, 5], "compression"),
        (21, &[0, 1 << 3], "stamped"),
        (57, &[0, 0, 0, 0], "no records"),
        (57, &[0xff; 4], "no records"),
        (57, &[0, 0, 0, 4], "offsets"),
        (23, &[0, 0, 0, 3], "offsets"),
        (43, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], "negative"),
        (51, &[0xff, 0xff], "without"),
        (53, &[0xff; 4], "without"),
    ];
    for (at, field, what) in cases {
        assert!(malformed(with(at, field)).contains(what), "{at} {field:?}");
    }
}

#[test]
fn it_is_one_batch_and_all_of_it() {
    let good = encode(&three(), Compression::None);
    for length in 0..good.len() {
        malformed(good.slice(..length));
    }
    assert!(malformed([&good[..], &good[..]].concat().into()).contains("follows"));
    assert!(malformed([&good[..], &[0]].concat().into()).contains("follows"));
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused_before_a_look() {
    assert!(malformed(by_hand(0, 3, &[0; 20])).contains("cannot hold"));
    parsed(&by_hand(0, 3, &[0; 21]));
    for compression in 1..=4 {
        assert!(malformed(by_hand(compression, i32::MAX, &[0; 21])).contains("cannot hold"));
    }
}

#[test]
fn only_demands_that_any_record_meets_need_no_look() {
    let batch = parsed(&encode(&three(), Compression::None));
    let stamped = Demands { not_before_ms: 0, not_after_ms: 0, broker_time: true, ..ANY };
    // Kafka's defaults, counted from a clock: Long.MAX_VALUE before it, and after it.
    let defaults = Demands { not_before_ms: NOW.wrapping_sub(i64::MAX), not_after_ms: NOW.saturating_add(i64::MAX), ..ANY };
    for demands in [ANY, stamped, defaults] {
        assert!(!batch.needs_look(&demands), "{demands:?}");
        assert!(batch.claims(&demands) && batch.check(&demands).is_ok(), "{demands:?}");
    }
    let hour = Demands { not_after_ms: NOW + 3_600_000, ..ANY };
    for demands in [hour, Demands { not_before_ms: 0, ..ANY }, Demands { keys: true, ..stamped }] {
        assert!(batch.needs_look(&demands), "{demands:?}");
    }
    assert!(batch.claims(&hour) && !batch.claims(&Demands { not_after_ms: NOW, ..ANY }));
}

#[test]
fn demands_are_held_against_every_record() {
    for compression in ALL {
        let batch = parsed(&encode(&three(), compression));
        assert_eq!(batch.check(&Demands { not_before_ms: NOW - 5, not_after_ms: NOW + 5, ..ANY }), Ok(()));
        let late = Demands { not_after_ms: NOW + 4, ..ANY };
        let refused = BadRecord::Time { index: 1, at_ms: NOW + 5, not_before_ms: i64::MIN, not_after_ms: NOW + 4 };
        assert_eq!(batch.check(&late), Err(refused));
        assert!(matches!(batch.check(&Demands { not_before_ms: NOW, ..ANY }), Err(BadRecord::Time { index: 2, .. })));
        assert_eq!(batch.check(&Demands { broker_time: true, ..late }), Ok(()));
        assert_eq!(batch.check(&Demands { keys: true, ..ANY }), Err(BadRecord::NoKey { index: 1 }));
    }
}

#[test]
fn a_header_that_claims_other_times_than_its_records_convinces_nobody() {
    let honest = encode(&three(), Compression::Lz4);
    let bytes = changed(&honest, |bytes| bytes[35..43].copy_from_slice(&NOW.to_be_bytes()));
    let (batch, demands) = (parsed(&bytes), Demands { not_before_ms: NOW - 5, not_after_ms: NOW + 1, ..ANY });
    assert!(batch.claims(&demands) && batch.needs_look(&demands));
    assert!(matches!(batch.check(&demands), Err(BadRecord::Time { index: 1, .. })));
}

#[test]
fn a_record_without_a_time_is_taken_as_brokers_take_it() {
    let batch = parsed(&encode(&[record(0, -1, None, None)], Compression::None));
    assert_eq!(batch.check(&Demands { not_before_ms: NOW, not_after_ms: NOW, ..ANY }), Ok(()));
}

#[test]
fn a_record_that_lies_about_its_bytes_is_damaged() {
    // length 6, attributes, time, offset, no key, empty value, no headers
    let good = [12, 0, 0, 0, 1, 0, 0];
    assert_eq!(parsed(&by_hand(0, 1, &good)).check(&ANY), Ok(()));
    let cases: [(&[u8], &str); 14] = [
        (&[14, 0, 0, 0, 1, 0, 0], "longer than its batch"),
        (&[14, 0, 0, 0, 1, 0, 0, 0], "longer than what is in it"),
        (&[10, 0, 0, 0, 1, 0, 0], "shorter"),
        (&[11, 0, 0, 0, 1, 0, 0], "negative"),
        (&[12, 0, 0, 2, 1, 0, 0], "offset"),
        (&[12, 0, 0, 0, 1, 0, 0, 0], "follows"),
        (&[12, 0, 0, 0, 3, 0, 0], "negative"),
        (&[12, 0, 0, 0, 1, 2, 0], "shorter"),
        (&[12, 0, 0, 0, 1, 4, 0], "beyond"),
        (&[12, 0, 0, 0, 1, 0, 1], "negative"),
        (&[12, 0, 0, 0, 1, 0, 2], "more headers"),
        (&[18, 0, 0, 0, 1, 0, 2, 1, 0, 0], "no name"),
        (&[0xfe, 0xff, 0xff, 0xff, 0x1f, 0, 0], "too large"),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "too long"),
    ];
    for (body, expected) in cases {
        let Err(BadRecord::Damaged { what, .. }) = parsed(&by_hand(0, 1, body)).check(&ANY) else { panic!("{body:?} is taken") };
        assert!(what.contains(expected), "{body:?}: {what}");
        assert!(parsed(&by_hand(0, 1, body)).records(1000).is_err(), "{body:?}");
    }
    let second = [good, [12, 0, 0, 0, 1, 0, 0]].concat();
    assert!(matches!(parsed(&by_hand(0, 2, &second)).check(&ANY), Err(BadRecord::Damaged { index: 1, .. })), "offsets count up");
}

#[test]
fn what_is_not_compressed_as_it_says_is_damaged() {
    for compression in 1..=4 {
        for body in [&[][..], &[0], &[0xff; 40], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f0"] {
            let batch = parsed(&by_hand(compression, 1, body));
            assert!(matches!(batch.check(&ANY), Err(BadRecord::Damaged { .. })), "{compression} {body:?}");
        }
    }
}

#[test]
fn what_brokers_do_not_take_is_not_taken_for_them() {
    let linked = |plain: &[u8], _| {
        let info = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
        let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        lz4.write_all(plain).unwrap();
        lz4.finish().unwrap()
    };
    let batch = parsed(&encode_with(&three(), Compression::Lz4, linked));
    assert!(matches!(batch.check(&ANY), Err(BadRecord::Damaged { index: 0, .. })));
}

#[test]
fn a_zstd_window_above_the_bound_is_refused() {
    let wide = |plain: &[u8], _| {
        let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
        zstd.window_log(24).unwrap();
        zstd.write_all(plain).unwrap();
        zstd.finish().unwrap()
    };
    let batch = parsed(&encode_with(&three(), Compression::Zstd, wide));
    assert!(matches!(batch.check(&ANY), Err(BadRecord::Damaged { index: 0, .. })));
}

#[test]
fn a_bomb_is_left_where_the_bound_is() {
    // One record whose value goes on for ever: as long as it says, and more than is taken.
    let value = vec![0; MAX_DECOMPRESSED];
    let batch = parsed(&encode(&[record(0, NOW, None, Some(&value))], Compression::Zstd));
    assert!(batch.bytes().len() < 64 * 1024);
    assert!(matches!(batch.check(&ANY), Err(BadRecord::Damaged { index: 0, .. })));
}

fn any_records() -> impl Strategy<Value = Vec<official::Record>> {
    let field = || prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let one = (-1000_i64..1000, field(), field()).prop_map(|(after, key, value)| record(0, NOW + after, key.as_deref(), value.as_deref()));
    prop::collection::vec(one, 1..40).prop_map(|all| {
        let numbered = |(index, record): (usize, official::Record)| {
            let index = index as i32;
            official::Record { offset: i64::from(index), sequence: 10 + index, ..record }
        };
        all.into_iter().enumerate().map(numbered).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_an_encoder_makes_is_read_back_stripped_or_not(records in any_records(), compression in prop::sample::select(&ALL[..])) {
        let batch = parsed(&encode(&records, compression));
        for batch in [batch.strip(), batch] {
            prop_assert_eq!(RecordBatch::parse(batch.bytes().clone()), Ok(batch.clone()));
            prop_assert_eq!(batch.check(&ANY), Ok(()));
            let read = batch.records(usize::MAX).unwrap();
            prop_assert_eq!(read.len(), records.len());
            for (read, written) in read.iter().zip(&records) {
                prop_assert_eq!((&read.key, &read.value, read.timestamp_ms), (&written.key, &written.value, written.timestamp));
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic_and_both_walks_agree(
        compression in prop::sample::select(&ALL[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        right_crc in any::<bool>(),
    ) {
        let mut bytes = BytesMut::from(&encode(&three(), compression)[..]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = bytes.freeze();
        let bytes = if right_crc { changed(&bytes, |_| {}) } else { bytes };
        if let Ok(batch) = RecordBatch::parse(bytes) {
            let _ = batch.producer();
            let read = batch.records(usize::MAX).map(|records| records.len());
            let checked = batch.check(&ANY).map(|()| batch.count() as usize);
            prop_assert_eq!(read, checked);
            prop_assert_eq!(batch.strip().records(usize::MAX), batch.records(usize::MAX));
        }
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = RecordBatch::parse(bytes.into());
    }
}
