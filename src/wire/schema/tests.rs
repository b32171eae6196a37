//! One well-filled message of each version that is known here, made by `kafka-protocol`'s encoders.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

/// A body as it goes over the wire.
pub struct Message {
    pub is_request: bool,
    pub key: i16,
    pub version: i16,
    pub body: Bytes,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_request { "request" } else { "response" };
        write!(f, "{kind} {:?} v{}", ApiKey::try_from(self.key).unwrap(), self.version)
    }
}

/// All of them, full ones and empty ones.
pub fn all() -> Vec<Message> {
    requests().into_iter().chain(responses()).collect()
}

type Make<K> = fn(i16) -> K;

fn requests() -> Vec<Message> {
    let makers: [(i16, RangeInclusive<i16>, Make<RequestKind>); 13] = [
        (0, 3..=11, produce_request),
        (0, 3..=11, |_| RequestKind::Produce(ProduceRequest::default())),
        (1, 4..=12, fetch_request),
        (2, 1..=6, list_offsets_request),
        (3, 0..=12, metadata_request),
        (3, 1..=12, |_| RequestKind::Metadata(MetadataRequest::default().with_topics(None))),
        (10, 0..=4, find_coordinator_request),
        (17, 0..=1, |_| RequestKind::SaslHandshake(SaslHandshakeRequest::default().with_mechanism(text("PLAIN")))),
        (18, 0..=4, api_versions_request),
        (22, 0..=4, init_producer_id_request),
        (22, 0..=4, |_| RequestKind::InitProducerId(InitProducerIdRequest::default())),
        (36, 0..=2, |_| RequestKind::SaslAuthenticate(SaslAuthenticateRequest::default().with_auth_bytes(blob()))),
        (60, 0..=1, |_| RequestKind::DescribeCluster(DescribeClusterRequest::default())),
    ];
    let encode = |(key, versions, make): (i16, RangeInclusive<i16>, Make<RequestKind>)| {
        versions.map(move |version| {
            let mut body = BytesMut::new();
            make(version).encode(&mut body, version).unwrap();
            Message { is_request: true, key, version, body: body.freeze() }
        })
    };
    makers.into_iter().flat_map(encode).collect()
}

fn responses() -> Vec<Message> {
    let makers: [(i16, RangeInclusive<i16>, Make<ResponseKind>); 9] = [
        (0, 3..=11, produce_response),
        (3, 0..=12, metadata_response),
        (17, 0..=1, |_| {
            ResponseKind::SaslHandshake(SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN"), text("SCRAM-SHA-256")]))
        }),
        (18, 0..=4, api_versions_response),
        (18, 0..=4, |_| ResponseKind::ApiVersions(ApiVersionsResponse::default().with_error_code(35))),
        (22, 0..=4, |_| ResponseKind::InitProducerId(InitProducerIdResponse::default().with_producer_id(ProducerId(5)))),
        (32, 1..=4, describe_configs_response),
        (36, 0..=2, sasl_authenticate_response),
        (36, 0..=2, |_| ResponseKind::SaslAuthenticate(SaslAuthenticateResponse::default().with_error_message(None))),
    ];
    let encode = |(key, versions, make): (i16, RangeInclusive<i16>, Make<ResponseKind>)| {
        versions.map(move |version| {
            let mut body = BytesMut::new();
            make(version).encode(&mut body, version).unwrap();
            Message { is_request: false, key, version, body: body.freeze() }
        })
    };
    makers.into_iter().flat_map(encode).collect()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn blob() -> Bytes {
    Bytes::from_static(&[0, 1, 0xff, 3])
}

fn topic(name: &'static str) -> TopicName {
    TopicName(text(name))
}

/// A value that a version has, or else the default: the encoders refuse others.
fn since<T: Default>(first: i16, version: i16, value: T) -> T {
    if version >= first { value } else { T::default() }
}

fn produce_request(_: i16) -> RequestKind {
    let partition = |index, records| PartitionProduceData::default().with_index(index).with_records(records);
    let topics = ["orders", "payments"].map(|name| {
        let partitions = vec![partition(0, Some(blob())), partition(1, None), partition(2, Some(Bytes::new()))];
        TopicProduceData::default().with_name(topic(name)).with_partition_data(partitions)
    });
    let transaction = Some(TransactionalId(text("transaction")));
    RequestKind::Produce(ProduceRequest::default().with_transactional_id(transaction).with_acks(-1).with_topic_data(topics.to_vec()))
}

fn fetch_request(version: i16) -> RequestKind {
    let mut partition = FetchPartition::default().with_partition(1).with_fetch_offset(9).with_partition_max_bytes(100);
    if version >= 9 {
        partition = partition.with_current_leader_epoch(4);
    }
    let topics = vec![FetchTopic::default().with_topic(topic("t")).with_partitions(vec![partition.clone(), partition])];
    let forgotten = ForgottenTopic::default().with_topic(topic("gone")).with_partitions(vec![1, 2, 3]);
    let request = FetchRequest::default()
        .with_topics(topics)
        .with_forgotten_topics_data(since(7, version, vec![forgotten]))
        .with_rack_id(since(11, version, text("rack")))
        .with_cluster_id(since(12, version, Some(text("cluster"))));
    RequestKind::Fetch(request)
}

fn list_offsets_request(_: i16) -> RequestKind {
    let partition = ListOffsetsPartition::default().with_partition_index(1).with_timestamp(-1);
    let topics = vec![ListOffsetsTopic::default().with_name(topic("t")).with_partitions(vec![partition.clone(), partition])];
    RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(topics))
}

fn metadata_request(version: i16) -> RequestKind {
    let mut topics: Vec<_> = ["a", "bc"].map(|name| MetadataRequestTopic::default().with_name(Some(topic(name)))).into();
    if version >= 10 {
        topics.push(MetadataRequestTopic::default().with_name(None));
    }
    RequestKind::Metadata(MetadataRequest::default().with_topics(Some(topics)))
}

fn find_coordinator_request(version: i16) -> RequestKind {
    let request = FindCoordinatorRequest::default();
    let request = if version < 4 { request.with_key(text("group")) } else { request.with_coordinator_keys(vec![text("a"), text("b")]) };
    RequestKind::FindCoordinator(request)
}

fn api_versions_request(version: i16) -> RequestKind {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(since(3, version, text("client")))
        .with_client_software_version(since(3, version, text("1.0")));
    RequestKind::ApiVersions(with_unknown_tags(request, version >= 3, |request, tags| request.with_unknown_tagged_fields(tags)))
}

fn init_producer_id_request(_: i16) -> RequestKind {
    RequestKind::InitProducerId(InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("t")))))
}

type Tags = std::collections::BTreeMap<i32, Bytes>;

fn with_unknown_tags<T>(message: T, flexible: bool, with: impl Fn(T, Tags) -> T) -> T {
    let tags = [(100, blob()), (200, Bytes::new())].into_iter().collect();
    if flexible { with(message, tags) } else { message }
}

fn produce_response(version: i16) -> ResponseKind {
    let error = BatchIndexAndErrorMessage::default().with_batch_index(3).with_batch_index_error_message(Some(text("bad")));
    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(2)).with_leader_epoch(5);
    let partition = PartitionProduceResponse::default()
        .with_index(1)
        .with_base_offset(100)
        .with_record_errors(since(8, version, vec![error]))
        .with_error_message(since(8, version, Some(text("message"))))
        .with_current_leader(since(10, version, leader));
    let topics = vec![TopicProduceResponse::default().with_name(topic("t")).with_partition_responses(vec![partition.clone(), partition])];
    let node = NodeEndpoint::default().with_node_id(BrokerId(2)).with_host(text("host")).with_port(9092).with_rack(Some(text("r")));
    let response = ProduceResponse::default().with_responses(topics).with_node_endpoints(since(10, version, vec![node]));
    ResponseKind::Produce(with_unknown_tags(response, version >= 9, |response, tags| response.with_unknown_tagged_fields(tags)))
}

fn metadata_response(version: i16) -> ResponseKind {
    let ids = || vec![BrokerId(1), BrokerId(2), BrokerId(3)];
    let partition = MetadataResponsePartition::default()
        .with_partition_index(1)
        .with_replica_nodes(ids())
        .with_isr_nodes(ids())
        .with_offline_replicas(since(5, version, ids()));
    let named = MetadataResponseTopic::default().with_name(Some(topic("t"))).with_partitions(vec![partition.clone(), partition]);
    let mut topics = vec![named];
    if version >= 12 {
        topics.push(MetadataResponseTopic::default().with_name(None));
    }
    let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(text("host")).with_port(9092).with_rack(since(
        1,
        version,
        Some(text("rack")),
    ));
    let response = MetadataResponse::default()
        .with_brokers(vec![broker.clone(), broker.with_rack(None)])
        .with_cluster_id(since(2, version, Some(text("cluster"))))
        .with_topics(topics);
    ResponseKind::Metadata(response)
}

fn api_versions_response(version: i16) -> ResponseKind {
    let keys = (0..3).map(|key| ApiVersion::default().with_api_key(key).with_max_version(9)).collect();
    let supported = SupportedFeatureKey::default().with_name(text("feature")).with_max_version(1);
    let finalized = FinalizedFeatureKey::default().with_name(text("feature")).with_max_version_level(1);
    let mut response = ApiVersionsResponse::default()
        .with_api_keys(keys)
        .with_supported_features(since(3, version, vec![supported]))
        .with_finalized_features(since(3, version, vec![finalized]));
    if version >= 3 {
        response = response.with_finalized_features_epoch(8).with_zk_migration_ready(true);
    }
    ResponseKind::ApiVersions(response)
}

fn describe_configs_response(version: i16) -> ResponseKind {
    let synonym = DescribeConfigsSynonym::default().with_name(text("log.x")).with_value(Some(text("1"))).with_source(5);
    let config = DescribeConfigsResourceResult::default()
        .with_name(text("max.message.bytes"))
        .with_value(Some(text("1048588")))
        .with_synonyms(vec![synonym])
        .with_documentation(if version >= 3 { Some(text("words")) } else { Some(StrBytes::default()) });
    let secret = config.clone().with_value(None);
    let result = DescribeConfigsResult::default()
        .with_error_message(Some(text("message")))
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![config, secret]);
    ResponseKind::DescribeConfigs(DescribeConfigsResponse::default().with_results(vec![result.clone(), result]))
}

fn sasl_authenticate_response(version: i16) -> ResponseKind {
    let response = SaslAuthenticateResponse::default().with_error_message(Some(text("no"))).with_auth_bytes(blob());
    ResponseKind::SaslAuthenticate(response.with_session_lifetime_ms(since(1, version, 5000)))
}
