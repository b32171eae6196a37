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
const LINES_A_SECOND: u32 = 200;
const LINES_OF_ONE: u32 = 10;

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

struct Writer {
    dir: PathBuf,
    /// None: it could not be opened anew, and is tried again.
    file: Option<File>,
    half: u64,
    /// Lines of this second, in all and of each principal.
    lines: u32,
    of_each: HashMap<String, u32>,
    /// Whether it was said that it cannot be written.
    said: bool,
}

impl Writer {
    fn new(dir: &Path, half: u64) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), file: Some(append(dir)?), half, lines: 0, of_each: HashMap::new(), said: false })
    }

    fn run(mut self, taken: &Receiver<Entry>) {
        let (mut waiting, mut second, mut flushed) = (Vec::new(), Instant::now(), Instant::now());
        loop {
            let next = taken.recv_timeout(FLUSH_EVERY);
            if second.elapsed() >= Duration::from_secs(1) {
                (second, self.lines) = (Instant::now(), 0);
                self.of_each.clear();
            }
            match next {
                Ok(entry) if self.has_room(&entry.principal) => {
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

    fn has_room(&mut self, principal: &str) -> bool {
        if self.lines == LINES_A_SECOND {
            return false;
        }
        let of_one = self.of_each.entry(principal.to_owned()).or_default();
        let room = *of_one < LINES_OF_ONE;
        (*of_one, self.lines) = (*of_one + u32::from(room), self.lines + u32::from(room));
        room
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

    fn written(entry: &Entry) -> Vec<u8> {
        format!("{}\n", serde_json::to_string(entry).expect("JSON")).into_bytes()
    }

    #[test]
    fn it_begins_anew_at_half_of_its_bytes_and_keeps_what_was_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::new(dir.path(), 1_000).expect("a file");
        for number in 0..20 {
            writer.flush(&mut written(&entry(&format!("{number}"))));
        }
        let bytes: u64 = NAMES.iter().filter_map(|name| fs::metadata(dir.path().join(name)).ok()).map(|file| file.len()).sum();
        assert!(bytes < 2_500, "{bytes}");
        assert_eq!(find(dir.path(), "19", None).expect("readable").len(), 1);
        assert_eq!(find(dir.path(), "0", None).expect("readable").len(), 0, "the oldest are gone");
    }

    #[test]
    fn it_goes_on_when_its_file_was_taken_away() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::new(dir.path(), 1).expect("a file");
        writer.flush(&mut written(&entry("before")));
        fs::remove_file(dir.path().join(NAMES[1])).expect("it is there");
        writer.flush(&mut written(&entry("after")));
        assert_eq!(find(dir.path(), "after", None).expect("readable").len(), 1);
    }

    #[test]
    fn it_does_not_grow_while_it_cannot_be_put_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::new(dir.path(), 1).expect("a file");
        // A folder that is not empty, where it would be put.
        fs::create_dir_all(dir.path().join(NAMES[0]).join("full")).expect("a folder");
        (0..5).for_each(|number| writer.flush(&mut written(&entry(&format!("{number}")))));
        let lines = || fs::read_to_string(dir.path().join(NAMES[1])).expect("a journal").lines().count();
        assert_eq!(lines(), 1);
        fs::remove_dir_all(dir.path().join(NAMES[0])).expect("our folder");
        writer.flush(&mut written(&entry("after")));
        assert_eq!((lines(), find(dir.path(), "after", None).expect("readable").len()), (1, 1));
    }

    #[test]
    fn a_link_in_its_place_is_not_followed_and_nobody_else_may_write_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "").expect("a file");
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(NAMES[1])).expect("a link");
        assert!(append(dir.path()).is_err() && find(dir.path(), "a", None).is_err());
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("our folder");
        assert!(check(dir.path()).is_err());
    }

    #[test]
    fn all_that_was_given_is_written_before_its_thread_ends_and_nobody_fills_it_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let (lines, taken) = sync_channel(WAITING);
        for number in 0..LINES_OF_ONE + 5 {
            lines.send(entry(&format!("{number}"))).expect("room");
        }
        lines.send(Entry { principal: "users:bob".into(), ..entry("bob") }).expect("room");
        drop(lines);
        Writer::new(dir.path(), 1 << 20).expect("a file").run(&taken);
        let found = |id: &str| find(dir.path(), id, None).expect("readable").len();
        assert_eq!((found("0"), found(&format!("{}", LINES_OF_ONE + 1)), found("bob")), (1, 0, 1));
    }

    #[test]
    fn the_senders_own_names_are_not_in_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let topic = Topic::new("orders").expect("a topic");
        for field in ["data.emails.bob@x.com", "data[3]", "data"] {
            let entry = Entry::new("events", "users:alice", (&topic, "a".into()), &Refusal::invalid(field, "no"));
            assert_eq!(entry.field.as_deref(), Some("data"));
        }
        assert!(check(dir.path()).is_ok());
    }
}
