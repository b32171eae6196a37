//! What is sent: the same every time but for ids, and for the times that the SDK takes by itself.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{
    Link, Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, Key, KeyValue, StringValue, Value};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

fn at(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_nanos(nanos)
}

fn texts(of: &[&'static str]) -> Value {
    Value::Array(Array::String(of.iter().copied().map(StringValue::from).collect()))
}

fn attributes() -> Vec<KeyValue> {
    vec![
        KeyValue::new("text", "plain"),
        KeyValue::new("empty", ""),
        KeyValue::new("unicode", "ä \"quoted\" \\ \n\t\u{1} 𝄞"),
        KeyValue::new("int", 42),
        KeyValue::new("smallest", i64::MIN),
        KeyValue::new("largest", i64::MAX),
        KeyValue::new("ratio", 0.1),
        KeyValue::new("tiny", 5e-324),
        KeyValue::new("huge", f64::MAX),
        KeyValue::new("third", 1.0 / 3.0),
        KeyValue::new("yes", true),
        KeyValue::new("no", false),
        KeyValue::new("texts", texts(&["a", "b", "ü"])),
        KeyValue::new("ints", Value::Array(Array::I64(vec![1, -2, 3]))),
        KeyValue::new("ratios", Value::Array(Array::F64(vec![0.5, 0.1]))),
        KeyValue::new("flags", Value::Array(Array::Bool(vec![true, false]))),
        KeyValue::new("none", texts(&[])),
    ]
}

fn scope(name: &'static str) -> InstrumentationScope {
    let attributes = [KeyValue::new("of", "scope")];
    InstrumentationScope::builder(name)
        .with_version("0.9")
        .with_schema_url("https://opentelemetry.io/schemas/1.30.0")
        .with_attributes(attributes)
        .build()
}

fn remote() -> SpanContext {
    let state = TraceState::from_key_value([("vendor", "a:b"), ("other", "1")]).expect("a state");
    let (trace, span) = (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331);
    SpanContext::new(TraceId::from(trace), SpanId::from(span), TraceFlags::SAMPLED, true, state)
}

type Started = <SdkTracer as Tracer>::Span;

fn start(tracer: &SdkTracer, name: String, kind: SpanKind, parent: Option<&SpanContext>) -> Started {
    let context = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent.clone()));
    tracer.span_builder(name).with_kind(kind).with_start_time(at(1)).start_with_context(tracer, &context)
}

pub fn traces(provider: &SdkTracerProvider) {
    let tracer = provider.tracer_with_scope(scope("shop.traces"));
    let begin = |name: &str, kind, parent: Option<&SpanContext>| start(&tracer, name.to_owned(), kind, parent);
    let mut other = begin("other root", SpanKind::Consumer, None);
    let links = vec![Link::new(other.span_context().clone(), vec![KeyValue::new("why", "batch")], 0), Link::with_context(remote())];
    let builder = tracer
        .span_builder("POST /orders")
        .with_kind(SpanKind::Server)
        .with_start_time(at(1))
        .with_attributes(attributes())
        .with_links(links);
    let mut root = builder.start_with_context(&tracer, &Context::new());
    root.add_event_with_timestamp("received", at(2), attributes());
    root.add_event_with_timestamp("without attributes", at(3), vec![]);
    let mut query = begin("SELECT", SpanKind::Client, Some(root.span_context()));
    query.set_status(Status::error("größer als erlaubt"));
    query.end_with_timestamp(at(999_999_999));
    let mut ok = begin("ok", SpanKind::Producer, Some(root.span_context()));
    ok.set_status(Status::Ok);
    ok.end_with_timestamp(at(5));
    root.end_with_timestamp(at(123_456_789));
    other.end_with_timestamp(at(7));
    let mut chain = tracer.start("chain 0");
    for i in 1..6 {
        let next = start(&tracer, format!("chain {i}"), SpanKind::Internal, Some(chain.span_context()));
        chain.end();
        chain = next;
    }
    chain.end();
    begin("follows what is far away", SpanKind::Internal, Some(&remote())).end_with_timestamp(at(9));
    let mut crowd = begin("crowd", SpanKind::Internal, None);
    for i in 0..40_u32 {
        let mut one = start(&tracer, format!("crowd {i}"), SpanKind::Internal, Some(crowd.span_context()));
        one.set_attributes([KeyValue::new("i", i64::from(i)), KeyValue::new("half", f64::from(i) / 2.0)]);
        one.end_with_timestamp(at(100 + u64::from(i)));
    }
    let mut full = begin("more attributes than are kept", SpanKind::Internal, Some(crowd.span_context()));
    full.set_attributes((0..200).map(|i| KeyValue::new(format!("a{i}"), i)));
    full.end_with_timestamp(at(10));
    crowd.end_with_timestamp(at(11));
}

pub fn metrics(provider: &SdkMeterProvider) {
    let meter = provider.meter_with_scope(scope("shop.metrics"));
    meter.u64_counter("orders").with_unit("{order}").with_description("Bestellungen, größer").build().add(7, &attributes());
    meter.f64_counter("paid").with_unit("EUR").build().add(0.1, &[KeyValue::new("way", "card")]);
    meter.u64_counter("large").build().add((1 << 62) + 1, &[]);
    let open = meter.i64_up_down_counter("open").with_unit("1").build();
    open.add(5, &[]);
    open.add(-12, &[]);
    meter.f64_up_down_counter("balance").build().add(-0.25, &[]);
    let gauge = meter.f64_gauge("temperature").with_unit("Cel").build();
    gauge.record(-3.5, &[KeyValue::new("room", "ü")]);
    gauge.record(21.0, &[KeyValue::new("room", "b")]);
    meter.i64_gauge("level").build().record(-3, &[]);
    let took = meter.f64_histogram("took").with_unit("ms").with_boundaries(vec![0.0, 1.0, 2.5, 10.0]).build();
    for value in [0.0, 0.5, 1.0, 2.0, 9.999, 10.0, 11.0, 5_000.0] {
        took.record(value, &[KeyValue::new("path", "/orders")]);
    }
    meter.u64_histogram("counts").build().record(17, &[]);
    let sizes = meter.f64_histogram("sizes").with_unit("By").build();
    for value in [0.0, 0.001, 1.0, 2.0, 3.0, 1_024.0, 1e9] {
        sizes.record(value, &[]);
    }
    let modes = [(1.5, "user"), (0.5, "system")];
    let _cpu = meter
        .f64_observable_counter("cpu")
        .with_unit("s")
        .with_callback(move |asked| modes.iter().for_each(|(value, mode)| asked.observe(*value, &[KeyValue::new("mode", *mode)])))
        .build();
    let _queue = meter.i64_observable_up_down_counter("queue").with_callback(|asked| asked.observe(-4, &[])).build();
    let _load = meter.f64_observable_gauge("load").with_callback(|asked| asked.observe(0.1, &[])).build();
}

fn map() -> AnyValue {
    let of = |key: &'static str, value: AnyValue| AnyValue::Map(Box::new(HashMap::from([(Key::new(key), value)])));
    of(
        "b",
        of(
            "c",
            AnyValue::ListAny(Box::new(vec![
                AnyValue::from("x"),
                AnyValue::Int(2),
                AnyValue::Double(2.5),
                AnyValue::Boolean(false),
                of("d", AnyValue::from("deep")),
            ])),
        ),
    )
}

pub fn logs(provider: &SdkLoggerProvider, tracers: &SdkTracerProvider) {
    let logger = provider.logger_with_scope(scope("shop.logs"));
    let bytes = || AnyValue::Bytes(Box::new(vec![0, 1, 254, 255]));
    let mixed = || AnyValue::ListAny(Box::new(vec![AnyValue::from("a"), AnyValue::Int(1), AnyValue::Double(0.5), AnyValue::Boolean(true)]));
    let bodies = [
        Some(AnyValue::from("text, größer")),
        Some(AnyValue::from("")),
        Some(AnyValue::Int(42)),
        Some(AnyValue::Double(-0.1)),
        Some(AnyValue::Boolean(true)),
        Some(bytes()),
        Some(map()),
        Some(mixed()),
        None,
    ];
    let severities = [(Severity::Trace, "TRACE"), (Severity::Info2, "INFO"), (Severity::Warn4, "warn"), (Severity::Fatal4, "Größer")];
    for (i, body) in (0_u64..).zip(bodies) {
        let mut record = logger.create_log_record();
        record.set_timestamp(at(i));
        record.set_observed_timestamp(at(1_000 + i));
        let (number, text) = severities[usize::try_from(i).expect("small") % 4];
        record.set_severity_number(number);
        record.set_severity_text(text);
        record.add_attribute("i", i64::try_from(i).expect("small"));
        record.add_attributes([
            ("bytes", bytes()),
            ("map", map()),
            ("mixed", mixed()),
            ("text", AnyValue::from("ü")),
            ("ratio", AnyValue::Double(0.1)),
            ("largest", AnyValue::Int(i64::MAX)),
        ]);
        if let Some(body) = body {
            record.set_body(body);
        }
        logger.emit(record);
    }
    let mut event = logger.create_log_record();
    event.set_event_name("shop.closed");
    event.set_body(AnyValue::from("an event"));
    event.set_severity_number(Severity::Error);
    logger.emit(event);
    let mut span = tracers.tracer("shop.traces").start("what is logged about");
    let mut within = logger.create_log_record();
    within.set_body(AnyValue::from("within a span"));
    let context = span.span_context();
    within.set_trace_context(context.trace_id(), context.span_id(), Some(context.trace_flags()));
    logger.emit(within);
    span.end();
}
