//! How much: which limits apply to a principal, and the verdict.

pub mod inflight;
