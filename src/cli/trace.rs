//! `sluicegate trace`: where an event is now.
//!
//! What always holds: nothing here prints; nothing is changed, in the inbox or at the broker; a value is shown only where it
//! is asked for; what senders wrote is told so that a terminal has nothing to obey ([`escaped`]). The inbox is looked at before the broker, because that is the way that events go.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Failure, escaped, wiring};
use crate::app::journal_dir;
use crate::config::Loaded;
use crate::event::{BadTopic, Topic};
use crate::inbox::offline::Shown;
use crate::journal::{self, Entry};
use crate::sink::find::{Copy, Ended, Findings, Progress, Read, Search};
use crate::units::{ByteSize, Span};

/// The partitions that a line of progress names.
const TOLD_PARTITIONS: usize = 4;

pub(super) const HELP: &str = "\
Looks into the inbox and among what was set aside first, beside a running gate too, then among the records of the topics. The \
ID is the `id` of the answer, or the key that the client chose (Idempotency-Key, or `id` in the event): several senders may \
have chosen the same one, and each place says whose it is.

The search goes back from now by the records' own time: an hour, or as far as the time in an ID that the gate has made. An \
event with a `time` of its sender's, or one that has waited in the inbox, has an older time than its neighbours: say --since.

Refused events that their sender had named are in the journal of outcomes (`journal.dir`; beside the disk inbox), with the \
reason. Not found is no proof: the event may be older than --since, or gone by the topic's retention; an event that its sender \
has not named gets its id only when it is taken. A Kafka producer's batch has no id of ours, because not one byte of it is \
changed; while it waits in the inbox `sluicegate inbox list` names it and `sluicegate inbox show NAME` has its records.

It reads as a consumer without joining a group, and commits nothing. The user towards the broker needs Read on the topics.

Examples:
  sluicegate trace 01M889KZ3Q4V5W6X7Y8Z9A0B1C              by the id of the answer
  sluicegate trace order-17                                by the client's key
  sluicegate trace order-17 --since 2d --topic orders      further back, in one topic
  sluicegate trace order-17 --all-copies                   is it there twice?
  sluicegate trace order-17 --json | jq -r '.topic, .partition, .offset'

Exit status: 0 found, 1 not found, 2 mistakes in the configuration, 3 the broker does not answer (what the inbox says is \
printed all the same), 64 arguments not understood.";

#[derive(Args)]
pub(super) struct TraceArgs {
    /// The event's id, or its idempotency key
    id: String,
    /// How far back in the topics, by the records' time. Without it: 1h, or as far as the time in the id
    #[arg(long, value_name = "SPAN")]
    since: Option<Span>,
    /// Only in this topic. Without it: in all topics of the routes
    #[arg(long, value_parser = topic)]
    topic: Option<Topic>,
    /// Go on behind the first place, and count the copies at the broker
    #[arg(long)]
    pub(super) all_copies: bool,
    /// Read at most so much of the topics
    #[arg(long, value_name = "SIZE", default_value = "1 GiB")]
    max_bytes: ByteSize,
    /// Show the value too
    #[arg(long)]
    value: bool,
    /// One JSON object a line, for each place
    #[arg(long)]
    pub(super) json: bool,
}

fn topic(text: &str) -> Result<Topic, BadTopic> {
    Topic::new(text)
}

/// A place that the event is in: for a program, and for a person.
pub(super) struct Place {
    json: Value,
    text: String,
}

impl Place {
    pub(super) fn told(&self, json: bool) -> String {
        if json { escaped::json(&self.json.to_string()) } else { self.text.clone() }
    }
}

/// Where it is in the inbox. An error: why that cannot be said.
pub(super) fn inbox(loaded: &Loaded, args: &TraceArgs) -> Result<Vec<Place>, String> {
    let rows = wiring::inbox_trace(loaded, &args.id, args.topic.as_ref())?;
    Ok(rows.iter().map(|row| of_row(row, args.value)).collect())
}

/// When it was refused, and why. An error: why that cannot be said.
pub(super) fn refused(loaded: &Loaded, args: &TraceArgs) -> Result<Vec<Place>, String> {
    let Some(dir) = journal_dir(&loaded.config) else { return Ok(Vec::new()) };
    let found = journal::find(dir, &args.id, args.topic.as_ref());
    let found = found.map_err(|error| format!("the journal of outcomes in `{}` cannot be read: {error}", dir.display()))?;
    Ok(found.iter().map(of_refusal).collect())
}

/// Where it is in the topics, and how the search ended.
pub(super) fn broker(
    loaded: &Loaded,
    args: &TraceArgs,
    mut tell: impl FnMut(String) + Send + 'static,
) -> Result<(Vec<Place>, Findings), Failure> {
    if loaded.config.sink.brokers.is_empty() {
        let text = "no broker is configured, so only the inbox was looked at: set REDPANDA_BROKERS or sink.brokers";
        return Err(Failure::Refused(text.into()));
    }
    let search = Search {
        wanted: args.id.clone(),
        topic: args.topic.clone(),
        since: args.since,
        max_bytes: args.max_bytes,
        all_copies: args.all_copies,
        values: args.value,
    };
    let findings = wiring::find(loaded, &search, move |progress| tell(line(progress))).map_err(Failure::Refused)?;
    Ok((findings.copies.iter().map(of_copy).collect(), findings))
}

/// What is to be said at the end, and whether it was found. `before`: in how many places of the inbox; none: nobody looked there.
pub(super) fn verdict(args: &TraceArgs, before: Option<usize>, findings: &Findings) -> Result<String, Failure> {
    let (copies, Read { records, bytes }) = (findings.copies.len(), findings.read);
    let short = match &findings.ended {
        Ended::Unreachable(why) => return Err(Failure::Unreachable(why.clone())),
        Ended::Bound => format!("; not all was looked at, because --max-bytes {} was reached", args.max_bytes),
        Ended::Stopped => "; not all was looked at, because it was stopped".to_owned(),
        Ended::Found | Ended::Through => String::new(),
    };
    let topics = if findings.topics.is_empty() { "no topic".to_owned() } else { findings.topics.join(", ") };
    let since = when(i64::try_from(findings.since_ms).unwrap_or(i64::MAX));
    let looked = format!("in {records} records ({}) of {topics} since {since}{short}", size(bytes));
    match (copies, before) {
        (0, Some(0)) => Err(Failure::Failed(format!("`{}` was not found in the inbox, and not {looked}", args.id))),
        (0, None) => Err(Failure::Failed(format!("`{}` was not found {looked}", args.id))),
        (1, _) => Ok(format!("1 copy {looked}")),
        _ => Ok(format!("{copies} copies {looked}")),
    }
}

fn of_row(row: &Shown, value: bool) -> Place {
    let Shown { entry, principal, record, records, .. } = row;
    let aside = entry.state == "poison";
    let mut json = json!({ "where": if aside { "set_aside" } else { "inbox" }, "principal": principal });
    merge(&mut json, entry);
    let shown = record.as_ref().and_then(|record| record.value.as_ref()).filter(|_| value);
    if let Some(shown) = shown {
        json["value"] = shown.as_str().into();
    }
    let at = when(entry.at_ms);
    let mut text = match &entry.reason {
        Some(reason) => format!("set aside: {} of {principal}, topic {}, stored {at}, because of `{reason}`", entry.id, entry.topic),
        None => format!("in the inbox: {} of {principal}, topic {}, since {at}, {}", entry.id, entry.topic, entry.state),
    };
    write!(text, ", refused {}, as {}", times(entry.attempts), entry.name).expect("a string grows");
    if !records.is_empty() {
        write!(text, ", a Kafka producer's batch of {} records", records.len()).expect("a string grows");
    }
    if entry.maybe && !aside {
        text += "; it may be in the broker too: --all-copies looks";
    }
    Place { json, text: told(&text, shown) }
}

fn of_refusal(entry: &Entry) -> Place {
    let mut json = json!({ "where": "refused" });
    merge(&mut json, entry);
    let Entry { at_ms, door, principal, topic, id, code, field } = entry;
    let at = when(i64::try_from(*at_ms).unwrap_or(i64::MAX));
    let field = field.as_ref().map(|field| format!(" at `{field}`")).unwrap_or_default();
    let text = format!("refused: {id} of {principal}, topic {topic}, {at}, by the door {door}, because of `{code}`{field}");
    Place { json, text: told(&text, None) }
}

fn of_copy(copy: &Copy) -> Place {
    let mut json = json!({ "where": "broker" });
    merge(&mut json, copy);
    let Copy { id, topic, partition, offset, .. } = copy;
    let mut text = format!("in the broker: {id}");
    let mut say = |word: &str, what: Option<&str>| {
        if let Some(what) = what {
            write!(text, "{word}{what}").expect("a string grows");
        }
    };
    say(" of ", copy.principal.as_deref());
    say("", Some(&format!(", topic {topic}, partition {partition}, offset {offset}")));
    say(", time ", copy.timestamp_ms.map(when).as_deref());
    say(", by the door ", copy.source.as_deref());
    say(", fragment ", copy.fragment.as_deref());
    Place { json, text: told(&text, copy.value.as_ref()) }
}

fn merge(json: &mut Value, more: &impl Serialize) {
    let more = serde_json::to_value(more).expect("texts and numbers are always JSON");
    if let (Value::Object(json), Value::Object(more)) = (json, more) {
        json.extend(more);
    }
}

/// One line, and below it the value.
fn told(line: &str, value: Option<&String>) -> String {
    let line = escaped::word(line);
    value.map_or_else(|| line.clone(), |value| format!("{line}\n{}", escaped::value(value)))
}

fn times(n: u32) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

fn when(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{ms} ms"))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// What a person who waits sees.
fn line(progress: &Progress<'_>) -> String {
    let Progress { read, topic, left } = progress;
    let named: Vec<String> = left.iter().take(TOLD_PARTITIONS).map(|(partition, records)| format!("{partition}: {records}")).collect();
    let more = left.len().saturating_sub(TOLD_PARTITIONS);
    let more = if more > 0 { format!(", and {more} more partitions") } else { String::new() };
    format!("{} records, {} read; {topic}, left by partition: {}{more}", read.records, size(read.bytes), named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::offline::{Entry as Inboxed, ShownRecord};

    fn copy() -> Copy {
        Copy {
            id: "0123456789ab.order-17".into(),
            topic: "orders".into(),
            partition: 2,
            offset: 41,
            timestamp_ms: Some(1_800_000_000_000),
            principal: Some("users:alice".into()),
            source: Some("otlp".into()),
            fragment: Some("ab/0/2".into()),
            value: None,
        }
    }

    #[test]
    fn a_place_is_told_to_people_and_to_programs() {
        let place = of_copy(&copy());
        let text = "in the broker: 0123456789ab.order-17 of users:alice, topic orders, partition 2, offset 41, time 2027-01-15T08:00:00Z, by the door otlp, fragment ab/0/2";
        assert_eq!(place.told(false), text);
        assert_eq!(
            (&place.json["where"], &place.json["offset"], &place.json["fragment"]),
            (&json!("broker"), &json!(41), &json!("ab/0/2"))
        );
        let bare = of_copy(&Copy { principal: None, source: None, fragment: None, value: Some("{}".into()), ..copy() });
        assert_eq!(bare.told(false).lines().nth(1), Some("  {}"));
        assert!(bare.json.get("fragment").is_none() && bare.json["value"] == "{}");
    }

    #[test]
    fn what_a_sender_wrote_is_told_without_what_a_terminal_obeys() {
        let hostile = "\u{1b}]0;x\u{7}\u{9b}2J\r\nin the broker: forged\u{202e}".to_owned();
        let some = || Some(hostile.clone());
        let copy = Copy { id: hostile.clone(), principal: some(), source: some(), fragment: some(), value: some(), ..copy() };
        let refused = Entry {
            at_ms: 0,
            door: hostile.clone(),
            principal: hostile.clone(),
            topic: hostile.clone(),
            id: hostile.clone(),
            code: hostile.clone(),
            field: some(),
        };
        let row = Shown {
            entry: Inboxed {
                name: hostile.clone(),
                id: hostile.clone(),
                topic: hostile.clone(),
                partition: 0,
                at_ms: 0,
                state: "poison",
                maybe: false,
                attempts: 1,
                reason: some(),
                bytes: Some(1),
            },
            principal: hostile.clone(),
            record: Some(ShownRecord { timestamp_ms: 0, key: None, headers: Vec::new(), value: some() }),
            records: Vec::new(),
            unreadable: None,
        };
        for place in [of_copy(&copy), of_refusal(&refused), of_row(&row, true)] {
            for text in [place.told(false), place.told(true)] {
                assert!(!text.contains(|c: char| c != '\n' && c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
            }
            assert!(place.told(false).lines().skip(1).all(|line| line.starts_with("  ")), "a line of a value is none of ours");
            assert_eq!(serde_json::from_str::<Value>(&place.told(true)).expect("JSON"), place.json);
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let entry = Entry {
            at_ms: 1_800_000_000_000,
            door: "events".into(),
            principal: "users:alice".into(),
            topic: "orders".into(),
            id: "0123456789ab.order-17".into(),
            code: "invalid".into(),
            field: Some("data.action".into()),
        };
        let text = "refused: 0123456789ab.order-17 of users:alice, topic orders, 2027-01-15T08:00:00Z, by the door events, because of `invalid` at `data.action`";
        assert_eq!(of_refusal(&entry).told(false), text);
        assert_eq!(of_refusal(&entry).json["where"], "refused");
    }

    #[test]
    fn progress_names_a_few_partitions_and_counts_the_others() {
        let left = (0..6).map(|partition| (partition, 10)).collect();
        let progress = Progress { read: Read { records: 7, bytes: 5 << 20 }, topic: "t", left };
        assert_eq!(line(&progress), "7 records, 5 MiB read; t, left by partition: 0: 10, 1: 10, 2: 10, 3: 10, and 2 more partitions");
    }
}
