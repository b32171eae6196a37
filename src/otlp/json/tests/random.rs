//! Random requests of each signal, with every field that opentelemetry-proto has.

use opentelemetry_proto::tonic::common::v1::{ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::*;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Status};

use super::draw::Draw;
use super::*;

/// Makes requests. `is_plain`: only what the other reader of JSON can read too.
pub struct Random<'a> {
    pub draw: Draw<'a>,
    pub is_plain: bool,
}

impl Random<'_> {
    pub fn traces(&self) -> ExportTraceServiceRequest {
        let scope =
            || ScopeSpans { scope: self.draw.maybe(|| self.scope()), spans: self.many(3, Self::span), schema_url: self.draw.text() };
        let resource = || ResourceSpans {
            resource: self.draw.maybe(|| self.resource()),
            scope_spans: self.draw.many(3, scope),
            schema_url: self.draw.text(),
        };
        ExportTraceServiceRequest { resource_spans: self.draw.many(3, resource) }
    }

    pub fn logs(&self) -> ExportLogsServiceRequest {
        let scope = || ScopeLogs {
            scope: self.draw.maybe(|| self.scope()),
            log_records: self.many(3, Self::log_record),
            schema_url: self.draw.text(),
        };
        let resource = || ResourceLogs {
            resource: self.draw.maybe(|| self.resource()),
            scope_logs: self.draw.many(3, scope),
            schema_url: self.draw.text(),
        };
        ExportLogsServiceRequest { resource_logs: self.draw.many(3, resource) }
    }

    pub fn metrics(&self) -> ExportMetricsServiceRequest {
        let scope =
            || ScopeMetrics { scope: self.draw.maybe(|| self.scope()), metrics: self.many(3, Self::metric), schema_url: self.draw.text() };
        let resource = || ResourceMetrics {
            resource: self.draw.maybe(|| self.resource()),
            scope_metrics: self.draw.many(3, scope),
            schema_url: self.draw.text(),
        };
        ExportMetricsServiceRequest { resource_metrics: self.draw.many(3, resource) }
    }

    fn many<T>(&self, most: usize, make: impl Fn(&Self) -> T) -> Vec<T> {
        self.draw.many(most, || make(self))
    }

    fn id(&self, length: usize) -> Vec<u8> {
        self.draw.maybe(|| self.draw.bytes(length)).unwrap_or_default()
    }

    fn double(&self) -> f64 {
        self.draw.f64(self.is_plain)
    }

    fn attributes(&self) -> Vec<KeyValue> {
        self.many(3, |random| random.key_value(4))
    }

    fn key_value(&self, depth: usize) -> KeyValue {
        let strindex = if self.is_plain { 0 } else { self.draw.i32() };
        KeyValue { key: self.draw.text(), value: self.draw.maybe(|| self.any_value(depth)), key_strindex: strindex }
    }

    fn any_value(&self, depth: usize) -> AnyValue {
        let value = match self.draw.below(if depth == 0 { 5 } else { 9 }) {
            0 => Some(Value::StringValue(self.draw.text())),
            1 => Some(Value::BoolValue(self.draw.yes())),
            2 => Some(Value::IntValue(self.draw.i64())),
            3 => Some(Value::DoubleValue(self.double())),
            4 => Some(Value::BytesValue(self.draw.bytes(self.draw.below(9)))),
            5 => Some(Value::ArrayValue(ArrayValue { values: self.many(3, |random| random.any_value(depth - 1)) })),
            6 => Some(Value::KvlistValue(KeyValueList { values: self.many(3, |random| random.key_value(depth - 1)) })),
            7 if !self.is_plain => Some(Value::StringValueStrindex(self.draw.i32())),
            _ if self.is_plain => Some(Value::BoolValue(true)),
            _ => None,
        };
        AnyValue { value }
    }

    fn resource(&self) -> Resource {
        let entity = |random: &Self| EntityRef {
            schema_url: random.draw.text(),
            r#type: random.draw.text(),
            id_keys: random.draw.many(3, || random.draw.text()),
            description_keys: random.draw.many(3, || random.draw.text()),
        };
        Resource { attributes: self.attributes(), dropped_attributes_count: self.draw.u32(), entity_refs: self.many(2, entity) }
    }

    fn scope(&self) -> InstrumentationScope {
        InstrumentationScope {
            name: self.draw.text(),
            version: self.draw.text(),
            attributes: self.attributes(),
            dropped_attributes_count: self.draw.u32(),
        }
    }

    fn span(&self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.draw.text(),
            parent_span_id: self.id(8),
            flags: self.draw.u32(),
            name: self.draw.text(),
            kind: self.enumerated(6),
            start_time_unix_nano: self.draw.u64(),
            end_time_unix_nano: self.draw.u64(),
            attributes: self.attributes(),
            dropped_attributes_count: self.draw.u32(),
            events: self.many(2, Self::event),
            dropped_events_count: self.draw.u32(),
            links: self.many(2, Self::link),
            dropped_links_count: self.draw.u32(),
            status: self.draw.maybe(|| Status { message: self.draw.text(), code: self.enumerated(3) }),
        }
    }

    fn event(&self) -> Event {
        Event {
            time_unix_nano: self.draw.u64(),
            name: self.draw.text(),
            attributes: self.attributes(),
            dropped_attributes_count: self.draw.u32(),
        }
    }

    fn link(&self) -> Link {
        Link {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.draw.text(),
            attributes: self.attributes(),
            dropped_attributes_count: self.draw.u32(),
            flags: self.draw.u32(),
        }
    }

    /// Mostly one of the known values, and sometimes one that is not.
    fn enumerated(&self, known: usize) -> i32 {
        if self.draw.rarely(8) && !self.is_plain { self.draw.i32() } else { self.draw.below(known) as i32 }
    }

    fn log_record(&self) -> LogRecord {
        LogRecord {
            time_unix_nano: self.draw.u64(),
            observed_time_unix_nano: self.draw.u64(),
            severity_number: self.enumerated(25),
            severity_text: self.draw.text(),
            body: self.draw.maybe(|| self.any_value(5)),
            attributes: self.attributes(),
            dropped_attributes_count: self.draw.u32(),
            flags: self.draw.u32(),
            trace_id: self.id(16),
            span_id: self.id(8),
            event_name: self.draw.text(),
        }
    }

    fn metric(&self) -> Metric {
        let temporality = self.enumerated(3);
        let data = match self.draw.below(6) {
            0 => Some(Data::Gauge(Gauge { data_points: self.many(3, Self::number_point) })),
            1 => Some(Data::Sum(Sum {
                data_points: self.many(3, Self::number_point),
                aggregation_temporality: temporality,
                is_monotonic: self.draw.yes(),
            })),
            2 => {
                Some(Data::Histogram(Histogram { data_points: self.many(3, Self::histogram_point), aggregation_temporality: temporality }))
            }
            3 => Some(Data::ExponentialHistogram(ExponentialHistogram {
                data_points: self.many(3, Self::exponential_point),
                aggregation_temporality: temporality,
            })),
            4 => Some(Data::Summary(Summary { data_points: self.many(3, Self::summary_point) })),
            _ => None,
        };
        Metric { name: self.draw.text(), description: self.draw.text(), unit: self.draw.text(), metadata: self.attributes(), data }
    }

    fn number_point(&self) -> NumberDataPoint {
        let value = match self.draw.below(3) {
            0 => Some(number_data_point::Value::AsInt(self.draw.i64())),
            1 => Some(number_data_point::Value::AsDouble(self.double())),
            _ => None,
        };
        NumberDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.draw.u64(),
            time_unix_nano: self.draw.u64(),
            exemplars: self.many(2, Self::exemplar),
            flags: self.draw.u32(),
            value,
        }
    }

    fn exemplar(&self) -> Exemplar {
        let value = match self.draw.below(3) {
            0 => Some(exemplar::Value::AsInt(self.draw.i64())),
            1 => Some(exemplar::Value::AsDouble(self.double())),
            _ => None,
        };
        Exemplar {
            filtered_attributes: self.attributes(),
            time_unix_nano: self.draw.u64(),
            span_id: self.id(8),
            trace_id: self.id(16),
            value,
        }
    }

    fn histogram_point(&self) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.draw.u64(),
            time_unix_nano: self.draw.u64(),
            count: self.draw.u64(),
            sum: self.draw.maybe(|| self.double()),
            bucket_counts: self.draw.many(20, || self.draw.u64()),
            explicit_bounds: self.draw.many(20, || self.double()),
            exemplars: self.many(2, Self::exemplar),
            flags: self.draw.u32(),
            min: self.draw.maybe(|| self.double()),
            max: self.draw.maybe(|| self.double()),
        }
    }

    fn exponential_point(&self) -> ExponentialHistogramDataPoint {
        let buckets = || Buckets { offset: self.draw.i32(), bucket_counts: self.draw.many(20, || self.draw.u64()) };
        ExponentialHistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.draw.u64(),
            time_unix_nano: self.draw.u64(),
            count: self.draw.u64(),
            sum: self.draw.maybe(|| self.double()),
            scale: self.draw.i32(),
            zero_count: self.draw.u64(),
            positive: self.draw.maybe(buckets),
            negative: self.draw.maybe(buckets),
            flags: self.draw.u32(),
            exemplars: self.many(2, Self::exemplar),
            min: self.draw.maybe(|| self.double()),
            max: self.draw.maybe(|| self.double()),
            zero_threshold: self.double(),
        }
    }

    fn summary_point(&self) -> SummaryDataPoint {
        SummaryDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.draw.u64(),
            time_unix_nano: self.draw.u64(),
            count: self.draw.u64(),
            sum: self.double(),
            quantile_values: self.draw.many(3, || ValueAtQuantile { quantile: self.double(), value: self.double() }),
            flags: self.draw.u32(),
        }
    }
}
