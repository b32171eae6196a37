//! A real OpenTelemetry Collector, as `tests/run` has built it, that writes what it receives to a file.
//!
//! What always holds: it listens on loopback only, on ports of its own; what it received is read back as the export
//! requests in JSON that it wrote, one encoder for all that came in, whatever it came in as.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::Process;
use super::telemetry::Telemetry;
use super::{START_DEADLINE, eventually, free_port};

/// How long a Collector may take with what it is to receive. Generous: the machine may be busy.
const RECEIVED: Duration = Duration::from_secs(120);

/// A running Collector.
pub struct Collector {
    process: Process, // Before its folder: what is dropped first must be the one that writes.
    dir: TempDir,
    http: u16,
    grpc: u16,
}

impl Collector {
    /// One that receives OTLP, over HTTP and gRPC, without TLS.
    pub async fn of_otlp() -> Self {
        let (http, grpc) = (free_port(), free_port());
        let receiver = format!(
            "otlp: {{ protocols: {{ grpc: {{ endpoint: 127.0.0.1:{grpc} }}, \
             http: {{ endpoint: 127.0.0.1:{http}, cors: {{ allowed_origins: [\"*\"], allowed_headers: [\"*\"] }} }} }} }}"
        );
        Self::start("otlp", &receiver, http, grpc).await
    }

    /// One that reads the three topics of a broker from their beginning.
    pub async fn of_kafka(brokers: &str) -> Self {
        let signal = |name: &str, topic: &str| format!("    {name}: {{ topics: [{topic}], encoding: otlp_proto }}\n");
        let signals = [signal("traces", "otlp_spans"), signal("metrics", "otlp_metrics"), signal("logs", "otlp_logs")].concat();
        let receiver = format!("kafka:\n    brokers: [{brokers}]\n    group_id: the-collector\n    initial_offset: earliest\n{signals}");
        Self::start("kafka", &receiver, 0, 0).await
    }

    async fn start(name: &str, receiver: &str, http: u16, grpc: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("sluicegate-collector-").tempdir().expect("a temporary folder");
        let health = free_port();
        let pipeline = format!("{{ receivers: [{name}], exporters: [file] }}");
        let config = format!(
            "receivers:\n  {receiver}\n\
             exporters: {{ file: {{ path: {}, flush_interval: 50ms }} }}\n\
             extensions: {{ health_check: {{ endpoint: 127.0.0.1:{health} }} }}\n\
             service:\n  extensions: [health_check]\n  telemetry: {{ metrics: {{ level: none }}, logs: {{ level: warn }} }}\n\
             \x20 pipelines: {{ traces: {pipeline}, metrics: {pipeline}, logs: {pipeline} }}\n",
            dir.path().join("received.jsonl").display(),
        );
        let file = dir.path().join("collector.yaml");
        std::fs::write(&file, config).expect("a file in a folder of ours");
        let mut command = Command::new(program());
        command.arg("--config").arg(&file).env_clear();
        let mut process = Process::spawn("the Collector", &mut command);
        // Its health is served when all receivers are.
        eventually("the Collector is up", START_DEADLINE, || {
            assert!(process.exited().is_none(), "the Collector ended:\n{}", process.lines().join("\n"));
            async move { TcpStream::connect(("127.0.0.1", health)).await.ok() }
        })
        .await;
        Self { process, dir, http, grpc }
    }

    /// The URL of its receiver over HTTP.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// The URL of its receiver over gRPC.
    pub fn grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// All that it has received so far.
    pub fn received(&self) -> Vec<Value> {
        let written = std::fs::read(self.dir.path().join("received.jsonl")).unwrap_or_default();
        // What stands behind the last line feed is being written.
        let end = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        let lines = written[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("a Collector writes JSON")).collect()
    }

    /// What it has received of a run, as soon as that is as much as was said.
    pub async fn telemetry(&self, run: &str, items: usize) -> Telemetry {
        let what = format!("the Collector has {items} items of {run}");
        eventually(&what, RECEIVED, async || Some(Telemetry::of(&self.received(), run)).filter(|telemetry| telemetry.len() >= items)).await
    }

    /// What it has complained of.
    pub fn complaints(&self) -> Vec<String> {
        let complains = |line: &String| line.contains("\terror\t") || line.contains("\twarn\t");
        self.process.lines().into_iter().filter(complains).collect()
    }
}

/// Where `tests/run` has put it.
fn program() -> PathBuf {
    let cache = |name: &str, below: &str| std::env::var_os(name).map(|base| Path::new(&base).join(below));
    let folder = cache("SLUICEGATE_CACHE", "collector")
        .or_else(|| cache("XDG_CACHE_HOME", "sluicegate/collector"))
        .or_else(|| cache("HOME", ".cache/sluicegate/collector"))
        .expect("there is a home folder");
    let ready = folder.join(".stamp").is_file();
    assert!(ready, "no Collector in {}: `./tests/run --only otlp-clients` installs it", folder.display());
    folder.join("collector")
}
