//! The one table of what is spoken: each API with its key, its versions and what serves it.
//!
//! What clients are told ([`api_versions`](super::api_versions)) is derived from it, so that the two cannot disagree.
//!
//! What is not in it does not exist here: transactions, groups, administration, ACLs, delegation tokens. Some of what is in
//! it is there because clients infer other things from it: librdkafka drops compression unless Produce begins at 0, and infers
//! lz4 from FindCoordinator and record batches and zstd from Fetch. No version in it knows topic ids in Produce.

use super::answer::Answer;
use crate::telemetry::metrics::labels::KafkaApi;
use crate::wire::RequestHeader;

/// What serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A producer's batches.
    Produce,
    /// A consumer's question; refused, in its own form.
    Fetch,
    /// A consumer's question; refused, in its own form.
    ListOffsets,
    /// Where topics are.
    Metadata,
    /// Where groups and transactions are.
    FindCoordinator,
    /// Which mechanism is used to authenticate.
    SaslHandshake,
    /// What is spoken.
    ApiVersions,
    /// A producer id.
    InitProducerId,
    /// A message of the mechanism.
    SaslAuthenticate,
    /// Which brokers there are.
    DescribeCluster,
}

/// An API.
#[derive(Debug)]
pub struct Api {
    /// Its number on the wire.
    pub key: i16,
    /// What serves it.
    pub call: Call,
    /// Its name in metrics and logs.
    pub name: KafkaApi,
    /// The first version that clients are told.
    pub first: i16,
    /// The last version that clients are told.
    pub last: i16,
    /// The first version that is served; those before are answered with UNSUPPORTED_VERSION.
    pub served: i16,
    /// The first version with compact lengths and tagged fields.
    flexible: i16,
    /// Whether it is served before authentication.
    pub strangers: bool,
}

const NEVER: i16 = i16::MAX;

/// In the order of their keys.
pub const APIS: [Api; 10] = [
    Api { served: 3, ..api(0, Call::Produce, KafkaApi::Produce, (0, 11), 9) },
    api(1, Call::Fetch, KafkaApi::Fetch, (4, 12), 12),
    api(2, Call::ListOffsets, KafkaApi::ListOffsets, (1, 6), 6),
    api(3, Call::Metadata, KafkaApi::Metadata, (0, 12), 9),
    api(10, Call::FindCoordinator, KafkaApi::FindCoordinator, (0, 4), 3),
    Api { strangers: true, ..api(17, Call::SaslHandshake, KafkaApi::SaslHandshake, (0, 1), NEVER) },
    // Version 5 carries cluster and node ids that a virtual broker would get wrong.
    Api { strangers: true, ..api(18, Call::ApiVersions, KafkaApi::ApiVersions, (0, 4), 3) },
    api(22, Call::InitProducerId, KafkaApi::InitProducerId, (0, 4), 2),
    Api { strangers: true, ..api(36, Call::SaslAuthenticate, KafkaApi::SaslAuthenticate, (0, 2), 2) },
    api(60, Call::DescribeCluster, KafkaApi::DescribeCluster, (0, 1), 0),
];

const fn api(key: i16, call: Call, name: KafkaApi, (first, last): (i16, i16), flexible: i16) -> Api {
    Api { key, call, name, first, last, served: first, flexible, strangers: false }
}

/// The API of this key.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == key)
}

/// From which version on an API's request header has tagged fields.
pub fn flexible(key: i16) -> Option<i16> {
    find(key).map(|api| api.flexible)
}

impl Api {
    /// Whether clients are told this version.
    pub fn offers(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    /// Whether bodies of this version have compact lengths and tagged fields.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

/// A request of which everything but its body is known.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Its API.
    pub api: &'static Api,
    /// Its version, one that the API offers.
    pub version: i16,
    /// What its answer is told by.
    pub correlation: i32,
}

impl Request {
    /// What a header asks for, if it is in the table.
    pub fn of(header: &RequestHeader) -> Option<Self> {
        let api = find(header.key)?;
        Some(Self { api, version: header.version, correlation: header.correlation })
    }

    /// The beginning of its answer.
    pub fn answer(&self) -> Answer {
        let flexible = self.api.is_flexible(self.version);
        // A client that asks for versions does not know yet which header to expect: it is always the old one.
        Answer::new(self.correlation, flexible && self.api.call != Call::ApiVersions, flexible)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_agrees_with_the_protocols_own_description() {
        assert!(APIS.is_sorted_by_key(|api| api.key));
        for api in &APIS {
            let key = ApiKey::try_from(api.key).expect("a key of Kafka's");
            assert_eq!(format!("{key:?}").trim_end_matches("Key"), format!("{:?}", api.call));
            for version in api.first..=api.last {
                assert_eq!(key.request_header_version(version) == 2, api.is_flexible(version), "{key:?} {version}");
                let header = Request { api, version, correlation: 0 }.answer().finish()[8..].len() - usize::from(api.is_flexible(version));
                assert_eq!(usize::from(key.response_header_version(version) == 1), header, "{key:?} {version}");
            }
        }
    }

    #[test]
    fn the_document_has_the_table() {
        let document = include_str!("../../../docs/kafka.md");
        for api in &APIS {
            let row = format!("| {:?} | {} | {}–{} |", api.call, api.key, api.first, api.last);
            assert!(document.contains(&row), "docs/kafka.md has no row `{row}`");
        }
    }

    #[test]
    fn only_authentication_is_served_to_strangers_and_no_transaction_group_or_admin_api_exists() {
        let strangers: Vec<_> = APIS.iter().filter(|api| api.strangers).map(|api| api.call).collect();
        assert_eq!(strangers, [Call::SaslHandshake, Call::ApiVersions, Call::SaslAuthenticate]);
        for key in [8, 9, 11, 12, 14, 19, 20, 24, 25, 26, 28, 29, 30, 31, 32, 33, 38, 44, 50, 71, 75] {
            assert!(find(key).is_none(), "{key}");
        }
    }
}
