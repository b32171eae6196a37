//! The producer of events: librdkafka behind one completion for each send.
//!
//! What always holds: every record that librdkafka took has exactly one report, which its [`Flight`] gets from the
//! producer's own thread. Nothing is ever purged while the producer is in use: after a freeze, purged messages were
//! appended all the same, and a purge of the queue alone made acknowledged ones go out again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode;

use crate::route::Routed;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{SinkFailure, SinkReason};

use super::breaker::{Breaker, State};
use super::flight::Flight;
use super::report::{self, Report};

/// Between two loud lines about a broker that refuses us.
const SHOUT_EVERY: Duration = Duration::from_secs(60);

/// What librdkafka gives back with a report: the send, and the part of it.
type Opaque = Box<(Arc<Flight>, usize)>;

/// Hears librdkafka's reports, on the producer's thread.
pub(super) struct Context {
    breaker: Arc<Breaker>,
    seen: Arc<Seen>,
}

/// What librdkafka says of itself.
#[derive(Debug, Default)]
struct Seen {
    reports: AtomicU64,
    acknowledgements: AtomicU64,
    queued_bytes: AtomicU64,
    last_error: Mutex<Option<String>>,
    shouted: Mutex<Option<Instant>>,
}

impl Seen {
    fn say(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Whether the last loud line is long enough ago.
    fn may_shout(&self) -> bool {
        let mut shouted = self.shouted.lock().unwrap_or_else(PoisonError::into_inner);
        let may = shouted.is_none_or(|at| at.elapsed() > SHOUT_EVERY);
        if may {
            *shouted = Some(Instant::now());
        }
        may
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, message, "librdkafka"),
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.seen.queued_bytes.store(statistics.msg_size, Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Connection faults come by the hundred in an outage; the breaker says once what they mean. What no waiting will
        // heal is said aloud, once a minute.
        let refused = matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL));
        if refused && self.seen.may_shout() {
            tracing::error!(
                reason,
                "the broker refuses us: are the credentials, the SASL mechanism and its certificate's authority right?"
            );
        } else {
            tracing::debug!(%error, reason, "the producer reports an error");
        }
        self.seen.say(Some(format!("{error}: {reason}")));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Opaque;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Opaque) {
        let (flight, part) = *opaque;
        self.seen.reports.fetch_add(1, Ordering::Relaxed);
        let report = match result {
            Ok(message) => Report::Delivered { partition: message.partition(), offset: message.offset() },
            Err((error, _)) => report::of_delivery(error),
        };
        match &report {
            Report::Delivered { .. } => {
                self.seen.acknowledgements.fetch_add(1, Ordering::Relaxed);
                self.breaker.acknowledged(Instant::now());
            }
            answer if answer.is_answer() => self.breaker.answered(Instant::now()),
            _ => {}
        }
        count(&report, &flight);
        let (delivered, waited_for) = (matches!(report, Report::Delivered { .. }), flight.report(part, report));
        if delivered && !waited_for {
            metrics().late_successes.inc();
        }
    }
}

fn count(report: &Report, flight: &Flight) {
    let failure = match report {
        Report::Delivered { .. } => {
            metrics().sink_acked.inc();
            return metrics().sink_ack_seconds.observe(flight.age().as_secs_f64());
        }
        Report::NotStored(_) => SinkFailure::NotStored,
        Report::Unknown(_) => SinkFailure::Unknown,
        Report::Permanent(_) => SinkFailure::Permanent,
    };
    metrics().sink_failed.at(failure).inc();
    metrics().sink_failure_reasons.at(SinkReason::named(report.reason())).inc();
}

/// The producer, and how to make another one.
pub(super) struct Producer {
    settings: ClientConfig,
    breaker: Arc<Breaker>,
    seen: Arc<Seen>,
    live: ArcSwap<ThreadedProducer<Context>>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    pub(super) fn new(settings: ClientConfig, breaker: Arc<Breaker>) -> KafkaResult<Self> {
        let seen = Arc::new(Seen::default());
        let live = make(&settings, &breaker, &seen)?;
        Ok(Self { settings, breaker, seen, live: ArcSwap::from_pointee(live) })
    }

    /// Gives one part to librdkafka, which copies it. A part that it does not take is reported at once, and the answer is false.
    pub(super) fn send(&self, flight: &Arc<Flight>, part: usize, routed: &Routed, partition: i32) -> bool {
        let mut record = BaseRecord::with_opaque_to(routed.topic().as_str(), Box::new((Arc::clone(flight), part)))
            .partition(partition)
            .timestamp(routed.timestamp_ms())
            .payload(routed.value().as_ref())
            .headers(headers(routed));
        if let Some(key) = routed.key() {
            record = record.key(key.as_ref());
        }
        match self.live.load().send(record) {
            Ok(()) => {
                metrics().sink_sent.inc();
                true
            }
            Err((error, _)) => {
                let report = report::of_enqueue(&error);
                count(&report, flight);
                flight.report(part, report);
                false
            }
        }
    }

    /// Records that librdkafka has and has not reported.
    pub(super) fn queued(&self) -> u64 {
        u64::try_from(self.live.load().in_flight_count()).unwrap_or(0)
    }

    /// Records that it has reported so far, delivered or not.
    pub(super) fn reports(&self) -> u64 {
        self.seen.reports.load(Ordering::Relaxed)
    }

    /// Records that it has reported as delivered so far.
    pub(super) fn acknowledgements(&self) -> u64 {
        self.seen.acknowledgements.load(Ordering::Relaxed)
    }

    /// Bytes that librdkafka has, as of its last statistics.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.seen.queued_bytes.load(Ordering::Relaxed)
    }

    /// What its connections said last, if it was a fault.
    pub(super) fn last_error(&self) -> Option<String> {
        let fault = self.seen.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A closed breaker says that all is well only once something was acknowledged.
        fault.filter(|_| !self.breaker.is_proven() || self.breaker.state() != State::Closed)
    }

    /// Fetches the cluster's metadata, so that the first record finds its leader. Blocks.
    pub(super) fn look_around(&self) {
        if let Err(error) = self.live.load().client().fetch_metadata(None, Duration::from_secs(2)) {
            tracing::debug!(%error, "the producer could not look around");
        }
    }

    /// Whether librdkafka has given up on its producer id.
    pub(super) fn is_fatal(&self) -> bool {
        self.live.load().client().fatal_error().is_some()
    }

    /// Puts a new producer in the old one's place. What the old one holds is reported as unknown while it ends, in a thread of its own, because its end blocks.
    pub(super) fn rebuild(&self) -> KafkaResult<()> {
        let old = self.live.swap(Arc::new(make(&self.settings, &self.breaker, &self.seen)?));
        self.breaker.renewed();
        metrics().producer_rebuilds.inc();
        std::thread::spawn(move || drop(old));
        Ok(())
    }

    /// Waits until everything is reported, at most so long. Blocks: call it off the reactor.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        self.live.load().flush(limit).is_ok()
    }
}

fn make(settings: &ClientConfig, breaker: &Arc<Breaker>, seen: &Arc<Seen>) -> KafkaResult<ThreadedProducer<Context>> {
    ThreadedProducer::from_config_and_context(settings, Context { breaker: Arc::clone(breaker), seen: Arc::clone(seen) })
}

fn headers(routed: &Routed) -> OwnedHeaders {
    routed.headers().iter().fold(OwnedHeaders::new_with_capacity(routed.headers().len()), |all, (key, value)| {
        all.insert(Header { key, value: Some(value.as_ref()) })
    })
}
