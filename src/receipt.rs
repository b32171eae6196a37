//! What the sender gets: a [`Receipt`], or a [`Refusal`] that says why not, whose fault it is and when to try again.
//!
//! No protocol here: HTTP statuses and error codes are each door's own mapping of [`Refusal`], exhaustive, in its `reply.rs`.

use std::time::Duration;

use crate::event::{EventId, Topic};
use crate::limits::inflight::InFlight;

/// Proof that an event is in the broker or durably in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's one name.
    pub id: EventId,
    /// Its topic.
    pub topic: Topic,
    /// Where it is.
    pub tier: Tier,
}

/// Where an acknowledged event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In the broker, acknowledged by all in-sync replicas.
    Broker {
        /// The partition.
        partition: i32,
        /// The offset in it.
        offset: i64,
    },
    /// Durably in the inbox, and from there to the broker later.
    Inbox {
        /// The name of its document.
        name: String,
    },
}

/// Where an acknowledged batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// In the broker, acknowledged by all in-sync replicas.
    Broker {
        /// The offset of its first record; -1: the broker did not say (a duplicate).
        base_offset: i64,
        /// The broker's own time, where the topic has it; else -1.
        log_append_time_ms: i64,
        /// The first offset that the partition still has; -1: unknown.
        log_start_offset: i64,
    },
    /// Durably in the inbox.
    Inbox,
}

/// Why an event was not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Nobody we know. All of it says the same.
    #[error("no valid credentials were shown")]
    Unauthenticated,
    /// No grant for the topic, or no such topic: the same words for both.
    #[error(
        "topic `{topic}` does not exist or is not granted; an operator can list and create the routes' topics with `sluicegate topics --create`"
    )]
    Denied {
        /// What was asked for, as the sender wrote it.
        topic: String,
    },
    /// The bytes are not what the door speaks.
    #[error("{message}")]
    Malformed {
        /// What is wrong, for a person.
        message: String,
        /// Where the fault is, if it has a place.
        position: Option<Position>,
    },
    /// Well formed, and still not an event that its topic's readers would take.
    #[error("{message}")]
    Invalid {
        /// What is wrong and what is expected.
        message: String,
        /// The field at fault, dotted.
        field: Option<String>,
    },
    /// More than a bound allows; it will never fit.
    #[error("{what} is {actual}, the limit is {limit}; send less at once")]
    TooLarge {
        /// What is too large, with its unit: "the size of the body in bytes".
        what: &'static str,
        /// How much it is, as far as it was read.
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// Over the principal's quota; later it will fit.
    #[error("over the quota of {quota}; try again in {} ms", wait.as_millis())]
    Throttled {
        /// When it would fit.
        wait: Duration,
        /// Which quota.
        quota: Quota,
    },
    /// The gate itself is full.
    #[error("the gate is at its limit of {what}; try again in {} ms", wait.as_millis())]
    Overloaded {
        /// Which bound was reached.
        what: &'static str,
        /// A time after which to try again.
        wait: Duration,
    },
    /// Neither tier took it.
    #[error("neither the broker nor the inbox could take the event; try again in {} ms with the same id", wait.as_millis())]
    Unavailable {
        /// A time after which to try again.
        wait: Duration,
        /// Whether it may be delivered all the same.
        doubt: Doubt,
    },
    /// A fault of ours; never acknowledged.
    #[error("an internal error; the event was not acknowledged")]
    Internal,
}

impl Refusal {
    /// The stable code of a refusal, in answers, metrics and logs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Denied { .. } => "denied",
            Self::Malformed { .. } => "malformed",
            Self::Invalid { .. } => "invalid",
            Self::TooLarge { .. } => "too_large",
            Self::Throttled { .. } => "throttled",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// When the same request may succeed; none: never, it must change first.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { wait, .. } | Self::Overloaded { wait, .. } | Self::Unavailable { wait, .. } => Some(*wait),
            Self::Unauthenticated
            | Self::Denied { .. }
            | Self::Malformed { .. }
            | Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::Internal => None,
        }
    }

    /// Whether the same request would be refused again; a fault of ours is not the request's.
    pub const fn is_for_good(&self) -> bool {
        self.retry_after().is_none() && !matches!(self, Self::Internal)
    }

    /// Whether it is certain that nothing was taken, and that nothing is wrong with the request or its sender.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { doubt: Doubt::NotStored, .. })
    }

    /// A malformed body without a place.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed { message: message.into(), position: None }
    }

    /// An unacceptable field.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), field: Some(field.to_owned()) }
    }
}

/// Whether an event that was not acknowledged may be in the broker all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is certainly not stored.
    NotStored,
    /// It may be; send it again with the same id.
    MaybeDelivered,
}

/// Which of a principal's quotas was used up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// `events` or `kib`: what is counted.
    pub unit: &'static str,
    /// How many a second.
    pub per_second: f64,
    /// How many at once.
    pub burst: u32,
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} a second, {} at once", self.per_second, self.unit, self.burst)
    }
}

/// A place in a body: bytes from its start, line and column from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes from the start of the body.
    pub offset: u64,
    /// Line, from 1.
    pub line: u64,
    /// Column in bytes, from 1.
    pub column: u64,
}

/// The result of what fared worst, for parts of one thing: refused for now, else for good, else in the inbox, else in the
/// broker. None: there are no parts. A fault of ours counts as one for now: what it was about is as good as before.
pub fn worst(results: &[Result<Receipt, Refusal>]) -> Option<&Result<Receipt, Refusal>> {
    let rank = |result: &&Result<Receipt, Refusal>| match result {
        Ok(Receipt { tier: Tier::Broker { .. }, .. }) => (0, None),
        Ok(Receipt { tier: Tier::Inbox { .. }, .. }) => (1, None),
        Err(refusal) if refusal.is_for_good() => (2, None),
        Err(refusal) => (3, refusal.retry_after()),
    };
    results.iter().max_by_key(rank)
}

/// What became of a batch: one result for each of its events, in order.
#[derive(Debug)]
pub struct Outcomes {
    /// One for each event.
    pub results: Vec<Result<Receipt, Refusal>>,
    /// The bytes in flight; held until the answer is written.
    pub guard: InFlight,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_one_thing_have_the_outcome_of_the_one_that_fared_worst() {
        let receipt = |tier| Ok(Receipt { id: EventId::generate(), topic: Topic::new("t").expect("a topic"), tier });
        let broker = || receipt(Tier::Broker { partition: 0, offset: 0 });
        let inbox = || receipt(Tier::Inbox { name: String::new() });
        let for_good = || Err(Refusal::invalid("", ""));
        let for_now = |wait| Err(Refusal::Unavailable { wait: Duration::from_secs(wait), doubt: Doubt::NotStored });
        assert_eq!(worst(&[]), None);
        assert!(matches!(worst(&[broker(), inbox(), broker()]), Some(Ok(Receipt { tier: Tier::Inbox { .. }, .. }))));
        assert_eq!(worst(&[inbox(), for_good(), broker()]), Some(&for_good()));
        assert_eq!(worst(&[for_now(1), for_now(2), for_good(), broker()]), Some(&for_now(2)), "the longest wait");
        assert_eq!(worst(&[for_good(), Err(Refusal::Internal)]), Some(&Err(Refusal::Internal)), "it can be sent again");
    }
}
