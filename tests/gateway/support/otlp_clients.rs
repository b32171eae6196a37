//! Real OpenTelemetry SDKs, unmodified, each driven by a small program of ours (`tests/clients/otlp`).
//!
//! What always holds: an SDK is told where to send, as whom and how by the variables that it has for that itself (`OTEL_*`);
//! every program sends the same for one order, but for ids and times, and gives one summary at the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::checkout;
use super::collector::Collector;
use super::gate::Gate;
use super::kafka_clients::last_word;
use super::process::Process;

/// What a program may need, beyond the time over which it sends: some try for a minute.
const AROUND: Duration = Duration::from_secs(150);

/// An SDK, as its registry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// JavaScript, in Node.
    Node,
    /// Python.
    Python,
    /// Java, with the sender that it comes with.
    Java,
    /// Rust.
    Rust,
}

/// What an SDK speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// JSON over HTTP.
    Json,
    /// Protobuf over HTTP.
    Protobuf,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// As the SDKs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "http/json",
            Self::Protobuf => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Node, Self::Python, Self::Java, Self::Rust];

    /// What it speaks.
    pub fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Node | Self::Rust => &[Protocol::Json, Protocol::Protobuf, Protocol::Grpc],
            Self::Python | Self::Java => &[Protocol::Protobuf, Protocol::Grpc],
        }
    }

    fn command(self) -> Command {
        let installed = installed();
        let source = |name: &str| checkout("tests/clients/otlp").join(name);
        let mut command = match self {
            Self::Node => Command::new("node"),
            Self::Python => Command::new(installed.join("venv/bin/python")),
            Self::Java => Command::new("java"),
            Self::Rust => Command::new(installed.join("rust/otlp-client")),
        };
        match self {
            Self::Node => drop(command.arg(source("node.mjs"))),
            Self::Python => drop(command.arg(source("python.py"))),
            Self::Java => {
                let class_path = format!("{}:{}", installed.join("java/classes").display(), installed.join("java/jars/*").display());
                command.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path, "Send"]);
            }
            Self::Rust => {}
        }
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// Where `tests/run` has put them.
pub fn installed() -> PathBuf {
    let cache = |name: &str, below: &str| std::env::var_os(name).map(|base| Path::new(&base).join(below));
    let installed = cache("SLUICEGATE_CACHE", "otlp-clients")
        .or_else(|| cache("XDG_CACHE_HOME", "sluicegate/otlp-clients"))
        .or_else(|| cache("HOME", ".cache/sluicegate/otlp-clients"))
        .expect("there is a home folder");
    let ready = installed.join(".stamp").is_file() && checkout("tests/clients/otlp/node_modules").exists();
    assert!(ready, "no OpenTelemetry SDKs in {}: `./tests/run --only otlp-clients` installs them", installed.display());
    installed
}

/// A program for Node that finds the SDK's packages, with no environment but what it is given.
pub fn program(name: &str) -> Command {
    installed();
    let mut command = Command::new("node");
    command.arg(checkout("tests/clients/otlp").join(name)).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Where a client sends to, and as whom.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The base of its URLs over HTTP.
    pub http: String,
    /// The same for gRPC.
    pub grpc: String,
    /// The authority that it trusts.
    pub ca: Option<PathBuf>,
    /// Who it is.
    pub token: Option<String>,
}

impl Endpoint {
    /// The gate's one port, over TLS, with this token.
    pub fn gate(gate: &Gate, token: &str) -> Self {
        Self { http: gate.url(""), grpc: gate.url(""), ca: gate.ca(), token: Some(token.to_owned()) }
    }

    /// A Collector itself.
    pub fn collector(collector: &Collector) -> Self {
        Self { http: collector.http(), grpc: collector.grpc(), ca: None, token: None }
    }
}

/// What a client is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Every kind of everything that the SDK has.
    Everything,
    /// What has no honest form in JSON.
    Odd,
    /// So many spans, in small batches, over so many seconds.
    Stream(usize, u32),
}

/// What a client is to do.
#[derive(Debug, Clone)]
pub struct Order {
    /// Who is to do it.
    pub client: Client,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether it compresses.
    pub gzip: bool,
    /// Whether its metrics are since the last ones (delta) and not since the start (cumulative).
    pub delta: bool,
    /// What it sends.
    pub task: Task,
}

impl Order {
    /// The name of the run: the resource's attribute `test.run`.
    pub fn run(&self) -> String {
        let Self { client, protocol, gzip, delta, task } = self;
        let (gzip, delta) = (if *gzip { "/gzip" } else { "" }, if *delta { "/delta" } else { "" });
        format!("{client:?}/{}{gzip}{delta}/{task:?}", protocol.name())
    }

    /// Has it done, and waits for the summary.
    pub async fn at(&self, endpoint: &Endpoint) -> Summary {
        let seconds = if let Task::Stream(_, seconds) = self.task { seconds } else { 0 };
        last_word(&mut self.begin(endpoint), AROUND + Duration::from_secs(seconds.into())).await
    }

    /// Starts it.
    pub fn begin(&self, endpoint: &Endpoint) -> Process {
        let mut command = self.client.command();
        let (task, count, seconds) = match self.task {
            Task::Everything => ("everything", 0, 0),
            Task::Odd => ("odd", 0, 0),
            Task::Stream(count, seconds) => ("stream", count, seconds),
        };
        command.env("CLIENT_TASK", task).env("CLIENT_RUN", self.run()).env("CLIENT_PROTOCOL", self.protocol.name());
        command.env("CLIENT_COUNT", count.to_string()).env("CLIENT_SECONDS", seconds.to_string());
        let base = if self.protocol == Protocol::Grpc { &endpoint.grpc } else { &endpoint.http };
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", base).env("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol.name());
        if self.gzip {
            command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        }
        command.env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", if self.delta { "delta" } else { "cumulative" });
        if let Some(ca) = &endpoint.ca {
            command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", ca);
        }
        if let Some(token) = &endpoint.token {
            command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{token}"));
        }
        Process::spawn(&self.run(), &mut command)
    }
}

/// What a program says at the end.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// The SDK's name.
    pub client: String,
    /// Its version.
    pub version: String,
    /// How long it took, without the start of the program.
    pub seconds: f64,
    /// What the SDK complained of: what it could not send, and what it was told of partial success.
    pub errors: Vec<String>,
}
