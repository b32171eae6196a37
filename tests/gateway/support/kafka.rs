//! One real Apache Kafka broker, from the jars that `tests/run` has installed.
//!
//! What always holds: it listens on loopback only, on the same ports for its whole life, with its data in a folder of
//! its own; without the jars a test fails and says how to get them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::Process;
use super::security::{self, Certificates};
use super::{START_DEADLINE, eventually, free_port};

/// What a broker is to be like.
#[derive(Default, Clone)]
pub struct Options {
    /// A topic that somebody asks for is made (`auto.create.topics.enable`).
    pub auto_create: bool,
    /// It listens with SASL (`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`) too, in the clear and over TLS.
    pub secure: bool,
    /// More lines of `server.properties`.
    pub properties: Vec<(&'static str, String)>,
}

/// A broker, running or not.
pub struct Kafka {
    process: Option<Process>, // Before its folder: what is dropped first must be the one that writes.
    dir: TempDir,
    plain: u16,
    sasl: u16,
    sasl_tls: u16,
    certificates: Certificates,
}

impl Kafka {
    /// A broker with a PLAINTEXT listener that makes no topic by itself.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// A broker as wished, running.
    pub async fn start_with(options: Options) -> Self {
        let mut kafka = Self::prepare(options);
        kafka.restart().await;
        kafka
    }

    /// A broker that is down, but whose address is known already: `restart` brings it up for the first time.
    pub fn prepare(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("sluicegate-kafka-").tempdir().expect("a temporary folder");
        let certificates = Certificates::make(dir.path());
        let kafka = Self { plain: free_port(), sasl: free_port(), sasl_tls: free_port(), certificates, process: None, dir };
        std::fs::write(kafka.file("server.properties"), kafka.properties(&options)).expect("a file in a folder of ours");
        kafka.format(options.secure);
        kafka
    }

    /// Starts it, again or for the first time, on the data and the ports it has.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the broker runs already: kill_9 or shutdown comes first");
        let mut java = java(384);
        java.arg("kafka.Kafka").arg(self.file("server.properties"));
        let mut process = Process::spawn("Kafka", &mut java);
        let port = self.plain;
        eventually("the broker takes connections", START_DEADLINE, || {
            assert!(process.exited().is_none(), "Kafka ended:\n{}", process.lines().join("\n"));
            async move { TcpStream::connect(("127.0.0.1", port)).await.ok() }
        })
        .await;
        self.process = Some(process);
    }

    /// Where its PLAINTEXT listener is: the value of `REDPANDA_BROKERS`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.plain)
    }

    /// Where its SASL listener without TLS is.
    pub fn sasl_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.sasl)
    }

    /// Where its SASL listener over TLS is. `ca` is what a client must trust.
    pub fn sasl_tls_brokers(&self) -> String {
        format!("localhost:{}", self.sasl_tls)
    }

    /// The authority of its certificate, as a PEM file.
    pub fn ca(&self) -> &Path {
        &self.certificates.ca
    }

    /// Ends it at once, as a power cut of the process would.
    pub fn kill_9(&mut self) {
        self.process.take().expect("the broker runs").kill_9();
    }

    /// Ends it in order.
    pub async fn shutdown(&mut self) {
        let mut process = self.process.take().expect("the broker runs");
        process.signal("TERM");
        process.wait(START_DEADLINE).await;
    }

    /// Freezes it (SIGSTOP): connections stay open and nothing answers.
    pub fn stop(&self) {
        self.process.as_ref().expect("the broker runs").signal("STOP");
    }

    /// Thaws it (SIGCONT).
    pub fn cont(&self) {
        self.process.as_ref().expect("the broker runs").signal("CONT");
    }

    /// What a partition's log holds, byte by byte. It must be short: the first file of it is read.
    pub fn log(&self, topic: &str, partition: i32) -> Vec<u8> {
        let file = self.file(&format!("data/{topic}-{partition}/00000000000000000000.log"));
        std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The user may look at a topic and no longer write to it. Needs an authorizer.
    pub async fn deny_writing(&self, topic: &str) {
        let user = format!("User:{}", security::USER);
        let looking = ["--operation", "Describe", "--operation", "DescribeConfigs"];
        acl(&self.brokers(), &[&["--add", "--topic", topic, "--allow-principal", &user][..], &looking].concat()).await;
    }

    /// And now they may again.
    pub async fn allow_writing(&self, topic: &str) {
        let user = format!("User:{}", security::USER);
        acl(&self.brokers(), &["--add", "--topic", topic, "--allow-principal", &user, "--operation", "Write"]).await;
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn properties(&self, options: &Options) -> String {
        let controller = free_port();
        let (mut listeners, mut protocols) = (format!("PLAINTEXT://127.0.0.1:{}", self.plain), "PLAINTEXT:PLAINTEXT".to_owned());
        if options.secure {
            let (sasl, sasl_tls) = (self.sasl, self.sasl_tls);
            write!(listeners, ",SASL://127.0.0.1:{sasl},SASLSSL://localhost:{sasl_tls}").expect("a string grows");
            protocols += ",SASL:SASL_PLAINTEXT,SASLSSL:SASL_SSL";
        }
        let mut text = format!(
            "listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
             listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             log.dirs={}\nauto.create.topics.enable={}\n{FIXED_PROPERTIES}",
            self.file("data").display(),
            options.auto_create
        );
        if options.secure {
            text += &security::properties(&self.certificates);
        }
        for (key, value) in &options.properties {
            writeln!(text, "{key}={value}").expect("a string grows");
        }
        text
    }

    /// A data folder: a copy of the one made at installation, which takes no time, unless users must be in it.
    fn format(&self, with_user: bool) {
        let mut command = if with_user {
            let mut tool = java(128);
            tool.args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"]);
            tool.arg(self.file("server.properties")).args(security::scram_arguments());
            tool
        } else {
            let mut copy = Command::new("cp");
            copy.arg("-r").arg(home().join("formatted")).arg(self.file("data"));
            copy
        };
        let output = command.output().expect("the data folder can be formatted");
        assert!(output.status.success(), "formatting failed: {}", String::from_utf8_lossy(&output.stdout));
    }
}

const FIXED_PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=2097152
# Without these two the restart of a killed broker takes 12 s: its old registration has to expire.
broker.heartbeat.interval.ms=100
broker.session.timeout.ms=1000
";

/// Changes who may do what at brokers that ask (`AclCommand`).
pub(super) async fn acl(brokers: &str, change: &[&str]) {
    let mut tool = java(128);
    tool.arg("org.apache.kafka.tools.AclCommand").args(["--bootstrap-server", brokers]).args(change);
    let output = tokio::task::spawn_blocking(move || tool.output()).await.expect("no panic").expect("there is a Java");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A Java program with Kafka's class path.
pub(super) fn java(heap_mib: u32) -> Command {
    let mut java = Command::new("java");
    java.arg(format!("-Xmx{heap_mib}m")).arg(format!("@{}", home().join("jvm.args").display()));
    java
}

/// Where `tests/run` has put Kafka.
fn home() -> PathBuf {
    let cache = |base: Option<std::ffi::OsString>, below: &str| base.map(|base| Path::new(&base).join(below));
    let home = cache(std::env::var_os("SLUICEGATE_KAFKA_HOME"), "")
        .or_else(|| cache(std::env::var_os("SLUICEGATE_CACHE"), "kafka"))
        .or_else(|| cache(std::env::var_os("XDG_CACHE_HOME"), "sluicegate/kafka"))
        .or_else(|| cache(std::env::var_os("HOME"), ".cache/sluicegate/kafka"))
        .expect("there is a home folder");
    let ready = home.join(".stamp").is_file();
    assert!(ready, "no Apache Kafka in {}: `./tests/run --only gateway` installs it", home.display());
    home
}
