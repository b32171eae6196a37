//! What a producer may call a batch. Its length, its CRC and its count are made right, so that the fuzzer gets behind them.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::records::{Demands, RecordBatch};

const ANY: Demands = Demands { not_before_ms: i64::MIN, not_after_ms: i64::MAX, keys: false, broker_time: false };
/// Enough for what the fuzzer makes, and little enough for a bomb.
const ROOM: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let _ = RecordBatch::parse(Bytes::copy_from_slice(bytes));
    let Some(fitting) = fitting(bytes) else { return };
    let Ok(batch) = RecordBatch::parse(fitting) else { return };
    let _ = (batch.producer(), batch.needs_look(&ANY), batch.claims(&ANY));
    let stripped = batch.strip();
    assert_eq!(RecordBatch::parse(stripped.bytes().clone()), Ok(stripped.clone()));
    let (checked, read) = (batch.check(&ANY), batch.records(ROOM));
    assert_eq!(checked, stripped.check(&ANY));
    if let Ok(records) = read {
        // Fewer than all: there was no room for the rest, which may be damaged.
        let is_all = records.len() == batch.count() as usize;
        assert!(!is_all || checked.is_ok(), "read to the end, and yet {checked:?}");
    } else {
        assert!(checked.is_err(), "it cannot be read, and yet it was taken");
    }
});

fn fitting(bytes: &[u8]) -> Option<Bytes> {
    let mut bytes = BytesMut::from(bytes);
    if bytes.len() < 61 {
        return None;
    }
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let count: [u8; 4] = bytes[57..61].try_into().expect("four bytes");
    let last = i32::from_be_bytes(count).wrapping_sub(1);
    bytes[23..27].copy_from_slice(&last.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Some(bytes.freeze())
}
