//! Real Kafka clients, unmodified, at a real cluster of three brokers.

use super::support::cluster::Cluster;
use super::support::kafka_clients::{Address, Client, Login, Order, Verdict};
use super::support::security::{PASSWORD, USER};

#[tokio::test(flavor = "multi_thread")]
async fn every_client_delivers_every_record_once_and_in_order() {
    let cluster = Cluster::start().await;
    cluster.create_topic("events", 6, &[]).await;
    for client in Client::ALL {
        let login = Login::Password("SCRAM-SHA-256", USER.to_owned(), PASSWORD.to_owned());
        let address = Address { bootstrap: cluster.secure_brokers(), ca: Some(cluster.ca().to_owned()), login };
        let order = Order::new(address, "events", &format!("{client:?}"));
        let summary = order.by(client).await;
        let verdict = order.verdict(&cluster.consume_all("events").await, &summary);
        assert_eq!((verdict, summary.acks.len()), (Verdict::default(), 1_000), "{summary:?}");
    }
}
