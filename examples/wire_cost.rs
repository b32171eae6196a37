//! What the checks of Kafka's wire cost: `cargo run --release --example wire_cost`.
//!
//! What always holds: one thread, no I/O, the fastest of a fixed number of rounds on the same bytes. A batch has 100 records
//! of 1 KiB that compress about as well as JSON does.

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use sluicegate::records::{Demands, RecordBatch};
use sluicegate::wire;

const RECORDS: i32 = 100;
const NOW: i64 = 1_700_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let kinds = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    writeln!(out, "{:8} {:>10} {:>12} {:>12} {:>12}", "batch", "bytes", "parse", "check", "strip")?;
    for kind in kinds {
        let bytes = batch(kind)?;
        let batch = RecordBatch::parse(bytes.clone())?;
        let demands = Demands { not_before_ms: NOW, not_after_ms: NOW, keys: true, broker_time: false };
        let parse = time(1000, || RecordBatch::parse(black_box(bytes.clone())).is_ok());
        let check = time(200, || black_box(&batch).check(&demands).is_ok());
        let strip = time(1000, || black_box(&batch).strip().producer().is_none());
        let kind = format!("{kind:?}");
        writeln!(out, "{kind:8} {:>10} {parse:>12.2?} {check:>12.2?} {strip:>12.2?}", bytes.len())?;
    }
    for partitions in [1, 100, 10_000] {
        let body = produce(partitions);
        let check = time(200, || wire::check_request(0, 3, black_box(&body)).is_ok());
        writeln!(out, "a Produce body of {partitions} partitions: {check:.2?}")?;
    }
    Ok(())
}

/// The fastest of so many rounds, each of which must succeed: on a busy machine the mean is the neighbours'.
fn time(rounds: u32, mut round: impl FnMut() -> bool) -> Duration {
    let once = |_| {
        let start = Instant::now();
        assert!(black_box(round()), "what is measured does what it should");
        start.elapsed()
    };
    (0..rounds).map(once).min().unwrap_or_default()
}

fn batch(compression: Compression) -> Result<Bytes, Box<dyn Error>> {
    let record = |index: i32| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 1,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(index),
        sequence: index,
        timestamp: NOW,
        key: Some(format!("key-{index}").into()),
        value: Some(value(index)),
        headers: [("trace".into(), Some(Bytes::from_static(b"0123456789abcdef")))].into_iter().collect(),
    };
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let compress = |plain: &mut BytesMut, out: &mut BytesMut, kind| {
        out.put_slice(&compressed(plain, kind)?);
        Ok(())
    };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode_with_custom_compression(
        &mut bytes,
        &records,
        &RecordEncodeOptions { version: 2, compression },
        Some(compress),
    )?;
    Ok(bytes.freeze())
}

fn value(index: i32) -> Bytes {
    let mut value = String::new();
    let mut number = index.unsigned_abs();
    while value.len() < 1024 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        value.push_str(&format!("{{\"id\":{number},\"state\":\"open\"}},"));
    }
    value.into()
}

fn compressed(plain: &[u8], compression: Compression) -> std::io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(plain)?;
            gzip.finish()
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).map_err(std::io::Error::other),
        Compression::Lz4 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            lz4.write_all(plain)?;
            lz4.finish().map_err(std::io::Error::other)
        }
        Compression::Zstd => zstd::encode_all(plain, 3),
    }
}

/// A Produce v3 body: one topic, so many partitions, 100 bytes of records each.
fn produce(partitions: i32) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(-1);
    body.put_i16(-1);
    body.put_i32(30_000);
    body.put_i32(1);
    body.put_i16(1);
    body.put_slice(b"t");
    body.put_i32(partitions);
    for partition in 0..partitions {
        body.put_i32(partition);
        body.put_i32(100);
        body.put_bytes(0, 100);
    }
    body.freeze()
}
