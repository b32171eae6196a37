//! A producer's batches at the door: what is told of each, and in which order.

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_request::MetadataRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::produce_response::ProduceResponse;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use super::*;

/// A batch of one record.
fn batch(value: &[u8]) -> Bytes {
    batch_of(1, value)
}

/// A batch of so many records.
fn batch_of(count: i64, value: &[u8]) -> Bytes {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let record = |offset| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        // The encoder makes a batch of its own of every record whose sequence does not go on like its offset.
        sequence: i32::try_from(offset).expect("a small batch") - 1,
        timestamp: now.as_millis() as i64,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Default::default(),
    };
    let records: Vec<_> = (0..count).map(record).collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("a batch");
    bytes.freeze()
}

/// The batch with a change, and a CRC that fits it.
fn changed(mut change: impl FnMut(&mut [u8])) -> Bytes {
    let mut bytes = BytesMut::from(&batch(b"x")[..]);
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn topic(name: &str, partitions: Vec<(i32, Option<Bytes>)>) -> TopicProduceData {
    let data = |(index, records)| PartitionProduceData::default().with_index(index).with_records(records);
    let name = TopicName(StrBytes::from_string(name.to_owned()));
    TopicProduceData::default().with_name(name).with_partition_data(partitions.into_iter().map(data).collect())
}

fn request(acks: i16, topics: Vec<TopicProduceData>) -> ProduceRequest {
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1_000).with_topic_data(topics)
}

fn told(response: &ProduceResponse) -> Vec<(String, i32, i16)> {
    let of = |topic: &kafka_protocol::messages::produce_response::TopicProduceResponse| {
        let name = topic.name.0.to_string();
        topic.partition_responses.iter().map(move |one| (name.clone(), one.index, one.error_code)).collect::<Vec<_>>()
    };
    response.responses.iter().flat_map(of).collect()
}

fn rows(rows: &[(&str, i32, i16)]) -> Vec<(String, i32, i16)> {
    rows.iter().map(|(name, index, code)| ((*name).to_owned(), *index, *code)).collect()
}

#[tokio::test(start_paused = true)]
async fn k6_k7_what_is_bad_is_answered_alone_in_its_place_in_every_version() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let (good, old, damaged) = (batch(b"x"), changed(|bytes| bytes[16] = 1), {
        let mut bytes = BytesMut::from(&batch(b"x")[..]);
        *bytes.last_mut().expect("bytes") ^= 1;
        bytes.freeze()
    });
    let transactional = changed(|bytes| bytes[22] |= 0x10);
    let two = Bytes::from([&good[..], &good[..]].concat());
    for version in 3..=11 {
        let topics = vec![
            topic(TOPIC, vec![(1, Some(old.clone())), (2, Some(damaged.clone())), (3, None), (4, Some(Bytes::new()))]),
            topic("no.such", vec![(0, Some(good.clone()))]),
            topic("a b", vec![(0, Some(good.clone()))]),
            topic("__consumer_offsets", vec![(0, Some(good.clone()))]),
            topic(TOPIC, vec![(5, Some(transactional.clone())), (6, Some(two.clone())), (-1, Some(good.clone()))]),
        ];
        let response = client.ask(version, &request(-1, topics)).await;
        let expected = [
            (TOPIC, 1, 43),
            (TOPIC, 2, 2),
            (TOPIC, 3, 87),
            (TOPIC, 4, 87),
            ("no.such", 0, 29),
            ("a b", 0, 29),
            ("__consumer_offsets", 0, 29),
            (TOPIC, 5, 53),
            (TOPIC, 6, 87),
            (TOPIC, -1, 29),
        ];
        assert_eq!(told(&response), rows(&expected), "{version}");
        let first = &response.responses[0].partition_responses[0];
        assert_eq!((first.base_offset, first.log_append_time_ms), (-1, -1));
        assert_eq!(first.error_message.is_some(), version >= 8);
        assert_eq!(response.throttle_time_ms, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_contradicts_itself_is_refused_as_a_whole() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let good = || Some(batch(b"x"));
    let twice = vec![topic(TOPIC, vec![(0, good()), (1, good())]), topic(TOPIC, vec![(0, good())])];
    let response = client.ask(9, &request(1, twice)).await;
    assert_eq!(told(&response), rows(&[(TOPIC, 0, 42), (TOPIC, 1, 42), (TOPIC, 0, 42)]));
    let response = client.ask(9, &request(2, vec![topic(TOPIC, vec![(0, good())])])).await;
    assert_eq!(told(&response), rows(&[(TOPIC, 0, 21)]));
    let transactional = request(-1, vec![topic(TOPIC, vec![(0, good())])]).with_transactional_id(Some(StrBytes::from("tx").into()));
    let response = client.ask(9, &transactional).await;
    assert_eq!(told(&response), rows(&[(TOPIC, 0, 53)]));
}

#[tokio::test(start_paused = true)]
async fn zstd_is_not_taken_from_a_client_that_cannot_know_it() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let zstd = changed(|bytes| bytes[22] |= 4);
    let response = client.ask(6, &request(-1, vec![topic(TOPIC, vec![(0, Some(zstd.clone()))])])).await;
    assert_eq!(told(&response), rows(&[(TOPIC, 0, 76)]));
}

#[tokio::test(start_paused = true)]
async fn versions_before_3_are_listed_and_answered_that_they_are_not_served() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    for version in 0..=2_i16 {
        let body = [&[0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 2, 1, 2][..]].concat();
        let bytes = client.head(0, version, 1, &body);
        client.write(&bytes).await;
        let mut frame = client.frame().await.expect("an answer");
        frame.advance(4);
        let mut expected = BytesMut::from(&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5, 0, 35][..]);
        expected.put_i64(-1);
        if version >= 2 {
            expected.put_i64(-1);
        }
        if version >= 1 {
            expected.put_i32(0);
        }
        assert_eq!(frame, expected.freeze(), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_acks_has_no_answer_and_the_next_one_has_its_own() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    for records in [Some(batch(b"x")), None] {
        client.send(9, &request(0, vec![topic(TOPIC, vec![(0, records)])])).await;
    }
    assert_eq!(client.ask(12, &MetadataRequest::default()).await.brokers.len(), 1);
    gate.drain.tasks().close();
    gate.drain.tasks().wait().await;
    drop(client);
    tokio::task::yield_now().await;
    assert_eq!(gate.meter.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn not_stored_try_again_is_held_and_what_comes_after_it_waits_its_turn() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let begun = Instant::now();
    client.send(9, &request(-1, vec![topic(TOPIC, vec![(0, Some(batch(b"x")))])])).await;
    client.send(12, &MetadataRequest::default()).await;
    let response = client.hear_back::<ProduceRequest>(9, 1).await;
    assert_eq!(told(&response), rows(&[(TOPIC, 0, 19)]), "neither a broker nor an inbox");
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(client.hear::<MetadataRequest>(12).await.brokers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_their_order() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let mut bytes = Vec::new();
    for _ in 0..50 {
        bytes.extend(client.encode(9, &request(-1, vec![topic(TOPIC, vec![(0, None)])])));
        bytes.extend(client.encode(12, &MetadataRequest::default()));
    }
    client.write(&bytes).await;
    for left in (0..50).rev() {
        assert_eq!(told(&client.hear_back::<ProduceRequest>(9, left * 2 + 1).await), rows(&[(TOPIC, 0, 87)]));
        client.hear_back::<MetadataRequest>(12, left * 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_owes_is_told_at_once_and_read_again_when_it_is_paid() {
    // The quota is 20,000 records at once, and 1,000 a second.
    let much = || request(-1, vec![topic(TOPIC, vec![(0, Some(batch_of(25_000, b"")))])]);
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let begun = Instant::now();
    client.send(9, &much()).await;
    client.send(12, &MetadataRequest::default()).await;
    let owed = client.hear_back::<ProduceRequest>(9, 1).await.throttle_time_ms;
    assert!((3_000..=6_000).contains(&owed), "{owed}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    client.hear::<MetadataRequest>(12).await;
    assert!(begun.elapsed().as_millis() >= owed as u128, "{:?}", begun.elapsed());
    // Who does not heed what it is told waits for the answer.
    let mut client = gate.connect();
    client.log_in("OAUTHBEARER", &token("another", 3_600)).await;
    let begun = Instant::now();
    client.ask(5, &much()).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
}
