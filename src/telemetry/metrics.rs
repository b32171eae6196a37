//! The vocabulary: every metric of the gate, in one place, each with the line that explains it.
//!
//! The doc line of a field is its help text and its row in `docs/metrics.md`. Labels are closed sets ([`labels`]), so the
//! number of series is fixed when the gate is built; all of them are exposed from the start, at zero. Counting takes no lock.
//! Gauges marked "snapshot" are set by the admin listener from the same [`Status`](crate::admin::Status) that `/status` shows.

pub mod labels;

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use labels::*;

/// What all names start with.
pub const PREFIX: &str = "sluicegate";

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge of any number.
pub type Gauge = prometheus_client::metrics::gauge::Gauge<f64, AtomicU64>;

/// One metric for each value of a closed label.
#[derive(Debug)]
pub struct By<L, M> {
    cells: Arc<[M]>,
    label: PhantomData<L>,
}

impl<L, M> Clone for By<L, M> {
    fn clone(&self) -> Self {
        Self { cells: Arc::clone(&self.cells), label: PhantomData }
    }
}

impl<L: Closed, M> By<L, M> {
    /// The metric of this value.
    pub fn at(&self, label: L) -> &M {
        &self.cells[label.index()]
    }
}

impl<L: Closed, M: EncodeMetric> EncodeMetric for By<L, M> {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        L::all().iter().zip(self.cells.iter()).try_for_each(|(label, cell)| cell.encode(encoder.encode_family(label)?))
    }

    fn metric_type(&self) -> MetricType {
        self.cells[0].metric_type()
    }
}

/// How a metric begins, and what the documentation says of its kind.
trait Kind: Sized {
    fn fresh() -> Self;
    fn kind() -> &'static str;
    fn labels() -> Vec<(&'static str, Vec<&'static str>)> {
        Vec::new()
    }
}

impl Kind for Counter {
    fn fresh() -> Self {
        Self::default()
    }

    fn kind() -> &'static str {
        "counter"
    }
}

impl Kind for Gauge {
    fn fresh() -> Self {
        Self::default()
    }

    fn kind() -> &'static str {
        "gauge"
    }
}

/// Bounds in seconds, dense where the gate's own deadlines are: 0.75 (fail over), 2 (send), 3 (answer).
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0];

impl Kind for Histogram {
    fn fresh() -> Self {
        Self::new(SECONDS)
    }

    fn kind() -> &'static str {
        "histogram"
    }
}

impl<L: Closed, M: Kind> Kind for By<L, M> {
    fn fresh() -> Self {
        Self { cells: L::all().iter().map(|_| M::fresh()).collect(), label: PhantomData }
    }

    fn kind() -> &'static str {
        M::kind()
    }

    fn labels() -> Vec<(&'static str, Vec<&'static str>)> {
        L::described()
    }
}

macro_rules! vocabulary {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:ty,)+) => {
        /// Every metric; one static instance, [`metrics`].
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $name: $kind,)+
        }

        impl Metrics {
            fn new() -> Self {
                let mut registry = Registry::with_prefix(PREFIX);
                $(
                    let $name = <$kind as Kind>::fresh();
                    registry.register(stringify!($name), help(&[$($help),+]), $name.clone());
                )+
                Self { registry, $($name),+ }
            }

            /// What is known of each metric, in the order of the exposition.
            pub fn described() -> Vec<Described> {
                vec![$(Described {
                    name: stringify!($name),
                    kind: <$kind as Kind>::kind(),
                    labels: <$kind as Kind>::labels(),
                    help: help(&[$($help),+]),
                }),+]
            }
        }
    };
}

vocabulary! {
    /// Requests answered, by door and class of the status.
    requests: By<(Door, Class), Counter>,
    /// Time from the end of a request's head to the end of its answer.
    request_seconds: By<Door, Histogram>,
    /// Bytes of request bodies read, as they came over the wire.
    body_bytes: By<Door, Counter>,
    /// Events by what became of them; every event is counted exactly once.
    events: By<(Door, Outcome), Counter>,
    /// Spans, data points and log records that came in OTLP requests that could be read, by what became of them. Those of one
    /// request have one outcome, but for the ones that were rejected for good (`too_large`, `invalid`).
    otlp_items: By<(Signal, Outcome), Counter>,
    /// Records that OTLP requests were made into.
    otlp_records: By<Signal, Counter>,
    /// OTLP requests whose traces could not be kept whole on their partitions, because that would repeat too much.
    otlp_torn: Counter,
    /// Texts in OTLP requests that were not UTF-8 and were mended on the way, where that is a setting.
    otlp_repaired: By<Signal, Counter>,
    /// Places in OTLP requests in JSON that are not as the specification says and were read all the same.
    otlp_json_deviations: By<(Signal, Deviation), Counter>,
    /// Requests refused because a bound was reached, by bound.
    bound_refusals: By<Bound, Counter>,
    /// Credentials refused, by reason.
    auth_failures: By<AuthFailure, Counter>,
    /// Logins by SCRAM with the client's half of the nonce said twice, as librdkafka before 2.6.1 does (`auth.repeated_nonce`).
    sasl_repeated_nonces: Counter,
    /// Fetches of issuers' keys.
    key_refreshes: By<Ended, Counter>,
    /// Batches refused by a quota, by what it counts.
    quota_refusals: By<QuotaUnit, Counter>,
    /// Batches admitted over a quota and owed for, by what it counts.
    quota_overdrafts: By<QuotaUnit, Counter>,
    /// Turns in which this gate told the store of shared quotas what it has admitted, and took back what all have.
    quota_share_turns: By<Ended, Counter>,
    /// Time of such a turn.
    quota_share_turn_seconds: Histogram,
    /// Accounts of principals that those turns were about, each counted each time.
    quota_share_accounts: Counter,
    /// Quotas are: 0 each gate's own, as configured; 1 shared; 2 each gate's own, because the store does not answer (snapshot).
    quota_share_state: Gauge,
    /// Time since the store of shared quotas answered last; 0 where none is configured (snapshot).
    quota_share_behind_seconds: Gauge,

    /// Connections accepted.
    connections_accepted: Counter,
    /// Connections closed before they were served, by reason.
    connections_refused: By<ConnectionRefusal, Counter>,
    /// Connections open now (snapshot).
    connections_open: Gauge,
    /// Connections that may be open (snapshot).
    connections_limit: Gauge,
    /// TLS handshakes, by how they ended.
    tls_handshakes: By<Handshake, Counter>,
    /// Certificates read again after a change.
    certificate_reloads: By<Ended, Counter>,
    /// When the certificate in use ends, in Unix seconds; 0 without one.
    certificate_expires_seconds: Gauge,
    /// Connections of the Kafka door open now.
    kafka_connections_open: Gauge,
    /// Connections of the Kafka door that ended, by reason.
    kafka_connections_ended: By<KafkaEnd, Counter>,
    /// Requests of the Kafka door, by what they ask for.
    kafka_requests: By<KafkaApi, Counter>,
    /// First authentications on connections of the Kafka door.
    kafka_authentications: By<(Mechanism, SaslEnd), Counter>,
    /// Renewed authentications on connections of the Kafka door.
    kafka_renewals: By<SaslEnd, Counter>,
    /// How often reading of a Kafka connection paused, by reason.
    kafka_pauses: By<KafkaPause, Counter>,
    /// Answers of the Kafka door that were held for a while, because they say "not stored, try again".
    kafka_answers_held: Counter,
    /// Bytes taken for work and not yet answered (snapshot).
    in_flight_bytes: Gauge,
    /// Bytes that may be in flight (snapshot).
    in_flight_limit_bytes: Gauge,

    /// Events handed to the producer, live and replayed.
    sink_sent: Counter,
    /// Events acknowledged by the broker.
    sink_acked: Counter,
    /// Events that the broker did not acknowledge, by what that means.
    sink_failed: By<SinkFailure, Counter>,
    /// The same events by reason.
    sink_failure_reasons: By<SinkReason, Counter>,
    /// Time from the hand-over to the producer to the broker's acknowledgement.
    sink_ack_seconds: Histogram,
    /// The breaker: 0 closed, 1 half-open, 2 open (snapshot).
    breaker_state: Gauge,
    /// How often the breaker opened.
    breaker_openings: Counter,
    /// Events that the producer holds (snapshot).
    producer_queue_messages: Gauge,
    /// Bytes that the producer holds (snapshot).
    producer_queue_bytes: Gauge,
    /// Acknowledgements by the broker after the event had already taken the inbox.
    late_successes: Counter,
    /// Producers given up and made anew.
    producer_rebuilds: Counter,
    /// Requests with record batches of Kafka clients written to brokers.
    forward_requests: Counter,
    /// Record batches in them.
    forward_batches: Counter,
    /// Record batches that a broker answered, whatever it said.
    forward_answered: Counter,
    /// Record batches that were written to no connection.
    forward_not_sent: Counter,
    /// Record batches that were written and not answered: nobody knows what became of them.
    forward_unknown: Counter,
    /// Time from a request's turn to the broker's answer.
    forward_answer_seconds: Histogram,
    /// Connections to brokers, for record batches, open now.
    forward_connections: Gauge,
    /// Connections to brokers, for record batches, opened.
    forward_connections_opened: Counter,
    /// Attempts to open one that failed.
    forward_connect_failures: Counter,
    /// Answers of brokers to the question who leads which partition.
    forward_refreshes: Counter,
    /// Topics in the catalog (snapshot).
    catalog_topics: Gauge,
    /// Age of the catalog (snapshot).
    catalog_age_seconds: Gauge,

    /// Refusals that were not written into the journal: too many in a second, or its disk is full.
    journal_dropped: Counter,

    /// Rows in the inbox that await delivery (snapshot).
    inbox_rows: Gauge,
    /// Rows that wait because a producer may still deliver them (snapshot).
    inbox_held: Gauge,
    /// Rows whose topic the broker does not have any more, or does not let the gate write to; they wait for a person (snapshot).
    inbox_stranded: Gauge,
    /// Rows set aside after too many failures, kept until a person decides (snapshot).
    inbox_poison: Gauge,
    /// Bytes that the inbox takes (snapshot).
    inbox_bytes: Gauge,
    /// Bytes that the inbox may take (snapshot).
    inbox_budget_bytes: Gauge,
    /// Age of the oldest row that awaits delivery; 0 when there is none (snapshot).
    inbox_oldest_seconds: Gauge,
    /// 1 when an I/O error has latched the inbox until a restart, else 0 (snapshot).
    inbox_latched: Gauge,
    /// Events stored.
    inbox_stored: Counter,
    /// Events delivered from the inbox.
    inbox_replayed: Counter,
    /// Rows deleted because their first sending succeeded late.
    inbox_settled_late: Counter,
    /// Rows set aside as poison.
    inbox_poisoned: Counter,
    /// Events that the inbox did not take, by reason.
    inbox_refused: By<InboxRefusal, Counter>,
    /// Time of one group commit; with Firestore, of one call with writes.
    inbox_commit_seconds: Histogram,
    /// Documents that were made and read back twice and were not there though Firestore had said so. Each is an alarm.
    inbox_audit_missing: Counter,
    /// Calls of Firestore by the inbox's writer, by how they ended.
    firestore_calls: By<(FirestoreMethod, FirestoreEnd), Counter>,
    /// Time of those calls.
    firestore_call_seconds: By<FirestoreMethod, Histogram>,
    /// Writes that Firestore has answered in them, each counted by Google for its price.
    firestore_writes: Counter,

    /// How long each phase of the drain took; 0 while it has not ended.
    drain_seconds: By<DrainPhase, Gauge>,
    /// Panics of any task. Each is a bug.
    panics: Counter,
    /// Log lines written, by severity.
    log_lines: By<LogLevel, Counter>,
    /// Log lines dropped because standard output was too slow.
    log_lines_dropped: Counter,
    /// When this process started, in Unix seconds.
    start_time_seconds: Gauge,
}

/// One metric, for the documentation.
#[derive(Debug)]
pub struct Described {
    /// Its name without prefix and suffix.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels and all their values.
    pub labels: Vec<(&'static str, Vec<&'static str>)>,
    /// What it means.
    pub help: String,
}

/// The doc lines as help text. The exposition ends it with a period of its own.
fn help(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    /// One answered request.
    pub fn request(&self, door: Door, status: u16, took: Duration) {
        self.requests.at((door, Class::of(status))).inc();
        self.request_seconds.at(door).observe(took.as_secs_f64());
    }

    /// One call of Firestore that has ended.
    pub fn firestore_call(&self, method: FirestoreMethod, end: FirestoreEnd, took: Duration) {
        self.firestore_calls.at((method, end)).inc();
        self.firestore_call_seconds.at(method).observe(took.as_secs_f64());
    }

    /// All metrics in the OpenMetrics text format ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a string takes whatever is written to it");
        text
    }

    /// The vocabulary as a document, kept equal to `docs/metrics.md` by a test.
    pub fn document() -> String {
        let mut text = String::from(
            "# Metrics\n\nGenerated from `src/telemetry/metrics.rs` (`UPDATE_DOCS=1 cargo test --release --lib metrics`); do not edit.\n\n\
             `GET /metrics` on the admin listener, OpenMetrics text. Label values are closed sets: no principal, path or text of a sender is ever one. \
             All series exist from the start, at zero. Gauges marked *snapshot* are read when they are asked for, from the same snapshot as `/status`. \
             Histograms are in seconds.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n",
        );
        for metric in Self::described() {
            let suffix = if metric.kind == "counter" { "_total" } else { "" };
            let labels: Vec<_> = metric.labels.iter().map(|(key, values)| format!("`{key}`: {}", values.join(", "))).collect();
            text += &format!("| `{PREFIX}_{}{suffix}` | {} | {} | {}. |\n", metric.name, metric.kind, labels.join("; "), metric.help);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Series by metric, parsed strictly from the exposition.
    fn series(text: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a value on every line");
            value.parse::<f64>().expect("a number");
            let name = series.split('{').next().expect("a name").to_owned();
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    #[test]
    fn every_metric_is_exposed_from_the_start_with_help_type_and_a_conventional_name() {
        let text = metrics().encode();
        assert!(text.ends_with("# EOF\n"));
        let found = series(&text);
        let mut names = BTreeSet::new();
        for metric in Metrics::described() {
            let full = format!("{PREFIX}_{}", metric.name);
            assert!(names.insert(full.clone()), "{full} twice");
            assert!(text.contains(&format!("# HELP {full} {}.\n", metric.help)), "{full} has no help");
            assert!(text.contains(&format!("# TYPE {full} {}\n", metric.kind)), "{full} has no type");
            assert!(full.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{full}");
            assert_eq!(
                metric.kind == "histogram",
                metric.name.ends_with("_seconds") && metric.kind != "gauge",
                "{full} must name its unit"
            );
            let suffix = match metric.kind {
                "counter" => "_total",
                "histogram" => "_count",
                _ => "",
            };
            let expected: usize = metric.labels.iter().map(|(_, values)| values.len()).product();
            assert_eq!(found.get(&format!("{full}{suffix}")), Some(&expected), "{full}");
        }
    }

    #[test]
    fn the_document_is_the_vocabulary() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, Metrics::document()).expect("docs/metrics.md can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == Metrics::document(), "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test --release --lib metrics");
    }

    #[test]
    fn random_names_make_no_new_series() {
        let own = Metrics::new();
        let before = series(&own.encode());
        for n in 0..10_000 {
            own.request(Door::named(&format!("/path/{n}")), (n % 1_000) as u16, Duration::from_millis(n));
            own.events.at((Door::named("../x"), Outcome::refused(&format!("code-{n}")))).inc();
        }
        assert_eq!(series(&own.encode()), before);
        assert_eq!(own.events.at((Door::Other, Outcome::Internal)).get(), 10_000);
    }

    #[test]
    fn a_pair_of_labels_counts_in_its_own_cell() {
        let own = Metrics::new();
        own.request(Door::Callable, 429, Duration::from_millis(30));
        let text = own.encode();
        assert!(text.contains("sluicegate_requests_total{door=\"callable\",class=\"4xx\"} 1\n"));
        assert!(text.contains("sluicegate_request_seconds_bucket{le=\"0.05\",door=\"callable\"} 1\n"), "{text}");
        assert!(text.contains("sluicegate_request_seconds_bucket{le=\"0.025\",door=\"callable\"} 0\n"), "{text}");
    }

    #[test]
    fn every_refusal_and_door_of_the_trunk_has_its_label() {
        use crate::receipt::{Doubt, Quota, Refusal};
        let wait = Duration::ZERO;
        let refusals = [
            Refusal::Unauthenticated,
            Refusal::Denied { topic: String::new() },
            Refusal::malformed(""),
            Refusal::invalid("", ""),
            Refusal::TooLarge { what: "", actual: 0, limit: 0 },
            Refusal::Throttled { wait, quota: Quota { unit: "events", per_second: 1.0, burst: 1 } },
            Refusal::Overloaded { what: "", wait },
            Refusal::Unavailable { wait, doubt: Doubt::NotStored },
            Refusal::Internal,
        ];
        for refusal in refusals {
            assert_eq!(Outcome::refused(refusal.code()).as_str(), refusal.code());
        }
        use crate::event::Door::{Callable, Events, Kafka, Otlp, OtlpGrpc};
        for door in [Events, Callable, Kafka, Otlp, OtlpGrpc] {
            assert_eq!(Door::named(door.as_str()).as_str(), door.as_str());
        }
    }
}
