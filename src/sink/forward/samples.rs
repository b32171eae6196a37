//! Record batches for the tests here.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use crate::records::RecordBatch;

/// A batch of nobody in particular with one record, whose value has so many bytes.
pub(super) fn batch(value: usize) -> RecordBatch {
    batch_of(-1, value)
}

/// A batch of a producer; -1: of nobody.
pub(super) fn batch_of(producer_id: i64, value: usize) -> RecordBatch {
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id,
        producer_epoch: if producer_id < 0 { -1 } else { 0 },
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: if producer_id < 0 { -1 } else { 0 },
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::from(vec![7; value])),
        headers: Default::default(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).expect("a record that can be encoded");
    RecordBatch::parse(bytes.freeze()).expect("a batch")
}
