//! A test double for a cluster: brokers that do as they are told, for what a real one cannot be told to do. They have
//! Redpanda's version table and its habit: an API or version that is not in the table closes the socket.
//!
//! What always holds: it listens on loopback only; a connection is served one request after the other, in order, as by a
//! broker; every part of every Produce request is written down before anything is decided about it; what is appended keeps
//! its order. There is no replication and no memory of producers: a script answers for them.
//!
//! ```ignore
//! let cluster = Scripted::start(2, &[("events", 6)]).await;
//! cluster.move_leader("events", 3, 2);
//! cluster.next("events", 0, [Verdict::Code(19), Verdict::CloseAfterAppend]);   // the next two batches, then as usual
//! cluster.script(|part| if part.partition == 1 { Verdict::Silence } else { Verdict::Append });
//! let hold = Hold::default();
//! cluster.next("events", 0, [Verdict::Hold(hold.clone())]);
//! hold.release();
//! assert_eq!(cluster.stored("events", 0).len(), 1);
//! ```

mod answers;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{DEADLINE, eventually, free_port};

/// An API's key and its lowest and highest version.
pub type Offer = (i16, i16, i16);

/// What Redpanda offers, as far as a producer cares.
pub const REDPANDA: &[Offer] =
    &[(0, 0, 7), (1, 0, 11), (2, 0, 4), (3, 0, 8), (10, 0, 3), (17, 0, 1), (18, 0, 3), (22, 0, 3), (32, 0, 2), (36, 0, 2)];

/// What becomes of a batch.
#[derive(Clone)]
pub enum Verdict {
    /// Appended at the next offset, and acknowledged.
    Append,
    /// Answered with this code, not appended.
    Code(i16),
    /// Appended, and answered with this code all the same (7, 20).
    AppendWithCode(i16),
    /// Not appended, and never answered; the connection stays, and serves nothing more.
    Silence,
    /// Appended, and never answered.
    SilenceAfterAppend,
    /// Not appended; the connection is closed.
    CloseBefore,
    /// Appended; the connection is closed without an answer.
    CloseAfterAppend,
    /// Appended and acknowledged when it is released, also when nobody waits for it any more: a frozen broker that thaws.
    Hold(Hold),
}

/// Holds batches until it is released.
#[derive(Clone)]
pub struct Hold(watch::Sender<bool>);

impl Default for Hold {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Hold {
    /// Lets go, for ever.
    pub fn release(&self) {
        self.0.send_replace(true);
    }

    async fn released(&self) {
        let _ = self.0.subscribe().wait_for(|released| *released).await;
    }
}

/// A lie in place of the next answer to a Produce request, whose batches are appended all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The correlation id is another request's.
    Correlation,
    /// The frame says that it has 2 GiB.
    HugeFrame,
    /// The frame says that it has -1 bytes.
    NegativeFrame,
    /// As large a frame as is read (16 MiB), and nothing in it.
    LargeFrame,
    /// The body counts more topics than there are bytes.
    HostileCount,
    /// The body ends in the middle.
    Short,
    /// The answer is for another partition.
    OtherPartition,
    /// A second answer follows that nobody has asked for.
    Twice,
}

/// A part of a Produce request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which broker has it.
    pub node: i32,
    /// Over which connection of that cluster it came, from 0.
    pub connection: usize,
    /// Which Produce request of the cluster it was in, from 0.
    pub request: usize,
    pub version: i16,
    pub acks: i16,
    pub topic: String,
    pub partition: i32,
    /// How many batches of this partition came before it.
    pub number: usize,
    pub batch: Bytes,
}

/// A batch in a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub offset: i64,
    pub batch: Bytes,
}

/// See the module.
pub struct Scripted {
    shared: Arc<Shared>,
    nodes: Vec<Node>,
}

struct Node {
    id: i32,
    port: u16,
    listens: Option<Listens>,
}

/// A broker that can be reached.
struct Listens {
    task: JoinHandle<()>,
    /// Has an owner as long as it or one of its connections is there.
    left: Weak<()>,
}

impl Listens {
    fn begin(shared: Arc<Shared>, node: i32, listener: TcpListener) -> Self {
        let here = Arc::new(());
        let left = Arc::downgrade(&here);
        Self { task: tokio::spawn(listen(shared, node, listener, here)), left }
    }
}

type Script = Arc<dyn Fn(&Part) -> Verdict + Send + Sync>;

struct Shared {
    places: Vec<(i32, u16)>,
    log: Mutex<Log>,
}

struct Log {
    offers: &'static [Offer],
    topics: HashMap<String, Vec<Partition>>,
    script: Script,
    received: Vec<Part>,
    /// Key and version of every request.
    requests: Vec<(i16, i16)>,
    produces: usize,
    connections: usize,
    lies: VecDeque<Lie>,
    throttle_ms: i32,
    /// Metadata is not answered.
    mute: bool,
}

#[derive(Default)]
struct Partition {
    leader: i32,
    /// Whom the metadata names; none: the leader.
    told_leader: Option<i32>,
    next: VecDeque<Verdict>,
    received: usize,
    stored: Vec<Stored>,
    end: i64,
}

impl Scripted {
    /// So many brokers (from 1 on) that have these topics; the first leads everything, and appends everything.
    pub async fn start(nodes: usize, topics: &[(&str, usize)]) -> Self {
        let places: Vec<(i32, u16)> = (1..).take(nodes).map(|id| (id, free_port())).collect();
        let log = Log {
            offers: REDPANDA,
            topics: HashMap::new(),
            script: Arc::new(|_| Verdict::Append),
            received: Vec::new(),
            requests: Vec::new(),
            produces: 0,
            connections: 0,
            lies: VecDeque::new(),
            throttle_ms: 0,
            mute: false,
        };
        let shared = Arc::new(Shared { places: places.clone(), log: Mutex::new(log) });
        let nodes = places.into_iter().map(|(id, port)| Node { id, port, listens: None }).collect();
        let mut cluster = Self { shared, nodes };
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions);
        }
        for id in cluster.nodes.iter().map(|node| node.id).collect::<Vec<_>>() {
            cluster.revive(id).await;
        }
        cluster
    }

    /// All addresses: the value of `REDPANDA_BROKERS`.
    pub fn brokers(&self) -> String {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
    }

    /// Other versions than Redpanda's.
    pub fn offer(&self, offers: &'static [Offer]) {
        self.log().offers = offers;
    }

    /// Makes a topic, led by the first broker.
    pub fn create_topic(&self, name: &str, partitions: usize) {
        let partitions = (0..partitions).map(|_| Partition { leader: 1, ..Partition::default() }).collect();
        self.log().topics.insert(name.to_owned(), partitions);
    }

    /// Deletes a topic with all that is in it.
    pub fn delete_topic(&self, name: &str) {
        self.log().topics.remove(name);
    }

    /// Another broker leads from now on; the one that did answers 6. `0`: nobody leads.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) {
        self.log().partition(topic, partition).leader = node;
    }

    /// Whom the metadata names, whoever leads; none: the truth.
    pub fn tell_leader(&self, topic: &str, partition: i32, node: Option<i32>) {
        self.log().partition(topic, partition).told_leader = node;
    }

    /// What becomes of the next batches of a partition, before the script is asked again.
    pub fn next(&self, topic: &str, partition: i32, verdicts: impl IntoIterator<Item = Verdict>) {
        self.log().partition(topic, partition).next.extend(verdicts);
    }

    /// What becomes of every batch from now on for which there is no `next`. Asked at the leader only.
    pub fn script(&self, script: impl Fn(&Part) -> Verdict + Send + Sync + 'static) {
        self.log().script = Arc::new(script);
    }

    /// Lies once, in place of the next answer to a Produce request.
    pub fn lie(&self, lie: Lie) {
        self.log().lies.push_back(lie);
    }

    /// How many lies it was told of and has not told yet.
    pub fn lies_left(&self) -> usize {
        self.shared.log().lies.len()
    }

    /// Every answer to a Produce request asks for a rest of so many milliseconds.
    pub fn throttle(&self, ms: i32) {
        self.log().throttle_ms = ms;
    }

    /// Whether Metadata is left unanswered.
    pub fn mute_metadata(&self, mute: bool) {
        self.log().mute = mute;
    }

    /// What a partition has, in order.
    pub fn stored(&self, topic: &str, partition: i32) -> Vec<Stored> {
        self.log().partition(topic, partition).stored.clone()
    }

    /// Every part of every Produce request that came, in order, whatever became of it.
    pub fn received(&self) -> Vec<Part> {
        self.log().received.clone()
    }

    /// How many requests of an API came.
    pub fn requests(&self, key: i16) -> usize {
        self.log().requests.iter().filter(|(of, _)| *of == key).count()
    }

    /// The versions at which an API was asked.
    pub fn versions(&self, key: i16) -> Vec<i16> {
        let mut versions: Vec<i16> = self.log().requests.iter().filter(|(of, _)| *of == key).map(|(_, version)| *version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.log().connections
    }

    /// Waits until so many batches came, in all.
    pub async fn has_received(&self, batches: usize) {
        let what = format!("{batches} batches have come to the scripted broker");
        eventually(&what, DEADLINE, async || (self.log().received.len() >= batches).then_some(())).await;
    }

    /// A broker is gone, with all its connections; its address refuses.
    pub async fn kill(&mut self, node: i32) {
        let Some(Listens { task, left }) = self.node(node).listens.take() else { return };
        task.abort();
        // A connection that is at work in this moment takes what has come; after this nothing is taken any more.
        eventually("the broker is gone", DEADLINE, async || (left.strong_count() == 0).then_some(())).await;
    }

    /// It is back, at its address.
    pub async fn revive(&mut self, node: i32) {
        let shared = Arc::clone(&self.shared);
        let node = self.node(node);
        let (id, port) = (node.id, node.port);
        let listener = eventually("the port is free again", DEADLINE, || async move { TcpListener::bind(("127.0.0.1", port)).await.ok() });
        let listener = listener.await;
        node.listens = Some(Listens::begin(shared, id, listener));
    }

    fn node(&mut self, node: i32) -> &mut Node {
        self.nodes.iter_mut().find(|known| known.id == node).expect("a broker of this cluster")
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.nodes.iter().filter_map(|node| node.listens.as_ref()).for_each(|listens| listens.task.abort());
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no script panics")
    }
}

impl Log {
    fn partition(&mut self, topic: &str, partition: i32) -> &mut Partition {
        let known = self.topics.get_mut(topic).unwrap_or_else(|| panic!("the scripted broker has no topic {topic}"));
        usize::try_from(partition).ok().and_then(|at| known.get_mut(at)).expect("a partition of the topic")
    }

    fn find(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        usize::try_from(partition).ok().and_then(|at| self.topics.get_mut(topic)?.get_mut(at))
    }

    /// Writes a part down and says what becomes of it; none: the broker does not lead the partition, or there is none.
    fn judge(&mut self, part: &mut Part) -> Result<Verdict, i16> {
        let script = Arc::clone(&self.script);
        let verdict = match self.find(&part.topic, part.partition) {
            None => Err(3),
            Some(partition) => {
                part.number = partition.received;
                partition.received += 1;
                if partition.leader == part.node { Ok(partition.next.pop_front()) } else { Err(6) }
            }
        };
        self.received.push(part.clone());
        verdict.map(|next| next.unwrap_or_else(|| script(part)))
    }

    fn append(&mut self, part: &Part) -> i64 {
        let partition = self.partition(&part.topic, part.partition);
        let offset = partition.end;
        let count = part.batch.get(57..61).map_or(1, |mut count| i64::from(count.get_i32()));
        partition.end += count.max(1);
        partition.stored.push(Stored { offset, batch: part.batch.clone() });
        offset
    }
}

async fn listen(shared: Arc<Shared>, node: i32, listener: TcpListener, here: Arc<()>) {
    // Its connections end with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut log = shared.log();
            log.connections += 1;
            log.connections - 1
        };
        let (shared, here) = (Arc::clone(&shared), Arc::clone(&here));
        connections.spawn(async move {
            let _here = here;
            serve(shared, node, number, stream).await
        });
    }
}

/// Serves a connection until either side closes it, one request after the other.
async fn serve(shared: Arc<Shared>, node: i32, connection: usize, mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    loop {
        let length = usize::try_from(stream.read_i32().await.ok()?).ok().filter(|length| *length < 100 << 20)?;
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).await.ok()?;
        let answer = shared.answer(node, connection, frame.into()).await?;
        stream.write_all(&answer).await.ok()?;
    }
}

/// A frame around an answer.
fn framed(body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).expect("a small answer"));
    frame.put_slice(body);
    frame
}

/// For ever, or until the connection's task is ended.
async fn silence() -> ! {
    loop {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}
