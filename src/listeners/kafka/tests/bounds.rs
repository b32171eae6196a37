//! What a connection may cost, and when it ends.

use kafka_protocol::messages::metadata_request::MetadataRequest;
use kafka_protocol::messages::produce_request::ProduceRequest;
use proptest::prelude::*;

use super::*;
use crate::drain::Phase;
use crate::listeners::kafka::api::{APIS, Request as Asked};
use crate::listeners::kafka::body::Body;
use crate::listeners::kafka::cluster::{self, Whereabouts};
use crate::listeners::kafka::{consumers, init_producer_id, metadata, produce, sasl};
use crate::units::{ByteSize, Span};

#[tokio::test(start_paused = true)]
async fn k1_k2_what_is_not_kafka_is_closed_at_its_first_four_bytes() {
    let gate = Gate::new(Config::default());
    for first in [&b"GET / HTTP/1.1\r\n"[..], &[0x16, 3, 1, 2, 0, 1], &[0; 4], &[0xff; 4], &[0x7f, 0xff, 0xff, 0xff], &[0, 1, 0, 1]] {
        let (mut client, begun) = (gate.connect(), Instant::now());
        client.write(first).await;
        assert!(client.is_closed().await, "{first:?}");
        assert!(begun.elapsed() < LOGIN_TIME);
    }
}

#[tokio::test(start_paused = true)]
async fn k3_counts_beyond_the_bytes_close_the_connection() {
    let gate = Gate::new(Config::default());
    for (key, version, header, body) in [
        (3, 1, 1, &[0x7f, 0xff, 0xff, 0xff, 0][..]),
        (3, 9, 2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        (0, 3, 1, &[0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]),
        (0, 2, 1, &[0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]),
        (10, 4, 2, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        (3, 9, 2, &[0, 0, 0, 0, 1, 9, 200, 1]),
    ] {
        let mut client = gate.enter().await;
        let bytes = client.head(key, version, header, body);
        client.write(&bytes).await;
        assert!(client.is_closed().await, "{key} {version} {body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn k10_replies_that_are_never_read_stop_the_reading_and_then_the_connection() {
    let gate = Gate::new(Config::default());
    let mut client = gate.connect_as(None, 4096);
    client.log_in("OAUTHBEARER", &token("worker", 3_600)).await;
    let requests: Vec<_> = (0..10_000).map(|_| client.encode(12, &MetadataRequest::default())).collect();
    let begun = Instant::now();
    let mut sent = 0;
    for request in &requests {
        if client.stream.write_all(request).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 1_000, "{sent} were read");
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_as_brokers_do() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let begun = Instant::now();
    assert!(client.is_closed().await);
    assert_eq!(begun.elapsed(), Duration::from_secs(600));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_trickles_in_is_closed_and_gives_its_room_back() {
    let gate = Gate::new(Config { request_timeout: Span::secs(20), ..Config::default() });
    let mut client = gate.enter().await;
    let begun = Instant::now();
    let whole = [&[0, 0x08, 0, 0, 0, 0, 0, 9][..], &[0; 50_000]].concat();
    for piece in whole.chunks(10_000) {
        client.write(piece).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let used = gate.meter.used();
    assert!((50_000..200_000).contains(&used), "what came is counted, not what was promised: {used}");
    assert!(client.is_closed().await);
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
    (&mut client.served).await.expect("served");
    assert_eq!(gate.meter.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_that_keeps_no_pace_is_closed_early_and_one_that_does_is_read() {
    let gate = Gate::new(Config { request_timeout: Span::secs(60), ..Config::default() });
    let begun = Instant::now();
    let mut silent = gate.enter().await;
    silent.write(&[0x03, 0, 0, 0, 0, 0]).await;
    assert!(silent.is_closed().await, "50 MiB were promised, and room was kept for them");
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    let mut steady = gate.enter().await;
    steady.write(&[0, 0x20, 0, 0, 0, 0, 0, 9]).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        steady.write(&[0; 100_000]).await;
    }
    assert_eq!(gate.meter.used() / 1_000_000, 2, "all of it is there");
}

#[tokio::test(start_paused = true)]
async fn reading_waits_while_the_gate_is_full_and_nobody_is_closed_for_it() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    let others = gate.meter.reserve(128 << 20).expect("all of it");
    client.send(12, &MetadataRequest::default()).await;
    let waited = tokio::time::timeout(Duration::from_secs(20), client.frame()).await;
    assert!(waited.is_err(), "nothing is answered, and nothing is closed");
    drop(others);
    assert_eq!(client.hear::<MetadataRequest>(12).await.brokers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_batches_may_be_large() {
    let gate = Gate::new(Config { max_request_bytes: ByteSize::mib(8), ..Config::default() });
    for (first, closed) in [([0, 0x20, 0, 0, 0, 3], true), ([0, 0x20, 0, 0, 0, 0], false), ([0, 0x90, 0, 0, 0, 0], true)] {
        let mut client = gate.enter().await;
        client.write(&first).await;
        let ended = tokio::time::timeout(Duration::from_secs(2), client.is_closed()).await;
        assert_eq!(ended.is_ok(), closed, "{first:?}");
    }
}

/// A request that the door must read in many pieces.
fn large(client: &mut Client, bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).expect("small enough").to_be_bytes();
    let body =
        [&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0], &length[..], &vec![7; bytes]].concat();
    client.head(0, 3, 1, &body)
}

#[tokio::test(start_paused = true)]
async fn a_large_request_is_read_in_pieces_and_what_comes_behind_it_is_found() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    for bytes in [1, 5_000, 70_000, 3 << 20] {
        let request = large(&mut client, bytes);
        let next = client.encode(12, &MetadataRequest::default());
        client.write(&[request, next].concat()).await;
        let answer = client.hear_back::<ProduceRequest>(3, 1).await;
        assert_ne!(answer.responses[0].partition_responses[0].error_code, 0);
        assert_eq!(client.hear::<MetadataRequest>(12).await.brokers.len(), 1);
    }
    drop(client.stream);
    client.served.await.expect("served");
    assert_eq!(gate.meter.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn four_large_requests_at_once_share_the_room_of_one_and_all_are_answered() {
    let gate = Gate::new(Config::default());
    let (door, drain) = (&gate.door, &gate.drain);
    let meter = Meter::new(6 << 20);
    let parts = DoorParts {
        ingest: Arc::clone(&door.parts.ingest),
        authenticator: Arc::clone(&door.parts.authenticator),
        meter: Arc::clone(&meter),
        drain: drain.clone(),
    };
    let narrow = Gate { door: Arc::new(Door::new(parts, Config::default())), drain: drain.clone(), meter };
    let mut senders = Vec::new();
    for _ in 0..4 {
        let mut client = narrow.enter().await;
        senders.push(tokio::spawn(async move {
            let request = large(&mut client, 4 << 20);
            client.write(&request).await;
            client.hear::<ProduceRequest>(3).await.responses.len()
        }));
    }
    for sender in senders {
        assert_eq!(sender.await.expect("answered"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_drain_answers_what_was_read_and_closes() {
    let gate = Gate::new(Config::default());
    let (mut idle, mut busy, mut stranger) = (gate.enter().await, gate.enter().await, gate.connect());
    let bytes = [busy.encode(12, &MetadataRequest::default()), busy.encode(12, &MetadataRequest::default())].concat();
    let (most, rest) = bytes.split_at(bytes.len() - 3);
    busy.write(most).await;
    busy.hear_back::<MetadataRequest>(12, 1).await;
    gate.drain.enter(Phase::Leaving);
    busy.write(&rest[..1]).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), idle.frame()).await.is_err(), "leaving closes nothing");
    gate.drain.enter(Phase::Finishing);
    let begun = Instant::now();
    assert!(idle.is_closed().await && busy.is_closed().await && stranger.is_closed().await);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_costs_little() {
    let gate = Gate::new(Config::default());
    let (_client, theirs) = tokio::io::duplex(64);
    let arrival = Arrival {
        peer: Peer { address: "127.0.0.1:1".parse().expect("an address"), tls: false },
        local: "127.0.0.1:2".parse().expect("an address"),
        principal: None,
        read: BytesMut::new(),
        deadline: Instant::now(),
    };
    let size = size_of_val(&Arc::clone(&gate.door).serve(theirs, arrival));
    assert!(size <= 4 << 10, "{size} bytes");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), small in any::<bool>(), version in 0_i16..13) {
        if small {
            // Counts and lengths that are believed go deeper.
            bytes.iter_mut().for_each(|byte| *byte %= 4);
        }
        let here = Whereabouts { host: String::new(), port: 0, cluster: String::new() };
        for api in &APIS {
            let request = Asked { api, version: version.clamp(api.first, api.last), correlation: 0 };
            let body = || Body::new(Bytes::from(bytes.clone()), api.is_flexible(request.version));
            let _ = produce::read(request, body()).map(|read| read.judge(request));
            let _ = (metadata::read(request, body()), init_producer_id::read(request, body()));
            let _ = (sasl::read_handshake(body()), sasl::read_message(body()));
            let _ = (consumers::fetch(request, body()), consumers::list_offsets(request, body()));
            let _ = (cluster::coordinator(request, body(), &here), cluster::describe(request, body(), &here));
        }
    }
}
