//! The requests that we make of a broker, and what is read of its answers.
//!
//! What always holds: no decoder sees a body that [`check_response`] has not counted; the bytes of a record batch are the
//! same at every version of the envelope.

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsResponse, MetadataRequest, MetadataResponse, ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::event::Topic;
use crate::wire::check_response;

use super::Answer;
use super::cluster::{Address, Learned};
use super::fault::Fault;
use super::plan::Piece;

/// What the brokers know us by.
const CLIENT_ID: &[u8] = b"sluicegate";

/// A batch up to this is copied beside its neighbours; a larger one is written from where it lies.
const COPIED: usize = 16 * 1024;

/// An API that we call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Produce,
    Metadata,
    SaslHandshake,
    ApiVersions,
    SaslAuthenticate,
}

/// An API at the version that a broker and we both speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub api: Api,
    pub version: i16,
}

impl Api {
    pub(super) const fn key(self) -> i16 {
        match self {
            Self::Produce => 0,
            Self::Metadata => 3,
            Self::SaslHandshake => 17,
            Self::ApiVersions => 18,
            Self::SaslAuthenticate => 36,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Produce => "Produce",
            Self::Metadata => "Metadata",
            Self::SaslHandshake => "SaslHandshake",
            Self::ApiVersions => "ApiVersions",
            Self::SaslAuthenticate => "SaslAuthenticate",
        }
    }

    /// The versions that we speak. Produce never below 3: Kafka 4 lists 0 to 2 and closes the connection on them. Metadata
    /// from 4 on: earlier ones create the topics that they are asked for.
    const fn spoken(self) -> (i16, i16) {
        match self {
            Self::Produce => (3, 11),
            Self::Metadata => (4, 12),
            Self::SaslHandshake => (1, 1),
            Self::ApiVersions => (0, 0),
            Self::SaslAuthenticate => (0, 1),
        }
    }

    const fn flexible_from(self) -> i16 {
        match self {
            Self::Produce | Self::Metadata => 9,
            // At the versions spoken here none of these is.
            Self::SaslHandshake | Self::ApiVersions | Self::SaslAuthenticate => i16::MAX,
        }
    }
}

impl Call {
    const fn is_flexible(self) -> bool {
        self.version >= self.api.flexible_from()
    }

    /// A frame's beginning: room for the length, and the header.
    fn begin(self, correlation: i32) -> BytesMut {
        let mut frame = BytesMut::with_capacity(512);
        frame.put_i32(0);
        frame.put_i16(self.api.key());
        frame.put_i16(self.version);
        frame.put_i32(correlation);
        frame.put_i16(CLIENT_ID.len() as i16);
        frame.put_slice(CLIENT_ID);
        if self.is_flexible() {
            frame.put_u8(0);
        }
        frame
    }

    /// Whose answer a frame is, and the answer's body, counted.
    pub(super) fn open(self, correlation: i32, mut frame: Bytes) -> Result<Bytes, Fault> {
        if frame.len() < 4 || frame.get_i32() != correlation {
            return Err(Fault::Protocol("another request's correlation id"));
        }
        if self.is_flexible() {
            skip_tags(&mut frame)?;
        }
        check_response(self.api.key(), self.version, &frame)?;
        Ok(frame)
    }
}

/// What a broker offers of the calls that we make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offered {
    produce: Option<i16>,
    metadata: Option<i16>,
    sasl_handshake: Option<i16>,
    sasl_authenticate: Option<i16>,
}

impl Offered {
    /// The call at the highest version that both speak.
    pub(super) fn call(self, api: Api) -> Result<Call, Fault> {
        let version = match api {
            Api::Produce => self.produce,
            Api::Metadata => self.metadata,
            Api::SaslHandshake => self.sasl_handshake,
            Api::SaslAuthenticate => self.sasl_authenticate,
            Api::ApiVersions => Some(0),
        };
        version.map(|version| Call { api, version }).ok_or(Fault::Version(api.as_str()))
    }
}

/// The highest version of an API that is offered and spoken.
fn highest(api: Api, (least, most): (i16, i16)) -> Option<i16> {
    let (ours_least, ours_most) = api.spoken();
    let version = most.min(ours_most);
    (version >= least.max(ours_least)).then_some(version)
}

/// A whole frame out of its parts.
fn finish(mut first: BytesMut, rest: Vec<Bytes>) -> Vec<Bytes> {
    let length = first.len() + rest.iter().map(Bytes::len).sum::<usize>() - 4;
    // A request is bounded by the batches in it, and they by the door's frames.
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    first[..4].copy_from_slice(&length.to_be_bytes());
    std::iter::once(first.freeze()).chain(rest).collect()
}

/// The first request on every connection; version 0, which every broker answers.
pub(super) fn api_versions(correlation: i32) -> Vec<Bytes> {
    finish(Call { api: Api::ApiVersions, version: 0 }.begin(correlation), Vec::new())
}

pub(super) fn sasl_handshake(call: Call, correlation: i32, mechanism: &str) -> Vec<Bytes> {
    let mut frame = call.begin(correlation);
    put_text(&mut frame, false, mechanism);
    finish(frame, Vec::new())
}

pub(super) fn sasl_authenticate(call: Call, correlation: i32, message: &[u8]) -> Vec<Bytes> {
    let mut frame = call.begin(correlation);
    frame.put_i32(i32::try_from(message.len()).unwrap_or(i32::MAX));
    frame.put_slice(message);
    finish(frame, Vec::new())
}

/// Asks for topics by name, and creates none of them.
pub(super) fn metadata(call: Call, correlation: i32, topics: &[Topic]) -> Result<Vec<Bytes>, Fault> {
    let named = |topic: &Topic| MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(topic.to_string()))));
    let request = MetadataRequest::default().with_topics(Some(topics.iter().map(named).collect())).with_allow_auto_topic_creation(false);
    let mut frame = call.begin(correlation);
    request.encode(&mut frame, call.version).map_err(|_| Fault::Protocol("a question that cannot be written"))?;
    Ok(finish(frame, Vec::new()))
}

/// One request for all pieces, each of another partition. `timeout_ms`: how long the broker waits for its replicas.
pub(super) fn produce(call: Call, correlation: i32, pieces: &[Piece], timeout_ms: i32) -> Vec<Bytes> {
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

/// A count or length; where the version is flexible, one more than it as a varint.
fn put_count(frame: &mut BytesMut, flexible: bool, count: usize) {
    if !flexible {
        return frame.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
    }
    let mut rest = count + 1;
    while rest >= 0x80 {
        frame.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    frame.put_u8(rest as u8);
}

fn put_text(frame: &mut BytesMut, flexible: bool, text: &str) {
    if flexible {
        put_count(frame, true, text.len())
    } else {
        frame.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX))
    }
    frame.put_slice(text.as_bytes());
}

fn put_no_tags(frame: &mut BytesMut, flexible: bool) {
    if flexible {
        frame.put_u8(0);
    }
}

/// Tagged fields of a header: read over, as far as there are bytes.
fn skip_tags(frame: &mut Bytes) -> Result<(), Fault> {
    for _ in 0..varint(frame)? {
        varint(frame)?;
        let size = varint(frame)? as usize;
        if size > frame.remaining() {
            return Err(Fault::Protocol("a tag longer than its frame"));
        }
        frame.advance(size);
    }
    Ok(())
}

fn varint(frame: &mut Bytes) -> Result<u32, Fault> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        if !frame.has_remaining() {
            break;
        }
        let byte = frame.get_u8();
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::Protocol("a number that does not end"))
}

fn decode<M: Decodable>(version: i16, mut body: Bytes) -> Result<M, Fault> {
    M::decode(&mut body, version).map_err(|_| Fault::Protocol("a body that cannot be read"))
}

/// What a broker offers.
pub(super) fn offered(body: Bytes) -> Result<Offered, Fault> {
    let answer: ApiVersionsResponse = decode(0, body)?;
    if answer.error_code != 0 {
        return Err(Fault::Version("ApiVersions"));
    }
    let find = |api: Api| {
        let offer = answer.api_keys.iter().find(|offer| offer.api_key == api.key())?;
        highest(api, (offer.min_version, offer.max_version))
    };
    Ok(Offered {
        produce: find(Api::Produce),
        metadata: find(Api::Metadata),
        sasl_handshake: find(Api::SaslHandshake),
        sasl_authenticate: find(Api::SaslAuthenticate),
    })
}

/// Whether the mechanism is offered.
pub(super) fn handshaken(call: Call, body: Bytes) -> Result<(), Fault> {
    let answer: SaslHandshakeResponse = decode(call.version, body)?;
    if answer.error_code == 0 { Ok(()) } else { Err(Fault::Mechanism) }
}

/// The broker's message, and for how many milliseconds it believes us (0: for as long as the connection holds).
pub(super) fn authenticated(call: Call, body: Bytes) -> Result<(Bytes, u64), Fault> {
    let answer: SaslAuthenticateResponse = decode(call.version, body)?;
    if answer.error_code != 0 {
        return Err(Fault::Credentials(answer.error_code));
    }
    Ok((answer.auth_bytes, u64::try_from(answer.session_lifetime_ms).unwrap_or(0)))
}

/// The brokers and the leaders of the partitions that were asked for.
pub(super) fn learned(call: Call, body: Bytes) -> Result<Learned, Fault> {
    let answer: MetadataResponse = decode(call.version, body)?;
    let place = |broker: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| {
        Some((broker.node_id.0, Address::new(&broker.host, broker.port)?))
    };
    let brokers: Vec<_> = answer.brokers.iter().filter_map(place).collect();
    if brokers.is_empty() {
        return Err(Fault::Protocol("no brokers in the metadata"));
    }
    let mut topics = Vec::new();
    for listed in &answer.topics {
        let Some(topic) = listed.name.as_ref().and_then(|name| Topic::new(name).ok()) else { continue };
        // A partition that has a leader has one, whatever else is said of it.
        let led = listed.partitions.iter().filter(|partition| partition.leader_id.0 >= 0);
        topics.push((topic, led.map(|partition| (partition.partition_index, partition.leader_id.0)).collect()));
    }
    Ok(Learned { brokers, topics })
}

/// The answer of each piece, in the pieces' order, and for how many milliseconds the broker asks us to rest. An answer that
/// is not for exactly these pieces is an answer to something else.
pub(super) fn answers(call: Call, body: Bytes, pieces: &[Piece]) -> Result<(Vec<Answer>, u64), Fault> {
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

#[cfg(test)]
mod tests;
