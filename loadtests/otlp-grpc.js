// Load on the OTLP door over gRPC: single spans, and batches of a hundred. See otlp.js.
import { b64encode } from 'k6/encoding';
import grpc from 'k6/net/grpc';
import { fields, newTrace, options as common, resource, spanId, SPANS_OF_A_TRACE, summary, tell } from './otlp.js';

const EXPORT = 'opentelemetry.proto.collector.trace.v1.TraceService/Export';

const client = new grpc.Client();
client.load([import.meta.resolve('./').replace('file://', '')], 'otlp.proto');

export const options = common('grpc_req_duration');
export const handleSummary = summary('grpc_req_duration');

// In JSON k6 writes bytes as base64.
const base64 = (hex) => b64encode(new Uint8Array(hex.match(/../g).map((byte) => parseInt(byte, 16))).buffer);
const spanIds = Array.from({ length: SPANS_OF_A_TRACE }, (_, i) => base64(spanId(i)));

let connected = false;

function send(count) {
  if (!connected) client.connect(__ENV.BROKER, { timeout: '10s' });
  connected = true;
  const traces = [];
  const spans = Array.from({ length: count }, (_, i) => {
    if (i % SPANS_OF_A_TRACE === 0) {
      const { hex, bytes } = newTrace();
      traces.push({ hex, id: b64encode(bytes.buffer), spans: 0 });
    }
    const trace = traces[traces.length - 1];
    trace.spans += 1;
    return { traceId: trace.id, spanId: spanIds[i % SPANS_OF_A_TRACE], ...fields };
  });
  const request = { resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'k6' }, spans }] }] };
  const answer = client.invoke(EXPORT, request, { metadata: { authorization: `Bearer ${__ENV.TOKEN}` }, timeout: '10s' });
  tell(answer, answer.status === grpc.StatusOK && !answer.message.partialSuccess, traces);
}

export const singles = () => send(1);
export const batches = () => send(100);
