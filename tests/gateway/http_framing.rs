//! Bytes that no well-behaved client would send, and clients that take their time: HTTP/1 over a raw socket.

use std::io::Write as _;

use async_compression::tokio::write::ZstdEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gate::{Gate, Setup};
use crate::support::wire::Wire;
use crate::support::{DEADLINE, eventually};

/// A request that must never be read out of another one.
const SMUGGLED: &str = "GET /livez HTTP/1.1\r\nhost: smuggled\r\n\r\n";

fn timed(setup: Setup) -> Setup {
    let times = ["HEADER", "BODY", "HANDSHAKE", "IDLE"];
    times.iter().fold(setup, |setup, time| setup.env(&format!("SLUICEGATE__LISTENERS__{time}_TIMEOUT"), "3s"))
}

/// The statuses of all final answers in what came, in order.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let found = text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok());
    found.filter(|status| *status != 100).collect()
}

/// Sends on one connection and gives all that comes until the gate closes it.
async fn exchange(gate: &Gate, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut wire = Wire::connect(gate, "http/1.1").await;
    wire.send(bytes).await;
    wire.read_to_close().await
}

fn post(token: &str, fields: &str) -> String {
    format!(
        "POST /v1/events/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{fields}\r\n"
    )
}

/// H3. Scenario: a request announces a body over the limit and sends none of it, with and without `Expect`.
/// Guarantees: 413 before a byte of the body, no `100 Continue`, closed; an honest `Expect` is told to continue.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_refused_before_it_is_read() {
    let gate = Setup::new().start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let said = exchange(&gate, post(&token, &format!("content-length: 9000000\r\n{expect}"))).await;
        assert_eq!(statuses(&said), [413], "{}", String::from_utf8_lossy(&said));
        assert!(!String::from_utf8_lossy(&said).contains("100 Continue"));
    }
    let mut wire = Wire::connect(&gate, "http/1.1").await;
    wire.send(post(&token, "content-length: 10\r\nexpect: 100-continue\r\n")).await;
    wire.read_until(b"100 Continue\r\n\r\n").await;
    wire.send(r#"{"data":1}"#).await;
    assert_eq!(statuses(&wire.read_until(b"}]}").await), [202]);
    // The connection is good for more.
    wire.send(SMUGGLED).await;
    assert_eq!(statuses(&wire.read_until(b"\r\n\r\n").await), [200]);
    assert_eq!(statuses(&exchange(&gate, post(&token, "expect: 200-ok\r\n")).await), [417]);
}

/// H4, H5, H6. Scenario: chunks past the limit, bombs, a huge zstd window, encodings that are double, unknown or false.
/// Guarantees: 413 at the crossing, 415, closed where more would come, and memory stays where it was.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_grow_past_the_limit_are_stopped_at_the_crossing() {
    let gate = Setup::new().env("SLUICEGATE__LISTENERS__MAX_BODY_BYTES", "1 MiB").start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let said = exchange(&gate, [post(&token, "transfer-encoding: chunked\r\n").into_bytes(), chunk.repeat(17)].concat()).await;
    assert_eq!(statuses(&said), [413]);

    let mut bomb = ZstdEncoder::new(Vec::new());
    for _ in 0..1024 {
        bomb.write_all(&[b' '; 1 << 20]).await.expect("to memory");
    }
    bomb.shutdown().await.expect("to memory");
    let bomb = bomb.into_inner();
    assert!(bomb.len() < 200_000, "{} bytes that become a GiB", bomb.len());
    let window = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 1, 0, 0];
    let plain = br#"{"data":1}"#.to_vec();
    for (encoding, body, status) in [
        ("zstd", &bomb, 413),
        ("zstd", &window, 413),
        ("gzip, gzip", &plain, 415),
        ("lzma", &plain, 415),
        ("gzip", &plain, 415),
        ("br\r\ncontent-encoding: br", &plain, 415),
    ] {
        let head = post(&token, &format!("content-encoding: {encoding}\r\ncontent-length: {}\r\nconnection: close\r\n", body.len()));
        assert_eq!(statuses(&exchange(&gate, [head.into_bytes(), body.clone()].concat()).await), [status], "{encoding}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.is_some_and(|peak| peak < 300_000), "{peak:?} kB");
}

/// H9. Scenario: clients that stall in the handshake, before a head, in a head, in a body, between requests, and while they
/// are answered; every time is set to three seconds, in which a
/// slow machine gets its handshakes done.
/// Guarantees: each is closed, those with a request in the works after a 408; no connection is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stalls_anywhere_is_closed() {
    let gate = timed(Setup::new()).start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let silent = async {
        let mut silent = TcpStream::connect(gate.https).await.expect("open");
        silent.read(&mut [0; 9]).await.unwrap_or(0)
    };
    let (silent, headless, head, second_head, body, chunk, idle) = tokio::join!(
        silent,
        exchange(&gate, ""),
        exchange(&gate, "POST / HT"),
        exchange(&gate, format!("{}POST / HTTP/1.1\r\nho", post(&token, ""))),
        exchange(&gate, post(&token, "content-length: 10\r\n") + "{"),
        exchange(&gate, post(&token, "transfer-encoding: chunked\r\n") + "5\r\n{"),
        exchange(&gate, SMUGGLED),
    );
    assert_eq!((silent, headless), (0, Vec::new()), "closed in the handshake, closed before a head");
    for said in [head, body, chunk] {
        assert_eq!(statuses(&said), [408]);
    }
    assert_eq!(statuses(&second_head).last(), Some(&408));
    assert_eq!(statuses(&idle), [200], "closed when idle");

    let mut reader = Wire::connect(&gate, "http/1.1").await.into_stream();
    let asked = format!("GET /openapi.json HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n").repeat(3_000);
    // It asks and never reads; the gate stops reading in its turn, and then gives up.
    let _ = tokio::time::timeout(DEADLINE, reader.write_all(asked.as_bytes())).await;
    eventually("no connection is left", DEADLINE, || async {
        (gate.admin_get("/status").await.json()["limits"]["connections"] == 0).then_some(())
    })
    .await;
}

/// H9. Scenario: 400 clients stop in the middle of a head.
/// Guarantees: they cost 10 MB at most.
#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_slow_heads_cost_ten_megabytes_at_most() {
    let gate = Setup::new().start().await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gate.id())).expect("it runs");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("a number")
    };
    // What the first connections cost is not theirs alone: threads, tables, code.
    let mut held = Vec::new();
    for n in 0..450 {
        let before = (n == 50).then(resident);
        let mut wire = Wire::connect(&gate, "http/1.1").await;
        wire.send("POST /v1/events/events HTTP/1.1\r\nho").await;
        held.push((before, wire));
    }
    let before = held.iter().find_map(|(before, _)| *before).expect("measured");
    let cost = resident().saturating_sub(before);
    assert!(cost <= 10_000, "400 slow heads cost {cost} KiB");
}

/// H10. Guarantees: too many fields, too many bytes of them and too long a target are 431, 431 and 414, and closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_its_bounds_is_refused_and_closed() {
    let gate = Setup::new().start().await;
    let (fields, long) = ("a: b\r\n".repeat(101), "x".repeat(17 << 10));
    for (head, status) in [
        (format!("GET /livez HTTP/1.1\r\nhost: a\r\n{fields}\r\n"), 431),
        (format!("GET /livez HTTP/1.1\r\nhost: a\r\nb: {long}\r\n\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", &long[..5 << 10]), 414),
    ] {
        let said = exchange(&gate, head + SMUGGLED).await;
        assert_eq!(statuses(&said), [status]);
        assert!(String::from_utf8_lossy(&said).contains("connection: close"));
    }
}

/// H11. Scenario: every head and body that two readers could read differently, each with a request hidden behind it.
/// Guarantees: one answer, 4xx, and closed: nothing behind such a request is ever another one.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_never_becomes_a_second_request() {
    let gate = Setup::new().start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let heads = [
        "GET /livez HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET http://b/livez HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "GET /livez HTTP/1.1\nhost: a\n\n",
        "GET /livez HTTP/1.1\r\nhost: a\n\r\n",
        "GET /livez HTTP/3.0\r\nhost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
        "TRACE /livez HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc",
        "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: -3\r\n\r\nabc",
        "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /livez HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        "POST /livez HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /livez HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for head in heads {
        let said = exchange(&gate, format!("{head}{SMUGGLED}")).await;
        let found = statuses(&said);
        assert!(matches!(found[..], [400..500]), "{head:?}: {found:?}");
    }
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "ffffffffffffffff1\r\n",
        "0\r\nbad\r\n\r\n",
    ] {
        let said = exchange(&gate, post(&token, "transfer-encoding: chunked\r\n") + body + SMUGGLED).await;
        let found = statuses(&said);
        assert!(matches!(found[..], [400]), "{body:?}: {found:?}");
    }
}

/// Scenario: honest requests come at once on one connection, and behind them one that is refused and one more.
/// Guarantees: each is answered in its turn, the refused one too, and nothing after it; a half-closed client is answered.
#[tokio::test(flavor = "multi_thread")]
async fn requests_on_one_connection_are_answered_in_their_turn() {
    let gate = Setup::new().start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let event = post(&token, "content-length: 10\r\n") + r#"{"data":1}"#;
    let chunked = post(&token, "transfer-encoding: chunked\r\n") + "4\r\n{\"da\r\n6\r\nta\":2}\r\n0\r\n\r\n";
    let said = exchange(&gate, format!("\r\n{SMUGGLED}{event}{chunked}{event}GET  / HTTP/1.1\r\n\r\n{event}")).await;
    assert_eq!(statuses(&said), [200, 202, 202, 202, 400]);

    let mut stream = Wire::connect(&gate, "http/1.1").await.into_stream();
    stream.write_all(event.as_bytes()).await.expect("open");
    stream.shutdown().await.expect("open");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert_eq!(statuses(&said), [202]);
}

/// H16. Scenario: one address opens more connections than it may, then more than there may be in all.
/// Guarantees: the surplus is closed at once; a slot that is given back is good for the next.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_capped_per_address_and_in_all() {
    let off = || Setup::new().env("SLUICEGATE__LISTENERS__TLS", "off");
    for setup in
        [off().env("SLUICEGATE__LISTENERS__MAX_CONNECTIONS_PER_ADDRESS", "3"), off().env("SLUICEGATE__LISTENERS__MAX_CONNECTIONS", "3")]
    {
        let gate = setup.start().await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut wire = Wire::connect(&gate, "http/1.1").await;
            wire.send(SMUGGLED).await;
            assert_eq!(statuses(&wire.read_until(b"\r\n\r\n").await), [200]);
            held.push(wire);
        }
        let mut surplus = TcpStream::connect(gate.https).await.expect("the kernel takes it");
        assert_eq!(surplus.read(&mut [0; 9]).await.unwrap_or(0), 0, "closed at once");
        held.pop();
        eventually("a slot is free again", DEADLINE, || async {
            let mut stream = TcpStream::connect(gate.https).await.ok()?;
            stream.write_all(SMUGGLED.as_bytes()).await.ok()?;
            (stream.read(&mut [0; 9]).await.unwrap_or(0) > 0).then_some(())
        })
        .await;
    }
}

/// Scenario: the certificate's files are replaced while a connection is open; then a key is put there that does not fit.
/// Guarantees: new connections see the new certificate, the open one goes on, and the misfit changes nothing but the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_under_a_live_connection() {
    let setup = Setup::new();
    let (cert, key, ca) = (setup.path("cert.pem"), setup.path("key.pem"), setup.path("certs/dev/ca.pem"));
    std::fs::create_dir_all(ca.parent().expect("a folder")).expect("a folder");
    let mut trusted = std::fs::File::create(&ca).expect("a file");
    let mut issue = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        trusted.write_all(made.cert.pem().as_bytes()).expect("written");
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (first, second) = (issue(), issue());
    let put = |(chain, secret): &(String, String)| {
        std::fs::write(&cert, chain).and_then(|()| std::fs::write(&key, secret)).expect("written");
    };
    put(&first);
    let name = |path: &std::path::Path| path.display().to_string();
    let gate = setup
        .env("SLUICEGATE__LISTENERS__TLS", "files")
        .env("SLUICEGATE__LISTENERS__CERT_FILE", &name(&cert))
        .env("SLUICEGATE__LISTENERS__KEY_FILE", &name(&key))
        .env("SLUICEGATE__LISTENERS__CERTIFICATE_POLL", "50ms")
        .start()
        .await;
    let mut live = Wire::connect(&gate, "http/1.1").await;
    live.send(SMUGGLED).await;
    live.read_until(b"\r\n\r\n").await;
    put(&second);
    let reloads = |outcome: &'static str| {
        let gate = &gate;
        move || async move {
            let text = gate.admin_get("/metrics").await.text();
            text.contains(&format!("sluicegate_certificate_reloads_total{{outcome=\"{outcome}\"}} 1\n")).then_some(())
        }
    };
    eventually("the new one is in use", DEADLINE, reloads("done")).await;
    // Only the second is trusted from here on.
    std::fs::write(&ca, &second.0).expect("written");
    assert_eq!(statuses(&exchange(&gate, format!("{SMUGGLED}GET /\r\n\r\n")).await), [200, 400]);
    std::fs::write(&key, &first.1).expect("written");
    eventually("the misfit was seen", DEADLINE, reloads("failed")).await;
    assert!(gate.lines().iter().any(|line| line.contains("is not the key of")));
    assert_eq!(statuses(&exchange(&gate, format!("{SMUGGLED}GET /\r\n\r\n")).await), [200, 400]);
    live.send(SMUGGLED).await;
    assert_eq!(statuses(&live.read_until(b"\r\n\r\n").await), [200]);
}

/// Scenario: SIGTERM while one connection waits for its next request and another one is in the middle of a body.
/// Guarantees: the first is closed; the second is answered, told to go elsewhere, and closed; then nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_has_begun_and_closes_what_waits() {
    let mut gate = Setup::new().env("SLUICEGATE__DRAIN__LEAVING", "300ms").env("SLUICEGATE__DRAIN__LIMIT", "60s").start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let (mut idle, mut busy) = (Wire::connect(&gate, "http/1.1").await, Wire::connect(&gate, "http/1.1").await);
    idle.send(SMUGGLED).await;
    idle.read_until(b"\r\n\r\n").await;
    busy.send(post(&token, "content-length: 10\r\nexpect: 100-continue\r\n")).await;
    busy.read_until(b"100 Continue\r\n\r\n").await;
    gate.sigterm();
    assert_eq!(idle.read_to_close().await, b"");
    // The connection and the listener end side by side.
    let refused = async || TcpStream::connect(gate.https).await.err();
    eventually("nobody listens", DEADLINE, refused).await;
    busy.send(r#"{"data":1}"#).await;
    let said = busy.read_to_close().await;
    assert_eq!(statuses(&said), [202]);
    assert!(String::from_utf8_lossy(&said).contains("connection: close"));
    assert!(gate.wait(DEADLINE).await.success());
}
