//! Metadata: which topics there are, and that all of them are here.
//!
//! What a client is told is the same on every instance and at any time, as far as its topics are: our own address and node id
//! alone, one cluster id, no racks, no epochs, no topic ids. A topic id that changes fails the topic for good in franz-go; a
//! leader epoch that goes back is discarded by Java and librdkafka. Nothing is created by asking for it.

use bytes::Bytes;

use super::answer::Answer;
use super::api::Request;
use super::body::{Body, Read};
use super::cluster::{CLUSTER_OPERATIONS, NODE, NOT_ASKED, Whereabouts};
use super::reply;
use crate::ingest::TopicState;

/// What may be done with a granted topic, as bits of Kafka's operations: write and describe.
const TOPIC_OPERATIONS: i32 = 1 << 4 | 1 << 8;

const NO_ID: [u8; 16] = [0; 16];

/// What is asked.
#[derive(Debug, Default)]
pub struct Question {
    /// The topics by name, each once; none: all of them.
    pub names: Option<Vec<String>>,
    /// The topics by id.
    ids: Vec<[u8; 16]>,
    cluster_operations: bool,
    topic_operations: bool,
}

/// Reads the question.
pub fn read(request: Request, mut body: Body) -> Read<Question> {
    let version = request.version;
    let asked = body.nullable_list(|body| {
        let id = if version >= 10 { body.uuid()? } else { NO_ID };
        let name = if version >= 10 { body.nullable_text()? } else { Some(body.text()?) };
        body.tags()?;
        Ok((id, name))
    })?;
    if version >= 4 {
        body.bool()?;
    }
    let cluster_operations = (8..=10).contains(&version) && body.bool()?;
    let topic_operations = version >= 8 && body.bool()?;
    body.end()?;
    let mut question = Question { cluster_operations, topic_operations, ..Question::default() };
    // In version 0 there is no null: none named means all.
    if let Some(asked) = asked.filter(|asked| version > 0 || !asked.is_empty()) {
        let mut names = Vec::new();
        for (id, name) in asked {
            match name {
                Some(name) => names.push(name),
                None => question.ids.push(id),
            }
        }
        names.sort_unstable();
        names.dedup();
        question.names = Some(names);
    }
    Ok(question)
}

/// The answer.
pub fn answer(request: Request, question: &Question, topics: &[(String, TopicState)], here: &Whereabouts) -> Bytes {
    let version = request.version;
    let mut answer = request.answer();
    if version >= 3 {
        answer.i32(0);
    }
    answer.count(1);
    here.write(&mut answer);
    if version >= 1 {
        answer.nullable_text(None);
    }
    answer.tags();
    if version >= 2 {
        answer.text(&here.cluster);
    }
    if version >= 1 {
        answer.i32(NODE);
    }
    answer.count(topics.len() + question.ids.len());
    for (name, state) in topics {
        let (code, partitions) = match *state {
            TopicState::Partitions(partitions) => (reply::NONE, partitions),
            TopicState::Denied => (reply::TOPIC_AUTHORIZATION_FAILED, 0),
            // Known again when the broker is: all clients ask once more.
            TopicState::Unsure => (reply::LEADER_NOT_AVAILABLE, 0),
        };
        let operations = if question.topic_operations && code == reply::NONE { TOPIC_OPERATIONS } else { NOT_ASKED };
        topic(&mut answer, version, code, (Some(name), &NO_ID), partitions, operations);
    }
    for id in &question.ids {
        let name = (version < 12).then_some("");
        topic(&mut answer, version, reply::UNKNOWN_TOPIC_ID, (name, id), 0, NOT_ASKED);
    }
    if (8..=10).contains(&version) {
        answer.i32(if question.cluster_operations { CLUSTER_OPERATIONS } else { NOT_ASKED });
    }
    answer.finish()
}

fn topic(answer: &mut Answer, version: i16, code: i16, (name, id): (Option<&str>, &[u8; 16]), partitions: i32, operations: i32) {
    answer.i16(code);
    answer.nullable_text(name);
    if version >= 10 {
        answer.uuid(id);
    }
    if version >= 1 {
        answer.bool(false);
    }
    answer.count(usize::try_from(partitions).unwrap_or(0));
    for index in 0..partitions {
        partition(answer, version, index);
    }
    if version >= 8 {
        answer.i32(operations);
    }
    answer.tags();
}

/// A partition that we lead, alone.
fn partition(answer: &mut Answer, version: i16, index: i32) {
    answer.i16(reply::NONE);
    answer.i32(index);
    answer.i32(NODE);
    if version >= 7 {
        answer.i32(-1);
    }
    for _replicas_then_in_sync in 0..2 {
        answer.count(1);
        answer.i32(NODE);
    }
    if version >= 5 {
        answer.count(0);
    }
    answer.tags();
}
