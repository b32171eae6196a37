//! A proxy before one broker that makes it as narrow as Redpanda is: fewer versions, and a closed socket for all others.
//!
//! What always holds: a request that Redpanda does not know never reaches the broker, and closes the connection; answers
//! pass as they are but for that of ApiVersions, which names what is let through. Nobody comes past it: the broker behind
//! it gives the proxy's port as its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const API_VERSIONS: i16 = 18;

/// The highest version of ApiVersions that is known. A higher one is answered, with error 35 and the table: the one
/// exception to the closed socket.
const MAX_API_VERSIONS: i16 = 3;

/// What Redpanda serves, as far as a producer or a gate may ask for it: API, lowest version, highest version.
const TABLE: [(i16, i16, i16); 12] = [
    (0, 0, 7),  // Produce
    (1, 4, 11), // Fetch
    (2, 0, 4),  // ListOffsets
    (3, 0, 8),  // Metadata
    (10, 0, 3), // FindCoordinator
    (17, 0, 1), // SaslHandshake
    (API_VERSIONS, 0, MAX_API_VERSIONS),
    (19, 0, 6), // CreateTopics
    (22, 0, 3), // InitProducerId
    (32, 0, 4), // DescribeConfigs
    (36, 0, 1), // SaslAuthenticate
    (60, 0, 0), // DescribeCluster
];

/// No frame of a test is longer.
const MAX_FRAME: usize = 64 << 20;

/// The proxy, until it is dropped.
pub struct Narrow {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    refused: Mutex<Vec<String>>,
}

impl Narrow {
    /// Stands before a port of loopback.
    pub async fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, broker, served.clone()));
            }
        });
        Self { port, shared, accepting }
    }

    /// Where it is.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a connection was closed for, each in words.
    pub fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves one connection. Either side's end is both sides' end.
async fn serve(client: TcpStream, port: u16, shared: Arc<Shared>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    drop(client.set_nodelay(true));
    drop(broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let asked = Mutex::new(HashMap::new());
    tokio::select! {
        () = requests(from_client, to_broker, &asked, &shared) => {}
        () = answers(from_broker, to_client, &asked) => {}
    }
}

/// Which version of ApiVersions a correlation id has asked for.
type Asked = Mutex<HashMap<i32, i16>>;

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: &Asked, shared: &Shared) {
    while let Some(frame) = frame(&mut from).await {
        let [k0, k1, v0, v1, c0, c1, c2, c3, ..] = frame[..] else { return };
        let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
        if key == API_VERSIONS {
            asked.lock().expect("nobody panics with it").insert(i32::from_be_bytes([c0, c1, c2, c3]), version);
        } else if !TABLE.iter().any(|(known, low, high)| *known == key && (*low..=*high).contains(&version)) {
            let words = format!("api {key} version {version}");
            shared.refused.lock().expect("nobody panics with it").push(words);
            return;
        }
        if send(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: &Asked) {
    while let Some(frame) = frame(&mut from).await {
        let Some(correlation) = frame.first_chunk::<4>() else { return };
        let version = asked.lock().expect("nobody panics with it").remove(&i32::from_be_bytes(*correlation));
        let sent = match version {
            Some(version) => send(&mut to, &table(*correlation, version)).await,
            None => send(&mut to, &frame).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The answer to ApiVersions. Its header has no tags in any version.
fn table(correlation: [u8; 4], version: i16) -> Vec<u8> {
    let known = (0..=MAX_API_VERSIONS).contains(&version);
    let (version, error) = if known { (version, 0_i16) } else { (0, 35) };
    let flexible = version >= 3;
    let mut answer = correlation.to_vec();
    answer.extend(error.to_be_bytes());
    let count = u8::try_from(TABLE.len()).expect("a short table");
    if flexible {
        answer.push(count + 1)
    } else {
        answer.extend([0, 0, 0, count])
    }
    for (key, low, high) in TABLE {
        answer.extend([key, low, high].into_iter().flat_map(i16::to_be_bytes));
        answer.extend(flexible.then_some(0));
    }
    if version >= 1 {
        answer.extend([0; 4]);
    }
    answer.extend(flexible.then_some(0));
    answer
}

/// One frame without its length; `None` at the end, or at one that cannot be.
async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await.ok()?).ok().filter(|length| *length <= MAX_FRAME)?;
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn send(to: &mut OwnedWriteHalf, frame: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(frame.len()).expect("no longer than it came");
    to.write_all(&[&length.to_be_bytes(), frame].concat()).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
    use kafka_protocol::protocol::Decodable;
    use tokio::io::{AsyncRead, AsyncWrite};

    use super::*;

    #[test]
    fn the_table_can_be_read_in_every_version_and_higher_ones_are_told_so() {
        for version in 0..=4 {
            let answer = table([0, 0, 0, 7], version);
            let mut body = Bytes::from(answer).slice(4..);
            let read = ApiVersionsResponse::decode(&mut body, if version > 3 { 0 } else { version }).expect("an answer");
            assert!(body.is_empty());
            assert_eq!(read.error_code, if version > 3 { 35 } else { 0 });
            let produce = read.api_keys.iter().find(|one| one.api_key == ApiKey::Produce as i16).expect("Produce");
            assert_eq!((read.api_keys.len(), produce.max_version), (TABLE.len(), 7));
        }
    }

    async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), key: i16, version: i16) -> Option<Vec<u8>> {
        let body: Vec<u8> = [key, version, 0, 7].into_iter().flat_map(i16::to_be_bytes).collect();
        stream.write_all(&[&[0, 0, 0, 8], &body[..]].concat()).await.ok()?;
        let length = stream.read_u32().await.ok()?;
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer)
    }

    #[tokio::test]
    async fn what_redpanda_does_not_know_closes_the_socket_and_reaches_nobody() {
        let behind = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let narrow = Narrow::start(behind.local_addr().expect("bound").port()).await;
        for (key, version, known) in [(0, 7, true), (0, 8, false), (3, 8, true), (3, 9, false), (75, 0, false)] {
            let mut client = TcpStream::connect(("127.0.0.1", narrow.port())).await.expect("it listens");
            let (broker, _) = behind.accept().await.expect("loopback");
            let (mut from, mut to) = broker.into_split();
            // A broker that says what it was asked.
            let echo = async {
                let asked = frame(&mut from).await;
                if let Some(asked) = &asked {
                    send(&mut to, &asked[4..]).await.expect("it is there");
                }
                asked
            };
            let (answer, asked) = tokio::join!(exchange(&mut client, key, version), echo);
            assert_eq!((answer.is_some(), asked.is_some()), (known, known), "api {key} version {version}");
        }
        assert_eq!(narrow.refused(), ["api 0 version 8", "api 3 version 9", "api 75 version 0"]);
    }
}
