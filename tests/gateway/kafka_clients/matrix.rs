//! Every client, by every mechanism and with every compression that it has: what is acknowledged is there once, in order.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream;

use crate::support::full;
use crate::support::kafka_clients::{Address, Client, Login, Order, Summary};
use crate::support::verdict::Verdict;

use super::stage::{Stage, Wish};
use super::{AT_ONCE, TOPIC};

const MECHANISMS: [&str; 4] = ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"];

/// The client's own default, on, and off.
const IDEMPOTENCE: [Option<bool>; 3] = [None, Some(true), Some(false)];

/// One run of one client.
type Run = (Client, &'static str, &'static str, Option<bool>);

/// Every client with each of its compressions and by each mechanism; over all clients every pair of the two. All of it if
/// the long form was asked for.
fn runs() -> Vec<Run> {
    let mut runs = Vec::new();
    for (place, client) in Client::ALL.into_iter().enumerate() {
        let compressions = client.compressions();
        if full() {
            let all = MECHANISMS.iter().flat_map(|mechanism| compressions.iter().map(move |compression| (*mechanism, *compression)));
            runs.extend(all.flat_map(|(m, c)| IDEMPOTENCE.iter().map(move |idempotent| (client, m, c, *idempotent))));
            continue;
        }
        for step in 0..compressions.len().max(MECHANISMS.len()) {
            let (mechanism, compression) = (MECHANISMS[(step + place) % 4], compressions[step % compressions.len()]);
            runs.push((client, mechanism, compression, IDEMPOTENCE[(step + place) % 3]));
        }
    }
    runs
}

/// Has the orders done, some at a time, and says what came of each.
async fn all(orders: Vec<(Client, Order)>) -> Vec<(Client, Order, Summary)> {
    let each = orders.into_iter().map(|(client, order)| async move {
        let summary = order.by(client).await;
        (client, order, summary)
    });
    stream::iter(each).buffer_unordered(AT_ONCE).collect().await
}

/// Nothing failed, and every record is in the topic once, at the offset that was said, in order, to the last byte.
async fn assert_whole(stage: &Stage, done: &[(Client, Order, Summary)]) {
    stage.replayed().await;
    let found = stage.cluster.consume_all(TOPIC).await;
    for (client, order, summary) in done {
        let run = &order.run;
        eprintln!("{run}: {} {} took {:.1} s", summary.client, summary.version, summary.seconds);
        assert_eq!(summary.errors, [], "{run}");
        assert_eq!(summary.acks.len(), order.count, "{run}: {client:?}");
        assert_eq!(order.verdict(&found, summary), Verdict::default(), "{run}");
    }
    let count: usize = done.iter().map(|(_, order, _)| order.count).sum();
    assert_eq!(found.len(), count, "nothing that nobody has sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_by_every_mechanism_and_compression_delivers_every_record_once_and_in_order() {
    let stage = Stage::new(Wish::default()).await;
    let mut orders = Vec::new();
    for (client, mechanism, compression, idempotent) in runs() {
        let run = format!("{client:?}/{mechanism}/{compression}/{idempotent:?}");
        let address = stage.secure(stage.login(mechanism).await);
        orders.push((client, Order { compression, idempotent, ..Order::new(address, TOPIC, &run) }));
    }
    let done = all(orders).await;
    assert_whole(&stage, &done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_delivers_to_brokers_as_narrow_as_redpanda() {
    let wish = Wish { narrow: true, ..Wish::default() };
    let stage = Stage::new(wish).await;
    let mut orders = Vec::new();
    for client in Client::ALL {
        let mut address = stage.secure(stage.login("SCRAM-SHA-256").await);
        if stage.gate.is_none() {
            address = Address { bootstrap: stage.cluster.narrow_brokers(), ca: None, login: Login::Nobody };
        }
        orders.push((client, Order { compression: "gzip", ..Order::new(address, TOPIC, &format!("{client:?}")) }));
    }
    let done = all(orders).await;
    assert_whole(&stage, &done).await;
    assert_eq!(stage.cluster.too_wide(), Vec::<String>::new(), "nobody asks for what was not offered");
}

#[test]
fn the_short_form_has_every_client_with_all_that_it_has_and_every_pair() {
    let runs = runs();
    for client in Client::ALL {
        let own: Vec<_> = runs.iter().filter(|run| run.0 == client).collect();
        let compressions: BTreeSet<_> = own.iter().map(|run| run.2).collect();
        let mechanisms: BTreeSet<_> = own.iter().map(|run| run.1).collect();
        assert_eq!((compressions.len(), mechanisms.len()), (client.compressions().len(), MECHANISMS.len()), "{client:?}");
    }
    let pairs: BTreeSet<_> = runs.iter().map(|run| (run.1, run.2)).collect();
    assert_eq!(pairs.len(), MECHANISMS.len() * 5);
}
