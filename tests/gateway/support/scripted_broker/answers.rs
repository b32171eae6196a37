//! What the scripted broker says to each request that it knows.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeConfigsRequest, DescribeConfigsResponse, InitProducerIdResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::{Lie, Part, Shared, Verdict, framed, silence};

impl Shared {
    /// A whole answer with its frame; none: the connection is closed.
    pub(super) async fn answer(&self, node: i32, connection: usize, mut frame: Bytes) -> Option<BytesMut> {
        let (key, version) = (i16::from_be_bytes([*frame.first()?, *frame.get(1)?]), i16::from_be_bytes([*frame.get(2)?, *frame.get(3)?]));
        self.log().requests.push((key, version));
        let api = ApiKey::try_from(key).ok()?;
        let offered = self.log().offers.iter().any(|(of, least, most)| *of == key && (*least..=*most).contains(&version));
        let header = RequestHeader::decode(&mut frame, api.request_header_version(version)).ok()?;
        let correlation = header.correlation_id;
        match api {
            // The one API at which an unknown version is answered.
            ApiKey::ApiVersions if !offered => Some(encoded(api, 0, correlation, &self.api_versions(35))),
            ApiKey::ApiVersions => Some(encoded(api, version, correlation, &self.api_versions(0))),
            _ if !offered => None,
            ApiKey::Metadata => {
                let mute = self.log().mute;
                if mute {
                    silence().await
                }
                let request = MetadataRequest::decode(&mut frame, version).ok()?;
                Some(encoded(api, version, correlation, &self.metadata(&request, version)))
            }
            ApiKey::InitProducerId => {
                let id = 1_000 + i64::try_from(connection).expect("a small number");
                let answer = InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(0);
                Some(encoded(api, version, correlation, &answer))
            }
            ApiKey::DescribeConfigs => {
                let request = DescribeConfigsRequest::decode(&mut frame, version).ok()?;
                let result = |of: &kafka_protocol::messages::describe_configs_request::DescribeConfigsResource| {
                    DescribeConfigsResult::default().with_resource_type(of.resource_type).with_resource_name(of.resource_name.clone())
                };
                let answer = DescribeConfigsResponse::default().with_results(request.resources.iter().map(result).collect());
                Some(encoded(api, version, correlation, &answer))
            }
            ApiKey::Produce => self.produce(node, connection, &header, frame).await,
            _ => None,
        }
    }

    fn api_versions(&self, error: i16) -> ApiVersionsResponse {
        let offer = |(key, least, most): &(i16, i16, i16)| {
            ApiVersion::default().with_api_key(*key).with_min_version(*least).with_max_version(*most)
        };
        ApiVersionsResponse::default().with_error_code(error).with_api_keys(self.log().offers.iter().map(offer).collect())
    }

    fn metadata(&self, request: &MetadataRequest, version: i16) -> MetadataResponse {
        let broker = |(id, port): &(i32, u16)| {
            let broker = MetadataResponseBroker::default().with_node_id(BrokerId(*id)).with_port(i32::from(*port));
            broker.with_host(StrBytes::from_static_str("127.0.0.1"))
        };
        let mut names: Vec<String> = match &request.topics {
            Some(topics) if version > 0 || !topics.is_empty() => {
                topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.to_string()).collect()
            }
            _ => self.log().topics.keys().cloned().collect(),
        };
        names.sort();
        let topics = names.into_iter().map(|name| self.topic(name)).collect();
        let answer = MetadataResponse::default().with_brokers(self.places.iter().map(broker).collect()).with_topics(topics);
        let answer = answer.with_controller_id(BrokerId(if version > 0 { 1 } else { -1 }));
        if version >= 2 { answer.with_cluster_id(Some(StrBytes::from_static_str("scripted"))) } else { answer }
    }

    fn topic(&self, name: String) -> MetadataResponseTopic {
        let log = self.log();
        let known = log.topics.get(&name);
        let partition = |(index, partition): (i32, &super::Partition)| {
            let leader = Some(partition.told_leader.unwrap_or(partition.leader)).filter(|leader| *leader > 0);
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(if leader.is_some() { 0 } else { 5 })
                .with_leader_id(BrokerId(leader.unwrap_or(-1)))
                .with_replica_nodes(vec![BrokerId(1)])
                .with_isr_nodes(vec![BrokerId(1)])
        };
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(name.clone()))))
            .with_error_code(if known.is_some() { 0 } else { 3 })
            .with_partitions(known.map(|known| (0..).zip(known).map(partition).collect()).unwrap_or_default())
    }

    async fn produce(&self, node: i32, connection: usize, header: &RequestHeader, mut frame: Bytes) -> Option<BytesMut> {
        let version = header.request_api_version;
        // Versions below 3 are in the table, and have been closed on since Kafka 4.
        let request = ProduceRequest::decode(&mut frame, version).ok()?;
        let number = {
            let mut log = self.log();
            log.produces += 1;
            log.produces - 1
        };
        let (mut responses, mut end) = (Vec::new(), End::Answer);
        for topic in &request.topic_data {
            let mut partitions = Vec::new();
            for data in &topic.partition_data {
                let part = Part {
                    node,
                    connection,
                    request: number,
                    version,
                    acks: request.acks,
                    topic: topic.name.to_string(),
                    partition: data.index,
                    number: 0,
                    batch: data.records.clone().unwrap_or_default(),
                };
                let (code, base_offset) = self.settle(part, &mut end).await;
                partitions.push(
                    PartitionProduceResponse::default()
                        .with_index(data.index)
                        .with_error_code(code)
                        .with_base_offset(base_offset)
                        .with_log_append_time_ms(-1)
                        .with_log_start_offset(if version >= 5 && code == 0 { 0 } else { -1 }),
                );
            }
            responses.push(TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(partitions));
        }
        match end {
            End::Close => return None,
            End::Silence => silence().await,
            End::Answer => {}
        }
        let (lie, throttle_ms) = {
            let mut log = self.log();
            (log.lies.pop_front(), log.throttle_ms)
        };
        if lie == Some(Lie::OtherPartition) {
            responses[0].partition_responses[0].index += 1_000;
        }
        let answer = ProduceResponse::default().with_responses(responses).with_throttle_time_ms(throttle_ms);
        let frame = encoded(ApiKey::Produce, version, header.correlation_id, &answer);
        Some(lie.map_or(frame.clone(), |lie| lied(lie, frame)))
    }

    /// One part: its code and offset, and what it means for the whole answer.
    async fn settle(&self, mut part: Part, end: &mut End) -> (i16, i64) {
        let verdict = self.log().judge(&mut part);
        match verdict {
            Err(code) | Ok(Verdict::Code(code)) => (code, -1),
            Ok(Verdict::Append) => (0, self.log().append(&part)),
            Ok(Verdict::AppendWithCode(code)) => {
                self.log().append(&part);
                (code, -1)
            }
            Ok(Verdict::Silence) => end.at_least(End::Silence),
            Ok(Verdict::CloseBefore) => end.at_least(End::Close),
            Ok(Verdict::SilenceAfterAppend) => {
                self.log().append(&part);
                end.at_least(End::Silence)
            }
            Ok(Verdict::CloseAfterAppend) => {
                self.log().append(&part);
                end.at_least(End::Close)
            }
            Ok(Verdict::Hold(hold)) => {
                hold.released().await;
                (0, self.log().append(&part))
            }
        }
    }
}

/// How a request ends, from the mildest on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answer,
    Silence,
    Close,
}

impl End {
    fn at_least(&mut self, end: Self) -> (i16, i64) {
        *self = end.max(*self);
        (-1, -1)
    }
}

fn encoded(api: ApiKey, version: i16, correlation: i32, answer: &impl Encodable) -> BytesMut {
    let mut body = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut body, api.response_header_version(version)).expect("a header");
    answer.encode(&mut body, version).expect("an answer that fits its version");
    framed(&body)
}

/// A frame that is not what it says.
fn lied(lie: Lie, mut frame: BytesMut) -> BytesMut {
    match lie {
        Lie::Correlation => frame[7] ^= 1,
        Lie::HugeFrame => frame[..4].copy_from_slice(&i32::MAX.to_be_bytes()),
        Lie::NegativeFrame => frame[..4].copy_from_slice(&(-1_i32).to_be_bytes()),
        Lie::LargeFrame => {
            frame.truncate(8);
            frame.resize(4 + (16 << 20), 0);
            frame[..4].copy_from_slice(&(16_i32 << 20).to_be_bytes());
        }
        Lie::HostileCount => frame[8..12].copy_from_slice(&0x0fff_ffff_i32.to_be_bytes()),
        Lie::Short => {
            let half = (frame.len() - 4) / 2 + 2;
            frame.truncate(4 + half);
            frame[..4].copy_from_slice(&i32::try_from(half).expect("a small answer").to_be_bytes());
        }
        Lie::OtherPartition => {}
        Lie::Twice => {
            let again = frame.clone();
            frame.put_slice(&again);
        }
    }
    frame
}
