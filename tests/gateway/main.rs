//! The real gate, driven from outside: the built binary, real sockets, a real Apache Kafka broker, real clients.
//!
//! What always holds: each test has a gate, a broker and folders of its own, on free ports of loopback, and ends them;
//! nothing waits for a time, everything for a condition with a deadline.
#![allow(clippy::print_stderr)] // A failed test shows the logs of what it started.

mod administration;
mod auth;
mod callable;
mod commands;
mod events;
mod faults;
mod firestore;
mod firestore_client;
mod firestore_drain;
mod forward;
mod forward_faults;
mod http2_frames;
mod http_drain;
mod http_framing;
mod kafka_clients;
mod lanes;
mod lanes_kafka;
mod otlp;
mod otlp_clients;
mod otlp_conformance;
mod parts;
mod path;
mod port;
mod shared_quotas;
mod support;
mod surface;
mod topics;
mod trace;
mod upstream;
mod users;
mod vectors_jose;
mod vectors_json;
