// Load on the OTLP door over HTTP: single spans in JSON, as a page sends them, and batches of a hundred in protobuf, every
// other one in gzip. See otlp.js.
import http from 'k6/http';
import { fields, newTrace, options as common, resource, spanId, SPANS_OF_A_TRACE, summary, tell } from './otlp.js';

const url = `${__ENV.BASE}/v1/traces`;
const body = new Uint8Array(open(`${__ENV.BODIES}/traces.pb`, 'b'));
const places = JSON.parse(open(`${__ENV.BODIES}/traces.places.json`));
const headers = (type) => ({ 'Content-Type': type, Authorization: `Bearer ${__ENV.TOKEN}` });

export const options = common('http_req_duration');
export const handleSummary = summary('http_req_duration');

let sent = 0;

export function singles() {
  const trace = newTrace();
  const span = { traceId: trace.hex, spanId: spanId(0), ...fields };
  const request = { resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'k6' }, spans: [span] }] }] };
  const answer = http.post(url, JSON.stringify(request), { headers: headers('application/json') });
  tell(answer, answer.status === 200 && answer.body === '{}', [{ hex: trace.hex, spans: 1 }]);
}

export function batches() {
  const request = body.slice();
  const traces = places.map((own) => {
    const trace = newTrace();
    own.forEach((place) => request.set(trace.bytes, place));
    return { hex: trace.hex, spans: SPANS_OF_A_TRACE };
  });
  const packed = sent++ % 2 === 1 ? { compression: 'gzip' } : {};
  const answer = http.post(url, request.buffer, { headers: headers('application/x-protobuf'), ...packed });
  tell(answer, answer.status === 200 && !answer.body, traces);
}
