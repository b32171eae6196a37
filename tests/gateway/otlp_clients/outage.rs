//! The broker is away for a while, and what SDKs were handed arrives all the same.
//!
//! What always holds: spans are counted by their names, of which each is its own; what arrives twice (sent again, because an
//! answer was lost or late) is no fault. The broker is away and back at once: a switch stands before it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use crate::support::collector::Collector;
use crate::support::gate::{Gate, Setup};
use crate::support::kafka::{Kafka, Options};
use crate::support::otlp_clients::{Client, Endpoint, Order, Protocol, Summary, Task};
use crate::support::switch::Switch;
use crate::support::telemetry::Telemetry;
use crate::support::{DEADLINE, eventually};

use super::stage::{endpoint_of, make_topics, metric, replayed, setup, token};

/// Spans of one client, and over how many seconds they are spread.
const STREAM: Task = Task::Stream(160, 8);
const SPANS: usize = 160;

/// How long the broker stays away once somebody was refused: longer than an SDK waits before it tries for the second time.
const AWAY: Duration = Duration::from_millis(1_500);

/// Every SDK with each thing that it speaks.
fn orders(task: Task) -> Vec<Order> {
    let all = Client::ALL.into_iter().flat_map(|client| client.protocols().iter().map(move |protocol| (client, *protocol)));
    all.map(|(client, protocol)| Order { client, protocol, gzip: false, delta: false, task }).collect()
}

/// A broker behind a switch, and a Collector that reads it.
struct Broker {
    switch: Switch,
    behind: Collector,
    kafka: Kafka,
}

impl Broker {
    async fn start() -> Self {
        let mut switch = Switch::new();
        let advertised = format!("PLAINTEXT://127.0.0.1:{}", switch.port());
        let kafka = Kafka::start_with(Options { properties: vec![("advertised.listeners", advertised)], ..Options::default() }).await;
        let (_, port) = kafka.brokers().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).expect("an address");
        switch.lead_to(port.parse().expect("a port")).await;
        make_topics(&kafka).await;
        let behind = Collector::of_kafka(&kafka.brokers()).await;
        Self { switch, behind, kafka }
    }

    /// A gate with the deadlines that it is shipped with. It knows the broker by the switch alone.
    fn setup(&self) -> Setup {
        setup(&self.kafka).shipped().env("REDPANDA_BROKERS", &format!("127.0.0.1:{}", self.switch.port()))
    }

    /// The names of the spans that have arrived of a run, once they are as many as were sent; how many came more than once.
    async fn arrived(&self, order: &Order, count: usize) -> usize {
        let run = order.run();
        let names = || {
            let telemetry = Telemetry::of(&self.behind.received(), &run);
            let names: BTreeSet<_> = (0..count).filter(|i| !telemetry.named(&format!("span {run} {i}")).is_empty()).collect();
            (names.len(), telemetry.count("span"))
        };
        let (_, all) =
            eventually(&format!("all {count} spans of {run}"), DEADLINE, async || Some(names()).filter(|(distinct, _)| *distinct == count))
                .await;
        all - count
    }
}

/// Spans that a gate could take nowhere so far.
async fn unavailable(gate: &Gate) -> f64 {
    metric(gate, "sluicegate_otlp_items_total", &["unavailable", "traces"]).await
}

/// Each has an order done, all at once, everybody with a token of their own.
async fn send(gate: &Gate, orders: &[Order]) -> Vec<Summary> {
    let endpoints = join_all(orders.iter().map(|order| endpoint_of(gate, order))).await;
    join_all(orders.iter().zip(&endpoints).map(|(order, endpoint): (&Order, &Endpoint)| order.at(endpoint))).await
}

fn tell(order: &Order, summary: &Summary, twice: usize) {
    eprintln!("{}: {:.1} s, {twice} of {SPANS} more than once, said {:?}", order.run(), summary.seconds, summary.errors);
}

/// Scenario: a gate without an inbox; every SDK sends small batches; in their midst the broker is away until SDKs were
/// refused, and a while longer.
/// Guarantees: every span arrives: over HTTP and gRPC because SDKs are told so that they try again, of JavaScript over gRPC,
/// which never does, because the gate holds what it sends.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_inbox_a_short_outage_costs_no_sdk_a_span() {
    let mut broker = Broker::start().await;
    let gate = broker.setup().env("SLUICEGATE__INBOX__KIND", "none").start().await;
    let orders = orders(STREAM);
    let fault = async {
        let sent = async || (metric(&gate, "sluicegate_otlp_items_total", &[]).await > 100.0).then_some(());
        eventually("spans arrive", DEADLINE, sent).await;
        broker.switch.close();
        eventually("somebody was refused", DEADLINE, async || (unavailable(&gate).await > 0.0).then_some(())).await;
        tokio::time::sleep(AWAY).await;
        broker.switch.open().await;
    };
    let (summaries, ()) = tokio::join!(send(&gate, &orders), fault);
    for (order, summary) in orders.iter().zip(&summaries) {
        let twice = broker.arrived(order, SPANS).await;
        tell(order, summary, twice);
    }
    assert!(unavailable(&gate).await > 0.0);
}

/// Scenario: the broker is away for as long as the SDKs run; the gate has its disk inbox.
/// Guarantees: no SDK has a word of complaint, and everything is in the broker when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_disk_inbox_an_outage_of_any_length_is_seen_by_no_sdk() {
    let mut broker = Broker::start().await;
    let gate = broker.setup().start().await;
    broker.switch.close();
    let orders = orders(Task::Stream(SPANS, 2));
    let summaries = send(&gate, &orders).await;
    for (order, summary) in orders.iter().zip(&summaries) {
        assert_eq!(summary.errors, Vec::<String>::new(), "{}", order.run());
    }
    assert_eq!(unavailable(&gate).await, 0.0);
    broker.switch.open().await;
    replayed(&gate).await;
    for (order, summary) in orders.iter().zip(&summaries) {
        let twice = broker.arrived(order, SPANS).await;
        tell(order, summary, twice);
    }
}

/// Scenario: every SDK sends more than its quota lets through at once.
/// Guarantees: everything arrives with a delay; only JavaScript over gRPC, which never tries again, loses some and says so.
#[tokio::test(flavor = "multi_thread")]
async fn over_its_quota_every_sdk_that_tries_again_loses_nothing() {
    let broker = Broker::start().await;
    let gate = broker.setup().patient().config("[limits.tiers.standard]\nevents_per_second = 40.0\nburst = 80\n").start().await;
    let orders = orders(Task::Stream(SPANS, 1));
    let summaries = send(&gate, &orders).await;
    let mut refused = 0;
    for (order, summary) in orders.iter().zip(&summaries) {
        if (order.client, order.protocol) == (Client::Node, Protocol::Grpc) {
            assert!(!summary.errors.is_empty(), "JavaScript over gRPC was refused and did not say so");
            refused += 1;
            continue;
        }
        let twice = broker.arrived(order, SPANS).await;
        tell(order, summary, twice);
        assert_eq!(twice, 0, "what was refused is nowhere");
    }
    assert_eq!(refused, 1);
}

/// Scenario: a gate with neither a broker nor an inbox, that knows so already, is sent one span by each SDK, to a gate each.
/// Guarantees: who tries again does so some times over some 10 s, no more; over gRPC each try is held for a while.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_into_a_storm_while_nothing_can_be_taken() {
    let kafka = Kafka::prepare(Options::default());
    let each = orders(Task::Stream(1, 0)).into_iter().map(async |order| {
        let gate = setup(&kafka).shipped().env("SLUICEGATE__INBOX__KIND", "none").start().await;
        let token = token(&gate, "the-test").await;
        let refused = async || (gate.post("/v1/traces", &token, ONE_SPAN).await.status == 503).then_some(());
        eventually("it is known that there is no broker", DEADLINE, refused).await;
        let before = unavailable(&gate).await;
        let summary = order.at(&endpoint_of(&gate, &order).await).await;
        let tries = unavailable(&gate).await - before;
        eprintln!("{}: {tries} tries in {:.1} s, said {:?}", order.run(), summary.seconds, summary.errors);
        let (least, most) = match (order.client, order.protocol) {
            (Client::Node, Protocol::Grpc) => (1.0, 1.0),
            // Each try of theirs is held too, before it is answered. Java gives up on the second after 10 s in all.
            (_, Protocol::Grpc) => (1.0, 4.0),
            _ => (3.0, 6.0),
        };
        assert!(tries >= least && tries <= most, "{}: {tries} tries", order.run());
        assert!(order.protocol != Protocol::Grpc || summary.seconds > 4.0, "{} was held for {} s", order.run(), summary.seconds);
    });
    join_all(each).await;
}

const ONE_SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"}]}]}]}"#;
