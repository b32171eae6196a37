//! Firestore as the inbox's store: one document for each row.
//!
//! What always holds:
//! - Firestore's own messages and calls stay below this module.
//! - A row is answered for after Firestore has said that its document is there.
//! - Commands go into a collection that somebody else's program drains: such a document gates nothing and is not touched
//!   again, but for the producer's late success, which deletes it. All else goes into collections of ours, in a shape that can
//!   be sent as it came; who holds a lane's lease replays it, whichever instance has stored it.

mod books;
pub mod client;
mod collections;
pub mod config;
pub mod credentials;
mod order;
mod proto;
mod stubs_drain;
mod stubs_writer;

use std::sync::Arc;

use crate::gate::Gates;

use books::Books;
use client::Client;

pub use collections::Collections;
pub use config::{Config, ReplayWhen};
/// Firestore's messages.
pub use googleapis_tonic_google_firestore_v1::google::firestore::v1 as fs;
/// A point in time, as Firestore's messages have it.
pub use prost_types::Timestamp;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Firestore {
    shared: Arc<Shared>,
}

/// What writer and replay share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) config: Config,
    pub(super) collections: Collections,
    /// Who we are among those that share the collections: a new one for each process.
    pub(super) instance: String,
    pub(super) books: Books,
}

/// Whether it could be used, as far as can be seen without asking anybody.
pub(super) fn check(config: &Config) -> Result<(), String> {
    Client::check(config)
}

impl Firestore {
    pub(super) fn open(config: &super::Config, collections: Collections, gates: &Arc<Gates>) -> Result<Self, String> {
        let shared = Shared {
            client: Client::new(&config.firestore)?,
            config: config.firestore.clone(),
            collections,
            instance: ulid::Ulid::generate().to_string(),
            books: Books::new(Arc::clone(gates)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}
