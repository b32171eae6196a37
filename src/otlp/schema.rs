//! The messages of OTLP 1.11: which field is written how.
//!
//! What always holds: a field that is not in a table here is unknown, and goes through untouched. Tables are by field number,
//! so that finding one is an index.

use super::Signal;
use super::wire::Wire;

/// One message.
pub(super) struct Message {
    fields: &'static [Option<Field>],
    /// What the fields of number 1000 are, where instrumentation libraries once were.
    pub legacy: Option<&'static Message>,
}

/// One field.
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub repeated: bool,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Varint,
    Fixed64,
    Fixed32,
    Text,
    Bytes,
    TraceId,
    SpanId,
    /// Numbers of 8 bytes, packed or one by one.
    ManyFixed64,
    /// Varints, packed or one by one.
    ManyVarints,
    Message(&'static Message),
    /// What is counted: spans, log records, data points.
    Item(&'static Message),
    /// A metric's data, which it has once.
    Data(&'static Message),
}

impl Kind {
    /// How it is written. Lists of numbers are also written one by one.
    pub fn wire(self) -> Wire {
        match self {
            Self::Varint => Wire::Varint,
            Self::Fixed64 => Wire::Fixed64,
            Self::Fixed32 => Wire::Fixed32,
            _ => Wire::Length,
        }
    }

    /// The message in it.
    pub fn message(self) -> Option<&'static Message> {
        match self {
            Self::Message(message) | Self::Item(message) | Self::Data(message) => Some(message),
            _ => None,
        }
    }
}

impl Message {
    #[inline(always)]
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        self.fields.get(number as usize).and_then(Option::as_ref)
    }

    /// A field by the name that the schema gives it, and its number.
    #[cfg(test)]
    pub fn named(&self, name: &str) -> Option<(u32, &'static Field)> {
        let place = self.fields.iter().position(|field| field.as_ref().is_some_and(|field| field.name == name))?;
        Some((place as u32, self.fields[place].as_ref()?))
    }
}

/// The number under which instrumentation libraries were sent until 0.19.
pub(super) const LEGACY: u32 = 1000;

pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

const fn one(name: &'static str, kind: Kind) -> Option<Field> {
    Some(Field { name, kind, repeated: false })
}

const fn many(name: &'static str, kind: Kind) -> Option<Field> {
    Some(Field { name, kind, repeated: true })
}

const fn message(fields: &'static [Option<Field>]) -> Message {
    Message { fields, legacy: None }
}

const fn entry(fields: &'static [Option<Field>], scope: &'static Message) -> Message {
    Message { fields, legacy: Some(scope) }
}

const ATTRIBUTES: Option<Field> = many("attributes", Kind::Message(&KEY_VALUE));
const EXEMPLARS: Option<Field> = many("exemplars", Kind::Message(&EXEMPLAR));
const DROPPED: Option<Field> = one("dropped_attributes_count", Kind::Varint);
const SCHEMA_URL: Option<Field> = one("schema_url", Kind::Text);
const RESOURCE_FIELD: Option<Field> = one("resource", Kind::Message(&RESOURCE));
const SCOPE_FIELD: Option<Field> = one("scope", Kind::Message(&SCOPE));
const START: Option<Field> = one("start_time_unix_nano", Kind::Fixed64);
const TIME: Option<Field> = one("time_unix_nano", Kind::Fixed64);
const FLAGS: Option<Field> = one("flags", Kind::Varint);
const TEMPORALITY: Option<Field> = one("aggregation_temporality", Kind::Varint);

static TRACES: Message = message(&[None, many("resource_spans", Kind::Message(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = entry(&[None, RESOURCE_FIELD, many("scope_spans", Kind::Message(&SCOPE_SPANS)), SCHEMA_URL], &SCOPE_SPANS);
static SCOPE_SPANS: Message = message(&[None, SCOPE_FIELD, many("spans", Kind::Item(&SPAN)), SCHEMA_URL]);

static METRICS: Message = message(&[None, many("resource_metrics", Kind::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message =
    entry(&[None, RESOURCE_FIELD, many("scope_metrics", Kind::Message(&SCOPE_METRICS)), SCHEMA_URL], &SCOPE_METRICS);
static SCOPE_METRICS: Message = message(&[None, SCOPE_FIELD, many("metrics", Kind::Message(&METRIC)), SCHEMA_URL]);

static LOGS: Message = message(&[None, many("resource_logs", Kind::Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = entry(&[None, RESOURCE_FIELD, many("scope_logs", Kind::Message(&SCOPE_LOGS)), SCHEMA_URL], &SCOPE_LOGS);
static SCOPE_LOGS: Message = message(&[None, SCOPE_FIELD, many("log_records", Kind::Item(&LOG_RECORD)), SCHEMA_URL]);

static ANY_VALUE: Message = message(&[
    None,
    one("string_value", Kind::Text),
    one("bool_value", Kind::Varint),
    one("int_value", Kind::Varint),
    one("double_value", Kind::Fixed64),
    one("array_value", Kind::Message(&ARRAY)),
    one("kvlist_value", Kind::Message(&KEY_VALUES)),
    one("bytes_value", Kind::Bytes),
    one("string_value_strindex", Kind::Varint),
]);
static ARRAY: Message = message(&[None, many("values", Kind::Message(&ANY_VALUE))]);
static KEY_VALUES: Message = message(&[None, many("values", Kind::Message(&KEY_VALUE))]);
static KEY_VALUE: Message =
    message(&[None, one("key", Kind::Text), one("value", Kind::Message(&ANY_VALUE)), one("key_strindex", Kind::Varint)]);
static SCOPE: Message = message(&[None, one("name", Kind::Text), one("version", Kind::Text), ATTRIBUTES, DROPPED]);
static RESOURCE: Message = message(&[None, ATTRIBUTES, DROPPED, many("entity_refs", Kind::Message(&ENTITY_REF))]);
static ENTITY_REF: Message =
    message(&[None, SCHEMA_URL, one("type", Kind::Text), many("id_keys", Kind::Text), many("description_keys", Kind::Text)]);

static SPAN: Message = message(&[
    None,
    one("trace_id", Kind::TraceId),
    one("span_id", Kind::SpanId),
    one("trace_state", Kind::Text),
    one("parent_span_id", Kind::SpanId),
    one("name", Kind::Text),
    one("kind", Kind::Varint),
    START,
    one("end_time_unix_nano", Kind::Fixed64),
    ATTRIBUTES,
    DROPPED,
    many("events", Kind::Message(&EVENT)),
    one("dropped_events_count", Kind::Varint),
    many("links", Kind::Message(&LINK)),
    one("dropped_links_count", Kind::Varint),
    one("status", Kind::Message(&STATUS)),
    one("flags", Kind::Fixed32),
]);
static EVENT: Message = message(&[None, TIME, one("name", Kind::Text), ATTRIBUTES, DROPPED]);
static LINK: Message = message(&[
    None,
    one("trace_id", Kind::TraceId),
    one("span_id", Kind::SpanId),
    one("trace_state", Kind::Text),
    ATTRIBUTES,
    DROPPED,
    one("flags", Kind::Fixed32),
]);
static STATUS: Message = message(&[None, None, one("message", Kind::Text), one("code", Kind::Varint)]);

static LOG_RECORD: Message = message(&[
    None,
    TIME,
    one("severity_number", Kind::Varint),
    one("severity_text", Kind::Text),
    None,
    one("body", Kind::Message(&ANY_VALUE)),
    ATTRIBUTES,
    DROPPED,
    one("flags", Kind::Fixed32),
    one("trace_id", Kind::TraceId),
    one("span_id", Kind::SpanId),
    one("observed_time_unix_nano", Kind::Fixed64),
    one("event_name", Kind::Text),
]);

static METRIC: Message = message(&[
    None,
    one("name", Kind::Text),
    one("description", Kind::Text),
    one("unit", Kind::Text),
    None,
    one("gauge", Kind::Data(&GAUGE)),
    None,
    one("sum", Kind::Data(&SUM)),
    None,
    one("histogram", Kind::Data(&HISTOGRAM)),
    one("exponential_histogram", Kind::Data(&EXPONENTIAL_HISTOGRAM)),
    one("summary", Kind::Data(&SUMMARY)),
    many("metadata", Kind::Message(&KEY_VALUE)),
]);
static GAUGE: Message = message(&[None, many("data_points", Kind::Item(&NUMBER))]);
static SUM: Message = message(&[None, many("data_points", Kind::Item(&NUMBER)), TEMPORALITY, one("is_monotonic", Kind::Varint)]);
static HISTOGRAM: Message = message(&[None, many("data_points", Kind::Item(&HISTOGRAM_POINT)), TEMPORALITY]);
static EXPONENTIAL_HISTOGRAM: Message = message(&[None, many("data_points", Kind::Item(&EXPONENTIAL_POINT)), TEMPORALITY]);
static SUMMARY: Message = message(&[None, many("data_points", Kind::Item(&SUMMARY_POINT))]);

static NUMBER: Message =
    message(&[None, None, START, TIME, one("as_double", Kind::Fixed64), EXEMPLARS, one("as_int", Kind::Fixed64), ATTRIBUTES, FLAGS]);
static HISTOGRAM_POINT: Message = message(&[
    None,
    None,
    START,
    TIME,
    one("count", Kind::Fixed64),
    one("sum", Kind::Fixed64),
    one("bucket_counts", Kind::ManyFixed64),
    one("explicit_bounds", Kind::ManyFixed64),
    EXEMPLARS,
    ATTRIBUTES,
    FLAGS,
    one("min", Kind::Fixed64),
    one("max", Kind::Fixed64),
]);
static EXPONENTIAL_POINT: Message = message(&[
    None,
    ATTRIBUTES,
    START,
    TIME,
    one("count", Kind::Fixed64),
    one("sum", Kind::Fixed64),
    one("scale", Kind::Varint),
    one("zero_count", Kind::Fixed64),
    one("positive", Kind::Message(&BUCKETS)),
    one("negative", Kind::Message(&BUCKETS)),
    FLAGS,
    EXEMPLARS,
    one("min", Kind::Fixed64),
    one("max", Kind::Fixed64),
    one("zero_threshold", Kind::Fixed64),
]);
static BUCKETS: Message = message(&[None, one("offset", Kind::Varint), one("bucket_counts", Kind::ManyVarints)]);
static SUMMARY_POINT: Message = message(&[
    None,
    None,
    START,
    TIME,
    one("count", Kind::Fixed64),
    one("sum", Kind::Fixed64),
    many("quantile_values", Kind::Message(&QUANTILE)),
    ATTRIBUTES,
    FLAGS,
]);
static QUANTILE: Message = message(&[None, one("quantile", Kind::Fixed64), one("value", Kind::Fixed64)]);
static EXEMPLAR: Message = message(&[
    None,
    None,
    TIME,
    one("as_double", Kind::Fixed64),
    one("span_id", Kind::SpanId),
    one("trace_id", Kind::TraceId),
    one("as_int", Kind::Fixed64),
    many("filtered_attributes", Kind::Message(&KEY_VALUE)),
]);
