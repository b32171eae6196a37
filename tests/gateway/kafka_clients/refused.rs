//! What is refused is refused in words that each client understands, and in bounded time.
//!
//! What always holds: the error is the one that the client's own documentation has for the fault, or, where it has none,
//! the one that it gives at Apache Kafka itself; nothing of a refused order is in a topic.

use futures_util::StreamExt;
use futures_util::stream;

use crate::support::kafka_clients::{Client, Login, Order, Summary};
use crate::support::security::{PASSWORD, USER};
use crate::support::verdict::Verdict;

use super::stage::{SLOW_RATE, SLOW_USER, Stage, Wish, password, unsigned};
use super::{ABSENT_TOPIC, DENIED_TOPIC, TOPIC, Target};

/// How long a client that is refused may go on trying by its own defaults, and how long it may take with its start.
const PATIENCE: u32 = 40;
const BOUND: f64 = 45.0;

/// Most of these clients only wait.
const AT_ONCE: usize = 6;

/// What is wrong with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The password, by SCRAM.
    Password,
    /// The password, by PLAIN.
    PlainPassword,
    /// The token: nobody has signed it, and it is over.
    Token,
    /// There is no grant for the topic.
    Grant,
    /// There is no such topic.
    Topic,
    /// The values: 2 MiB, where the topic takes 1.
    Size,
}

impl Wrong {
    fn order(self, stage: &Stage, client: Client) -> Order {
        let wrong = |mechanism| Login::Password(mechanism, USER.to_owned(), "not the password".to_owned());
        let login = match self {
            Self::Password => wrong("SCRAM-SHA-512"),
            Self::PlainPassword => wrong("PLAIN"),
            Self::Token => Login::Token(unsigned(&serde_json::json!({"sub": USER, "exp": 1_700_000_000}))),
            _ => password("SCRAM-SHA-256"),
        };
        let topic = match self {
            Self::Grant => DENIED_TOPIC,
            Self::Topic => ABSENT_TOPIC,
            _ => TOPIC,
        };
        let more_bytes = if self == Self::Size { 2 << 20 } else { 0 };
        let order = Order::new(stage.secure(login), topic, &format!("{client:?}-{self:?}"));
        Order { count: 6, patience: PATIENCE, more_bytes, ..order }
    }

    /// The classes and codes that may come of it.
    fn words(self, client: Client, target: Target) -> &'static [(&'static str, &'static str)] {
        match (self, client) {
            (Self::Password | Self::PlainPassword, Client::Kafkajs) => &[("KafkaJSSASLAuthenticationError", "")],
            (Self::Password | Self::PlainPassword | Self::Token, Client::Confluent) => &[("KafkaError", "_AUTHENTICATION")],
            // It says why only in its log.
            (Self::Password | Self::PlainPassword, Client::Aiokafka) => &[("KafkaConnectionError", "")],
            // It takes an authority's no for one broker's, and asks on until its bootstrap's own timeout.
            (Self::Password | Self::PlainPassword | Self::Token, Client::KafkaPython) => &[("KafkaTimeoutError", "")],
            (Self::Password | Self::PlainPassword | Self::Token, Client::Java3 | Client::Java4) => &[("SaslAuthenticationException", "")],
            // These two take the challenge of a refused token for a success, and learn at their next request that it was none.
            (Self::Token, Client::Kafkajs) if target == Target::Direct => &[("KafkaJSNonRetriableError", "ILLEGAL_SASL_STATE")],
            (Self::Token, Client::Kafkajs) => &[("KafkaJSNumberOfRetriesExceeded", "KafkaJSConnectionClosedError")],
            (Self::Token, Client::Aiokafka) if target == Target::Direct => &[("TimeoutError", "None")],
            (Self::Token, Client::Aiokafka) => &[("KafkaConnectionError", "")],
            (Self::Grant | Self::Topic, Client::Kafkajs) => &[("KafkaJSNonRetriableError", "TOPIC_AUTHORIZATION_FAILED")],
            (Self::Grant | Self::Topic, Client::Confluent) => &[("KafkaError", "TOPIC_AUTHORIZATION_FAILED")],
            (Self::Grant | Self::Topic, Client::Aiokafka | Client::KafkaPython) => &[("TopicAuthorizationFailedError", "29")],
            (Self::Grant | Self::Topic, Client::Java3 | Client::Java4) => &[("TopicAuthorizationException", "")],
            (Self::Size, Client::Kafkajs) => &[("KafkaJSProtocolError", "MESSAGE_TOO_LARGE")],
            (Self::Size, Client::Confluent) => &[("KafkaError", "MSG_SIZE_TOO_LARGE")],
            (Self::Size, Client::Aiokafka | Client::KafkaPython) => &[("MessageSizeTooLargeError", "10")],
            (Self::Size, Client::Java3 | Client::Java4) => &[("RecordTooLargeException", "")],
        }
    }
}

/// No acknowledgement, and errors of the one kind alone, in bounded time.
fn fault_of(wrong: Wrong, client: Client, summary: &Summary) -> Option<String> {
    let words = wrong.words(client, Target::chosen());
    let known = |class: &str, code: &str| words.contains(&(class, code));
    let right = !summary.errors.is_empty() && summary.errors.iter().all(|fault| known(&fault.class, &fault.code));
    let good = right && summary.acks.is_empty() && summary.seconds < BOUND;
    (!good).then(|| format!("{client:?} {wrong:?}: expected {words:?}: {summary:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_refused_in_each_clients_own_words_and_in_bounded_time() {
    let stage = Stage::new(Wish::default()).await;
    let mut wrongs = vec![Wrong::Password, Wrong::PlainPassword, Wrong::Token, Wrong::Grant, Wrong::Size];
    match Target::chosen() {
        Target::Direct => stage.cluster.deny(DENIED_TOPIC).await,
        // A topic that is not there and one that is not granted are the same at the gate. (At Kafka clients ask on and on.)
        Target::Gate => wrongs.push(Wrong::Topic),
    }
    let cases = wrongs.into_iter().flat_map(|wrong| Client::ALL.into_iter().map(move |client| (wrong, client)));
    let asked = cases.map(|(wrong, client)| {
        let order = wrong.order(&stage, client);
        async move {
            let summary = order.by(client).await;
            eprintln!("{client:?} {wrong:?}: {:.1} s, {:?}", summary.seconds, summary.errors);
            fault_of(wrong, client, &summary)
        }
    });
    let faults: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(|fault| async { fault }).collect().await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for topic in [TOPIC, DENIED_TOPIC] {
        assert_eq!(stage.cluster.consume_all(topic).await, [], "{topic}");
    }
}

/// Scenario: a user with a small quota sends four times what it lets through at once, by one client after the other.
/// Guarantees: no client sees an error, nothing is lost, twice or out of order; whoever sends on and on is slowed down to the
/// quota. (Whoever sends all in one request is answered at once, and owes it.)
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_over_the_quota_is_slowed_down_and_sees_no_error() {
    let Some(stage) = Stage::gate_only(Wish::default(), "brokers have no tiers of ours").await else { return };
    let asked = Client::ALL.into_iter().map(|client| {
        let login = Login::Password("SCRAM-SHA-256", SLOW_USER.to_owned(), PASSWORD.to_owned());
        let order = Order { count: 4 * SLOW_RATE, ..Order::new(stage.secure(login), TOPIC, &format!("{client:?}")) };
        async move { (client, order.by(client).await, order) }
    });
    // One after the other: they are one principal, and share the quota.
    let done: Vec<_> = stream::iter(asked).buffered(1).collect().await;
    let found = stage.cluster.consume_all(TOPIC).await;
    for (client, summary, order) in &done {
        assert_eq!((summary.errors.as_slice(), summary.acks.len()), (&[][..], order.count), "{client:?}");
        assert_eq!(order.verdict(&found, summary), Verdict::default(), "{client:?}");
    }
    eprintln!("throttled: {:?}", done.iter().map(|(client, summary, _)| (client, summary.seconds)).collect::<Vec<_>>());
    let (_, kafkajs, order) = done.iter().find(|(client, ..)| *client == Client::Kafkajs).expect("it is one of them");
    // It sends 60 at a time, and the next when it has the answer. What the last request owes nobody waits for.
    let waited_for = u32::try_from(order.count - SLOW_RATE - 60).expect("small");
    let least = f64::from(waited_for) / f64::from(u32::try_from(SLOW_RATE).expect("small"));
    assert!(kafkajs.seconds >= least * 0.9, "{} s, where the quota is worth {least}", kafkajs.seconds);
}
