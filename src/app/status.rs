//! What the admin listener and the probes see: snapshots of the areas, put together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admin::status::{
    AuthStatus, Breaker, CatalogStatus, FirestoreStatus, InboxStatus, IssuerStatus, LimitsStatus, ListenerStatus, RawBroker, RawStatus,
    SharedStatus, Sharing, SinkStatus, Status, TopicStatus, UsersStatus,
};
use crate::auth::Authenticator;
use crate::drain::{Phase, Signal};
use crate::inbox::{FirestoreNumbers, Inbox};
use crate::limits::inflight::Meter;
use crate::limits::shared::View;
use crate::listeners::{DoorName, Listener, Listeners, MAIN, TlsMode};
use crate::sink::Sink;
use crate::sink::breaker::State;
use crate::sink::forward::BrokerStatus;
use crate::sink::raw::Raw;

use super::App;

/// While the breaker is open, the catalog is fetched each second.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Reads the areas. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Source {
    started: Instant,
    signal: Signal,
    bound: Vec<ListenerStatus>,
    listeners: Listeners,
    brokers: Vec<String>,
    sink: Arc<Sink>,
    inbox: Arc<Inbox>,
    meter: Arc<Meter>,
    sharing: View,
    authenticator: Arc<Authenticator>,
}

impl Source {
    pub(super) fn of(app: &App) -> Self {
        let mut bound: Vec<_> = app.listeners.iter().map(|one| listener(one, app.config.otlp.enabled)).collect();
        if let Some(address) = app.admin_address {
            bound.push(ListenerStatus { name: "admin".into(), address: address.to_string(), tls: "off".into(), doors: Vec::new() });
        }
        Self {
            started: Instant::now(),
            signal: app.drain.signal(),
            bound,
            listeners: app.listeners.clone(),
            brokers: app.config.sink.brokers.clone(),
            sink: Arc::clone(&app.tiers.sink),
            inbox: Arc::clone(&app.tiers.inbox),
            meter: Arc::clone(&app.meter),
            sharing: app.sharing.as_ref().map(crate::limits::shared::Sharing::view).unwrap_or_default(),
            authenticator: Arc::clone(&app.authenticator),
        }
    }

    /// Whether the gate should be sent traffic: it can tell who is there, and one of the two tiers takes events. With the
    /// broker down and the inbox up it is ready.
    pub(super) fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.signal.phase() > Phase::Serving {
            reasons.push("the gate is draining".to_owned());
        }
        if !self.authenticator.ready() {
            reasons.push("no issuer's keys are there yet".to_owned());
        }
        // An open breaker in front of a broker that answers is worth a probe, which only traffic brings where there is no inbox.
        let answers = self.sink.catalog().age().is_some_and(|age| age < ANSWERS_WITHIN);
        let broker = self.sink.has_broker() && self.sink.catalog().is_seen() && (self.sink.breaker().state() == State::Closed || answers);
        if !broker && !self.inbox.takes() {
            reasons.push("neither the broker nor the inbox takes events".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    pub(super) fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            phase: format!("{:?}", self.signal.phase()).to_lowercase(),
            listeners: self.bound.clone(),
            sink: self.sink(),
            inbox: self.inbox(),
            limits: LimitsStatus {
                in_flight: self.meter.used(),
                in_flight_limit: self.meter.limit(),
                connections: self.listeners.open() as u64,
                connections_limit: self.listeners.limit() as u64,
                shared: self.shared(),
            },
            auth: AuthStatus { issuers: self.issuers(), users: self.users() },
        }
    }

    fn sink(&self) -> SinkStatus {
        let topic = |(topic, facts): (crate::event::Topic, crate::sink::catalog::Facts)| TopicStatus {
            name: topic.to_string(),
            partitions: facts.partitions.unsigned_abs(),
        };
        let catalog = self.sink.catalog();
        SinkStatus {
            breaker: shown(self.sink.breaker().state()),
            since_s: self.sink.breaker().history().1.elapsed().as_secs(),
            brokers: self.brokers.clone(),
            last_error: self.sink.last_error(),
            queue_messages: self.sink.queued(),
            queue_bytes: self.sink.queued_bytes(),
            raw: self.sink.raw().map(raw),
            catalog: CatalogStatus {
                topics: catalog.topics().into_iter().map(topic).collect(),
                age_s: catalog.age().map(|age| age.as_secs()),
            },
        }
    }

    fn inbox(&self) -> InboxStatus {
        let seen = self.inbox.snapshot();
        InboxStatus {
            tier: seen.kind.to_owned(),
            rows: seen.rows,
            held: seen.held,
            stranded: seen.stranded,
            poison: seen.poison,
            bytes: seen.bytes,
            budget_bytes: seen.max_bytes,
            oldest_age_s: seen.oldest_age_s,
            firestore: seen.firestore.map(firestore),
            latched: seen.latched.then(|| "its disk has failed; restart the gate when the disk is well".to_owned()),
        }
    }

    fn shared(&self) -> SharedStatus {
        let Some(seen) = self.sharing.standing() else { return SharedStatus::default() };
        SharedStatus {
            state: if seen.shared { Sharing::Shared } else { Sharing::Alone },
            since_s: seen.since.elapsed().as_secs(),
            last_error: seen.last_error,
            accounts: seen.accounts,
            last_turn_ms: seen.took.as_secs_f64() * 1_000.0,
            behind_s: seen.heard.elapsed().as_secs_f64(),
        }
    }

    fn users(&self) -> Option<UsersStatus> {
        let seen = self.authenticator.users()?;
        Some(UsersStatus { users: seen.users as u64, last_error: seen.last_error })
    }

    fn issuers(&self) -> Vec<IssuerStatus> {
        let issuer = |seen: crate::auth::IssuerStatus| IssuerStatus {
            name: seen.name,
            keys: seen.keys as u64,
            age_s: seen.age_seconds,
            stale: seen.stale,
            usable: seen.usable,
            last_error: seen.last_error,
        };
        self.authenticator.status().into_iter().map(issuer).collect()
    }
}

/// The first one is the HTTPS door's in people's minds, whatever else is behind it.
fn firestore(seen: FirestoreNumbers) -> FirestoreStatus {
    FirestoreStatus {
        trouble: seen.trouble,
        denied: seen.pace.denied,
        away: seen.pace.away,
        pause_ms: seen.pace.pause_ms,
        writes_per_second: seen.pace.writes_per_second,
        writes_today: seen.pace.writes_today,
        writes_per_day: seen.pace.writes_per_day,
        audit_missing: seen.audit.missing,
        audit_probation: seen.audit.probation,
    }
}

fn listener(listener: &Listener, otlp: bool) -> ListenerStatus {
    let tls = match listener.tls() {
        TlsMode::Generated | TlsMode::Files => "here",
        TlsMode::Front => "front",
        TlsMode::Off => "off",
    };
    let name = if listener.name() == MAIN { "https" } else { listener.name() };
    let doors = DoorName::ALL.iter().filter(|door| listener.has(**door) && (**door != DoorName::Otlp || otlp));
    let doors = doors.map(|door| door.as_str().to_owned()).collect();
    ListenerStatus { name: name.to_owned(), address: listener.address().to_string(), tls: tls.to_owned(), doors }
}

const fn shown(state: State) -> Breaker {
    match state {
        State::Closed => Breaker::Closed,
        State::HalfOpen => Breaker::HalfOpen,
        State::Open => Breaker::Open,
    }
}

fn raw(leg: &Raw) -> RawStatus {
    let broker = |seen: BrokerStatus| RawBroker {
        address: seen.address,
        connections: seen.connections as u64,
        in_flight: seen.in_flight as u64,
        fault: seen.last_error.filter(|_| seen.down),
    };
    RawStatus {
        breaker: shown(leg.breaker().state()),
        since_s: leg.breaker().history().1.elapsed().as_secs(),
        waiting_bytes: leg.upstream().waiting_bytes(),
        lanes: leg.lanes().len() as u64,
        brokers: leg.upstream().status().into_iter().map(broker).collect(),
    }
}
