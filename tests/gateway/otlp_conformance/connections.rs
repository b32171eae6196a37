//! Connections: pings, an orderly end, clients that leave, and that none of it costs anything that stays.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::gate::Setup;
use crate::support::wire::Wire;
use crate::support::{DEADLINE, eventually, full};

use super::grpc::{EXPORT, framed};
use super::samples::{PATHS, of};
use super::target::{Target, is_elsewhere, marker, own, target};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &[0; 4], payload].concat()
}

/// Rule: clients ping an idle connection to keep it: each ping is answered, and none by GOAWAY.
#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_and_never_by_goaway() {
    let target = target().await;
    let mut wire = target.grpc().await;
    wire.send([PREFACE, &frame(4, 0, &[])].concat()).await;
    for round in 0..10_u8 {
        wire.send(frame(PING, 0, &[round + 1; 8])).await;
        let answer = frame(PING, 1, &[round + 1; 8]);
        let said = wire.read_until(&answer).await;
        assert!(
            said.ends_with(&answer) || said.windows(answer.len()).any(|window| window == answer),
            "closed after {round} pings: {said:?}"
        );
    }
    // A GOAWAY would be on its way already: one more ping brings it, or its own answer.
    wire.send(frame(PING, 0, b"the last")).await;
    let said = wire.read_until(b"the last").await;
    assert!(said.ends_with(b"the last") && !kinds(&said).contains(&GOAWAY), "{said:?}");
}

fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while bytes.len() >= 9 {
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        kinds.push(bytes[3]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

/// Rule: a gate that leaves says GOAWAY and `Connection: close`, and answers every request that it has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_gate_says_so_and_answers_what_it_has_begun() {
    let Some(target) = own(|setup| setup.env("SLUICEGATE__DRAIN__LEAVING", "2s")).await else { return };
    let mut idle = target.grpc().await;
    idle.send([PREFACE, &frame(4, 0, &[])].concat()).await;
    let mut half = target.http("http/1.1").await;
    let body = of(0, &marker());
    half.send(head(&target, body.len())).await;
    half.send(&body[..10]).await;
    target.gate().sigterm();
    // The first of two GOAWAYs names the largest stream: no call in flight is cut.
    let said = idle.read_until(&[GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]).await;
    assert!(said.windows(4).any(|window| window == [0x7f, 0xff, 0xff, 0xff]), "{said:?}");
    half.send(&body[10..]).await;
    let answer = String::from_utf8_lossy(&half.read_to_close().await).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
}

fn head(target: &Target, length: usize) -> String {
    let token = target.token().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{token}content-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n"
    )
}

async fn seen(target: &Target) -> (u64, u64) {
    let limits = target.gate().admin_get("/status").await.json()["limits"].clone();
    (limits["in_flight"].as_u64().expect("bytes"), limits["connections"].as_u64().expect("connections"))
}

/// O6. Scenario: senders that leave after half of a body, and calls that are cancelled while they are answered; 4,000 of them,
/// 100,000 in the long form.
/// Guarantees: afterwards no byte is in flight, no connection is left, and it serves on.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_cost_nothing_that_stays() {
    if is_elsewhere("a look into the server") {
        return;
    }
    let Some(target) = own(|setup: Setup| setup.env("SLUICEGATE__LISTENERS__MAX_CONNECTIONS_PER_ADDRESS", "4000")).await else { return };
    let calls = if full() { 100_000 } else { 4_000 };
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", target.gate().id())).expect("it runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("a number")
    };
    cancel(&target, calls / 2).await;
    let before = resident();
    cancel(&target, calls / 2).await;
    for _ in 0..50 {
        let mut wire = target.http("http/1.1").await;
        wire.send(head(&target, 1 << 20)).await;
        wire.send(vec![0; 10_000]).await;
        drop::<Wire>(wire);
    }
    eventually("nothing is left", DEADLINE, async || (seen(&target).await == (0, 0)).then_some(())).await;
    let after = resident();
    assert!(after < before + 64 * 1024, "{before} KiB, then {after} KiB");
    assert_eq!(target.post(PATHS[0]).protobuf(of(0, &marker())).send().await.status, 200);
}

/// So many calls, on connections of a hundred, each of which is reset as soon as it was sent.
async fn cancel(target: &Target, calls: usize) {
    let message = framed(0, &of(0, &marker()));
    for _ in 0..calls / 100 {
        let stream = TokioIo::new(target.grpc().await.into_stream());
        let (sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let calls = (0..100).map(|number| {
            let (mut sender, message) = (sender.clone(), message.clone());
            let mut request = Request::post(format!("http://localhost{}", EXPORT[0])).body(Full::from(message)).expect("a request");
            request.headers_mut().extend(fields(target));
            async move {
                // Some while they are sent, some while they are answered.
                let wait = Duration::from_micros(number * 37 % 3_000);
                drop(tokio::time::timeout(wait, sender.send_request(request)).await);
            }
        });
        futures_util::future::join_all(calls).await;
        drop(sender);
        drop(tokio::time::timeout(DEADLINE, connection).await);
    }
}

fn fields(target: &Target) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("content-type", "application/grpc".parse().expect("a value"));
    fields.insert("te", "trailers".parse().expect("a value"));
    let token = target.token().expect("the test's own gate has one");
    fields.insert("authorization", format!("Bearer {token}").parse().expect("a value"));
    fields
}
