// The OpenTelemetry SDK in Node: /v1 as JSON or protobuf, or gRPC. The SDK reads its own variables (OTEL_*): endpoint,
// headers, certificate, compression. CLIENT_TASK says what is sent, and its last line is one of JSON: what went wrong.
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { diag, DiagLogLevel } from '@opentelemetry/api';
import { resourceFromAttributes, defaultResource } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { AggregationType, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import * as telemetry from './telemetry.mjs';

const { CLIENT_TASK: task, CLIENT_RUN: run, CLIENT_COUNT: count = '0', CLIENT_SECONDS: seconds = '0', CLIENT_PROTOCOL: protocol } = process.env;
const kind = { 'http/json': 'http', 'http/protobuf': 'proto', grpc: 'grpc' }[protocol];
const exporters = await Promise.all(['trace', 'metrics', 'logs'].map((signal) => import(`@opentelemetry/exporter-${signal}-otlp-${kind}`)));
const { version } = createRequire(import.meta.url)(`./node_modules/@opentelemetry/exporter-trace-otlp-${kind}/package.json`);
const began = performance.now();

// Every failed export ends in a word of the SDK's.
const errors = [];
const say = (...words) => void errors.push(words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word))).join(' ').slice(0, 500));
const quiet = () => {};
// That there is an authority and no certificate of its own is how it is meant.
const warn = (...words) => String(words[0]).startsWith('Client key and certificate must both be provided') || say(...words);
diag.setLogger({ error: say, warn, info: quiet, debug: quiet, verbose: quiet }, DiagLogLevel.WARN);

const resource = defaultResource().merge(resourceFromAttributes(telemetry.resource(run)));
const tracerProvider = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new exporters[0].OTLPTraceExporter(), { scheduledDelayMillis: 200, maxExportBatchSize: task === 'stream' ? 20 : 512 })] });
const meterProvider = new MeterProvider({
  resource,
  readers: [new PeriodicExportingMetricReader({ exporter: new exporters[1].OTLPMetricExporter(), exportIntervalMillis: 3_600_000 })],
  views: [{ instrumentName: 'sizes', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM, options: { maxSize: 20, recordMinMax: true } } }],
});
const loggerProvider = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new exporters[2].OTLPLogExporter() })] });

if (task === 'everything') {
  telemetry.traces(tracerProvider);
  telemetry.metrics(meterProvider);
  telemetry.logs(loggerProvider, tracerProvider);
} else if (task === 'odd') {
  telemetry.odd(tracerProvider, meterProvider);
} else {
  const tracer = tracerProvider.getTracer('stream');
  for (let i = 0; i < Number(count); i++) {
    await sleep(Math.max(0, began + (i * Number(seconds) * 1000) / Number(count) - performance.now()));
    tracer.startSpan(`${run} ${i}`).end();
  }
}
// One after the other: each flushes what it has, and the metrics are collected once.
for (const provider of [tracerProvider, loggerProvider, meterProvider]) await provider.shutdown().catch((error) => say(String(error)));
console.log(JSON.stringify({ client: 'js', version, seconds: (performance.now() - began) / 1000, errors }));
