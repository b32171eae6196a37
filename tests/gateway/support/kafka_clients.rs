//! Real Kafka clients, unmodified, each driven by a small program of ours (`tests/clients/kafka`).
//!
//! What always holds: every program takes the same order and gives one summary, within the order's patience and a little
//! more. What record number i of an order is, `verdict` says too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::process::Process;
use super::{checkout, eventually};

/// What a program may need to start and to end, beyond the order's patience.
const AROUND: Duration = Duration::from_secs(45);

/// How long the last words of a program may be on their way.
const WORDS: Duration = Duration::from_secs(10);

/// A client, as its registry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// kafkajs 2.2.4: what the platform's function uses.
    Kafkajs,
    /// confluent-kafka 2.16: librdkafka.
    Confluent,
    /// aiokafka 0.14.
    Aiokafka,
    /// kafka-python 3.
    KafkaPython,
    /// Java's own client, the last of the 3 line.
    Java3,
    /// Java's own client, the newest.
    Java4,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Kafkajs, Self::Confluent, Self::Aiokafka, Self::KafkaPython, Self::Java3, Self::Java4];

    /// The compressions that it has.
    pub fn compressions(self) -> &'static [&'static str] {
        match self {
            Self::Kafkajs => &["none", "gzip", "snappy"],
            _ => &["none", "gzip", "snappy", "lz4", "zstd"],
        }
    }

    /// Whether it is idempotent unless told otherwise.
    pub fn idempotent_by_default(self) -> bool {
        matches!(self, Self::KafkaPython | Self::Java3 | Self::Java4)
    }

    /// Whether an acknowledgement means all replicas unless told otherwise.
    pub fn all_by_default(self) -> bool {
        self != Self::Aiokafka
    }

    fn command(self) -> Command {
        let source = |name: &str| checkout("tests/clients/kafka").join(name);
        let installed = installed();
        let (program, args) = match self {
            Self::Kafkajs => return program("kafkajs.mjs"),
            Self::Confluent => (installed.join("venv/bin/python"), vec![source("confluent.py")]),
            Self::Aiokafka => (installed.join("venv/bin/python"), vec![source("aio.py")]),
            Self::KafkaPython => (installed.join("venv/bin/python"), vec![source("kpython.py")]),
            Self::Java3 => return java(&installed, "3.9.2"),
            Self::Java4 => return java(&installed, "4.4.0"),
        };
        let mut command = Command::new(program);
        command.args(args).env_clear().env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// A program for Node that finds kafkajs, with no environment but what it is given.
pub fn program(name: &str) -> Command {
    installed();
    let mut command = Command::new("node");
    command.arg(checkout("tests/clients/kafka").join(name)).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn java(installed: &Path, version: &str) -> Command {
    let mut command = Command::new("java");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let classes = installed.join("java/classes");
    let jars = installed.join("java").join(version).join("*");
    command.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}:{}", classes.display(), jars.display())).arg("Produce");
    command
}

/// What a program says in JSON before it ends.
pub async fn last_word<T: DeserializeOwned>(process: &mut Process, deadline: Duration) -> T {
    process.wait(deadline).await;
    // Its words can be read a little later than it is gone.
    let said = async || process.lines().iter().rev().find_map(|line| serde_json::from_str(line).ok());
    eventually("a program's last word", WORDS, said).await
}

/// Where `tests/run` has put the clients.
fn installed() -> PathBuf {
    let cache = |name: &str, below: &str| std::env::var_os(name).map(|base| Path::new(&base).join(below));
    let installed = cache("SLUICEGATE_CACHE", "kafka-clients")
        .or_else(|| cache("XDG_CACHE_HOME", "sluicegate/kafka-clients"))
        .or_else(|| cache("HOME", ".cache/sluicegate/kafka-clients"))
        .expect("there is a home folder");
    let ready = installed.join(".stamp").is_file() && checkout("tests/clients/kafka/node_modules").exists();
    assert!(ready, "no Kafka clients in {}: `./tests/run --only kafka-clients` installs them", installed.display());
    installed
}

/// How a client says who it is.
#[derive(Debug, Clone)]
pub enum Login {
    /// `SCRAM-SHA-256`, `SCRAM-SHA-512` or `PLAIN`, a name and a password.
    Password(&'static str, String, String),
    /// `OAUTHBEARER` with this token.
    Token(String),
    /// Nobody asks.
    Nobody,
}

/// Where a client connects to, and as whom.
#[derive(Debug, Clone)]
pub struct Address {
    /// `host:port`, or several.
    pub bootstrap: String,
    /// The authority that it trusts. Without one: no TLS.
    pub ca: Option<PathBuf>,
    /// Who it is.
    pub login: Login,
}

/// What a client is to do.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where.
    pub address: Address,
    /// The topic.
    pub topic: String,
    /// What stands in each record, to be told from those of other orders.
    pub run: String,
    /// How many records, evenly over the partitions.
    pub count: usize,
    /// How many partitions.
    pub partitions: usize,
    /// How batches are compressed.
    pub compression: &'static str,
    /// Whether it is idempotent; `None`: as it is by default.
    pub idempotent: Option<bool>,
    /// Which acknowledgements it asks for; `None`: as it does by default.
    pub acks: Option<&'static str>,
    /// Over how many seconds the records are spread; 0: as fast as it can.
    pub seconds: u32,
    /// For how many seconds it waits for what it is still owed.
    pub patience: u32,
    /// So many more bytes in each value.
    pub more_bytes: usize,
}

impl Order {
    /// A thousand records over six partitions, at once, by a client as it is by default.
    pub fn new(address: Address, topic: &str, run: &str) -> Self {
        Self {
            address,
            topic: topic.to_owned(),
            run: run.to_owned(),
            count: 1_000,
            partitions: 6,
            compression: "none",
            idempotent: None,
            acks: None,
            seconds: 0,
            patience: 60,
            more_bytes: 0,
        }
    }

    /// Has it done by a client, and waits for its summary.
    pub async fn by(&self, client: Client) -> Summary {
        let mut command = client.command();
        for (name, value) in self.variables() {
            command.env(format!("CLIENT_{name}"), value);
        }
        let mut process = Process::spawn(&format!("{client:?}"), &mut command);
        let deadline = Duration::from_secs((self.patience + self.seconds).into()) + AROUND;
        last_word(&mut process, deadline).await
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("BOOTSTRAP", self.address.bootstrap.clone()),
            ("TOPIC", self.topic.clone()),
            ("RUN", self.run.clone()),
            ("COUNT", self.count.to_string()),
            ("PARTITIONS", self.partitions.to_string()),
            ("COMPRESSION", self.compression.to_owned()),
            ("SECONDS", self.seconds.to_string()),
            ("PATIENCE", (self.seconds + self.patience).to_string()),
            ("MORE_BYTES", self.more_bytes.to_string()),
        ];
        match &self.address.login {
            Login::Nobody => {}
            Login::Token(token) => variables.extend([("MECHANISM", "OAUTHBEARER".to_owned()), ("TOKEN", token.clone())]),
            Login::Password(mechanism, user, password) => {
                variables.extend([("MECHANISM", (*mechanism).to_owned()), ("USER", user.clone()), ("PASSWORD", password.clone())]);
            }
        }
        variables.extend(self.address.ca.iter().map(|ca| ("CA", ca.display().to_string())));
        variables.extend(self.idempotent.map(|yes| ("IDEMPOTENT", yes.to_string())));
        variables.extend(self.acks.map(|acks| ("ACKS", acks.to_owned())));
        variables
    }
}

/// What a program says at the end.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// The client's name.
    pub client: String,
    /// Its version.
    pub version: String,
    /// How long it took, without the start of the program.
    pub seconds: f64,
    /// The numbers of the records that were acknowledged, and the offsets that were given for them.
    pub acks: Vec<(usize, i64)>,
    /// What failed.
    pub errors: Vec<Fault>,
}

impl Summary {
    /// How many acknowledgements came without an offset: the inbox's. (At least; some clients count on from it in a batch.)
    pub fn by_inbox(&self) -> usize {
        self.acks.iter().filter(|(_, offset)| *offset == -1).count()
    }
}

/// One kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// The class of the error, by its name in the client.
    pub class: String,
    /// Its code there, if it has one.
    pub code: String,
    /// What it says.
    pub message: String,
    /// How often.
    pub count: usize,
}
