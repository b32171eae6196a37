//! Record batches as a producer makes them.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use sluicegate::records::RecordBatch;

/// Who made a batch: id, epoch, and the sequence of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

/// A batch of nobody in particular (producer id -1), with these values.
pub fn batch<V: AsRef<[u8]>>(values: &[V]) -> RecordBatch {
    parse(bytes(None, values))
}

/// A batch of an idempotent producer.
pub fn batch_of<V: AsRef<[u8]>>(producer: Producer, values: &[V]) -> RecordBatch {
    parse(bytes(Some(producer), values))
}

fn parse(bytes: Bytes) -> RecordBatch {
    RecordBatch::parse(bytes).expect("a batch")
}

/// A batch of one record with this key, so many milliseconds ahead of now.
pub fn dated(producer: Option<Producer>, key: Option<&str>, ahead_ms: i64, value: &str) -> RecordBatch {
    parse(made(producer, key, ahead_ms, &[value]))
}

/// The same as bytes.
pub fn bytes<V: AsRef<[u8]>>(producer: Option<Producer>, values: &[V]) -> Bytes {
    made(producer, None, 0, values)
}

fn made<V: AsRef<[u8]>>(producer: Option<Producer>, key: Option<&str>, ahead_ms: i64, values: &[V]) -> Bytes {
    let producer = producer.unwrap_or(Producer { id: -1, epoch: -1, sequence: -1 });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
    let record = |(at, value): (usize, &V)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        timestamp_type: TimestampType::Creation,
        offset: at as i64,
        sequence: producer.sequence.wrapping_add(at as i32),
        timestamp: now.as_millis() as i64 + ahead_ms,
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_ref())),
        headers: [(StrBytes::from_static_str("made-by"), Some(Bytes::from_static(b"a test")))].into_iter().collect(),
    };
    let records: Vec<Record> = values.iter().enumerate().map(record).collect();
    let mut buffer = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut buffer, &records, &options).expect("records that can be encoded");
    buffer.freeze()
}
