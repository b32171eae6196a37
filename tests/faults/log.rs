//! The log of attempts: what was about to be sent, what was said of it, and when something was broken on purpose.
//!
//! What always holds: lines of JSON, only ever appended; an attempt is in the file before it is sent, its outcome after
//! the answer was read; every value is unlike every other, so that its hash names the attempt. Times are microseconds
//! since the log began, by a clock that nobody sets.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One event, as it was about to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// At which door.
    pub door: String,
    /// As whom; none: with a credential that must be refused.
    pub principal: Option<String>,
    /// Where to.
    pub topic: String,
    /// With which key.
    pub key: Option<String>,
    /// Which id the sender gave it, if any.
    pub id: Option<String>,
    /// Its number among those of its key, where one sender alone uses the key and waits for each answer.
    pub sequence: Option<u64>,
}

/// What was said of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// Accepted, under this id.
    Ack {
        /// The event's name.
        id: String,
        /// Whether the inbox has it, or the broker.
        inbox: bool,
    },
    /// Refused.
    Reject {
        /// Why.
        code: String,
    },
    /// The connection ended without an answer.
    Unknown {
        /// What the client saw.
        why: String,
    },
}

impl Outcome {
    /// Whether the same will never be accepted: then it must not be there either.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Reject { code } if FINAL_CODES.contains(&code.as_str()))
    }
}

/// Refusals for good, and those after which the same may be accepted, as the doors document them.
pub const FINAL_CODES: [&str; 5] = ["unauthenticated", "denied", "malformed", "invalid", "too_large"];
/// See `FINAL_CODES`.
pub const RETRYABLE_CODES: [&str; 3] = ["throttled", "overloaded", "unavailable"];

/// One line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// About to be sent.
    Attempt {
        /// The hash of the value, in hex.
        sha256: String,
        /// When.
        at: u64,
        /// What.
        #[serde(flatten)]
        attempt: Attempt,
    },
    /// An answer, or its absence.
    Outcome {
        /// Of the attempt with this value.
        sha256: String,
        /// When it was read.
        at: u64,
        /// How long the machine stood still meanwhile, which is nobody's fault.
        stalled: u64,
        /// What it says.
        outcome: Outcome,
    },
    /// Something is about to be broken.
    Broken {
        /// What.
        fault: String,
        /// When.
        at: u64,
    },
    /// It is well again.
    Healed {
        /// What.
        fault: String,
        /// When.
        at: u64,
    },
    /// Nothing waits in the inbox.
    Replayed {
        /// When this was seen.
        at: u64,
    },
}

/// The hash of a value, in hex.
pub fn sha256(value: &[u8]) -> String {
    hex::encode(Sha256::digest(value))
}

/// The log, while it is written.
#[derive(Debug)]
pub struct Log {
    file: File,
    began: Instant,
}

impl Log {
    /// A new one.
    pub fn create(path: &Path) -> Self {
        Self { file: File::options().append(true).create_new(true).open(path).expect("a file of ours"), began: Instant::now() }
    }

    /// The time of its lines.
    pub fn now(&self) -> u64 {
        micros(self.began.elapsed())
    }

    /// Writes a line: one write, so that a line is there whole or not at all.
    pub fn write(&self, line: &Line) {
        let mut text = serde_json::to_vec(line).expect("text and numbers are always JSON");
        text.push(b'\n');
        (&self.file).write_all(&text).expect("a file of ours");
    }
}

/// A length of time as the log has it.
pub fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// An attempt and what became of it.
#[derive(Debug, Clone)]
pub struct Story {
    /// What was sent.
    pub attempt: Attempt,
    /// When.
    pub sent: u64,
    /// What was said of it; none: nothing was written down, the sender still waits.
    pub answer: Option<Answer>,
}

/// What was said of an attempt, and when.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When it was read.
    pub at: u64,
    /// How long the machine stood still meanwhile.
    pub stalled: u64,
    /// What it says.
    pub outcome: Outcome,
}

/// A log that was read.
#[derive(Debug, Default, Clone)]
pub struct History {
    /// The attempts, by the hashes of their values.
    pub stories: HashMap<String, Story>,
    /// From when to when something was broken.
    pub windows: Vec<(u64, u64)>,
    /// When the inbox was seen empty, in order.
    pub replayed: Vec<u64>,
    /// What is broken and not well again, since when.
    broken: HashMap<String, u64>,
}

impl History {
    /// Reads a log. An error names the line that makes no sense.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut history = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|error| error.to_string());
            line.and_then(|line| history.add(line)).map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?;
        }
        history.windows.extend(std::mem::take(&mut history.broken).into_values().map(|since| (since, u64::MAX)));
        Ok(history)
    }

    /// Takes one line more.
    pub fn add(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Attempt { sha256, at, attempt } => {
                let story = Story { attempt, sent: at, answer: None };
                if self.stories.insert(sha256, story).is_some() {
                    return Err("two attempts have one value".to_owned());
                }
            }
            Line::Outcome { sha256, at, stalled, outcome } => {
                let story = self.stories.get_mut(&sha256).ok_or("an outcome without an attempt")?;
                story.answer = Some(Answer { at, stalled, outcome });
            }
            Line::Broken { fault, at } => {
                self.broken.entry(fault).or_insert(at);
            }
            Line::Healed { fault, at } => self.windows.push((self.broken.remove(&fault).ok_or("healed and never broken")?, at)),
            Line::Replayed { at } => self.replayed.push(at),
        }
        Ok(())
    }
}
