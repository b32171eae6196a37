//! The platform's worker as far as it reads commands that came by way of Firestore, to the letter of what is known of it.
//!
//! What always holds: it takes 100 documents at a time in no order, projects each that is exactly as it wants it, and
//! deletes it; what is not fails, and after the fifth time is moved to the collection of the dead letters. Two documents
//! of one user and idempotency key are one command; with two payloads they are a conflict, which fails.

use std::collections::HashMap;

use http::Method;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::Client;

/// The collection that it polls.
pub const COMMANDS: &str = "frontend_command_inbox";

/// Where what has failed too often goes.
pub const DEAD_LETTERS: &str = "frontend_command_dlq";

/// What it takes at a time.
const PAGE: u32 = 100;

/// How often a document may fail.
const FAILURES: u32 = 5;

/// What a document holds, and nothing else.
const FIELDS: [&str; 6] = ["idempotency_key", "payload", "source", "timestamp", "uid", "version"];

/// A command that it has taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The user.
    pub uid: String,
    /// The user's or the app's name for it.
    pub idempotency_key: String,
    /// When it was made.
    pub timestamp: String,
    /// What it says, as JSON.
    pub payload: Value,
    /// The same as Firestore has it, each value with its type.
    pub typed_payload: Value,
    /// By which way it came.
    pub source: String,
}

impl Command {
    /// The value that a record of the same command has.
    pub fn record(&self) -> Value {
        let Self { uid, timestamp, idempotency_key, payload, .. } = self;
        json!({"uid": uid, "timestamp": timestamp, "idempotency_key": idempotency_key, "version": "1.0", "payload": payload})
    }
}

/// The reader, and what it has taken so far.
pub struct PlatformReader {
    client: Client,
    documents: String,
    failures: HashMap<String, u32>,
    /// The payload of each user's key.
    known: HashMap<(String, String), Value>,
    /// What it has projected, in the order in which it came.
    pub commands: Vec<Command>,
    /// Documents whose command it knew already.
    pub duplicates: usize,
    /// What it has moved aside, and why.
    pub dead: Vec<(String, String)>,
}

impl PlatformReader {
    /// One of the database at this address (host:port), project and name.
    pub fn of(address: &str, project: &str, database: &str) -> Self {
        Self {
            client: Client::trusting(None),
            documents: format!("http://{address}/v1/projects/{project}/databases/{database}/documents"),
            failures: HashMap::new(),
            known: HashMap::new(),
            commands: Vec::new(),
            duplicates: 0,
            dead: Vec::new(),
        }
    }

    /// Takes what is there, once. Gives how many documents it has seen.
    pub async fn poll(&mut self) -> usize {
        let query = json!({"structuredQuery": {"from": [{"collectionId": COMMANDS}], "limit": PAGE}});
        let found = self.ask(Method::POST, &format!("{}:runQuery", self.documents), &query).await;
        let documents: Vec<Value> = found.as_array().expect("a list").iter().map(|one| one["document"].clone()).collect();
        let documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
        for document in &documents {
            self.take(document).await;
        }
        documents.len()
    }

    /// Takes until nothing is left.
    pub async fn drain(&mut self) {
        while self.poll().await > 0 {}
    }

    async fn take(&mut self, document: &Value) {
        let name = document["name"].as_str().expect("every document has a name").to_owned();
        let path = name.rsplit_once("/documents/").expect("a name of the database").1.to_owned();
        match command(&document["fields"]).and_then(|command| self.project(command)) {
            Ok(()) => self.delete(&path).await,
            Err(why) => {
                let failures = self.failures.entry(path.clone()).or_default();
                *failures += 1;
                if *failures == FAILURES {
                    let id = path.rsplit_once('/').expect("a collection and an id").1;
                    let letter = format!("{}/{DEAD_LETTERS}?documentId={id}", self.documents);
                    self.ask(Method::POST, &letter, &json!({"fields": document["fields"]})).await;
                    self.dead.push((id.to_owned(), why));
                    self.delete(&path).await;
                }
            }
        }
    }

    fn project(&mut self, command: Command) -> Result<(), String> {
        let name = (command.uid.clone(), command.idempotency_key.clone());
        match self.known.get(&name) {
            Some(payload) if *payload == command.payload => self.duplicates += 1,
            Some(_) => return Err("one key with two payloads".to_owned()),
            None => {
                self.known.insert(name, command.payload.clone());
                self.commands.push(command);
            }
        }
        Ok(())
    }

    async fn delete(&self, path: &str) {
        self.ask(Method::DELETE, &format!("{}/{path}", self.documents), &Value::Null).await;
    }

    async fn ask(&self, method: Method, url: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("authorization", "Bearer owner"), ("content-type", "application/json")];
        let answer = self.client.send(method, url, &headers, body).await.expect("Firestore answers");
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        answer.json()
    }
}

/// What the fields of a document say, or what is wrong with them.
fn command(fields: &Value) -> Result<Command, String> {
    let mut names: Vec<&str> = fields.as_object().ok_or("no fields")?.keys().map(String::as_str).collect();
    names.sort_unstable();
    if names != FIELDS {
        return Err(format!("the fields are {names:?}"));
    }
    let text = |name: &str| fields[name]["stringValue"].as_str().map(str::to_owned).ok_or(format!("{name} is no string"));
    let (uid, timestamp, key, version, source) =
        (text("uid")?, text("timestamp")?, text("idempotency_key")?, text("version")?, text("source")?);
    if uid.is_empty() || source.is_empty() {
        return Err("uid or source is empty".to_owned());
    }
    if OffsetDateTime::parse(&timestamp, &Rfc3339).is_err() {
        return Err(format!("timestamp is no time: {timestamp}"));
    }
    if version != "1.0" {
        return Err(format!("version is {version}"));
    }
    if !is_key(&key) {
        return Err(format!("idempotency_key breaks its rule: {key}"));
    }
    if !fields["payload"]["mapValue"].is_object() {
        return Err("payload is no object".to_owned());
    }
    let payload = plain(&fields["payload"]);
    if payload["action"].as_str().is_none_or(str::is_empty) {
        return Err("payload.action is no string that says something".to_owned());
    }
    Ok(Command { uid, timestamp, idempotency_key: key, payload, typed_payload: fields["payload"].clone(), source })
}

/// `^[A-Za-z0-9][A-Za-z0-9._:-]*$`, 16 to 128.
fn is_key(key: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (16..=128).contains(&key.len()) && key.as_bytes()[0].is_ascii_alphanumeric() && key.bytes().all(legal)
}

/// A value of Firestore's REST API as plain JSON. One of a type that JSON does not have is an object that nobody sent.
pub fn plain(value: &Value) -> Value {
    let (kind, inner) = value.as_object().and_then(|value| value.iter().next()).unwrap_or_else(|| panic!("no value: {value}"));
    match kind.as_str() {
        "nullValue" => Value::Null,
        "booleanValue" | "stringValue" | "doubleValue" => inner.clone(),
        "integerValue" => inner.as_str().and_then(|text| text.parse::<i64>().ok()).map_or_else(|| value.clone(), Value::from),
        "arrayValue" => inner["values"].as_array().map_or_else(Vec::new, |values| values.iter().map(plain).collect()).into(),
        "mapValue" => inner["fields"].as_object().map_or_else(Map::new, fields).into(),
        _ => value.clone(),
    }
}

fn fields(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
}
