//! Whom the rules are held against: a gate of the test's own, or the server at the address in the environment.
//!
//! `OTLP_TARGET_HTTP` (`http://127.0.0.1:4318`) makes it another server; then `OTLP_TARGET_GRPC` says where it speaks gRPC
//! (else: there too), `OTLP_TARGET_TOKEN` is the bearer token, `OTLP_TARGET_CA` the PEM file of its authority, and
//! `OTLP_TARGET_KAFKA` the broker that it writes to. What always holds: a rule that cannot be asked there is said NOT RUN.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use http::{Method, Uri};
use tokio::sync::Mutex;

use crate::support::gate::{Gate, Setup};
use crate::support::kafka::Kafka;
use crate::support::kafka_read::{Reader, Record};
use crate::support::not_run;
use crate::support::wire::Wire;

use super::grpc::Call;
use super::http::Ask;

/// The page that the tests' own gate lets read its answers.
pub const ORIGIN: &str = "https://app.example";

/// No quota stands in the way, one page may read, plain text is spoken beside TLS.
const CONFIG: &str = r#"
[listeners]
plaintext = true

[http]
cors_allowed_origins = ["https://app.example"]

[limits.tiers.standard]
events_per_second = 1000000.0
burst = 1000000
kib_per_second = 1000000.0
kib_burst = 1000000
"#;

/// The partitions of each topic of the tests' own gate.
pub const PARTITIONS: i32 = 3;

/// The topics of the three signals.
pub const TOPICS: [&str; 3] = ["otlp_spans", "otlp_metrics", "otlp_logs"];

/// A gate and its broker. While one test uses the shared one, those that run beside it do too.
pub struct Stage {
    /// The gate; before its broker, as it is the one that would complain.
    pub gate: Gate,
    /// Its broker, where it has one.
    pub kafka: Option<Kafka>,
}

/// Where one protocol is spoken.
#[derive(Debug, Clone)]
pub struct Address {
    tls: bool,
    socket: SocketAddr,
}

/// Whom a test asks.
#[derive(Clone)]
pub struct Target {
    http: Address,
    grpc: Address,
    ca: Option<PathBuf>,
    token: Option<String>,
    brokers: Option<String>,
    stage: Option<Arc<Stage>>,
}

static SHARED: Mutex<Weak<Stage>> = Mutex::const_new(Weak::new());

/// The server in the environment, else the gate that tests share.
pub async fn target() -> Target {
    if let Some(target) = Target::elsewhere() {
        return target;
    }
    let mut shared = SHARED.lock().await;
    let stage = match shared.upgrade() {
        Some(stage) => stage,
        None => Arc::new(Stage::with_broker(|setup| setup).await),
    };
    *shared = Arc::downgrade(&stage);
    drop(shared);
    Target::of(stage).await
}

/// A gate of the test's own with a broker, changed by `change`. None, and said so, where another server is asked.
pub async fn own(change: impl FnOnce(Setup) -> Setup) -> Option<Target> {
    if is_elsewhere("a gate of the test's own, with other settings") {
        return None;
    }
    Some(Target::of(Arc::new(Stage::with_broker(change).await)).await)
}

/// A gate of the test's own without a broker: the address that it is given has none behind it.
pub async fn brokerless(change: impl FnOnce(Setup) -> Setup) -> Option<Target> {
    if is_elsewhere("a fault behind the gate") {
        return None;
    }
    let setup = change(setup().shipped().env("REDPANDA_BROKERS", "127.0.0.1:9"));
    let stage = Stage { gate: setup.start().await, kafka: None };
    Some(Target::of(Arc::new(stage)).await)
}

/// Whether another server is asked, for which this cannot be arranged; it is said then.
pub fn is_elsewhere(what: &str) -> bool {
    let elsewhere = std::env::var_os("OTLP_TARGET_HTTP").is_some();
    if elsewhere {
        not_run(1, &format!("needs {what}, which cannot be had of the server at OTLP_TARGET_HTTP"));
    }
    elsewhere
}

/// A name that no other request of any run bears.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("conform-{}-{}-{now}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What every gate of these tests is started with, but for its broker.
pub fn setup() -> Setup {
    Setup::new().config(CONFIG)
}

impl Stage {
    async fn with_broker(change: impl FnOnce(Setup) -> Setup) -> Self {
        let kafka = Kafka::start().await;
        for topic in TOPICS {
            kafka.create_topic(topic, PARTITIONS, &[]).await;
        }
        let gate = change(setup().broker(&kafka)).start().await;
        Self { gate, kafka: Some(kafka) }
    }
}

impl Target {
    /// A gate of ours, with a token for the topics of all signals.
    pub async fn of(stage: Arc<Stage>) -> Self {
        let token = stage.gate.token(&["--sub", "sender", "--topics", "otlp_*"]).await;
        let ca = stage.gate.ca();
        let address = Address { tls: ca.is_some(), socket: stage.gate.https };
        let brokers = stage.kafka.as_ref().map(Kafka::brokers);
        Self { http: address.clone(), grpc: address, ca, token: Some(token), brokers, stage: Some(stage) }
    }

    fn elsewhere() -> Option<Self> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let http = Address::of(&text("OTLP_TARGET_HTTP")?);
        let grpc = text("OTLP_TARGET_GRPC").map_or_else(|| http.clone(), |url| Address::of(&url));
        let (ca, token) = (text("OTLP_TARGET_CA").map(PathBuf::from), text("OTLP_TARGET_TOKEN"));
        Some(Self { http, grpc, ca, token, brokers: text("OTLP_TARGET_KAFKA"), stage: None })
    }

    /// The gate, where it is ours.
    pub fn gate(&self) -> &Gate {
        &self.stage.as_ref().expect("only asked where the gate is the test's own").gate
    }

    /// Its broker, where it is ours.
    pub fn kafka(&self) -> &Kafka {
        let stage = self.stage.as_ref().expect("only asked where the gate is the test's own");
        stage.kafka.as_ref().expect("only asked where it has one")
    }

    /// The same server, asked with another token.
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// The same server, asked over gRPC where it speaks HTTP.
    pub fn on_one_port(self) -> Self {
        Self { grpc: self.http.clone(), ..self }
    }

    /// The same server, asked without TLS.
    pub fn in_plain_text(mut self) -> Self {
        self.http.tls = false;
        self.grpc.tls = false;
        self
    }

    /// The bearer token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A request to its HTTP door, with the token.
    pub fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        Ask::new(self, method, path)
    }

    /// POST to its HTTP door, with the token.
    pub fn post(&self, path: &str) -> Ask<'_> {
        self.ask(Method::POST, path)
    }

    /// A call of a gRPC method, with the token.
    pub fn call(&self, path: &str) -> Call<'_> {
        Call::new(self, path)
    }

    /// A connection to the HTTP door; `protocol` is what ALPN offers.
    pub async fn http(&self, protocol: &str) -> Wire {
        self.connect(&self.http, protocol).await
    }

    /// A connection to where gRPC is spoken.
    pub async fn grpc(&self) -> Wire {
        self.connect(&self.grpc, "h2").await
    }

    /// Every record of a topic that the marker stands in. None, and said so, where nobody knows the broker.
    pub async fn records(&self, topic: &str, marker: &str) -> Option<Vec<Record>> {
        let Some(brokers) = &self.brokers else {
            not_run(1, "needs OTLP_TARGET_KAFKA, the broker that the server writes to");
            return None;
        };
        let mut all = Reader::of(brokers.clone(), 1).consume_all(topic).await;
        all.retain(|record| record.value.windows(marker.len()).any(|window| window == marker.as_bytes()));
        Some(all)
    }

    async fn connect(&self, address: &Address, protocol: &str) -> Wire {
        let plain = Wire::plain(address.socket).await;
        if !address.tls {
            return plain;
        }
        let ca = self.ca.as_deref().expect("OTLP_TARGET_CA names the authority of an https:// server");
        plain.secured(ca, Some(protocol)).await
    }
}

impl Address {
    fn of(url: &str) -> Self {
        let uri: Uri = url.parse().unwrap_or_else(|error| panic!("{url} is no URL: {error}"));
        let host = uri.host().filter(|host| *host != "localhost").unwrap_or("127.0.0.1");
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let socket = format!("{host}:{port}").parse().expect("an address in digits");
        Self { tls, socket }
    }
}
