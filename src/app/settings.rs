//! What the areas get of the configuration that no section of it says alone, and what is opened by it.
//!
//! What always holds: whoever asks for the same thing (the gate, the check, a command beside a gate) gets the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::auth::users::Users;
use crate::config::Config;
use crate::inbox::offline::Kept;
use crate::inbox::{Collections, Kind, OpenError};
use crate::ingest::producer_ids::ProducerIds;
use crate::journal::Journal;
use crate::limits::shared::store::Store;
use crate::listeners::tls::Certificates;
use crate::route::{Holds, RouteConfig, Shape};
use crate::sink::Sink;
use crate::sink::catalog::Catalog;

/// What would keep a gate of this configuration from starting here: each a line that says what to do. Nothing is bound,
/// locked or written, so that it can be asked beside a running gate.
pub fn preflight(config: &Config) -> Vec<String> {
    let tls = Certificates::check(&config.listeners).err();
    let inbox = crate::inbox::check(&config.inbox).err();
    let users = config.auth.users_file.as_deref().and_then(|file| Users::check(file, config.auth.given().as_ref()).err());
    let journal = journal_dir(config).filter(|_| config.journal.dir.is_some()).and_then(|dir| crate::journal::check(dir).err());
    let sink = Sink::new(sink_settings(config), Arc::default(), Catalog::open(None, Duration::ZERO)).err();
    let app_check = config.http.callable.app_check.authenticator().err();
    let shared = Store::configured(&config.limits.shared).err();
    let said = [
        shared,
        app_check.map(|error| format!("http.callable.app_check: {error}")),
        tls.map(|error| format!("listeners: {error}")),
        users.map(|error| format!("auth.users_file: {error}")),
        // Settings name their whole key.
        inbox.map(|error| if let OpenError::Settings(text) = error { text } else { format!("inbox: {error}") }),
        sink.map(|error| format!("sink: {error}")),
        journal.map(|error| format!("journal.dir: {error}")),
    ];
    said.into_iter().flatten().collect()
}

/// The folder of the journal of outcomes; none: none is kept. The disk inbox's folder is there, and ours alone.
pub fn journal_dir(config: &Config) -> Option<&Path> {
    let beside = || (config.inbox.kind == Kind::Disk).then_some(config.inbox.dir.as_path());
    config.journal.dir.as_deref().or_else(beside).filter(|_| config.journal.max_bytes.get() > 0)
}

pub(super) fn journal(config: &Config) -> Result<Option<Journal>, StartError> {
    let Some(dir) = journal_dir(config) else { return Ok(None) };
    let failed = |error| StartError::Failed(format!("journal.dir: no journal in `{}`: {error}", dir.display()));
    Journal::open(dir, config.journal.max_bytes).map(Some).map_err(failed)
}

/// What the inbox can hold: what it could not is refused, broker up or down.
pub(super) fn holds(config: &Config) -> Holds {
    match config.inbox.kind {
        Kind::Firestore => Holds::Documents(config.inbox.firestore.documents()),
        Kind::Disk | Kind::None => Holds::Anything,
    }
}

/// Where the Firestore inbox keeps the rows of each topic.
pub fn collections(config: &Config) -> Collections {
    let own = |route: &RouteConfig| (route.shape != Shape::Command).then(|| route.collection.clone()).flatten();
    let routes = config.routes.iter().map(|route| (route.topic.clone(), own(route))).collect();
    let firestore = &config.inbox.firestore;
    Collections::new(routes, firestore.collection.clone(), firestore.former_collections.clone())
}

/// What is read of the inbox beside its gates.
pub fn kept(config: &Config) -> Kept {
    let commands = config.routes.iter().filter(|route| route.shape == Shape::Command);
    let otherwise = &config.inbox.firestore.command_collection;
    let commands = commands.map(|route| (route.collection.as_ref().unwrap_or(otherwise).clone(), route.topic.to_string()));
    Kept { config: config.inbox.clone(), collections: collections(config), commands: commands.collect() }
}

/// librdkafka's own bound on a record follows the largest that a route allows.
pub(super) fn sink_settings(config: &Config) -> crate::sink::Config {
    let mut sink = config.sink.clone();
    let largest = config.routes.iter().map(|route| route.max_event_bytes.get()).max().unwrap_or(0) + (16 << 10);
    if largest > 1_000_000 {
        sink.properties.entry("message.max.bytes".to_owned()).or_insert_with(|| largest.to_string());
    }
    sink
}

/// With a disk the key of producer ids is kept on it, if none is configured, so that producers outlive a restart.
pub(super) fn producer_ids(config: &Config) -> Result<ProducerIds, StartError> {
    let key = &config.kafka.producer_id_key;
    if !key.is_empty() {
        return Ok(ProducerIds::by_key(key.expose().as_bytes()));
    }
    if config.inbox.kind != Kind::Disk {
        return Ok(ProducerIds::by_chance());
    }
    let file = config.inbox.dir.join("producer.key");
    ProducerIds::kept(&file).map_err(|error| StartError::Failed(format!("no key for producer ids in `{}`: {error}", file.display())))
}
