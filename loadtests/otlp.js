// What the load tests of the OTLP door have in common: requests of one span, and of a hundred in ten traces; thresholds; the
// summary. What was acknowledged is written down, one line a request: each trace with the number of its spans, which
// `loadtests/run` looks for in the topic.
import { check } from 'k6';
import { randomBytes } from 'k6/crypto';
import { Counter, Rate } from 'k6/metrics';

export const SPANS_OF_A_TRACE = 10;

const accepted = new Counter('spans_accepted');
const refused = new Rate('spans_refused');

// A trace id that nobody has had, as bytes and in hex: what this user drew by lot, then a count. It is made often, and the
// client shares the machine with what it measures.
const lot = new DataView(randomBytes(8));
let traces = 0;
const word = (number) => number.toString(16).padStart(8, '0');

export function newTrace() {
  const words = [lot.getUint32(0), lot.getUint32(4), __VU, ++traces];
  const view = new DataView(new ArrayBuffer(16));
  words.forEach((each, i) => view.setUint32(4 * i, each));
  return { bytes: new Uint8Array(view.buffer), hex: words.map(word).join('') };
}

// The id in hex of the span with this number in its trace.
export const spanId = (number) => `1357924680${word(number).slice(2)}`;

// The fields of a span that are not its ids.
export const fields = Object.freeze({
  name: 'GET /api/v1/orders/{id}',
  kind: 2,
  startTimeUnixNano: '1795000000000000000',
  endTimeUnixNano: '1795000001000000000',
  attributes: [
    { key: 'http.route', value: { stringValue: '/api/v1/orders/{id}' } },
    { key: 'http.response.status_code', value: { intValue: '200' } },
    { key: 'user_agent.original', value: { stringValue: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36' } },
    { key: 'app.filler', value: { stringValue: 'x'.repeat(200) } },
  ],
});

export const resource = { attributes: [{ key: 'service.name', value: { stringValue: 'loadtest' } }] };

// What became of a request: `ok`, and each of its traces with its spans.
export function tell(answer, ok, traces) {
  check(answer, { 'the whole request is acknowledged': () => ok });
  const spans = traces.reduce((sum, trace) => sum + trace.spans, 0);
  accepted.add(ok ? spans : 0);
  for (let i = 0; i < spans; i++) refused.add(!ok);
  if (ok) console.log(`accepted:${traces.map((trace) => `${trace.hex}/${trace.spans}`).join(',')}`);
}

const scenario = (exec, share) => ({
  executor: 'constant-vus',
  exec,
  vus: Math.max(1, Math.round(Number(__ENV.VUS || 16) * share)),
  duration: __ENV.DURATION || '10s',
  gracefulStop: '10s',
});

// `duration`: the metric that has the time of a request.
export const options = (duration) => ({
  scenarios: { singles: scenario('singles', 0.75), batches: scenario('batches', 0.25) },
  thresholds: {
    checks: ['rate>0.999'],
    spans_refused: ['rate<0.001'],
    spans_accepted: ['count>0'],
    [`${duration}{scenario:singles}`]: [`p(95)<${__ENV.P95_SINGLES || 500}`],
    [`${duration}{scenario:batches}`]: [`p(95)<${__ENV.P95_BATCHES || 1500}`],
  },
  summaryTrendStats: ['avg', 'med', 'p(95)', 'p(99)', 'max'],
});

export const summary = (duration) => (data) => {
  const ms = (kind) => {
    const v = data.metrics[`${duration}{scenario:${kind}}`]?.values;
    return v ? `med ${v.med.toFixed(1)}  p95 ${v['p(95)'].toFixed(1)}  p99 ${v['p(99)'].toFixed(1)}  max ${v.max.toFixed(1)} ms` : 'none';
  };
  const seconds = data.state.testRunDurationMs / 1000;
  const spans = data.metrics.spans_accepted?.values.count ?? 0;
  const requests = data.metrics.iterations?.values.count ?? 0;
  const missed = Object.entries(data.metrics).flatMap(([name, metric]) =>
    Object.entries(metric.thresholds ?? {}).filter(([, t]) => !t.ok).map(([rule]) => `  MISSED ${name}: ${rule}`));
  const lines = [
    `requests   ${requests} (${(requests / seconds).toFixed(0)}/s)`,
    `spans      ${spans} acknowledged (${(spans / seconds).toFixed(0)}/s)`,
    `singles    ${ms('singles')}`,
    `batches    ${ms('batches')}`,
    ...missed,
  ];
  return { stdout: `${lines.join('\n')}\n`, [`${__ENV.REPORT}/summary.json`]: JSON.stringify(data, null, 2) };
};
