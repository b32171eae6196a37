//! A WebSocket to a gate, with a handshake by hand and the library's frames.

use std::process::Command;

use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::checkout;
use super::gate::Gate;
use super::wire::{Stream, Wire};

/// An open WebSocket.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// What a handshake says, with further fields, each ended by CR LF.
pub fn handshake(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// Opens one at `/kafka`.
pub async fn open(gate: &Gate, fields: &str) -> Socket {
    let mut wire = Wire::connect(gate, "http/1.1").await;
    wire.send(handshake("/kafka", fields)).await;
    let said = wire.read_until(b"\r\n\r\n").await;
    let end = said.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head") + 4;
    let head = String::from_utf8_lossy(&said[..end]).to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    WebSocketStream::from_partially_read(wire.into_stream(), said[end..].to_vec(), Role::Client, None).await
}

/// Sends records by kafkajs over a WebSocket: `tests/clients/node/kafka-websocket.mjs`.
pub async fn kafkajs(gate: &Gate, arguments: &[&str], secrets: &[(&str, &str)]) -> Value {
    let script = checkout("tests/clients/node/kafka-websocket.mjs");
    let installed = checkout("tests/clients/node/node_modules/ws").exists();
    assert!(installed, "the package `ws` is not installed: `./tests/run --only gateway` does it");
    let url = gate.url("/kafka").replace("https://127.0.0.1", "wss://localhost").replace("http://", "ws://");
    let mut node = Command::new("node");
    node.arg(script).args(["--url", &url]).args(arguments).envs(secrets.iter().copied());
    if let Some(ca) = gate.ca() {
        node.env("NODE_EXTRA_CA_CERTS", ca);
    }
    let output = tokio::task::spawn_blocking(move || node.output()).await.expect("no panic").expect("there is Node");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("kafka-websocket.mjs printed no JSON ({error}): {stdout}{stderr}"))
}
