//! Writes requests as JSON, each time in another of the ways that senders have.
//!
//! Made for the tests alone, and from the generated types: it shares no table with the transcoder.

use opentelemetry_proto::tonic::common::v1::{EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::*;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::draw::Draw;
use super::*;

/// Writes JSON. `is_plain`: as the specification has it, and nothing else.
pub struct Print<'a> {
    pub draw: Draw<'a>,
    pub is_plain: bool,
}

/// A member's name in camelCase and in snake_case, and its value; an empty one is left out.
type Member<'n> = (&'n str, &'n str, String);

impl Print<'_> {
    pub fn traces(&self, request: &ExportTraceServiceRequest) -> String {
        let entries = request.resource_spans.iter().map(|entry| {
            let scopes = entry.scope_spans.iter().map(|scope| {
                let spans = self.array(scope.spans.iter().map(|span| self.span(span)));
                self.level(scope.scope.as_ref().map(|scope| self.scope(scope)), ("spans", "spans", spans), &scope.schema_url, "scope")
            });
            let scopes = ("scopeSpans", "scope_spans", self.array(scopes));
            self.level(entry.resource.as_ref().map(|resource| self.resource(resource)), scopes, &entry.schema_url, "resource")
        });
        self.object(vec![("resourceSpans", "resource_spans", self.array(entries))])
    }

    pub fn logs(&self, request: &ExportLogsServiceRequest) -> String {
        let entries = request.resource_logs.iter().map(|entry| {
            let scopes = entry.scope_logs.iter().map(|scope| {
                let records = ("logRecords", "log_records", self.array(scope.log_records.iter().map(|record| self.log_record(record))));
                self.level(scope.scope.as_ref().map(|scope| self.scope(scope)), records, &scope.schema_url, "scope")
            });
            let scopes = ("scopeLogs", "scope_logs", self.array(scopes));
            self.level(entry.resource.as_ref().map(|resource| self.resource(resource)), scopes, &entry.schema_url, "resource")
        });
        self.object(vec![("resourceLogs", "resource_logs", self.array(entries))])
    }

    pub fn metrics(&self, request: &ExportMetricsServiceRequest) -> String {
        let entries = request.resource_metrics.iter().map(|entry| {
            let scopes = entry.scope_metrics.iter().map(|scope| {
                let metrics = ("metrics", "metrics", self.array(scope.metrics.iter().map(|metric| self.metric(metric))));
                self.level(scope.scope.as_ref().map(|scope| self.scope(scope)), metrics, &scope.schema_url, "scope")
            });
            let scopes = ("scopeMetrics", "scope_metrics", self.array(scopes));
            self.level(entry.resource.as_ref().map(|resource| self.resource(resource)), scopes, &entry.schema_url, "resource")
        });
        self.object(vec![("resourceMetrics", "resource_metrics", self.array(entries))])
    }

    fn level(&self, head: Option<String>, list: Member<'_>, schema_url: &str, name: &str) -> String {
        self.object(vec![(name, name, head.unwrap_or_default()), list, ("schemaUrl", "schema_url", self.plain_text(schema_url))])
    }

    /// The other reader misses what is left out.
    fn may_leave_out(&self) -> bool {
        !self.is_plain && self.draw.yes()
    }

    /// White space, now and then.
    fn space(&self) -> &'static str {
        if self.is_plain { "" } else { self.draw.pick(&["", "", "", "", "", " ", "\n", "\t\r\n  "]) }
    }

    /// Members in any order, and between them some that nobody knows.
    fn object(&self, members: Vec<Member<'_>>) -> String {
        let mut told = Vec::new();
        for (camel, snake, value) in members.into_iter().filter(|(_, _, value)| !value.is_empty()) {
            let name = if !self.is_plain && self.draw.rarely(10) { snake } else { camel };
            told.push(format!("\"{name}\"{}:{}{value}", self.space(), self.space()));
        }
        if !self.is_plain && !told.is_empty() {
            let rotation = self.draw.below(told.len());
            told.rotate_left(rotation);
            if self.draw.rarely(20) {
                told.push(r#""unknown":[{"a":null},-1.5e-7,"\u0000",true]"#.into());
            }
        }
        format!("{}{{{}{}{}}}{}", self.space(), self.space(), told.join(&format!("{},", self.space())), self.space(), self.space())
    }

    /// Elements; an empty list is left out, or there.
    fn array(&self, elements: impl Iterator<Item = String>) -> String {
        let elements: Vec<_> = elements.collect();
        if elements.is_empty() && !self.is_plain && self.draw.yes() {
            return self.draw.pick(&["", "null"]).into();
        }
        format!("[{}{}]", self.space(), elements.join(&format!("{},{}", self.space(), self.space())))
    }

    fn plain_text(&self, text: &str) -> String {
        if text.is_empty() && self.may_leave_out() { String::new() } else { self.text(text) }
    }

    fn text(&self, text: &str) -> String {
        let mut out = String::from("\"");
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '/' if self.draw.yes() => out.push_str("\\/"),
                _ if character < ' ' || self.draw.rarely(16) => {
                    character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
                }
                _ => out.push(character),
            }
        }
        out + "\""
    }

    fn number(&self, number: &str) -> String {
        if self.draw.yes() && !self.is_plain { number.into() } else { format!("\"{number}\"") }
    }

    /// An integer of 64 bits in one of the ways that mean exactly it.
    fn int64(&self, integer: i128) -> String {
        if self.is_plain {
            return format!("\"{integer}\"");
        }
        match self.draw.below(6) {
            0 => self.number(&format!("{integer}.0")),
            1 if integer % 1000 == 0 => self.number(&format!("{}e+3", integer / 1000)),
            2 if integer != 0 => self.number(&format!("{integer}00E-2")),
            _ => self.number(&integer.to_string()),
        }
    }

    fn int32(&self, integer: i64) -> String {
        if self.is_plain { integer.to_string() } else { self.int64(integer.into()) }
    }

    /// Nothing, or a zero, for what is zero.
    fn unless_zero(&self, integer: i128, print: impl Fn(i128) -> String) -> String {
        if integer == 0 && self.may_leave_out() { String::new() } else { print(integer) }
    }

    fn u64(&self, integer: u64) -> String {
        self.unless_zero(integer.into(), |integer| self.int64(integer))
    }

    fn u32(&self, integer: u32) -> String {
        self.unless_zero(integer.into(), |integer| self.int32(integer as i64))
    }

    fn i32(&self, integer: i32) -> String {
        self.unless_zero(integer.into(), |integer| self.int32(integer as i64))
    }

    fn enumerated(&self, value: i32, name: Option<&str>) -> String {
        match name {
            Some(name) if !self.is_plain && self.draw.rarely(4) => format!("\"{name}\""),
            _ => self.i32(value),
        }
    }

    fn double(&self, double: f64) -> String {
        if !double.is_finite() {
            return if double.is_nan() { "\"NaN\"".into() } else { format!("\"{}Infinity\"", if double < 0.0 { "-" } else { "" }) };
        }
        let number = if self.draw.yes() { format!("{double:e}") } else { format!("{double}") };
        if self.is_plain { number } else { self.number(&number) }
    }

    fn maybe_double(&self, double: Option<f64>) -> String {
        double.map(|double| self.double(double)).unwrap_or_default()
    }

    fn id(&self, id: &[u8]) -> String {
        let hex: String = id.iter().map(|byte| if self.draw.yes() { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect();
        self.plain_text_raw(&hex)
    }

    fn plain_text_raw(&self, text: &str) -> String {
        if text.is_empty() { String::new() } else { format!("\"{text}\"") }
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        use base64::Engine;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        if self.is_plain {
            return format!("\"{}\"", STANDARD.encode(bytes));
        }
        match self.draw.below(6) {
            0 => format!("\"{}\"", STANDARD.encode(bytes)),
            1 => format!("\"{}\"", STANDARD_NO_PAD.encode(bytes)),
            2 => format!("\"{}\"", URL_SAFE.encode(bytes)),
            3 => format!("\"{}\"", URL_SAFE_NO_PAD.encode(bytes)),
            4 => format!("{bytes:?}"),
            _ => format!(r#"{{"type":"Buffer","data":{bytes:?}}}"#),
        }
    }

    fn attributes(&self, attributes: &[KeyValue]) -> String {
        self.array(attributes.iter().map(|attribute| self.key_value(attribute)))
    }

    fn key_value(&self, pair: &KeyValue) -> String {
        self.object(vec![
            ("key", "key", self.plain_text(&pair.key)),
            ("value", "value", pair.value.as_ref().map(|value| self.any_value(value)).unwrap_or_default()),
            ("keyStrindex", "key_strindex", self.i32(pair.key_strindex)),
        ])
    }

    fn any_value(&self, value: &AnyValue) -> String {
        self.object(match &value.value {
            None if self.draw.yes() => vec![("doubleValue", "double_value", "null".into())],
            None => Vec::new(),
            Some(Value::StringValue(text)) => vec![("stringValue", "string_value", self.text(text))],
            Some(Value::BoolValue(is_true)) => vec![("boolValue", "bool_value", is_true.to_string())],
            Some(Value::IntValue(integer)) => vec![("intValue", "int_value", self.int64((*integer).into()))],
            Some(Value::DoubleValue(double)) => vec![("doubleValue", "double_value", self.double(*double))],
            Some(Value::ArrayValue(array)) => {
                let values = self.array(array.values.iter().map(|value| self.any_value(value)));
                vec![("arrayValue", "array_value", self.object(vec![("values", "values", values)]))]
            }
            Some(Value::KvlistValue(list)) => {
                vec![("kvlistValue", "kvlist_value", self.object(vec![("values", "values", self.attributes(&list.values))]))]
            }
            Some(Value::BytesValue(bytes)) => vec![("bytesValue", "bytes_value", self.bytes(bytes))],
            Some(Value::StringValueStrindex(index)) => {
                vec![("stringValueStrindex", "string_value_strindex", self.int32((*index).into()))]
            }
        })
    }

    fn resource(&self, resource: &Resource) -> String {
        self.object(vec![
            ("attributes", "attributes", self.attributes(&resource.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(resource.dropped_attributes_count)),
            ("entityRefs", "entity_refs", self.array(resource.entity_refs.iter().map(|entity| self.entity(entity)))),
        ])
    }

    fn entity(&self, entity: &EntityRef) -> String {
        let texts = |texts: &[String]| self.array(texts.iter().map(|text| self.text(text)));
        self.object(vec![
            ("schemaUrl", "schema_url", self.plain_text(&entity.schema_url)),
            ("type", "type", self.plain_text(&entity.r#type)),
            ("idKeys", "id_keys", texts(&entity.id_keys)),
            ("descriptionKeys", "description_keys", texts(&entity.description_keys)),
        ])
    }

    fn scope(&self, scope: &InstrumentationScope) -> String {
        self.object(vec![
            ("name", "name", self.plain_text(&scope.name)),
            ("version", "version", self.plain_text(&scope.version)),
            ("attributes", "attributes", self.attributes(&scope.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(scope.dropped_attributes_count)),
        ])
    }

    fn span(&self, span: &Span) -> String {
        let status = span.status.as_ref().map(|status| {
            let name = StatusCode::try_from(status.code).ok().map(|code| code.as_str_name());
            self.object(vec![
                ("message", "message", self.plain_text(&status.message)),
                ("code", "code", self.enumerated(status.code, name)),
            ])
        });
        let kind = SpanKind::try_from(span.kind).ok().map(|kind| kind.as_str_name());
        self.object(vec![
            ("traceId", "trace_id", self.id(&span.trace_id)),
            ("spanId", "span_id", self.id(&span.span_id)),
            ("traceState", "trace_state", self.plain_text(&span.trace_state)),
            ("parentSpanId", "parent_span_id", self.id(&span.parent_span_id)),
            ("flags", "flags", self.u32(span.flags)),
            ("name", "name", self.plain_text(&span.name)),
            ("kind", "kind", self.enumerated(span.kind, kind)),
            ("startTimeUnixNano", "start_time_unix_nano", self.u64(span.start_time_unix_nano)),
            ("endTimeUnixNano", "end_time_unix_nano", self.u64(span.end_time_unix_nano)),
            ("attributes", "attributes", self.attributes(&span.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(span.dropped_attributes_count)),
            ("events", "events", self.array(span.events.iter().map(|event| self.event(event)))),
            ("droppedEventsCount", "dropped_events_count", self.u32(span.dropped_events_count)),
            ("links", "links", self.array(span.links.iter().map(|link| self.link(link)))),
            ("droppedLinksCount", "dropped_links_count", self.u32(span.dropped_links_count)),
            ("status", "status", status.unwrap_or_default()),
        ])
    }

    fn event(&self, event: &Event) -> String {
        self.object(vec![
            ("timeUnixNano", "time_unix_nano", self.u64(event.time_unix_nano)),
            ("name", "name", self.plain_text(&event.name)),
            ("attributes", "attributes", self.attributes(&event.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(event.dropped_attributes_count)),
        ])
    }

    fn link(&self, link: &Link) -> String {
        self.object(vec![
            ("traceId", "trace_id", self.id(&link.trace_id)),
            ("spanId", "span_id", self.id(&link.span_id)),
            ("traceState", "trace_state", self.plain_text(&link.trace_state)),
            ("attributes", "attributes", self.attributes(&link.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(link.dropped_attributes_count)),
            ("flags", "flags", self.u32(link.flags)),
        ])
    }

    fn log_record(&self, record: &LogRecord) -> String {
        let severity = SeverityNumber::try_from(record.severity_number).ok().map(|severity| severity.as_str_name());
        self.object(vec![
            ("timeUnixNano", "time_unix_nano", self.u64(record.time_unix_nano)),
            ("observedTimeUnixNano", "observed_time_unix_nano", self.u64(record.observed_time_unix_nano)),
            ("severityNumber", "severity_number", self.enumerated(record.severity_number, severity)),
            ("severityText", "severity_text", self.plain_text(&record.severity_text)),
            ("body", "body", record.body.as_ref().map(|body| self.any_value(body)).unwrap_or_default()),
            ("attributes", "attributes", self.attributes(&record.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(record.dropped_attributes_count)),
            ("flags", "flags", self.u32(record.flags)),
            ("traceId", "trace_id", self.id(&record.trace_id)),
            ("spanId", "span_id", self.id(&record.span_id)),
            ("eventName", "event_name", self.plain_text(&record.event_name)),
        ])
    }

    fn metric(&self, metric: &Metric) -> String {
        let mut members = vec![
            ("name", "name", self.plain_text(&metric.name)),
            ("description", "description", self.plain_text(&metric.description)),
            ("unit", "unit", self.plain_text(&metric.unit)),
            ("metadata", "metadata", self.attributes(&metric.metadata)),
        ];
        let numbers = |points: &[NumberDataPoint]| ("dataPoints", "data_points", self.array(points.iter().map(|p| self.number_point(p))));
        members.extend(metric.data.as_ref().map(|data| match data {
            Data::Gauge(gauge) => ("gauge", "gauge", self.object(vec![numbers(&gauge.data_points)])),
            Data::Sum(sum) => {
                let is_monotonic = if !sum.is_monotonic && self.may_leave_out() { String::new() } else { sum.is_monotonic.to_string() };
                let monotonic = ("isMonotonic", "is_monotonic", is_monotonic);
                ("sum", "sum", self.object(vec![numbers(&sum.data_points), self.temporality(sum.aggregation_temporality), monotonic]))
            }
            Data::Histogram(histogram) => {
                let points = self.array(histogram.data_points.iter().map(|point| self.histogram_point(point)));
                let members = vec![("dataPoints", "data_points", points), self.temporality(histogram.aggregation_temporality)];
                ("histogram", "histogram", self.object(members))
            }
            Data::ExponentialHistogram(histogram) => {
                let points = self.array(histogram.data_points.iter().map(|point| self.exponential_point(point)));
                let members = vec![("dataPoints", "data_points", points), self.temporality(histogram.aggregation_temporality)];
                ("exponentialHistogram", "exponential_histogram", self.object(members))
            }
            Data::Summary(summary) => {
                let points = self.array(summary.data_points.iter().map(|point| self.summary_point(point)));
                ("summary", "summary", self.object(vec![("dataPoints", "data_points", points)]))
            }
        }));
        self.object(members)
    }

    fn temporality(&self, temporality: i32) -> Member<'static> {
        let name = AggregationTemporality::try_from(temporality).ok().map(|known| known.as_str_name());
        ("aggregationTemporality", "aggregation_temporality", self.enumerated(temporality, name))
    }

    fn number_point(&self, point: &NumberDataPoint) -> String {
        let value = point.value.map(|value| match value {
            number_data_point::Value::AsDouble(double) => ("asDouble", "as_double", self.double(double)),
            number_data_point::Value::AsInt(integer) => ("asInt", "as_int", self.int64(integer.into())),
        });
        let mut members = self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
        members.push(self.exemplars(&point.exemplars));
        members.extend(value);
        self.object(members)
    }

    fn point(&self, attributes: &[KeyValue], start: u64, time: u64, flags: u32) -> Vec<Member<'static>> {
        vec![
            ("attributes", "attributes", self.attributes(attributes)),
            ("startTimeUnixNano", "start_time_unix_nano", self.u64(start)),
            ("timeUnixNano", "time_unix_nano", self.u64(time)),
            ("flags", "flags", self.u32(flags)),
        ]
    }

    fn exemplars(&self, exemplars: &[Exemplar]) -> Member<'static> {
        let exemplar = |exemplar: &Exemplar| {
            let value = exemplar.value.map(|value| match value {
                exemplar::Value::AsDouble(double) => ("asDouble", "as_double", self.double(double)),
                exemplar::Value::AsInt(integer) => ("asInt", "as_int", self.int64(integer.into())),
            });
            let mut members = vec![
                ("filteredAttributes", "filtered_attributes", self.attributes(&exemplar.filtered_attributes)),
                ("timeUnixNano", "time_unix_nano", self.u64(exemplar.time_unix_nano)),
                ("spanId", "span_id", self.id(&exemplar.span_id)),
                ("traceId", "trace_id", self.id(&exemplar.trace_id)),
            ];
            members.extend(value);
            self.object(members)
        };
        ("exemplars", "exemplars", self.array(exemplars.iter().map(exemplar)))
    }

    fn histogram_point(&self, point: &HistogramDataPoint) -> String {
        let mut members = self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
        members.extend([
            ("count", "count", self.u64(point.count)),
            ("sum", "sum", self.maybe_double(point.sum)),
            ("bucketCounts", "bucket_counts", self.array(point.bucket_counts.iter().map(|count| self.int64((*count).into())))),
            ("explicitBounds", "explicit_bounds", self.array(point.explicit_bounds.iter().map(|bound| self.double(*bound)))),
            self.exemplars(&point.exemplars),
            ("min", "min", self.maybe_double(point.min)),
            ("max", "max", self.maybe_double(point.max)),
        ]);
        self.object(members)
    }

    fn exponential_point(&self, point: &ExponentialHistogramDataPoint) -> String {
        let buckets = |buckets: &Buckets| {
            let counts = self.array(buckets.bucket_counts.iter().map(|count| self.int64((*count).into())));
            self.object(vec![("offset", "offset", self.i32(buckets.offset)), ("bucketCounts", "bucket_counts", counts)])
        };
        let mut members = self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
        members.extend([
            ("count", "count", self.u64(point.count)),
            ("sum", "sum", self.maybe_double(point.sum)),
            ("scale", "scale", self.i32(point.scale)),
            ("zeroCount", "zero_count", self.u64(point.zero_count)),
            ("positive", "positive", point.positive.as_ref().map(buckets).unwrap_or_default()),
            ("negative", "negative", point.negative.as_ref().map(buckets).unwrap_or_default()),
            self.exemplars(&point.exemplars),
            ("min", "min", self.maybe_double(point.min)),
            ("max", "max", self.maybe_double(point.max)),
            ("zeroThreshold", "zero_threshold", self.double(point.zero_threshold)),
        ]);
        self.object(members)
    }

    fn summary_point(&self, point: &SummaryDataPoint) -> String {
        let quantiles = point
            .quantile_values
            .iter()
            .map(|at| self.object(vec![("quantile", "quantile", self.double(at.quantile)), ("value", "value", self.double(at.value))]));
        let quantiles = self.array(quantiles);
        let mut members = self.point(&point.attributes, point.start_time_unix_nano, point.time_unix_nano, point.flags);
        members.extend([
            ("count", "count", self.u64(point.count)),
            ("sum", "sum", self.double(point.sum)),
            ("quantileValues", "quantile_values", quantiles),
        ]);
        self.object(members)
    }
}
