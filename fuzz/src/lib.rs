//! The gate's leaves, compiled here by themselves: fuzzing them needs no librdkafka, no SQLite and no TLS.

#[path = "../../src"]
mod leaves {
    pub mod otlp;
    pub mod partition;
    pub mod records;
    pub mod wire;
}

pub use leaves::{otlp, partition, records, wire};
