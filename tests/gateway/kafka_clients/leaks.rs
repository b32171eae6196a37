//! What a client is told names the gate, and nobody behind it.

use futures_util::StreamExt;
use futures_util::stream;
use kafka_protocol::messages::ApiKey;

use crate::support::cluster::{Cluster, FailOver, SIZE};
use crate::support::kafka_clients::{Client, Login, Order};
use crate::support::kafka_read::Reader;
use crate::support::probe::Probe;
use crate::support::security::USER;

use super::stage::{Stage, Wish, password};
use super::{ABSENT_TOPIC, AT_ONCE, DENIED_TOPIC, TOPIC};

/// Everybody's orders: good ones alone, or also such as are refused.
fn orders(stage: &Stage, with_refused: bool) -> Vec<(Client, Order)> {
    let wrong = || Login::Password("SCRAM-SHA-256", USER.to_owned(), "not the password".to_owned());
    let good = || password("SCRAM-SHA-256");
    let mut orders = Vec::new();
    for client in Client::ALL {
        let mut asks = vec![(good(), TOPIC)];
        if with_refused {
            asks.extend([(good(), DENIED_TOPIC), (good(), ABSENT_TOPIC)]);
        }
        // Whom a wrong password keeps asking for half a minute has been told everything before.
        if with_refused && client != Client::KafkaPython {
            asks.push((wrong(), TOPIC));
        }
        let order = |(login, topic)| Order { count: 60, patience: 20, ..Order::new(stage.plain(login), topic, &format!("{client:?}")) };
        orders.extend(asks.into_iter().map(|ask| (client, order(ask))));
    }
    orders
}

async fn acknowledged(orders: Vec<(Client, Order)>) -> usize {
    let done = stream::iter(orders).map(async |(client, order)| order.by(client).await.acks.len()).buffer_unordered(AT_ONCE);
    done.fold(0, async |sum, count| sum + count).await
}

/// Scenario: every client comes through a probe that keeps all that it is told: with good and bad credentials, to granted,
/// denied and absent topics; then once more while a broker is down.
/// Guarantees: in all of it there is no `localhost`, which is what the brokers call themselves, and none of their ports,
/// neither in a decoded answer nor as text; every answer can be decoded.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_that_a_client_is_told_names_a_broker() {
    let wish = Wish { probe: true, fail_over: FailOver::Quick, ..Wish::default() };
    let Some(mut stage) = Stage::gate_only(wish, "brokers name themselves").await else { return };
    assert_eq!(acknowledged(orders(&stage, true)).await, 60 * Client::ALL.len());
    stage.cluster.kill_9(SIZE - 1);
    assert_eq!(acknowledged(orders(&stage, false)).await, 60 * Client::ALL.len());
    let probe = stage.probe.as_ref().expect("it was wished for");
    for kind in [ApiKey::ApiVersions, ApiKey::SaslAuthenticate, ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Produce] {
        assert!(probe.answers(kind) > 0, "{kind:?} was not even asked for");
    }
    assert_eq!(probe.leaks(&stage.cluster.ports()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_finds_what_a_broker_says_of_itself() {
    let cluster = Cluster::start(FailOver::Calm).await;
    let probe = Probe::start(cluster.ports()[0]).await;
    Reader::of(format!("127.0.0.1:{}", probe.port()), 1).topics().await;
    let leaks = probe.leaks(&cluster.ports());
    assert!(leaks.iter().any(|leak| leak.contains("names localhost")), "{leaks:?}");
    assert!(!leaks.iter().any(|leak| leak.contains("cannot be read")), "{leaks:?}");
    assert!(probe.answers(ApiKey::Metadata) > 0);
}
