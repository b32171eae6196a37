// The OpenTelemetry SDK in a page: JSON over HTTP, by fetch, with the token in a header.
import { diag, DiagLogLevel } from '@opentelemetry/api';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { AggregationType, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, WebTracerProvider } from '@opentelemetry/sdk-trace-web';
import * as telemetry from './telemetry.mjs';

// Sends everything; says what the SDK complained of.
window.send = async (base, headers, run) => {
  const errors = [];
  const say = (...words) => errors.push(words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word))).join(' ').slice(0, 500));
  const quiet = () => {};
  diag.setLogger({ error: say, warn: say, info: quiet, debug: quiet, verbose: quiet }, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  const resource = defaultResource().merge(resourceFromAttributes(telemetry.resource(run)));
  const to = (signal) => ({ url: `${base}/v1/${signal}`, headers });
  const tracers = new WebTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter(to('traces')))] });
  const meters = new MeterProvider({
    resource,
    readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(to('metrics')), exportIntervalMillis: 3_600_000 })],
    views: [{ instrumentName: 'sizes', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM, options: { maxSize: 20, recordMinMax: true } } }],
  });
  const loggers = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(to('logs')) })] });
  telemetry.traces(tracers);
  telemetry.metrics(meters);
  telemetry.logs(loggers, tracers);
  for (const provider of [tracers, loggers, meters]) await provider.shutdown().catch((error) => say(String(error)));
  return errors;
};

// What a page is allowed to see of an answer.
window.ask = async (url, headers, body) => {
  try {
    const answer = await fetch(url, { method: 'POST', headers, body });
    return { status: answer.status, retry_after: answer.headers.get('retry-after'), content_type: answer.headers.get('content-type'), text: await answer.text() };
  } catch (error) {
    return { status: 0, text: String(error) };
  }
};
