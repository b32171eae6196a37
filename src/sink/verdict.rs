//! What a broker's answer to a record batch means: the one table of Kafka's error codes on the raw leg.
//!
//! Only the broker's own word proves that nothing is stored; what leaves it open is *unknown*.

use super::forward::Answer;
use super::report::Never;
use crate::receipt::Landed;

/// What is known of a batch after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All in-sync replicas have it, now or from before.
    Landed(Landed),
    /// Its producer's numbers are no longer accepted: the same records go without them.
    Strip(&'static str),
    /// A batch with earlier numbers is missing at the broker.
    Predecessor,
    /// It is not there, and may be sent again.
    NotStored(&'static str),
    /// Nobody knows: it may be there.
    Unknown(&'static str),
    /// It will never be taken.
    Permanent(Never),
}

impl Verdict {
    /// The meaning of an answer.
    pub fn of(answer: &Answer) -> Self {
        match *answer {
            Answer::Answered { code: 0, base_offset, log_append_time_ms, log_start_offset } => {
                Self::Landed(Landed::Broker { base_offset, log_append_time_ms, log_start_offset })
            }
            Answer::Answered { code, log_start_offset, .. } => Self::of_code(code, log_start_offset),
            Answer::NotSent(why) => Self::NotStored(why),
            Answer::Unknown(why) => Self::Unknown(why),
        }
    }

    const fn of_code(code: i16, log_start_offset: i64) -> Self {
        match code {
            // DUPLICATE_SEQUENCE_NUMBER: it is there; at which offset the broker does not say.
            46 => Self::Landed(Landed::Broker { base_offset: -1, log_append_time_ms: -1, log_start_offset }),
            45 => Self::Predecessor,
            47 => Self::Strip("invalid_producer_epoch"),
            59 => Self::Strip("unknown_producer_id"),
            // An id that another client holds as a transactional one.
            48 | 51 => Self::Strip("producer_id_in_use"),
            3 => Self::NotStored("unknown_topic_or_partition"),
            5 => Self::NotStored("leader_not_available"),
            6 => Self::NotStored("not_leader"),
            19 => Self::NotStored("not_enough_replicas"),
            56 => Self::NotStored("storage"),
            // Our own CRC check has passed: it was damaged on the way to the broker.
            2 => Self::NotStored("corrupt_on_the_way"),
            7 => Self::Unknown("request_timed_out"),
            20 => Self::Unknown("not_enough_replicas_after_append"),
            10 | 18 => Self::Permanent(Never::TooLarge),
            17 | 29 | 31 => Self::Permanent(Never::NoTopic),
            32 => Self::Permanent(Never::Invalid("invalid_timestamp")),
            43 => Self::Permanent(Never::Invalid("unsupported_for_message_format")),
            44 => Self::Permanent(Never::Invalid("policy_violation")),
            76 => Self::Permanent(Never::Invalid("unsupported_compression")),
            87 => Self::Permanent(Never::Invalid("invalid_record")),
            _ => Self::Unknown("other"),
        }
    }

    /// Whether the broker itself has said something: a sign of life.
    pub const fn is_answer(answer: &Answer) -> bool {
        matches!(answer, Answer::Answered { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i16) -> Verdict {
        Verdict::of(&Answer::Answered { code, base_offset: 5, log_append_time_ms: -1, log_start_offset: 0 })
    }

    #[test]
    fn a_duplicate_has_landed_and_its_offset_is_unknown() {
        assert_eq!(of(0), Verdict::Landed(Landed::Broker { base_offset: 5, log_append_time_ms: -1, log_start_offset: 0 }));
        assert_eq!(of(46), Verdict::Landed(Landed::Broker { base_offset: -1, log_append_time_ms: -1, log_start_offset: 0 }));
    }

    #[test]
    fn numbers_that_are_no_longer_accepted_are_no_reason_to_lose_records() {
        for code in [47, 59] {
            assert!(matches!(of(code), Verdict::Strip(_)), "{code}");
        }
        assert_eq!(of(45), Verdict::Predecessor);
    }

    #[test]
    fn only_the_brokers_own_word_proves_that_nothing_is_stored() {
        for code in [7, 20, -1, 1_000] {
            assert!(matches!(of(code), Verdict::Unknown(_)), "{code}");
        }
        assert!(matches!(Verdict::of(&Answer::Unknown("lost")), Verdict::Unknown("lost")));
        for code in [3, 5, 6, 19] {
            assert!(matches!(of(code), Verdict::NotStored(_)), "{code}");
        }
        for code in [10, 29, 32, 87] {
            assert!(matches!(of(code), Verdict::Permanent(_)), "{code}");
        }
    }
}
