//! The `[otlp]` section: where telemetry goes, how it is looked at and cut, and what its senders are told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Topic;
use crate::otlp::{Depth, Keys, Signal};
use crate::units::{ByteSize, Span};

/// The longest grace for a token.
const MAX_GRACE: Span = Span::secs(300);

/// The OTLP door.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether OTLP is spoken: `POST /v1/traces`, `/v1/metrics`, `/v1/logs`, and gRPC on the same port. Default true.
    pub enabled: bool,
    /// Topic of spans. It needs a route, and its senders a grant, as every topic does. Default `otlp_spans`, where the
    /// Collector's `kafkareceiver` looks.
    pub traces_topic: String,
    /// Topic of metrics. Default `otlp_metrics`.
    pub metrics_topic: String,
    /// Topic of log records. Default `otlp_logs`.
    pub logs_topic: String,
    /// Keys of records with spans. `by_trace`: no key, and each trace on the partition that its id in hex would have by murmur2,
    /// in at most one record for each partition. `trace_id`: one record for each trace, with that key. `resource`: one for each
    /// resource. `none`: the request as it came. Default `by_trace`.
    pub traces_keys: Keys,
    /// Keys of records with metrics: `resource` (the Collector's own keys), or `none`. Default `none`.
    pub metrics_keys: Keys,
    /// Keys of records with log records: `trace_id`, `resource` (both the Collector's own), or `none`. Default `none`.
    pub logs_keys: Keys,
    /// How much of a request is looked at before it goes on as it is. `full`: all that a reader could stumble over; one byte that
    /// it cannot decode loses it the whole record. `structure`: all but text and ids. `none`: what is needed to count. Default `full`.
    pub validation: Depth,
    /// Whether text that is not UTF-8 is mended (U+FFFD) instead of refused. Default false.
    pub repair_utf8: bool,
    /// Size of a request as it comes over the wire. More: 413, or RESOURCE_EXHAUSTED. Default 16 MiB, at most 64 MiB.
    pub max_body_bytes: ByteSize,
    /// Size of a request after decompression. More: 413, or RESOURCE_EXHAUSTED. Default 16 MiB, at most 64 MiB.
    pub max_decoded_body_bytes: ByteSize,
    /// Records that one request may become, by its size and its keys. More: refused for good. Default 1000.
    pub max_fragments: usize,
    /// How long a gRPC request is held, and tried again, while neither the broker nor the inbox takes it: some of its SDKs never
    /// send again. Never longer than its `grpc-timeout` less a second, nor while half of `limits.in_flight` is used. Default 5s.
    pub hold: Span,
    /// By then every request is answered: SDKs take an answer after 10 s for none. Default 9s.
    pub answer_within: Span,
    /// For so long after its end a token counts at this door, whose senders fix theirs when they start. Default 60s, at most 5m.
    pub token_grace: Span,
    /// The status over HTTP for who is over a quota: 503, or 429, on which some SDKs drop what they have. Default 503.
    pub quota_status: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            traces_topic: "otlp_spans".to_owned(),
            metrics_topic: "otlp_metrics".to_owned(),
            logs_topic: "otlp_logs".to_owned(),
            traces_keys: Keys::ByTrace,
            metrics_keys: Keys::None,
            logs_keys: Keys::None,
            validation: Depth::Full,
            repair_utf8: false,
            max_body_bytes: ByteSize::mib(16),
            max_decoded_body_bytes: ByteSize::mib(16),
            max_fragments: 1_000,
            hold: Span::secs(5),
            answer_within: Span::secs(9),
            token_grace: Span::secs(60),
            quota_status: 503,
        }
    }
}

impl Config {
    /// Where a signal goes.
    pub fn topic(&self, signal: Signal) -> &str {
        match signal {
            Signal::Traces => &self.traces_topic,
            Signal::Metrics => &self.metrics_topic,
            Signal::Logs => &self.logs_topic,
        }
    }

    /// How its records are keyed.
    pub fn keys(&self, signal: Signal) -> Keys {
        match signal {
            Signal::Traces => self.traces_keys,
            Signal::Metrics => self.metrics_keys,
            Signal::Logs => self.logs_keys,
        }
    }

    /// What is wrong with the section: the key below it, and what is expected.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, what: String| mistakes.push((key.to_owned(), what));
        for (key, topic) in [("traces_topic", &self.traces_topic), ("metrics_topic", &self.metrics_topic), ("logs_topic", &self.logs_topic)]
        {
            if let Err(error) = Topic::new(topic) {
                wrong(key, format!("`{topic}`: {error}"));
            }
        }
        if matches!(self.metrics_keys, Keys::ByTrace | Keys::TraceId) {
            wrong("metrics_keys", "metrics belong to no trace: expected `resource` or `none`".to_owned());
        }
        if self.logs_keys == Keys::ByTrace {
            wrong("logs_keys", "is for spans: expected `trace_id`, `resource` or `none`".to_owned());
        }
        let most = ByteSize::mib(64);
        for (key, size) in [("max_body_bytes", self.max_body_bytes), ("max_decoded_body_bytes", self.max_decoded_body_bytes)] {
            if size < ByteSize::kib(1) || size > most {
                wrong(key, format!("must be from 1 KiB to {most}"));
            }
        }
        if self.max_fragments == 0 {
            wrong("max_fragments", "must be at least 1".to_owned());
        }
        if self.answer_within < Span::secs(1) {
            wrong("answer_within", "must be at least 1s".to_owned());
        }
        if self.hold > self.answer_within {
            wrong("hold", format!("must be at most answer_within ({})", self.answer_within));
        }
        if self.token_grace > MAX_GRACE {
            wrong("token_grace", format!("must be at most {MAX_GRACE}"));
        }
        if !matches!(self.quota_status, 429 | 503) {
            wrong("quota_status", "must be 503 or 429".to_owned());
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_without_mistakes_and_mistakes_are_all_found() {
        assert_eq!(Config::default().mistakes(), Vec::new());
        let config = Config {
            logs_topic: "a b".to_owned(),
            metrics_keys: Keys::TraceId,
            max_decoded_body_bytes: ByteSize::mib(65),
            max_fragments: 0,
            hold: Span::secs(10),
            token_grace: Span::secs(301),
            quota_status: 500,
            ..Config::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["logs_topic", "metrics_keys", "max_decoded_body_bytes", "max_fragments", "hold", "token_grace", "quota_status"]);
    }
}
