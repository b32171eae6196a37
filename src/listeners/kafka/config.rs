//! The `[kafka]` section: what producers are told, and the bounds of their connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Secret, Span};

/// The Kafka door.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The host that producers are told to connect to. Empty: the address at which they have connected. Default empty.
    pub advertised_host: String,
    /// The port that producers are told to connect to; 0: the port at which they have connected. Default 0.
    pub advertised_port: u16,
    /// The cluster's id, as producers are told it; the same on every instance behind one address, and for ever: clients that
    /// see another one take it for another cluster. Default `sluicegate`.
    pub cluster_id: String,
    /// By what the gate knows the producer ids again that it has given out: 32 or more random characters, the same on every gate
    /// behind one address. A batch whose id it does not know goes on without its producer's numbers: it arrives, but not only
    /// once, if it is sent again. Default: one that is made and kept in `inbox.dir` with an inbox on a disk; else another one at
    /// each start.
    pub producer_id_key: Secret,
    /// Size of a request. A larger one is not read: the connection is closed. (What a topic takes of one batch is the topic's
    /// own bound; some clients put the batches of all partitions into one request.) Bounded by four fifths of
    /// `limits.in_flight` too. Default 100 MiB.
    pub max_request_bytes: ByteSize,
    /// Requests of one connection that are read and not yet answered; then reading pauses. Default 100.
    pub max_in_flight_requests: u16,
    /// Bytes of one connection's requests that are read and not yet answered; then reading pauses. A single larger request
    /// passes alone. Default 32 MiB.
    pub max_in_flight_bytes: ByteSize,
    /// Time for a client to say who it is, from the begin of its connection; then it is closed. Default 5s.
    pub login_timeout: Span,
    /// Time for a request to arrive, from its first byte, pauses of ours not counted; then the connection is closed.
    /// Default 60s.
    pub request_timeout: Span,
    /// Time for a client to take its answers; then the connection is closed. Default 30s.
    pub answer_timeout: Span,
    /// Time that a connection may be silent; then it is closed. Default 10m, as brokers do.
    pub idle_timeout: Span,
    /// The longest time that an authentication counts for, also where the credentials themselves do not end. Clients are told
    /// and renew it on the same connection; who does not is closed, and comes again. Default 1d.
    pub max_session: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            advertised_host: String::new(),
            advertised_port: 0,
            cluster_id: "sluicegate".to_owned(),
            producer_id_key: Secret::default(),
            max_request_bytes: ByteSize::mib(100),
            max_in_flight_requests: 100,
            max_in_flight_bytes: ByteSize::mib(32),
            login_timeout: Span::secs(5),
            request_timeout: Span::secs(60),
            answer_timeout: Span::secs(30),
            idle_timeout: Span::secs(600),
            max_session: Span::secs(86_400),
        }
    }
}

impl Config {
    /// Mistakes that only this area can see.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut say = |key: &str, what: &str| mistakes.push((key.to_owned(), what.to_owned()));
        let host = &self.advertised_host;
        if host.len() > 255 || host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
            say("advertised_host", "is not a host: expected a name or an address, without a scheme and without a port");
        }
        if self.cluster_id.is_empty() || self.cluster_id.len() > 255 {
            say("cluster_id", "must be 1 to 255 bytes long");
        }
        if !self.producer_id_key.is_empty() && self.producer_id_key.expose().len() < 32 {
            say("producer_id_key", "is too short: expected 32 characters or more, such as those of `openssl rand -hex 32`");
        }
        if self.max_request_bytes < ByteSize::kib(64) || self.max_request_bytes > ByteSize::mib(1_024) {
            say("max_request_bytes", "must be between 64 KiB and 1 GiB");
        }
        if self.max_in_flight_requests == 0 {
            say("max_in_flight_requests", "must be at least 1");
        }
        if self.max_in_flight_bytes < ByteSize::kib(64) || self.max_in_flight_bytes > ByteSize::mib(1_024) {
            say("max_in_flight_bytes", "must be between 64 KiB and 1 GiB");
        }
        for (key, span) in [
            ("login_timeout", self.login_timeout),
            ("request_timeout", self.request_timeout),
            ("answer_timeout", self.answer_timeout),
            ("idle_timeout", self.idle_timeout),
            ("max_session", self.max_session),
        ] {
            if span < Span::secs(1) || span > Span::secs(30 * 86_400) {
                say(key, "must be between 1s and 30d");
            }
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_without_a_mistake_and_mistakes_are_all_found() {
        assert!(Config::default().mistakes().is_empty());
        let config = Config {
            advertised_host: "https://gate".to_owned(),
            cluster_id: String::new(),
            producer_id_key: Secret::new("short"),
            max_request_bytes: ByteSize::bytes(1),
            max_in_flight_requests: 0,
            max_in_flight_bytes: ByteSize::bytes(1),
            request_timeout: Span::secs(0),
            max_session: Span::secs(40 * 86_400),
            ..Config::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        let all = [
            "advertised_host",
            "cluster_id",
            "producer_id_key",
            "max_request_bytes",
            "max_in_flight_requests",
            "max_in_flight_bytes",
            "request_timeout",
            "max_session",
        ];
        assert_eq!(keys, all);
    }
}
