//! What a Collector has written of one run of a client, comparable with what it has written of another.
//!
//! What always holds: two runs of one program are equal here although their ids and the times that the SDK took differ;
//! everything else that a Collector tells of a span, a data point or a log record, its parent and its links included, is
//! compared. An id stands for the span that has it: it is replaced by that span's name.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// A time before this one was given by the program, and is compared to the nanosecond. Later ones were taken by the SDK.
const TAKEN: u64 = 1_750_000_000_000_000_000;

/// The ids of a span that is far away: no run has made them.
const FAR_AWAY: [&str; 2] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];

/// The resource's attribute that names the run.
const RUN: &str = "test.run";

/// The data of a metric, by kind, as JSON has it.
const KINDS: [&str; 5] = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];

/// Everything that was told of one run: the items under what they are called (`span crowd 3`), in no order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry(BTreeMap<String, Vec<Value>>);

impl Telemetry {
    /// What these export requests, in JSON, say of a run.
    pub fn of(requests: &[Value], run: &str) -> Self {
        let names = Names::of(requests, run);
        let mut items = BTreeMap::<_, Vec<Value>>::new();
        for (what, mut item) in requests.iter().flat_map(|request| entries(request, run)).flat_map(items_of) {
            names.replace(&mut item);
            items.entry(what).or_default().push(item);
        }
        for same in items.values_mut() {
            same.sort_by_cached_key(Value::to_string);
        }
        Self(items)
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// How many items it has of a kind: `span`, `log`, or that of a metric.
    pub fn count(&self, kind: &str) -> usize {
        let of_kind = |(what, _): &(&String, _)| what.split(' ').next() == Some(kind);
        self.0.iter().filter(of_kind).map(|(_, same)| same.len()).sum()
    }

    /// The items that are called so.
    pub fn named(&self, what: &str) -> &[Value] {
        self.0.get(what).map_or(&[], Vec::as_slice)
    }

    /// What differs, a line each: the item, the way to it, both values. Empty: nothing.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut all: Vec<_> = self.0.keys().chain(other.0.keys()).collect();
        all.sort();
        all.dedup();
        for what in all {
            let (ours, theirs) = (self.named(what), other.named(what));
            if ours.len() != theirs.len() {
                lines.push(format!("{what}: {} of it, and {} of it", ours.len(), theirs.len()));
            }
            for (one, another) in ours.iter().zip(theirs) {
                compare(what, one, another, &mut lines);
            }
        }
        lines
    }
}

/// Where two values differ.
fn compare(path: &str, one: &Value, other: &Value, lines: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                let at = |of: &Value| of.get(key).cloned().unwrap_or_else(|| json!("(nothing)"));
                compare(&format!("{path}/{key}"), &at(one), &at(other), lines);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (place, (one, other)) in ours.iter().zip(theirs).enumerate() {
                compare(&format!("{path}/{place}"), one, other, lines);
            }
        }
        _ if one == other => {}
        _ => lines.push(format!("{path}: {one}, and {other}")),
    }
}

/// The entries of a request (one for each resource and its scopes) that belong to a run.
fn entries<'a>(request: &'a Value, run: &str) -> impl Iterator<Item = &'a Value> {
    let all = ["resourceSpans", "resourceMetrics", "resourceLogs"].iter().flat_map(|key| list(&request[*key]));
    all.filter(move |entry| {
        let mut attributes = list(&entry["resource"]["attributes"]);
        attributes.any(|attribute| attribute["key"] == RUN && attribute["value"]["stringValue"] == run)
    })
}

/// Every span, data point and log record of an entry with all that it stands under, and what it is called.
fn items_of(entry: &Value) -> Vec<(String, Value)> {
    let mut items = Vec::new();
    for key in ["scopeSpans", "scopeMetrics", "scopeLogs"] {
        for scope in list(&entry[key]) {
            let around = json!({"resource": entry["resource"], "schema": entry["schemaUrl"], "scope": scope["scope"], "scope schema": scope["schemaUrl"]});
            let mut add = |what: String, metric: Value, item: &Value| {
                let mut whole = around.clone();
                whole["metric"] = metric;
                whole["item"] = item.clone();
                items.push((what, whole));
            };
            list(&scope["spans"]).for_each(|span| add(format!("span {}", text(&span["name"])), Value::Null, span));
            list(&scope["logRecords"]).for_each(|log| add(format!("log {}", log["body"]), Value::Null, log));
            list(&scope["metrics"]).for_each(|metric| points(metric, &mut add));
        }
    }
    items
}

/// The points of a metric, each with the metric but for its points. One without points is an item too.
fn points(metric: &Value, add: &mut impl FnMut(String, Value, &Value)) {
    let kind = KINDS.iter().copied().find(|kind| metric.get(*kind).is_some()).unwrap_or("nothing");
    let mut envelope = metric.clone();
    let points = envelope.get_mut(kind).and_then(|data| data.as_object_mut()?.remove("dataPoints")).unwrap_or_default();
    let what = format!("{kind} {}", text(&metric["name"]));
    if list(&points).next().is_none() {
        add(format!("{what} without points"), envelope.clone(), &Value::Null);
    }
    // Several of one metric are told apart by their attributes.
    list(&points).for_each(|point| add(format!("{what} {}", short(&sorted(&point["attributes"]))), envelope.clone(), point));
}

/// What the ids of a run are replaced by.
struct Names(HashMap<String, String>);

impl Names {
    fn of(requests: &[Value], run: &str) -> Self {
        let mut names = HashMap::new();
        let all = requests.iter().flat_map(|request| entries(request, run));
        let spans: Vec<_> = all.flat_map(|entry| list(&entry["scopeSpans"])).flat_map(|scope| list(&scope["spans"])).collect();
        for span in &spans {
            let name = text(&span["name"]);
            names.insert(text(&span["spanId"]).to_owned(), format!("the span {name}"));
            // Of all the names of a trace, the first in the alphabet is its own.
            let trace = names.entry(text(&span["traceId"]).to_owned()).or_insert_with(|| format!("the trace of {name}"));
            *trace = format!("the trace of {name}").min(trace.clone());
        }
        FAR_AWAY.iter().for_each(|id| drop(names.remove(*id)));
        Self(names)
    }

    /// Replaces ids and times within a value, and puts attributes in the order of their keys: some SDKs have none.
    fn replace(&self, value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| self.replace(value)),
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    match (key.as_str(), value.as_str()) {
                        ("traceId" | "spanId" | "parentSpanId", Some(id)) => {
                            *value = self.0.get(id).map_or_else(|| json!(id), |name| json!(name))
                        }
                        (key, Some(time)) if key.ends_with("UnixNano") => *value = without_taken(time),
                        _ => self.replace(value),
                    }
                    // Which instance of a service it is, an SDK may make up for each start.
                    if key == "resource" {
                        list_mut(&mut value["attributes"])
                            .filter(|attribute| attribute["key"] == "service.instance.id")
                            .for_each(|attribute| attribute["value"] = json!("made up"));
                    }
                    let unordered = key == "attributes" || key == "filteredAttributes" || key == "kvlistValue";
                    if unordered {
                        *value = sorted(value);
                    }
                }
            }
            _ => {}
        }
    }
}

fn without_taken(time: &str) -> Value {
    if time.parse::<u64>().is_ok_and(|time| time >= TAKEN) { json!("taken") } else { json!(time) }
}

/// Attributes (or a map of them) in the order of their keys; those with one key stay as they are.
fn sorted(attributes: &Value) -> Value {
    let mut sorted = attributes.clone();
    let list = if sorted.is_array() { &mut sorted } else { &mut sorted["values"] };
    if let Some(list) = list.as_array_mut() {
        list.sort_by_cached_key(|attribute| text(&attribute["key"]).to_owned());
        return sorted;
    }
    attributes.clone()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn list_mut(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default().iter_mut()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The beginning of a value, to know it by.
fn short(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string().chars().take(120).collect() }
}
