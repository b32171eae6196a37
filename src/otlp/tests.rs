//! The leaf against other decoders, and against requests that nobody would write.

mod build;
mod checks;
mod cuts;
mod keys;
mod properties;
mod vectors;
