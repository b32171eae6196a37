//! What OTLP's messages are: their fields' names, numbers and kinds.
//!
//! What always holds: opentelemetry-proto 1.11, without profiles; the tests hold every table against the generated types.
//! A message has at most 32 fields, and one oneof at most. Fields stand in the order in which JavaScript's SDK writes them,
//! because the next one is looked for first.

mod names;

use super::super::Signal;
use names::{SEVERITY, SPAN_KIND, STATUS_CODE, TEMPORALITY};

/// A message, and what helps to write it.
pub(super) struct Message {
    pub fields: &'static [Field],
    /// How many bytes its length usually takes.
    pub width: usize,
    /// Whether it is what the signal's items are counted by.
    pub is_item: bool,
}

pub(super) struct Field {
    pub name: &'static str,
    /// The name in the `.proto` file.
    pub snake: &'static str,
    pub number: u32,
    pub kind: Kind,
    pub presence: Presence,
}

/// What zero means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// The same as nothing, so it is left out.
    Plain,
    /// Something else than nothing.
    Optional,
    /// That this member was chosen.
    OneOf,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Texts,
    Bytes,
    TraceId,
    SpanId,
    Bool,
    Double,
    Uint32,
    Int32,
    Sint32,
    Fixed32,
    Fixed64,
    /// An `int64` that becomes the double of this number when it is too large.
    Int64OrDouble(u32),
    /// The same with an `sfixed64`.
    Sfixed64OrDouble(u32),
    Enum(&'static [(&'static str, i32)]),
    Message(&'static Message),
    Messages(&'static Message),
    /// Packed, as the next two.
    Doubles,
    Fixed64s,
    Uint64s,
}

/// The request of a signal.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

const fn small(fields: &'static [Field]) -> Message {
    Message { fields, width: 1, is_item: false }
}

const fn medium(fields: &'static [Field]) -> Message {
    Message { fields, width: 2, is_item: false }
}

const fn large(fields: &'static [Field]) -> Message {
    Message { fields, width: 3, is_item: false }
}

const fn item(fields: &'static [Field]) -> Message {
    Message { fields, width: 2, is_item: true }
}

const fn field(number: u32, name: &'static str, snake: &'static str, kind: Kind) -> Field {
    Field { name, snake, number, kind, presence: Presence::Plain }
}

const fn optional(number: u32, name: &'static str, snake: &'static str, kind: Kind) -> Field {
    Field { name, snake, number, kind, presence: Presence::Optional }
}

const fn one_of(number: u32, name: &'static str, snake: &'static str, kind: Kind) -> Field {
    Field { name, snake, number, kind, presence: Presence::OneOf }
}

use Kind::{
    Bool, Bytes, Double, Doubles, Enum, Fixed32, Fixed64, Fixed64s, Int32, Int64OrDouble, Messages, Sfixed64OrDouble, Sint32, SpanId, Text,
    Texts, TraceId, Uint32, Uint64s,
};

const fn one(message: &'static Message) -> Kind {
    Kind::Message(message)
}

static TRACES: Message = small(&[field(1, "resourceSpans", "resource_spans", Messages(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Message = large(&[
    field(1, "resource", "resource", one(&RESOURCE)),
    field(2, "scopeSpans", "scope_spans", Messages(&SCOPE_SPANS)),
    field(3, "schemaUrl", "schema_url", Text),
]);

static SCOPE_SPANS: Message = large(&[
    field(1, "scope", "scope", one(&SCOPE)),
    field(2, "spans", "spans", Messages(&SPAN)),
    field(3, "schemaUrl", "schema_url", Text),
]);

static SPAN: Message = item(&[
    field(1, "traceId", "trace_id", TraceId),
    field(2, "spanId", "span_id", SpanId),
    field(4, "parentSpanId", "parent_span_id", SpanId),
    field(3, "traceState", "trace_state", Text),
    field(5, "name", "name", Text),
    field(6, "kind", "kind", Enum(SPAN_KIND)),
    field(7, "startTimeUnixNano", "start_time_unix_nano", Fixed64),
    field(8, "endTimeUnixNano", "end_time_unix_nano", Fixed64),
    field(9, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(10, "droppedAttributesCount", "dropped_attributes_count", Uint32),
    field(11, "events", "events", Messages(&EVENT)),
    field(12, "droppedEventsCount", "dropped_events_count", Uint32),
    field(15, "status", "status", one(&STATUS)),
    field(13, "links", "links", Messages(&LINK)),
    field(14, "droppedLinksCount", "dropped_links_count", Uint32),
    field(16, "flags", "flags", Fixed32),
]);

static EVENT: Message = small(&[
    field(3, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(2, "name", "name", Text),
    field(1, "timeUnixNano", "time_unix_nano", Fixed64),
    field(4, "droppedAttributesCount", "dropped_attributes_count", Uint32),
]);

static LINK: Message = small(&[
    field(4, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(2, "spanId", "span_id", SpanId),
    field(1, "traceId", "trace_id", TraceId),
    field(3, "traceState", "trace_state", Text),
    field(5, "droppedAttributesCount", "dropped_attributes_count", Uint32),
    field(6, "flags", "flags", Fixed32),
]);

static STATUS: Message = small(&[field(2, "message", "message", Text), field(3, "code", "code", Enum(STATUS_CODE))]);

static LOGS: Message = small(&[field(1, "resourceLogs", "resource_logs", Messages(&RESOURCE_LOGS))]);

static RESOURCE_LOGS: Message = large(&[
    field(1, "resource", "resource", one(&RESOURCE)),
    field(2, "scopeLogs", "scope_logs", Messages(&SCOPE_LOGS)),
    field(3, "schemaUrl", "schema_url", Text),
]);

static SCOPE_LOGS: Message = large(&[
    field(1, "scope", "scope", one(&SCOPE)),
    field(2, "logRecords", "log_records", Messages(&LOG_RECORD)),
    field(3, "schemaUrl", "schema_url", Text),
]);

static LOG_RECORD: Message = item(&[
    field(1, "timeUnixNano", "time_unix_nano", Fixed64),
    field(11, "observedTimeUnixNano", "observed_time_unix_nano", Fixed64),
    field(2, "severityNumber", "severity_number", Enum(SEVERITY)),
    field(3, "severityText", "severity_text", Text),
    field(5, "body", "body", one(&ANY_VALUE)),
    field(12, "eventName", "event_name", Text),
    field(6, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(7, "droppedAttributesCount", "dropped_attributes_count", Uint32),
    field(8, "flags", "flags", Fixed32),
    field(9, "traceId", "trace_id", TraceId),
    field(10, "spanId", "span_id", SpanId),
]);

static METRICS: Message = small(&[field(1, "resourceMetrics", "resource_metrics", Messages(&RESOURCE_METRICS))]);

static RESOURCE_METRICS: Message = large(&[
    field(1, "resource", "resource", one(&RESOURCE)),
    field(2, "scopeMetrics", "scope_metrics", Messages(&SCOPE_METRICS)),
    field(3, "schemaUrl", "schema_url", Text),
]);

static SCOPE_METRICS: Message = large(&[
    field(1, "scope", "scope", one(&SCOPE)),
    field(2, "metrics", "metrics", Messages(&METRIC)),
    field(3, "schemaUrl", "schema_url", Text),
]);

static METRIC: Message = medium(&[
    field(1, "name", "name", Text),
    field(2, "description", "description", Text),
    field(3, "unit", "unit", Text),
    one_of(5, "gauge", "gauge", one(&GAUGE)),
    one_of(7, "sum", "sum", one(&SUM)),
    one_of(9, "histogram", "histogram", one(&HISTOGRAM)),
    one_of(10, "exponentialHistogram", "exponential_histogram", one(&EXPONENTIAL_HISTOGRAM)),
    one_of(11, "summary", "summary", one(&SUMMARY)),
    field(12, "metadata", "metadata", Messages(&KEY_VALUE)),
]);

static GAUGE: Message = medium(&[field(1, "dataPoints", "data_points", Messages(&NUMBER_POINT))]);

static SUM: Message = medium(&[
    field(2, "aggregationTemporality", "aggregation_temporality", Enum(TEMPORALITY)),
    field(3, "isMonotonic", "is_monotonic", Bool),
    field(1, "dataPoints", "data_points", Messages(&NUMBER_POINT)),
]);

static HISTOGRAM: Message = medium(&[
    field(2, "aggregationTemporality", "aggregation_temporality", Enum(TEMPORALITY)),
    field(1, "dataPoints", "data_points", Messages(&HISTOGRAM_POINT)),
]);

static EXPONENTIAL_HISTOGRAM: Message = medium(&[
    field(2, "aggregationTemporality", "aggregation_temporality", Enum(TEMPORALITY)),
    field(1, "dataPoints", "data_points", Messages(&EXPONENTIAL_POINT)),
]);

static SUMMARY: Message = medium(&[field(1, "dataPoints", "data_points", Messages(&SUMMARY_POINT))]);

static NUMBER_POINT: Message = item(&[
    field(7, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(2, "startTimeUnixNano", "start_time_unix_nano", Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Fixed64),
    one_of(4, "asDouble", "as_double", Double),
    one_of(6, "asInt", "as_int", Sfixed64OrDouble(4)),
    field(5, "exemplars", "exemplars", Messages(&EXEMPLAR)),
    field(8, "flags", "flags", Uint32),
]);

static HISTOGRAM_POINT: Message = item(&[
    field(9, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(6, "bucketCounts", "bucket_counts", Fixed64s),
    field(7, "explicitBounds", "explicit_bounds", Doubles),
    field(4, "count", "count", Fixed64),
    optional(5, "sum", "sum", Double),
    optional(11, "min", "min", Double),
    optional(12, "max", "max", Double),
    field(2, "startTimeUnixNano", "start_time_unix_nano", Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Fixed64),
    field(8, "exemplars", "exemplars", Messages(&EXEMPLAR)),
    field(10, "flags", "flags", Uint32),
]);

static EXPONENTIAL_POINT: Message = item(&[
    field(1, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(2, "startTimeUnixNano", "start_time_unix_nano", Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Fixed64),
    field(4, "count", "count", Fixed64),
    optional(5, "sum", "sum", Double),
    field(6, "scale", "scale", Sint32),
    field(7, "zeroCount", "zero_count", Fixed64),
    field(8, "positive", "positive", one(&BUCKETS)),
    field(9, "negative", "negative", one(&BUCKETS)),
    field(10, "flags", "flags", Uint32),
    field(11, "exemplars", "exemplars", Messages(&EXEMPLAR)),
    optional(12, "min", "min", Double),
    optional(13, "max", "max", Double),
    field(14, "zeroThreshold", "zero_threshold", Double),
]);

static BUCKETS: Message = small(&[field(1, "offset", "offset", Sint32), field(2, "bucketCounts", "bucket_counts", Uint64s)]);

static SUMMARY_POINT: Message = item(&[
    field(7, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(2, "startTimeUnixNano", "start_time_unix_nano", Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Fixed64),
    field(4, "count", "count", Fixed64),
    field(5, "sum", "sum", Double),
    field(6, "quantileValues", "quantile_values", Messages(&QUANTILE)),
    field(8, "flags", "flags", Uint32),
]);

static QUANTILE: Message = small(&[field(1, "quantile", "quantile", Double), field(2, "value", "value", Double)]);

static EXEMPLAR: Message = small(&[
    field(7, "filteredAttributes", "filtered_attributes", Messages(&KEY_VALUE)),
    field(2, "timeUnixNano", "time_unix_nano", Fixed64),
    one_of(3, "asDouble", "as_double", Double),
    one_of(6, "asInt", "as_int", Sfixed64OrDouble(3)),
    field(4, "spanId", "span_id", SpanId),
    field(5, "traceId", "trace_id", TraceId),
]);

static RESOURCE: Message = medium(&[
    field(1, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(2, "droppedAttributesCount", "dropped_attributes_count", Uint32),
    field(3, "entityRefs", "entity_refs", Messages(&ENTITY_REF)),
]);

static ENTITY_REF: Message = small(&[
    field(1, "schemaUrl", "schema_url", Text),
    field(2, "type", "type", Text),
    field(3, "idKeys", "id_keys", Texts),
    field(4, "descriptionKeys", "description_keys", Texts),
]);

static SCOPE: Message = small(&[
    field(1, "name", "name", Text),
    field(2, "version", "version", Text),
    field(3, "attributes", "attributes", Messages(&KEY_VALUE)),
    field(4, "droppedAttributesCount", "dropped_attributes_count", Uint32),
]);

static KEY_VALUE: Message =
    small(&[field(1, "key", "key", Text), field(2, "value", "value", one(&ANY_VALUE)), field(3, "keyStrindex", "key_strindex", Int32)]);

static ANY_VALUE: Message = small(&[
    one_of(1, "stringValue", "string_value", Text),
    one_of(2, "boolValue", "bool_value", Bool),
    one_of(3, "intValue", "int_value", Int64OrDouble(4)),
    one_of(4, "doubleValue", "double_value", Double),
    one_of(5, "arrayValue", "array_value", one(&ARRAY)),
    one_of(6, "kvlistValue", "kvlist_value", one(&KEY_VALUE_LIST)),
    one_of(7, "bytesValue", "bytes_value", Bytes),
    one_of(8, "stringValueStrindex", "string_value_strindex", Int32),
]);

static ARRAY: Message = small(&[field(1, "values", "values", Messages(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = medium(&[field(1, "values", "values", Messages(&KEY_VALUE))]);
