//! Google's own Firestore emulator, as one real part.
//!
//! What always holds: it listens on loopback only, on the same port for its whole life, and keeps nothing beyond its
//! process. Its licence is closed, so it is used where a machine has it and never brought along: without it there is
//! none to start, and the test says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::process::Process;
use super::{START_DEADLINE, eventually, free_port, not_run};

/// The project that tests write to.
pub const PROJECT: &str = "demo";

/// The database that tests write to: a named one, as the platform has it.
pub const DATABASE: &str = "deml";

/// Nobody may do anything, but for who comes with `Bearer owner`.
const DENY_RULES: &str = "rules_version = '2';
service cloud.firestore { match /databases/{db}/documents { match /{d=**} { allow read, write: if false; } } }
";

/// How many documents one page of its list shows.
const MAX_PAGE: u32 = 300;

/// An emulator, running or not.
pub struct Firestore {
    process: Option<Process>, // Before its folder: what is dropped first must be the one that reads.
    dir: TempDir,
    jar: PathBuf,
    port: u16,
    rules: bool,
    client: Client,
}

impl Firestore {
    /// An emulator that lets everybody in; none, and a word about it, where this machine has none.
    pub async fn start() -> Option<Self> {
        Self::start_as(false).await
    }

    /// An emulator that lets in only who comes with `Bearer owner`.
    pub async fn start_with_rules() -> Option<Self> {
        Self::start_as(true).await
    }

    async fn start_as(rules: bool) -> Option<Self> {
        let Some(jar) = jar() else {
            not_run(
                1,
                "no Firestore emulator: install Google's package google-cloud-cli-firestore-emulator, or set FIRESTORE_EMULATOR_JAR",
            );
            return None;
        };
        let dir = tempfile::Builder::new().prefix("sluicegate-firestore-").tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("deny.rules"), DENY_RULES).expect("a file in a folder of ours");
        let mut firestore = Self { process: None, dir, jar, port: free_port(), rules, client: Client::trusting(None) };
        firestore.restart().await;
        Some(firestore)
    }

    /// Starts it on the port it has, again or for the first time. It comes up empty.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the emulator runs already: kill_9 comes first");
        let mut java = Command::new("java");
        // It keeps everything in memory, and stands still without a word when that is spent.
        let heap = if std::env::var_os("SLUICEGATE_FIRESTORE_EVENTS").is_some() { "-Xmx4g" } else { "-Xmx512m" };
        java.args(["-Duser.language=en", heap, "-cp"]).arg(&self.jar).current_dir(self.dir.path());
        java.arg("com.google.cloud.datastore.emulator.firestore.CloudFirestore");
        java.arg("--host=127.0.0.1").arg(format!("--port={}", self.port));
        if self.rules {
            java.arg(format!("--rules={}", self.dir.path().join("deny.rules").display()));
        }
        let mut process = Process::spawn("the Firestore emulator", &mut java);
        let (client, home) = (&self.client, format!("http://{}/", self.address()));
        eventually("the emulator answers", START_DEADLINE, || {
            assert!(process.exited().is_none(), "the emulator ended:\n{}", process.lines().join("\n"));
            async { client.send(Method::GET, &home, &[], "").await.ok().filter(|answer| answer.status == 200) }
        })
        .await;
        self.process = Some(process);
        // Its first real answer takes it a second by itself, and a client's deadline is no longer than that.
        self.documents("warm-up").await;
    }

    /// Where it listens, with gRPC (h2c) and REST alike: the value of `FIRESTORE_EMULATOR_HOST`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Freezes it (SIGSTOP): connections stay open and nothing answers.
    pub fn stop(&self) {
        self.process.as_ref().expect("the emulator runs").signal("STOP");
    }

    /// Thaws it (SIGCONT).
    pub fn cont(&self) {
        self.process.as_ref().expect("the emulator runs").signal("CONT");
    }

    /// Ends it at once, and what it held with it.
    pub fn kill_9(&mut self) {
        self.process.take().expect("the emulator runs").kill_9();
    }

    /// Deletes all documents.
    pub async fn clear(&self) {
        let path = format!("/emulator/v1/projects/{PROJECT}/databases/{DATABASE}/documents");
        self.ask(Method::DELETE, &path).await;
    }

    /// The documents of a collection as its REST API shows them (`name`, `fields`, `createTime`, `updateTime`), by name.
    pub async fn documents(&self, collection: &str) -> Vec<Value> {
        let path = format!("/v1/projects/{PROJECT}/databases/{DATABASE}/documents/{collection}?pageSize={MAX_PAGE}");
        let (mut found, mut token) = (Vec::new(), None::<String>);
        loop {
            let page = token.map_or_else(|| path.clone(), |token| format!("{path}&pageToken={token}"));
            let mut answer = self.ask(Method::GET, &page).await.json();
            if let Value::Array(documents) = answer["documents"].take() {
                found.extend(documents);
            }
            token = answer["nextPageToken"].as_str().map(str::to_owned);
            if token.is_none() {
                return found;
            }
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.address());
        let answer = self.client.send(method, &url, &[("authorization", "Bearer owner")], "").await.expect("the emulator answers");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    }
}

/// Where this machine has the emulator: `FIRESTORE_EMULATOR_JAR`, else Google's Debian package.
fn jar() -> Option<PathBuf> {
    if let Some(jar) = std::env::var_os("FIRESTORE_EMULATOR_JAR") {
        assert!(Path::new(&jar).is_file(), "FIRESTORE_EMULATOR_JAR is no file: {}", jar.display());
        return Some(jar.into());
    }
    let listed = Command::new("dpkg").args(["-L", "google-cloud-cli-firestore-emulator"]).output().ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed.lines().find(|line| line.ends_with(".jar")).map(PathBuf::from)
}
