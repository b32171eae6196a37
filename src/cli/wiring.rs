//! STUB: what the commands call. The trunk puts the library's functions in the place of these bodies.
//!
//! What always holds: nothing here prints; what is to be shown is returned, and an error says what to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::auth::grants::Grant;
use crate::config::Loaded;

/// What a developer is shown once the gate is up.
#[derive(Debug)]
pub struct Welcome {
    /// The HTTPS door, as it is bound.
    pub address: SocketAddr,
    /// The development token.
    pub token: String,
    /// The certificate authority of the generated certificate.
    pub ca: PathBuf,
}

/// Which rows of the inbox a command is for.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Only those of this topic.
    pub topic: Option<String>,
    /// At most so many.
    pub limit: u64,
}

fn not_yet<T>() -> Result<T, String> {
    Err("this command is not wired to the library yet".to_owned())
}

/// Serves until a signal has ended the drain. `greet` is called once, when the gate is up and is a developer's own.
pub fn serve(_: Loaded, _greet: impl FnOnce(&Welcome)) -> Result<(), String> {
    not_yet()
}

/// A token, signed by the key of the named issuer, or of the only one that has one; on a developer's gate by the development key.
pub fn token(_: &Loaded, _issuer: Option<&str>, _sub: &str, _topics: &[Grant], _ttl: Duration) -> Result<String, String> {
    not_yet()
}

/// One object for each topic of the routes, as the broker has it: `topic`, `partitions`, `state`.
pub fn topics(_: &Loaded, _create: bool) -> Result<Vec<Value>, String> {
    not_yet()
}

/// One object for each row, oldest first.
pub fn inbox_list(_: &Loaded, _: &Rows) -> Result<Vec<Value>, String> {
    not_yet()
}

/// One row with its value.
pub fn inbox_show(_: &Loaded, _name: &str) -> Result<Value, String> {
    not_yet()
}

/// Sends rows to the broker now; tells `done` and `all` as it goes. How many were delivered.
pub fn inbox_replay(_: &Loaded, _: &Rows, _progress: impl FnMut(u64, u64)) -> Result<u64, String> {
    not_yet()
}

/// Deletes rows for good. How many.
pub fn inbox_purge(_: &Loaded, _: &Rows) -> Result<u64, String> {
    not_yet()
}
