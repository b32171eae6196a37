//! The Firestore inbox before Google's own emulator: what is stored, who reads it, how it is replayed.
//!
//! What always holds: a machine without the emulator says NOT RUN; a broker and an emulator for each test; documents are
//! read by Firestore's REST API, by code that is not the gate's. Its faults are in `faults/firestore.rs`.

mod cold;
mod commands;
mod lost;
mod operators;
mod parts;
mod rows;
mod shared;
pub mod stage;
