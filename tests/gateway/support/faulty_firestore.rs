//! A Firestore that can be told to fail: a proxy before Google's emulator, which cannot.
//!
//! What always holds: what it was not told to break it hands on as it came, messages and trailers alike; every call is
//! counted when it has come, whatever becomes of it; what it is told holds for the calls that come from then on.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use googleapis_tonic_google_firestore_v1::google::firestore::v1::precondition::ConditionType;
use googleapis_tonic_google_firestore_v1::google::firestore::v1::write::Operation;
use googleapis_tonic_google_firestore_v1::google::firestore::v1::{
    BatchWriteRequest, BatchWriteResponse, CommitRequest, Write, WriteResult,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Codes of gRPC, as a script names them.
pub const ABORTED: i32 = 10;
/// See `ABORTED`.
pub const INVALID_ARGUMENT: i32 = 3;
/// See `ABORTED`.
pub const RESOURCE_EXHAUSTED: i32 = 8;
/// See `ABORTED`.
pub const UNAVAILABLE: i32 = 14;
/// See `ABORTED`.
pub const UNAUTHENTICATED: i32 = 16;

/// Every method.
pub const ANY: &str = "*";

/// Instead of a method: calls that delete rows, and do nothing else. (Leases are none.)
pub const DELETES: &str = "deletes";

/// How many calls a script still breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// So many.
    Only(usize),
    /// All, until it is told otherwise.
    UntilHealed,
}

/// What becomes of an answer that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The stream is reset.
    Reset,
    /// Nothing comes, for as long as the caller waits.
    Silence,
}

/// Which calls that store, whatever else they do, are answered with OK and not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// None of them.
    Never,
    /// One in so many: the nth, the 2nth and so on from the moment that it is told.
    Every(usize),
    /// The same, and all that have a document again of which it has lied: it sticks to what it says.
    Stubborn(usize),
}

/// What it is told to do.
#[derive(Debug)]
struct Script {
    /// Before the emulator has the call.
    delay: Duration,
    /// After the emulator has answered.
    late: Duration,
    failing: Vec<(String, i32, String, Times)>,
    /// Methods that are never answered, and not handed on.
    silent: Vec<String>,
    /// How long each query takes, one after the other; and how much later its answer comes.
    query: Duration,
    late_query: Duration,
    losing: Option<(Loss, Times)>,
    lie: Lie,
    stores: usize,
    /// The bearers that are let in; none: everybody.
    bearers: Option<Vec<String>>,
}

impl Default for Script {
    fn default() -> Self {
        let none = Duration::ZERO;
        Self {
            delay: none,
            late: none,
            failing: Vec::new(),
            silent: Vec::new(),
            query: none,
            late_query: none,
            losing: None,
            lie: Lie::Never,
            stores: 0,
            bearers: None,
        }
    }
}

/// A call that has come.
#[derive(Debug, Clone)]
pub struct Call {
    /// When.
    pub at: Instant,
    /// `BatchWrite`, `Commit`, `RunQuery` …
    pub method: String,
    /// How many writes are in it.
    pub writes: usize,
    /// One of them is of a document of which was lied.
    pub again: bool,
    /// Whether it creates documents, and does nothing else: what an event that is stored makes. (A lease is none.)
    pub stores: bool,
    /// Whether it creates documents, whatever else it does: late reports go with events, in one call.
    pub makes: bool,
    /// Whether it deletes rows, and does nothing else.
    pub deletes: bool,
    /// Bytes of its message.
    pub bytes: usize,
}

#[derive(Debug)]
struct Shared {
    emulator: String,
    pool: Pool<HttpConnector, Full<Bytes>>,
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    lied: Mutex<Vec<String>>,
    /// The one query that is worked on.
    query: Arc<tokio::sync::Mutex<()>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// The proxy, until it is dropped.
pub struct FaultyFirestore {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for FaultyFirestore {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FaultyFirestore {
    /// One before the emulator at this address (host:port), that breaks nothing yet.
    pub async fn before(emulator: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port of loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            emulator: emulator.to_owned(),
            pool: Pool::builder(TokioExecutor::new()).http2_only(true).build_http(),
            script: Mutex::default(),
            calls: Mutex::default(),
            lied: Mutex::default(),
            query: Arc::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    /// Where it listens: the value of `FIRESTORE_EMULATOR_HOST`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every call reaches the emulator so much later. One that its caller gives up meanwhile never does.
    pub fn delay(&self, by: Duration) {
        self.script().delay = by;
    }

    /// Every answer comes so much later: what the caller has given up is done all the same.
    pub fn answer_late(&self, by: Duration) {
        self.script().late = by;
    }

    /// Answers to queries come so much later, and tell what was there when they were asked.
    pub fn answer_queries_late(&self, by: Duration) {
        self.script().late_query = by;
    }

    /// Calls of this method (or `ANY`, `DELETES`) are answered with a status and do nothing.
    pub fn fail(&self, method: &str, code: i32, message: &str, times: Times) {
        self.script().failing.push((method.to_owned(), code, message.to_owned(), times));
    }

    /// Calls of this method (or `ANY`, `DELETES`) do nothing, and are not answered for as long as the caller waits.
    pub fn ignore(&self, method: &str) {
        self.script().silent.push(method.to_owned());
    }

    /// Queries are worked on one after the other, each for so long, and to its end when its caller has given it up.
    pub fn work_through_queries(&self, each: Duration) {
        self.script().query = each;
    }

    /// Calls that store are handed on and done, and their answers lost.
    pub fn answer_then_lose(&self, loss: Loss, times: Times) {
        self.script().losing = Some((loss, times));
    }

    /// Calls that store are answered with OK for each write, and are not handed on.
    pub fn lie(&self, lie: Lie) {
        let mut script = self.script();
        (script.lie, script.stores) = (lie, 0);
    }

    /// Only these bearers are let in; everybody else is UNAUTHENTICATED.
    pub fn admit_only(&self, bearers: &[&str]) {
        self.script().bearers = Some(bearers.iter().map(|&bearer| bearer.to_owned()).collect());
    }

    /// Nothing is broken any more. What was said not to be done stays undone.
    pub fn heal(&self) {
        *self.script() = Script::default();
    }

    /// All calls that have come, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().expect("nothing panics under this lock").clone()
    }

    /// How many calls of this method (or `ANY`, `DELETES`) have come.
    pub fn count(&self, method: &str) -> usize {
        self.calls().iter().filter(|call| is(method, call)).count()
    }

    /// How many calls that store have come.
    pub fn stores(&self) -> usize {
        self.calls().iter().filter(|call| call.stores).count()
    }

    /// The most writes that one call had.
    pub fn largest_batch(&self) -> usize {
        self.calls().iter().map(|call| call.writes).max().unwrap_or(0)
    }

    /// How many calls were being answered at the same time at most.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }

    /// How many calls are being answered.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// The documents that it has said are there and are not, each by its whole name.
    pub fn lied(&self) -> Vec<String> {
        self.shared.lied.lock().expect("nothing panics under this lock").clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script()
    }
}

fn is(wanted: &str, call: &Call) -> bool {
    wanted == ANY || wanted == call.method || (wanted == DELETES && call.deletes)
}

type Body = BoxBody<Bytes, Infallible>;

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, they end with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let answer = service_fn(move |request| Arc::clone(&shared).answer(request));
    // How a connection ends is its client's affair.
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
}

/// A call is in flight until this is dropped.
struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is to become of a call.
enum Fate {
    Status(i32, String),
    Silence,
    Lie(usize),
    Forward { late: Duration, loss: Option<Loss> },
}

impl Shared {
    /// An error resets the stream.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, String> {
        let (head, body) = request.into_parts();
        let message = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let _in_flight = self.enter();
        let method = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let writes = writes(&method, &message);
        let stores = !writes.is_empty() && writes.iter().all(is_store);
        let makes = writes.iter().any(is_store);
        let deletes = !writes.is_empty() && writes.iter().all(is_delete);
        let again = {
            let lied = self.lied.lock().expect("nothing panics under this lock");
            writes.iter().filter_map(name).any(|name| lied.contains(&name))
        };
        let call = Call { at: Instant::now(), method, writes: writes.len(), again, stores, makes, deletes, bytes: message.len() };
        let is_query = is("RunQuery", &call);
        let (delay, fate) = self.fate(&call, bearer(&head.headers));
        self.calls.lock().expect("nothing panics under this lock").push(call);
        tokio::time::sleep(delay).await; // The fault's own length.
        if is_query {
            self.work().await;
        }
        match fate {
            Fate::Status(code, message) => Ok(status(code, &message)),
            Fate::Silence => std::future::pending().await,
            Fate::Lie(writes_told) => {
                self.lied
                    .lock()
                    .expect("nothing panics under this lock")
                    .extend(writes.iter().filter(|write| is_store(write)).filter_map(name));
                Ok(all_is_written(writes_told))
            }
            Fate::Forward { late, loss } => {
                let answer = self.forward(head, message).await;
                tokio::time::sleep(late).await; // The fault's own length.
                match loss {
                    None => Ok(answer.unwrap_or_else(|error| status(UNAVAILABLE, &error))),
                    Some(Loss::Reset) => Err("the answer is lost".to_owned()),
                    Some(Loss::Silence) => std::future::pending().await,
                }
            }
        }
    }

    /// A query's turn and its work; a task, which goes on when nobody waits for it.
    async fn work(&self) {
        let (query, each) = (Arc::clone(&self.query), self.script().query);
        let work = async move {
            let _turn = query.lock().await;
            tokio::time::sleep(each).await; // The fault's own length.
        };
        // It does not panic.
        let _ = tokio::spawn(work).await;
    }

    fn enter(self: &Arc<Self>) -> InFlight {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("nothing panics under this lock")
    }

    fn fate(&self, call: &Call, bearer: Option<&str>) -> (Duration, Fate) {
        let mut script = self.script();
        let delay = script.delay;
        if script.bearers.as_ref().is_some_and(|known| !known.iter().any(|known| Some(known.as_str()) == bearer)) {
            return (delay, Fate::Status(UNAUTHENTICATED, "Request had invalid authentication credentials.".to_owned()));
        }
        let failing = script
            .failing
            .iter_mut()
            .find_map(|(wanted, code, message, times)| (is(wanted, call) && times.use_one()).then(|| (*code, message.clone())));
        if let Some((code, message)) = failing {
            return (delay, Fate::Status(code, message));
        }
        if script.silent.iter().any(|method| is(method, call)) {
            return (delay, Fate::Silence);
        }
        let (mut late, mut loss) = (script.late, None);
        if is("RunQuery", call) {
            late = late.max(script.late_query);
        }
        if call.makes {
            script.stores += 1;
            let lies = match script.lie {
                Lie::Never => false,
                Lie::Every(n) => script.stores.is_multiple_of(n),
                Lie::Stubborn(n) => script.stores.is_multiple_of(n) || call.again,
            };
            if lies {
                return (delay, Fate::Lie(call.writes));
            }
        }
        if call.stores {
            loss = script.losing.as_mut().and_then(|(loss, times)| times.use_one().then_some(*loss));
        }
        (delay, Fate::Forward { late, loss })
    }

    async fn forward(&self, mut head: http::request::Parts, message: Bytes) -> Result<Response<Body>, String> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = format!("http://{}{path}", self.emulator).parse().map_err(|error| format!("{error}"))?;
        let request = Request::from_parts(head, Full::new(message));
        let answer = self.pool.request(request).await.map_err(|error| format!("no emulator: {error:?}"))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| format!("no emulator: {error:?}"))?;
        let trailers = body.trailers().cloned();
        Ok(Response::from_parts(head, whole(body.to_bytes(), trailers)))
    }
}

impl Times {
    fn use_one(&mut self) -> bool {
        match self {
            Self::UntilHealed => true,
            Self::Only(0) => false,
            Self::Only(left) => {
                *left -= 1;
                true
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The writes of a call; none where it is one that does not write, or none that can be read.
fn writes(method: &str, framed: &[u8]) -> Vec<Write> {
    // A byte that says whether it is compressed, which nobody here does, and four of its length.
    let message = framed.get(5..).unwrap_or_default();
    match method {
        "BatchWrite" => BatchWriteRequest::decode(message).map(|request| request.writes).unwrap_or_default(),
        "Commit" => CommitRequest::decode(message).map(|request| request.writes).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Whether a write makes a document that is not a lease.
fn is_store(write: &Write) -> bool {
    let creates = write.current_document.as_ref().is_some_and(|rule| matches!(rule.condition_type, Some(ConditionType::Exists(false))));
    creates && name(write).is_some_and(|name| !name.contains("_leases/"))
}

fn is_delete(write: &Write) -> bool {
    matches!(&write.operation, Some(Operation::Delete(name)) if !name.contains("_leases/"))
}

fn name(write: &Write) -> Option<String> {
    match &write.operation {
        Some(Operation::Update(document)) => Some(document.name.clone()),
        _ => None,
    }
}

fn all_is_written(writes: usize) -> Response<Body> {
    let answer = BatchWriteResponse { write_results: vec![WriteResult::default(); writes], status: vec![Default::default(); writes] };
    let length = answer.encoded_len();
    let mut framed = BytesMut::with_capacity(5 + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).expect("500 writes at most"));
    answer.encode(&mut framed).expect("there is room");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    grpc(Response::new(whole(framed.freeze(), Some(trailers))))
}

/// An answer of trailers alone.
fn status(code: i32, message: &str) -> Response<Body> {
    let mut answer = grpc(Response::new(whole(Bytes::new(), None)));
    answer.headers_mut().insert("grpc-status", HeaderValue::from(code));
    let message = percent_encoding::utf8_percent_encode(message, percent_encoding::CONTROLS).to_string();
    answer.headers_mut().insert("grpc-message", HeaderValue::try_from(message).expect("visible letters"));
    answer
}

fn grpc(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}

fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        None => Full::new(data).boxed(),
        Some(trailers) => Full::new(data).with_trailers(async { Some(Ok(trailers)) }).boxed(),
    }
}
