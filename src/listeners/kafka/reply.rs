//! The door's manner of saying no: Kafka's error codes.
//!
//! The one map from [`Refusal`] to a code is here, without a `_` arm. Each code was chosen by what the clients do with it;
//! `docs/kafka.md` has the table. Never said: 89, which is permanent in librdkafka, kafkajs and sarama; 8, which is in Java
//! and kafkajs; −1, which is everywhere; 45, 47 and 59, which end a producer.

use std::time::Duration;

use crate::receipt::{Doubt, Refusal};
use crate::records::BadBatch;

/// No error.
pub const NONE: i16 = 0;
/// The bytes of a batch were damaged.
pub const CORRUPT_MESSAGE: i16 = 2;
/// Not known now; retried by all.
pub const LEADER_NOT_AVAILABLE: i16 = 5;
/// The outcome is unknown; retried by all, and librdkafka remembers that it may be stored.
pub const REQUEST_TIMED_OUT: i16 = 7;
/// Too large; Java splits the batch and tries again.
pub const MESSAGE_TOO_LARGE: i16 = 10;
/// Not stored; retried by all with the same producer id and sequence.
pub const NOT_ENOUGH_REPLICAS: i16 = 19;
/// acks is not -1, 0 or 1.
pub const INVALID_REQUIRED_ACKS: i16 = 21;
/// No such topic, or no grant: the same.
pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
/// A record's time is not one that its topic takes.
pub const INVALID_TIMESTAMP: i16 = 32;
/// A mechanism that is not offered.
pub const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
/// Out of place in the midst of an authentication.
pub const ILLEGAL_SASL_STATE: i16 = 34;
/// A version that is not served.
pub const UNSUPPORTED_VERSION: i16 = 35;
/// A request that contradicts itself.
pub const INVALID_REQUEST: i16 = 42;
/// Records in a format older than record batches.
pub const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
/// No transactions here.
pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
/// Authentication failed.
pub const SASL_AUTHENTICATION_FAILED: i16 = 58;
/// zstd in a version that does not know it.
pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
/// A record that its topic does not take, or bytes that are no batch.
pub const INVALID_RECORD: i16 = 87;
/// Topics have no ids here.
pub const UNKNOWN_TOPIC_ID: i16 = 100;
/// Asked for controllers, at a broker.
pub const MISMATCHED_ENDPOINT_TYPE: i16 = 114;

/// An answer that says [`NOT_ENOUGH_REPLICAS`] leaves no sooner than that after its request arrived: kafka-python and aiokafka
/// come back after 100 ms, whatever else they were told.
pub const HOLD: Duration = Duration::from_millis(500);

/// Bytes of what is said for a person.
const MAX_SAID: usize = 400;

/// What an error says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct No {
    /// Kafka's code.
    pub code: i16,
    /// For a person.
    pub message: String,
}

impl No {
    /// A refusal of the door's own.
    pub fn new(code: i16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// No grant, or no such topic: the same words as the trunk's.
    pub fn denied(topic: &str) -> Self {
        Self::from(&Refusal::Denied { topic: shortened(topic).to_owned() })
    }
}

impl From<&Refusal> for No {
    fn from(refusal: &Refusal) -> Self {
        Self { code: code(refusal), message: shortened(&refusal.to_string()).to_owned() }
    }
}

/// A request can name 20,000 partitions of a topic of 32 KiB: what is said of each must be short when it is made.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_SAID);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl From<BadBatch> for No {
    fn from(bad: BadBatch) -> Self {
        let code = match bad {
            BadBatch::OldFormat => UNSUPPORTED_FOR_MESSAGE_FORMAT,
            BadBatch::Crc => CORRUPT_MESSAGE,
            BadBatch::Malformed(_) => INVALID_RECORD,
            BadBatch::Transactional => TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        };
        Self::new(code, bad.to_string())
    }
}

fn code(refusal: &Refusal) -> i16 {
    match refusal {
        // Who was authenticated once is not told otherwise by a batch: the grant is gone.
        Refusal::Unauthenticated | Refusal::Denied { .. } => TOPIC_AUTHORIZATION_FAILED,
        Refusal::Invalid { field: Some(field), .. } if field == "time" => INVALID_TIMESTAMP,
        Refusal::Malformed { .. } | Refusal::Invalid { .. } => INVALID_RECORD,
        Refusal::TooLarge { .. } => MESSAGE_TOO_LARGE,
        Refusal::Throttled { .. } | Refusal::Overloaded { .. } => NOT_ENOUGH_REPLICAS,
        Refusal::Unavailable { doubt: Doubt::NotStored, .. } => NOT_ENOUGH_REPLICAS,
        Refusal::Unavailable { doubt: Doubt::MaybeDelivered, .. } => REQUEST_TIMED_OUT,
        // Where it broke off is not known: it may have been sent. Saying "not stored" could be a lie.
        Refusal::Internal => REQUEST_TIMED_OUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::Quota;

    #[test]
    fn every_refusal_has_the_code_that_clients_understand_and_never_one_that_ends_them() {
        let wait = Duration::from_secs(1);
        let quota = Quota { unit: "events", per_second: 1.0, burst: 1 };
        let table = [
            (Refusal::Unauthenticated, 29),
            (Refusal::Denied { topic: "t".to_owned() }, 29),
            (Refusal::malformed("x"), 87),
            (Refusal::invalid("key", "x"), 87),
            (Refusal::invalid("time", "x"), 32),
            (Refusal::Invalid { message: "x".to_owned(), field: None }, 87),
            (Refusal::TooLarge { what: "the batch", actual: 2, limit: 1 }, 10),
            (Refusal::Throttled { wait, quota }, 19),
            (Refusal::Overloaded { what: "bytes", wait }, 19),
            (Refusal::Unavailable { wait, doubt: Doubt::NotStored }, 19),
            (Refusal::Unavailable { wait, doubt: Doubt::MaybeDelivered }, 7),
            (Refusal::Internal, 7),
        ];
        for (refusal, expected) in table {
            let no = No::from(&refusal);
            assert_eq!(no.code, expected, "{refusal:?}");
            assert!(![89, 8, -1, 45, 47, 59].contains(&no.code));
            assert_eq!(no.message, refusal.to_string());
        }
    }

    #[test]
    fn k6_a_bad_batch_has_the_code_of_its_fault() {
        let table = [(BadBatch::OldFormat, 43), (BadBatch::Crc, 2), (BadBatch::Malformed("x"), 87), (BadBatch::Transactional, 53)];
        for (bad, expected) in table {
            assert_eq!(No::from(bad).code, expected, "{bad:?}");
        }
    }
}
