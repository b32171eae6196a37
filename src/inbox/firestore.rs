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
pub(super) use lanes::Hand;
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

/// The sizes of rows are computed with a name of an instance that is never shorter than it is.
const _: () = assert!(ulid::ULID_LEN <= crate::document::LONGEST_INSTANCE);

/// Whether it could be used, as far as can be seen without asking anybody.
pub(super) fn check(config: &super::Config) -> Result<(), String> {
    refuse_emulator(config, std::env::var_os("K_SERVICE").is_some())?;
    Client::check(&config.firestore)
}

/// A variable that was left in a deployment must not make its acknowledgements worth nothing.
fn refuse_emulator(config: &super::Config, on_cloud_run: bool) -> Result<(), String> {
    match &config.firestore.emulator {
        Some(emulator) if on_cloud_run && !config.allow_volatile => Err(format!(
            "inbox.firestore.emulator: `{emulator}` is an emulator, and this is Cloud Run (K_SERVICE is set): nothing would be durable; unset \
             FIRESTORE_EMULATOR_HOST, or set `inbox.allow_volatile = true` if losing it is acceptable"
        )),
        _ => Ok(()),
    }
}

impl Firestore {
    pub(super) fn open(config: &super::Config, collections: Collections, gates: &Arc<Gates>) -> Result<Self, String> {
        refuse_emulator(config, std::env::var_os("K_SERVICE").is_some())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_on_cloud_run_is_refused_unless_losing_events_is_acceptable() {
        let firestore = Config { emulator: Some("127.0.0.1:8080".to_owned()), ..Config::default() };
        let mut config = super::super::Config { firestore, ..Default::default() };
        assert!(refuse_emulator(&config, true).is_err_and(|why| why.contains("FIRESTORE_EMULATOR_HOST")));
        assert_eq!(refuse_emulator(&config, false), Ok(()));
        config.allow_volatile = true;
        assert_eq!(refuse_emulator(&config, true), Ok(()));
        (config.allow_volatile, config.firestore.emulator) = (false, None);
        assert_eq!(refuse_emulator(&config, true), Ok(()));
    }
}
