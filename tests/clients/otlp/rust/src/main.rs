//! The OpenTelemetry SDK for Rust, over HTTP (JSON, protobuf) or gRPC; node.mjs and telemetry.mjs say what the variables
//! and the values mean.
//!
//! What always holds: a span's name is its own; times that are given are of 2023, so that they can be told from those taken.

mod said;
mod telemetry;

use std::env::var;
use std::time::{Duration, Instant};

use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};

/// The authority to trust: the SDK has no variable for it that counts over HTTP.
fn authority() -> Option<Vec<u8>> {
    var("OTEL_EXPORTER_OTLP_CERTIFICATE").ok().map(|file| std::fs::read(file).expect("the authority can be read"))
}

fn http_client() -> reqwest::blocking::Client {
    let mut client = reqwest::blocking::Client::builder();
    if let Some(pem) = authority() {
        client = client.tls_certs_only([reqwest::Certificate::from_pem(&pem).expect("a certificate")]);
    }
    // Not on a thread of the runtime: it has one of its own.
    std::thread::spawn(|| client.build().expect("a client")).join().expect("no panic")
}

fn tls() -> ClientTlsConfig {
    let config = ClientTlsConfig::new();
    match authority() {
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
        None => config,
    }
}

/// Builds an exporter of a signal, which reads the endpoint, the headers and the compression from the environment.
macro_rules! exporter {
    ($builder:expr, $protocol:expr) => {{
        let built: Result<_, ExporterBuildError> = match $protocol {
            Protocol::Grpc if authority().is_some() => $builder.with_tonic().with_tls_config(tls()).build(),
            Protocol::Grpc => $builder.with_tonic().build(),
            http => $builder.with_http().with_protocol(http).with_http_client(http_client()).build(),
        };
        built.expect("an exporter")
    }};
}

fn resource(run: &str) -> Resource {
    let list = Array::String(["a", "", "ü"].map(StringValue::from).to_vec());
    Resource::builder()
        .with_attributes([
            KeyValue::new("service.name", "shop"),
            KeyValue::new("test.run", run.to_owned()),
            KeyValue::new("test.ünï", "größer 日本 🦀"),
            KeyValue::new("test.ratio", 0.1),
            KeyValue::new("test.count", -7),
            KeyValue::new("test.on", true),
            KeyValue::new("test.list", Value::Array(list)),
        ])
        .build()
}

fn exponential(instrument: &Instrument) -> Option<Stream> {
    let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 20, max_scale: 20, record_min_max: true };
    (instrument.name() == "sizes").then(|| Stream::builder().with_aggregation(aggregation).build().expect("a stream"))
}

fn stream(tracers: &SdkTracerProvider, run: &str, began: Instant) {
    let number = |name: &str| var(name).ok().and_then(|number| number.parse::<u32>().ok()).expect("a number");
    let (count, seconds) = (number("CLIENT_COUNT"), number("CLIENT_SECONDS"));
    for i in 0..count {
        let due = Duration::from_secs(seconds.into()) * i / count.max(1);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        tracers.tracer("stream").start(format!("{run} {i}"));
    }
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("the first one");
    let said = said::listen();
    let (task, run) = (var("CLIENT_TASK").expect("a task"), var("CLIENT_RUN").expect("a run"));
    let protocol = match var("CLIENT_PROTOCOL").as_deref() {
        Ok("http/json") => Protocol::HttpJson,
        Ok("grpc") => Protocol::Grpc,
        _ => Protocol::HttpBinary,
    };
    let temporality = if var("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE").as_deref() == Ok("delta") {
        Temporality::Delta
    } else {
        Temporality::Cumulative
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let within = runtime.enter();
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(Duration::from_millis(200))
        .with_max_export_batch_size(if task == "stream" { 20 } else { 512 });
    let spans = BatchSpanProcessor::builder(exporter!(SpanExporter::builder(), protocol)).with_batch_config(batches.build()).build();
    let reader = PeriodicReader::builder(exporter!(MetricExporter::builder().with_temporality(temporality), protocol))
        .with_interval(Duration::from_secs(3_600))
        .build();
    let tracers = SdkTracerProvider::builder().with_resource(resource(&run)).with_span_processor(spans).build();
    let meters = SdkMeterProvider::builder().with_resource(resource(&run)).with_view(exponential).with_reader(reader).build();
    let loggers =
        SdkLoggerProvider::builder().with_resource(resource(&run)).with_batch_exporter(exporter!(LogExporter::builder(), protocol)).build();
    drop(within);

    let began = Instant::now();
    if task == "everything" {
        telemetry::traces(&tracers);
        telemetry::metrics(&meters);
        telemetry::logs(&loggers, &tracers);
    } else {
        stream(&tracers, &run, began);
    }
    // A flush is given up after 5 s, though what it waits for goes on: so it is asked for again.
    let patience = Duration::from_secs(120);
    while (tracers.force_flush().is_err() || loggers.force_flush().is_err()) && began.elapsed() < patience {}
    let ends = [tracers.shutdown(), loggers.shutdown(), meters.shutdown()];
    let mut errors = said.words();
    errors.extend(ends.into_iter().filter_map(Result::err).map(|error| error.to_string()));
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({"client": "rust", "version": "0.33.1", "seconds": seconds, "errors": errors}));
}
