// kafkajs over a WebSocket, where no other port than HTTPS is open: its `socketFactory` gives it the stream inside one.
// Sends records and prints one JSON object: {"sent": 10}, or {"error": …}. Exit status 0 either way.
//
//   USERNAME=ada PASSWORD=… node kafka-websocket.mjs --url wss://localhost:8443/kafka --topic events   SCRAM inside
//   TOKEN=…                 node kafka-websocket.mjs --url …                                            a token outside
//
// A certificate of a test authority is trusted by NODE_EXTRA_CA_CERTS=ca.pem.
import { parseArgs } from 'node:util';
import kafkajs from 'kafkajs';
import WebSocket, { createWebSocketStream } from 'ws';

const { CompressionTypes, Kafka, logLevel } = kafkajs;
const { values: args } = parseArgs({
  options: {
    url: { type: 'string' },
    topic: { type: 'string', default: 'events' },
    count: { type: 'string', default: '10' },
    mechanism: { type: 'string', default: 'scram-sha-256' },
    gzip: { type: 'boolean', default: false },
  },
});
if (!args.url) {
  console.error('usage: node kafka-websocket.mjs --url URL [--topic TOPIC] [--count N] [--mechanism NAME] [--gzip]');
  process.exit(64);
}
const { USERNAME: username, PASSWORD: password, TOKEN: token } = process.env;

// Whatever address the metadata names, the way there is the WebSocket.
const socketFactory = ({ onConnect }) => {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const socket = new WebSocket(args.url, { headers, perMessageDeflate: false });
  const stream = createWebSocketStream(socket);
  socket.once('open', onConnect);
  stream.unref = () => {}; // kafkajs asks it of a socket.
  return stream;
};

const { hostname, port } = new URL(args.url);
const kafka = new Kafka({
  clientId: 'kafka-websocket',
  brokers: [`${hostname}:${port || 443}`],
  connectionTimeout: 10_000,
  logLevel: logLevel.ERROR,
  sasl: username ? { mechanism: args.mechanism, username, password } : undefined,
  retry: { retries: 3 },
  socketFactory,
});

async function send() {
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  const messages = Array.from({ length: Number(args.count) }, (_, n) => ({ key: `k${n}`, value: JSON.stringify({ n }) }));
  await producer.send({ topic: args.topic, acks: -1, messages, compression: args.gzip ? CompressionTypes.GZIP : CompressionTypes.None });
  await producer.disconnect();
  return { sent: messages.length };
}

send()
  .catch((error) => ({ error: `${error.name}: ${error.message}` }))
  .then((outcome) => process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0)));
