//! Three real Apache Kafka brokers, each its own controller.
//!
//! What always holds: they listen on loopback only, on the same ports for their whole lives, and call themselves
//! `localhost`, never `127.0.0.1`, so that who was told of them can be told from who was told of a gate. Records are kept by
//! all three and acknowledged by two. They are dead when the value is dropped.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::kafka::{acl, java};
use super::kafka_read::{Reader, Record};
use super::narrow::Narrow;
use super::process::Process;
use super::security::{self, Certificates, USER};
use super::{DEADLINE, START_DEADLINE, eventually, free_port};

/// How many brokers there are. Their ids are 1, 2 and 3; their places in a cluster 0, 1 and 2.
pub const SIZE: usize = 3;

/// How soon a broker is taken for dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailOver {
    /// After two to four seconds: for tests in which one dies.
    Quick,
    /// After nine, as Kafka comes: for tests in which none does, and a busy machine must not look like a death.
    Calm,
}

/// The three.
pub struct Cluster {
    brokers: Vec<Broker>, // Before their folder: what is dropped first must be the one that writes.
    narrows: Vec<Narrow>,
    certificates: Certificates,
    dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_9_all();
    }
}

struct Broker {
    process: Option<Process>,
    ports: Ports,
}

/// Where one broker listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    /// Without credentials: for gates, for looking into it, and for the other brokers.
    plain: u16,
    /// With SASL over TLS: for clients that are compared with those of a gate.
    secure: u16,
    /// Without credentials, and known to those who come here by the port of a narrow proxy.
    wide: u16,
    /// That proxy's.
    narrow: u16,
    controller: u16,
}

impl Ports {
    fn free(wide: u16, narrow: u16) -> Self {
        Self { plain: free_port(), secure: free_port(), wide, narrow, controller: free_port() }
    }

    fn all(self) -> [u16; 5] {
        [self.plain, self.secure, self.wide, self.narrow, self.controller]
    }
}

impl Cluster {
    /// Starts all of it, with nothing in it.
    pub async fn start(fail_over: FailOver) -> Self {
        let dir = tempfile::Builder::new().prefix("sluicegate-cluster-").tempdir().expect("a temporary folder");
        let certificates = Certificates::make(dir.path());
        let (mut brokers, mut narrows) = (Vec::new(), Vec::new());
        for _ in 0..SIZE {
            let wide = free_port();
            let narrow = Narrow::start(wide).await;
            brokers.push(Broker { process: None, ports: Ports::free(wide, narrow.port()) });
            narrows.push(narrow);
        }
        let mut cluster = Self { brokers, narrows, certificates, dir };
        cluster.format(fail_over);
        cluster.restart_all().await;
        cluster
    }

    /// The value of `REDPANDA_BROKERS`.
    pub fn brokers(&self) -> String {
        self.addresses(|ports| ports.plain)
    }

    /// The same brokers, each behind a proxy that lets through only what Redpanda knows.
    pub fn narrow_brokers(&self) -> String {
        self.addresses(|ports| ports.narrow)
    }

    /// Where clients get in with SASL over TLS. `ca` is what they must trust.
    pub fn secure_brokers(&self) -> String {
        self.addresses(|ports| ports.secure)
    }

    /// The authority of the brokers' certificate, as a PEM file.
    pub fn ca(&self) -> &Path {
        &self.certificates.ca
    }

    /// Every port that only those behind a gate may hear of.
    pub fn ports(&self) -> Vec<u16> {
        self.brokers.iter().flat_map(|broker| broker.ports.all()).collect()
    }

    /// What the narrow proxies have closed a connection for, in words.
    pub fn too_wide(&self) -> Vec<String> {
        self.narrows.iter().flat_map(Narrow::refused).collect()
    }

    /// Makes a topic and waits until its partitions can be written to.
    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.reader().create_topic(name, partitions, configs).await;
    }

    /// From now on the user may not write to a topic (at the brokers themselves; a gate has grants of its own).
    pub async fn deny(&self, topic: &str) {
        let user = format!("User:{USER}");
        acl(&self.brokers(), &["--add", "--topic", topic, "--deny-principal", &user, "--operation", "Write"]).await;
    }

    /// Every record of a topic, partition by partition, each in order.
    pub async fn consume_all(&self, topic: &str) -> Vec<Record> {
        self.reader().consume_all(topic).await
    }

    /// Waits until each of these topics holds so many records.
    pub async fn holds(&self, topics: &[String], records: usize) {
        let what = format!("{records} records in each of {topics:?}");
        let reader = self.reader();
        eventually(&what, START_DEADLINE, async || (reader.fewest(topics).await >= records).then_some(())).await;
    }

    /// The same with so many replicas as asked for.
    pub async fn create_topic_of(&self, name: &str, replicas: i32, partitions: i32, configs: &[(&str, &str)]) {
        Reader::of(self.brokers(), replicas).create_topic(name, partitions, configs).await;
    }

    /// Sets configuration of a topic; what is not named goes back to its default.
    pub async fn alter_topic(&self, name: &str, configs: &[(&str, &str)]) {
        self.reader().alter_topic(name, configs).await;
    }

    /// The places of the brokers that lead a topic's partitions; none where nobody does.
    pub async fn leaders(&self, topic: &str) -> Vec<Option<usize>> {
        let leaders = self.reader().leaders_of(topic).await;
        leaders.into_iter().map(|id| usize::try_from(id - 1).ok()).collect()
    }

    /// Ends one in order: it hands over what it leads first.
    pub async fn shutdown(&mut self, place: usize) {
        let mut process = self.brokers[place].process.take().expect("the broker runs");
        process.signal("TERM");
        process.wait(START_DEADLINE).await;
    }

    /// Ends one at once, as a power cut of the process would.
    pub fn kill_9(&mut self, place: usize) {
        self.brokers[place].process.take().expect("the broker runs").kill_9();
    }

    /// Ends all at once.
    pub fn kill_9_all(&mut self) {
        // All of them, and then each: none lives long enough to speak of the others' end.
        let ids: Vec<_> =
            self.brokers.iter().filter_map(|broker| broker.process.as_ref()).map(|process| process.id().to_string()).collect();
        drop(Command::new("kill").arg("-KILL").args(ids).status());
        self.brokers.iter_mut().filter_map(|broker| broker.process.take()).for_each(|mut process| process.kill_9());
    }

    /// Starts one again, and waits until it answers.
    pub async fn restart(&mut self, place: usize) {
        self.spawn(place);
        self.answers(place).await;
    }

    /// Starts all, again or for the first time, and waits until all answer.
    pub async fn restart_all(&mut self) {
        (0..SIZE).for_each(|place| self.spawn(place));
        for place in 0..SIZE {
            self.answers(place).await;
        }
    }

    /// Freezes one (SIGSTOP): its connections stay open and nothing answers.
    pub fn stop(&self, place: usize) {
        self.process(place).signal("STOP");
    }

    /// Thaws it (SIGCONT).
    pub fn cont(&self, place: usize) {
        self.process(place).signal("CONT");
    }

    /// The place of a broker that leads a partition of this topic, if possible not the controller, whose end takes longer.
    pub async fn leader(&self, topic: &str) -> usize {
        let leaders = self.reader().leaders_of(topic).await;
        let place = |id: i32| usize::try_from(id).expect("1 to 3") - 1;
        let controller = self.controller().await;
        // On a stalled machine the controller can be the only one that is not taken for dead.
        leaders.into_iter().filter(|id| *id > 0).map(place).find(|at| *at != controller).unwrap_or(controller)
    }

    async fn controller(&self) -> usize {
        let mut tool = java(128);
        tool.args(["org.apache.kafka.tools.MetadataQuorumCommand", "--bootstrap-server", &self.brokers(), "describe", "--status"]);
        let output = tokio::task::spawn_blocking(move || tool.output()).await.expect("no panic").expect("there is a Java");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let id = said.lines().find_map(|line| line.strip_prefix("LeaderId:")).and_then(|id| id.trim().parse::<usize>().ok());
        id.unwrap_or_else(|| panic!("no controller: {said}{}", String::from_utf8_lossy(&output.stderr))) - 1
    }

    fn process(&self, place: usize) -> &Process {
        self.brokers[place].process.as_ref().expect("the broker runs")
    }

    fn spawn(&mut self, place: usize) {
        assert!(self.brokers[place].process.is_none(), "the broker runs already: kill_9 comes first");
        let mut java = java(256);
        java.arg("-Dkafka.log.level=warn").arg("kafka.Kafka").arg(self.file(place, "properties"));
        self.brokers[place].process = Some(Process::spawn(&format!("broker {}", place + 1), &mut java));
    }

    async fn answers(&mut self, place: usize) {
        let broker = &mut self.brokers[place];
        let (process, port) = (broker.process.as_mut().expect("it was started"), broker.ports.plain);
        eventually("the broker takes connections", START_DEADLINE, || {
            assert!(process.exited().is_none(), "Kafka ended:\n{}", process.lines().join("\n"));
            async move { TcpStream::connect(("127.0.0.1", port)).await.ok() }
        })
        .await;
    }

    fn reader(&self) -> Reader {
        Reader::of(self.brokers(), i32::try_from(SIZE).expect("three"))
    }

    fn addresses(&self, port: impl Fn(Ports) -> u16) -> String {
        let each: Vec<_> = self.brokers.iter().map(|broker| format!("localhost:{}", port(broker.ports))).collect();
        each.join(",")
    }

    fn file(&self, place: usize, kind: &str) -> PathBuf {
        self.dir.path().join(format!("{}.{kind}", place + 1))
    }

    /// Three data folders that know the user, made at the same time.
    fn format(&mut self, fail_over: FailOver) {
        let formats: Vec<_> = (0..SIZE)
            .map(|place| {
                std::fs::write(self.file(place, "properties"), self.properties(place, fail_over)).expect("a file in a folder of ours");
                let mut tool = java(128);
                tool.args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"]);
                tool.arg(self.file(place, "properties")).args(security::scram_arguments());
                Process::spawn("the formatting", &mut tool)
            })
            .collect();
        for mut format in formats {
            format.join(DEADLINE);
            let ended = format.exited();
            assert!(ended.is_some_and(|status| status.success()), "formatting failed:\n{}", format.lines().join("\n"));
        }
    }

    fn properties(&self, place: usize, fail_over: FailOver) -> String {
        let Ports { plain, secure, wide, narrow, controller } = self.brokers[place].ports;
        let mut text = format!(
            "node.id={}\nlog.dirs={}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://127.0.0.1:{plain},SASLSSL://127.0.0.1:{secure},WIDE://127.0.0.1:{wide},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://localhost:{plain},SASLSSL://localhost:{secure},WIDE://localhost:{narrow}\n\
             {FIXED_PROPERTIES}",
            place + 1,
            self.file(place, "data").display(),
            self.voters(),
        );
        if fail_over == FailOver::Quick {
            text += QUICK_PROPERTIES;
        }
        text += &security::properties(&self.certificates);
        text.replace("sasl.enabled.mechanisms=", "sasl.enabled.mechanisms=OAUTHBEARER,")
    }

    fn voters(&self) -> String {
        let mut voters = String::new();
        for (place, broker) in self.brokers.iter().enumerate() {
            write!(voters, "{}{}@127.0.0.1:{}", if place == 0 { "" } else { "," }, place + 1, broker.ports.controller)
                .expect("a string grows");
        }
        voters
    }
}

const FIXED_PROPERTIES: &str = "\
process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASLSSL:SASL_SSL,WIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=2097152
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
# Tokens of the tests are not signed: that a token is a good one is the gate's to say.
listener.name.saslssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
";

const QUICK_PROPERTIES: &str = "\
# A dead broker is replaced within two seconds, the controller within four; a machine that is busy for one kills nobody. A fetch timeout of 500 or less elects for ever.
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=2000
controller.quorum.election.timeout.ms=500
controller.quorum.election.backoff.max.ms=200
controller.quorum.fetch.timeout.ms=2000
controller.quorum.request.timeout.ms=2000
replica.lag.time.max.ms=2000
replica.fetch.wait.max.ms=100
replica.fetch.backoff.ms=100
replica.socket.timeout.ms=1000
";
