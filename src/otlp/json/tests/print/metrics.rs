//! Metrics as JSON.

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::*;

use super::*;

impl Print<'_> {
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
