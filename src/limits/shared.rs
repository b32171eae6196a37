//! Quotas that several gates share: what each has admitted is told to a store, and what all have used is taken back, in
//! the background.
//!
//! What always holds: no request waits for the store; a gate charges its own accounts, with or without it. A turn is
//! bounded in accounts, in calls, and in time; what it cannot do stays where it is, in the accounts. No name of a
//! principal is told, only its hash. Without a store, each gate admits a whole quota by itself and serves on.
//!
//! What follows: on the long run the rate is exact over all gates. Within one interval each may admit what it does not
//! know to be used elsewhere; that is owed afterwards.

pub mod config;
mod rest;
pub mod store;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock};
use sha2::{Digest, Sha256};
use tokio::time::MissedTickBehavior;

use super::quota::Quotas;
use super::quota::reports::{Report, Rounds, Used};
use crate::drain::{Phase, Signal};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::Ended;
pub use config::Config;
use rest::Rest;
use store::{Fault, Store, Told};

/// Accounts in one call.
const MAX_CALL: usize = 256;

/// Accounts in one turn. What is left has its turn the next time.
const MAX_TURN: usize = 4 * MAX_CALL;

/// A store that there is nothing to tell of is told of nobody's account so often: who may not write there is not one of all.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
const ALIVE: Used = Used { own: 1, cost: 0, cap: 1, most: 1 };

type Said = Report<<MonotonicClock as Clock>::Instant>;

/// The task that tells and takes back.
#[derive(Debug)]
pub struct Sharing {
    quotas: Arc<Quotas>,
    store: Store,
    prefix: String,
    interval: Duration,
    rounds: Rounds<<MonotonicClock as Clock>::Instant>,
    rest: Rest,
    heard: Option<Instant>,
    view: View,
}

/// How it stands, for whoever asks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct View(Option<Arc<Mutex<Standing>>>);

/// How the gate stands with the others.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Whether the store answers: quotas are shared.
    pub shared: bool,
    /// Since when that is so.
    pub since: Instant,
    /// When the store answered last.
    pub heard: Instant,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Accounts that the last turn with any was about.
    pub accounts: u64,
    /// How long it took.
    pub took: Duration,
}

impl View {
    /// How it stands now; none: nothing is shared, as configured.
    pub fn standing(&self) -> Option<Standing> {
        self.0.as_ref().map(|standing| lock(standing).clone())
    }

    fn change(&self, how: impl FnOnce(&mut Standing)) {
        if let Some(standing) = &self.0 {
            how(&mut lock(standing));
        }
    }
}

fn lock(standing: &Mutex<Standing>) -> MutexGuard<'_, Standing> {
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sharing {
    /// What is configured; none: each gate counts by itself. `Err`: the key and what is wrong.
    pub fn configured(config: &Config, quotas: &Arc<Quotas>) -> Result<Option<Self>, String> {
        let Some(store) = Store::configured(config)? else { return Ok(None) };
        let now = Instant::now();
        let standing = Standing { shared: false, since: now, heard: now, last_error: None, accounts: 0, took: Duration::ZERO };
        Ok(Some(Self {
            quotas: Arc::clone(quotas),
            store,
            prefix: config.prefix.clone(),
            interval: config.interval.get(),
            rounds: Rounds::new(config.interval.get()),
            rest: Rest::default(),
            heard: None,
            view: View(Some(Arc::new(Mutex::new(standing)))),
        }))
    }

    /// How it stands.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Turn after turn, until what is left in the drain is stored.
    pub async fn run(mut self, mut signal: Signal) {
        if self.store.is_open() {
            tracing::warn!(
                "quotas are shared through a server beyond this machine, in plain text: whoever is on the way can read and change them"
            );
        }
        let mut beat = tokio::time::interval(self.interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = signal.reached(Phase::Storing) => break,
                _ = beat.tick() => self.turn().await,
            }
        }
        // What was admitted last: whoever comes back to another gate has used it.
        if self.store.is_connected() {
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        let started = Instant::now();
        if !self.rest.is_over(started) {
            return;
        }
        match self.exchange().await {
            Ok(None) => {}
            Ok(Some(accounts)) => self.answered(accounts, started),
            Err(fault) => self.failed(&fault),
        }
    }

    /// One turn; gives the number of accounts that it was about, or nothing where there was nothing to say.
    async fn exchange(&mut self) -> Result<Option<usize>, Fault> {
        if !self.store.is_connected() {
            self.store.connect().await?;
            self.rounds.back(self.quotas.now());
        }
        let reports = self.quotas.reports(&mut self.rounds, MAX_TURN);
        if reports.is_empty() {
            let quiet = self.heard.is_none_or(|heard| heard.elapsed() >= ALIVE_EVERY);
            let alive = Told { key: format!("{}:alive", self.prefix), used: [ALIVE; 2] };
            return if quiet { self.store.exchange(&[alive]).await.map(|_| Some(0)) } else { Ok(None) };
        }
        for (number, call) in reports.chunks(MAX_CALL).enumerate() {
            if let Err(fault) = self.call(call).await {
                // Whether the first of them arrived nobody knows. Told again they make no debts: see `Used::cap`.
                reports[number * MAX_CALL..].iter().for_each(|report| self.quotas.give_back(report));
                return Err(fault);
            }
        }
        Ok(Some(reports.len()))
    }

    async fn call(&mut self, reports: &[Said]) -> Result<(), Fault> {
        let told: Vec<Told> = reports.iter().map(|report| self.told(report)).collect();
        let used = self.store.exchange(&told).await?;
        reports.iter().zip(used).for_each(|(report, used)| self.quotas.settle(report, used));
        Ok(())
    }

    fn told(&self, report: &Said) -> Told {
        let hash = Sha256::digest(report.name().as_bytes());
        let key = format!("{}:{}:{}", self.prefix, self.quotas.tier_of(report), hex::encode(&hash[..16]));
        Told { key, used: *report.used() }
    }

    fn answered(&mut self, accounts: usize, started: Instant) {
        let now = Instant::now();
        self.rest.answered();
        self.heard = Some(now);
        metrics().quota_share_turns.at(Ended::Done).inc();
        metrics().quota_share_accounts.inc_by(accounts as u64);
        metrics().quota_share_turn_seconds.observe((now - started).as_secs_f64());
        self.view.change(|standing| {
            if !standing.shared {
                tracing::info!("quotas are shared with the other gates");
                (standing.shared, standing.since) = (true, now);
            }
            standing.heard = now;
            if accounts > 0 {
                (standing.accounts, standing.took) = (accounts as u64, now - started);
            }
        });
    }

    fn failed(&mut self, fault: &Fault) {
        let now = Instant::now();
        self.rest.failed(chance(), now);
        metrics().quota_share_turns.at(Ended::Failed).inc();
        self.view.change(|standing| {
            if standing.shared || standing.last_error.is_none() {
                tracing::warn!(error = %fault, "quotas are not shared: this gate counts by itself until the server answers");
                (standing.shared, standing.since) = (false, now);
            }
            standing.last_error = Some(fault.to_string());
        });
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
