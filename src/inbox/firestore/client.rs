//! One database of Firestore, as the inbox needs it: writes, reads by name, queries, counts.
//!
//! What always holds:
//! - Every call ends within its deadline, waiting for a token and a connection included; but a query waits for its turn first.
//! - A fault says what the caller should do, and whether a write may have happened ([`Fault::is_unknown`]).
//! - No token is in an error, a log line or `Debug`.
//! - Nothing depends on the background: [`Client::start`] only makes sure that no call has to wait for a token or a
//!   connection. A host that gives no CPU between requests can leave a call with both to fetch.

mod fault;
mod queries;
mod transport;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::config::Config;
use super::credentials::{Credentials, Token};
use super::fs;
use super::fs::firestore_client::FirestoreClient;
use crate::drain::{Phase, Signal};
use queries::{Came, Queries};
use transport::Transport;

pub use fault::{Fault, Written};

/// A query or a count may take so many times as long as a write; a query longer, where that is what it takes.
const QUERY_PATIENCE: u32 = 5;

/// At most this many bytes of documents are read by one query, but always one document.
const MAX_QUERY_BYTES: usize = 4 << 20;

/// After so long without a call, one is made to keep the connection and the service's caches warm.
const WARM_AFTER: Duration = Duration::from_secs(60);

/// After a call that failed, one is made so soon, so that it is seen when the service is back.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// One database of Firestore. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Transport,
    credentials: Credentials,
    /// `projects/P/databases/D`.
    database: String,
    /// `projects/P/databases/D/documents`.
    root: String,
    /// A name that no document has.
    missing: String,
    call_timeout: Duration,
    headers: Headers,
    queries: Queries,
    looks: Queries,
    last: Mutex<Last>,
}

/// What Google's front needs to find the database, as a call by its name and a query by its root say it.
#[derive(Debug)]
struct Headers {
    prefix: MetadataValue<Ascii>,
    by_database: MetadataValue<Ascii>,
    by_parent: MetadataValue<Ascii>,
}

#[derive(Debug, Default)]
struct Last {
    call: Option<Instant>,
    answered: Option<Instant>,
    error: Option<String>,
}

impl Client {
    /// A client; it connects when it is first used. An error is a mistake in the configuration, in words for a person.
    /// Must be called on a runtime. Only when nothing else names a project is the metadata server asked, for
    /// 3 s at most, on a thread of its own that this one waits for.
    pub fn new(config: &Config) -> Result<Self, String> {
        if let Some((key, problem)) = config.mistakes().into_iter().next() {
            return Err(format!("inbox.firestore.{key}: {problem}"));
        }
        let credentials = Credentials::new(config)?;
        let project = config.project.clone().map_or_else(|| credentials.project(), Ok)?;
        let database = format!("projects/{project}/databases/{}", config.database);
        let root = format!("{database}/documents");
        let inner = Inner {
            transport: Transport::new(&config.url())?,
            credentials,
            missing: format!("{root}/{}/sluicegate-warm-up", config.collection),
            call_timeout: config.call_timeout.get(),
            headers: Headers::new(&database, &root)?,
            queries: Queries::new(config.call_timeout.get() * QUERY_PATIENCE),
            looks: Queries::new(config.call_timeout.get() * QUERY_PATIENCE),
            database,
            root,
            last: Mutex::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Whether a client could be made of this, as far as can be seen without asking anybody.
    pub fn check(config: &Config) -> Result<(), String> {
        let credentials = Credentials::new(config)?;
        if config.project.is_none() && !credentials.asks_for_project() {
            credentials.project()?;
        }
        Transport::check(&config.url())
    }

    /// Keeps the token fresh and the connection warm. Ends with the drain's last phase; calls can be made after that, too.
    pub async fn start(&self, mut signal: Signal) {
        tokio::select! {
            () = signal.reached(Phase::Storing) => (),
            () = self.0.credentials.keep() => (),
            () = self.keep_warm() => (),
        }
    }

    /// Whether there is a token that can be sent now.
    pub fn has_token(&self) -> bool {
        self.0.credentials.has_token()
    }

    /// Whether there is none, and the last one that was asked for did not come. A token that has only expired is fetched by the
    /// call that needs it.
    pub fn is_without_token(&self) -> bool {
        self.0.credentials.is_without_token()
    }

    /// What went wrong last, if nothing has gone well since.
    pub fn last_error(&self) -> Option<String> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).error.clone();
        self.0.credentials.last_error().or(last)
    }

    /// A document's full name.
    pub fn name(&self, collection: &str, id: &str) -> String {
        format!("{}/{collection}/{id}", self.0.root)
    }

    /// Makes writes, each for itself: one result for each, in their order. No document may be in two of them, and there
    /// are at most 500; the service refuses the whole call otherwise.
    pub async fn write(&self, writes: Vec<fs::Write>) -> Result<Vec<Written>, Fault> {
        let asked = writes.len();
        if asked == 0 {
            return Ok(Vec::new());
        }
        let message = fs::BatchWriteRequest { database: self.0.database.clone(), writes, labels: HashMap::new() };
        let inner = &self.0;
        let write = async |mut stub: FirestoreClient<Channel>, request| stub.batch_write(request).await.map(Response::into_inner);
        inner.call(inner.call_timeout, &inner.headers.by_database, message, write, |answer| fault::written(answer, asked)).await
    }

    /// Documents by their full names, in the order asked; none where there is none. For a few: they are all in memory.
    pub async fn get(&self, names: Vec<String>) -> Result<Vec<Option<fs::Document>>, Fault> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let message = fs::BatchGetDocumentsRequest { database: self.0.database.clone(), documents: names.clone(), ..Default::default() };
        let inner = &self.0;
        let read = async |mut stub: FirestoreClient<Channel>, request| {
            let mut answers = stub.batch_get_documents(request).await?.into_inner();
            let mut found = HashMap::with_capacity(names.len());
            while let Some(answer) = answers.message().await? {
                match answer.result {
                    Some(fs::batch_get_documents_response::Result::Found(document)) => found.insert(document.name.clone(), Some(document)),
                    Some(fs::batch_get_documents_response::Result::Missing(name)) => found.insert(name, None),
                    None => None,
                };
            }
            Ok(found)
        };
        inner.call(inner.call_timeout, &inner.headers.by_database, message, read, |found| in_order(&names, &found)).await
    }

    /// The documents that a query finds below the root, in its order. **Fewer than its limit does not mean that there are no
    /// more**: what is read at once is bounded in bytes. None does.
    pub async fn query(&self, query: fs::StructuredQuery) -> Result<Vec<fs::Document>, Fault> {
        self.ask(&self.0.queries, query).await
    }

    /// The same, in a line of its own: who looks for lanes, or asks for a person, does not wait for those who read rows.
    pub async fn look(&self, query: fs::StructuredQuery) -> Result<Vec<fs::Document>, Fault> {
        self.ask(&self.0.looks, query).await
    }

    async fn ask(&self, line: &Queries, query: fs::StructuredQuery) -> Result<Vec<fs::Document>, Fault> {
        let query = fs::run_query_request::QueryType::StructuredQuery(query);
        let message = fs::RunQueryRequest { parent: self.0.root.clone(), query_type: Some(query), ..Default::default() };
        let read = async |mut stub: FirestoreClient<Channel>, request| {
            let mut answers = stub.run_query(request).await?.into_inner();
            let (mut documents, mut bytes) = (Vec::new(), 0);
            while let Some(answer) = answers.message().await? {
                bytes += answer.encoded_len();
                documents.extend(answer.document);
                if bytes > MAX_QUERY_BYTES {
                    break;
                }
            }
            Ok(documents)
        };
        let inner = &self.0;
        let turn = line.turn().await;
        let answer = inner.call(turn.patience, &inner.headers.by_parent, message, read, Ok).await;
        let came = match &answer {
            Ok(_) => Came::InTime,
            // Whether it is the query or the service, other calls tell: leases are renewed, and the connection is kept warm.
            Err(Fault::Slow) if inner.has_answered_since(turn.began) => Came::Late,
            Err(Fault::Slow) => Came::Away,
            Err(_) => Came::Never,
        };
        turn.ended(came);
        answer
    }

    /// How many documents a query finds below the root.
    pub async fn count(&self, query: fs::StructuredQuery) -> Result<u64, Fault> {
        let inner = &self.0;
        let read = async |mut stub: FirestoreClient<Channel>, request| {
            let mut answers = stub.run_aggregation_query(request).await?.into_inner();
            let mut count = None;
            while let Some(answer) = answers.message().await? {
                count = count.or(answer.result.and_then(counted));
            }
            Ok(count)
        };
        let number = |count: Option<u64>| count.ok_or_else(|| Fault::Other("a count without a number".to_owned()));
        inner.call(inner.call_timeout * QUERY_PATIENCE, &inner.headers.by_parent, inner.to_count(query), read, number).await
    }

    /// Calls now and whenever nobody else has for a while.
    async fn keep_warm(&self) {
        loop {
            let asked = self.get(vec![self.0.missing.clone()]).await;
            let mut wait = if asked.is_ok() { WARM_AFTER } else { LOOK_AFTER };
            while !wait.is_zero() {
                tokio::time::sleep(wait).await;
                wait = self.0.idle_left();
            }
        }
    }
}

impl Inner {
    /// One call: a token, the deadline, and what its end says of both.
    async fn call<M, A, T>(
        &self,
        limit: Duration,
        params: &MetadataValue<Ascii>,
        message: M,
        ask: impl AsyncFnOnce(FirestoreClient<Channel>, Request<M>) -> Result<A, Status>,
        read: impl FnOnce(A) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut used = None;
        let asked = async {
            let token = self.credentials.token().await.ok_or_else(|| Fault::Denied("there is no token".to_owned()))?;
            let request = self.headers.request(message, limit, params, &token);
            used = Some(token);
            ask(self.transport.stub(), request).await.map_err(|status| Fault::of(&status))
        };
        let timed = tokio::time::timeout(limit, asked).await;
        // Without a token nothing was sent, however long it took.
        let late = if used.is_some() { Fault::Slow } else { Fault::Denied("there was no token in time".to_owned()) };
        let answer = timed.unwrap_or(Err(late)).and_then(read);
        self.ended(answer.as_ref().err(), used.as_ref());
        answer
    }

    fn ended(&self, fault: Option<&Fault>, token: Option<&Token>) {
        if let (Some(Fault::Denied(_)), Some(token)) = (fault, token) {
            self.credentials.discard(token);
        }
        if token.is_some() {
            self.transport.heard(fault != Some(&Fault::Slow));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.call = Some(Instant::now());
        if !matches!(fault, Some(Fault::Slow | Fault::Unreachable(_))) {
            last.answered = last.call;
        }
        // Of a refusal the words name the sender's own fields, and who reads the status may not read events.
        last.error = fault.map(|fault| if matches!(fault, Fault::Invalid(_)) { "refused".to_owned() } else { fault.to_string() });
    }

    /// Whether a call was answered since then, well or not.
    fn has_answered_since(&self, then: Instant) -> bool {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).answered.is_some_and(|answered| answered >= then)
    }

    /// What is left of the time in which somebody else's call makes ours superfluous.
    fn idle_left(&self) -> Duration {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = if last.error.is_some() { LOOK_AFTER } else { WARM_AFTER };
        last.call.map_or(Duration::ZERO, |call| wait.saturating_sub(call.elapsed()))
    }

    fn to_count(&self, query: fs::StructuredQuery) -> fs::RunAggregationQueryRequest {
        use fs::structured_aggregation_query::aggregation::{Count, Operator};
        use fs::structured_aggregation_query::{Aggregation, QueryType};
        let count = Aggregation { alias: "count".to_owned(), operator: Some(Operator::Count(Count { up_to: None })) };
        let query = fs::StructuredAggregationQuery { aggregations: vec![count], query_type: Some(QueryType::StructuredQuery(query)) };
        let query = fs::run_aggregation_query_request::QueryType::StructuredAggregationQuery(query);
        fs::RunAggregationQueryRequest { parent: self.root.clone(), query_type: Some(query), ..Default::default() }
    }
}

impl Headers {
    fn new(database: &str, root: &str) -> Result<Self, String> {
        let value = |text: String| MetadataValue::try_from(text).map_err(|_| format!("`{database}` is no name of a database"));
        let param = |name: &str, text: &str| value(format!("{name}={}", utf8_percent_encode(text, NON_ALPHANUMERIC)));
        Ok(Self { prefix: value(database.to_owned())?, by_database: param("database", database)?, by_parent: param("parent", root)? })
    }

    fn request<M>(&self, message: M, limit: Duration, params: &MetadataValue<Ascii>, token: &Token) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(limit);
        let metadata = request.metadata_mut();
        metadata.insert("google-cloud-resource-prefix", self.prefix.clone());
        metadata.insert("x-goog-request-params", params.clone());
        metadata.insert("authorization", token.header());
        request
    }
}

/// What was found, in the order asked. A name that there is no word of is not a missing document.
fn in_order(names: &[String], found: &HashMap<String, Option<fs::Document>>) -> Result<Vec<Option<fs::Document>>, Fault> {
    let all = names.iter().map(|name| found.get(name).cloned()).collect::<Option<Vec<_>>>();
    all.ok_or_else(|| Fault::Other(format!("{} documents of {} were answered", found.len(), names.len())))
}

fn counted(result: fs::AggregationResult) -> Option<u64> {
    match result.aggregate_fields.into_values().next()?.value_type? {
        fs::value::ValueType::IntegerValue(count) => u64::try_from(count).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
