// What is sent, for Node and for a page: the same every time but for ids, and for the times that the SDK takes by itself.
// What always holds: a span's name is its own; times that are given are of 2024, so that they can be told from those taken.
import { context, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, ValueType } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';

const at = (nanos) => [1_700_000_000, nanos]; // the SDK's own form of a time: seconds and nanoseconds

export const resource = (run) => ({
  'service.name': 'shop', 'service.version': '1.2.3', 'test.run': run, 'test.ünï': 'größer 日本 🦀',
  'test.ratio': 0.1, 'test.count': -7, 'test.on': true, 'test.list': ['a', '', 'ü'],
});

// Everything that an attribute of this SDK can be.
const attributes = {
  text: 'plain', empty: '', unicode: 'ä "quoted" \\ \n\t\u0001 𝄞', int: 42, negative: -9007199254740991, largest: 9007199254740991,
  ratio: 0.1, tiny: 5e-324, third: 1 / 3, yes: true, no: false,
  texts: ['a', 'b', 'ü'], ints: [1, -2, 3], ratios: [0.5, 0.1], flags: [true, false], none: [],
};
// What only the logs can say besides: bytes, maps, and lists of anything.
const nested = { bytes: new Uint8Array([0, 1, 254, 255]), map: { a: 1, b: { c: ['x', 2, 2.5, false, { d: 'deep' }] }, e: {} }, mixed: ['a', 1, 0.5, true, [1, [2]]] };

export function traces(provider) {
  const tracer = provider.getTracer('shop.traces', '0.9', { schemaUrl: 'https://opentelemetry.io/schemas/1.30.0' });
  const start = (name, parent, options = {}) => tracer.startSpan(name, { startTime: at(1), ...options }, parent ? trace.setSpan(ROOT_CONTEXT, parent) : ROOT_CONTEXT);
  const remote = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', traceFlags: 1, isRemote: true };

  const other = start('other root', null, { kind: SpanKind.CONSUMER });
  const root = start('POST /orders', null, { kind: SpanKind.SERVER, attributes, links: [{ context: other.spanContext(), attributes: { why: 'batch' } }, { context: remote }] });
  root.addEvent('received', { size: 1234, ...attributes }, at(2));
  root.addEvent('without attributes', at(3));
  const query = start('SELECT', root, { kind: SpanKind.CLIENT });
  query.recordException(new TypeError('it did not fit'), at(4));
  query.setStatus({ code: SpanStatusCode.ERROR, message: 'größer als erlaubt' });
  query.end(at(999_999_999));
  const ok = start('ok', root, { kind: SpanKind.PRODUCER });
  ok.setStatus({ code: SpanStatusCode.OK });
  ok.end(at(5));
  root.end(at(123_456_789));
  other.end(at(7));

  let chain = tracer.startSpan('chain 0', { root: true });
  for (let i = 1; i < 6; i++) {
    const next = start(`chain ${i}`, chain, { kind: SpanKind.INTERNAL });
    chain.end();
    chain = next;
  }
  chain.end();
  const follows = tracer.startSpan('follows what is far away', { startTime: at(8) }, trace.setSpanContext(ROOT_CONTEXT, remote));
  follows.end(at(9));
  const crowd = start('crowd');
  for (let i = 0; i < 40; i++) start(`crowd ${i}`, crowd, { attributes: { i, half: i / 2 } }).end(at(100 + i));
  const full = start('more attributes than are kept', crowd);
  for (let i = 0; i < 200; i++) full.setAttribute(`a${i}`, i);
  full.end(at(10));
  crowd.end(at(11));
  tracer.startSpan('no name of its own scope').end();
  provider.getTracer('').startSpan('a scope without a name').end();
}

// The histogram `sizes` is an exponential one by a view.
export function metrics(provider) {
  const meter = provider.getMeter('shop.metrics', '0.8', { schemaUrl: 'https://opentelemetry.io/schemas/1.29.0' });
  const orders = meter.createCounter('orders', { description: 'Bestellungen, größer', unit: '{order}', valueType: ValueType.INT });
  orders.add(3, attributes);
  orders.add(4, attributes);
  orders.add(0, { none: [] });
  meter.createCounter('paid', { unit: 'EUR' }).add(0.1, { way: 'card' });
  const open = meter.createUpDownCounter('open', { unit: '1', valueType: ValueType.INT });
  open.add(5);
  open.add(-12);
  meter.createUpDownCounter('balance').add(-0.25, { of: 'x' });
  const gauge = meter.createGauge('temperature', { unit: 'Cel' });
  gauge.record(-3.5, { room: 'ü' });
  gauge.record(21, { room: 'b' });
  const took = meter.createHistogram('took', { unit: 'ms', advice: { explicitBucketBoundaries: [0, 1, 2.5, 10] } });
  for (const value of [0, 0.5, 1, 2, 9.999, 10, 11, 5000]) took.record(value, { path: '/orders' });
  meter.createHistogram('plain').record(17);
  const sizes = meter.createHistogram('sizes', { unit: 'By' });
  for (const value of [0, 0.001, 1, 2, 3, 1024, 1e9]) sizes.record(value, { path: '/orders' });
  meter.createObservableCounter('cpu', { unit: 's' }).addCallback((result) => {
    result.observe(1.5, { mode: 'user' });
    result.observe(0.5, { mode: 'system' });
  });
  meter.createObservableUpDownCounter('queue').addCallback((result) => result.observe(-4));
  meter.createObservableGauge('load').addCallback((result) => result.observe(0.1, { of: 'one minute' }));
}

export function logs(provider, tracerProvider) {
  const logger = provider.getLogger('shop.logs', '0.7', { schemaUrl: 'https://opentelemetry.io/schemas/1.28.0' });
  const bodies = ['text, größer', '', 42, -0.1, true, nested.bytes, nested.map, nested.mixed, null, undefined];
  bodies.forEach((body, i) => logger.emit({
    body, timestamp: at(i), observedTimestamp: at(1000 + i), severityNumber: [SeverityNumber.TRACE, SeverityNumber.INFO2, SeverityNumber.WARN4, SeverityNumber.FATAL4, SeverityNumber.UNSPECIFIED][i % 5],
    severityText: ['TRACE', 'INFO', 'warn', 'Größer', undefined][i % 5], attributes: { i, ...attributes, ...nested },
  }));
  logger.emit({ eventName: 'shop.closed', body: 'an event', severityNumber: SeverityNumber.ERROR });
  const span = tracerProvider.getTracer('shop.traces').startSpan('what is logged about');
  context.with(context.active(), () => logger.emit({ body: 'within a span', context: trace.setSpan(ROOT_CONTEXT, span) }));
  span.end();
}

// Values that JSON has no honest form for. The Collector refuses the whole batch; the gate must not.
export function odd(tracerProvider, meterProvider) {
  const span = tracerProvider.getTracer('odd').startSpan('odd', { attributes: { huge: 1e21, largest: 1.7976931348623157e308, nan: NaN, infinite: -Infinity, lone: 'a\ud800b' } });
  span.end();
  meterProvider.getMeter('odd').createCounter('odd', { valueType: ValueType.INT }).add(1e20);
}
