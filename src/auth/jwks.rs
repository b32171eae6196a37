//! The keys that an issuer publishes: fetched ahead of need, kept for a bounded time when they cannot be, and asked for
//! anew at most once a minute when a token names one that we do not have.
//!
//! What always holds: one fetch at a time per issuer; a failed or empty fetch changes no key; keys older than their life
//! and `max_stale` verify nothing; a sender that hangs up does not end a fetch that others wait for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::credentials::AuthFailure;
use super::fetch::Fetcher;
use super::key::{Algorithm, Key};
use crate::drain::{Phase, Signal};

/// A token with an unknown `kid` causes at most one fetch in this time.
pub const MIN_REFETCH_INTERVAL: Duration = Duration::from_secs(60);

/// How long a token with an unknown `kid` waits for that fetch.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to fetch keys.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How many keys of a set are read.
const MAX_KEYS: usize = 100;

/// How much of a fault's text is kept: parts of it can be the issuer's own.
const MAX_FAULT_CHARS: usize = 200;

/// Where the keys are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// At this URL.
    Url(String),
    /// Where the issuer's discovery document says.
    Discovery { issuer: String },
}

/// The published keys of one issuer.
#[derive(Debug)]
pub(super) struct Remote {
    name: String,
    source: Source,
    algorithm: Option<Algorithm>,
    max_stale: Duration,
    fetcher: Fetcher,
    keys: ArcSwapOption<KeySet>,
    flight: Mutex<Flight>,
    landed: watch::Sender<u64>,
    generation: Arc<AtomicU64>,
}

#[derive(Debug)]
struct KeySet {
    keys: Vec<Arc<Key>>,
    digest: [u8; 32],
    fetched: Instant,
    life: Duration,
}

/// The fetch that is under way, and how the last ones went.
#[derive(Debug, Default)]
struct Flight {
    running: bool,
    asked: Option<Instant>,
    attempted: Option<Instant>,
    failures: u32,
    error: Option<String>,
}

/// What is known of an issuer's keys, for `/status`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RemoteStatus {
    pub keys: usize,
    pub age: Option<Duration>,
    pub stale: bool,
    pub usable: bool,
    pub error: Option<String>,
}

impl Remote {
    pub(super) fn new(
        name: &str,
        source: Source,
        algorithm: Option<Algorithm>,
        max_stale: Duration,
        fetcher: Fetcher,
        generation: Arc<AtomicU64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            source,
            algorithm,
            max_stale,
            fetcher,
            keys: ArcSwapOption::empty(),
            flight: Mutex::default(),
            landed: watch::Sender::new(0),
            generation,
        })
    }

    /// The key that a token names; a token without `kid` gets the only key, if there is only one.
    pub(super) async fn key(self: &Arc<Self>, kid: Option<&str>, now: Instant) -> Result<Arc<Key>, AuthFailure> {
        let known = self.usable(now);
        if let Some(set) = &known {
            match (set.find(kid), kid) {
                (Some(key), _) => return Ok(key),
                (None, None) => return Err(AuthFailure::UnknownKey),
                (None, Some(_)) => {}
            }
        }
        if let Some(mut landed) = self.refetch(now) {
            // A timeout is an answer too: whatever is known then decides.
            let _ = tokio::time::timeout(MAX_WAIT, landed.changed()).await;
        }
        self.usable(now).ok_or(AuthFailure::NoKeys)?.find(kid).ok_or(AuthFailure::UnknownKey)
    }

    /// Whether keys were ever fetched.
    pub(super) fn is_warm(&self) -> bool {
        self.keys.load().is_some()
    }

    /// Whether there is a key of this name among those that may be used now. Nothing is fetched.
    pub(super) fn knows(&self, kid: Option<&str>, now: Instant) -> bool {
        self.usable(now).is_some_and(|set| set.find(kid).is_some())
    }

    /// The keys, while they may be used.
    fn usable(&self, now: Instant) -> Option<Arc<KeySet>> {
        self.keys.load_full().filter(|set| set.age(now) <= set.life + self.max_stale)
    }

    pub(super) fn status(&self, now: Instant) -> RemoteStatus {
        let set = self.keys.load_full();
        RemoteStatus {
            keys: set.as_ref().map_or(0, |set| set.keys.len()),
            age: set.as_ref().map(|set| set.age(now)),
            stale: set.as_ref().is_some_and(|set| set.age(now) > set.life),
            usable: self.usable(now).is_some(),
            error: self.flight().error.clone(),
        }
    }

    /// Fetches ahead of need until the drain.
    pub(super) async fn keep_fresh(self: Arc<Self>, mut signal: Signal) {
        let mut landed = self.landed.subscribe();
        loop {
            let wait = self.due(Instant::now());
            if wait.is_zero() {
                self.refresh(Instant::now());
            }
            tokio::select! {
                // Whoever has asked for it: one that failed is tried again soon, and not when these keys are old.
                _ = landed.changed() => {}
                () = tokio::time::sleep(wait), if !wait.is_zero() => {}
                () = signal.reached(Phase::Finishing) => return,
            }
        }
    }

    /// How long until the next fetch is due: at 80 % of the keys' life, or after a pause when the last one failed.
    fn due(&self, now: Instant) -> Duration {
        let flight = self.flight();
        let at = match (self.keys.load_full(), flight.attempted) {
            (_, Some(attempted)) if flight.failures > 0 => attempted + backoff(flight.failures),
            (Some(set), _) => set.fetched + set.life.mul_f64(0.8),
            (None, _) => now,
        };
        at.saturating_duration_since(now)
    }

    /// A fetch for a token with an unknown `kid`; none when the last such fetch is too recent.
    fn refetch(self: &Arc<Self>, now: Instant) -> Option<watch::Receiver<u64>> {
        let mut flight = self.flight();
        if !flight.running {
            if flight.asked.is_some_and(|asked| now.saturating_duration_since(asked) < MIN_REFETCH_INTERVAL) {
                return None;
            }
            flight.asked = Some(now);
        }
        Some(self.launch(&mut flight, now))
    }

    /// A fetch because it is time.
    pub(super) fn refresh(self: &Arc<Self>, now: Instant) -> watch::Receiver<u64> {
        self.launch(&mut self.flight(), now)
    }

    /// Starts a fetch, or joins the one that is under way. It is a task of its own: whoever waits may go.
    fn launch(self: &Arc<Self>, flight: &mut Flight, now: Instant) -> watch::Receiver<u64> {
        let landed = self.landed.subscribe();
        if !flight.running {
            flight.running = true;
            let landing = Landing(Arc::clone(self));
            tokio::spawn(async move {
                let fetched = landing.0.fetch(now).await;
                landing.0.settle(fetched, now);
            });
        }
        landed
    }

    async fn fetch(&self, now: Instant) -> Result<KeySet, String> {
        let url = match &self.source {
            Source::Url(url) => url.clone(),
            Source::Discovery { issuer } => self.discover(issuer).await?,
        };
        let document = self.fetcher.get(&url).await?;
        let keys = read_keys(&document.body, self.algorithm)?;
        Ok(KeySet { keys, digest: Sha256::digest(&document.body).into(), fetched: now, life: document.life })
    }

    async fn discover(&self, issuer: &str) -> Result<String, String> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.fetcher.get(&url).await.map_err(|fault| format!("discovery: {fault}"))?;
        let found: Discovered = serde_json::from_slice(&document.body).map_err(|fault| format!("discovery: {fault}"))?;
        if found.issuer != issuer {
            return Err("discovery: the document is another issuer's".into());
        }
        if issuer.starts_with("https:") && !found.jwks_uri.starts_with("https:") {
            return Err("discovery: the document leaves https".into());
        }
        Ok(found.jwks_uri)
    }

    fn settle(&self, fetched: Result<KeySet, String>, now: Instant) {
        let mut flight = self.flight();
        flight.attempted = Some(now);
        match fetched {
            Ok(set) => {
                let changed = self.keys.load().as_ref().is_none_or(|old| old.digest != set.digest);
                let count = set.keys.len();
                self.keys.store(Some(Arc::new(set)));
                if changed {
                    // After the keys: who sees the new number sees the new keys.
                    self.generation.fetch_add(1, Ordering::Release);
                }
                if changed || flight.failures > 0 {
                    tracing::info!(issuer = %self.name, keys = count, "keys fetched");
                }
                (flight.failures, flight.error) = (0, None);
            }
            Err(fault) => {
                let fault: String = fault.chars().filter(|c| !c.is_control()).take(MAX_FAULT_CHARS).collect();
                // One line per change of state, not per attempt.
                if flight.failures == 0 {
                    tracing::warn!(issuer = %self.name, %fault, "keys could not be fetched; what is known is used while it may be");
                }
                flight.failures = flight.failures.saturating_add(1);
                flight.error = Some(fault);
            }
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySet {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.fetched)
    }

    fn find(&self, kid: Option<&str>) -> Option<Arc<Key>> {
        match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|key| key.kid() == Some(kid)).cloned(),
            (None, [only]) => Some(Arc::clone(only)),
            (None, _) => None,
        }
    }
}

/// Says that the fetch has ended, however it did.
struct Landing(Arc<Remote>);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.flight().running = false;
        self.0.landed.send_modify(|count| *count += 1);
    }
}

fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(MAX_BACKOFF)
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Published<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// The keys of a set that can verify signatures. What else is in it is passed over; a set without any is a fault.
fn read_keys(body: &[u8], algorithm: Option<Algorithm>) -> Result<Vec<Arc<Key>>, String> {
    let published: Published = serde_json::from_slice(body).map_err(|fault| format!("not a JWKS: {fault}"))?;
    let keys = published.keys.iter().take(MAX_KEYS).filter_map(|jwk| Key::from_jwk(jwk.get().as_bytes(), algorithm).ok());
    // A secret that everybody can fetch is none.
    let keys: Vec<_> = keys.filter(|key| !key.algorithm().is_shared()).map(Arc::new).collect();
    if keys.is_empty() {
        return Err("the JWKS has no key that can verify signatures".into());
    }
    Ok(keys)
}
