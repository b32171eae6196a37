//! A batch on its way through the plan, and the line in which it waits.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::event::Topic;
use crate::records::RecordBatch;
use crate::sink::forward::Answer;
use crate::sink::forward::cluster::{Key, Node};
use crate::telemetry::metrics;

/// A batch and who waits for its answer.
#[derive(Debug)]
pub(in crate::sink::forward) struct Parcel {
    pub(super) key: Key,
    batch: RecordBatch,
    pub(super) arrived: Instant,
    told: oneshot::Sender<Answer>,
}

/// A batch as a connection writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sink::forward) struct Piece {
    pub topic: Topic,
    pub partition: i32,
    pub batch: RecordBatch,
}

/// What waits for one partition.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub waiting: VecDeque<Parcel>,
    pub in_flight: bool,
    /// In whose queue it stands.
    pub queued: Option<Node>,
    /// Until when it travels alone.
    pub alone: Option<Instant>,
}

impl Parcel {
    pub(in crate::sink::forward) fn new(key: Key, batch: RecordBatch, arrived: Instant) -> (Self, oneshot::Receiver<Answer>) {
        let (told, ticket) = oneshot::channel();
        (Self { key, batch, arrived, told }, ticket)
    }

    pub(super) fn size(&self) -> usize {
        self.batch.bytes().len()
    }

    /// Batches of one producer must not overtake each other. Those of nobody in particular may all be of one.
    pub(super) fn lane(&self) -> Option<i64> {
        self.batch.producer().map(|producer| producer.id)
    }

    pub(super) fn piece(&self) -> Piece {
        Piece { topic: self.key.0.clone(), partition: self.key.1, batch: self.batch.clone() }
    }

    pub(in crate::sink::forward) fn tell(self, answer: Answer) {
        match answer {
            Answer::Answered { .. } => metrics().forward_answered.inc(),
            Answer::NotSent(_) => metrics().forward_not_sent.inc(),
            Answer::Unknown(_) => metrics().forward_unknown.inc(),
        };
        // Nobody may be waiting any more; the batch went its way all the same.
        let _ = self.told.send(answer);
    }
}
