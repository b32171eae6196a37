// Load by Kafka producers: single records of 1 KB, and batches of 100, at the same time. Each virtual user is a producer
// with connections of its own. Thresholds: no record fails, p95 of each kind.
// What was acknowledged is written down by its key, one line a call, and `loadtests/run` looks for each in the topic.
import { check } from 'k6';
import { connect } from 'k6/x/kafka';

const TOPIC = 'loadtest';
const filler = 'x'.repeat(950);

const scenario = (exec, vus) => ({
  executor: 'constant-vus',
  exec,
  vus: Math.max(1, Math.round(vus)),
  duration: __ENV.DURATION || '10s',
  gracefulStop: '30s',
});

// What k6 needs to know, for producers that connect as `way` says.
export function load(way) {
  const vus = Number(__ENV.VUS || 16);
  const producer = connect({
    brokers: [__ENV.BROKER],
    ca: __ENV.CA,
    mechanism: __ENV.MECHANISM || 'SCRAM-SHA-512',
    user: __ENV.KAFKA_USER,
    password: __ENV.KAFKA_PASSWORD,
    ...way,
  });
  let sent = 0;

  function send(count) {
    const first = sent;
    sent += count;
    const records = Array.from({ length: count }, (_, i) => ({
      key: `${__VU}-${first + i}`,
      value: JSON.stringify({ vu: __VU, n: first + i, filler }),
      headers: { origin: 'k6' },
    }));
    const results = producer.produce(TOPIC, records);
    const failed = results.filter((result) => result.error !== '');
    check(results, { 'every record is acknowledged': () => results.length === count && failed.length === 0 });
    if (failed.length > 0) console.error(`not acknowledged: ${failed[0].error}`);
    const keys = records.map((record) => record.key).filter((_, i) => results[i].error === '');
    if (keys.length > 0) console.log(`accepted:${keys.join(',')}`);
  }

  return {
    options: {
      scenarios: { singles: scenario('singles', vus * 0.75), batches: scenario('batches', vus * 0.25) },
      thresholds: {
        kafka_records_failed: ['rate==0'],
        checks: ['rate==1'],
        kafka_records_acked: ['count>0'],
        'kafka_produce_duration{scenario:singles}': [`p(95)<${__ENV.P95_SINGLES || 500}`],
        'kafka_produce_duration{scenario:batches}': [`p(95)<${__ENV.P95_BATCHES || 1500}`],
      },
      summaryTrendStats: ['avg', 'med', 'p(95)', 'p(99)', 'max'],
    },
    singles: () => send(1),
    batches: () => send(100),
    handleSummary,
  };
}

function handleSummary(data) {
  const seconds = data.state.testRunDurationMs / 1000;
  const acked = data.metrics.kafka_records_acked?.values.count ?? 0;
  const failed = data.metrics.kafka_records_failed?.values.passes ?? 0; // a Rate counts what is true: here a failure
  const ms = (kind) => {
    const v = data.metrics[`kafka_produce_duration{scenario:${kind}}`]?.values;
    return v ? `med ${v.med.toFixed(1)}  p95 ${v['p(95)'].toFixed(1)}  p99 ${v['p(99)'].toFixed(1)}  max ${v.max.toFixed(1)} ms` : 'none';
  };
  const missed = Object.entries(data.metrics).flatMap(([name, metric]) =>
    Object.entries(metric.thresholds ?? {}).filter(([, t]) => !t.ok).map(([rule]) => `  MISSED ${name}: ${rule}`));
  const lines = [
    `records    ${acked} acknowledged (${(acked / seconds).toFixed(0)}/s), ${failed} failed`,
    `singles    ${ms('singles')}`,
    `batches    ${ms('batches')}`,
    ...missed,
  ];
  return { stdout: `${lines.join('\n')}\n`, [`${__ENV.REPORT}/summary.json`]: JSON.stringify(data, null, 2) };
}
