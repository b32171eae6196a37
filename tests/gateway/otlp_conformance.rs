//! The rules of OTLP as the specification and its real SDKs set them, each by a test over the wire.
//!
//! By default a gate that the tests start themselves is asked. `docs/otlp-conformance.md` has the table of the rules, and
//! how to point the tests at any other server (`target.rs`). What always holds: a test is a rule's, or a few rules' that no
//! server could keep apart; nothing in it looks behind the wire but at the broker's topics, where the rule is about them.

mod answers;
mod bodies;
mod browser;
mod connections;
mod encodings;
mod grpc;
mod http;
mod json;
mod outage;
mod paths;
mod protobuf;
mod records;
mod refusals;
mod rpc;
mod samples;
mod split;
mod status;
mod table;
mod target;
