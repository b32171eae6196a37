//! The connection to Redis: one, made when it is needed, and dropped at the first thing that goes wrong with it.
//!
//! What always holds: nothing is tried twice here; connecting ends within [`CONNECT_TIMEOUT`] and a call within its
//! timeout; whatever a call has still under way ends with its connection; a fault's words hold no credential and no text
//! of the server but the code of its error.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::{Config, Place};
use crate::limits::quota::reports::Used;

/// How long a connection may take to be made, with TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(900);

/// What the server does with one account. Its key is declared, as Dragonfly demands.
pub const SCRIPT: &str = include_str!("script.lua");

/// The longest code of an error that is repeated.
const MAX_CODE_BYTES: usize = 24;

/// One account, as the store is told of it.
#[derive(Debug)]
pub struct Told {
    /// Its key.
    pub key: String,
    /// What is told of its two quotas.
    pub used: [Used; 2],
}

/// Why the store cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No socket.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// No TLS, or not with the right one.
    #[error("no TLS: {0}")]
    Tls(String),
    /// It has answered with an error.
    #[error("the server refuses ({0}); see limits.shared.url")]
    Refused(String),
    /// It says nothing.
    #[error("no answer in time")]
    Silence,
    /// It has hung up.
    #[error("the connection was lost")]
    Lost,
    /// It says what cannot be.
    #[error("the server's answer is wrong")]
    Answer,
}

/// The store of shared accounts.
pub struct Store {
    place: Place,
    tls: Option<TlsConnector>,
    timeout: Duration,
    line: Option<Line>,
}

/// A connection that stands.
struct Line {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// By what name the server knows the script.
    script: String,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.place).field("connected", &self.line.is_some()).finish_non_exhaustive()
    }
}

impl Store {
    /// The store that is configured, if one is; nothing is connected yet. `Err`: the key and what is wrong.
    pub fn configured(config: &Config) -> Result<Option<Self>, String> {
        let Some(place) = config.place() else { return Ok(None) };
        let tls = place.tls.then(|| connector(config)).transpose()?;
        Ok(Some(Self { place, tls, timeout: config.timeout.get(), line: None }))
    }

    /// Whether what is said to it could be read on the way.
    pub fn is_open(&self) -> bool {
        self.place.is_open()
    }

    /// Whether there is a connection that nothing bad is known of.
    pub fn is_connected(&self) -> bool {
        self.line.is_some()
    }

    /// Makes a connection and leaves the script there.
    pub async fn connect(&mut self) -> Result<(), Fault> {
        self.line = None;
        let line = timeout(CONNECT_TIMEOUT, self.dial()).await.map_err(|_| Fault::Silence)??;
        self.line = Some(line);
        Ok(())
    }

    /// Tells the store of these accounts, in one call; gives how far each is ahead, in microseconds.
    pub async fn exchange(&mut self, told: &[Told]) -> Result<Vec<[u64; 2]>, Fault> {
        let Some(line) = &mut self.line else { return Err(Fault::Lost) };
        let mut pipe = redis::pipe();
        for account in told {
            pipe.cmd("EVALSHA").arg(&line.script).arg(1).arg(&account.key);
            for used in account.used {
                pipe.arg(used.own).arg(used.cost).arg(used.cap).arg(used.most);
            }
        }
        let call = pipe.query_async::<Vec<(i64, i64)>>(&mut line.connection);
        let heard = timeout(self.timeout, call).await.map_err(|_| Fault::Silence).and_then(|heard| heard.map_err(Fault::from));
        let heard = heard.and_then(|heard| if heard.len() == told.len() { Ok(heard) } else { Err(Fault::Answer) });
        if heard.is_err() {
            // Nobody knows what the connection would say next.
            self.line = None;
        }
        // What would be less than nothing is nothing.
        let positive = |(events, kib): (i64, i64)| [events, kib].map(|ahead| u64::try_from(ahead).unwrap_or(0));
        Ok(heard?.into_iter().map(positive).collect())
    }

    async fn dial(&self) -> Result<Line, Fault> {
        let stream = TcpStream::connect((self.place.host.as_str(), self.place.port)).await;
        let stream = stream.map_err(|error| Fault::Connect(error.kind()))?;
        stream.set_nodelay(true).map_err(|error| Fault::Connect(error.kind()))?;
        let Some(tls) = &self.tls else { return self.greet(stream).await };
        let name = ServerName::try_from(self.place.host.clone()).map_err(|_| Fault::Tls("the host has no name for it".to_owned()))?;
        self.greet(tls.connect(name, stream).await.map_err(|error| Fault::Tls(error.to_string()))?).await
    }

    /// Login and script.
    async fn greet<S>(&self, stream: S) -> Result<Line, Fault>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        // The timeouts are ours.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (connection, driver) = MultiplexedConnection::new_with_config(&self.place.login, stream, config).await?;
        let mut line = Line { connection, driver: tokio::spawn(driver), script: String::new() };
        line.script = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut line.connection).await?;
        Ok(line)
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match (error.kind(), error.code()) {
            (_, Some(code)) => Self::Refused(plain(code)),
            (ErrorKind::AuthenticationFailed, None) => Self::Refused("credentials".to_owned()),
            (ErrorKind::Io, None) if error.is_timeout() => Self::Silence,
            (ErrorKind::Io, None) => Self::Lost,
            _ => Self::Answer,
        }
    }
}

/// The code of an error, `WRONGPASS` for example, and nothing else that somebody could have put there.
fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_uppercase).take(MAX_CODE_BYTES).collect()
}

fn connector(config: &Config) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(file) => {
            let wrong = |what: &dyn fmt::Display| format!("limits.shared.ca_file: `{}` {what}", file.display());
            let pem = std::fs::read(file).map_err(|error| wrong(&format_args!("cannot be read: {error}")))?;
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let found = found.ok().filter(|found| !found.is_empty()).ok_or_else(|| wrong(&"holds no certificate in PEM"))?;
            for certificate in found {
                roots.add(certificate).map_err(|error| wrong(&format_args!("holds what is no authority: {error}")))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("limits.shared.url: no TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(tls)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_only_its_code_is_repeated() {
        assert_eq!(plain("WRONGPASS"), "WRONGPASS");
        assert_eq!(plain("BAD\ncanary\u{1b}[0m"), "BAD");
        assert_eq!(plain(&"X".repeat(1_000)).len(), MAX_CODE_BYTES);
    }

    #[test]
    fn an_authority_that_is_none_is_said_with_its_key() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("ca.pem");
        let config = |file: &std::path::Path| Config {
            url: crate::units::Secret::new("rediss://localhost"),
            ca_file: Some(file.to_owned()),
            ..Config::default()
        };
        let said = Store::configured(&config(&file)).expect_err("no file");
        assert!(said.starts_with("limits.shared.ca_file: "), "{said}");
        std::fs::write(&file, "nothing").expect("a file of ours");
        assert!(Store::configured(&config(&file)).expect_err("no certificate").contains("holds no certificate"));
        let key = rcgen::KeyPair::generate().expect("a key");
        let authority = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem();
        std::fs::write(&file, authority).expect("a file of ours");
        assert!(Store::configured(&config(&file)).is_ok_and(|store| store.is_some_and(|store| store.tls.is_some())));
    }
}
