//! The journal of outcomes: which events were refused, of those that their senders have named, and why.
//!
//! What is accepted is in the broker or in the inbox, and found there. What is refused is nowhere: its answer may be lost, or be
//! in a log that its operator cannot read. So `sluicegate trace` looks here too.
//!
//! What always holds: an answer never waits for the journal; it is bounded, in bytes and in lines a second, and what did not
//! fit is counted; there is no payload in it and no credential. It is a help for people, not a promise: it is not synced.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Topic, is_called};
use crate::receipt::Refusal;
use crate::telemetry::metrics;
use crate::units::ByteSize;

/// The journal, and what it was before it had grown to half of its bytes.
const NAMES: [&str; 2] = ["outcomes.old.jsonl", "outcomes.jsonl"];

/// Lines that may wait for the disk.
const WAITING: usize = 1_024;

/// Lines a second, in all and of one principal: one's refusals must not push everybody else's out of the journal.
const LINES: Share = Share { all: 200, of_one: 10 };

/// The same of what costs nothing to cause, so that many principals together cannot do it either.
const CHEAP: [&str; 2] = ["denied", "throttled"];
const CHEAP_LINES: Share = Share { all: 20, of_one: 4 };

/// What waits is written at least so often.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// The longest line that is believed to be one of ours.
const MAX_LINE_BYTES: usize = 4 << 10;

/// Where refusals are written down.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of `outcomes.jsonl`. Without one: that of the disk inbox; without a disk inbox nothing is written.
    pub dir: Option<PathBuf>,
    /// Bytes that the journal may take. 0: none is written.
    pub max_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: None, max_bytes: ByteSize::mib(32) }
    }
}

impl Config {
    /// Mistakes that only this area can see.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let small = self.max_bytes > ByteSize::bytes(0) && self.max_bytes < ByteSize::kib(64);
        small.then(|| ("max_bytes".to_owned(), "must be 0, or at least 64 KiB".to_owned())).into_iter().collect()
    }
}

/// One event that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Which door it came in by.
    pub door: String,
    /// Who sent it: `<issuer>:<subject>`.
    pub principal: String,
    /// Where it should go.
    pub topic: String,
    /// The event's id.
    pub id: String,
    /// The refusal's code.
    pub code: String,
    /// Which part of the event was at fault. What is below it has the sender's own names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Entry {
    /// What is written of a refusal, now.
    pub fn new(door: &str, principal: &str, (topic, id): (&Topic, String), refusal: &Refusal) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let field = match refusal {
            Refusal::Invalid { field: Some(field), .. } => field.split(['.', '[']).next().map(str::to_owned),
            _ => None,
        };
        Self {
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            door: door.to_owned(),
            principal: principal.to_owned(),
            topic: topic.to_string(),
            id,
            code: refusal.code().to_owned(),
            field,
        }
    }
}

/// See the module. Its thread ends with the last of its owners.
#[derive(Debug)]
pub struct Journal {
    lines: SyncSender<Entry>,
}

impl Journal {
    /// Opens the journal in a folder that is there; makes its file.
    pub fn open(dir: &Path, max_bytes: ByteSize) -> io::Result<Self> {
        check(dir)?;
        let (lines, taken) = sync_channel(WAITING);
        let writer = Writer::new(dir, max_bytes.get() / 2)?;
        std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&taken))?;
        Ok(Self { lines })
    }

    /// Writes an entry down, unless there is too much to write.
    pub fn write(&self, entry: Entry) {
        if self.lines.try_send(entry).is_err() {
            metrics().journal_dropped.inc();
        }
    }
}

/// How many lines may be written in a second.
struct Share {
    all: u32,
    of_one: u32,
}

/// The lines of one share in this second, in all and of each principal.
#[derive(Default)]
struct Taken {
    all: u32,
    of_each: HashMap<String, u32>,
}

impl Taken {
    /// Takes a line of the share, if there is one left.
    fn takes(&mut self, share: &Share, principal: &str) -> bool {
        if self.all == share.all {
            return false;
        }
        let of_one = self.of_each.entry(principal.to_owned()).or_default();
        let room = *of_one < share.of_one;
        (*of_one, self.all) = (*of_one + u32::from(room), self.all + u32::from(room));
        room
    }
}

struct Writer {
    dir: PathBuf,
    /// None: it could not be opened anew, and is tried again.
    file: Option<File>,
    half: u64,
    /// Lines of this second, and those of them that cost nothing to cause.
    lines: Taken,
    cheap: Taken,
    /// Whether it was said that it cannot be written.
    said: bool,
}

impl Writer {
    fn new(dir: &Path, half: u64) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), file: Some(append(dir)?), half, lines: Taken::default(), cheap: Taken::default(), said: false })
    }

    fn run(mut self, taken: &Receiver<Entry>) {
        let (mut waiting, mut second, mut flushed) = (Vec::new(), Instant::now(), Instant::now());
        loop {
            let next = taken.recv_timeout(FLUSH_EVERY);
            if second.elapsed() >= Duration::from_secs(1) {
                (second, self.lines, self.cheap) = (Instant::now(), Taken::default(), Taken::default());
            }
            match next {
                Ok(entry) if self.has_room(&entry) => {
                    serde_json::to_writer(&mut waiting, &entry).expect("texts and numbers are always JSON");
                    waiting.push(b'\n');
                }
                Ok(_) => {
                    metrics().journal_dropped.inc();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(&mut waiting),
            }
            if waiting.len() >= MAX_LINE_BYTES || flushed.elapsed() >= FLUSH_EVERY {
                self.flush(&mut waiting);
                flushed = Instant::now();
            }
        }
    }

    fn has_room(&mut self, entry: &Entry) -> bool {
        let is_cheap = CHEAP.contains(&entry.code.as_str());
        let (taken, share) = if is_cheap { (&mut self.cheap, &CHEAP_LINES) } else { (&mut self.lines, &LINES) };
        taken.takes(share, &entry.principal)
    }

    /// What cannot be written is let go: the answers are given, and a full disk is the inbox's to tell.
    fn flush(&mut self, waiting: &mut Vec<u8>) {
        if waiting.is_empty() {
            return;
        }
        let written = self.write(waiting);
        if let Err(error) = &written {
            metrics().journal_dropped.inc_by(waiting.iter().filter(|byte| **byte == b'\n').count() as u64);
            if !self.said {
                tracing::warn!(%error, dir = %self.dir.display(), "the journal of outcomes cannot be written: refusals are not found by `sluicegate trace`");
            }
        }
        self.said = written.is_err();
        waiting.clear();
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|file| !file.metadata().is_ok_and(|file| file.len() < self.half)) {
            self.begin_anew()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(append(&self.dir)?),
        };
        file.write_all(lines)
    }

    /// It has half of all bytes: it is put aside and kept. Until that is done nothing is written, or it would grow for ever.
    fn begin_anew(&mut self) -> io::Result<()> {
        let [old, new] = NAMES.map(|name| self.dir.join(name));
        match fs::rename(new, old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.file = None,
        }
        Ok(())
    }
}

/// Whether a journal may be in this folder: others must not be able to put a link in its place.
pub fn check(dir: &Path) -> io::Result<()> {
    let mode = dir.metadata()?.mode();
    if mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("others may write in it (mode {:o}); run `chmod go-w` on it", mode & 0o777)))
    }
}

fn append(dir: &Path) -> io::Result<File> {
    let file = plain(OpenOptions::new().create(true).append(true).mode(0o600), &dir.join(NAMES[1]))?;
    file.set_permissions(PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

/// A plain file: no link is followed, and nothing is waited for.
fn plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(format!("{} is not a plain file", path.display()))) }
}

/// What the journal in a folder says of an event, by its id or by the client's key in it; the oldest first. A line that is torn is passed over.
pub fn find(dir: &Path, wanted: &str, topic: Option<&Topic>) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for name in NAMES {
        let file = match plain(OpenOptions::new().read(true), &dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            let entry = (line.len() <= MAX_LINE_BYTES).then(|| serde_json::from_slice::<Entry>(&line).ok()).flatten();
            let meant = |entry: &Entry| is_called(&entry.id, wanted) && topic.is_none_or(|topic| entry.topic == topic.as_str());
            found.extend(entry.filter(meant));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
