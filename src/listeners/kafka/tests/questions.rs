//! What clients are told of a cluster that is not there, in every version that they are told of.

use kafka_protocol::messages::api_versions_request::ApiVersionsRequest;
use kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::{BrokerId, TopicName};

use super::*;
use crate::listeners::kafka::api::APIS;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(text(name))))
}

fn advertising() -> Gate {
    Gate::new(Config { advertised_host: "gate.example".to_owned(), advertised_port: 9_093, ..Config::default() })
}

#[tokio::test(start_paused = true)]
async fn k5_every_version_of_api_versions_lists_the_table_and_an_unknown_one_is_answered_in_the_oldest() {
    let gate = Gate::new(Config::default());
    let table: Vec<_> = APIS.iter().map(|api| (api.key, api.first, api.last)).collect();
    let mut client = gate.connect();
    for version in 0..=4 {
        let request = ApiVersionsRequest::default().with_client_software_name(text("x")).with_client_software_version(text("1"));
        let response = client.ask(version, &request).await;
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect::<Vec<_>>(), table);
    }
    for version in [5, 127, -1] {
        // What it says of itself is in a form that nobody here knows.
        let bytes = client.head(18, version, if version > 0 { 2 } else { 1 }, b"?");
        client.write(&bytes).await;
        let response = client.hear::<ApiVersionsRequest>(0).await;
        assert_eq!((response.error_code, response.api_keys.len()), (35, table.len()), "{version}");
    }
    let mut client = gate.enter().await;
    assert_eq!(client.ask(4, &ApiVersionsRequest::default()).await.error_code, 0, "also after authentication");
}

#[tokio::test(start_paused = true)]
async fn k5_k8_an_unknown_api_or_version_closes_the_connection() {
    let gate = Gate::new(Config::default());
    for (key, version) in [(3, 13), (0, 12), (0, 13), (1, 3), (22, 5), (17, 2), (19, 0), (24, 0), (11, 0), (29, 0), (999, 0), (-1, 0)] {
        let mut client = gate.enter().await;
        let bytes = client.head(key, version, 1, &[0; 16]);
        client.write(&bytes).await;
        assert!(client.is_closed().await, "{key} {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_in_every_version_is_one_broker_that_leads_what_is_granted() {
    let gate = advertising();
    let mut client = gate.enter().await;
    for version in 0..=12 {
        let topics = vec![named("no.such"), named(TOPIC), named("others"), named(TOPIC), named("a b")];
        let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(true);
        let response = client.ask(version, &request).await;
        let broker = &response.brokers[0];
        assert_eq!((response.brokers.len(), broker.node_id, &*broker.host, broker.port), (1, BrokerId(1), "gate.example", 9_093));
        assert_eq!(broker.rack, None);
        assert!(version < 2 || response.cluster_id.as_deref() == Some("sluicegate"));
        assert!(version < 1 || response.controller_id == BrokerId(1));
        let told: Vec<_> =
            response.topics.iter().map(|topic| (topic.name.as_ref().map_or("", |name| name.0.as_str()), topic.error_code)).collect();
        assert_eq!(told, [("a b", 29), ("no.such", 29), (TOPIC, 0), ("others", 29)], "each once; no grant is as no topic");
        for topic in &response.topics {
            assert!(topic.topic_id.is_nil() && !topic.is_internal);
            assert_eq!(topic.partitions.is_empty(), topic.error_code != 0);
            for (index, partition) in topic.partitions.iter().enumerate() {
                let us = vec![BrokerId(1)];
                assert_eq!((partition.error_code, partition.partition_index), (0, index as i32));
                assert_eq!((partition.leader_id, partition.leader_epoch), (BrokerId(1), -1));
                assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&us, &us));
                assert!(partition.offline_replicas.is_empty());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn k7_all_topics_are_the_granted_ones_and_none_are_none() {
    let gate = advertising();
    let mut client = gate.enter().await;
    for version in 0..=12 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let response = client.ask(version, &MetadataRequest::default().with_topics(all)).await;
        let names: Vec<_> = response.topics.iter().filter_map(|topic| topic.name.as_ref().map(|name| name.0.as_str())).collect();
        assert_eq!(names, [TOPIC], "{version}");
        if version > 0 {
            let none = client.ask(version, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
            assert_eq!((none.topics.len(), none.brokers.len()), (0, 1), "{version}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn topics_have_no_ids_here_and_what_may_be_done_is_told_when_asked() {
    let gate = advertising();
    let mut client = gate.enter().await;
    for version in 10..=12 {
        let id = "07070707-0707-0707-0707-070707070707".parse().expect("an id");
        let topics = vec![MetadataRequestTopic::default().with_topic_id(id).with_name(None)];
        let response = client.ask(version, &MetadataRequest::default().with_topics(Some(topics))).await;
        assert_eq!((response.topics[0].error_code, response.topics[0].topic_id), (100, id));
    }
    let request = MetadataRequest::default().with_topics(Some(vec![named(TOPIC)]));
    let asking = request.clone().with_include_topic_authorized_operations(true).with_include_cluster_authorized_operations(true);
    for version in 8..=10 {
        assert_eq!(client.ask(version, &request).await.topics[0].topic_authorized_operations, i32::MIN);
        let told = client.ask(version, &asking).await;
        assert_eq!((told.topics[0].topic_authorized_operations, told.cluster_authorized_operations), (0x110, 0x1100));
    }
}

#[tokio::test(start_paused = true)]
async fn the_advertised_address_is_where_the_client_came_to_unless_another_is_configured() {
    let gate = Gate::new(Config::default());
    let response = gate.enter().await.ask(12, &MetadataRequest::default()).await;
    assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("127.0.0.1", 9_092));
}

#[tokio::test(start_paused = true)]
async fn every_coordinator_and_the_whole_cluster_is_this_gate() {
    let gate = advertising();
    let mut client = gate.enter().await;
    for version in 0..=3 {
        let response = client.ask(version, &FindCoordinatorRequest::default().with_key(text("group"))).await;
        assert_eq!((response.error_code, response.node_id, &*response.host, response.port), (0, BrokerId(1), "gate.example", 9_093));
    }
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]);
    let response = client.ask(4, &request).await;
    let told: Vec<_> = response.coordinators.iter().map(|one| (&*one.key, one.error_code, one.node_id, one.port)).collect();
    assert_eq!(told, [("a", 0, BrokerId(1), 9_093), ("b", 0, BrokerId(1), 9_093)]);
    for version in 0..=1 {
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let response = client.ask(version, &request).await;
        assert_eq!((response.error_code, &*response.cluster_id, response.controller_id), (0, "sluicegate", BrokerId(1)));
        assert_eq!((response.brokers.len(), &*response.brokers[0].host), (1, "gate.example"));
        assert_eq!(response.cluster_authorized_operations, 0x1100);
    }
    let controllers = client.ask(1, &DescribeClusterRequest::default().with_endpoint_type(2)).await;
    assert_eq!(controllers.error_code, 114);
}

#[tokio::test(start_paused = true)]
async fn a_producer_gets_an_id_and_its_next_epoch_and_a_transaction_is_refused() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    for version in 0..=4 {
        let plain = InitProducerIdRequest::default().with_transactional_id(None);
        let response = client.ask(version, &plain).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0), "{version}");
        assert!(response.producer_id.0 > 0);
        let transactional = plain.clone().with_transactional_id(Some(text("tx").into()));
        let refused = client.ask(version, &transactional).await;
        assert_eq!((refused.error_code, refused.producer_id.0), (53, -1));
        if version >= 3 {
            let again = plain.clone().with_producer_id(response.producer_id);
            let next = client.ask(version, &again.clone().with_producer_epoch(4)).await;
            assert_eq!((next.producer_id, next.producer_epoch), (response.producer_id, 5));
            let used_up = client.ask(version, &again.with_producer_epoch(i16::MAX)).await;
            assert_eq!((used_up.producer_id == response.producer_id, used_up.producer_epoch), (false, 0));
            let foreign = plain.with_producer_id(7.into()).with_producer_epoch(3);
            assert_eq!(client.ask(version, &foreign).await.producer_epoch, 0, "k12: another's id is not gone on with");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_told_for_each_partition_that_it_may_not() {
    let gate = Gate::new(Config::default());
    let mut client = gate.enter().await;
    for version in 4..=12 {
        let partitions = vec![FetchPartition::default().with_partition(0), FetchPartition::default().with_partition(3)];
        let topic = FetchTopic::default().with_topic(TopicName(text(TOPIC))).with_partitions(partitions);
        let mut request = FetchRequest::default().with_topics(vec![topic]);
        if version >= 7 {
            let forgotten = ForgottenTopic::default().with_topic(TopicName(text("others"))).with_partitions(vec![1]);
            request = request.with_forgotten_topics_data(vec![forgotten]);
        }
        let response = client.ask(version, &request).await;
        assert_eq!((response.error_code, response.session_id), (0, 0));
        let told: Vec<_> = response.responses[0].partitions.iter().map(|one| (one.partition_index, one.error_code)).collect();
        assert_eq!(told, [(0, 29), (3, 29)], "{version}");
    }
    for version in 1..=6 {
        let partition = ListOffsetsPartition::default().with_partition_index(2).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(TopicName(text(TOPIC))).with_partitions(vec![partition]);
        let response = client.ask(version, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
        let told = &response.topics[0].partitions[0];
        assert_eq!((told.partition_index, told.error_code, told.offset), (2, 29, -1), "{version}");
    }
}
