//! Log lines on standard output, for people or as one JSON object a line.
//!
//! What always holds: one event is one line, whatever a sender wrote into a field (control characters are escaped, long
//! values cut); writing one never waits for standard output and never panics when it is closed.

mod line;
mod output;

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::metrics::labels::LogLevel;
use super::{Config, Format, metrics};
use line::{Fields, Line};
use output::Output;

/// How long the last lines may take to leave the process.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

static STDOUT: OnceLock<Arc<Output>> = OnceLock::new();

/// The logs of this process. Dropping it writes out what is queued.
#[derive(Debug)]
#[must_use = "dropping it ends the wait for the last lines"]
pub struct Logs(Arc<Output>);

impl Logs {
    /// Waits until all lines are written, at most so long; false when they are not.
    pub fn flush(&self, limit: Duration) -> bool {
        self.0.flush(limit)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.flush(FLUSH_LIMIT);
    }
}

/// Sends all log lines of the process to standard output.
pub fn init(config: &Config) -> Result<Logs, String> {
    let filter = EnvFilter::try_new(&config.level).map_err(|fault| format!("telemetry.level: {fault}"))?;
    let output = Arc::clone(STDOUT.get_or_init(|| Output::start(Box::new(std::io::stdout()))));
    let json = config.format.settled() == Format::Json;
    let lines = Lines { json, project: config.project.clone(), output: Arc::clone(&output) };
    // An error means that somebody in this process logs already, a test for example: theirs stays.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    Ok(Logs(output))
}

/// Turns events, with the fields of the spans around them, into lines.
#[derive(Debug)]
struct Lines {
    json: bool,
    project: String,
    output: Arc<Output>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer);
            }
        }
        event.record(&mut fields);
        let severity = severity(event.metadata().level());
        metrics().log_lines.at(severity).inc();
        let line = Line { time: time::OffsetDateTime::now_utc(), severity, target: event.metadata().target(), fields };
        self.output.push(if self.json { line.json(&self.project) } else { line.pretty() });
    }
}

const fn severity(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Info,
        Level::DEBUG | Level::TRACE => LogLevel::Debug,
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field.name(), value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.bare(field.name(), value.to_string()) } else { self.text(field.name(), value.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;
    use output::tests::Shared;
    use serde_json::Value;

    fn logged(json: bool, project: &str, speak: impl FnOnce()) -> String {
        let shared = Shared::default();
        let output = Output::start(Box::new(shared.clone()));
        let lines = Lines { json, project: project.to_owned(), output: Arc::clone(&output) };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), speak);
        assert!(output.flush(Duration::from_secs(10)));
        shared.text()
    }

    #[test]
    fn a_json_line_is_one_flat_object_as_cloud_logging_reads_it() {
        let text = logged(true, "demo", || {
            let span =
                tracing::info_span!("request", trace = "4bf92f3577b34da6a3ce929d0e0e4736", door = "events", late = tracing::field::Empty);
            let _inside = span.enter();
            span.record("late", 7);
            tracing::warn!(rows = 3u64, share = 0.5, ok = true, severity = "mine", "the inbox \"fills\"");
        });
        let line: Value = serde_json::from_str(text.trim_end()).expect("one object");
        assert_eq!(line["severity"], "WARNING");
        assert_eq!(line["message"], "the inbox \"fills\"");
        assert_eq!(line["logging.googleapis.com/trace"], "projects/demo/traces/4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((&line["door"], &line["late"], &line["rows"]), (&"events".into(), &7.into(), &3.into()));
        assert_eq!((&line["share"], &line["ok"], &line["field.severity"]), (&0.5.into(), &true.into(), &"mine".into()));
        assert!(line["target"].as_str().expect("a target").starts_with("sluicegate::telemetry"));
        let time = line["time"].as_str().expect("a time");
        time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339).expect("RFC 3339");
    }

    #[test]
    fn cr_lf_and_terminal_codes_of_a_sender_stay_inside_their_line() {
        let hostile = "a\r\nERROR forged\u{1b}[2J\u{9b}31m\u{7f}\u{2028}\u{202e}b";
        for json in [true, false] {
            let text = logged(json, "", || tracing::info!(topic = hostile, shown = ?hostile, error = %hostile, "said {hostile}"));
            assert_eq!(text.lines().count(), 1, "{text:?}");
            let body = text.trim_end_matches('\n');
            assert!(!body.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}')), "{text:?}");
        }
    }

    #[test]
    fn a_pretty_line_reads_like_a_sentence_with_its_facts() {
        let text =
            logged(false, "", || tracing::info!(name: "x", target: "sluicegate::sink", rows = 3, why = "no broker", "the breaker opened"));
        assert!(text.ends_with(" INFO  sluicegate::sink: the breaker opened rows=3 why=\"no broker\"\n"), "{text:?}");
    }

    #[test]
    fn a_planted_secret_is_in_no_line_and_no_metric() {
        let secret = Secret::new("canary-4f1c");
        for json in [true, false] {
            let text = logged(json, "", || tracing::error!(?secret, config = ?Some(&secret), "refused"));
            assert!(text.contains("***") && !text.contains("canary"), "{text}");
        }
        assert!(!metrics().encode().contains("canary"));
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let text = logged(true, "", || tracing::info!(body = "é".repeat(1 << 20), "long"));
        assert!(text.len() < 2 * line::MAX_VALUE, "{}", text.len());
        serde_json::from_str::<Value>(&text).expect("still an object");
    }
}
