//! Produce: a producer's batches, taken in by one call of the trunk and answered when it has told the outcomes.
//!
//! What always holds: every partition of a request has exactly one place in its answer, in the request's own order; what is
//! bad is answered alone, the rest is admitted at once; a request that contradicts itself is refused as a whole, before
//! anything of it is admitted. The records stay slices of the frame. acks 0, 1 and all are all admitted as all.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::api::Request;
use super::body::{Body, Read};
use super::replies::Told;
use super::reply::{self, No};
use crate::event::Topic;
use crate::ingest::{Admitted, RecordsPart};
use crate::receipt::{Landed, Refusal};
use crate::records::{Compression, RecordBatch};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{Door, Outcome};

/// Below it, a client knows nothing of zstd.
const ZSTD_FROM: i16 = 7;

/// Below it, a client does not heed `throttle_time_ms`: its answer waits instead.
const HEEDS_THROTTLE_FROM: i16 = 6;

/// Clients that wait longer for an answer believe it lost.
const MAX_KEPT_BACK: Duration = Duration::from_secs(3);

/// A request, read.
#[derive(Debug)]
pub struct Produce {
    transactional: bool,
    acks: i16,
    topics: Vec<Asked>,
}

/// A topic, and what is sent to its partitions.
#[derive(Debug)]
struct Asked {
    name: String,
    partitions: Vec<(i32, Option<Bytes>)>,
}

/// A request, judged: what goes to the trunk, and the places of everything in the answer.
#[derive(Debug)]
pub struct Judged {
    /// What goes to the trunk; may be nothing.
    pub parts: Vec<RecordsPart>,
    /// Whether an answer is expected.
    pub answered: bool,
    topics: Vec<Placed>,
}

/// A topic's places.
#[derive(Debug)]
struct Placed {
    name: String,
    partitions: Vec<(i32, Place)>,
}

/// Where the answer for a partition comes from.
#[derive(Debug)]
enum Place {
    /// From the door.
    Refused(No),
    /// From the trunk: the next of its outcomes.
    Admitted,
}

/// A request whose batches are on their way.
#[derive(Debug)]
pub struct Waiting {
    request: Request,
    topics: Vec<Placed>,
    admitted: Option<Admitted>,
    owed: Duration,
}

/// Reads a request. Also the versions that are not served, which differ in one field.
pub fn read(request: Request, mut body: Body) -> Read<Produce> {
    let transactional = request.version >= 3 && body.nullable_text()?.is_some();
    let acks = body.i16()?;
    body.i32()?;
    let topics = body.list(|body| {
        let name = body.text()?;
        let partitions = body.list(|body| {
            let partition = (body.i32()?, body.nullable_bytes()?);
            body.tags()?;
            Ok(partition)
        })?;
        body.tags()?;
        Ok(Asked { name, partitions })
    })?;
    body.end()?;
    Ok(Produce { transactional, acks, topics })
}

impl Produce {
    /// Sorts out what can be admitted.
    pub fn judge(self, request: Request) -> Judged {
        let whole = self.fault(request);
        let answered = self.acks != 0;
        let mut parts = Vec::new();
        let mut place = |name: &str, topic: Option<&Topic>, index: i32, records: Option<Bytes>| {
            let judged = match (&whole, topic) {
                (Some(no), _) => Err(no.clone()),
                (None, None) => Err(No::denied(name)),
                (None, Some(_)) if index < 0 => Err(No::denied(name)),
                (None, Some(topic)) => batch(request, records).map(|batch| RecordsPart { topic: topic.clone(), partition: index, batch }),
            };
            match judged {
                Ok(part) => {
                    parts.push(part);
                    Place::Admitted
                }
                Err(no) => {
                    count(&no);
                    Place::Refused(no)
                }
            }
        };
        let mut topics = Vec::with_capacity(self.topics.len());
        for Asked { name, partitions } in self.topics {
            let topic = Topic::new(&name).ok();
            let partitions = partitions.into_iter().map(|(index, records)| (index, place(&name, topic.as_ref(), index, records))).collect();
            topics.push(Placed { name, partitions });
        }
        Judged { parts, answered, topics }
    }

    /// What is wrong with the request as a whole.
    fn fault(&self, request: Request) -> Option<No> {
        if request.version < request.api.served {
            return Some(No::new(reply::UNSUPPORTED_VERSION, "this version is not served; use Produce 3 or later"));
        }
        if self.transactional {
            return Some(No::new(reply::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactions are not served here"));
        }
        if !(-1..=1).contains(&self.acks) {
            return Some(No::new(reply::INVALID_REQUIRED_ACKS, "acks is -1, 0 or 1"));
        }
        let mut seen = HashSet::new();
        let all = self.topics.iter().flat_map(|topic| topic.partitions.iter().map(|(index, _)| (topic.name.as_str(), *index)));
        for partition in all {
            if !seen.insert(partition) {
                // A broker keeps the last of them and says yes to all.
                return Some(No::new(reply::INVALID_REQUEST, "a partition is named twice in one request; nothing of it was stored"));
            }
        }
        None
    }
}

/// The one batch of a partition.
fn batch(request: Request, records: Option<Bytes>) -> Result<RecordBatch, No> {
    let records = records.filter(|records| !records.is_empty());
    let Some(records) = records else { return Err(No::new(reply::INVALID_RECORD, "there are no records for this partition")) };
    let batch = RecordBatch::parse(records)?;
    if batch.compression() == Compression::Zstd && request.version < ZSTD_FROM {
        return Err(No::new(reply::UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce 7 or later"));
    }
    Ok(batch)
}

/// What does not reach the trunk is counted here: a batch as one, because its records were not believed.
fn count(no: &No) {
    let outcome = match no.code {
        reply::TOPIC_AUTHORIZATION_FAILED | reply::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Outcome::Denied,
        _ => Outcome::Malformed,
    };
    metrics().events.at((Door::Kafka, outcome)).inc();
}

impl Judged {
    /// What waits for the outcomes of what was admitted.
    pub fn waiting(self, request: Request, admitted: Option<Admitted>) -> Waiting {
        let owed = admitted.as_ref().map_or(Duration::ZERO, |admitted| admitted.owed);
        Waiting { request, topics: self.topics, admitted, owed }
    }
}

impl Waiting {
    /// How long the answer is kept back because its client does not heed what it says; the rest is sat out unread.
    pub fn kept_back(&self) -> Duration {
        if self.request.version < HEEDS_THROTTLE_FROM { self.owed.min(MAX_KEPT_BACK) } else { Duration::ZERO }
    }

    /// Waits for the outcomes, and writes the answer.
    pub async fn told(self) -> Told {
        let Self { request, topics, admitted, owed } = self;
        let outcomes = match admitted {
            Some(admitted) => Some(admitted.outcomes().await),
            None => None,
        };
        let results = outcomes.as_ref().map_or(&[][..], |outcomes| &outcomes.results);
        let (answer, hold) = write(request, &topics, results, owed);
        Told { answer, hold, outcomes }
    }
}

/// The answer, and whether anything in it says "not stored, try again".
fn write(request: Request, topics: &[Placed], results: &[Result<Landed, Refusal>], owed: Duration) -> (Bytes, bool) {
    let version = request.version;
    let mut results = results.iter();
    let mut hold = false;
    let mut answer = request.answer();
    answer.count(topics.len());
    for topic in topics {
        answer.text(&topic.name);
        answer.count(topic.partitions.len());
        for (index, place) in &topic.partitions {
            let outcome = match place {
                Place::Refused(no) => Err(no.clone()),
                // One without an outcome would be dropped in silence: nobody knows what became of it.
                Place::Admitted => results.next().unwrap_or(&Err(Refusal::Internal)).as_ref().map_err(No::from),
            };
            hold |= outcome.as_ref().is_err_and(|no| no.code == reply::NOT_ENOUGH_REPLICAS);
            answer.i32(*index);
            partition(&mut answer, version, outcome);
            answer.tags();
        }
        answer.tags();
    }
    if version >= 1 {
        answer.i32(i32::try_from(owed.as_millis()).unwrap_or(i32::MAX));
    }
    (answer.finish(), hold)
}

fn partition(answer: &mut super::answer::Answer, version: i16, outcome: Result<&Landed, No>) {
    let (offset, time, start) = match outcome {
        Ok(Landed::Broker { base_offset, log_append_time_ms, log_start_offset }) => (*base_offset, *log_append_time_ms, *log_start_offset),
        // It has no offset yet, and every client takes that.
        Ok(Landed::Inbox) | Err(_) => (-1, -1, -1),
    };
    let no = outcome.err();
    answer.i16(no.as_ref().map_or(reply::NONE, |no| no.code));
    answer.i64(offset);
    if version >= 2 {
        answer.i64(time);
    }
    if version >= 5 {
        answer.i64(start);
    }
    if version >= 8 {
        answer.count(0);
        answer.message(no.as_ref().map(|no| no.message.as_str()));
    }
}

#[cfg(test)]
mod tests;
