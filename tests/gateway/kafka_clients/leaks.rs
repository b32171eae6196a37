//! What a client is told names the gate, and nobody behind it.

use crate::support::cluster::{Cluster, FailOver, SIZE};
use crate::support::kafka_clients::{Client, Login, Order};
use crate::support::kafka_read::Reader;
use crate::support::probe::Probe;
use crate::support::security::USER;
use kafka_protocol::messages::ApiKey;

use super::stage::{Stage, Wish, password};
use super::{ABSENT_TOPIC, DENIED_TOPIC, TOPIC};

/// Scenario: every client comes through a probe that keeps all that it is told: with good and bad credentials, to granted,
/// denied and absent topics, while a broker is down, too.
/// Guarantees: in all of it there is no `localhost`, which is what the brokers call themselves, and none of their ports,
/// neither in a decoded answer nor as text; every answer can be decoded.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_that_a_client_is_told_names_a_broker() {
    let wish = Wish { probe: true, fail_over: FailOver::Quick, ..Wish::default() };
    let Some(mut stage) = Stage::gate_only(wish, "brokers name themselves").await else { return };
    for round in 0..2 {
        for client in Client::ALL {
            let wrong = Login::Password("SCRAM-SHA-256", USER.to_owned(), "not the password".to_owned());
            let good = || password("SCRAM-SHA-256");
            for (what, login, topic) in
                [("good", good(), TOPIC), ("denied", good(), DENIED_TOPIC), ("absent", good(), ABSENT_TOPIC), ("wrong", wrong, TOPIC)]
            {
                if round == 1 && what != "good" {
                    continue;
                }
                // Whom a wrong password keeps asking for half a minute has been told everything before.
                if what == "wrong" && client == Client::KafkaPython {
                    continue;
                }
                let order = Order { count: 60, patience: 20, ..Order::new(stage.plain(login), topic, &format!("{client:?}{round}")) };
                let summary = order.by(client).await;
                assert_eq!(summary.acks.len(), if what == "good" { 60 } else { 0 }, "{client:?} {what}: {summary:?}");
            }
        }
        if round == 0 {
            stage.cluster.kill_9(SIZE - 1);
        }
    }
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
