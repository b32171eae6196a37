//! The comparison finds what it is there to find.

use serde_json::{Value, json};

use crate::support::telemetry::Telemetry;

const GIVEN: &str = "1700000000000000001";

/// A word of every kind that a Collector can say, as if it came from a run with this number.
fn sample(run: u64) -> Vec<Value> {
    let taken = (1_790_000_000_000_000_000 + run * 1_000).to_string();
    let id = |what: u64| format!("{:016x}", (run << 32) + what);
    let trace = |what: u64| format!("{:032x}", (run << 32) + what);
    let attributes = json!([
        {"key": "b", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"doubleValue": 0.1}, {"bytesValue": "AAH+"}]}}},
        {"key": "a", "value": {"kvlistValue": {"values": [{"key": "deep", "value": {"boolValue": true}}]}}}
    ]);
    let resource = json!({"attributes": [{"key": "test.run", "value": {"stringValue": "r"}}, {"key": "n", "value": {"intValue": "5"}}], "droppedAttributesCount": 1});
    let scope = json!({"name": "s", "version": "1", "attributes": attributes.clone()});
    let exemplar =
        json!({"filteredAttributes": attributes.clone(), "timeUnixNano": taken, "asInt": "3", "traceId": trace(1), "spanId": id(1)});
    let times = json!({"startTimeUnixNano": GIVEN, "timeUnixNano": GIVEN});
    let point = |more: Value| {
        let mut point = times.clone();
        point.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        point
    };
    let histogram = json!({"attributes": attributes.clone(), "count": "3", "sum": 0.1, "bucketCounts": ["1", "2"], "explicitBounds": [0.5], "min": 1, "max": 2, "exemplars": [exemplar]});
    let exponential = json!({"count": "3", "sum": 7, "scale": -1, "zeroCount": "1", "positive": {"offset": 2, "bucketCounts": ["1", "1"]}, "negative": {"offset": 3}, "zeroThreshold": 0.25});
    vec![
        json!({"resourceSpans": [{"resource": resource.clone(), "schemaUrl": "u", "scopeSpans": [{"scope": scope.clone(), "schemaUrl": "v", "spans": [
            {"traceId": trace(1), "spanId": id(1), "name": "root", "kind": 2, "startTimeUnixNano": GIVEN, "endTimeUnixNano": taken, "flags": 257, "traceState": "a=b", "status": {}},
            {"traceId": trace(1), "spanId": id(2), "parentSpanId": id(1), "name": "child", "attributes": attributes.clone(), "droppedAttributesCount": 3,
             "events": [{"timeUnixNano": GIVEN, "name": "e", "attributes": attributes.clone()}, {"name": "f"}], "droppedEventsCount": 4,
             "links": [{"traceId": trace(3), "spanId": id(3), "attributes": attributes.clone(), "flags": 1}, {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}],
             "droppedLinksCount": 5, "status": {"message": "m", "code": 2}},
            {"traceId": trace(3), "spanId": id(3), "parentSpanId": "b7ad6b7169203331", "name": "other"},
        ]}]}]}),
        json!({"resourceMetrics": [{"resource": resource.clone(), "scopeMetrics": [{"scope": scope.clone(), "metrics": [
            {"name": "sum", "unit": "1", "description": "d", "metadata": attributes.clone(), "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point(json!({"asInt": "7", "flags": 1}))]}},
            {"name": "gauge", "gauge": {"dataPoints": [point(json!({"asDouble": 0.1})), point(json!({"asDouble": 0.2, "attributes": attributes.clone()}))]}},
            {"name": "histogram", "histogram": {"aggregationTemporality": 2, "dataPoints": [point(histogram)]}},
            {"name": "exponential", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point(exponential)]}},
            {"name": "summary", "summary": {"dataPoints": [point(json!({"count": "3", "sum": 2, "quantileValues": [{"quantile": 0.5, "value": 3}]}))]}},
            {"name": "empty", "sum": {"aggregationTemporality": 2}},
        ]}]}]}),
        json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": [
            {"timeUnixNano": GIVEN, "observedTimeUnixNano": taken, "severityNumber": 9, "severityText": "INFO", "body": {"stringValue": "ü"}, "attributes": attributes,
             "droppedAttributesCount": 6, "flags": 1, "traceId": trace(1), "spanId": id(2), "eventName": "closed"},
        ]}]}]}),
    ]
}

fn of(requests: &[Value]) -> Telemetry {
    Telemetry::of(requests, "r")
}

/// The ways to all values that are no object and no list.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found)),
        Value::Array(values) => values.iter().enumerate().for_each(|(place, value)| leaves(value, &format!("{path}/{place}"), found)),
        _ => found.push(path.to_owned()),
    }
}

/// Another value of the same kind, as near as there is one.
fn other(value: &Value) -> Value {
    match value {
        Value::Bool(yes) => json!(!yes),
        Value::String(text) if text.ends_with('1') => json!(format!("{}2", &text[..text.len() - 1])),
        Value::String(text) => json!(format!("{text}x")),
        number if number.is_i64() => json!(number.as_i64().expect("a number") + 1),
        number => json!(number.as_f64().expect("a number").next_up()),
    }
}

#[test]
fn two_runs_of_one_program_are_equal_however_they_are_cut_and_ordered() {
    assert_eq!(of(&sample(1)).differences(&of(&sample(2))), Vec::<String>::new());
    let mut cut = sample(3);
    let spans = cut[0]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().expect("spans");
    spans.reverse();
    let last = spans.pop().expect("a span");
    let mut alone = cut[0].clone();
    alone["resourceSpans"][0]["scopeSpans"][0]["spans"] = json!([last]);
    cut.insert(0, alone);
    cut.reverse();
    assert_eq!(of(&sample(1)).differences(&of(&cut)), Vec::<String>::new());
    assert_eq!((of(&cut).len(), of(&cut).count("span"), of(&cut).count("gauge")), (11, 3, 2));
}

#[test]
fn every_value_that_is_changed_is_found() {
    let (original, mut tried) = (sample(1), 0);
    for request in 0..original.len() {
        let mut paths = Vec::new();
        leaves(&original[request], "", &mut paths);
        for path in paths {
            // What names the run is another run's then, and a time that the SDK took may be any.
            let value = original[request].pointer(&path).expect("it was found there").clone();
            if value.as_str().is_some_and(|text| text.starts_with("179")) {
                continue;
            }
            let mut changed = original.clone();
            *changed[request].pointer_mut(&path).expect("it was found there") = other(&value);
            assert_ne!(of(&original).differences(&of(&changed)), Vec::<String>::new(), "{path}: {value}");
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
}

#[test]
fn whatever_is_left_out_or_there_twice_is_found() {
    let original = sample(1);
    for request in 0..original.len() {
        let mut paths = Vec::new();
        leaves(&original[request], "", &mut paths);
        for path in paths {
            let (parent, key) = path.rsplit_once('/').expect("it begins with one");
            let (mut without, mut twice) = (original.clone(), original.clone());
            match without[request].pointer_mut(parent).expect("it was found there") {
                Value::Object(fields) => drop(fields.remove(key)),
                Value::Array(values) => drop(values.pop()),
                other => panic!("{other}"),
            }
            assert_ne!(of(&original).differences(&of(&without)), Vec::<String>::new(), "without {path}");
            if let Some(Value::Array(values)) = twice[request].pointer_mut(parent) {
                values.push(values[0].clone());
                assert_ne!(of(&original).differences(&of(&twice)), Vec::<String>::new(), "twice {path}");
            }
        }
    }
    let twice = [original.clone(), original.clone()].concat();
    assert_eq!(of(&original).differences(&of(&twice)).len(), 11);
    assert!(!of(&original).differences(&of(&[])).is_empty());
}

#[test]
fn a_difference_says_what_and_where() {
    let mut changed = sample(2);
    let span = &mut changed[0]["resourceSpans"][0]["scopeSpans"][0]["spans"][1];
    span["parentSpanId"] = span["spanId"].clone();
    span["attributes"][0]["value"]["arrayValue"]["values"][0]["intValue"] = json!("2");
    span["events"] = json!([]);
    assert_eq!(
        of(&sample(1)).differences(&of(&changed)),
        [
            "span child/item/parentSpanId: \"the span root\", and \"the span child\"",
            "span child/item/attributes/1/value/arrayValue/values/0/intValue: \"1\", and \"2\"",
            "span child/item/events: [{\"timeUnixNano\":\"1700000000000000001\",\"name\":\"e\",\"attributes\":[{\"key\":\"a\",\"value\":{\"kvlistValue\":{\"values\":[{\"key\":\"deep\",\"value\":{\"boolValue\":true}}]}}},{\"key\":\"b\",\"value\":{\"arrayValue\":{\"values\":[{\"intValue\":\"1\"},{\"doubleValue\":0.1},{\"bytesValue\":\"AAH+\"}]}}}]},{\"name\":\"f\"}], and []",
        ]
    );
}
