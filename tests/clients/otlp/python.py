"""The OpenTelemetry SDK for Python, over HTTP or gRPC; node.mjs and telemetry.mjs say what the variables and the values mean.

What always holds: a span's name is its own; times that are given are of 2023, so that they can be told from those taken.
"""
import importlib
import json
import logging
import os
import time

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.version import __version__
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

ORDER = {name[7:].lower(): value for name, value in os.environ.items() if name.startswith("CLIENT_")}
RUN = ORDER["run"]
EXPORTER = "opentelemetry.exporter.otlp.proto." + ("grpc" if ORDER["protocol"] == "grpc" else "http")
ATTRIBUTES = {
    "text": "plain", "empty": "", "unicode": 'ä "quoted" \\ \n\t\u0001 𝄞', "int": 42, "smallest": -(2**63), "largest": 2**63 - 1,
    "ratio": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308, "third": 1 / 3, "nan": float("nan"), "infinite": float("-inf"),
    "yes": True, "no": False, "texts": ["a", "b", "ü"], "ints": [1, -2, 3], "ratios": [0.5, 0.1], "flags": [True, False], "none": [],
}
# What only the logs can say besides: bytes, maps, and lists of anything.
NESTED = {"bytes": b"\x00\x01\xfe\xff", "map": {"a": 1, "b": {"c": ["x", 2, 2.5, False, {"d": "deep"}]}, "e": {}}, "mixed": ["a", 1, 0.5, True]}


def at(nanos):
    return 1_700_000_000_000_000_000 + nanos


def traces(provider):
    tracer = provider.get_tracer("shop.traces", "0.9", "https://opentelemetry.io/schemas/1.30.0", {"of": "scope"})

    def start(name, parent=None, **options):
        context = trace.set_span_in_context(parent or NonRecordingSpan(trace.INVALID_SPAN_CONTEXT))
        return tracer.start_span(name, context=context, start_time=at(1), **options)

    state = TraceState([("vendor", "a:b"), ("other", "1")])
    remote = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, TraceFlags(1), state)
    other = start("other root", kind=SpanKind.CONSUMER)
    links = [Link(other.get_span_context(), {"why": "batch"}), Link(remote)]
    root = start("POST /orders", kind=SpanKind.SERVER, attributes=ATTRIBUTES, links=links)
    root.add_event("received", {"size": 1234, **ATTRIBUTES}, timestamp=at(2))
    root.add_event("without attributes", timestamp=at(3))
    query = start("SELECT", root, kind=SpanKind.CLIENT)
    query.set_status(Status(StatusCode.ERROR, "größer als erlaubt"))
    query.end(at(999_999_999))
    ok = start("ok", root, kind=SpanKind.PRODUCER)
    ok.set_status(Status(StatusCode.OK))
    ok.end(at(5))
    root.end(at(123_456_789))
    other.end(at(7))
    chain = tracer.start_span("chain 0")
    for i in range(1, 6):
        following = start(f"chain {i}", chain)
        chain.end()
        chain = following
    chain.end()
    start("follows what is far away", NonRecordingSpan(remote)).end(at(9))
    crowd = start("crowd")
    for i in range(40):
        start(f"crowd {i}", crowd, attributes={"i": i, "half": i / 2}).end(at(100 + i))
    full = start("more attributes than are kept", crowd)
    for i in range(200):
        full.set_attribute(f"a{i}", i)
    full.end(at(10))
    crowd.end(at(11))


def metrics(provider, tracer):
    meter = provider.get_meter("shop.metrics", "0.8", "https://opentelemetry.io/schemas/1.29.0", {"of": "scope"})
    span = tracer.start_span("what is measured")
    # Within a span: exemplars.
    with trace.use_span(span, end_on_exit=True):
        meter.create_counter("orders", "{order}", "Bestellungen, größer").add(7, {"text": "ü", "list": ["a"], "yes": True, "int": 2**53 + 1})
        meter.create_histogram("seen", "ms").record(3.5, {"path": "/orders"})
    meter.create_counter("paid", "EUR").add(0.1, {"way": "card"})
    meter.create_counter("large").add(2**62 + 1)
    open_orders = meter.create_up_down_counter("open", "1")
    open_orders.add(5)
    open_orders.add(-12)
    meter.create_up_down_counter("balance").add(-0.25, {"of": "x"})
    gauge = meter.create_gauge("temperature", "Cel")
    gauge.set(-3.5, {"room": "ü"})
    gauge.set(21, {"room": "b"})
    took = meter.create_histogram("took", "ms", explicit_bucket_boundaries_advisory=[0, 1, 2.5, 10])
    for value in (0, 0.5, 1, 2, 9.999, 10, 11, 5000):
        took.record(value, {"path": "/orders"})
    sizes = meter.create_histogram("sizes", "By")
    for value in (0, 0.001, 1, 2, 3, 1024, 1e9):
        sizes.record(value, {"path": "/orders"})
    meter.create_observable_counter("cpu", [lambda _: [Observation(1.5, {"mode": "user"}), Observation(0.5, {"mode": "system"})]], "s")
    meter.create_observable_up_down_counter("queue", [lambda _: [Observation(-4)]])
    meter.create_observable_gauge("load", [lambda _: [Observation(0.1, {"of": "one minute"})]])


def logs(provider, tracer):
    logger = provider.get_logger("shop.logs", "0.7", "https://opentelemetry.io/schemas/1.28.0", {"of": "scope"})
    bodies = ["text, größer", "", 42, -0.1, True, NESTED["bytes"], NESTED["map"], NESTED["mixed"], None]
    severities = [SeverityNumber.TRACE, SeverityNumber.INFO2, SeverityNumber.WARN4, SeverityNumber.FATAL4, SeverityNumber.UNSPECIFIED]
    for i, body in enumerate(bodies):
        texts = ["TRACE", "INFO", "warn", "Größer", None]
        attributes = {"i": i, **ATTRIBUTES, **NESTED}
        logger.emit(LogRecord(timestamp=at(i), observed_timestamp=at(1000 + i), severity_number=severities[i % 5], severity_text=texts[i % 5], body=body, attributes=attributes))
    logger.emit(LogRecord(event_name="shop.closed", body="an event", severity_number=SeverityNumber.ERROR))
    span = tracer.start_span("what is logged about")
    logger.emit(LogRecord(body="within a span", context=trace.set_span_in_context(span)))
    span.end()


def stream(tracer, began):
    count, seconds = int(ORDER["count"]), float(ORDER["seconds"])
    for i in range(count):
        time.sleep(max(0, began + i * seconds / count - time.monotonic()))
        tracer.start_span(f"{RUN} {i}").end()


class Said(logging.Handler):
    """Every failed export ends in a word of the SDK's."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.words = []

    def emit(self, record):
        self.words.append(record.getMessage()[:500])


def main():
    said = Said()
    for name in ("exporter", "sdk._shared_internal", "sdk.metrics"):
        logging.getLogger("opentelemetry." + name).addHandler(said)
    logging.getLogger("opentelemetry").propagate = False
    attributes = {"service.name": "shop", "test.run": RUN, "test.ünï": "größer 日本 🦀", "test.ratio": 0.1, "test.count": -7, "test.on": True, "test.list": ["a", "", "ü"]}
    resource = Resource.create(attributes, "https://opentelemetry.io/schemas/1.31.0")
    exporter = lambda module, name: getattr(importlib.import_module(f"{EXPORTER}.{module}"), name)()
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    batch = 20 if ORDER["task"] == "stream" else 512
    tracers.add_span_processor(BatchSpanProcessor(exporter("trace_exporter", "OTLPSpanExporter"), schedule_delay_millis=200, max_export_batch_size=batch))
    reader = PeriodicExportingMetricReader(exporter("metric_exporter", "OTLPMetricExporter"), export_interval_millis=3_600_000)
    views = [View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation(max_size=20))]
    meters = MeterProvider([reader], resource, shutdown_on_exit=False, views=views)
    loggers = LoggerProvider(resource, shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(exporter("_log_exporter", "OTLPLogExporter")))

    began = time.monotonic()
    tracer = tracers.get_tracer("shop.traces")
    if ORDER["task"] == "everything":
        traces(tracers)
        metrics(meters, tracer)
        logs(loggers, tracer)
    else:
        stream(tracer, began)
    # A shutdown ends what is being tried again, so everything is flushed first; the metrics are collected by theirs.
    tracers.force_flush(120_000)
    loggers.force_flush(120_000)
    for provider in (tracers, loggers, meters):
        provider.shutdown()
    print(json.dumps({"client": "python", "version": __version__, "seconds": round(time.monotonic() - began, 3), "errors": said.words}), flush=True)


main()
