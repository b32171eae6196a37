// The platform's function `ingestEvent`, as far as it writes to Kafka: kafkajs, one broker address, SCRAM-SHA-256, key = uid,
// with or without TLS. It sends the events of EVENTS (JSON, an array) one by one and prints what it was answered.
import { readFileSync } from 'node:fs';
import kafkajs from 'kafkajs';

const { Kafka, logLevel } = kafkajs;
const env = process.env;
const secure = env.REDPANDA_SECURITY_PROTOCOL === 'SASL_SSL';
const kafka = new Kafka({
  clientId: 'ingest-event',
  brokers: env.REDPANDA_BROKERS.split(','),
  ssl: secure ? { ca: [readFileSync(env.CA, 'utf8')] } : false,
  sasl: { mechanism: env.REDPANDA_SASL_MECHANISM.toLowerCase(), username: env.REDPANDA_SASL_USERNAME, password: env.REDPANDA_SASL_PASSWORD },
  logLevel: logLevel.ERROR,
});
const producer = kafka.producer();
await producer.connect();
const answers = [];
for (const event of JSON.parse(env.EVENTS)) {
  answers.push(...(await producer.send({ topic: 'frontend-events', messages: [{ key: event.uid, value: JSON.stringify(event) }] })));
}
await producer.disconnect();
console.log(JSON.stringify(answers));
