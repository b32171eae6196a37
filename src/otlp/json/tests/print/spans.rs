//! Spans and log records as JSON.

use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::*;

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
}
