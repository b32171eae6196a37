//! One window on its way: sent, waited for, deleted where it was acknowledged, counted where it was refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::row::{Content, Place, Row};
use crate::event::Topic;
use crate::gate::TopicPartition;
use crate::route::{Routed, RoutedRecords};
use crate::sink::flight::Flight;
use crate::sink::report::{Never, Report};
use crate::sink::verdict::Verdict;
use crate::telemetry::metrics;

use super::turn::Term;
use super::{Replay, Round};

/// So many batches are sent one behind the other before those that have landed are deleted.
const DELETE_EVERY: usize = 64;

/// Rows of one kind.
enum Run {
    Events(Vec<Arc<Routed>>),
    Records(Vec<Arc<RoutedRecords>>),
}

impl Replay {
    /// Sends the rows at the head of these that are ready and of one kind.
    pub(super) async fn send(&self, lane: &TopicPartition, rows: Vec<Row>, term: &mut Term) -> Round {
        // They may have come so late that another gate has the lane, and has sent them.
        if !self.inbox.claim(lane).await {
            return Round::Quiet;
        }
        // A row that was refused goes alone: the batch it travelled in may have been what did not fit.
        let alone = rows.first().is_some_and(|row| row.attempts > 0);
        let most = if alone { 1 } else { rows.len() };
        let ready = rows.into_iter().take(most).take_while(|row| self.is_ready(row) && (alone || row.attempts == 0));
        let (run, rows) = run_of(ready);
        match run {
            _ if rows.is_empty() => Round::Quiet,
            Run::Events(events) => {
                let Some(flight) = self.sink.resend(&events, lane.1) else { return Round::Quiet };
                self.land(lane, &flight, &rows, term).await
            }
            Run::Records(batches) => self.resend(lane, &batches, &rows, term).await,
        }
    }

    /// Sends batches one behind the other, as long as the lane is ours, and deletes those that have landed.
    async fn resend(&self, lane: &TopicPartition, batches: &[Arc<RoutedRecords>], rows: &[Row], term: &mut Term) -> Round {
        let Some(raw) = self.sink.raw() else { return Round::Quiet };
        let (mut landed, mut moved) = (Vec::new(), false);
        for (records, row) in batches.iter().zip(rows) {
            if !self.inbox.holds(lane) {
                break;
            }
            let verdict = tokio::select! {
                verdict = raw.replay(records) => verdict,
                () = term.ended() => break,
            };
            match verdict {
                Verdict::Landed(_) => landed.push(row.place.clone()),
                Verdict::Permanent(never) => {
                    self.not_delivered(row, Some(Report::Permanent(never))).await;
                    break;
                }
                Verdict::NotStored(_) | Verdict::Unknown(_) | Verdict::Strip(_) | Verdict::Predecessor => break,
            }
            if landed.len() >= DELETE_EVERY {
                moved |= self.delete(std::mem::take(&mut landed)).await;
            }
        }
        moved |= self.delete(landed).await;
        if moved { Round::Moved } else { Round::Rest }
    }

    /// Deletes what has landed; false when there was nothing, or it could not be promised.
    async fn delete(&self, landed: Vec<Place>) -> bool {
        let some = !landed.is_empty();
        self.count(landed.len());
        some && self.inbox.remove(landed).await
    }

    fn count(&self, delivered: usize) {
        self.replayed.fetch_add(delivered as u64, Ordering::Relaxed);
        metrics().inbox_replayed.inc_by(delivered as u64);
    }

    /// Waits for the reports, deletes what was acknowledged, counts what was refused.
    async fn land(&self, lane: &TopicPartition, flight: &Arc<Flight>, rows: &[Row], term: &mut Term) -> Round {
        let limit = self.sink.config().message_timeout.get() + Duration::from_secs(5);
        tokio::select! {
            () = flight.all_reported() => {}
            () = tokio::time::sleep(limit) => {
                tracing::warn!(topic = %lane.0, partition = lane.1, "the producer does not report replayed records; they are sent again");
            }
            () = term.ended() => {}
        }
        let mut delivered = Vec::new();
        let mut clean = true;
        for (slot, row) in rows.iter().enumerate() {
            match flight.reported(slot) {
                Some(Report::Delivered { .. }) => delivered.push(row.place.clone()),
                report => {
                    clean = false;
                    self.not_delivered(row, report).await;
                }
            }
        }
        let moved = !delivered.is_empty();
        self.count(delivered.len());
        if moved && !self.inbox.remove(delivered).await {
            return Round::Rest;
        }
        if clean && moved { Round::Moved } else { Round::Rest }
    }

    /// A fault of the broker or the way to it is nobody's attempt; a refusal of the record is one.
    async fn not_delivered(&self, row: &Row, report: Option<Report>) {
        let reason = match report {
            Some(Report::Permanent(Never::TooLarge)) => "too_large",
            Some(Report::Permanent(Never::Invalid(reason))) => reason,
            Some(Report::Permanent(Never::NoTopic)) => return self.strand(&row.place.lane.0),
            _ => return,
        };
        let last = row.attempts + 1 >= self.inbox.config().max_attempts;
        if last {
            tracing::error!(topic = %row.place.lane.0, name = %row.place.name, reason, "the broker will not take a row of the inbox: it is set aside");
        }
        self.inbox.refused(row, last.then_some(reason)).await;
    }

    /// Once for each topic: acknowledged events wait for a person.
    pub(super) fn strand(&self, topic: &Topic) {
        if self.sink.gates().strand(topic) {
            tracing::error!(%topic, "acknowledged events wait in the inbox for a topic that the broker does not have, or does not let us write to");
        }
    }

    pub(super) fn float(&self, topic: &Topic) {
        if self.sink.gates().float(topic) {
            tracing::info!(%topic, "the topic takes the inbox's events again");
        }
    }
}

/// The rows at the head that are of the first one's kind, as far as they can be read.
fn run_of(rows: impl Iterator<Item = Row>) -> (Run, Vec<Row>) {
    let (mut events, mut batches, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match &row.content {
            Some(Content::Event(routed)) if batches.is_empty() => events.push(Arc::clone(routed)),
            Some(Content::Records(records)) if events.is_empty() => batches.push(Arc::clone(records)),
            // Another kind, or a row that its turn as the first will set aside.
            Some(_) | None => break,
        }
        taken.push(row);
    }
    (if batches.is_empty() { Run::Events(events) } else { Run::Records(batches) }, taken)
}
