//! The verifier file: who the users are, and what is kept of their passwords. TOML, written by `sluicegate user`.
//!
//! ```toml
//! version = 1
//! # Answers for names that do not exist are made with it, so that they are always the same ones.
//! phantom_key = "…"                # 32 bytes in base64
//! [users.alice]
//! topics = ["orders", "tele-*"]    # topics, or prefixes that end in `*`
//! tier = "standard"
//! admin = true                     # may have the inbox replayed; not there: may not
//! [users.alice.scram-sha-256]      # and the same for scram-sha-512
//! salt = "…"                       # 16 bytes in base64
//! iterations = 8192
//! stored_key = "…"
//! server_key = "…"
//! ```
//!
//! What always holds: a file that others can read or write is not used; a file is replaced as a whole or not at all; no
//! error repeats a value of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::super::claims::is_tier;
use super::super::config::DEFAULT_TIER;
use super::super::grants::Grant;
use super::super::scram::{MAX_ITERATIONS, MIN_ITERATIONS, Mechanism, SALT_LENGTH, Verifier};

/// The one version of the format.
const VERSION: u32 = 1;

/// The largest file: some ten thousand users.
const MAX_FILE: u64 = 16 << 20;

/// The longest name.
const MAX_NAME_LENGTH: usize = 64;

const HEADER: &str = "\
# The users of this gate. Written by `sluicegate user add` and `sluicegate user remove`; a running gate takes changes up by
# itself. There is no password in here, only what passwords are checked by. Keep it to yourself all the same (mode 600).
";

/// What a file says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    version: u32,
    phantom_key: String,
    #[serde(default)]
    users: BTreeMap<String, Entry>,
}

/// One user, as the file has them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    topics: Vec<Grant>,
    #[serde(default = "default_tier")]
    tier: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    admin: bool,
    #[serde(rename = "scram-sha-256")]
    sha256: Keys,
    #[serde(rename = "scram-sha-512")]
    sha512: Keys,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    salt: String,
    iterations: u32,
    stored_key: String,
    server_key: String,
}

/// One user: what they may do, and by what they are recognized.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The topics that they may send to.
    pub topics: Vec<Grant>,
    /// The quota tier.
    pub tier: String,
    /// Whether they administer.
    pub admin: bool,
    /// One verifier for each mechanism, in the order of [`Mechanism::ALL`].
    pub verifiers: [Verifier; 2],
}

/// The device, inode, size, and times of change of a file: another print, another file.
pub type Print = (u64, u64, u64, [i64; 4], u32);

/// A file that was read and understood.
#[derive(Debug)]
pub struct Register {
    /// By which answers for unknown names are made.
    pub phantom_key: [u8; 32],
    /// The users by name.
    pub users: BTreeMap<String, User>,
}

fn default_tier() -> String {
    DEFAULT_TIER.to_owned()
}

/// Whether a text can be a user's name: it stands in records and logs, and in messages where `,`, `=` and `:` mean something.
pub fn is_user_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@' | b'+');
    (1..=MAX_NAME_LENGTH).contains(&text.len()) && text.bytes().all(plain)
}

impl Register {
    /// One without users, and with a phantom key of its own.
    pub fn empty() -> Self {
        Self { phantom_key: super::random(), users: BTreeMap::new() }
    }

    /// Reads a file. The text of a failure says what is wrong and what to do.
    pub fn read(path: &Path) -> Result<(Self, Print), String> {
        let in_file = |what: String| format!("{}: {what}", path.display());
        let (text, print) = contents(path).map_err(in_file)?;
        Ok((Self::parse(&text).map_err(in_file)?, print))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let contents: Contents = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            // Not the whole error: it repeats the line.
            format!("line {line}: {}", error.message().replace('\n', " "))
        })?;
        if contents.version != VERSION {
            return Err(format!("`version` is {}, expected {VERSION}", contents.version));
        }
        let phantom_key = bytes(&contents.phantom_key).ok_or("`phantom_key` is not 32 bytes in base64")?;
        let mut wrong = Vec::new();
        let mut users = BTreeMap::new();
        for (name, entry) in contents.users {
            if !is_user_name(&name) {
                wrong.push(format!("users.{name:?}: {BAD_NAME}"));
            }
            match entry.user() {
                Ok(user) => drop(users.insert(name, user)),
                Err((key, what)) => wrong.push(format!("users.{name}.{key}: {what}")),
            }
        }
        if wrong.is_empty() { Ok(Self { phantom_key, users }) } else { Err(wrong.join("; ")) }
    }

    /// Puts these users in the place of the file's, in one step; a gate that reads at the time sees the old ones or these.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        // A link stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let text = self.text();
        replace(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn text(&self) -> String {
        let entry = |user: &User| {
            let keys = |verifier: &Verifier| Keys {
                salt: STANDARD.encode(verifier.salt),
                iterations: verifier.iterations.get(),
                stored_key: STANDARD.encode(&verifier.stored_key),
                server_key: STANDARD.encode(&verifier.server_key),
            };
            let [sha256, sha512] = &user.verifiers;
            Entry { topics: user.topics.clone(), tier: user.tier.clone(), admin: user.admin, sha256: keys(sha256), sha512: keys(sha512) }
        };
        let users = self.users.iter().map(|(name, user)| (name.clone(), entry(user))).collect();
        let contents = Contents { version: VERSION, phantom_key: STANDARD.encode(self.phantom_key), users };
        format!("{HEADER}{}", toml::to_string(&contents).expect("names and texts can be written as TOML"))
    }
}

/// What a name may be made of.
pub const BAD_NAME: &str = "a name is 1 to 64 letters, digits, `.`, `_`, `-`, `@` and `+`";

type FieldMistake = (&'static str, String);

impl Entry {
    fn user(self) -> Result<User, FieldMistake> {
        check_tier(&self.tier).map_err(|what| ("tier", what))?;
        let verifiers = [
            self.sha256.verifier(Mechanism::Sha256).map_err(|what| ("scram-sha-256", what))?,
            self.sha512.verifier(Mechanism::Sha512).map_err(|what| ("scram-sha-512", what))?,
        ];
        Ok(User { topics: self.topics, tier: self.tier, admin: self.admin, verifiers })
    }
}

impl Keys {
    fn verifier(self, mechanism: Mechanism) -> Result<Verifier, String> {
        let iterations = check_iterations(self.iterations)?;
        let key = |name: &str, text: &str| {
            let decoded = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == mechanism.length());
            decoded.ok_or_else(|| format!("`{name}` is not {} bytes in base64", mechanism.length()))
        };
        Ok(Verifier {
            mechanism,
            salt: bytes(&self.salt).ok_or_else(|| format!("`salt` is not {SALT_LENGTH} bytes in base64"))?,
            iterations,
            stored_key: key("stored_key", &self.stored_key)?,
            server_key: key("server_key", &self.server_key)?,
        })
    }
}

/// A tier, if the text can be one.
pub fn check_tier(text: &str) -> Result<String, String> {
    if is_tier(text) { Ok(text.to_owned()) } else { Err("a tier is 1 to 64 letters, digits, `-` and `_`".to_owned()) }
}

/// The rounds of PBKDF2 that can be asked for.
pub fn check_iterations(rounds: u32) -> Result<NonZeroU32, String> {
    let sound = NonZeroU32::new(rounds).filter(|rounds| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&rounds.get()));
    sound.ok_or_else(|| format!("expected {MIN_ITERATIONS} to {MAX_ITERATIONS} iterations, found {rounds}"))
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// The print of the file that is there now.
pub fn print_of(path: &Path) -> Option<Print> {
    fs::metadata(path).ok().map(|found| print(&found))
}

fn print(found: &fs::Metadata) -> Print {
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    (found.dev(), found.ino(), found.size(), times, found.mode())
}

/// The text of the file and its print, both of the same one.
fn contents(path: &Path) -> Result<(String, Print), String> {
    let found = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; `sluicegate user add NAME` makes it".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    // Before it is opened: opening a pipe would wait.
    if !found.is_file() {
        return Err("expected a plain file".to_owned());
    }
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let found = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if found.mode() & 0o077 != 0 {
        return Err(format!("others can read or write it (mode {:o}); `chmod 600` it", found.mode() & 0o777));
    }
    if found.size() > MAX_FILE {
        return Err(format!("it has {} bytes, expected at most {MAX_FILE}", found.size()));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    Ok((text, print(&found)))
}

/// Writes a draft beside the file, onto the disk, and only then in its place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = folder(path);
    let draft = folder.join(format!(".users.{}", ulid::Ulid::generate()));
    let written = write_draft(&draft, path, text).and_then(|()| fs::rename(&draft, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&draft); // It may never have been made.
        return Err(error);
    }
    File::open(&folder)?.sync_all()
}

fn write_draft(draft: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text.as_bytes())?;
    let owner = |found: fs::Metadata| (found.uid(), found.gid());
    let (new, old) = (owner(file.metadata()?), fs::metadata(path).ok().map(owner));
    // The administrator writes, the gate's user reads.
    if let Some((user, group)) = old.filter(|old| *old != new) {
        fchown(&file, Some(user), Some(group))?;
    }
    file.sync_all()
}

fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Keeps other commands from changing the file until it is dropped: of two that read and write, one would undo the other.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

impl Lock {
    /// Waits for its turn. The lock is the folder's, since the file itself is replaced.
    pub fn take(path: &Path) -> Result<Self, String> {
        let folder = folder(path);
        let locked = File::open(&folder).and_then(|folder| folder.lock().map(|()| folder));
        locked.map(|folder| Self { _folder: folder }).map_err(|error| format!("{}: {error}", folder.display()))
    }
}
