//! The HTTPS door.

mod administration;
pub mod body;
mod callable;
mod callable_reply;
pub(super) mod coding;
mod cors;
pub mod door;
pub mod events;
pub mod fault;
mod forwarded;
pub(super) mod frames;
mod framing;
pub mod guest;
mod head;
pub mod json;
pub mod lobby;
pub mod payload;
mod query;
pub mod reply;
pub mod rest;
pub mod routes;
pub mod serve;
mod settings;
pub mod trace_context;
pub mod upgrade;
mod wire;

pub use settings::{AppCheck, AppCheckMode, Callable, Config};
