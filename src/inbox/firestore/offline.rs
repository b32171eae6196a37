//! The rows in Firestore as a person sees them, asked beside whatever gates there are. Nothing is changed.
//!
//! What always holds: rows are found by name, by the whole id, or by a walk that ends at [`WALKED`] rows; a walk that did not
//! get through is not an answer. Of commands, which somebody else drains, only what their documents say is known.

use prost::Message;

use super::client::Client;
use super::lanes::query::{self, Range, equal};
use super::{Collections, fs, order, proto};
use crate::event::{Topic, is_called};
use crate::inbox::not_before_ms;
use crate::inbox::offline::{Entry, Filter, Kept, LEFT, Shown, ShownRecord};
use crate::inbox::row::Row;

/// A page of a walk.
const PAGE: usize = 300;

/// Rows that are walked through for an id at most; each is a read that is billed.
const WALKED: usize = 20_000;

/// Copies of one id that are shown.
const COPIES: u16 = 100;

/// What a list tells of a row: all but what its sender wrote, which would be most of what is read.
const LISTED: [&str; 7] = ["order", "id", "stored_at", "not_before", "maybe_delivered", "attempts", "reason"];

/// Nobody: a person has stored none of the rows.
const NOBODY: &str = "";

/// Reads for a person.
#[derive(Debug)]
pub struct Reader<'a> {
    client: Client,
    collections: &'a Collections,
    commands: &'a [(String, String)],
}

impl<'a> Reader<'a> {
    /// A reader of what is kept there. Must be made on a runtime.
    pub fn new(kept: &'a Kept) -> Result<Self, String> {
        let client = Client::new(&kept.config.firestore)?;
        Ok(Self { client, collections: &kept.collections, commands: &kept.commands })
    }

    /// Lists rows, lane by lane up to the filter's limit, and then the oldest first.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Entry>, String> {
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit as usize };
        let topic = filter.topic.as_deref().map(|name| Topic::new(name).map_err(|error| error.to_string())).transpose()?;
        let ranges = if filter.poison { &[true][..] } else { &[false, true] };
        let mut rows = Vec::new();
        for aside in ranges {
            for document in self.walk(topic.as_ref(), *aside, &LISTED, limit - rows.len()).await? {
                rows.extend(entry(&document).map(|(entry, _)| Entry { bytes: None, ..entry }));
            }
        }
        rows.sort_by_key(|row| row.at_ms);
        Ok(rows)
    }

    /// One row, by its name or its event's id; a command by its name or its idempotency key.
    pub async fn show(&self, wanted: &str) -> Result<Option<Shown>, String> {
        let mut found = self.by_name_or_id(wanted).await?;
        if found.is_empty() {
            found = self.commands(wanted).await?;
        }
        Ok(found.into_iter().next())
    }

    /// The rows of an event, oldest first: by its id, by the client's key in it, or by a row's name.
    pub async fn trace(&self, wanted: &str, topic: Option<&Topic>) -> Result<Vec<Shown>, String> {
        let mut found = self.by_name_or_id(wanted).await?;
        found.extend(self.commands(wanted).await?);
        if found.is_empty() {
            found = self.by_key(wanted, topic).await?;
        }
        found.retain(|shown| topic.is_none_or(|topic| shown.entry.topic == topic.as_str()));
        found.sort_by_key(|shown| shown.entry.at_ms);
        Ok(found)
    }

    async fn by_name_or_id(&self, wanted: &str) -> Result<Vec<Shown>, String> {
        let mut documents = Vec::new();
        for collection in self.collections.all() {
            documents.extend(self.named(collection, wanted).await?);
            documents.extend(self.ask(equal(collection, "id", wanted, COPIES.into())).await?);
        }
        Ok(documents.iter().filter_map(shown).collect())
    }

    /// A client's key is the end of an id, by which nothing can be asked for: the ids are walked through.
    async fn by_key(&self, wanted: &str, topic: Option<&Topic>) -> Result<Vec<Shown>, String> {
        let mut names = Vec::new();
        for aside in [false, true] {
            let walked = self.walk(topic, aside, &["order", "id"], WALKED + 1).await?;
            if walked.len() > WALKED {
                return Err(format!(
                    "not among the first {WALKED} rows of the inbox, and it has more: say --topic, or the whole id of the answer"
                ));
            }
            let called = |document: &&fs::Document| is_called(proto::text_of(&document.fields, "id").unwrap_or_default(), wanted);
            names.extend(walked.iter().filter(called).map(|document| document.name.clone()));
        }
        names.truncate(COPIES.into());
        let found = self.client.get(names).await.map_err(said)?;
        Ok(found.iter().flatten().filter_map(shown).collect())
    }

    async fn commands(&self, wanted: &str) -> Result<Vec<Shown>, String> {
        let mut found = Vec::new();
        for (collection, topic) in self.commands {
            let mut documents = self.named(collection, wanted).await?;
            documents.extend(self.ask(equal(collection, "idempotency_key", wanted, COPIES.into())).await?);
            found.extend(documents.iter().map(|document| command(document, topic)));
        }
        Ok(found)
    }

    async fn named(&self, collection: &str, wanted: &str) -> Result<Vec<fs::Document>, String> {
        let name = wanted.to_ascii_lowercase();
        if name.len() != 40 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let found = self.client.get(vec![self.client.name(collection, &name)]).await.map_err(said)?;
        Ok(found.into_iter().flatten().collect())
    }

    /// These fields of rows in their order, up to a limit.
    async fn walk(&self, topic: Option<&Topic>, aside: bool, fields: &[&str], limit: usize) -> Result<Vec<fs::Document>, String> {
        let (first, to) = order::reach(topic, aside);
        let mut found = Vec::new();
        for collection in self.collections.all() {
            let mut from = first.clone();
            while found.len() < limit {
                let page = Range { collection, from: &from, to: &to }.first(PAGE.min(limit - found.len()));
                let page = self.ask(query::only(page, fields)).await?;
                let Some(last) = page.last().and_then(|last| proto::text_of(&last.fields, "order")) else { break };
                from = format!("{last}\0");
                found.extend(page);
            }
        }
        Ok(found)
    }

    async fn ask(&self, query: fs::StructuredQuery) -> Result<Vec<fs::Document>, String> {
        self.client.look(query).await.map_err(said)
    }
}

/// A row, and what it holds.
fn entry(document: &fs::Document) -> Option<(Entry, Row)> {
    let (row, aside) = match proto::row(document, NOBODY) {
        Some(row) => (row, false),
        None => (proto::row_aside(document, NOBODY)?, true),
    };
    let text = |name: &str| proto::text_of(&document.fields, name).map(str::to_owned);
    let state = match aside {
        true => "poison",
        false if row.not_before_ms > not_before_ms(std::time::Duration::ZERO) => "held",
        false => "ready",
    };
    let entry = Entry {
        name: row.place.name.to_string(),
        id: text("id").unwrap_or_default(),
        topic: row.place.lane.0.to_string(),
        partition: row.place.lane.1,
        at_ms: row.at_ms,
        state,
        maybe: row.maybe || aside,
        attempts: row.attempts,
        reason: text("reason"),
        bytes: Some(document.encoded_len() as u64),
    };
    Some((entry, row))
}

fn shown(document: &fs::Document) -> Option<Shown> {
    let (entry, row) = entry(document)?;
    Some(Shown::of(entry, row.content.as_ref(), || "the document is not one of ours".to_owned()))
}

/// A command as its reader finds it.
fn command(document: &fs::Document, topic: &str) -> Shown {
    let text = |name: &str| proto::text_of(&document.fields, name).unwrap_or_default().to_owned();
    let at_ms = document.create_time.as_ref().map_or(0, |at| at.seconds.saturating_mul(1_000) + i64::from(at.nanos) / 1_000_000);
    let entry = Entry {
        name: document.name.rsplit('/').next().unwrap_or_default().to_owned(),
        id: text("idempotency_key"),
        topic: topic.to_owned(),
        partition: crate::gate::UNASSIGNED,
        at_ms,
        state: LEFT,
        maybe: false,
        attempts: 0,
        reason: None,
        bytes: Some(document.encoded_len() as u64),
    };
    let value = serde_json::Value::Object(document.fields.iter().map(|(name, value)| (name.clone(), json::of(value))).collect());
    let record = ShownRecord { timestamp_ms: at_ms, key: None, headers: Vec::new(), value: Some(value.to_string()) };
    Shown { entry, principal: text("uid"), record: Some(record), records: Vec::new(), unreadable: None }
}

/// Firestore's values as JSON, for a person.
mod json {
    use super::fs::Value;
    use super::fs::value::ValueType;
    use serde_json::{Value as Json, json};

    pub fn of(value: &Value) -> Json {
        match &value.value_type {
            None | Some(ValueType::NullValue(_)) => Json::Null,
            Some(ValueType::BooleanValue(flag)) => json!(flag),
            Some(ValueType::IntegerValue(number)) => json!(number),
            Some(ValueType::DoubleValue(number)) => json!(number),
            Some(ValueType::StringValue(text)) => json!(text),
            Some(ValueType::BytesValue(bytes)) => json!(String::from_utf8_lossy(bytes)),
            Some(ValueType::TimestampValue(at)) => {
                let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
                let at = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
                json!(at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok()))
            }
            Some(ValueType::ArrayValue(array)) => array.values.iter().map(of).collect(),
            Some(ValueType::MapValue(map)) => Json::Object(map.fields.iter().map(|(name, value)| (name.clone(), of(value))).collect()),
            // Nothing of ours writes those.
            Some(_) => json!("…"),
        }
    }
}

fn said(fault: super::client::Fault) -> String {
    format!("the inbox in Firestore cannot be read: {fault}")
}
