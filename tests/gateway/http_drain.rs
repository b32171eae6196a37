//! The drain does not wait for clients that have asked for nothing, but for a moment for those that have just come.

use std::time::{Duration, Instant};

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gate::Setup;
use crate::support::stopwatch::Stopwatch;
use crate::support::{DEADLINE, eventually};

/// More than the phase in which clients are told to leave and the wait for an HTTP/2 client to hear it (1 s and 2 s, of
/// which it uses up one), less than the share after which the drain gives up.
const SOON: Duration = Duration::from_secs(4);

/// Less than the half second that a client has for its first request from when it came.
const NEWCOMER: Duration = Duration::from_millis(350);

const TLS_HELLO_BEGUN: &[u8] = b"\x16\x03\x01\x02\x00\x01";
const HTTP2_BEGUN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Scenario: SIGTERM while connections are open that have sent nothing, half a TLS hello, part of a head, or an HTTP/2
/// preface, and that never send or read anything again.
/// Guarantees: the gate ends well before its time, and gives nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_asked_for_nothing_do_not_hold_the_drain() {
    for (tls, openings) in [("generated", [&b""[..], TLS_HELLO_BEGUN, b"GET /"]), ("off", [b"", b"GET /", HTTP2_BEGUN])] {
        // A drain that does not end by itself is not cut short by its limit, however slow the machine: it takes too long.
        let setup = Setup::new().env("SLUICEGATE__LISTENERS__TLS", tls).env("SLUICEGATE__DRAIN__LIMIT", "60s");
        let mut gate = setup.start().await;
        let mut open = Vec::new();
        for opening in openings {
            let mut stream = TcpStream::connect(gate.https).await.expect("the door is open");
            stream.write_all(opening).await.expect("the connection is open");
            open.push(stream);
        }
        // Its answer says that the gate has taken in the ones before.
        let answer = gate.client.send(Method::GET, &gate.url("/livez"), &[], "").await.expect("an answer");
        assert_eq!(answer.status, 200);
        let watch = Stopwatch::start();
        gate.sigterm();
        assert!(gate.wait(DEADLINE).await.success());
        let took = watch.read();
        assert!(took.own() < SOON, "{tls}: {took}");
        assert!(!gate.lines().iter().any(|line| line.contains("given up")), "{tls}: {:#?}", gate.lines());
    }
}

/// Scenario: a client connects; the gate stops, and its port is closed; then the client sends its first request, within half a
/// second of its coming.
/// Guarantees: it is answered, and told that the connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_just_come_is_answered() {
    let setup = Setup::new().env("SLUICEGATE__LISTENERS__TLS", "off").env("SLUICEGATE__DRAIN__LEAVING", "0ms");
    // A busy machine may take longer than a client has: then nothing was seen, and it is done again.
    for _ in 0..20 {
        let mut gate = setup.clone().start().await;
        let came = Instant::now();
        let mut stream = TcpStream::connect(gate.https).await.expect("the door is open");
        gate.sigterm();
        eventually("the port is closed", DEADLINE, async || TcpStream::connect(gate.https).await.err()).await;
        let mut answer = Vec::new();
        let sent = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: gate\r\n\r\n").await;
        let in_time = came.elapsed() < NEWCOMER;
        let read = stream.read_to_end(&mut answer).await;
        assert!(gate.wait(DEADLINE).await.success());
        if in_time {
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{sent:?} {read:?} {answer:?}");
            return;
        }
    }
    panic!("the machine is too busy: no stop of the gate was seen in time");
}
