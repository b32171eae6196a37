//! The built gate, as a process of its own.
//!
//! What always holds: it runs in a fresh folder with no environment but what the test gives it, on free ports of
//! loopback; it is ready when `Setup::start` returns.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::process::Process;
use super::{START_DEADLINE, kafka::Kafka};

/// The deadlines of a patient gate. With those that it is shipped with, a broker or a disk that a busy machine holds up for
/// a second is a broken one, and an event takes the inbox, or is refused: rightly, and not what most tests are about.
const PATIENT: [(&str, &str); 5] = [
    ("SLUICEGATE__SINK__FAILOVER_AFTER", "20s"),
    ("SLUICEGATE__SINK__FIRST_ACK", "20s"),
    ("SLUICEGATE__SINK__SEND_DEADLINE", "25s"),
    ("SLUICEGATE__SINK__ANSWER_DEADLINE", "30s"),
    ("SLUICEGATE__SINK__MESSAGE_TIMEOUT", "60s"),
];

/// What a gate is started with. Clones share the folder: `start` again is the same gate after its end.
#[derive(Clone)]
pub struct Setup {
    dir: Arc<TempDir>,
    env: BTreeMap<String, String>,
    /// A program and its arguments that start the gate's: `strace -D`, `faketime`.
    under: Vec<String>,
}

/// How a command of the gate's ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit status; -1 after a signal.
    pub status: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Setup {
    /// A patient gate with no configuration and no broker, in an empty folder.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sluicegate-gate-").tempdir().expect("a temporary folder");
        let setup = Self { dir: Arc::new(dir), env: BTreeMap::new(), under: Vec::new() };
        let setup = setup.patient();
        setup.env("SLUICEGATE__LISTENERS__BIND", "127.0.0.1:0").env("SLUICEGATE__ADMIN__BIND", "127.0.0.1:0").env("STRUCTURED_LOGS", "true")
    }

    /// With deadlines that a busy machine does not miss.
    pub fn patient(self) -> Self {
        PATIENT.into_iter().fold(self, |setup, (name, value)| setup.env(name, value))
    }

    /// With the deadlines that the gate is shipped with, for tests of what happens when they are over.
    pub fn shipped(self) -> Self {
        PATIENT.into_iter().fold(self, |setup, (name, _)| setup.without_env(name))
    }

    /// With this broker as its sink.
    pub fn broker(self, kafka: &Kafka) -> Self {
        self.env("REDPANDA_BROKERS", &kafka.brokers())
    }

    /// With one more variable of the environment: one of the platform's, or `SLUICEGATE__SECTION__KEY`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Without a variable that it would have.
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// With a configuration file of this text.
    pub fn config(self, text: &str) -> Self {
        let file = self.path("gate.toml");
        std::fs::write(&file, text).expect("a file in a folder of ours");
        let file = file.display().to_string();
        self.env("SLUICEGATE_CONFIG", &file)
    }

    /// Started by another program, which must leave the gate in its own place: `strace -D …`, `faketime …`.
    pub fn under(mut self, program: &[impl AsRef<str>]) -> Self {
        self.under = program.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// A path in the gate's folder.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Starts the gate and waits until it says `ready`.
    pub async fn start(&self) -> Gate {
        let setup = self.clone();
        tokio::task::spawn_blocking(move || Gate::start(setup)).await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("{error}"),
        })
    }

    /// Starts the gate, or another command of it, and does not wait for anything.
    pub fn spawn(&self, args: &[&str]) -> Process {
        Process::spawn("the gate", &mut self.command(args))
    }

    /// Runs a command to its end: `token`, `topics --create`, `inbox list`, `check`.
    pub async fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the gate can be started");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let words = self.under.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_sluicegate")]).collect::<Vec<_>>();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args).current_dir(self.dir.path()).env_clear().envs(&self.env);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_BACKTRACE", "1");
        command
    }
}

/// A gate that is ready.
pub struct Gate {
    process: Process, // Before its folder: what is dropped first must be the one that writes.
    /// What it was started with.
    pub setup: Setup,
    /// The address of its HTTPS door.
    pub https: SocketAddr,
    /// The address of its admin listener.
    pub admin: SocketAddr,
    /// A client that trusts its certificate.
    pub client: Client,
}

impl Gate {
    fn start(setup: Setup) -> Self {
        let mut process = setup.spawn(&[]);
        let (https, admin) = process.wait_for_line("ready, with its addresses", START_DEADLINE, ready);
        let ca = setup.path("certs/dev/ca.pem");
        let client = Client::trusting(ca.is_file().then_some(ca.as_path()));
        Self { setup, https, admin, client, process }
    }

    /// The authority of its certificate; there is none where TLS ends in front of it.
    pub fn ca(&self) -> Option<PathBuf> {
        Some(self.setup.path("certs/dev/ca.pem")).filter(|file| file.is_file())
    }

    /// The URL of a path on its HTTPS door.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.ca().is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.https)
    }

    /// A token of the development key: `token(&["--sub", "u1", "--topics", "a,b*"])`.
    pub async fn token(&self, args: &[&str]) -> String {
        let ran = self.setup.run(&[&["token"], args].concat()).await;
        assert_eq!(ran.status, 0, "no token: {}{}", ran.stdout, ran.stderr);
        ran.stdout.trim().lines().last().expect("a token").to_owned()
    }

    /// Posts JSON to its HTTPS door, with a token. A header named here as well replaces nothing: give each once.
    pub async fn post(&self, path: &str, token: &str, body: impl Into<Bytes>) -> Answer {
        self.post_with(path, &[("authorization", &format!("Bearer {token}")), ("content-type", "application/json")], body).await
    }

    /// Posts to its HTTPS door with exactly these headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.client.send(Method::POST, &self.url(path), headers, body).await.unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Asks its admin listener.
    pub async fn admin_get(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.admin);
        self.client.send(Method::GET, &url, &[], Bytes::new()).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Everything it has logged and printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Freezes it (SIGSTOP).
    pub fn stop(&self) {
        self.process.signal("STOP");
    }

    /// Thaws it (SIGCONT).
    pub fn cont(&self) {
        self.process.signal("CONT");
    }

    /// Asks it to stop (SIGTERM).
    pub fn sigterm(&self) {
        self.process.signal("TERM");
    }

    /// Waits for its end.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline).await
    }

    /// Ends it at once, as a power cut of the process would.
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }
}

/// The addresses in the one line that says that the gate is ready.
fn ready(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |key: &str| line[key].as_str()?.parse().ok();
    (line["message"] == "ready").then(|| Some((address("https")?, address("admin")?)))?
}
