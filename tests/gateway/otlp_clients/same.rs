//! What every SDK sends arrives behind the broker as it arrives at a Collector that it is sent to directly.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream;

use crate::support::full;
use crate::support::otlp_clients::{Client, Endpoint, Order, Task};
use crate::support::telemetry::Telemetry;

use super::AT_ONCE;
use super::stage::{Stage, metric};

/// Every SDK with all that it speaks, with and without compression, cumulative and delta; over all of them every pair.
/// All of it if the long form was asked for.
fn orders() -> Vec<Order> {
    let mut orders = Vec::new();
    for (place, client) in Client::ALL.into_iter().enumerate() {
        for (step, protocol) in client.protocols().iter().copied().enumerate() {
            let order = |gzip, delta| Order { client, protocol, gzip, delta, task: Task::Everything };
            if full() {
                orders.extend([(false, false), (false, true), (true, false), (true, true)].map(|(gzip, delta)| order(gzip, delta)));
            } else {
                let gzip = (place + step) % 2 == 0;
                orders.extend([order(gzip, step % 2 == 0), order(!gzip, step % 2 == 1)]);
            }
        }
    }
    orders
}

/// Has each done at an endpoint, some at a time. What they complain of is what they say of the programs' own making.
async fn send(orders: &[Order], endpoint: &Endpoint) {
    let each = orders.iter().map(async |order| {
        let summary = order.at(endpoint).await;
        eprintln!("{}: {} {} took {:.1} s", order.run(), summary.client, summary.version, summary.seconds);
        assert_eq!(summary.errors, Vec::<String>::new(), "{}", order.run());
    });
    stream::iter(each).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

/// Scenario: every SDK sends traces, metrics and logs, first to a Collector, then to the gate with a token over TLS.
/// Guarantees: a Collector that reads the broker has of each run exactly what the other one has.
#[tokio::test(flavor = "multi_thread")]
async fn what_every_sdk_sends_through_the_gate_is_what_it_sends_to_a_collector_directly() {
    assert_same(&Stage::new().await, &orders()).await;
}

/// Scenario: the same, where a record may have no more than 3 KiB, and the keys are the Collector's own.
/// Guarantees: the same, out of many records for each request.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_into_many_records_is_the_same_too() {
    let stage = Stage::with(|setup| setup.config(SMALL_RECORDS)).await;
    let orders: Vec<_> = orders().into_iter().filter(|order| order.gzip != order.delta || full()).collect();
    assert_same(&stage, &orders).await;
    let Some(gate) = &stage.gate else { return };
    for (signal, least) in [("traces", 6.0), ("metrics", 1.0), ("logs", 1.5)] {
        let records = metric(gate, "sluicegate_otlp_records_total", &[signal]).await / orders.len() as f64;
        eprintln!("{signal}: {records} records for each run");
        assert!(records >= least, "{signal}: {records} records for each run");
    }
}

const SMALL_RECORDS: &str = r#"
[limits.tiers.standard]
events_per_second = 1000000.0
burst = 1000000
kib_per_second = 1000000.0
kib_burst = 1000000

[otlp]
traces_keys = "trace_id"
metrics_keys = "resource"
logs_keys = "resource"

[[routes]]
topic = "otlp_*"
max_event_bytes = "3 KiB"
"#;

async fn assert_same(stage: &Stage, orders: &[Order]) {
    send(orders, &Endpoint::collector(&stage.direct)).await;
    let mut expected = Vec::new();
    for order in orders {
        let telemetry = Telemetry::of(&stage.direct.received(), &order.run());
        assert_has_everything(order, &telemetry);
        expected.push(telemetry);
    }
    send(orders, &stage.endpoint).await;
    let mut wrong = Vec::new();
    for (order, direct) in orders.iter().zip(&expected) {
        let through = stage.behind.telemetry(&order.run(), direct.len()).await;
        let differences = direct.differences(&through);
        if !differences.is_empty() {
            let first = differences.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n  ");
            wrong.push(format!("{}, directly, and through the gate: {} differences\n  {first}", order.run(), differences.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(stage.behind.complaints(), Vec::<String>::new());
}

/// A comparison of little would prove little.
fn assert_has_everything(order: &Order, telemetry: &Telemetry) {
    let run = order.run();
    for (kind, least) in [("span", 54), ("sum", 7), ("gauge", 3), ("histogram", 2), ("exponentialHistogram", 1), ("log", 11)] {
        assert!(telemetry.count(kind) >= least, "{run}: {} of {kind}", telemetry.count(kind));
    }
}

#[test]
fn the_short_form_has_every_sdk_with_all_that_it_speaks_and_every_pair() {
    let orders = orders();
    let pairs: BTreeSet<_> = orders.iter().map(|order| (order.client, order.protocol, order.gzip)).collect();
    assert_eq!(pairs.len(), Client::ALL.iter().map(|client| client.protocols().len() * 2).sum::<usize>());
    let protocols: BTreeSet<_> = orders.iter().map(|order| (order.protocol, order.gzip, order.delta)).collect();
    assert_eq!(protocols.len(), 12);
    let clients: BTreeSet<_> = orders.iter().map(|order| (order.client, order.delta)).collect();
    assert_eq!(clients.len(), 8);
}
