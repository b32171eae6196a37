use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, RequestHeader};

use super::*;
use crate::sink::forward::samples;

fn piece(topic: &str, partition: i32, bytes: usize) -> Piece {
    Piece { topic: Topic::new(topic).expect("a topic"), partition, batch: samples::batch(bytes) }
}

fn call(version: i16) -> Call {
    Call { api: Api::Produce, version }
}

fn response(parts: &[(&'static str, i32, i16)]) -> ProduceResponse {
    let topic = |(name, index, code): &(&'static str, i32, i16)| {
        let partition = PartitionProduceResponse::default().with_index(*index).with_error_code(*code).with_base_offset(40);
        TopicProduceResponse::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_partition_responses(vec![partition.with_log_append_time_ms(-1).with_log_start_offset(3)])
    };
    ProduceResponse::default().with_responses(parts.iter().map(topic).collect()).with_throttle_time_ms(7)
}

fn body(version: i16, response: &ProduceResponse) -> Bytes {
    let mut body = BytesMut::new();
    response.encode(&mut body, version).expect("a body");
    body.freeze()
}

#[test]
fn a_merged_request_is_what_a_broker_reads_at_every_version() {
    let pieces = [piece("b", 1, 100), piece("a", 0, 70_000), piece("b", 0, 20_000), piece("a", 300, 1)];
    for version in 3..=11 {
        let chunks = produce(call(version), 77, &pieces, 1_750);
        let mut frame: Bytes = chunks.concat().into();
        assert_eq!(usize::try_from(frame.get_i32()), Ok(frame.len()), "version {version}");
        let header = RequestHeader::decode(&mut frame, if version >= 9 { 2 } else { 1 }).expect("a header");
        assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (0, version, 77));
        assert_eq!(header.client_id.as_deref(), Some("sluicegate"));
        let request = ProduceRequest::decode(&mut frame, version).expect("a body");
        assert!(frame.is_empty() && request.transactional_id.is_none());
        assert_eq!((request.acks, request.timeout_ms), (-1, 1_750));
        let mut found = Vec::new();
        for topic in request.topic_data {
            for part in topic.partition_data {
                found.push((topic.name.to_string(), part.index, part.records.expect("records")));
            }
        }
        let mut expected: Vec<_> = pieces.iter().map(|p| (p.topic.to_string(), p.partition, p.batch.bytes().clone())).collect();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(found, expected);
    }
}

#[test]
fn large_batches_are_written_from_where_they_lie() {
    let pieces = [piece("a", 0, 70_000), piece("a", 1, 10), piece("a", 2, 70_000)];
    let chunks = produce(call(7), 1, &pieces, 1);
    for large in [&pieces[0], &pieces[2]] {
        assert!(chunks.iter().any(|chunk| chunk.as_ptr() == large.batch.bytes().as_ptr()));
    }
}

#[test]
fn every_piece_gets_its_own_answer_in_order() {
    let pieces = [piece("b", 1, 1), piece("a", 0, 1)];
    for version in 3..=11 {
        let mut response = response(&[("a", 0, 6), ("b", 1, 0)]);
        if version < 5 {
            response.responses.iter_mut().for_each(|topic| topic.partition_responses[0].log_start_offset = -1);
        }
        let (answers, throttle) = answers(call(version), body(version, &response), &pieces).expect("answers");
        assert_eq!(throttle, 7);
        let codes: Vec<_> = answers.iter().map(|answer| if let Answer::Answered { code, .. } = answer { *code } else { -99 }).collect();
        assert_eq!(codes, [0, 6], "version {version}");
    }
}

#[test]
fn an_answer_that_does_not_fit_its_question_is_none() {
    let pieces = [piece("a", 0, 1)];
    for parts in [&[][..], &[("a", 1, 0)], &[("b", 0, 0)], &[("a", 0, 0), ("a", 0, 0)], &[("a", 0, 0), ("a", 1, 0)]] {
        let fault = answers(call(9), body(9, &response(parts)), &pieces).expect_err("no answer");
        assert!(matches!(fault, Fault::Protocol(_)), "{parts:?}: {fault}");
    }
    assert!(answers(call(9), Bytes::new(), &pieces).is_err());
}

#[test]
fn versions_below_those_that_are_safe_are_not_spoken() {
    assert_eq!(highest(Api::Produce, (0, 13)), Some(11));
    assert_eq!(highest(Api::Produce, (0, 7)), Some(7));
    assert_eq!(highest(Api::Produce, (0, 2)), None);
    assert_eq!(highest(Api::Produce, (12, 13)), None);
    assert_eq!(highest(Api::Metadata, (0, 3)), None);
    assert_eq!(highest(Api::Metadata, (0, 8)), Some(8));
}

#[test]
fn a_header_of_another_request_or_with_endless_tags_is_refused() {
    let (old, new) = (body(7, &response(&[("a", 0, 0)])), body(9, &response(&[("a", 0, 0)])));
    let open = |version, header: &[u8]| {
        let body = if version == 7 { &old } else { &new };
        call(version).open(5, [header, body].concat().into())
    };
    assert_eq!(open(7, &[0, 0, 0, 5]).expect("a body"), old);
    assert_eq!(open(9, &[0, 0, 0, 5, 1, 0, 2, 8, 8]).expect("a body"), new);
    for bytes in [&[][..], &[0, 0, 0], &[0, 0, 0, 6]] {
        assert!(open(7, bytes).is_err(), "{bytes:?}");
    }
    for tags in [&[][..], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[1, 0, 200, 1]] {
        assert!(open(9, &[&[0, 0, 0, 5], tags].concat()).is_err(), "{tags:?}");
    }
}
