//! Sluicegate: the edge gateway for Kafka.
//!
//! # The path of an event
//! (written by the trunk)
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod drain;
pub mod event;
pub mod gate;
pub mod inbox;
pub mod ingest;
pub mod limits;
pub mod listeners;
pub mod receipt;
pub mod route;
pub mod sink;
pub mod telemetry;
pub mod units;
