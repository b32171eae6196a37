//! What a broker may answer: a key, a version, and any body.
#![no_main]

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ResponseKind};
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::wire;

const KEYS: [i16; 7] = [0, 3, 17, 18, 22, 32, 36];

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (key, version, bytes) = input;
    let (key, version) = (KEYS[usize::from(key) % KEYS.len()], i16::from(version % 14));
    let _ = wire::response_header(Bytes::copy_from_slice(bytes), version % 2 == 0);
    if wire::check_response(key, version, bytes).is_err() {
        return;
    }
    let (key, mut body) = (ApiKey::try_from(key).expect("what is asked is known"), Bytes::copy_from_slice(bytes));
    ResponseKind::decode(key, &mut body, version).expect("what is taken is decoded");
    assert!(body.is_empty(), "{key:?} v{version}: {} bytes are left", body.len());
});
