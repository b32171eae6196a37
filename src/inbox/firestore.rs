//! Firestore as the inbox's store: one document for each row.
//!
//! What always holds:
//! - Firestore's own messages and calls stay below this module.
//! - A row is answered for after Firestore has said that its document is there.
//! - Commands go into a collection that somebody else's program drains: such a document gates nothing and is not touched
//!   again, but for the producer's late success, which deletes it. All else goes into collections of ours, in a shape that can
//!   be sent as it came; who holds a lane's lease replays it, whichever instance has stored it.

mod answer;
mod audit;
mod books;
mod call;
pub mod client;
mod collections;
pub mod config;
pub mod credentials;
mod job;
mod lanes;
mod lease;
pub mod offline;
mod order;
mod pacer;
mod proto;
mod queue;
mod ramp;
mod store;
mod writer;

use std::sync::Arc;

use crate::gate::Gates;

use books::Books;
use client::Client;
use lanes::Lanes;
use lease::Leases;
use pacer::Pacer;
use store::Writing;

pub use collections::Collections;
pub use config::{Config, ReplayWhen};
/// Firestore's messages.
pub use googleapis_tonic_google_firestore_v1::google::firestore::v1 as fs;
/// A point in time, as Firestore's messages have it.
pub use prost_types::Timestamp;
pub use store::Numbers;

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
    pub(super) pacer: Pacer,
    pub(super) lanes: Lanes,
    /// The writer's.
    pub(super) writing: Writing,
}

/// Whether it could be used, as far as can be seen without asking anybody.
pub(super) fn check(config: &Config) -> Result<(), String> {
    Client::check(config)
}

impl Firestore {
    pub(super) fn open(config: &super::Config, collections: Collections, gates: &Arc<Gates>) -> Result<Self, String> {
        let client = Client::new(&config.firestore)?;
        let instance = ulid::Ulid::generate().to_string();
        let leases = Leases::new(client.clone(), instance.clone(), config.firestore.lease.get());
        let writing = Writing::new(&config.firestore, &collections, &instance);
        let shared = Shared {
            client,
            config: config.firestore.clone(),
            collections,
            instance,
            writing,
            books: Books::new(Arc::clone(gates)),
            pacer: Pacer::new(&config.firestore),
            lanes: Lanes::new(leases),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}
