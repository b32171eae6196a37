//! The trunk with both its tiers and no door, before a scripted cluster: what lanes do is seen at the broker's side.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluicegate::app::Tiers;
use sluicegate::auth::{Authenticator, Credentials, Now, Principal};
use sluicegate::config::Config;
use sluicegate::drain::{Drain, Phase};
use sluicegate::event::{Door, Origin, Topic};
use sluicegate::ingest::producer_ids::ProducerIds;
use sluicegate::ingest::{Admitted, Ingest, Landed, RecordsPart, RecordsRequest};
use sluicegate::limits::inflight::Meter;
use sluicegate::limits::quota::Quotas;
use sluicegate::receipt::Refusal;
use sluicegate::records::RecordBatch;
use sluicegate::route::Table;
use sluicegate::units::Secret;
use tempfile::TempDir;

use super::{DEADLINE, eventually};

/// The topic of the default route.
pub const TOPIC: &str = "events";

/// A trunk. Its folder outlives it, so that another one can be started where it ended.
pub struct Trunk {
    pub ingest: Arc<Ingest>,
    pub tiers: Tiers,
    pub principal: Principal,
    meter: Arc<Meter>,
    drain: Drain,
}

/// What one batch was answered.
pub type Answer = Result<Landed, Refusal>;

/// A trunk's settings: those that it is shipped with, in a folder of its own.
pub fn settings(dir: &TempDir, brokers: &str) -> Config {
    let mut config = Config::default();
    config.sink.brokers = brokers.split(',').map(str::to_owned).collect();
    config.inbox.dir = dir.path().join("data");
    config.inbox.allow_volatile = true;
    // A busy machine's disk may take its time; what is tested is where a batch goes, and not how quick the disk is.
    config.sink.answer_deadline = sluicegate::units::Span::secs(30);
    config.auth.kafka_user = Some("ada".into());
    config.auth.kafka_password = Secret::new("long enough");
    config
}

impl Trunk {
    pub async fn start(config: Config) -> Self {
        let drain = Drain::default();
        let authenticator = Authenticator::new(&config.auth).expect("a user");
        let credentials = Credentials::Basic { name: "ada".into(), password: Secret::new("long enough") };
        let principal = authenticator.recognize(&credentials, Now::read()).await.expect("ada");
        let tiers = Tiers::open(&config).expect("two tiers");
        tiers.start(&config, &drain).expect("they start");
        let ingest = Arc::new(Ingest::new(
            Quotas::new(&config.limits),
            Table::new(config.headers.clone(), config.routes.clone()),
            tiers.of_trunk(),
            &drain,
            ProducerIds::by_key(b"the same for all trunks of a test"),
        ));
        tokio::time::timeout(DEADLINE, tiers.sink.warm_up()).await.expect("the catalog comes");
        Self { ingest, tiers, principal, meter: Meter::new(64 << 20), drain }
    }

    /// Takes in one request of a connection.
    pub async fn admit(&self, connection: u64, parts: Vec<(i32, RecordBatch)>) -> Admitted {
        self.admit_to(TOPIC, connection, parts).await
    }

    async fn admit_to(&self, topic: &str, connection: u64, parts: Vec<(i32, RecordBatch)>) -> Admitted {
        let topic = Topic::new(topic).expect("a topic");
        let part = |(partition, batch)| RecordsPart { topic: topic.clone(), partition, batch };
        let origin = Origin { door: Door::Kafka, arrived: SystemTime::now(), address: Ipv4Addr::LOCALHOST.into(), traceparent: None };
        let guard = self.meter.reserve(1).expect("room");
        let request = RecordsRequest { parts: parts.into_iter().map(part).collect(), origin, connection, guard };
        self.ingest.admit(&self.principal, request).await
    }

    /// Sends one batch to a partition and waits for what became of it.
    pub async fn send(&self, partition: i32, batch: RecordBatch) -> Answer {
        answers(self.admit(1, vec![(partition, batch)]).await).await.remove(0)
    }

    /// The same to the first partition of another topic.
    pub async fn send_to(&self, topic: &str, batch: RecordBatch) -> Answer {
        answers(self.admit_to(topic, 1, vec![(0, batch)]).await).await.remove(0)
    }

    /// Waits until nothing is owed to any partition: the inbox is empty.
    pub async fn is_replayed(&self) {
        eventually("the inbox is replayed", DEADLINE, async || (self.tiers.gates.total() == 0).then_some(())).await;
    }

    /// The drain comes to this phase; nothing else is ended.
    pub fn drains(&self, phase: Phase) {
        self.drain.enter(phase);
    }

    /// Ends it as a crash would: what is not on the disk is lost.
    pub async fn end(self) {
        self.drain.enter(Phase::Storing);
        assert!(self.drain.finished(Duration::from_secs(30)).await, "its tasks end");
        let left = Arc::downgrade(&self.tiers.inbox);
        self.tiers.inbox.close().await;
        drop(self);
        eventually("nobody has the inbox any more", DEADLINE, async || (left.strong_count() == 0).then_some(())).await;
    }
}

/// What became of a request's batches; that there is an answer in time is promised.
pub async fn answers(admitted: Admitted) -> Vec<Answer> {
    tokio::time::timeout(DEADLINE, admitted.outcomes()).await.expect("an answer for every batch").results
}
