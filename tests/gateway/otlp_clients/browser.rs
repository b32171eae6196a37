//! The SDK in a page of a Chromium: JSON by `fetch`, from another origin than the gate's, with a token in the header.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;

use crate::support::gate::Gate;
use crate::support::kafka::Kafka;
use crate::support::kafka_clients::last_word;
use crate::support::otlp_clients::{installed, program};
use crate::support::process::Process;
use crate::support::telemetry::Telemetry;
use crate::support::{START_DEADLINE, free_port, not_run};

use super::stage::{Stage, make_topics, setup, token};

const RUN: &str = "page";

/// The largest body that the strict gate takes.
const LARGEST: usize = 64 << 10;

/// What the page's driver says at the end.
#[derive(Debug, Deserialize)]
struct Seen {
    /// What the SDK complained of.
    errors: Vec<String>,
    /// The URLs that the browser asked about before it sent something there, in order.
    preflights: Vec<String>,
    /// What the page could see of answers.
    #[serde(default)]
    answers: BTreeMap<String, Seeable>,
}

/// An answer, as a page is shown it: status 0 when it is shown nothing.
#[derive(Debug, Deserialize)]
struct Seeable {
    status: u16,
    retry_after: Option<String>,
    content_type: Option<String>,
    text: String,
}

/// Has a page on this port do something at a URL.
async fn page(task: &str, port: u16, base: &str, token: &str) -> Seen {
    let mut command = program("browser.mjs");
    command.env("CLIENT_TASK", task).env("CLIENT_RUN", RUN).env("CLIENT_PORT", port.to_string()).env("CLIENT_TOKEN", token);
    command.env("CLIENT_PAGE", installed().join("page.js")).env("CLIENT_BODY_BYTES", LARGEST.to_string());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", base).envs(std::env::var_os("HOME").map(|home| ("HOME", home)));
    last_word(&mut Process::spawn("the page", &mut command), START_DEADLINE).await
}

fn origin(port: u16) -> String {
    format!("http://localhost:{port}")
}

/// Whether this machine has a browser; else says that `tests` were not run.
fn has_browser(tests: usize) -> bool {
    let found = ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| Command::new(name).arg("--version").output().is_ok());
    if !found {
        not_run(tests, "no Chromium");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_sends_what_it_sends_to_a_collector() {
    if !has_browser(1) {
        return;
    }
    let port = free_port();
    let stage = Stage::with(|setup| setup.env("CORS_ALLOWED_ORIGINS", &origin(port))).await;
    let Some(gate) = &stage.gate else { return not_run(1, "a Collector has no token") };
    assert_eq!(page("everything", port, &stage.direct.http(), "anybody").await.errors, Vec::<String>::new());
    let direct = Telemetry::of(&stage.direct.received(), RUN);
    assert!(direct.count("span") > 50 && direct.count("log") > 10 && direct.count("exponentialHistogram") > 0, "{}", direct.len());

    let seen = page("everything", port, &gate.url(""), &token(gate, "a-page").await).await;
    assert_eq!(seen.errors, Vec::<String>::new());
    assert_eq!(seen.preflights.len(), 3, "one for each signal: {:?}", seen.preflights);
    assert_eq!(direct.differences(&stage.behind.telemetry(RUN, direct.len()).await), Vec::<String>::new());
}

/// A gate that takes little, and with a broker down and no inbox nothing at all.
async fn strict(origin: &str) -> (Gate, Kafka) {
    let kafka = Kafka::start().await;
    make_topics(&kafka).await;
    let setup = setup(&kafka).shipped().env("CORS_ALLOWED_ORIGINS", origin).env("SLUICEGATE__INBOX__KIND", "none");
    let largest = LARGEST.to_string();
    let setup = setup.env("SLUICEGATE__OTLP__MAX_BODY_BYTES", &largest).env("SLUICEGATE__OTLP__MAX_DECODED_BODY_BYTES", &largest);
    (setup.start().await, kafka)
}

/// Guarantees: a page of an allowed origin is shown every answer, refusals too: status, body, and when to come again; what
/// the browser asks before is asked once for each URL. A page of another origin is shown nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_can_read_why_it_was_refused() {
    if !has_browser(1) {
        return;
    }
    let (port, other) = (free_port(), free_port());
    let (gate, mut kafka) = strict(&origin(port)).await;
    let token = token(&gate, "a-page").await;
    let seen = page("ask", port, &gate.url(""), &token).await;
    let answer = |name: &str| &seen.answers[name];
    for (name, status) in [("taken", 200), ("nobody", 401), ("broken", 400), ("strange", 415), ("large", 413), ("spans", 200)] {
        assert_eq!(answer(name).status, status, "{name}: {:?}", answer(name));
    }
    assert_eq!(answer("taken").text, "{}");
    for name in ["nobody", "broken", "large"] {
        let status: serde_json::Value =
            serde_json::from_str(&answer(name).text).unwrap_or_else(|error| panic!("{name}: {error}: {:?}", answer(name)));
        assert!(status["message"].as_str().is_some_and(|message| !message.is_empty()), "{name}: {status}");
        assert_eq!(answer(name).content_type.as_deref(), Some("application/json"), "{name}");
    }
    let mut asked = seen.preflights.clone();
    asked.sort();
    asked.dedup();
    assert_eq!((asked.len(), seen.preflights.len()), (3, 3), "{:?}", seen.preflights);

    kafka.kill_9();
    let seen = page("ask", port, &gate.url(""), &token).await;
    assert_eq!(
        (seen.answers["spans"].status, seen.answers["spans"].retry_after.as_deref().map(|wait| ["1", "2"].contains(&wait))),
        (503, Some(true)),
        "{:?}",
        seen.answers["spans"]
    );

    let strangers = page("ask", other, &gate.url(""), &token).await;
    assert!(strangers.answers.values().all(|answer| answer.status == 0), "{:?}", strangers.answers);
}
