//! The composition root: configuration in, a gate out. An inventory of what there is, in the order of an event's path,
//! and the owner of the drain's order.
//!
//! What always holds: everything is bound and opened before anything is served; the `ready` line names every address;
//! what fails at the start fails before the first event is taken.

mod development;
mod error;
mod settings;
mod status;
mod tiers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admin::{Admin, Command};
use crate::auth::Authenticator;
use crate::config::Config;
use crate::drain::{Drain, Phase};
use crate::event::Topic;
use crate::inbox::Inbox;
use crate::ingest::Ingest;
use crate::limits::inflight::Meter;
use crate::limits::quota::Quotas;
use crate::limits::shared::Sharing;
use crate::listeners::http::door::{Door, DoorParts};
use crate::listeners::http::lobby::{Lobby, Readiness};
use crate::listeners::{DoorName, Doors, Listeners, TlsMode, kafka, otlp};
use crate::route::Table;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::DrainPhase;

pub use development::Development;
pub use error::StartError;
pub use settings::{collections, journal_dir, kept, preflight};
pub use tiers::Tiers;

/// How long a cold start waits for the broker's first signs of life before it serves without them.
const WARM_UP: Duration = Duration::from_secs(3);

/// Accounts that nobody draws on are forgotten so often.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// The parts of the drain's time: what is in flight, what the producer still has, and the inbox's last commit.
const FLUSH_SHARE: Duration = Duration::from_millis(1_500);
const CLOSE_SHARE: Duration = Duration::from_millis(1_500);

/// What quotas that are shared may still take, beside that, to tell the others what was admitted last.
const SHARING_SHARE: Duration = Duration::from_millis(200);

/// A gate, bound and open, and not serving yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    drain: Drain,
    tiers: Tiers,
    authenticator: Arc<Authenticator>,
    app_check: Option<Arc<Authenticator>>,
    meter: Arc<Meter>,
    sharing: Option<Sharing>,
    ingest: Arc<Ingest>,
    listeners: Listeners,
    admin: Option<(SocketAddr, tokio::net::TcpListener)>,
    admin_address: Option<SocketAddr>,
    development: Option<Development>,
}

impl App {
    /// Opens and binds everything.
    pub async fn build(mut config: Config) -> Result<Self, StartError> {
        let development = if config.is_development() { Some(development::develop(&mut config)?) } else { None };
        let drain = Drain::default();
        let authenticator = Authenticator::new(&config.auth).map_err(|error| StartError::Configuration(error.to_string()))?;
        let app_check = config.http.callable.app_check.authenticator().map_err(|error| StartError::Configuration(error.to_string()))?;
        let tiers = Tiers::open(&config)?;
        let quotas = Arc::new(Quotas::new(&config.limits));
        let sharing = Sharing::configured(&config.limits.shared, &quotas).map_err(StartError::Configuration)?;
        let ingest = Ingest::new(
            quotas,
            Table::new(config.headers.clone(), config.routes.clone()).holding(settings::holds(&config)),
            tiers.of_trunk(),
            &drain,
            settings::producer_ids(&config)?,
        );
        let ingest = ingest.journaled(settings::journal(&config)?);
        let admin = bind_admin(&config).await?;
        Ok(Self {
            listeners: Listeners::bind(&config.listeners).map_err(|error| StartError::Failed(error.to_string()))?,
            admin_address: admin.as_ref().map(|(address, _)| *address),
            admin,
            meter: Meter::new(config.limits.in_flight.get()),
            authenticator: Arc::new(authenticator),
            app_check: app_check.map(Arc::new),
            sharing,
            ingest: Arc::new(ingest),
            tiers,
            drain,
            development,
            config,
        })
    }

    /// The address of the first listener, as it is bound.
    pub fn address(&self) -> SocketAddr {
        self.listeners.address()
    }

    /// Whether OTLP is spoken at the first listener.
    pub fn speaks_otlp(&self) -> bool {
        self.config.otlp.enabled && self.listeners.iter().next().is_some_and(|first| first.has(DoorName::Otlp))
    }

    /// The token and the authority of a developer's own gate.
    pub fn development(&self) -> Option<&Development> {
        self.development.as_ref()
    }

    /// Serves until `stop`, then drains. `ready` is called once everything serves. True when the drain was in time.
    pub async fn serve(mut self, stop: impl Future<Output = ()>, ready: impl FnOnce(&Self)) -> Result<bool, StartError> {
        self.tiers.start(&self.config, &self.drain)?;
        self.authenticator.start(&self.drain.signal());
        if let Some(app_check) = &self.app_check {
            app_check.start(&self.drain.signal());
        }
        let snapshot = status::Source::of(&self);
        let admin = self.admin.take().map(|(_, listener)| self.serve_admin(listener, &snapshot));
        self.warm_up().await;
        let serving = self.serve_doors(&snapshot)?;
        let sharing = self.sharing.take().map(|sharing| tokio::spawn(sharing.run(self.drain.signal())));
        tokio::spawn(tidy(Arc::clone(&self.ingest)));
        self.say_ready();
        ready(&self);
        stop.await;
        let in_time = self.drain(serving).await;
        if let Some(sharing) = sharing {
            // Its last turn began with the phase before: what it has not told by now is forgiven.
            let _ = tokio::time::timeout(SHARING_SHARE, sharing).await;
        }
        admin.inspect(tokio::task::JoinHandle::abort);
        // The end of a producer blocks, and the process ends now: nothing it could still report would be heard.
        std::mem::forget(Arc::clone(&self.tiers.sink));
        Ok(in_time)
    }

    fn serve_doors(&self, snapshot: &status::Source) -> Result<tokio::task::JoinHandle<()>, StartError> {
        let (readiness, seen) = (snapshot.clone(), snapshot.clone());
        let otlp = self.otlp_door(Readiness::new(move || seen.ready().is_ok()))?;
        let parts = DoorParts {
            ingest: Arc::clone(&self.ingest),
            authenticator: Arc::clone(&self.authenticator),
            app_check: self.app_check.clone(),
            meter: Arc::clone(&self.meter),
            signal: self.drain.signal(),
            readiness: Readiness::new(move || readiness.ready().is_ok()),
        };
        let door = Door::new(parts, self.config.listeners.body_limits(), self.config.http.clone());
        let door = door.map_err(|error| StartError::Configuration(error.to_string()))?;
        let doors = Doors { http: Arc::new(door), kafka: Arc::new(self.kafka_door()), otlp };
        let (listeners, drain) = (self.listeners.clone(), self.drain.clone());
        // One of the tasks that the drain waits for: what is connected already when the sockets close is taken in.
        Ok(self.drain.tasks().spawn(async move { listeners.serve(doors, &drain).await }))
    }

    fn otlp_door(&self, readiness: Readiness) -> Result<Option<Arc<otlp::Door>>, StartError> {
        if !self.config.otlp.enabled {
            return Ok(None);
        }
        let parts = otlp::DoorParts {
            ingest: Arc::clone(&self.ingest),
            lobby: Lobby::new(Arc::clone(&self.authenticator), self.drain.signal(), readiness, &self.config.http),
            meter: Arc::clone(&self.meter),
        };
        let door = otlp::Door::new(parts, &self.config.listeners.body_limits(), self.config.otlp.clone());
        Ok(Some(Arc::new(door.map_err(|error| StartError::Configuration(error.to_string()))?)))
    }

    fn kafka_door(&self) -> kafka::Door {
        let parts = kafka::DoorParts {
            ingest: Arc::clone(&self.ingest),
            authenticator: Arc::clone(&self.authenticator),
            meter: Arc::clone(&self.meter),
            drain: self.drain.clone(),
        };
        kafka::Door::new(parts, self.config.kafka.clone())
    }

    fn serve_admin(&self, listener: tokio::net::TcpListener, snapshot: &status::Source) -> tokio::task::JoinHandle<()> {
        let (status, ready, inbox) = (snapshot.clone(), snapshot.clone(), Arc::clone(&self.tiers.inbox));
        let admin = Admin {
            status: Box::new(move || status.status()),
            ready: Box::new(move || ready.ready()),
            command: Box::new(move |command| Box::pin(carry_out(Arc::clone(&inbox), command))),
        };
        // Outside the drain's tasks: it answers until the end, so that the drain can be watched.
        tokio::spawn(admin.serve(listener))
    }

    /// A cold start with a healthy broker sends not one event to the inbox: its catalog and its connections come first.
    async fn warm_up(&self) {
        let sink = async {
            if self.tiers.sink.has_broker() { tokio::time::timeout(WARM_UP, self.tiers.sink.warm_up()).await.is_ok() } else { true }
        };
        let (warm, open) = tokio::join!(sink, tokio::time::timeout(WARM_UP, self.tiers.inbox.is_open()));
        if open.is_err() {
            tracing::warn!("the inbox does not answer yet: what it holds of an earlier time may be overtaken by what comes now");
        }
        if !warm {
            tracing::warn!("the broker does not answer yet: events take the inbox until it does");
            self.tiers.sink.distrust(Instant::now());
        }
    }

    fn say_ready(&self) {
        let admin = self.admin_address.map(|address| address.to_string());
        let tls = self.config.listeners.tls;
        if tls == TlsMode::Front {
            tracing::info!("TLS ends in front of this gate: it speaks plain HTTP/1.1, h2c and Kafka");
        }
        let (https, kafka) = (self.first_with(DoorName::Http), self.first_with(DoorName::Kafka));
        let otlp = if self.config.otlp.enabled { self.first_with(DoorName::Otlp) } else { "off".to_owned() };
        let further: Vec<_> = self.listeners.iter().skip(1).map(|one| format!("{} {}", one.name(), one.address())).collect();
        let further = (!further.is_empty()).then(|| further.join(", "));
        tracing::info!(https, kafka, otlp, extra = further, admin = admin.as_deref().unwrap_or("off"), ?tls, "ready");
    }

    /// The address of the first listener that has this door, as the log says it.
    fn first_with(&self, door: DoorName) -> String {
        self.listeners.iter().find(|one| one.has(door)).map_or_else(|| "off".to_owned(), |one| one.address().to_string())
    }

    /// The phases in their order, each timed, within the limit.
    async fn drain(&self, serving: tokio::task::JoinHandle<()>) -> bool {
        let started = Instant::now();
        let limit = self.config.drain.limit.get();
        tracing::info!("draining: every answer asks its client to go elsewhere");
        self.phase(Phase::Leaving, DrainPhase::Leaving, tokio::time::sleep(self.config.drain.leaving.get())).await;
        let share = limit.saturating_sub(started.elapsed() + FLUSH_SHARE + CLOSE_SHARE);
        let finished = self.phase(Phase::Finishing, DrainPhase::Finishing, self.drain.finished(share)).await;
        if !finished {
            tracing::warn!(
                tasks = self.drain.tasks().len(),
                "connections or requests remain after their share of the drain; they are given up"
            );
        }
        serving.abort();
        let (sink, inbox) = (Arc::clone(&self.tiers.sink), Arc::clone(&self.tiers.inbox));
        let stored = self.phase(Phase::Storing, DrainPhase::Storing, async move {
            sink.flush(FLUSH_SHARE).await;
            tokio::time::timeout(CLOSE_SHARE, inbox.close()).await.is_ok()
        });
        let stored = stored.await;
        if !stored {
            tracing::error!("the inbox could not be closed in time; what is acknowledged is in it");
        }
        tracing::info!(seconds = started.elapsed().as_secs_f64(), rows = self.tiers.gates.total(), "drained");
        finished && stored
    }

    async fn phase<T>(&self, phase: Phase, label: DrainPhase, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        self.drain.enter(phase);
        let done = work.await;
        metrics().drain_seconds.at(label).set(started.elapsed().as_secs_f64());
        tracing::info!(?phase, seconds = started.elapsed().as_secs_f64(), "a phase of the drain is over");
        done
    }
}

async fn bind_admin(config: &Config) -> Result<Option<(SocketAddr, tokio::net::TcpListener)>, StartError> {
    let Some(listener) = crate::admin::bind(&config.admin).await? else { return Ok(None) };
    let address = listener.local_addr().map_err(|error| StartError::Failed(format!("admin.bind: {error}")))?;
    Ok(Some((address, listener)))
}

async fn carry_out(inbox: Arc<Inbox>, command: Command) -> Result<u64, String> {
    let topic = |name: Option<String>| name.map(|name| Topic::new(&name).map_err(|error| error.to_string())).transpose();
    match command {
        Command::Replay(selection) => {
            inbox.restore(topic(selection.topic)?).await;
            Ok(inbox.snapshot().rows)
        }
        Command::Purge(selection) => Ok(inbox.purge(topic(selection.topic)?, selection.poison).await),
    }
}

async fn tidy(ingest: Arc<Ingest>) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        ingest.tidy();
    }
}
