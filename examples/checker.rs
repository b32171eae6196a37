//! Holds a log of attempts against what is found in the end: `cargo run --release --example checker -- --help`.
//!
//! What always holds: it is a process of its own, which no fault of the gate's can reach; it only reads. Exit status 0:
//! everything is as promised; 1: something is not; 2: it could not look, and nothing is said.

#[path = "../tests/faults/found.rs"]
mod found;
#[path = "../tests/faults/found_firestore.rs"]
mod found_firestore;
#[allow(dead_code)] // What only tests need.
#[path = "../tests/gateway/support/kafka_records.rs"]
mod kafka_records;
#[allow(dead_code)] // What only a writer of the log needs.
#[path = "../tests/faults/log.rs"]
mod log;
#[allow(dead_code)] // As for the records.
#[path = "../tests/faults/rules.rs"]
mod rules;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use log::History;
use rules::{Found, Verdict, check};

/// Holds a log of attempts against the broker's partitions, the inbox, and what was set aside.
#[derive(Parser)]
struct Arguments {
    /// The log of attempts.
    #[arg(long)]
    log: PathBuf,
    /// Where the broker is.
    #[arg(long)]
    brokers: String,
    /// The topics that are read, each to the end of every partition.
    #[arg(long, value_delimiter = ',', required = true)]
    topics: Vec<String>,
    /// The inbox's database.
    #[arg(long)]
    inbox: Option<PathBuf>,
    /// The Firestore that is the inbox, by its REST API: `host:port/project/database`, or that and `/collection`.
    #[arg(long)]
    firestore: Option<String>,
    /// How long an answer may take.
    #[arg(long, default_value_t = 30_000)]
    deadline_ms: u64,
    /// The verdict as JSON, for a program.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let verdict = match verdict(&arguments) {
        Ok(verdict) => verdict,
        Err(error) => return said(std::io::stderr(), &error, 2),
    };
    let text = if arguments.json {
        serde_json::to_string(&verdict).expect("text and numbers are always JSON")
    } else {
        format!("{verdict}\n{}", verdict.table())
    };
    said(std::io::stdout(), &text, u8::from(!verdict.is_clean()))
}

fn said(mut to: impl Write, text: &str, status: u8) -> ExitCode {
    ExitCode::from(if writeln!(to, "{text}").is_ok() { status } else { 2 })
}

fn verdict(arguments: &Arguments) -> Result<Verdict, String> {
    let history = History::read(&arguments.log)?;
    // The inbox first: what is replayed meanwhile is then found twice, not nowhere.
    let mut all = match &arguments.inbox {
        Some(database) => found::in_inbox(database)?,
        None => Vec::new(),
    };
    if let Some(place) = &arguments.firestore {
        all.extend(found_firestore::in_firestore(place)?);
    }
    all.retain(|one| arguments.topics.contains(&one.topic));
    for topic in &arguments.topics {
        all.extend(in_broker(&arguments.brokers, topic)?);
    }
    Ok(check(&history, &all, Duration::from_millis(arguments.deadline_ms)))
}

fn in_broker(brokers: &str, topic: &str) -> Result<Vec<Found>, String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "the-checker").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
    let metadata = consumer.fetch_metadata(None, kafka_records::ASK).map_err(|error| error.to_string())?;
    // A topic that somebody has deleted holds nothing; what was accepted for it is lost unless it lies elsewhere.
    if !metadata.topics().iter().any(|known| known.name() == topic) {
        return Ok(Vec::new());
    }
    Ok(kafka_records::read_all(&consumer, topic).iter().map(|record| found::of_record(topic, record)).collect())
}
