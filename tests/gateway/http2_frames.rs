//! HTTP/2 over TLS and with prior knowledge, and the frames that cost work and bring none.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::DEADLINE;
use crate::support::gate::{Gate, Setup};
use crate::support::wire::Wire;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GOAWAY: u8 = 7;

/// `GET /livez` of host `x`, in HPACK's static table and two literals.
const HEAD: &[u8] = &[0x82, 0x87, 0x41, 1, b'x', 0x44, 6, b'/', b'l', b'i', b'v', b'e', b'z'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The kinds of the frames in what came.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while bytes.len() >= 9 {
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        kinds.push(bytes[3]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

fn opened(frames: impl AsRef<[u8]>) -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[]), frames.as_ref()].concat()
}

async fn exchange(gate: &Gate, bytes: Vec<u8>) -> Vec<u8> {
    let mut wire = Wire::connect(gate, "h2").await;
    wire.send(bytes).await;
    kinds(&wire.read_to_close().await)
}

/// H13, H14. Scenario: floods of PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA, CONTINUATION, resets and made resets.
/// Guarantees: each ends with GOAWAY and a closed connection, and the gate serves on.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_with_goaway() {
    let gate = Setup::new().start().await;
    let resets = (0..1_000u32).flat_map(|n| [frame(1, 5, 2 * n + 1, HEAD), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()).collect();
    // A window that grows by nothing is the client's error, and the gate's to reset.
    let made = (0..1_000u32).flat_map(|n| [frame(1, 4, 2 * n + 1, HEAD), frame(8, 0, 2 * n + 1, &[0; 4])].concat()).collect();
    let floods: [(&str, Vec<u8>); 8] = [
        ("PING", frame(6, 0, 0, &[0; 8]).repeat(1_000)),
        ("SETTINGS", frame(4, 0, 0, &[]).repeat(1_000)),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1]).repeat(1_000)),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(1_000)),
        ("empty DATA", [frame(1, 4, 1, HEAD), frame(0, 0, 1, &[]).repeat(1_000)].concat()),
        ("CONTINUATION", [frame(1, 0, 1, HEAD), frame(9, 0, 1, &[]).repeat(1_000)].concat()),
        ("rapid reset", resets),
        ("made resets", made),
    ];
    for (name, flood) in floods {
        let kinds = exchange(&gate, opened(flood)).await;
        assert_eq!(kinds.last(), Some(&GOAWAY), "{name}: {kinds:?}");
    }
    let answer = gate.client.send(http::Method::GET, &gate.url("/livez"), &[], "").await.expect("it serves on");
    assert_eq!(answer.status, 200);
}

/// H9. Scenario: an HTTP/2 client says nothing, stops after its preface, in a frame, or after its answer.
/// Guarantees: it is closed; one that has spoken is told so by GOAWAY.
#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_that_is_idle_is_closed() {
    let times = ["HEADER", "IDLE", "BODY"];
    let gate = times.iter().fold(Setup::new(), |setup, time| setup.env(&format!("SLUICEGATE__LISTENERS__{time}_TIMEOUT"), "3s"));
    let gate = gate.start().await;
    // Side by side, as each is closed only after the time that a slow machine needs for a handshake.
    let (_, _, _, idle, kinds) = tokio::join!(
        exchange(&gate, Vec::new()),
        exchange(&gate, PREFACE[..10].to_vec()),
        exchange(&gate, opened(&frame(1, 5, 1, HEAD)[..12])),
        exchange(&gate, opened([])),
        exchange(&gate, opened(frame(1, 5, 1, HEAD))),
    );
    assert!(idle.contains(&GOAWAY), "{idle:?}");
    assert!(kinds.contains(&1) && kinds.contains(&GOAWAY), "{kinds:?}");
}

/// Sends one request over HTTP/2, with the connection kept beside.
async fn ask(gate: &Gate, request: Request<Full<Bytes>>) -> (u16, String) {
    let stream = Wire::connect(gate, "h2").await.into_stream();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    drop(sender);
    connection.await.expect("no panic").expect("an orderly end");
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Scenario: requests over HTTP/2 by ALPN; the same with prior knowledge on the platform's `PORT`, where HTTP/1 is spoken too.
/// Guarantees: both are served; heads that are refused over HTTP/1 are refused here, without harm to the connection.
#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_over_tls_and_behind_a_proxy() {
    let get = |uri: &str| Request::get(uri).body(Full::default()).expect("a request");
    let gate = Setup::new().start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    assert_eq!(ask(&gate, get("https://localhost/livez")).await.0, 200);
    let event = Request::post("https://localhost/v1/events/events")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::from(r#"{"data":1}"#))
        .expect("a request");
    let (status, body) = ask(&gate, event).await;
    assert_eq!(status, 202, "{body}");
    let disagreeing = Request::get("https://localhost/livez").header("host", "other").body(Full::default()).expect("a request");
    assert_eq!(ask(&gate, disagreeing).await.0, 400);
    assert_eq!(ask(&gate, get(&format!("https://localhost/{}", "x".repeat(5 << 10)))).await.0, 414);

    let gate = Setup::new().env("PORT", "8080").start().await;
    assert_eq!(ask(&gate, get("http://localhost/livez")).await.0, 200);
    let answer = gate.client.send(http::Method::GET, &gate.url("/livez"), &[], "").await.expect("HTTP/1 too");
    assert_eq!(answer.status, 200);
}

/// Scenario: SIGTERM while an HTTP/2 connection is open.
/// Guarantees: it gets a GOAWAY as soon as the gate leaves, and the gate ends in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_gate_says_goaway() {
    let mut gate = Setup::new().env("SLUICEGATE__DRAIN__LEAVING", "300ms").start().await;
    let mut wire = Wire::connect(&gate, "h2").await;
    wire.send(opened(frame(1, 5, 1, HEAD))).await;
    // The status 200 is one byte of HPACK.
    wire.read_until(&[0x88]).await;
    gate.sigterm();
    // The first of the two GOAWAYs: it names the largest stream.
    wire.read_until(&[GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]).await;
    drop(wire);
    assert!(gate.wait(DEADLINE).await.success());
}
