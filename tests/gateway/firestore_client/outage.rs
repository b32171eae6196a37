//! What the client says while the service is away, and after it has come back.

use std::time::Duration;

use sluicegate::drain::{Drain, Phase};
use sluicegate::inbox::firestore::client::{Client, Fault, Written};

use super::super::support::firestore::Firestore;
use super::super::support::stopwatch::Stopwatch;
use super::super::support::{DEADLINE, eventually, free_port};
use super::{EVENTS, client, create, settings};

async fn is_back(client: &Client, id: &str) {
    eventually("it writes again", DEADLINE, async || match client.write(vec![create(client, id, 1)]).await {
        Ok(results) => Some(assert!(matches!(results[..], [Written::Ok(_) | Written::AlreadyExists]), "{results:?}")),
        Err(fault) => {
            assert!(fault.is_unknown(), "{fault:?}");
            None
        }
    })
    .await;
}
