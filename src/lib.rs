//! Sluicegate: the edge gateway for Kafka.
//!
//! Events come in at a door, go down one trunk, and end in one of two places: the broker, or the inbox and from there
//! the broker. **An acknowledgement means that the event is in the broker (acks=all) or durably in the inbox, before the
//! acknowledgement leaves.** Everything here serves that sentence.
//!
//! # The path of an event
//!
//! 1. [`listeners`] accepts a socket, takes a connection slot, finishes TLS and reads a request's head. No payload yet.
//! 2. The door ([`listeners::http`], or [`listeners::otlp`] on the same connections) finds the route and asks [`auth`] who is there. [`auth::Authenticator`] alone makes a
//!    [`auth::Principal`].
//! 3. [`limits::inflight`] reserves the body's bytes; the guard travels with the events until the answer is written. The
//!    body is read and decompressed within its bounds, and decoded to a [`event::Batch`]. What is malformed is answered
//!    with the position of the fault, and nothing further happens.
//! 4. [`ingest::Ingest::accept`], THE TRUNK, in a task of its own, so that a client that hangs up does not cut a write in
//!    half:
//!    - [`auth::authorize`] gives one [`auth::Permit`] for each topic, and the sink's [catalog](sink::catalog) says whether
//!      there is such a topic; the answer to "not allowed" and "not there" is the same;
//!    - [`limits::quota`] charges the principal for the whole batch, or refuses it;
//!    - [`route::Table::route`] uses up the permits and makes [`route::Routed`] records: topic, key, headers, shape, and every
//!      bound that the broker or the inbox would hold against them;
//!    - [`sink::Sink::send`] gives them to the producer, unless the [breaker](sink::breaker) is open or the [`gate`] of their
//!      partition is closed, and waits for each one's report until its deadline;
//!    - what was not acknowledged by then goes to the [`inbox`], and is answered after the commit that holds it. The
//!      producer may still have it: its late report settles the row.
//!
//!    The record batches of Kafka producers ([`listeners::kafka`]) go the same way, byte for byte:
//!    [`ingest::Ingest::admit`] asks the same questions, puts each [`records::RecordBatch`] into its [`lane`], and the
//!    [raw leg](sink::raw) or the inbox takes it when its turn has come.
//! 5. One outcome for each event, a [`receipt::Receipt`] or a [`receipt::Refusal`], is counted and goes back to the door, whose
//!    `reply` writes it in its own manner. The guard drops.
//! 6. Later, when the breaker has closed, [`inbox::replay`] sends what the inbox holds, in the order of arrival within a
//!    partition, and opens the partition's gate when nothing is owed to it any more.
//!
//! [`app`] puts the parts together and owns the order of the drain; [`admin`] shows them; [`config`] is made of the areas' own
//! settings; [`cli`] is what a person types. `docs/design.md` has the rules of the house.
#![forbid(unsafe_code)]

pub mod document;
pub mod event;
pub mod journal;
pub mod lane;
pub mod otlp;
pub mod partition;
pub mod receipt;
pub mod records;
pub mod units;
pub mod wire;

pub mod listeners;

pub mod auth;
pub mod gate;
pub mod inbox;
pub mod ingest;
pub mod limits;
pub mod route;
pub mod sink;

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod drain;
pub mod telemetry;
