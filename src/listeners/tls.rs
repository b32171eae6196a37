//! TLS of the doors: handshakes with a deadline and a cap, and a certificate that can change under live connections.
//!
//! A certificate is in use only after it was found to fit its key and this hour. A new one that does not is said once, and
//! the old one stays.

mod certificate;
mod generated;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::config::{Config, Place, TlsMode};
use crate::drain::{Phase, Signal};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{Ended, Handshake};
use certificate::{Certificate, Print};

/// How long before its end a certificate is warned of, and how often.
const WARN_AHEAD: Duration = Duration::from_hours(14 * 24);
const WARN_EVERY: Duration = Duration::from_hours(24);

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// The certificates of all listeners. Those that have the same one share it.
#[derive(Debug)]
pub struct Certificates {
    generated_dir: PathBuf,
    deadline: Duration,
    shared: Arc<Shared>,
    loaded: Vec<Arc<Tls>>,
}

/// What all listeners have together.
#[derive(Debug)]
struct Shared {
    handshakes: Semaphore,
    /// When each certificate in use ends.
    ends: Mutex<BTreeMap<PathBuf, i64>>,
}

/// TLS with one certificate.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    deadline: Duration,
    shared: Arc<Shared>,
}

/// The certificate in use.
#[derive(Debug)]
struct Current(ArcSwap<Certificate>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

impl Certificates {
    /// None loaded yet.
    pub fn new(config: &Config) -> Self {
        let shared = Shared { handshakes: Semaphore::new(config.max_handshakes), ends: Mutex::default() };
        let (generated_dir, deadline) = (config.generated_dir.clone(), config.handshake_timeout.get());
        Self { generated_dir, deadline, shared: Arc::new(shared), loaded: Vec::new() }
    }

    /// TLS of a listener; none: it does not end here. Fails when there is no certificate that can be used.
    pub fn tls(&mut self, place: &Place) -> io::Result<Option<Arc<Tls>>> {
        let files = match (place.tls, &place.cert_file, &place.key_file) {
            (TlsMode::Front | TlsMode::Off, _, _) => return Ok(None),
            (TlsMode::Generated, _, _) => generated::ensure(&self.generated_dir)?,
            (TlsMode::Files, Some(cert), Some(key)) => Files { cert: cert.clone(), key: key.clone() },
            (TlsMode::Files, _, _) => {
                return Err(io::Error::other(format!("`listeners.{0}cert_file` and `listeners.{0}key_file` are both needed", place.key)));
            }
        };
        if let Some(known) = self.loaded.iter().find(|tls| tls.files == files) {
            return Ok(Some(Arc::clone(known)));
        }
        let tls = Arc::new(Tls::load(files, self.deadline, Arc::clone(&self.shared))?);
        self.loaded.push(Arc::clone(&tls));
        Ok(Some(tls))
    }

    /// Why a gate with these listeners would not find its certificates. Nothing is generated.
    pub fn check(config: &Config) -> io::Result<()> {
        let mut certificates = Self::new(config);
        let places = config.places().into_iter().filter(|place| place.tls == TlsMode::Files);
        places.map(|place| certificates.tls(&place)).try_for_each(|tls| tls.map(drop))
    }
}

impl Tls {
    fn load(files: Files, deadline: Duration, shared: Arc<Shared>) -> io::Result<Self> {
        let certificate = Certificate::load(&files, SystemTime::now()).map_err(io::Error::other)?;
        shared.take_up(&files, &certificate);
        let current = Arc::new(Current(ArcSwap::from_pointee(certificate)));
        Ok(Self { config: Arc::new(server_config(Arc::clone(&current))?), current, files, deadline, shared })
    }

    /// Finishes a handshake in time, or not at all.
    pub async fn accept<S>(&self, stream: S) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut waits = false;
        let outcome = timeout(self.deadline, self.handshake(stream, &mut waits)).await;
        let (label, stream) = match outcome {
            Ok(Ok(stream)) => (Handshake::Done, Some(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                (Handshake::Failed, None)
            }
            Err(_) if waits => (Handshake::Limit, None),
            Err(_) => (Handshake::Timeout, None),
        };
        metrics().tls_handshakes.at(label).inc();
        stream
    }

    async fn handshake<S>(&self, stream: S, waits: &mut bool) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Who has said nothing yet takes nobody's turn.
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        *waits = true;
        let _turn = self.shared.handshakes.acquire().await.map_err(io::Error::other)?;
        *waits = false;
        begun.into_stream(Arc::clone(&self.config)).await
    }

    /// Takes up changed files until the drain's end: every `poll`, and at once on SIGHUP.
    pub async fn watch(self: Arc<Self>, poll: Duration, mut drain: Signal) {
        let mut hang_up = signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be listened for")).ok();
        let mut ticks = interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = Watched { seen: self.current.0.load().print.clone(), doubted: None, warned: SystemTime::now() };
        loop {
            let asked = tokio::select! {
                () = drain.reached(Phase::Storing) => return,
                _ = ticks.tick() => false,
                () = async { match &mut hang_up { Some(hang_up) => drop(hang_up.recv().await), None => std::future::pending().await } } => true,
            };
            // The files may be on a disk that hangs.
            let tls = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                tls.look(&mut watched, asked, SystemTime::now());
                watched
            });
            match looked.await {
                Ok(back) => watched = back,
                Err(error) => return tracing::error!(%error, "the certificate is not watched any more; restart to take up a new one"),
            }
        }
    }

    fn look(&self, watched: &mut Watched, asked: bool, now: SystemTime) {
        let print = Print::of(&self.files);
        if asked || print != watched.seen {
            self.reload(watched, print, asked, now);
        }
        if now.duration_since(watched.warned).is_ok_and(|passed| passed >= WARN_EVERY) {
            watched.warned = now;
            warn_of_end(&self.current.0.load(), now);
        }
    }

    fn reload(&self, watched: &mut Watched, print: Print, asked: bool, now: SystemTime) {
        match Certificate::load(&self.files, now) {
            Ok(certificate) => {
                // What was read, not what was looked at before: a change between the two is seen next time.
                watched.seen = print;
                watched.doubted = None;
                self.shared.take_up(&self.files, &certificate);
                metrics().certificate_reloads.at(Ended::Done).inc();
                tracing::info!(expires = %certificate.expires(), "a new certificate is in use; open connections keep theirs");
                self.current.0.store(Arc::new(certificate));
            }
            // Two files are seldom replaced at one time: the second look decides.
            Err(_) if !asked && watched.doubted.as_ref() != Some(&print) => watched.doubted = Some(print),
            Err(error) => {
                watched.seen = print;
                watched.doubted = None;
                metrics().certificate_reloads.at(Ended::Failed).inc();
                tracing::error!(error, "the new certificate is not usable; the old one stays in use");
            }
        }
    }
}

/// What the watch remembers.
#[derive(Debug)]
struct Watched {
    seen: Print,
    doubted: Option<Print>,
    warned: SystemTime,
}

impl Shared {
    fn take_up(&self, files: &Files, certificate: &Certificate) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.insert(files.cert.clone(), certificate.not_after);
        let soonest = ends.values().min().copied().unwrap_or_default();
        metrics().certificate_expires_seconds.set(soonest as f64);
        warn_of_end(certificate, SystemTime::now());
    }
}

fn warn_of_end(certificate: &Certificate, now: SystemTime) {
    if certificate.ends_within(WARN_AHEAD, now) {
        tracing::warn!(expires = %certificate.expires(), "the certificate ends soon; put a new one in its place");
    }
}

fn server_config(current: Arc<Current>) -> io::Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(current);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are kept by the clients: they cost no memory here.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    Ok(config)
}

#[cfg(test)]
mod tests;
