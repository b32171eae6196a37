//! The sink's settings, and what librdkafka makes of them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Secret, Span};

/// Properties that carry the promise: naming one in `properties` is a mistake. A name that ends in `.` stands for all that start so.
const RESERVED: [&str; 26] = [
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "transactional.id",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "partitioner",
    "queue.",
    "delivery.report.",
    "dr_",
    "security.",
    "sasl.",
    "ssl.",
    "enable.ssl.",
    "allow.auto.create.topics",
    "bootstrap.servers",
    "metadata.broker.list",
    "compression.codec",
    "compression.type",
    "linger.ms",
    "queue.buffering.max.ms",
    "retries",
    "message.send.max.retries",
];

/// How the broker is reached, and how long it is waited for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bootstrap addresses of the broker, `host:port`. Empty: no broker, everything takes the inbox. Also `REDPANDA_BROKERS`.
    pub brokers: Vec<String>,
    /// How to talk to the broker. Also `REDPANDA_SECURITY_PROTOCOL`.
    pub security_protocol: SecurityProtocol,
    /// The SASL mechanism towards the broker. Also `REDPANDA_SASL_MECHANISM`.
    pub sasl_mechanism: Mechanism,
    /// The user towards the broker. Also `REDPANDA_SASL_USERNAME`.
    pub sasl_username: String,
    /// Its password. Only from `REDPANDA_SASL_PASSWORD` or `REDPANDA_SASL_PASSWORD_FILE`.
    pub sasl_password: Secret,
    /// The broker's certificate authorities, PEM in base64. Empty: the system's. Also `REDPANDA_SSL_CA_B64`.
    pub ssl_ca_b64: String,
    /// Our certificate towards the broker (mTLS), PEM in base64. Also `REDPANDA_SSL_CERT_B64`.
    pub ssl_cert_b64: String,
    /// Its key, PEM in base64. Only from `REDPANDA_SSL_KEY_B64` or a file.
    pub ssl_key_b64: Secret,
    /// How records are compressed on their way.
    pub compression: Compression,
    /// How long a record waits for company before it is sent; at most 5 ms keeps single events quick.
    pub linger: Span,
    /// Bytes that may wait in the producer. A full queue sends events to the inbox.
    pub queue: ByteSize,
    /// When requests wait and no acknowledgement comes for this long, the breaker opens and events take the inbox.
    pub failover_after: Span,
    /// The same limit before a new producer's first acknowledgement, and for a probe.
    pub first_ack: Span,
    /// A part that the broker has not acknowledged by then takes the inbox, whatever the breaker says. Where that is Firestore, it
    /// does so early enough for a write of it to be answered by `answer_deadline`.
    pub send_deadline: Span,
    /// Every request is answered by then.
    pub answer_deadline: Span,
    /// A Kafka producer's batch that neither the broker nor the inbox can take waits so long; then its client is told to try again.
    pub outage_hold: Span,
    /// How long the producer goes on trying to deliver what is in the inbox already. A success deletes the inbox's row;
    /// longer means fewer duplicates after a short outage, shorter an earlier replay.
    pub message_timeout: Span,
    /// How often the catalog of topics is fetched.
    pub catalog_refresh: Span,
    /// Connections to each broker over which record batches of Kafka clients are forwarded, 1 to 64. More are of use to many
    /// partitions at once.
    pub raw_connections: usize,
    /// A forwarded request without an answer for this long is given up: its connection is closed, and nobody knows whether its
    /// batches are stored. A batch that could not be written for as long is not sent.
    pub raw_timeout: Span,
    /// Bytes of record batches that may wait for their turn to be forwarded. What is over is not sent, and takes the inbox.
    pub raw_queue: ByteSize,
    /// Further librdkafka properties, passed through as they are. Those that carry the promise are a mistake.
    pub properties: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            security_protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: Mechanism::ScramSha256,
            sasl_username: String::new(),
            sasl_password: Secret::default(),
            ssl_ca_b64: String::new(),
            ssl_cert_b64: String::new(),
            ssl_key_b64: Secret::default(),
            compression: Compression::Lz4,
            linger: Span::millis(2),
            queue: ByteSize::mib(64),
            failover_after: Span::millis(750),
            first_ack: Span::secs(3),
            send_deadline: Span::secs(2),
            answer_deadline: Span::secs(3),
            outage_hold: Span::secs(5),
            message_timeout: Span::secs(10),
            catalog_refresh: Span::secs(10),
            raw_connections: 4,
            raw_timeout: Span::secs(10),
            raw_queue: ByteSize::mib(64),
            properties: BTreeMap::new(),
        }
    }
}

/// Kafka's `security.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecurityProtocol {
    /// No TLS, no authentication.
    Plaintext,
    /// TLS.
    Ssl,
    /// Authentication without TLS.
    SaslPlaintext,
    /// Authentication over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    pub(super) const fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub(super) const fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// Kafka's `sasl.mechanism`, towards the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// RFC 4616; over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
}

impl Mechanism {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Plain => "PLAIN",
        }
    }
}

/// Kafka's `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Config {
    /// Mistakes that only this area can see: the option's name in it, and what is wrong.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut say = |key: &str, what: String| found.push((key.to_owned(), what));
        for broker in &self.brokers {
            let port = broker.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten());
            if port.is_none() {
                say("brokers", format!("`{broker}` is not an address: write `host:port`"));
            }
        }
        for name in self.properties.keys().filter(|name| is_reserved(name)) {
            say(
                &format!("properties.{name}"),
                "this property carries the gate's promise and cannot be set; use the options of [sink]".into(),
            );
        }
        if let Some((name, what)) = self.property_at_fault() {
            say(&format!("properties.{name}"), what);
        }
        if self.security_protocol.has_sasl() && (self.sasl_username.is_empty() || self.sasl_password.is_empty()) {
            say("sasl_username", "SASL needs REDPANDA_SASL_USERNAME and REDPANDA_SASL_PASSWORD (or REDPANDA_SASL_PASSWORD_FILE)".into());
        }
        if self.send_deadline >= self.answer_deadline {
            say("send_deadline", format!("must be shorter than answer_deadline ({})", self.answer_deadline));
        }
        if self.failover_after > self.send_deadline {
            say("failover_after", format!("must not be longer than send_deadline ({})", self.send_deadline));
        }
        if self.message_timeout <= self.send_deadline {
            say("message_timeout", format!("must be longer than send_deadline ({})", self.send_deadline));
        }
        if self.linger > Span::millis(1_000) {
            say("linger", "must be at most 1s; 5ms keeps single events quick".into());
        }
        if !(1..=64).contains(&self.raw_connections) {
            say("raw_connections", "must be from 1 to 64".into());
        }
        if self.raw_timeout < Span::millis(500) {
            say("raw_timeout", "must be at least 500ms; a broker with replicas elsewhere needs more".into());
        }
        match self.client() {
            // Only with everything else in place can librdkafka's own checks say something new.
            Ok(client) if found.is_empty() && !self.brokers.is_empty() => {
                if let Err(error) = client.create::<rdkafka::producer::BaseProducer>() {
                    found.push(("properties".into(), format!("librdkafka refuses the settings: {error}")));
                }
            }
            Ok(_) => {}
            Err((key, what)) => found.push((key.into(), what)),
        }
        found
    }

    /// librdkafka's settings; an option that is not what it says is named.
    pub fn client(&self) -> Result<ClientConfig, (&'static str, String)> {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Warning);
        self.set_manners(&mut client);
        self.set_security(&mut client)?;
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        self.set_promise(&mut client);
        Ok(client)
    }

    /// The first property that librdkafka does not know, or whose value it does not take.
    fn property_at_fault(&self) -> Option<(String, String)> {
        let mut client = ClientConfig::new();
        for (name, value) in self.properties.iter().filter(|(name, _)| !is_reserved(name)) {
            client.set(name, value);
        }
        match client.create_native_config() {
            Err(KafkaError::ClientConfig(_, what, name, _)) => {
                Some((name, format!("{}; expected a property of librdkafka and a value that it takes", what.trim_end_matches('.'))))
            }
            _ => None,
        }
    }

    /// Sensible settings that an operator may overrule by `properties`.
    fn set_manners(&self, client: &mut ClientConfig) {
        client
            .set("client.id", "sluicegate")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500")
            .set("socket.keepalive.enable", "true")
            .set("socket.connection.setup.timeout.ms", "3000")
            // Brokers close idle connections at 10 minutes; closing first avoids outcomes that nobody knows.
            .set("connections.max.idle.ms", "240000")
            // A topic that is gone is said to be gone after this, instead of after 30 s as a timeout.
            .set("topic.metadata.propagation.max.ms", "500")
            .set("topic.metadata.refresh.interval.ms", "30000");
    }

    fn set_security(&self, client: &mut ClientConfig) -> Result<(), (&'static str, String)> {
        client.set("security.protocol", self.security_protocol.as_str());
        if self.security_protocol.has_sasl() {
            client
                .set("sasl.mechanism", self.sasl_mechanism.as_str())
                .set("sasl.username", &self.sasl_username)
                .set("sasl.password", self.sasl_password.expose());
        }
        let pems = [
            ("ssl.ca.pem", "ssl_ca_b64", self.ssl_ca_b64.as_str()),
            ("ssl.certificate.pem", "ssl_cert_b64", self.ssl_cert_b64.as_str()),
            ("ssl.key.pem", "ssl_key_b64", self.ssl_key_b64.expose()),
        ];
        for (property, key, text) in pems.into_iter().filter(|(_, _, text)| !text.is_empty()) {
            let pem = STANDARD.decode(text.split_whitespace().collect::<String>()).ok().and_then(|pem| String::from_utf8(pem).ok());
            client.set(property, pem.ok_or((key, "is not PEM in base64".to_owned()))?);
        }
        Ok(())
    }

    /// What the promise rests on. Set last, so that nothing overrules it.
    fn set_promise(&self, client: &mut ClientConfig) {
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight", "5")
            .set("message.timeout.ms", self.message_timeout.as_millis().to_string())
            .set("queue.buffering.max.kbytes", (self.queue.get() >> 10).max(1).to_string())
            .set("queue.buffering.max.messages", "1000000")
            .set("statistics.interval.ms", "5000")
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", self.compression.as_str())
            .set("allow.auto.create.topics", "false");
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| if reserved.ends_with(['.', '_']) { name.starts_with(reserved) } else { name == *reserved })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_broker() -> Config {
        Config { brokers: vec!["127.0.0.1:9092".into()], ..Config::default() }
    }

    #[test]
    fn the_defaults_are_right_and_librdkafka_takes_them() {
        assert_eq!(with_broker().mistakes(), []);
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Zstd] {
            assert_eq!(Config { compression, ..with_broker() }.mistakes(), [], "{compression:?}");
        }
        let sasl = Config {
            security_protocol: SecurityProtocol::SaslSsl,
            sasl_username: "u".into(),
            sasl_password: Secret::new("p"),
            ..with_broker()
        };
        assert_eq!(sasl.mistakes(), []);
    }

    #[test]
    fn a_property_that_carries_the_promise_cannot_be_set() {
        for name in ["acks", "queue.buffering.max.kbytes", "sasl.password", "allow.auto.create.topics", "delivery.report.only.error"] {
            let config = Config { properties: BTreeMap::from([(name.to_owned(), "1".to_owned())]), ..with_broker() };
            assert_eq!(config.mistakes().len(), 1, "{name}");
        }
        let config = Config { properties: BTreeMap::from([("batch.size".to_owned(), "500000".to_owned())]), ..with_broker() };
        assert_eq!(config.mistakes(), []);
        let config = Config { properties: BTreeMap::from([("no.such.property".to_owned(), "1".to_owned())]), ..with_broker() };
        assert_eq!(config.mistakes().len(), 1);
    }

    #[test]
    fn all_mistakes_are_said_at_once() {
        let config = Config {
            brokers: vec!["nowhere".into()],
            security_protocol: SecurityProtocol::SaslSsl,
            send_deadline: Span::secs(9),
            ssl_ca_b64: "%".into(),
            ..Config::default()
        };
        let keys: Vec<String> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["brokers", "sasl_username", "send_deadline", "ssl_ca_b64"]);
    }
}
