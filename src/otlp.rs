//! OpenTelemetry's bytes.

pub mod json;

/// What a request carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

/// What is wrong with a body, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} (at byte {offset})")]
pub struct Fault {
    /// From the body's start.
    pub offset: u64,
    /// What was expected, and what stands there.
    pub what: String,
}
