//! What `/status` shows: one snapshot of the whole gate, and the gauges that are read from it.
//!
//! Numbers, states and names of configuration only: no principal, no payload, no credential.

use serde::{Deserialize, Serialize};

use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::Outcome;
use crate::telemetry::metrics::{Metrics, labels::Door};

/// A snapshot of the gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// `serving`, `leaving`, `finishing` or `storing`.
    pub phase: String,
    /// What is bound.
    pub listeners: Vec<ListenerStatus>,
    /// The way to the broker.
    pub sink: SinkStatus,
    /// The durable fallback.
    pub inbox: InboxStatus,
    /// The bounds of the whole gate.
    pub limits: LimitsStatus,
    /// Who vouches for principals.
    pub auth: AuthStatus,
}

/// A bound socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// `https`, `admin`, ...
    pub name: String,
    /// Address and port as they were bound.
    pub address: String,
    /// Where TLS ends: `here`, `front` or `off`.
    pub tls: String,
    /// The doors behind it: `http`, `kafka`, `otlp`; none behind the admin listener.
    #[serde(default)]
    pub doors: Vec<String>,
}

/// The way to the broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Whether the broker is trusted.
    pub breaker: Breaker,
    /// Seconds since the breaker came into this state.
    pub since_s: u64,
    /// The configured brokers; none: the gate has only its inbox.
    pub brokers: Vec<String>,
    /// What went wrong last, if anything did.
    pub last_error: Option<String>,
    /// Events that the producer holds.
    pub queue_messages: u64,
    /// Bytes that the producer holds.
    pub queue_bytes: u64,
    /// The way of Kafka producers' batches, which go over connections of their own; none: no broker is configured.
    pub raw: Option<RawStatus>,
    /// What is known of the topics.
    pub catalog: CatalogStatus,
}

/// The way of Kafka producers' batches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RawStatus {
    /// Whether the brokers are trusted with batches.
    pub breaker: Breaker,
    /// Seconds since the breaker came into this state.
    pub since_s: u64,
    /// Bytes of batches that wait for their turn.
    pub waiting_bytes: u64,
    /// Lanes (a producer and a partition) that are remembered.
    pub lanes: u64,
    /// The brokers that are known.
    pub brokers: Vec<RawBroker>,
}

/// A broker, as Kafka producers' batches meet it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RawBroker {
    /// Where it is.
    pub address: String,
    /// Connections that stand.
    pub connections: u64,
    /// Batches that wait for its answer.
    pub in_flight: u64,
    /// What keeps us from connecting, if something does.
    pub fault: Option<String>,
}

/// The state of trust in the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Events go to the broker.
    Closed,
    /// One event is on its way to find out.
    HalfOpen,
    /// Events go to the inbox. Where a snapshot begins, too: trust is not assumed.
    #[default]
    Open,
}

/// What is known of the topics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogStatus {
    /// The topics of the routes.
    pub topics: Vec<TopicStatus>,
    /// Seconds since it was fetched; none: never.
    pub age_s: Option<u64>,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicStatus {
    /// Its name.
    pub name: String,
    /// Its partitions; 0: it does not exist.
    pub partitions: u32,
}

/// The durable fallback.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InboxStatus {
    /// `disk`, `firestore`, or `none`.
    pub tier: String,
    /// Rows that await delivery.
    pub rows: u64,
    /// Those of them that wait because a producer may still deliver them.
    pub held: u64,
    /// Those of them whose topic the broker does not have any more, or does not let us write to.
    #[serde(default)]
    pub stranded: u64,
    /// Rows set aside.
    pub poison: u64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Bytes that it may take.
    pub budget_bytes: u64,
    /// Age of the oldest row that awaits delivery, in seconds.
    pub oldest_age_s: Option<u64>,
    /// Why it takes nothing until a restart, if so.
    pub latched: Option<String>,
    /// What Firestore is asked to do, and what came of it; none: the inbox is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firestore: Option<FirestoreStatus>,
}

/// The Firestore inbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirestoreStatus {
    /// What went wrong last, if nothing has gone well since.
    pub trouble: Option<String>,
    /// Whether it does not let us write: the credentials are refused.
    pub denied: bool,
    /// Whether it has not answered for some time.
    #[serde(default)]
    pub away: bool,
    /// What is left of the pause that it has asked for, in milliseconds.
    pub pause_ms: u64,
    /// Writes a second that its ramp allows now.
    pub writes_per_second: u32,
    /// Writes of this process today (UTC).
    pub writes_today: u64,
    /// Writes that a day may have.
    pub writes_per_day: u64,
    /// Documents that were not there though it had said so.
    pub audit_missing: u64,
    /// Writes that are still read back, every one, because one was missing.
    pub audit_probation: u32,
}

/// The bounds of the whole gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitsStatus {
    /// Bytes in flight.
    pub in_flight: u64,
    /// Bytes that may be in flight.
    pub in_flight_limit: u64,
    /// Open connections.
    pub connections: u64,
    /// Connections that may be open.
    pub connections_limit: u64,
    /// Quotas that gates share.
    #[serde(default)]
    pub shared: SharedStatus,
}

/// Quotas that gates share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SharedStatus {
    /// Whether they do.
    pub state: Sharing,
    /// Seconds since it is so.
    pub since_s: u64,
    /// What went wrong last, if anything did.
    pub last_error: Option<String>,
    /// Accounts that the last turn was about.
    pub accounts: u64,
    /// How long it took, in milliseconds.
    pub last_turn_ms: f64,
    /// Seconds since the store answered.
    pub behind_s: f64,
}

/// Whether quotas are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Each gate counts by itself, as configured.
    #[default]
    Off,
    /// All gates count together.
    Shared,
    /// This gate counts by itself, because the store does not answer.
    Alone,
}

/// Who vouches for principals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuthStatus {
    /// The configured issuers.
    pub issuers: Vec<IssuerStatus>,
    /// The users of the verifier file; none: none is configured.
    pub users: Option<UsersStatus>,
}

/// The users of the verifier file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsersStatus {
    /// How many there are.
    pub users: u64,
    /// Why the file that is there now is not in use, if so.
    pub last_error: Option<String>,
}

/// An issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IssuerStatus {
    /// The name of its section in the configuration.
    pub name: String,
    /// Keys that are known.
    pub keys: u64,
    /// Seconds since they were fetched; none: they are configured, or were never had.
    pub age_s: Option<u64>,
    /// Whether they are past their announced life.
    pub stale: bool,
    /// Whether its tokens can be verified now.
    pub usable: bool,
    /// What went wrong with the last fetch, if it did.
    pub last_error: Option<String>,
}

impl Status {
    /// Sets the gauges that are marked "snapshot" in the vocabulary.
    pub(super) fn set_gauges(&self, to: &Metrics) {
        let (sink, inbox, limits) = (&self.sink, &self.inbox, &self.limits);
        let breaker = match sink.breaker {
            Breaker::Closed => 0.0,
            Breaker::HalfOpen => 1.0,
            Breaker::Open => 2.0,
        };
        to.breaker_state.set(breaker);
        let sharing = match limits.shared.state {
            Sharing::Off => 0.0,
            Sharing::Shared => 1.0,
            Sharing::Alone => 2.0,
        };
        to.quota_share_state.set(sharing);
        to.quota_share_behind_seconds.set(limits.shared.behind_s);
        for (gauge, value) in [
            (&to.connections_open, limits.connections),
            (&to.connections_limit, limits.connections_limit),
            (&to.in_flight_bytes, limits.in_flight),
            (&to.in_flight_limit_bytes, limits.in_flight_limit),
            (&to.producer_queue_messages, sink.queue_messages),
            (&to.producer_queue_bytes, sink.queue_bytes),
            (&to.catalog_topics, sink.catalog.topics.iter().filter(|topic| topic.partitions > 0).count() as u64),
            (&to.catalog_age_seconds, sink.catalog.age_s.unwrap_or(0)),
            (&to.inbox_rows, inbox.rows),
            (&to.inbox_held, inbox.held),
            (&to.inbox_stranded, inbox.stranded),
            (&to.inbox_poison, inbox.poison),
            (&to.inbox_bytes, inbox.bytes),
            (&to.inbox_budget_bytes, inbox.budget_bytes),
            (&to.inbox_oldest_seconds, inbox.oldest_age_s.unwrap_or(0)),
            (&to.inbox_latched, inbox.latched.is_some().into()),
        ] {
            gauge.set(value as f64);
        }
    }
}

/// The body of `/status`: the snapshot, and what the admin listener knows by itself.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    pub(super) ready: bool,
    pub(super) not_ready: &'a [String],
    #[serde(flatten)]
    pub(super) status: &'a Status,
    pub(super) events: Events,
}

/// Events since the start, by what became of them.
#[derive(Debug, Serialize)]
pub(super) struct Events {
    broker: u64,
    inbox: u64,
    refused: u64,
}

impl Events {
    pub(super) fn counted() -> Self {
        let mut events = Self { broker: 0, inbox: 0, refused: 0 };
        for outcome in Outcome::ALL {
            let count = Door::ALL.iter().map(|door| metrics().events.at((*door, *outcome)).get()).sum::<u64>();
            match outcome {
                Outcome::AcceptedBroker => events.broker += count,
                Outcome::AcceptedInbox => events.inbox += count,
                _ => events.refused += count,
            }
        }
        events
    }
}
