//! The gate's login, compiled here by itself: it needs no librdkafka and no SQLite.

#[path = "../../../src"]
mod leaves {
    pub mod auth;
    pub mod drain;
    pub mod event;
    pub mod limits;
    pub mod receipt;
    pub mod telemetry;
    pub mod units;
}

pub use leaves::{auth, drain, event, limits, receipt, telemetry, units};
