//! A proxy before a gate's Kafka door, in plain text, that keeps every byte and can say what a client was told.
//!
//! What always holds: bytes pass as they are; how often a client came, and how often the gate hung up on one that had not,
//! is counted; what cannot be read is reported, never passed over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::Decodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const UNSUPPORTED_VERSION: i16 = 35;

/// The proxy, until it is dropped.
pub struct Probe {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    talks: Mutex<Vec<Arc<Mutex<Talk>>>>,
}

/// One connection, all of it.
#[derive(Default)]
struct Talk {
    asked: Vec<u8>,
    told: Vec<u8>,
    /// The gate was the first to close.
    hung_up: bool,
}

impl Probe {
    /// Stands before a port of loopback.
    pub async fn start(gate: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared::default());
        let kept = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let talk = Arc::new(Mutex::new(Talk::default()));
                kept.talks.lock().expect("nobody panics with it").push(talk.clone());
                tokio::spawn(serve(client, gate, talk));
            }
        });
        Self { port, shared, accepting }
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.talks().len()
    }

    /// How many of them the gate has closed before the client did.
    pub fn hung_up(&self) -> usize {
        self.talks().iter().filter(|talk| talk.lock().expect("nobody panics with it").hung_up).count()
    }

    /// How many answers there were to requests of this kind.
    pub fn answers(&self, kind: ApiKey) -> usize {
        self.told().iter().filter(|told| told.kind == Some(kind)).count()
    }

    /// Everything that a client was told and that names who is behind the gate: `localhost`, or one of these ports, in a
    /// decoded answer or as text. An answer that cannot be decoded is named too.
    pub fn leaks(&self, ports: &[u16]) -> Vec<String> {
        let mut leaks = Vec::new();
        for told in self.told() {
            let raw = String::from_utf8_lossy(&told.raw).into_owned();
            for text in [&told.decoded, &raw] {
                if let Some(word) = named(text, ports) {
                    leaks.push(format!("{:?} names {word}: {text}", told.kind));
                }
            }
            if told.unreadable {
                leaks.push(format!("{:?} cannot be read: {}", told.kind, told.decoded));
            }
        }
        leaks
    }

    fn talks(&self) -> Vec<Arc<Mutex<Talk>>> {
        self.shared.talks.lock().expect("nobody panics with it").clone()
    }

    fn told(&self) -> Vec<Told> {
        self.talks().iter().flat_map(|talk| talk.lock().expect("nobody panics with it").answers()).collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One answer.
struct Told {
    kind: Option<ApiKey>,
    raw: Bytes,
    decoded: String,
    unreadable: bool,
}

impl Talk {
    fn answers(&self) -> Vec<Told> {
        let mut asked = HashMap::new();
        for frame in frames(&self.asked) {
            if let [k0, k1, v0, v1, c0, c1, c2, c3, ..] = frame[..] {
                let call = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
                asked.insert(i32::from_be_bytes([c0, c1, c2, c3]), call);
            }
        }
        frames(&self.told).into_iter().map(|frame| read(frame, &asked)).collect()
    }
}

/// What stands in an answer, in words.
fn read(raw: Bytes, asked: &HashMap<i32, (i16, i16)>) -> Told {
    let correlation = raw.first_chunk::<4>().map(|id| i32::from_be_bytes(*id));
    let call = correlation.and_then(|id| asked.get(&id)).copied();
    let kind = call.and_then(|(key, _)| ApiKey::try_from(key).ok());
    let Some((kind, (_, version))) = kind.zip(call) else {
        return Told { kind, decoded: "nobody has asked for it".to_owned(), raw, unreadable: true };
    };
    let mut body = raw.clone();
    let header = ResponseHeader::decode(&mut body, kind.response_header_version(version));
    // Who asks for a version of it that is not known is told so in the oldest one.
    let error = body.first_chunk::<2>().map(|code| i16::from_be_bytes(*code));
    let version = if kind == ApiKey::ApiVersions && error == Some(UNSUPPORTED_VERSION) { 0 } else { version };
    let decoded = header.and_then(|_| ResponseKind::decode(kind, &mut body, version));
    let unreadable = decoded.is_err() || !body.is_empty();
    let decoded = decoded.map_or_else(|error| error.to_string(), |answer| format!("{answer:?}"));
    Told { kind: Some(kind), raw, decoded, unreadable }
}

fn named(text: &str, ports: &[u16]) -> Option<String> {
    if text.to_ascii_lowercase().contains("localhost") {
        return Some("localhost".to_owned());
    }
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u16>().ok());
    numbers.into_iter().find(|number| ports.contains(number)).map(|port| port.to_string())
}

/// The whole frames in a stream, each without its length.
fn frames(stream: &[u8]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(stream);
    let mut frames = Vec::new();
    while let Some(length) = rest.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize) {
        if rest.len() - 4 < length {
            break;
        }
        rest.advance(4);
        frames.push(rest.split_to(length));
    }
    frames
}

async fn serve(client: TcpStream, gate: u16, talk: Arc<Mutex<Talk>>) {
    let Ok(gate) = TcpStream::connect(("127.0.0.1", gate)).await else { return };
    drop(client.set_nodelay(true));
    drop(gate.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_gate, to_gate) = gate.into_split();
    tokio::select! {
        () = pass(from_client, to_gate, |bytes| talk.lock().expect("nobody panics with it").asked.extend(bytes)) => {}
        () = pass(from_gate, to_client, |bytes| talk.lock().expect("nobody panics with it").told.extend(bytes)) => {
            talk.lock().expect("nobody panics with it").hung_up = true;
        }
    }
}

/// Passes bytes on until the one who sends them has closed, or the other takes no more.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, keep: impl Fn(&[u8])) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        keep(&chunk[..n]);
        if to.write_all(&chunk[..n]).await.is_err() {
            return;
        }
    }
}
