//! Writes what the fuzzers start from: one message of each version, one batch of each compression, and OTLP
//! requests of every signal.

use std::error::Error;
use std::fs;
use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use sluicegate_fuzz::{otlp, wire};

#[path = "../../src/wire/schema/tests.rs"]
mod messages;
#[allow(dead_code)]
#[path = "../../src/otlp/tests/build.rs"]
mod requests;

fn main() -> Result<(), Box<dyn Error>> {
    for target in ["frames", "responses", "batches", "otlp_check", "otlp_cut"] {
        fs::create_dir_all(format!("corpus/{target}"))?;
    }
    for message in messages::all() {
        let (target, seed) = if message.is_request { ("frames", request(&message)) } else { ("responses", response(&message)) };
        fs::write(format!("corpus/{target}/{}-{}-{}", message.key, message.version, seed.len()), seed)?;
    }
    for kind in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        fs::write(format!("corpus/batches/{kind:?}"), batch(kind)?)?;
    }
    for (place, signal) in (0u8..).zip([otlp::Signal::Traces, otlp::Signal::Metrics, otlp::Signal::Logs]) {
        for seed in 0..20 {
            let request = requests::Dice(seed).request(signal);
            // What the targets are told besides: the signal; how, and a limit. The slice is the rest.
            fs::write(format!("corpus/otlp_check/{place}-{seed}"), [&[place, seed as u8 & 1], &request[..]].concat())?;
            fs::write(format!("corpus/otlp_cut/{place}-{seed}"), [&[place, seed as u8, 4, 0, 1], &request[..]].concat())?;
        }
    }
    Ok(())
}

/// A piece's length, and a frame.
fn request(message: &messages::Message) -> BytesMut {
    let mut header = BytesMut::new();
    header.put_i16(message.key);
    header.put_i16(message.version);
    header.put_i32(1);
    header.put_slice(&[0, 1, b'c']);
    if wire::flexible_from(message.key).is_some_and(|from| message.version >= from) {
        header.put_u8(0);
    }
    let mut seed = BytesMut::from(&[255][..]);
    seed.put_i32((header.len() + message.body.len()) as i32);
    seed.put_slice(&header);
    seed.put_slice(&message.body);
    seed
}

/// The place of the key in the target's list, a version, and a body.
fn response(message: &messages::Message) -> BytesMut {
    let place = [0, 3, 17, 18, 22, 32, 36].iter().position(|key| *key == message.key).expect("every answer has its place");
    let mut seed = BytesMut::from(&[place as u8, message.version as u8][..]);
    seed.put_slice(&message.body);
    seed
}

fn batch(compression: Compression) -> Result<BytesMut, Box<dyn Error>> {
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
        timestamp: 1_700_000_000_000,
        key: Some("key".into()),
        value: Some("a value, a value, a value, a value".into()),
        headers: [("trace".into(), Some(Bytes::from_static(b"0123")))].into_iter().collect(),
    };
    let records: Vec<_> = (0..3).map(record).collect();
    let compress = |plain: &mut BytesMut, out: &mut BytesMut, kind| {
        out.put_slice(&compressed(plain, kind)?);
        Ok(())
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode_with_custom_compression(&mut bytes, &records, &options, Some(compress))?;
    Ok(bytes)
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
