//! What the producer says of a part: delivered, or one of four kinds of no.
//!
//! Only an explicit refusal by the broker proves that a record was not stored; every timeout leaves it open.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The one report of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// All in-sync replicas have it.
    Delivered {
        /// The partition.
        partition: i32,
        /// The offset in it.
        offset: i64,
    },
    /// It is not there, and may be sent again.
    NotStored(&'static str),
    /// Nobody knows: it may be there.
    Unknown(&'static str),
    /// It will never be taken.
    Permanent(Never),
}

/// Why a record will never be taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// The topic does not exist, or is not ours to write.
    NoTopic,
    /// Larger than the topic takes.
    TooLarge,
    /// The topic refuses it for another reason.
    Invalid(&'static str),
}

impl Report {
    /// A bounded word for metrics and logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::NotStored(reason) | Self::Unknown(reason) => reason,
            Self::Permanent(Never::NoTopic) => "no_topic",
            Self::Permanent(Never::TooLarge) => "too_large",
            Self::Permanent(Never::Invalid(reason)) => reason,
        }
    }

    /// Whether the broker itself has answered: a sign of life, whatever it said.
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Delivered { .. } | Self::Permanent(_))
    }
}

/// The class of librdkafka's error for a message that it had taken.
pub fn of_delivery(error: &KafkaError) -> Report {
    let Some(code) = error.rdkafka_error_code() else { return Report::Unknown("other") };
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => Report::Permanent(Never::TooLarge),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic => {
            Report::Permanent(Never::NoTopic)
        }
        Code::TopicAuthorizationFailed => Report::Permanent(Never::NoTopic),
        Code::InvalidTimestamp => Report::Permanent(Never::Invalid("invalid_timestamp")),
        Code::InvalidRecord => Report::Permanent(Never::Invalid("invalid_record")),
        // Another record of the batch was refused, and so was the batch.
        Code::InvalidDifferentRecord => Report::NotStored("other_record"),
        Code::PolicyViolation => Report::Permanent(Never::Invalid("policy_violation")),
        Code::NotEnoughReplicas => Report::NotStored("not_enough_replicas"),
        Code::LeaderNotAvailable | Code::NotLeaderForPartition => Report::NotStored("leader"),
        Code::MessageTimedOut | Code::RequestTimedOut | Code::OperationTimedOut => Report::Unknown("timed_out"),
        Code::NotEnoughReplicasAfterAppend => Report::Unknown("not_enough_replicas_after_append"),
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::NetworkException => Report::Unknown("transport"),
        Code::PurgeQueue | Code::PurgeInflight => Report::Unknown("purged"),
        _ => Report::Unknown("other"),
    }
}

/// The class of an error at the producer's own queue: the message was not taken.
pub fn of_enqueue(error: &KafkaError) -> Report {
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => Report::NotStored("queue_full"),
        Some(Code::MessageSizeTooLarge) => Report::Permanent(Never::TooLarge),
        _ => Report::NotStored("not_enqueued"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_brokers_own_word_proves_that_nothing_is_stored() {
        for code in [Code::MessageTimedOut, Code::BrokerTransportFailure, Code::PurgeInflight, Code::NotEnoughReplicasAfterAppend] {
            assert!(matches!(of_delivery(&KafkaError::MessageProduction(code)), Report::Unknown(_)), "{code:?}");
        }
        assert!(matches!(of_delivery(&KafkaError::MessageProduction(Code::NotEnoughReplicas)), Report::NotStored(_)));
        assert_eq!(of_delivery(&KafkaError::MessageProduction(Code::MessageSizeTooLarge)), Report::Permanent(Never::TooLarge));
        assert_eq!(of_enqueue(&KafkaError::MessageProduction(Code::QueueFull)), Report::NotStored("queue_full"));
    }
}
