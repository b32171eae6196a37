//! The walker held against the official shapes: `kafka-protocol`'s encoders say what must be taken, its decoders what must
//! never be let through.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

use super::*;
use schema::tests::{Message, all};

#[test]
fn every_message_of_every_version_is_taken_as_it_is_encoded() {
    for message in all() {
        assert_eq!(message.check(&message.body), Ok(()), "{message}");
    }
}

#[test]
fn a_message_cut_off_anywhere_or_with_a_byte_more_is_refused() {
    for message in all() {
        for cut in 0..message.body.len() {
            assert!(message.check(&message.body[..cut]).is_err(), "{message} cut at {cut}");
        }
        let longer = [&message.body[..], &[0]].concat();
        assert!(message.check(&longer).is_err(), "{message} with a byte more");
    }
}

/// A decoder reserves by these before it reads on. What is refused needs no proof; what is taken must be a value that the
/// decoder takes too, which it does here only if it did not reserve gigabytes.
#[test]
fn a_huge_count_at_any_place_is_refused_or_harmless() {
    let huge: [&[u8]; 5] =
        [&[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0xff, 0xff, 0x7f], &[0x7f, 0xff], &[0xff; 5]];
    for message in all() {
        for at in 0..message.body.len() {
            for count in huge {
                let mut body = message.body.to_vec();
                let end = (at + count.len()).min(body.len());
                body[at..end].copy_from_slice(&count[..end - at]);
                message.decodes_if_taken(&body);
                message.decodes_if_taken(&[&message.body[..at], count, &message.body[at..]].concat());
            }
        }
    }
}

#[test]
fn what_is_taken_is_decoded_to_the_last_byte_whatever_was_changed() {
    const CHANGES: u32 = 2_000;
    for message in all() {
        let config = Config { cases: CHANGES, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha));
        let length = message.body.len();
        let changes = prop::collection::vec((0..=length, any::<u8>(), 0..4_u8), 1..4);
        let changed = |changes: Vec<(usize, u8, u8)>| {
            let mut body = message.body.to_vec();
            for (at, byte, how) in changes {
                let at = at.min(body.len());
                match how {
                    0 => body.insert(at, byte),
                    1 if at < body.len() => drop(body.remove(at)),
                    2 if at < body.len() => body[at] = body[at].wrapping_add(byte % 5).wrapping_sub(2),
                    _ if at < body.len() => body[at] = byte,
                    _ => body.push(byte),
                }
            }
            message.decodes_if_taken(&body);
            Ok(())
        };
        runner.run(&changes, changed).unwrap();
    }
}

#[test]
fn what_is_not_served_is_refused() {
    for (key, version) in [(0, 2), (0, 12), (0, 13), (1, 3), (3, 13), (3, -1), (8, 1), (18, 5), (24, 0), (i16::MAX, 0), (-1, -1)] {
        assert!(check_request(key, version, &[]).is_err(), "{key} {version}");
        assert!(check_response(key, version, &[]).is_err(), "{key} {version}");
    }
}

#[test]
fn no_more_elements_are_taken_than_a_decoder_can_hold() {
    let named = |topics: i32| {
        let mut body = BytesMut::new();
        body.put_i32(topics);
        (0..topics).for_each(|_| body.put_i16(0));
        body
    };
    let most = MAX_REQUEST_ELEMENTS as i32;
    assert_eq!(check_request(3, 0, &named(most)), Ok(()));
    assert!(check_request(3, 0, &named(most + 1)).is_err());
}

#[test]
fn a_tagged_field_is_as_long_as_it_says() {
    // SaslAuthenticate v2 has no tagged fields, ApiVersions' answer has number 1 of eight bytes.
    let answer = |tags: &[u8]| [&[0, 0, 1, 0, 0, 0, 0][..], tags].concat();
    let taken: [&[u8]; 3] = [&[0], &[1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0], &[1, 9, 1, 0]];
    for tags in taken {
        assert_eq!(check_response(18, 3, &answer(tags)), Ok(()), "{tags:?}");
    }
    let refused: [&[u8]; 4] =
        [&[1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0], &[1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[1, 9, 2, 0], &[0xff, 0xff, 0xff, 0xff, 0x0f]];
    for tags in refused {
        assert!(check_response(18, 3, &answer(tags)).is_err(), "{tags:?}");
    }
}

#[test]
fn headers_of_both_versions_give_what_follows_them() {
    let header = |version: i16, id: &[u8], tail: &[u8]| {
        let mut frame = BytesMut::new();
        frame.put_i16(18);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_slice(id);
        frame.put_slice(tail);
        request_header(frame.freeze(), flexible_from)
    };
    let (plain, body) = header(2, &[0, 1, b'c'], b"body").unwrap();
    assert_eq!(plain, RequestHeader { key: 18, version: 2, correlation: 7, client_id: Some(Bytes::from_static(b"c")) });
    assert_eq!(body, &b"body"[..]);
    let (tagged, body) = header(3, &[0xff, 0xff], &[1, 5, 2, 0, 0, b'b']).unwrap();
    assert_eq!((tagged.client_id, body), (None, Bytes::from_static(b"b")));
    let (odd, _) = header(0, &[0, 2, 0xff, 0xfe], b"").unwrap();
    assert_eq!(odd.client_id, None, "what is no UTF-8 is no name");
    let wrong: [(&[u8], &[u8]); 4] = [(&[0xff, 0xfe], b""), (&[0, 2, b'c'], b""), (&[0], b""), (&[0xff, 0xff], &[3, 0, 9])];
    for (id, tail) in wrong {
        assert!(header(3, id, tail).is_err(), "{id:?} {tail:?}");
    }
}

#[test]
fn an_api_that_is_not_here_is_read_up_to_its_client_id() {
    let frame = Bytes::from_static(&[0, 99, 0, 9, 0, 0, 0, 1, 0, 0, 0xff, 0xff]);
    let (header, body) = request_header(frame, flexible_from).unwrap();
    assert_eq!((header.key, header.client_id, body.len()), (99, Some(Bytes::new()), 2));
}

#[test]
fn an_answer_is_told_by_its_correlation_id() {
    let frame = Bytes::from_static(&[0, 0, 0, 9, 0, 0, 1]);
    assert_eq!(response_header(frame.clone(), false), Ok((9, frame.slice(4..))));
    assert_eq!(response_header(frame.clone(), true), Ok((9, frame.slice(5..))));
    assert!(response_header(frame.slice(..4), true).is_err());
}

#[test]
fn the_official_encoder_agrees_on_where_headers_end() {
    use kafka_protocol::messages::RequestHeader as Official;
    use kafka_protocol::protocol::{Encodable, StrBytes};
    for message in all().into_iter().filter(|message| message.is_request) {
        let official = Official::default()
            .with_request_api_key(message.key)
            .with_request_api_version(message.version)
            .with_correlation_id(1)
            .with_client_id(Some(StrBytes::from_static_str("client")));
        let mut frame = BytesMut::new();
        let api = ApiKey::try_from(message.key).unwrap();
        official.encode(&mut frame, api.request_header_version(message.version)).unwrap();
        frame.put_slice(&message.body);
        let (header, body) = request_header(frame.freeze(), flexible_from).unwrap();
        assert_eq!((header.key, header.version), (message.key, message.version));
        assert_eq!(body, message.body, "{message}");
    }
}

impl Message {
    fn check(&self, body: &[u8]) -> Result<(), BadWire> {
        let check = if self.is_request { check_request } else { check_response };
        check(self.key, self.version, body)
    }

    /// Whether the check took it; if so, the decoder must take all of it too.
    fn decodes_if_taken(&self, body: &[u8]) {
        if self.check(body).is_err() {
            return;
        }
        let (key, mut bytes) = (ApiKey::try_from(self.key).unwrap(), Bytes::copy_from_slice(body));
        let decoded = if self.is_request {
            RequestKind::decode(key, &mut bytes, self.version).map(drop)
        } else {
            ResponseKind::decode(key, &mut bytes, self.version).map(drop)
        };
        assert!(decoded.is_ok(), "{self}: taken, but {} for {body:?}", decoded.unwrap_err());
        assert!(bytes.is_empty(), "{self}: taken, but {} bytes are left of {body:?}", bytes.len());
    }
}
