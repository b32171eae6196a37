//! One of three brokers is killed and comes back while every client writes.
//!
//! What always holds: every writer has a topic of its own, with partitions on every broker, so that the fault meets all of
//! them; each sends at its pace and is told at the end what it must find.

use futures_util::future::join_all;

use crate::support::cluster::FailOver;
use crate::support::kafka_clients::{Client, Order, Summary};
use crate::support::verdict::Verdict;

use super::stage::{Stage, Wish};
use super::{PARTITIONS, Target};

/// Over how many seconds the records are spread.
const SECONDS: u32 = 12;

/// How long what is left may take when the last record was handed over. Generous: the machine may be busy.
const PATIENCE: u32 = 100;

/// One client as it is told to be, and what it is to send.
pub struct Writer {
    client: Client,
    order: Order,
}

impl Writer {
    /// Whether it numbers what it sends, so that nothing of it is there twice.
    fn is_idempotent(&self) -> bool {
        self.order.idempotent.unwrap_or(self.client.idempotent_by_default())
    }

    /// Everything was acknowledged and is there, to the last byte; in order, and once where that is promised.
    /// (Offsets are not looked at: those of what went through the inbox mean nothing.)
    fn assert_kept(&self, verdict: &Verdict, summary: &Summary) {
        let run = &self.order.run;
        assert_eq!(verdict.lost, Vec::<usize>::new(), "{run}: acknowledged and not there");
        assert_eq!(verdict.strange, 0, "{run}");
        // The brokers themselves promise the rest to idempotent writers alone, and kafkajs has a fault of its own there.
        let gate = Target::chosen() == Target::Gate;
        let promised = gate || self.is_idempotent() && self.client != Client::Kafkajs;
        if promised {
            assert_eq!(summary.errors, [], "{run}");
            assert_eq!(summary.acks.len(), self.order.count, "{run}");
            assert_eq!(verdict.late, Vec::<usize>::new(), "{run}: behind a later one");
        }
        if promised && self.is_idempotent() {
            assert_eq!(verdict.twice, Vec::<usize>::new(), "{run}: there more than once");
        }
    }
}

/// The writers, and the topics that they write to.
pub struct Writers(Vec<Writer>);

impl Writers {
    /// Makes a topic for each. They come without TLS, by a probe if there is one.
    pub async fn new(stage: &Stage, clients: &[(Client, Option<bool>)], count: usize, seconds: u32) -> Self {
        let mut writers = Vec::new();
        for (client, idempotent) in clients {
            let run = format!("{client:?}-{}", idempotent.map_or("default".to_owned(), |yes| format!("idempotent-{yes}")));
            let topic = format!("events-{run}");
            stage.create_topic(&topic, PARTITIONS).await;
            let order = Order::new(stage.plain(stage.login("SCRAM-SHA-256").await), &topic, &run);
            // At the gate any acknowledgement is worth the same; at the brokers it is what one asks for.
            let acks = (Target::chosen() == Target::Direct && !client.all_by_default()).then_some("all");
            let order = Order { count, seconds, idempotent: *idempotent, acks, patience: PATIENCE, ..order };
            writers.push(Writer { client: *client, order });
        }
        Self(writers)
    }

    /// The topics.
    pub fn topics(&self) -> Vec<String> {
        self.0.iter().map(|writer| writer.order.topic.clone()).collect()
    }

    /// All of them write, at the same time.
    pub async fn write(&self) -> Vec<Summary> {
        join_all(self.0.iter().map(|writer| writer.order.by(writer.client))).await
    }

    /// What was acknowledged to each is there as it was promised.
    pub async fn assert_kept(&self, stage: &Stage, summaries: &[Summary]) {
        stage.replayed().await;
        let mut verdicts = Vec::new();
        for (writer, summary) in self.0.iter().zip(summaries) {
            let verdict = writer.order.verdict(&stage.cluster.consume_all(&writer.order.topic).await, summary);
            let Verdict { lost, twice, late, .. } = &verdict;
            eprintln!(
                "{}: {} acknowledged ({} by the inbox) in {:.1} s, {} lost, {} twice, {} late, {:?}",
                writer.order.run,
                summary.acks.len(),
                summary.by_inbox(),
                summary.seconds,
                lost.len(),
                twice.len(),
                late.len(),
                summary.errors
            );
            verdicts.push(verdict);
        }
        for ((writer, summary), verdict) in self.0.iter().zip(summaries).zip(&verdicts) {
            writer.assert_kept(verdict, summary);
        }
    }
}

/// Scenario: every client, as it is by default and idempotent where that is another thing, writes for some ten seconds; in
/// their midst a broker is killed, and started again while they go on.
/// Guarantees: no send fails and no connection to the gate is closed; nothing acknowledged is lost; order holds in every
/// partition; what idempotent clients send is there once.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_brokers_killed_and_restarted_costs_no_client_a_record_or_a_connection() {
    let wish = Wish { probe: true, shipped: true, fail_over: FailOver::Quick, ..Wish::default() };
    let mut stage = Stage::new(wish).await;
    let clients = [
        (Client::Kafkajs, None),
        (Client::Kafkajs, Some(true)),
        (Client::Confluent, None),
        (Client::Confluent, Some(true)),
        (Client::Aiokafka, None),
        (Client::Aiokafka, Some(true)),
        (Client::KafkaPython, None),
        (Client::Java3, None),
        (Client::Java4, None),
    ];
    let count = 600;
    let writers = Writers::new(&stage, &clients, count, SECONDS).await;
    let topics = writers.topics();
    let fault = async {
        stage.cluster.holds(&topics, count / 6).await;
        let place = stage.cluster.leader(&topics[0]).await;
        stage.cluster.kill_9(place);
        stage.cluster.holds(&topics, count / 2).await;
        stage.cluster.restart(place).await;
    };
    let (summaries, ()) = tokio::join!(writers.write(), fault);
    writers.assert_kept(&stage, &summaries).await;
    stage.assert_nobody_was_hung_up_on();
}
