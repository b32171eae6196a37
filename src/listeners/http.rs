//! The HTTPS door.

pub mod fault;
