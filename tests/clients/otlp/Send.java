import static io.opentelemetry.api.common.AttributeKey.*;

import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.*;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.View;
import io.opentelemetry.sdk.resources.Resource;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.Logger;

/**
 * The OpenTelemetry SDK for Java, over HTTP or gRPC; node.mjs and telemetry.mjs say what the variables and the values mean.
 * What always holds: a span's name is its own; times that are given are of 2023, so that they can be told from those taken.
 */
public class Send {
  static final String RUN = System.getenv("CLIENT_RUN");
  static final String UNICODE = "ä \"quoted\" \\ \n\t\u0001 𝄞";
  static final List<String> ERRORS = Collections.synchronizedList(new ArrayList<>());

  static long at(long nanos) {
    return 1_700_000_000_000_000_000L + nanos;
  }

  static final Value<?> MAP =
      Value.of(Map.of("b", Value.of(Map.of("c", Value.of(Value.of("x"), Value.of(2), Value.of(2.5), Value.of(false), Value.of(Map.of("d", Value.of("deep"))))))));
  static final Value<?> MIXED = Value.of(Value.of("a"), Value.of(1), Value.of(0.5), Value.of(true), Value.of(Value.of(1), Value.empty()));
  static final Value<?> BYTES = Value.of(new byte[] {0, 1, -2, -1});

  static final Attributes ATTRIBUTES =
      Attributes.builder()
          .put("text", "plain").put("empty", "").put("unicode", UNICODE)
          .put("int", 42L).put("smallest", Long.MIN_VALUE).put("largest", Long.MAX_VALUE)
          .put("ratio", 0.1).put("tiny", Double.MIN_VALUE).put("huge", Double.MAX_VALUE).put("third", 1.0 / 3).put("nan", Double.NaN).put("infinite", Double.NEGATIVE_INFINITY)
          .put("yes", true).put("no", false)
          .put("texts", "a", "b", "ü").put("ints", 1L, -2L, 3L).put("ratios", 0.5, 0.1).put("flags", true, false)
          .put(valueKey("map"), MAP).put(valueKey("mixed"), MIXED).put(valueKey("bytes"), BYTES)
          .build();

  static SpanBuilder from(Tracer tracer, String name, Span parent) {
    Context context = parent == null ? Context.root() : Context.root().with(parent);
    return tracer.spanBuilder(name).setParent(context).setStartTimestamp(at(1), TimeUnit.NANOSECONDS);
  }

  static void end(Span span, long nanos) {
    span.end(at(nanos), TimeUnit.NANOSECONDS);
  }

  static void traces(OpenTelemetry sdk) {
    Tracer tracer = sdk.getTracerProvider().tracerBuilder("shop.traces").setInstrumentationVersion("0.9").setSchemaUrl("https://opentelemetry.io/schemas/1.30.0").build();
    TraceState state = TraceState.builder().put("vendor", "a:b").put("other", "1").build();
    SpanContext remote = SpanContext.createFromRemoteParent("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", TraceFlags.getSampled(), state);
    Span other = from(tracer, "other root", null).setSpanKind(SpanKind.CONSUMER).startSpan();
    Span root =
        from(tracer, "POST /orders", null).setSpanKind(SpanKind.SERVER).setAllAttributes(ATTRIBUTES)
            .addLink(other.getSpanContext(), Attributes.of(stringKey("why"), "batch")).addLink(remote).startSpan();
    root.addEvent("received", ATTRIBUTES, at(2), TimeUnit.NANOSECONDS);
    root.addEvent("without attributes", at(3), TimeUnit.NANOSECONDS);
    Span query = from(tracer, "SELECT", root).setSpanKind(SpanKind.CLIENT).startSpan();
    query.setStatus(StatusCode.ERROR, "größer als erlaubt");
    end(query, 999_999_999);
    Span ok = from(tracer, "ok", root).setSpanKind(SpanKind.PRODUCER).startSpan();
    ok.setStatus(StatusCode.OK);
    end(ok, 5);
    end(root, 123_456_789);
    end(other, 7);
    Span chain = tracer.spanBuilder("chain 0").setNoParent().startSpan();
    for (int i = 1; i < 6; i++) {
      Span next = from(tracer, "chain " + i, chain).startSpan();
      chain.end();
      chain = next;
    }
    chain.end();
    end(from(tracer, "follows what is far away", Span.wrap(remote)).startSpan(), 9);
    Span crowd = from(tracer, "crowd", null).startSpan();
    for (int i = 0; i < 40; i++) end(from(tracer, "crowd " + i, crowd).setAttribute("i", i).setAttribute("half", i / 2.0).startSpan(), 100 + i);
    Span full = from(tracer, "more attributes than are kept", crowd).startSpan();
    for (int i = 0; i < 200; i++) full.setAttribute("a" + i, i);
    end(full, 10);
    end(crowd, 11);
  }

  /** Those that are asked when the metrics are collected stay here until then. */
  static final List<Object> ASKED = new ArrayList<>();

  static void metrics(OpenTelemetry sdk) {
    Meter meter = sdk.getMeterProvider().meterBuilder("shop.metrics").setInstrumentationVersion("0.8").setSchemaUrl("https://opentelemetry.io/schemas/1.29.0").build();
    Span span = sdk.getTracer("shop.traces").spanBuilder("what is measured").setNoParent().startSpan();
    // Within a span: exemplars.
    try (Scope within = span.makeCurrent()) {
      meter.counterBuilder("orders").setUnit("{order}").setDescription("Bestellungen, größer").build().add(7, ATTRIBUTES);
      meter.histogramBuilder("seen").setUnit("ms").build().record(3.5);
    }
    span.end();
    meter.counterBuilder("paid").ofDoubles().setUnit("EUR").build().add(0.1, Attributes.of(stringKey("way"), "card"));
    meter.counterBuilder("large").build().add((1L << 62) + 1);
    var open = meter.upDownCounterBuilder("open").setUnit("1").build();
    open.add(5);
    open.add(-12);
    meter.upDownCounterBuilder("balance").ofDoubles().build().add(-0.25);
    var gauge = meter.gaugeBuilder("temperature").setUnit("Cel").build();
    gauge.set(-3.5, Attributes.of(stringKey("room"), "ü"));
    gauge.set(21, Attributes.of(stringKey("room"), "b"));
    meter.gaugeBuilder("level").ofLongs().build().set(-3);
    var took = meter.histogramBuilder("took").setUnit("ms").setExplicitBucketBoundariesAdvice(List.of(0.0, 1.0, 2.5, 10.0)).build();
    for (double value : new double[] {0, 0.5, 1, 2, 9.999, 10, 11, 5000}) took.record(value, Attributes.of(stringKey("path"), "/orders"));
    var sizes = meter.histogramBuilder("sizes").setUnit("By").build();
    for (double value : new double[] {0, 0.001, 1, 2, 3, 1024, 1e9}) sizes.record(value);
    AttributeKey<String> mode = stringKey("mode");
    ASKED.add(meter.counterBuilder("cpu").ofDoubles().setUnit("s").buildWithCallback(asked -> {
      asked.record(1.5, Attributes.of(mode, "user"));
      asked.record(0.5, Attributes.of(mode, "system"));
    }));
    ASKED.add(meter.upDownCounterBuilder("queue").buildWithCallback(asked -> asked.record(-4)));
    ASKED.add(meter.gaugeBuilder("load").buildWithCallback(asked -> asked.record(0.1)));
  }

  static void logs(OpenTelemetry sdk) {
    var logger = sdk.getLogsBridge().loggerBuilder("shop.logs").setInstrumentationVersion("0.7").setSchemaUrl("https://opentelemetry.io/schemas/1.28.0").build();
    var bodies = Arrays.asList(Value.of("text, größer"), Value.of(""), Value.of(42), Value.of(-0.1), Value.of(true), BYTES, MAP, MIXED, Value.empty(), null);
    var severities = Arrays.asList(Severity.TRACE, Severity.INFO2, Severity.WARN4, Severity.FATAL4, Severity.UNDEFINED_SEVERITY_NUMBER);
    var texts = Arrays.asList("TRACE", "INFO", "warn", "Größer", null);
    for (int i = 0; i < bodies.size(); i++) {
      var record = logger.logRecordBuilder().setTimestamp(at(i), TimeUnit.NANOSECONDS).setObservedTimestamp(at(1000 + i), TimeUnit.NANOSECONDS);
      record.setSeverity(severities.get(i % 5)).setAllAttributes(ATTRIBUTES).setAttribute("i", i);
      if (texts.get(i % 5) != null) record.setSeverityText(texts.get(i % 5));
      if (bodies.get(i) != null) record.setBody(bodies.get(i));
      record.emit();
    }
    logger.logRecordBuilder().setEventName("shop.closed").setBody("an event").setSeverity(Severity.ERROR).emit();
    Span span = sdk.getTracer("shop.traces").spanBuilder("what is logged about").setNoParent().startSpan();
    logger.logRecordBuilder().setBody("within a span").setContext(Context.root().with(span)).emit();
    span.end();
  }

  static void stream(OpenTelemetry sdk, long began) throws InterruptedException {
    long count = Long.parseLong(System.getenv("CLIENT_COUNT"));
    long seconds = Long.parseLong(System.getenv("CLIENT_SECONDS"));
    for (int i = 0; i < count; i++) {
      Thread.sleep(Math.max(0, (began + i * seconds * 1_000_000_000L / count - System.nanoTime()) / 1_000_000));
      sdk.getTracer("stream").spanBuilder(RUN + " " + i).setNoParent().startSpan().end();
    }
  }

  /** Every failed export ends in a word of the SDK's. */
  static final Logger SAID = Logger.getLogger("io.opentelemetry");

  static void listen() {
    SAID.setUseParentHandlers(false);
    SAID.addHandler(
        new Handler() {
          @Override
          public void publish(LogRecord record) {
            if (record.getLevel().intValue() >= Level.WARNING.intValue()) ERRORS.add(String.valueOf(record.getMessage()) + (record.getThrown() == null ? "" : " " + record.getThrown()));
          }

          @Override
          public void flush() {}

          @Override
          public void close() {}
        });
  }

  @SuppressWarnings("deprecation") // Its successor is not in the older SDKs that are still about.
  static OpenTelemetrySdk sdk(boolean stream) {
    Resource resource =
        Resource.create(
            Attributes.builder().put("service.name", "shop").put("test.run", RUN).put("test.unicode", "größer 日本 🦀").put("test.ratio", 0.1).put("test.count", -7).put("test.on", true).put("test.list", "a", "", "ü").build(),
            "https://opentelemetry.io/schemas/1.31.0");
    View exponential = View.builder().setAggregation(Aggregation.base2ExponentialBucketHistogram(20, 20)).build();
    var properties = Map.of("otel.bsp.schedule.delay", "200", "otel.bsp.max.export.batch.size", stream ? "20" : "512", "otel.metric.export.interval", "3600000");
    return AutoConfiguredOpenTelemetrySdk.builder()
        .disableShutdownHook()
        .addPropertiesSupplier(() -> properties)
        .addResourceCustomizer((found, config) -> found.merge(resource))
        .addMeterProviderCustomizer((meters, config) -> meters.registerView(InstrumentSelector.builder().setName("sizes").build(), exponential))
        .build()
        .getOpenTelemetrySdk();
  }

  public static void main(String[] args) throws Exception {
    String task = System.getenv("CLIENT_TASK");
    listen();
    OpenTelemetrySdk sdk = sdk(task.equals("stream"));
    long began = System.nanoTime();
    if (task.equals("everything")) {
      traces(sdk);
      metrics(sdk);
      logs(sdk);
    } else {
      stream(sdk, began);
    }
    // A shutdown gives up after a while, so everything is flushed first; the metrics are collected by theirs.
    for (CompletableResultCode flushed : List.of(sdk.getSdkTracerProvider().forceFlush(), sdk.getSdkLoggerProvider().forceFlush())) flushed.join(120, TimeUnit.SECONDS);
    for (CompletableResultCode ended : List.of(sdk.getSdkTracerProvider().shutdown(), sdk.getSdkLoggerProvider().shutdown(), sdk.getSdkMeterProvider().shutdown())) ended.join(60, TimeUnit.SECONDS);
    var version = OpenTelemetrySdk.class.getProtectionDomain().getCodeSource().getLocation().getPath().replaceAll(".*-([0-9.]+)\\.jar", "$1");
    StringBuilder errors = new StringBuilder();
    for (String error : ERRORS) errors.append(errors.length() == 0 ? "" : ",").append('"').append(escape(error.substring(0, Math.min(500, error.length())))).append('"');
    System.out.println("{\"client\":\"java\",\"version\":\"" + version + "\",\"seconds\":" + (System.nanoTime() - began) / 1e9 + ",\"errors\":[" + errors + "]}");
    System.exit(0);
  }

  static String escape(String text) {
    return text.replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ");
  }
}
