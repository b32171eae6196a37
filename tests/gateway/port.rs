//! One port for everything: what is spoken is told by ALPN and the first byte; further listeners; PROXY headers; Kafka over
//! WebSocket.
//!
//! What is spoken behind the Kafka door has tests of its own; here a Kafka client says one word and hears one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::support::gate::{Gate, Setup};
use super::support::kafka::Kafka;
use super::support::websocket::{handshake, kafkajs, open};
use super::support::wire::Wire;
use super::support::{DEADLINE, eventually};

const LIVE: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PASSWORD: &str = "a password of ada";

/// ApiVersions version 0, correlation id 7, no client id: the first word of nearly every Kafka client.
const HELLO: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff";
/// How its answer goes on behind the length: the correlation id, and no error.
const HEARD: &[u8] = b"\0\0\0\x07\0\0";

async fn bare(gate: &Gate) -> Wire {
    Wire::plain(gate.https).await.secured(&gate.ca().expect("an authority"), None).await
}

/// Asks over HTTP/1.1 and says whether it was answered.
async fn lives(wire: &mut Wire) -> bool {
    wire.send(LIVE).await;
    wire.read_until(b"\r\n\r\n").await.starts_with(b"HTTP/1.1 200")
}

/// Whether HTTP/2's first frame, the settings, comes back.
async fn settles(wire: &mut Wire) -> bool {
    wire.send(PREFACE).await;
    let said = wire.read_until(b"\x04\0\0\0\0\0").await;
    said.len() > 9 && said[3] == 4
}

/// Whether a Kafka client is answered.
async fn greets(wire: &mut Wire) -> bool {
    wire.send(HELLO).await;
    wire.read_until(HEARD).await.get(4..10) == Some(HEARD)
}

/// Whether the connection is closed without a word in any protocol but TLS's own (an alert).
async fn is_closed(mut wire: Wire, bytes: &[u8]) -> bool {
    wire.send(bytes).await;
    let said = wire.read_to_close().await;
    said.is_empty() || said[0] == 0x15
}

async fn ready(gate: &Gate) -> Value {
    let lines = gate.lines();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == "ready").expect("it is ready")
}

/// The address of a further listener, as the status says it.
async fn listener(gate: &Gate, name: &str) -> SocketAddr {
    let status = gate.admin_get("/status").await.json();
    let all = status["listeners"].as_array().expect("a list");
    let one = all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"));
    one["address"].as_str().expect("text").parse().expect("an address")
}

async fn nobody_is_connected(gate: &Gate) {
    eventually("no connection is left", DEADLINE, || async {
        (gate.admin_get("/status").await.json()["limits"]["connections"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_and_2_share_a_tls_port_with_and_without_alpn() {
    let gate = Setup::new().start().await;
    assert!(lives(&mut Wire::connect(&gate, "http/1.1").await).await);
    assert!(settles(&mut Wire::connect(&gate, "h2").await).await);
    assert!(lives(&mut bare(&gate).await).await, "the first byte decides");
    assert!(settles(&mut bare(&gate).await).await, "and so does the preface");
    assert!(is_closed(bare(&gate).await, b"\x16\x03\x01\0\x05hello").await, "no TLS in TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_answered_on_the_same_tls_port_as_http() {
    let gate = Setup::new().start().await;
    let address = gate.https.to_string();
    assert_eq!((ready(&gate).await["https"].as_str(), ready(&gate).await["kafka"].as_str()), (Some(&*address), Some(&*address)));
    assert!(greets(&mut bare(&gate).await).await);
    assert!(lives(&mut Wire::connect(&gate, "http/1.1").await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_on_a_tls_port_is_closed_unless_it_is_wanted() {
    let strict = Setup::new().start().await;
    for bytes in [LIVE.as_bytes(), PREFACE, HELLO] {
        assert!(is_closed(Wire::plain(strict.https).await, bytes).await);
    }
    let open = Setup::new().env("SLUICEGATE__LISTENERS__PLAINTEXT", "true").start().await;
    assert!(lives(&mut Wire::plain(open.https).await).await);
    assert!(settles(&mut Wire::plain(open.https).await).await);
    assert!(lives(&mut Wire::connect(&open, "http/1.1").await).await, "and TLS as before");
    assert!(settles(&mut bare(&open).await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_answered_in_plain_text_where_that_is_spoken() {
    let beside = Setup::new().env("SLUICEGATE__LISTENERS__PLAINTEXT", "true").start().await;
    assert!(greets(&mut Wire::plain(beside.https).await).await);
    assert!(greets(&mut bare(&beside).await).await, "and over TLS on the same port");
    for mode in ["off", "front"] {
        let gate = Setup::new().env("SLUICEGATE__LISTENERS__TLS", mode).start().await;
        assert!(greets(&mut Wire::plain(gate.https).await).await, "{mode}");
        assert!(lives(&mut Wire::plain(gate.https).await).await, "{mode}");
        assert!(is_closed(Wire::plain(gate.https).await, b"\x16\x03\x01\0\x05hello").await, "{mode}: TLS where none is spoken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_beyond_loopback_must_be_meant() {
    let setup = Setup::new().env("SLUICEGATE__LISTENERS__BIND", "0.0.0.0:0").env("FIREBASE_PROJECT_ID", "demo");
    assert_eq!(setup.run(&["check"]).await.status, 0);
    let open = setup.env("SLUICEGATE__LISTENERS__PLAINTEXT", "true");
    let refused = open.run(&["check"]).await;
    assert!(refused.status == 2 && refused.stderr.contains("listeners.plaintext: "), "{}", refused.stderr);
    assert_eq!(open.env("SLUICEGATE__INSECURE", "true").run(&["check"]).await.status, 0);
    let extra = Setup::new().config("[listeners.extra.wide]\nbind = \"0.0.0.0:0\"\ntls = \"off\"\n");
    let refused = extra.run(&["check"]).await;
    assert!(refused.stderr.contains("listeners.extra.wide.tls: ") && refused.stderr.contains("auth.issuers"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_half_a_word_is_closed_at_the_deadline_and_costs_nobody_else_anything() {
    let setup = Setup::new().env("SLUICEGATE__LISTENERS__HEADER_TIMEOUT", "2s").env("SLUICEGATE__LISTENERS__HANDSHAKE_TIMEOUT", "2s");
    let gate = setup.env("SLUICEGATE__LISTENERS__PLAINTEXT", "true").start().await;
    let begun = Instant::now();
    let silent = [Wire::plain(gate.https).await, bare(&gate).await];
    for mut wire in silent {
        assert_eq!(wire.read_to_close().await, b"");
    }
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let mut half = bare(&gate).await;
    half.send("P").await;
    assert!(half.read_to_close().await.starts_with(b"HTTP/1.1 408"));
    assert!(lives(&mut Wire::connect(&gate, "http/1.1").await).await);
    nobody_is_connected(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn further_listeners_have_their_own_doors_and_share_the_slots() {
    let setup = Setup::new().env("SLUICEGATE__LISTENERS__MAX_CONNECTIONS", "3").config(
        "[listeners]\ndoors = [\"http\"]\n[listeners.extra.web]\nbind = \"127.0.0.1:0\"\ntls = \"off\"\ndoors = [\"http\"]\n\
         [listeners.extra.queue]\nbind = \"127.0.0.1:0\"\ntls = \"off\"\ndoors = [\"kafka\"]\n",
    );
    let gate = setup.start().await;
    let (web, queue) = (listener(&gate, "web").await, listener(&gate, "queue").await);
    let line = ready(&gate).await;
    assert_eq!(line["kafka"].as_str(), Some(queue.to_string().as_str()), "{line}");
    assert!(line["extra"].as_str().is_some_and(|extra| extra.contains(&format!("web {web}"))), "{line}");

    assert!(is_closed(bare(&gate).await, HELLO).await, "no Kafka on the main one");
    assert!(is_closed(Wire::plain(web).await, HELLO).await);
    assert!(is_closed(Wire::plain(queue).await, LIVE.as_bytes()).await, "no HTTP on the queue's");
    let refused = gate.admin_get("/metrics").await.text();
    assert!(refused.contains("connections_refused_total{reason=\"protocol\"} 3"), "{refused}");
    nobody_is_connected(&gate).await;

    let mut kept = [Wire::plain(web).await, Wire::plain(web).await, Wire::connect(&gate, "http/1.1").await];
    for wire in &mut kept {
        assert!(lives(wire).await);
    }
    assert_eq!(Wire::plain(queue).await.read_to_close().await, b"", "no slot is left for anybody");
    drop(kept);
    nobody_is_connected(&gate).await;
    assert!(lives(&mut Wire::plain(web).await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_listener_whose_address_is_taken_keeps_the_gate_from_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let setup = Setup::new().config(&format!("[listeners.extra.second]\nbind = \"{address}\"\n"));
    let ran = setup.run(&["serve"]).await;
    assert_eq!(ran.status, 1);
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("listeners.extra.second.bind") && !said.contains("\"ready\""), "{said}");
}

/// A header of the PROXY protocol, version 2: TCP over IPv4, from that address.
fn proxied(source: [u8; 4]) -> Vec<u8> {
    let tlv = [0x04, 0, 2, 0, 0];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11", &source[..], &[127, 0, 0, 1, 0x1f, 0x90, 0x20, 0xfb], &tlv].concat()
}

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_the_header_is_needed_and_its_address_counts() {
    let setup = Setup::new().env("SLUICEGATE__LISTENERS__PROXY_PROTOCOL", "127.0.0.0/8");
    let setup = setup.env("SLUICEGATE__LISTENERS__MAX_CONNECTIONS_PER_ADDRESS", "1");
    let gate = setup.env("SLUICEGATE__LISTENERS__HEADER_TIMEOUT", "3s").start().await;
    let ca = gate.ca().expect("an authority");
    let from = async |header: Vec<u8>| {
        let mut wire = Wire::plain(gate.https).await;
        wire.send(header).await;
        wire
    };
    let mut one = from(proxied([203, 0, 113, 1])).await.secured(&ca, Some("http/1.1")).await;
    assert!(lives(&mut one).await);
    assert!(is_closed(from(proxied([203, 0, 113, 1])).await, b"").await, "one connection for one client");
    let mut two = from(proxied([203, 0, 113, 2])).await.secured(&ca, Some("http/1.1")).await;
    assert!(lives(&mut two).await, "another client behind the same proxy");
    let mut own = from(LOCAL.to_vec()).await.secured(&ca, Some("http/1.1")).await;
    assert!(lives(&mut own).await, "the proxy's own check");

    for (what, bytes) in [
        ("no header", b"\x16\x03\x01\0\x05hello".to_vec()),
        ("version 1", b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n".to_vec()),
        ("too long", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec()),
        ("half a header", proxied([203, 0, 113, 3])[..20].to_vec()),
    ] {
        assert!(is_closed(Wire::plain(gate.https).await, &bytes).await, "{what}");
    }
    let warned = gate.lines().into_iter().filter(|line| line.contains("a connection of a trusted proxy was closed")).count();
    assert_eq!(warned, 1, "said once, not for each connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_from_somebody_else_is_not_one() {
    let setup = Setup::new().env("SLUICEGATE__LISTENERS__PROXY_PROTOCOL", "10.0.0.0/8,2001:db8::/32");
    let tls = setup.start().await;
    assert!(is_closed(Wire::plain(tls.https).await, &proxied([203, 0, 113, 1])).await);
    assert!(lives(&mut Wire::connect(&tls, "http/1.1").await).await, "who is not the proxy needs none");
    let plain = Setup::new().env("SLUICEGATE__LISTENERS__PROXY_PROTOCOL", "10.0.0.0/8").env("SLUICEGATE__LISTENERS__TLS", "off");
    let plain = plain.start().await;
    let mut wire = Wire::plain(plain.https).await;
    wire.send([proxied([203, 0, 113, 1]), LIVE.as_bytes().to_vec()].concat()).await;
    let said = String::from_utf8_lossy(&wire.read_to_close().await).into_owned();
    assert!(!said.contains("200 OK"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_opened_for_who_may_and_refused_in_words() {
    let gate = Setup::new().env("CORS_ALLOWED_ORIGINS", "https://app.example").start().await;
    let token = gate.token(&["--sub", "sender"]).await;
    let asked = async |head: String| {
        let mut wire = Wire::connect(&gate, "http/1.1").await;
        wire.send(head).await;
        String::from_utf8_lossy(&wire.read_until(b"\r\n\r\n").await).to_lowercase()
    };
    for fields in ["", &format!("authorization: Bearer {token}\r\n"), "origin: https://app.example\r\n"] {
        assert!(asked(handshake("/kafka", fields)).await.starts_with("http/1.1 101 "), "{fields}");
    }
    for (fields, status) in [
        ("authorization: Bearer a.b.c\r\n", "401"),
        ("authorization: Digest x\r\n", "401"),
        ("origin: https://evil.example\r\n", "403"),
        ("origin: null\r\n", "403"),
        ("sec-websocket-version: 8\r\n", "426"),
        ("content-length: 3\r\n", "400"),
        ("sec-websocket-key: short\r\n", "400"),
    ] {
        let said = asked(handshake("/kafka", fields)).await;
        assert!(said.starts_with(&format!("http/1.1 {status} ")), "{fields}: {said}");
    }
    let said = asked("GET /kafka HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned()).await;
    assert!(said.starts_with("http/1.1 426 ") && said.contains("upgrade: websocket"), "{said}");
    for path in ["/livez", "/v1/events", "/kafka/"] {
        let said = asked(handshake(path, "")).await;
        assert!(said.starts_with("http/1.1 400 "), "{path}: {said}");
    }
    assert!(asked(handshake("/kafka", "").replace("GET", "POST")).await.starts_with("http/1.1 400 "));
    nobody_is_connected(&gate).await;

    let off = Setup::new().env("SLUICEGATE__HTTP__WEBSOCKET", "false").start().await;
    let mut wire = Wire::connect(&off, "http/1.1").await;
    wire.send(handshake("/kafka", "")).await;
    assert!(wire.read_until(b"\r\n\r\n").await.starts_with(b"HTTP/1.1 404"));
    let apart = Setup::new().env("SLUICEGATE__LISTENERS__DOORS", "http").start().await;
    let mut wire = Wire::connect(&apart, "http/1.1").await;
    wire.send(handshake("/kafka", "")).await;
    assert!(wire.read_until(b"\r\n\r\n").await.starts_with(b"HTTP/1.1 400"), "no Kafka on this listener, in no way");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_answered_in_a_websocket_whose_connection_keeps_its_slot() {
    let gate = Setup::new().start().await;
    let mut socket = open(&gate, "").await;
    // One request in two messages, a ping between: boundaries mean nothing.
    socket.send(Message::binary(HELLO[..3].to_vec())).await.expect("open");
    socket.send(Message::Ping("p".into())).await.expect("open");
    socket.send(Message::binary(HELLO[3..].to_vec())).await.expect("open");
    let (mut heard, mut pongs) = (Vec::new(), 0);
    while heard.len() < 10 || pongs == 0 {
        match tokio::time::timeout(DEADLINE, socket.next()).await.expect("an answer").expect("open").expect("frames") {
            Message::Binary(bytes) => heard.extend(bytes),
            Message::Pong(_) => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard.get(4..10), Some(HEARD));
    assert_eq!(gate.admin_get("/status").await.json()["limits"]["connections"], 1, "it counts");
    socket.close(None).await.expect("open");
    nobody_is_connected(&gate).await;

    let mut socket = open(&gate, "").await;
    socket.send(Message::text("hello")).await.expect("open");
    let close = socket.next().await.expect("open").expect("a frame");
    assert!(matches!(&close, Message::Close(Some(frame)) if frame.code == CloseCode::Unsupported), "{close:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_a_websocket_with_going_away_and_in_time() {
    let mut gate = Setup::new().start().await;
    let mut socket = open(&gate, "").await;
    socket.send(Message::binary(HELLO.to_vec())).await.expect("open");
    assert!(matches!(socket.next().await, Some(Ok(Message::Binary(_)))));
    gate.sigterm();
    let close = tokio::time::timeout(DEADLINE, socket.next()).await.expect("a close").expect("open").expect("a frame");
    assert!(matches!(&close, Message::Close(Some(frame)) if frame.code == CloseCode::Away), "{close:?}");
    while socket.next().await.is_some() {}
    assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_a_gate_whose_clients_have_said_nothing_yet() {
    let mut gate = Setup::new().env("SLUICEGATE__LISTENERS__PROXY_PROTOCOL", "127.0.0.0/8").start().await;
    let _silent = [Wire::plain(gate.https).await, Wire::plain(gate.https).await];
    gate.sigterm();
    assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
}

/// Scenario: the platform's function knows SCRAM only, and a host lets it out on 443 only.
/// Guarantees: kafkajs, unmodified, produces over a WebSocket; so does one that shows a token when it opens it.
#[tokio::test(flavor = "multi_thread")]
async fn kafkajs_produces_over_a_websocket_with_scram_inside_or_a_token_outside() {
    let kafka = Kafka::start().await;
    kafka.create_topic("events", 2, &[]).await;
    let setup = Setup::new().broker(&kafka);
    let users = setup.path("users.toml").display().to_string();
    let setup = setup.env("SLUICEGATE__AUTH__USERS_FILE", &users).config(
        "[auth.issuers.own]\nkind = \"static\"\nalgorithm = \"HS256\"\nissuer = \"own\"\naudience = \"gate\"\ntopics = [\"events\"]\n",
    );
    let setup = setup.env("SLUICEGATE__AUTH__ISSUERS__OWN__KEY", "a secret of thirty-two bytes or more");
    let secret = setup.path("secret.txt");
    std::fs::write(&secret, PASSWORD).expect("a file in a folder of ours");
    let added = setup.run(&["user", "add", "ada", "--topics", "events", "--password-file", &secret.display().to_string()]).await;
    assert_eq!(added.status, 0, "{}", added.stderr);
    let gate = setup.start().await;

    let sent = kafkajs(&gate, &["--topic", "events"], &[("USERNAME", "ada"), ("PASSWORD", PASSWORD)]).await;
    assert_eq!(sent["sent"], 10, "{sent}");
    let token = gate.token(&["--issuer", "own", "--sub", "u1"]).await;
    let sent = kafkajs(&gate, &["--topic", "events", "--gzip"], &[("TOKEN", &token)]).await;
    assert_eq!(sent["sent"], 10, "{sent}");
    let refused = kafkajs(&gate, &["--topic", "events"], &[("USERNAME", "ada"), ("PASSWORD", "wrong")]).await;
    assert!(refused["error"].is_string(), "{refused}");
    assert_eq!(kafka.consume_all("events").await.len(), 20);
}
