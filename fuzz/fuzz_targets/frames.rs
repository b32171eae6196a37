//! What a client may send: any bytes, in pieces of any size. What the check takes, the decoder takes to the last byte.
#![no_main]

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind};
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::wire::{self, frame::Frames};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let (mut frames, mut buffer) = (Frames::default(), BytesMut::new());
    for bytes in stream.chunks(usize::from(piece) + 1) {
        buffer.extend_from_slice(bytes);
        loop {
            match frames.next(&mut buffer) {
                Ok(Some(frame)) => serve(frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});

fn serve(frame: Bytes) {
    let Ok((header, mut body)) = wire::request_header(frame, wire::flexible_from) else { return };
    if wire::check_request(header.key, header.version, &body).is_err() {
        return;
    }
    let key = ApiKey::try_from(header.key).expect("what is served is known");
    RequestKind::decode(key, &mut body, header.version).expect("what is taken is decoded");
    assert!(body.is_empty(), "{key:?} v{}: {} bytes are left", header.version, body.len());
}
