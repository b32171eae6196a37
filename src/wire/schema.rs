//! The bodies that go over the wire here, field by field, as Kafka's own message definitions have them.
//!
//! What always holds: a field stands in the order of the wire; its name is for the reader. Where a field may be null in some
//! versions only, it stands there twice. What [`walk`](super::walk) takes by these tables, `kafka-protocol` decodes.

#[cfg(test)]
pub(super) mod tests;

use std::ops::RangeInclusive;

use Kind::{Blob, Fixed, List, MaybeBlob, MaybeList, MaybeText, Struct, Text};

/// A request or an answer: which versions of it are known here, and its body.
pub(super) struct Api {
    pub key: i16,
    pub versions: RangeInclusive<i16>,
    /// From this version on lengths are compact, and every structure ends with tagged fields.
    pub flexible: i16,
    pub body: &'static [Field],
}

/// One field of a structure.
pub(super) struct Field {
    /// Its first and last version.
    first: i16,
    last: i16,
    /// The number of a tagged field.
    pub tag: Option<u32>,
    pub kind: Kind,
}

/// What a field is made of.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    Text,
    MaybeText,
    Blob,
    MaybeBlob,
    List(&'static Kind),
    MaybeList(&'static Kind),
    Struct(&'static [Field]),
}

impl Field {
    pub fn is_in(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    const fn until(self, last: i16) -> Self {
        Self { last, ..self }
    }

    const fn tagged(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }
}

const fn field(_name: &str, first: i16, kind: Kind) -> Field {
    Field { first, last: i16::MAX, tag: None, kind }
}

const fn api(key: i16, versions: RangeInclusive<i16>, flexible: i16, body: &'static [Field]) -> Api {
    Api { key, versions, flexible, body }
}

const BOOL: Kind = Fixed(1);
const INT8: Kind = Fixed(1);
const INT16: Kind = Fixed(2);
const INT32: Kind = Fixed(4);
const INT64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);
/// At no version.
const NEVER: i16 = i16::MAX;

/// What the door serves.
pub(super) static REQUESTS: &[Api] = &[
    api(0, 3..=11, 9, PRODUCE_REQUEST),
    api(1, 4..=12, 12, FETCH_REQUEST),
    api(2, 1..=6, 6, LIST_OFFSETS_REQUEST),
    api(3, 0..=12, 9, METADATA_REQUEST),
    api(10, 0..=4, 3, FIND_COORDINATOR_REQUEST),
    api(17, 0..=1, NEVER, SASL_HANDSHAKE_REQUEST),
    api(18, 0..=4, 3, API_VERSIONS_REQUEST),
    api(22, 0..=4, 2, INIT_PRODUCER_ID_REQUEST),
    api(36, 0..=2, 2, SASL_AUTHENTICATE_REQUEST),
    api(60, 0..=1, 0, DESCRIBE_CLUSTER_REQUEST),
];

/// What a broker answers us.
pub(super) static RESPONSES: &[Api] = &[
    api(0, 3..=11, 9, PRODUCE_RESPONSE),
    api(3, 0..=12, 9, METADATA_RESPONSE),
    api(17, 0..=1, NEVER, SASL_HANDSHAKE_RESPONSE),
    api(18, 0..=4, 3, API_VERSIONS_RESPONSE),
    api(22, 0..=4, 2, INIT_PRODUCER_ID_RESPONSE),
    api(32, 1..=4, 4, DESCRIBE_CONFIGS_RESPONSE),
    api(36, 0..=2, 2, SASL_AUTHENTICATE_RESPONSE),
];

const PRODUCE_REQUEST: &[Field] = &[
    field("transactional_id", 3, MaybeText),
    field("acks", 0, INT16),
    field("timeout_ms", 0, INT32),
    field("topic_data", 0, List(&Struct(PRODUCE_TOPIC))),
];
const PRODUCE_TOPIC: &[Field] = &[field("name", 0, Text), field("partition_data", 0, List(&Struct(PRODUCE_PARTITION)))];
const PRODUCE_PARTITION: &[Field] = &[field("index", 0, INT32), field("records", 0, MaybeBlob)];

const PRODUCE_RESPONSE: &[Field] = &[
    field("responses", 0, List(&Struct(PRODUCED_TOPIC))),
    field("throttle_time_ms", 1, INT32),
    field("node_endpoints", 10, List(&Struct(NODE_ENDPOINT))).tagged(0),
];
const PRODUCED_TOPIC: &[Field] = &[field("name", 0, Text), field("partition_responses", 0, List(&Struct(PRODUCED_PARTITION)))];
const PRODUCED_PARTITION: &[Field] = &[
    field("index", 0, INT32),
    field("error_code", 0, INT16),
    field("base_offset", 0, INT64),
    field("log_append_time_ms", 2, INT64),
    field("log_start_offset", 5, INT64),
    field("record_errors", 8, List(&Struct(RECORD_ERROR))),
    field("error_message", 8, MaybeText),
    field("current_leader", 10, Struct(LEADER)).tagged(0),
];
const RECORD_ERROR: &[Field] = &[field("batch_index", 8, INT32), field("batch_index_error_message", 8, MaybeText)];
const LEADER: &[Field] = &[field("leader_id", 10, INT32), field("leader_epoch", 10, INT32)];
const NODE_ENDPOINT: &[Field] =
    &[field("node_id", 10, INT32), field("host", 10, Text), field("port", 10, INT32), field("rack", 10, MaybeText)];

const FETCH_REQUEST: &[Field] = &[
    field("cluster_id", 12, MaybeText).tagged(0),
    field("replica_state", 15, Struct(REPLICA_STATE)).tagged(1),
    field("replica_id", 0, INT32).until(14),
    field("max_wait_ms", 0, INT32),
    field("min_bytes", 0, INT32),
    field("max_bytes", 3, INT32),
    field("isolation_level", 4, INT8),
    field("session_id", 7, INT32),
    field("session_epoch", 7, INT32),
    field("topics", 0, List(&Struct(FETCH_TOPIC))),
    field("forgotten_topics_data", 7, List(&Struct(FORGOTTEN_TOPIC))),
    field("rack_id", 11, Text),
];
const REPLICA_STATE: &[Field] = &[field("replica_id", 15, INT32), field("replica_epoch", 15, INT64)];
const FETCH_TOPIC: &[Field] = &[field("topic", 0, Text).until(12), field("partitions", 0, List(&Struct(FETCH_PARTITION)))];
const FETCH_PARTITION: &[Field] = &[
    field("partition", 0, INT32),
    field("current_leader_epoch", 9, INT32),
    field("fetch_offset", 0, INT64),
    field("last_fetched_epoch", 12, INT32),
    field("log_start_offset", 5, INT64),
    field("partition_max_bytes", 0, INT32),
    field("replica_directory_id", 17, UUID).tagged(0),
    field("high_watermark", 18, INT64).tagged(1),
];
const FORGOTTEN_TOPIC: &[Field] = &[field("topic", 7, Text).until(12), field("partitions", 7, List(&INT32))];

const LIST_OFFSETS_REQUEST: &[Field] =
    &[field("replica_id", 0, INT32), field("isolation_level", 2, INT8), field("topics", 0, List(&Struct(LIST_OFFSETS_TOPIC)))];
const LIST_OFFSETS_TOPIC: &[Field] = &[field("name", 0, Text), field("partitions", 0, List(&Struct(LIST_OFFSETS_PARTITION)))];
const LIST_OFFSETS_PARTITION: &[Field] =
    &[field("partition_index", 0, INT32), field("current_leader_epoch", 4, INT32), field("timestamp", 0, INT64)];

const METADATA_REQUEST: &[Field] = &[
    field("topics", 0, List(&Struct(METADATA_REQUEST_TOPIC))).until(0),
    field("topics", 1, MaybeList(&Struct(METADATA_REQUEST_TOPIC))),
    field("allow_auto_topic_creation", 4, BOOL),
    field("include_cluster_authorized_operations", 8, BOOL).until(10),
    field("include_topic_authorized_operations", 8, BOOL),
];
const METADATA_REQUEST_TOPIC: &[Field] = &[field("topic_id", 10, UUID), field("name", 0, Text).until(9), field("name", 10, MaybeText)];

const METADATA_RESPONSE: &[Field] = &[
    field("throttle_time_ms", 3, INT32),
    field("brokers", 0, List(&Struct(METADATA_BROKER))),
    field("cluster_id", 2, MaybeText),
    field("controller_id", 1, INT32),
    field("topics", 0, List(&Struct(METADATA_TOPIC))),
    field("cluster_authorized_operations", 8, INT32).until(10),
];
const METADATA_BROKER: &[Field] =
    &[field("node_id", 0, INT32), field("host", 0, Text), field("port", 0, INT32), field("rack", 1, MaybeText)];
const METADATA_TOPIC: &[Field] = &[
    field("error_code", 0, INT16),
    field("name", 0, Text).until(11),
    field("name", 12, MaybeText),
    field("topic_id", 10, UUID),
    field("is_internal", 1, BOOL),
    field("partitions", 0, List(&Struct(METADATA_PARTITION))),
    field("topic_authorized_operations", 8, INT32),
];
const METADATA_PARTITION: &[Field] = &[
    field("error_code", 0, INT16),
    field("partition_index", 0, INT32),
    field("leader_id", 0, INT32),
    field("leader_epoch", 7, INT32),
    field("replica_nodes", 0, List(&INT32)),
    field("isr_nodes", 0, List(&INT32)),
    field("offline_replicas", 5, List(&INT32)),
];

const FIND_COORDINATOR_REQUEST: &[Field] =
    &[field("key", 0, Text).until(3), field("key_type", 1, INT8), field("coordinator_keys", 4, List(&Text))];

const SASL_HANDSHAKE_REQUEST: &[Field] = &[field("mechanism", 0, Text)];
const SASL_HANDSHAKE_RESPONSE: &[Field] = &[field("error_code", 0, INT16), field("mechanisms", 0, List(&Text))];

const SASL_AUTHENTICATE_REQUEST: &[Field] = &[field("auth_bytes", 0, Blob)];
const SASL_AUTHENTICATE_RESPONSE: &[Field] = &[
    field("error_code", 0, INT16),
    field("error_message", 0, MaybeText),
    field("auth_bytes", 0, Blob),
    field("session_lifetime_ms", 1, INT64),
];

const API_VERSIONS_REQUEST: &[Field] = &[field("client_software_name", 3, Text), field("client_software_version", 3, Text)];
const API_VERSIONS_RESPONSE: &[Field] = &[
    field("error_code", 0, INT16),
    field("api_keys", 0, List(&Struct(API_VERSION))),
    field("throttle_time_ms", 1, INT32),
    field("supported_features", 3, List(&Struct(FEATURE))).tagged(0),
    field("finalized_features_epoch", 3, INT64).tagged(1),
    field("finalized_features", 3, List(&Struct(FEATURE))).tagged(2),
    field("zk_migration_ready", 3, BOOL).tagged(3),
];
const API_VERSION: &[Field] = &[field("api_key", 0, INT16), field("min_version", 0, INT16), field("max_version", 0, INT16)];
/// A supported feature has its lowest version first, a finalized one its highest: the same bytes.
const FEATURE: &[Field] = &[field("name", 3, Text), field("one_end", 3, INT16), field("other_end", 3, INT16)];

const INIT_PRODUCER_ID_REQUEST: &[Field] = &[
    field("transactional_id", 0, MaybeText),
    field("transaction_timeout_ms", 0, INT32),
    field("producer_id", 3, INT64),
    field("producer_epoch", 3, INT16),
];
const INIT_PRODUCER_ID_RESPONSE: &[Field] = &[
    field("throttle_time_ms", 0, INT32),
    field("error_code", 0, INT16),
    field("producer_id", 0, INT64),
    field("producer_epoch", 0, INT16),
];

const DESCRIBE_CLUSTER_REQUEST: &[Field] = &[field("include_cluster_authorized_operations", 0, BOOL), field("endpoint_type", 1, INT8)];

const DESCRIBE_CONFIGS_RESPONSE: &[Field] = &[field("throttle_time_ms", 0, INT32), field("results", 0, List(&Struct(DESCRIBED_RESOURCE)))];
const DESCRIBED_RESOURCE: &[Field] = &[
    field("error_code", 0, INT16),
    field("error_message", 0, MaybeText),
    field("resource_type", 0, INT8),
    field("resource_name", 0, Text),
    field("configs", 0, List(&Struct(DESCRIBED_CONFIG))),
];
const DESCRIBED_CONFIG: &[Field] = &[
    field("name", 0, Text),
    field("value", 0, MaybeText),
    field("read_only", 0, BOOL),
    field("config_source", 1, INT8),
    field("is_sensitive", 0, BOOL),
    field("synonyms", 1, List(&Struct(CONFIG_SYNONYM))),
    field("config_type", 3, INT8),
    field("documentation", 3, MaybeText),
];
const CONFIG_SYNONYM: &[Field] = &[field("name", 0, Text), field("value", 0, MaybeText), field("source", 0, INT8)];
