//! The drain does not wait for clients that have asked for nothing.

use std::time::Duration;

use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::DEADLINE;
use crate::support::gate::Setup;
use crate::support::stopwatch::Stopwatch;

/// More than the phase in which clients are told to leave and the wait for an HTTP/2 client to hear it (1 s and 2 s, of
/// which it uses up one), less than the share after which the drain gives up.
const SOON: Duration = Duration::from_secs(4);

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
