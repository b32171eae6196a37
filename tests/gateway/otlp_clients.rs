//! Real OpenTelemetry SDKs, unmodified, at the gate's OTLP door, and a real Collector behind the broker that reads what came.
//!
//! What always holds: each test has a broker and a gate of its own; what an SDK sent through the gate is held against what
//! the same program sent to a Collector directly, to the last attribute. `OTLP_TARGET=direct` puts a Collector in the gate's
//! place: what a test of sameness finds there is not the gate's doing.

mod browser;
mod difference;
mod odd;
mod outage;
mod same;
mod stage;

use std::time::Duration;

/// The topics that a Collector reads.
const TOPICS: [&str; 3] = ["otlp_spans", "otlp_metrics", "otlp_logs"];
const PARTITIONS: i32 = 6;

/// How many clients run at a time.
const AT_ONCE: usize = 3;

/// How long the inbox may take to be empty after the broker is back. Generous: the machine may be busy.
const REPLAYED: Duration = Duration::from_secs(120);
