//! What must hold of a log of attempts and of what is found in the end. Each rule is checked with planted bugs.
//!
//! What always holds: nothing here asks the gate; a record that no attempt explains is as bad as a lost one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{Display, Formatter, Result as Written};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log::{Answer, FINAL_CODES, History, Outcome, RETRYABLE_CODES, Story, micros};

/// What one acknowledgement by the broker and its late effects are apart at most.
const SETTLED: u64 = 1_000_000;

/// How many offenders a table names.
const SHOWN: usize = 5;

/// Where an event lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a partition.
    Broker {
        /// Which one.
        partition: i32,
        /// At which offset.
        offset: i64,
    },
    /// In the inbox.
    Inbox,
    /// Set aside.
    Poison,
}

/// An event that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Under which topic.
    pub topic: String,
    /// Where.
    pub place: Place,
    /// The event's name, as it says itself.
    pub id: String,
    /// Its key.
    pub key: Option<String>,
    /// The hash of its value.
    pub sha256: String,
}

/// What a check has found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// Attempts.
    pub attempts: usize,
    /// Accepted ones.
    pub acked: usize,
    /// Those of them that the inbox took.
    pub by_inbox: usize,
    /// Attempts of which nothing is known.
    pub unknown: usize,
    /// Records in the broker.
    pub records: usize,
    /// Events in the inbox and aside.
    pub rows: usize,
    /// Records beyond the first of their event.
    pub duplicates: usize,
    /// Records of the event that has the most.
    pub most_copies: usize,
    /// Times that something was broken, or that the machine stood still.
    pub windows: usize,
    /// Accepted and nowhere.
    pub lost: Vec<String>,
    /// Found and never attempted.
    pub strangers: Vec<String>,
    /// Found although refused for good.
    pub refused_but_found: Vec<String>,
    /// Of a credential that must be refused, and found or accepted.
    pub outsiders: Vec<String>,
    /// Found with another value, topic, key or id.
    pub mismatched: Vec<String>,
    /// Found twice, and nothing was broken meanwhile.
    pub twice: Vec<String>,
    /// Found before one of the same key that was acknowledged earlier.
    pub out_of_order: Vec<String>,
    /// Refused with a code that is not documented.
    pub undocumented: Vec<String>,
    /// Answered after the deadline.
    pub late: Vec<String>,
    /// Not answered, and nothing was broken; or still waiting.
    pub unanswered: Vec<String>,
}

impl Verdict {
    /// Each assertion, and what offends it.
    pub fn rules(&self) -> [(&'static str, &[String]); 10] {
        [
            ("accepted and neither in the broker nor in the inbox nor aside", &self.lost),
            ("found and never attempted", &self.strangers),
            ("found although refused for good", &self.refused_but_found),
            ("of a refused credential, and found or accepted", &self.outsiders),
            ("value, topic, key or id not as sent and acknowledged", &self.mismatched),
            ("found twice although nothing was broken", &self.twice),
            ("out of order within a key", &self.out_of_order),
            ("refused with an undocumented code", &self.undocumented),
            ("answered after the deadline", &self.late),
            ("hung, or unanswered although nothing was broken", &self.unanswered),
        ]
    }

    /// Whether it is as promised.
    pub fn is_clean(&self) -> bool {
        self.rules().iter().all(|(_, offenders)| offenders.is_empty())
    }

    /// Fails the test unless it is as promised, and shows the first offenders.
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "the ledger does not agree: {self}\n{}", self.table());
    }

    /// One line for each assertion: what is required, what was seen, and the first offenders.
    pub fn table(&self) -> String {
        let mut lines = vec![format!("{:<64} {:>8} {:>8}", "assertion", "required", "seen")];
        for (rule, offenders) in self.rules() {
            lines.push(format!("{rule:<64} {:>8} {:>8}", 0, offenders.len()));
            lines.extend(offenders.iter().take(SHOWN).map(|offender| format!("    {offender}")));
        }
        lines.join("\n")
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        let Self { attempts, acked, by_inbox, unknown, records, rows, duplicates, most_copies, windows, .. } = self;
        write!(
            f,
            "{attempts} attempts, {acked} accepted ({by_inbox} by the inbox), {unknown} unknown, {windows} windows; {records} records, {rows} rows, {duplicates} duplicates, at most {most_copies} of one; lost {}",
            self.lost.len()
        )
    }
}

/// Holds what is found against what was attempted.
pub fn check(history: &History, found: &[Found], deadline: Duration) -> Verdict {
    let mut verdict = Verdict { attempts: history.stories.len(), windows: history.windows.len(), ..Verdict::default() };
    let ids: HashMap<&str, &str> = history
        .stories
        .iter()
        .filter_map(|(name, story)| Some((acked_id(story)?, name.as_str())))
        .filter(|(id, _)| !id.is_empty())
        .collect();
    let mut lying: HashMap<&str, Vec<&Found>> = HashMap::new();
    for one in found {
        match (history.stories.get(&one.sha256), ids.get(one.id.as_str())) {
            (Some(story), _) => {
                compare(one, story, &mut verdict);
                lying.entry(&one.sha256).or_default().push(one);
            }
            (None, Some(name)) => verdict.mismatched.push(format!("{one:?} does not have the value {name} that was sent")),
            (None, None) => verdict.strangers.push(format!("{one:?}")),
        }
        verdict.records += usize::from(matches!(one.place, Place::Broker { .. }));
    }
    verdict.rows = found.len() - verdict.records;
    let mut shared = HashSet::new();
    for (name, story) in &history.stories {
        let here = lying.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        answered(story, deadline, history, &mut verdict);
        if let Some(id) = acked_id(story) {
            verdict.acked += 1;
            verdict.by_inbox += usize::from(is_by_inbox(story));
            if !id.is_empty() && !shared.insert(id) {
                verdict.mismatched.push(format!("more than one accepted event has the id {id}"));
            }
            if here.is_empty() {
                verdict.lost.push(format!("{id}: {name} {:?}", story.attempt));
            }
        }
        copies(name, story, here, history, &mut verdict);
    }
    in_order(history, &lying, &mut verdict);
    verdict
}

/// The id under which an event was accepted; empty where its door says none.
fn acked_id(story: &Story) -> Option<&str> {
    match &story.answer.as_ref()?.outcome {
        Outcome::Ack { id, .. } => Some(id),
        Outcome::Reject { .. } | Outcome::Unknown { .. } => None,
    }
}

fn is_by_inbox(story: &Story) -> bool {
    matches!(&story.answer, Some(Answer { outcome: Outcome::Ack { inbox: true, .. }, .. }))
}

/// Whether what is found is what its attempt said, and may be there.
fn compare(found: &Found, story: &Story, verdict: &mut Verdict) {
    let attempt = &story.attempt;
    if (&found.topic, &found.key) != (&attempt.topic, &attempt.key) {
        verdict.mismatched.push(format!("{found:?} is not {attempt:?}"));
    }
    if let Some(own) = &attempt.id
        && found.id.split_once('.').map(|(_, own)| own) != Some(own)
    {
        verdict.mismatched.push(format!("{found:?} does not have its sender's id {own}"));
    }
    if attempt.principal.is_none() {
        verdict.outsiders.push(format!("{found:?}"));
    }
    match story.answer.as_ref().map(|answer| &answer.outcome) {
        Some(Outcome::Ack { id, .. }) if !id.is_empty() && *id != found.id => {
            verdict.mismatched.push(format!("{found:?} was acknowledged as {id}"))
        }
        Some(outcome @ Outcome::Reject { code }) if outcome.is_final() => verdict.refused_but_found.push(format!("{code}: {found:?}")),
        _ => {}
    }
}

/// A Kafka producer tries again by itself what was refused for now: its answer is the last of several.
const PRODUCER_WAITS: Duration = Duration::from_secs(45);

/// Whether an attempt was answered in time, in words that are documented.
fn answered(story: &Story, deadline: Duration, history: &History, verdict: &mut Verdict) {
    let Some(Answer { at, stalled, outcome }) = &story.answer else {
        verdict.unknown += 1;
        return verdict.unanswered.push(format!("still waits: {:?}", story.attempt));
    };
    let took = (at - story.sent).saturating_sub(*stalled);
    let deadline = if story.attempt.door == "kafka" { deadline.max(PRODUCER_WAITS) } else { deadline };
    if took > micros(deadline) {
        verdict.late.push(format!("after {} ms: {outcome:?} {:?}", took / 1_000, story.attempt));
    }
    match outcome {
        Outcome::Ack { id, .. } if story.attempt.principal.is_none() => verdict.outsiders.push(format!("{id} was accepted")),
        Outcome::Ack { .. } => {}
        Outcome::Reject { code } if FINAL_CODES.contains(&code.as_str()) || RETRYABLE_CODES.contains(&code.as_str()) => {}
        Outcome::Reject { code } => verdict.undocumented.push(format!("{code}: {:?}", story.attempt)),
        Outcome::Unknown { why } => {
            verdict.unknown += 1;
            if !is_broken(history, story.sent, *at) {
                verdict.unanswered.push(format!("{why}: {:?}", story.attempt));
            }
        }
    }
}

/// Counts an event's copies in the broker. They are explained when something was broken while it was on its way: until its
/// answer and a little more, and where the inbox may have it, until that was empty.
fn copies(name: &str, story: &Story, here: &[&Found], history: &History, verdict: &mut Verdict) {
    let copies = here.iter().filter(|found| matches!(found.place, Place::Broker { .. })).count();
    verdict.most_copies = verdict.most_copies.max(copies);
    if copies < 2 {
        return;
    }
    verdict.duplicates += copies - 1;
    let answered = story.answer.as_ref().map_or(u64::MAX, |answer| answer.at);
    let arrived = if acked_id(story).is_some() && !is_by_inbox(story) {
        answered.saturating_add(SETTLED)
    } else {
        history.replayed.iter().copied().find(|at| *at > answered).unwrap_or(u64::MAX)
    };
    if !is_broken(history, story.sent, arrived) {
        verdict.twice.push(format!("{copies} times: {} {name} {:?}", here[0].id, story.attempt));
    }
}

/// Whether something was broken in that time.
fn is_broken(history: &History, from: u64, to: u64) -> bool {
    history.windows.iter().any(|(broken, healed)| *broken <= to && *healed >= from)
}

/// The numbers of a key's events, each with its partition and offset.
type Lane = Vec<(u64, (i32, i64))>;

/// The first copies of what one sender had acknowledged lie in one partition, in the order of its numbers. This holds
/// under faults too, which is more than is asked.
fn in_order(history: &History, lying: &HashMap<&str, Vec<&Found>>, verdict: &mut Verdict) {
    let mut lanes: BTreeMap<(&str, &str), Lane> = BTreeMap::new();
    for (name, story) in &history.stories {
        let places = lying.get(name.as_str()).into_iter().flatten().filter_map(|found| match found.place {
            Place::Broker { partition, offset } => Some((partition, offset)),
            Place::Inbox | Place::Poison => None,
        });
        let attempt = &story.attempt;
        if let (Some(sequence), Some(key), Some(_), Some(first)) = (attempt.sequence, &attempt.key, acked_id(story), places.min()) {
            lanes.entry((&attempt.topic, key)).or_default().push((sequence, first));
        }
    }
    for ((topic, key), mut lane) in lanes {
        lane.sort_unstable();
        for pair in lane.windows(2) {
            let [(before, (partition, offset)), (after, (other, next))] = pair else { continue };
            if partition != other || offset >= next {
                verdict.out_of_order.push(format!("{topic} {key}: {before} at {partition}/{offset}, {after} at {other}/{next}"));
            }
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
