//! The line of answers of one connection: they leave strictly in the order of their requests.
//!
//! What always holds: an answer is written when all before it are; what it stands for (bytes in flight, the claim to room) is
//! given back after that; a client that does not take its answers is waited for a bounded time. What is dropped unanswered is
//! not begun any more by the trunk: its client has gone, and will send it again.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until, timeout};

use super::reply::HOLD;
use super::room::Claim;
use crate::ingest::RecordsOutcomes;
use crate::limits::inflight::InFlight;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::Door;

/// Answers that are there are written together, up to so many bytes.
const TOGETHER: usize = 32 << 10;

/// A place in the line.
pub struct Slot {
    /// When its request had arrived.
    pub arrived: Instant,
    /// Its answer does not leave before.
    pub due: Instant,
    /// Where its answer comes from.
    pub what: What,
    /// Its bytes in flight, unless they went to the trunk.
    pub guard: Option<InFlight>,
    /// Its claim to room.
    pub claim: Option<Claim>,
}

/// Where an answer comes from.
pub enum What {
    /// It is there.
    Ready(Bytes),
    /// It will be told by the trunk.
    Later(Pin<Box<dyn Future<Output = Told> + Send>>),
}

/// What was waited for.
#[derive(Debug)]
pub struct Told {
    /// The answer.
    pub answer: Bytes,
    /// Whether it says "not stored, try again", and is held for a while.
    pub hold: bool,
    /// The outcomes, with the bytes in flight; held until the answer is written.
    pub outcomes: Option<RecordsOutcomes>,
}

/// An answer whose turn has come.
struct Due {
    answer: Bytes,
    arrived: Instant,
    /// Given back when it is written.
    _held: (Option<InFlight>, Option<Claim>, Option<RecordsOutcomes>),
}

impl Slot {
    /// Waits until it may leave.
    async fn due(self) -> Due {
        let Self { arrived, mut due, what, guard, claim } = self;
        let told = match what {
            What::Ready(answer) => Told { answer, hold: false, outcomes: None },
            What::Later(told) => told.await,
        };
        if told.hold {
            due = due.max(arrived + HOLD);
            metrics().kafka_answers_held.inc();
        }
        if due > Instant::now() {
            sleep_until(due).await;
        }
        Due { answer: told.answer, arrived, _held: (guard, claim, told.outcomes) }
    }
}

/// Writes the answers as their turns come, until the line ends or the client is gone. It gives `patience` to the client for
/// what is written at once.
pub async fn write<W: AsyncWrite + Unpin>(output: &mut W, line: &mut Receiver<Box<Slot>>, patience: Duration) -> io::Result<()> {
    let mut together = Together::default();
    while let Some(slot) = line.recv().await {
        let mut due = Box::pin(slot.due());
        let now = tokio::select! {
            biased;
            due = &mut due => Some(due),
            () = std::future::ready(()) => None,
        };
        let due = match now {
            Some(due) => due,
            None => {
                // What is ready does not wait for what is not.
                together.flush(output, patience).await?;
                due.await
            }
        };
        together.add(due);
        if line.is_empty() || together.bytes.len() >= TOGETHER {
            together.flush(output, patience).await?;
        }
    }
    Ok(())
}

/// Answers that are written at once.
#[derive(Default)]
struct Together {
    bytes: BytesMut,
    dues: Vec<Due>,
}

impl Together {
    fn add(&mut self, due: Due) {
        self.bytes.extend_from_slice(&due.answer);
        self.dues.push(due);
    }

    async fn flush<W: AsyncWrite + Unpin>(&mut self, output: &mut W, patience: Duration) -> io::Result<()> {
        let Self { bytes, dues } = std::mem::take(self);
        if !bytes.is_empty() {
            let written = async {
                output.write_all(&bytes).await?;
                output.flush().await
            };
            timeout(patience, written).await??;
        }
        for due in &dues {
            metrics().request_seconds.at(Door::Kafka).observe(due.arrived.elapsed().as_secs_f64());
        }
        Ok(())
    }
}
