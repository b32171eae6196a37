//! One log line: its fields, and how they are written for people and for machines.
//!
//! Everything that is not a literal of the program goes through [`escape`].

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::telemetry::metrics::labels::LogLevel;

/// The bytes of one value that are kept; what is longer is cut.
pub(super) const MAX_VALUE: usize = 8 * 1024;

const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// The keys that are ours in a JSON line; a field of the same name is renamed.
const RESERVED: [&str; 4] = ["severity", "message", "time", "target"];

/// The fields of an event or of a span, in order, each once; a later value replaces an earlier one.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    /// A number or a truth value, as JSON writes it.
    Bare(String),
}

impl Fields {
    pub(super) fn text(&mut self, name: &'static str, mut text: String) {
        if text.len() > MAX_VALUE {
            text.truncate((0..=MAX_VALUE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
            text.push('…');
        }
        self.put(name, Value::Text(text));
    }

    pub(super) fn bare(&mut self, name: &'static str, text: String) {
        self.put(name, Value::Bare(text));
    }

    pub(super) fn extend(&mut self, outer: &Self) {
        for (name, value) in &outer.0 {
            self.put(name, value.clone());
        }
    }

    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn found(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, Value::Text(text) | Value::Bare(text))| text.as_str())
    }

    /// All but the message and what the `log` crate's bridge adds about places in the code.
    fn facts(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.0.iter().filter(|(name, _)| *name != "message" && !name.starts_with("log."))
    }
}

/// An event on its way out.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) time: OffsetDateTime,
    pub(super) severity: LogLevel,
    pub(super) target: &'a str,
    pub(super) fields: Fields,
}

impl Line<'_> {
    /// For people: time, severity, target, message, facts.
    pub(super) fn pretty(&self) -> String {
        let severity = match self.severity {
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO ",
            LogLevel::Warning => "WARN ",
            LogLevel::Error => "ERROR",
        };
        let mut line = format!("{} {severity} ", self.timestamp());
        escape(&mut line, self.target(), false);
        line += ": ";
        escape(&mut line, self.fields.found("message").unwrap_or_default(), false);
        for (name, value) in self.fields.facts() {
            let _ = write!(line, " {name}=");
            write_value(&mut line, value);
        }
        line.push('\n');
        line
    }

    /// For machines: one flat object with the keys that Cloud Logging knows.
    pub(super) fn json(&self, project: &str) -> String {
        let severity = match self.severity {
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warning => "WARNING",
            LogLevel::Error => "ERROR",
        };
        let mut line = format!("{{\"severity\":\"{severity}\",\"time\":\"{}\",\"message\":\"", self.timestamp());
        escape(&mut line, self.fields.found("message").unwrap_or_default(), true);
        line += "\",\"target\":\"";
        escape(&mut line, self.target(), true);
        line.push('"');
        if let Some(trace) = self.fields.found("trace") {
            let place = if project.is_empty() { String::new() } else { format!("projects/{project}/traces/") };
            line += ",\"logging.googleapis.com/trace\":\"";
            escape(&mut line, &format!("{place}{trace}"), true);
            line.push('"');
        }
        for (name, value) in self.fields.facts() {
            let prefix = if RESERVED.contains(name) { "field." } else { "" };
            let _ = write!(line, ",\"{prefix}{name}\":");
            write_value(&mut line, value);
        }
        line += "}\n";
        line
    }

    fn timestamp(&self) -> String {
        self.time.format(TIME).unwrap_or_default()
    }

    /// Libraries that log through the `log` crate keep their own target in a field.
    fn target(&self) -> &str {
        self.fields.found("log.target").unwrap_or(self.target)
    }
}

fn write_value(line: &mut String, value: &Value) {
    match value {
        Value::Bare(text) => line.push_str(text),
        Value::Text(text) => {
            line.push('"');
            escape(line, text, true);
            line.push('"');
        }
    }
}

/// Writes text so that it stays in its line and in its terminal: control characters, line separators and marks that turn
/// the direction of writing become `\uXXXX`; within quotes, quotes and backslashes are escaped as in JSON.
fn escape(line: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '"' | '\\' if quoted => line.extend(['\\', c]),
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
}
