//! The HTTPS door.

pub mod body;
mod callable;

mod callable_reply;
mod coding;
mod cors;
pub mod door;
pub mod events;
pub mod fault;
mod forwarded;
pub mod json;
mod query;
pub mod reply;
pub mod routes;
mod settings;
pub mod trace_context;

pub use settings::{Callable, Config};
