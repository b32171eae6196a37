// Load on the HTTPS door: single events of 1 KB, and batches of 100, at the same time.
// Thresholds: error rate, p95 of each kind. What was accepted is written down, one line a request, and `loadtests/run`
// looks for each of them in the topic.
import { check } from 'k6';
import http from 'k6/http';
import { Counter, Rate } from 'k6/metrics';

const base = __ENV.BASE;
const vus = Number(__ENV.VUS || 16);
const duration = __ENV.DURATION || '10s';
const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${__ENV.TOKEN}` };
const filler = 'x'.repeat(900);

const accepted = new Counter('events_accepted');
const refused = new Rate('events_refused');
const viaInbox = new Counter('events_in_inbox');

const scenario = (exec, share) => ({
  executor: 'constant-vus',
  exec,
  vus: Math.max(1, Math.round(vus * share)),
  duration,
  gracefulStop: '10s',
});

export const options = {
  scenarios: { singles: scenario('singles', 0.75), batches: scenario('batches', 0.25) },
  thresholds: {
    http_req_failed: ['rate<0.001'],
    events_refused: ['rate<0.001'],
    events_accepted: ['count>0'],
    'http_req_duration{scenario:singles}': [`p(95)<${__ENV.P95_SINGLES || 500}`],
    'http_req_duration{scenario:batches}': [`p(95)<${__ENV.P95_BATCHES || 1500}`],
  },
  summaryTrendStats: ['avg', 'med', 'p(95)', 'p(99)', 'max'],
};

let sent = 0;
const event = () => ({ key: `k${sent % 97}`, data: { vu: __VU, n: sent++, filler } });

function post(body, count) {
  const answer = http.post(`${base}/v1/events/loadtest`, JSON.stringify(body), { headers });
  const results = answer.status >= 200 && answer.status < 300 ? answer.json('results') : [];
  check(answer, { 'every event has a result': () => results.length === count });
  const ids = results.filter((result) => result.status === 'accepted').map((result) => result.id);
  viaInbox.add(results.filter((result) => result.tier === 'inbox').length);
  accepted.add(ids.length);
  for (let i = 0; i < count; i++) refused.add(i >= ids.length);
  if (ids.length > 0) console.log(`accepted:${ids.join(',')}`);
}

export function singles() {
  post(event(), 1);
}

export function batches() {
  post(Array.from({ length: 100 }, event), 100);
}

export function handleSummary(data) {
  const ms = (name) => {
    const v = data.metrics[name]?.values;
    return v ? `med ${v.med.toFixed(1)}  p95 ${v['p(95)'].toFixed(1)}  p99 ${v['p(99)'].toFixed(1)}  max ${v.max.toFixed(1)} ms` : 'none';
  };
  const seconds = data.state.testRunDurationMs / 1000;
  const events = data.metrics.events_accepted?.values.count ?? 0;
  const missed = Object.entries(data.metrics).flatMap(([name, metric]) =>
    Object.entries(metric.thresholds ?? {}).filter(([, t]) => !t.ok).map(([rule]) => `  MISSED ${name}: ${rule}`));
  const lines = [
    `requests   ${data.metrics.http_reqs?.values.count ?? 0} (${((data.metrics.http_reqs?.values.count ?? 0) / seconds).toFixed(0)}/s)`,
    `events     ${events} accepted (${(events / seconds).toFixed(0)}/s), ${data.metrics.events_in_inbox?.values.count ?? 0} of them by the inbox`,
    `singles    ${ms('http_req_duration{scenario:singles}')}`,
    `batches    ${ms('http_req_duration{scenario:batches}')}`,
    ...missed,
  ];
  return { stdout: `${lines.join('\n')}\n`, [`${__ENV.REPORT}/summary.json`]: JSON.stringify(data, null, 2) };
}
