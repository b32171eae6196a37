//! What the commands call: the library's functions, on a runtime of their own.
//!
//! What always holds: nothing here prints; what is to be shown is returned, and an error says what to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Selection};
use crate::app::{self, App, Development, StartError, Tiers};
use crate::auth::IssuerConfig;
use crate::auth::dev::{DEV_ISSUER, DevKey};
use crate::auth::grants::Grant;
use crate::auth::mint::{Rights, mint_with};
use crate::config::{Config, Loaded};
use crate::drain::{Drain, Phase};
use crate::event::Topic;
use crate::inbox::offline::{Filter, Shown};
use crate::sink::find::{self, Ended, Findings, Progress, Search};
use crate::sink::topics;
use crate::telemetry;
use crate::units::Secret;

/// A replay that has moved nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(30);

/// What a replay that is over has for its last deletes.
const LAST_REPLAY: Duration = Duration::from_secs(5);

/// A replay that a person watches ends when they have seen enough.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What still blocks when the gate is drained is given up after this.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Between looks at a replay's progress.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a developer is shown once the gate is up.
#[derive(Debug)]
pub struct Welcome {
    /// The HTTPS door, as it is bound.
    pub address: SocketAddr,
    /// The development token.
    pub token: String,
    /// The development user's password.
    pub password: Secret,
    /// The certificate authority of the generated certificate; none: TLS does not end here.
    pub ca: Option<PathBuf>,
    /// Whether OTLP is spoken at that address.
    pub otlp: bool,
}

/// Which rows of the inbox a command is for.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Only those of this topic.
    pub topic: Option<String>,
    /// Only those set aside.
    pub poison: bool,
    /// At most so many.
    pub limit: u32,
}

/// Serves until a signal has ended the drain. `greet` is called once, when the gate is up and is a developer's own.
pub fn serve(loaded: Loaded, greet: impl FnOnce(&Welcome)) -> Result<(), StartError> {
    let config = loaded.config.clone();
    let logs = telemetry::init(&config.telemetry).map_err(StartError::Failed)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let app = App::build(config).await.map_err(|error| located(&loaded, error))?;
        let welcome = |app: &App| {
            if let Some(development) = app.development() {
                let Development { token, password, ca } = development.clone();
                greet(&Welcome { address: app.address(), token, password, ca, otlp: app.speaks_otlp() });
            }
        };
        let (first, second) = (stop_signal()?, stop_signal()?);
        tokio::select! {
            served = app.serve(first.received(1), welcome) => served,
            () = second.received(2) => Err(StartError::Failed("stopped by a second signal before the drain was over".into())),
        }
    });
    // A disk that hangs must not hold the process beyond its time.
    runtime.shutdown_timeout(LAST_WAIT);
    logs.flush(Duration::from_secs(1));
    match served? {
        true => Ok(()),
        false => Err(StartError::Failed("the drain was not over in time; the log says what remained".into())),
    }
}

/// A mistake in the configuration says which variable it came from.
fn located(loaded: &Loaded, error: StartError) -> StartError {
    match error {
        StartError::Configuration(text) => StartError::Configuration(loaded.located(&text)),
        error @ (StartError::InUse(_) | StartError::Failed(_)) => error,
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

fn stop_signal() -> Result<Stop, StartError> {
    let listen = |kind| signal(kind).map_err(|error| StartError::Failed(format!("signals cannot be heard: {error}")));
    Ok(Stop { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
}

impl Stop {
    /// Waits for so many of them.
    async fn received(mut self, count: usize) {
        for _ in 0..count {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
    }
}

/// What would keep the gate from starting.
pub fn preflight(loaded: &Loaded) -> Vec<String> {
    crate::app::preflight(&loaded.config).iter().map(|found| loaded.located(found)).collect()
}

/// A token, signed by the key of the named issuer, or of the only one that has one; on a developer's gate by the development key.
pub fn token(loaded: &Loaded, issuer: Option<&str>, sub: &str, rights: Rights<'_>, ttl: Duration) -> Result<String, String> {
    let config = &loaded.config;
    let own;
    let issuer: &IssuerConfig = match issuer {
        Some(name) if name != DEV_ISSUER || config.auth.issuers.contains_key(name) => {
            config.auth.issuers.get(name).ok_or_else(|| format!("there is no issuer `{name}`; configured: {}", names(config)))?
        }
        None if !config.auth.issuers.is_empty() => only_signer(config)?,
        _ if !config.is_development() && config.auth.issuers.is_empty() => {
            return Err("no issuer is configured, so no token would be believed; users send their name and password".into());
        }
        _ => {
            let dir = &config.listeners.generated_dir;
            own =
                DevKey::load_or_create(dir).map_err(|error| format!("no development key in `{}`: {error}", dir.display()))?.issuer_config();
            &own
        }
    };
    let every: Grant = "*".parse()?;
    // An issuer whose tokens name no topics grants its own.
    let all = rights.topics.is_empty() && !rights.admin && issuer.topics_claim.is_some();
    let topics = if all { std::slice::from_ref(&every) } else { rights.topics };
    mint_with(issuer, sub, Rights { topics, ..rights }, ttl).map_err(|error| error.to_string())
}

fn only_signer(config: &Config) -> Result<&IssuerConfig, String> {
    let mut signers = config.auth.issuers.values().filter(|issuer| issuer.can_sign());
    match (signers.next(), signers.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(format!("no configured issuer has a key that signs; configured: {}", names(config))),
        (Some(_), Some(_)) => Err(format!("several issuers can sign: say which by --issuer; configured: {}", names(config))),
    }
}

fn names(config: &Config) -> String {
    config.auth.issuers.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// One object for each topic of the routes, as the broker has it.
pub fn topics(loaded: &Loaded, create: bool) -> Result<Vec<Value>, String> {
    let found = runtime()?.block_on(topics::list(&loaded.config.sink, &loaded.config.routes, create))?;
    Ok(found
        .iter()
        .map(|topic| serde_json::json!({ "topic": topic.topic, "partitions": topic.partitions, "state": topic.state() }))
        .collect())
}

/// Looks for an event in the topics, until the person who waits has had enough (SIGINT).
pub fn find(loaded: &Loaded, search: &Search, progress: impl FnMut(&Progress<'_>) + Send + 'static) -> Result<Findings, String> {
    let (config, search, stop) = (loaded.config.clone(), search.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let work = move || find::find((&config.sink, &config.routes, &config.headers), &search, SystemTime::now(), &stopped, progress);
    let runtime = runtime()?;
    let found = runtime.block_on(async {
        let mut found = tokio::task::spawn_blocking(work);
        tokio::select! {
            found = &mut found => return found,
            Ok(()) = tokio::signal::ctrl_c() => stop.store(true, Ordering::Relaxed),
        }
        // What was found so far is worth a moment; a broker that does not answer is not waited for.
        let late = || Findings::nothing(0, Ended::Unreachable("stopped while the broker was asked".into()));
        tokio::time::timeout(LAST_WAIT, found).await.unwrap_or_else(|_| Ok(Ok(late())))
    });
    runtime.shutdown_timeout(LAST_WAIT);
    found.map_err(|error| error.to_string())?
}

/// One object for each row, oldest first.
pub fn inbox_list(loaded: &Loaded, rows: &Rows) -> Result<Vec<Value>, String> {
    let filter = Filter { topic: rows.topic.clone(), poison: rows.poison, limit: rows.limit };
    runtime()?.block_on(app::kept(&loaded.config).list(&filter))?.iter().map(value).collect()
}

/// One row with its value.
pub fn inbox_show(loaded: &Loaded, name: &str) -> Result<Value, String> {
    let found = runtime()?.block_on(app::kept(&loaded.config).show(name))?;
    value(&found.ok_or_else(|| format!("no row is called `{name}`; it may have been delivered (look with `sluicegate inbox list`)"))?)
}

/// The rows of an event, oldest first.
pub fn inbox_trace(loaded: &Loaded, wanted: &str, topic: Option<&Topic>) -> Result<Vec<Shown>, String> {
    runtime()?.block_on(app::kept(&loaded.config).trace(wanted, topic))
}

fn value(shown: &impl serde::Serialize) -> Result<Value, String> {
    serde_json::to_value(shown).map_err(|error| error.to_string())
}

/// Sends rows to the broker now; tells `done` and `all` as it goes. How many are gone from the inbox then.
pub fn inbox_replay(loaded: &Loaded, rows: &Rows, progress: impl FnMut(u64, u64)) -> Result<u64, String> {
    runtime()?.block_on(async {
        match open(&loaded.config)? {
            Some(tiers) => replay_alone(&loaded.config, tiers, rows, progress).await,
            None => replay_beside(&loaded.config, rows, progress).await,
        }
    })
}

/// Deletes rows for good. How many.
pub fn inbox_purge(loaded: &Loaded, rows: &Rows) -> Result<u64, String> {
    runtime()?.block_on(async {
        let Some(tiers) = open(&loaded.config)? else {
            let selection = Selection { topic: rows.topic.clone(), poison: rows.poison, all: true };
            return admin::send(loaded.config.admin.bind, &admin::Command::Purge(selection)).await;
        };
        let purged = tiers.inbox.purge(topic(rows)?, rows.poison).await;
        close(tiers).await;
        Ok(purged)
    })
}

/// The inbox for this process alone; none while a gate has it.
fn open(config: &Config) -> Result<Option<Tiers>, String> {
    match Tiers::open(config) {
        Ok(tiers) => Ok(Some(tiers)),
        Err(StartError::InUse(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

async fn replay_alone(config: &Config, tiers: Tiers, rows: &Rows, progress: impl FnMut(u64, u64)) -> Result<u64, String> {
    if !tiers.sink.has_broker() {
        return Err("no broker is configured: set REDPANDA_BROKERS or sink.brokers".into());
    }
    let drain = Drain::default();
    tiers.inbox.restore(topic(rows)?).await;
    tiers.start(config, &drain).map_err(|error| error.to_string())?;
    // Where nothing is replayed without being asked for, this asks.
    let asked = tokio::spawn({
        let (replay, signal, by_itself) = (Arc::clone(&tiers.replay), drain.signal(), tiers.inbox.replays_by_itself());
        async move { if by_itself { None } else { Some(replay.share(LONGEST, signal).await) } }
    });
    let inbox = Arc::clone(&tiers.inbox);
    let done = follow(async || Ok(inbox.left().await), progress).await;
    drain.enter(Phase::Storing);
    // It ends by itself now: what has landed is deleted first.
    drop(tokio::time::timeout(LAST_REPLAY, asked).await);
    close(tiers).await;
    done
}

async fn close(tiers: Tiers) {
    // The commits are answered for already; a writer that panicked has said so in the log.
    tiers.inbox.close().await;
}

/// The running gate replays by itself; this only gives what was set aside another chance, and watches.
async fn replay_beside(config: &Config, rows: &Rows, progress: impl FnMut(u64, u64)) -> Result<u64, String> {
    let bound = config.admin.bind;
    let selection = Selection { topic: rows.topic.clone(), ..Selection::default() };
    admin::send(bound, &admin::Command::Replay(selection)).await?;
    follow(async || Ok(admin::ask_status(bound).await?.inbox.rows), progress).await
}

/// Watches the number of rows fall.
async fn follow(left: impl AsyncFn() -> Result<u64, String>, mut progress: impl FnMut(u64, u64)) -> Result<u64, String> {
    let all = left().await?;
    let (mut least, mut moved) = (all, Instant::now());
    loop {
        let now = left().await?;
        if now < least {
            (least, moved) = (now, Instant::now());
        }
        progress(all.saturating_sub(now), all.max(now));
        if now == 0 {
            return Ok(all);
        }
        if moved.elapsed() > STUCK {
            let gone = all.saturating_sub(least);
            return Err(format!(
                "{gone} rows are delivered, {now} stay: nothing moved for 30 s; is the broker up, and do the topics exist (`sluicegate topics`)?"
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn topic(rows: &Rows) -> Result<Option<crate::event::Topic>, String> {
    rows.topic.as_deref().map(|name| crate::event::Topic::new(name).map_err(|error| format!("--topic `{name}`: {error}"))).transpose()
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| format!("the runtime cannot be started: {error}"))
}
