//! The journal of outcomes: which events were refused, of those that their senders have named, and why.
//!
//! What is accepted is in the broker or in the inbox, and found there. What is refused is nowhere: its answer may be lost, or be
//! in a log that its operator cannot read. So `sluicegate trace` looks here too.
//!
//! What always holds: an answer never waits for the journal; it is bounded, in bytes and in lines a second, and what did not
//! fit is counted; there is no payload in it and no credential. It is a help for people, not a promise: it is not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Lines a second: an attacker's refusals must not push everybody else's out of the journal at once.
const LINES_A_SECOND: u32 = 200;

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
    /// The field at fault, dotted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Entry {
    /// What is written of a refusal, now.
    pub fn new(door: &str, principal: &str, (topic, id): (&Topic, String), refusal: &Refusal) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let field = match refusal {
            Refusal::Invalid { field, .. } => field.clone(),
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
        let (lines, taken) = sync_channel(WAITING);
        let writer = Writer { dir: dir.to_owned(), file: append(dir)?, half: max_bytes.get() / 2 };
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

struct Writer {
    dir: PathBuf,
    file: File,
    half: u64,
}

impl Writer {
    fn run(mut self, taken: &Receiver<Entry>) {
        let (mut waiting, mut second, mut written) = (Vec::new(), Instant::now(), 0);
        loop {
            let next = taken.recv_timeout(FLUSH_EVERY);
            if second.elapsed() >= Duration::from_secs(1) {
                (second, written) = (Instant::now(), 0);
            }
            match next {
                Ok(_) if written == LINES_A_SECOND => {
                    metrics().journal_dropped.inc();
                }
                Ok(entry) => {
                    written += 1;
                    serde_json::to_writer(&mut waiting, &entry).expect("texts and numbers are always JSON");
                    waiting.push(b'\n');
                    if waiting.len() < MAX_LINE_BYTES {
                        continue; // Until there is nothing for a while.
                    }
                    self.flush(&mut waiting);
                }
                Err(RecvTimeoutError::Timeout) => self.flush(&mut waiting),
                Err(RecvTimeoutError::Disconnected) => return self.flush(&mut waiting),
            }
        }
    }

    /// What cannot be written is let go: the answers are given, and a full disk is the inbox's to tell.
    fn flush(&mut self, waiting: &mut Vec<u8>) {
        if waiting.is_empty() {
            return;
        }
        let lines = waiting.iter().filter(|byte| **byte == b'\n').count() as u64;
        let done = self.file.write_all(waiting).and_then(|()| self.turn());
        waiting.clear();
        if let Err(error) = done {
            metrics().journal_dropped.inc_by(lines);
            tracing::debug!(%error, "the journal of outcomes cannot be written");
        }
    }

    /// Begins anew where the file has half of all bytes; the one before it is kept.
    fn turn(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() < self.half {
            return Ok(());
        }
        let [old, new] = NAMES.map(|name| self.dir.join(name));
        fs::rename(new, old)?;
        self.file = append(&self.dir)?;
        Ok(())
    }
}

fn append(dir: &Path) -> io::Result<File> {
    // `O_NOFOLLOW`'s work: a link in its place is refused.
    let path = dir.join(NAMES[1]);
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(format!("{} is not a plain file", path.display())));
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// What the journal in a folder says of an event, by its id or by the client's key in it; the oldest first. A line that is torn is passed over.
pub fn find(dir: &Path, wanted: &str, topic: Option<&Topic>) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for name in NAMES {
        let file = match File::open(dir.join(name)) {
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
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        let topic = Topic::new("orders").expect("a topic");
        Entry::new("events", "users:alice", (&topic, id.to_owned()), &Refusal::invalid("data.a", "no"))
    }

    #[test]
    fn what_was_refused_is_found_by_its_key_and_where_it_was_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let wanted = entry("0123456789ab.order-17");
        let written = [entry("0123456789ab.order-18"), wanted.clone(), entry("order-17-not")];
        let mut file = append(dir.path()).expect("a file");
        for entry in &written {
            writeln!(file, "{}", serde_json::to_string(entry).expect("JSON")).expect("written");
        }
        write!(file, "{{\"torn").expect("written");
        let other = Topic::new("other").expect("a topic");
        assert_eq!(find(dir.path(), "order-17", None).expect("readable"), std::slice::from_ref(&wanted));
        assert_eq!(find(dir.path(), &wanted.id, None).expect("readable"), [wanted]);
        assert_eq!(find(dir.path(), "order-17", Some(&other)).expect("readable"), []);
        assert_eq!(find(&dir.path().join("nowhere"), "order-17", None).expect("nothing is no fault"), []);
    }

    #[test]
    fn it_begins_anew_at_half_of_its_bytes_and_keeps_what_was_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = Writer { dir: dir.path().to_owned(), file: append(dir.path()).expect("a file"), half: 1_000 };
        for number in 0..20 {
            writer.flush(&mut format!("{}\n", serde_json::to_string(&entry(&format!("{number}"))).expect("JSON")).into_bytes());
        }
        let bytes: u64 = NAMES.iter().filter_map(|name| fs::metadata(dir.path().join(name)).ok()).map(|file| file.len()).sum();
        assert!(bytes < 2_500, "{bytes}");
        assert_eq!(find(dir.path(), "19", None).expect("readable").len(), 1);
        assert_eq!(find(dir.path(), "0", None).expect("readable").len(), 0, "the oldest are gone");
    }

    #[test]
    fn all_that_was_given_is_written_before_its_thread_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let (lines, taken) = sync_channel(WAITING);
        let writer = Writer { dir: dir.path().to_owned(), file: append(dir.path()).expect("a file"), half: 1 << 20 };
        for number in 0..LINES_A_SECOND + 50 {
            lines.send(entry(&format!("{number}"))).expect("room");
        }
        drop(lines);
        writer.run(&taken);
        assert_eq!(find(dir.path(), "0", None).expect("readable").len(), 1);
        assert_eq!(find(dir.path(), &format!("{}", LINES_A_SECOND + 10), None).expect("readable"), [], "over the bound of a second");
    }
}
