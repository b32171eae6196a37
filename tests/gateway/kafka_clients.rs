//! Real Kafka clients, unmodified, at the gate's Kafka door, behind which is a real cluster of three brokers.
//!
//! What always holds: each test has a cluster and a gate of its own; a client does exactly what its order says, and what it
//! was told is held against what the brokers have, record by record. `KAFKA_TARGET=direct` puts the clients to the brokers
//! themselves: what a test finds there is not the gate's doing, and what only a gate can do says that it was not run.

mod failover;
mod leaks;
mod matrix;
mod outage;
mod platform;
mod refused;
mod stage;

use std::time::Duration;

/// Where the clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The brokers.
    Direct,
    /// A gate before them.
    Gate,
}

/// Where they connect to unless `KAFKA_TARGET` says something else.
const DEFAULT_TARGET: Target = Target::Gate;

impl Target {
    fn chosen() -> Self {
        match std::env::var("KAFKA_TARGET").as_deref() {
            Ok("direct") => Self::Direct,
            Ok("gate") => Self::Gate,
            Ok(other) => panic!("KAFKA_TARGET is {other}: expected `direct` or `gate`"),
            Err(_) => DEFAULT_TARGET,
        }
    }
}

/// The topic of most orders, granted, with six partitions.
const TOPIC: &str = "events";
const PARTITIONS: i32 = 6;

/// A topic that exists and that the user has no grant for.
const DENIED_TOPIC: &str = "forbidden";

/// A topic that does not exist, though the user has a grant for it.
const ABSENT_TOPIC: &str = "events-of-nobody";

/// How many clients run at a time where it does not matter when.
const AT_ONCE: usize = 2;

/// How long the inbox may take to be empty after the brokers are back. Generous: the machine may be busy.
const REPLAYED: Duration = Duration::from_secs(120);
