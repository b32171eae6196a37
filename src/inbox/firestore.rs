//! Firestore as the inbox's store.
//!
//! What always holds: Firestore's own messages and calls stay below this module.

pub mod client;
pub mod config;
pub mod credentials;

pub use config::{Config, ReplayWhen};
/// Firestore's messages.
pub use googleapis_tonic_google_firestore_v1::google::firestore::v1 as fs;
/// A point in time, as Firestore's messages have it.
pub use prost_types::Timestamp;
