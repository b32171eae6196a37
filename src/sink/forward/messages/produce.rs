//! Produce: written by hand, so that the batches' bytes go out as they came in, and its answer.

use std::collections::HashMap;

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::ProduceResponse;

use super::{Call, decode, finish, put_count, put_no_tags, put_text};
use crate::sink::forward::Answer;
use crate::sink::forward::fault::Fault;
use crate::sink::forward::plan::Piece;

/// A batch up to this is copied beside its neighbours; a larger one is written from where it lies.
const COPIED: usize = 16 * 1024;

/// One request for all pieces, each of another partition. `timeout_ms`: how long the broker waits for its replicas.
pub(in crate::sink::forward) fn produce(call: Call, correlation: i32, pieces: &[Piece], timeout_ms: i32) -> Vec<Bytes> {
    let flexible = call.is_flexible();
    let mut sorted: Vec<&Piece> = pieces.iter().collect();
    sorted.sort_by(|one, other| one.topic.cmp(&other.topic));
    let topics: Vec<&[&Piece]> = sorted.chunk_by(|one, other| one.topic == other.topic).collect();

    let (mut first, mut rest, mut open) = (None, Vec::new(), call.begin(correlation));
    if flexible {
        open.put_u8(0)
    } else {
        open.put_i16(-1)
    } // No transactional id.
    open.put_i16(-1); // acks: all.
    open.put_i32(timeout_ms);
    put_count(&mut open, flexible, topics.len());
    for topic in topics {
        put_text(&mut open, flexible, topic[0].topic.as_str());
        put_count(&mut open, flexible, topic.len());
        for piece in topic {
            let bytes = piece.batch.bytes();
            open.put_i32(piece.partition);
            put_count(&mut open, flexible, bytes.len());
            if bytes.len() <= COPIED {
                open.put_slice(bytes);
            } else {
                let written = open.split();
                match &first {
                    None => first = Some(written),
                    Some(_) => rest.push(written.freeze()),
                }
                rest.push(bytes.clone());
            }
            put_no_tags(&mut open, flexible);
        }
        put_no_tags(&mut open, flexible);
    }
    put_no_tags(&mut open, flexible);
    match first {
        None => finish(open, rest),
        Some(first) => {
            rest.push(open.freeze());
            finish(first, rest)
        }
    }
}

/// The answer of each piece, in the pieces' order, and for how many milliseconds the broker asks us to rest. An answer that
/// is not for exactly these pieces is an answer to something else.
pub(in crate::sink::forward) fn answers(call: Call, body: Bytes, pieces: &[Piece]) -> Result<(Vec<Answer>, u64), Fault> {
    let response: ProduceResponse = decode(call.version, body)?;
    let throttle = u64::try_from(response.throttle_time_ms).unwrap_or(0);
    let mut told: HashMap<(&str, i32), Answer> = HashMap::new();
    for topic in &response.responses {
        for partition in &topic.partition_responses {
            let answer = Answer::Answered {
                code: partition.error_code,
                base_offset: partition.base_offset,
                log_append_time_ms: partition.log_append_time_ms,
                log_start_offset: partition.log_start_offset,
            };
            if told.insert((topic.name.as_str(), partition.index), answer).is_some() {
                return Err(Fault::Protocol("a partition that is answered twice"));
            }
        }
    }
    let found: Option<Vec<_>> = pieces.iter().map(|piece| told.remove(&(piece.topic.as_str(), piece.partition))).collect();
    match found {
        None => Err(Fault::Protocol("a partition without an answer")),
        Some(_) if !told.is_empty() => Err(Fault::Protocol("an answer that nobody has asked for")),
        Some(answers) => Ok((answers, throttle)),
    }
}
