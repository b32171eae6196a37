//! The raw leg: record batches go to the leaders of their partitions over connections of our own, byte for byte.
//!
//! What always holds: every batch that is sent has exactly one [`Answer`]; [`Answer::NotSent`] is said only when not one byte
//! of its request was written; a broker's own words are handed on as they are ([`Answer::Answered`]).

use crate::event::Topic;
use crate::records::RecordBatch;

/// What became of a batch that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker's own words.
    Answered {
        /// Kafka's error code; 0: appended.
        code: i16,
        /// The offset of the first record.
        base_offset: i64,
        /// The broker's time, where the topic has it; else -1.
        log_append_time_ms: i64,
        /// The first offset that the partition still has; -1: unknown.
        log_start_offset: i64,
    },
    /// It was not written to any connection.
    NotSent(&'static str),
    /// It was, at least in part, and no answer came: nobody knows.
    Unknown(&'static str),
}

/// The connections to the brokers, and what is known of who leads which partition.
#[derive(Debug)]
pub struct Upstream {}

/// A batch on its way. Dropped, the batch may still arrive.
#[derive(Debug)]
pub struct Ticket(tokio::sync::oneshot::Receiver<Answer>);

impl Upstream {
    /// Connections by these settings; none is opened before it is needed.
    pub fn new(config: &super::Config) -> Result<std::sync::Arc<Self>, (&'static str, String)> {
        let _ = config;
        Ok(std::sync::Arc::new(Self {}))
    }

    /// Sends a batch to the leader of its partition. Batches of one partition are written in the order of these calls as long
    /// as one connection holds; who needs more than that waits for one answer before the next call.
    pub fn send(&self, topic: &Topic, partition: i32, batch: RecordBatch) -> Ticket {
        let _ = (topic, partition, batch);
        let (told, ticket) = tokio::sync::oneshot::channel();
        let _ = told.send(Answer::NotSent("no broker"));
        Ticket(ticket)
    }
}

impl Ticket {
    /// Waits for the answer. May be awaited again after a timeout around it (`&mut`).
    pub async fn answer(&mut self) -> Answer {
        (&mut self.0).await.unwrap_or(Answer::Unknown("ended"))
    }
}
