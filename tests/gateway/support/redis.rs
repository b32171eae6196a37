//! One real Redis.
//!
//! What always holds: it listens on loopback only, on the same port for its whole life, and keeps nothing beyond its
//! process. It is used where a machine has it: without it there is none to start, and the test says so.

use std::path::PathBuf;
use std::process::Command;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::process::Process;
use super::security::Certificates;
use super::{START_DEADLINE, free_port, not_run};

/// A Redis, running or not.
pub struct Redis {
    process: Option<Process>, // Before its folder: what is dropped first must be the one that uses it.
    dir: TempDir,
    port: u16,
    password: Option<String>,
    tls: Option<Certificates>,
}

impl Redis {
    /// One that lets everybody in; none, and a word about it, where this machine has none.
    pub async fn start() -> Option<Self> {
        Self::start_as(None, false).await
    }

    /// One that wants a password.
    pub async fn start_with_password(password: &str) -> Option<Self> {
        Self::start_as(Some(password.to_owned()), false).await
    }

    /// One that speaks TLS alone, with a certificate of a private authority.
    pub async fn start_with_tls() -> Option<Self> {
        Self::start_as(None, true).await
    }

    async fn start_as(password: Option<String>, tls: bool) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            not_run(1, "no redis-server: apt-get install redis-server");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("sluicegate-redis-").tempdir().expect("a temporary folder");
        let tls = tls.then(|| Certificates::make(dir.path()));
        let mut redis = Self { process: None, dir, port: free_port(), password, tls };
        redis.restart().await;
        Some(redis)
    }

    /// Starts it on the port it has, again or for the first time. It comes up empty.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "Redis runs already: kill_9 comes first");
        let port = self.port.to_string();
        let mut server = Command::new("redis-server");
        server.current_dir(self.dir.path()).args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        match &self.tls {
            None => server.args(["--port", &port]),
            Some(tls) => server
                .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
                .arg("--tls-cert-file")
                .arg(&tls.broker)
                .arg("--tls-key-file")
                .arg(&tls.broker)
                .arg("--tls-ca-cert-file")
                .arg(&tls.ca),
        };
        if let Some(password) = &self.password {
            server.args(["--requirepass", password]);
        }
        let mut process = Process::spawn("Redis", &mut server);
        process.line("that it takes connections", START_DEADLINE, |line| line.contains("Ready to accept connections").then_some(())).await;
        self.process = Some(process);
    }

    /// Where it is, as `REDIS_URL` says it, with its password where it wants one.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("{scheme}://{login}localhost:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The authority of its certificate.
    pub fn ca(&self) -> PathBuf {
        self.tls.as_ref().expect("it speaks TLS").ca.clone()
    }

    /// A connection of the test's own, in plain text.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("an address of ours");
        client.get_multiplexed_async_connection().await.expect("Redis takes connections")
    }

    /// Freezes it (SIGSTOP): connections stay open and nothing answers.
    pub fn stop(&self) {
        self.process.as_ref().expect("Redis runs").signal("STOP");
    }

    /// Thaws it (SIGCONT).
    pub fn cont(&self) {
        self.process.as_ref().expect("Redis runs").signal("CONT");
    }

    /// Ends it at once, and what it held with it.
    pub fn kill_9(&mut self) {
        self.process.take().expect("Redis runs").kill_9();
    }
}
