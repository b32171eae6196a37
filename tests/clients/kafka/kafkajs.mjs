// kafkajs as a client of the Kafka door; order.py says what an order is.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import snappy from 'kafkajs-snappy';

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = kafkajs;
CompressionCodecs[CompressionTypes.Snappy] = snappy;

const order = Object.fromEntries(Object.entries(process.env).filter(([name, value]) => name.startsWith('CLIENT_') && value).map(([name, value]) => [name.slice(7).toLowerCase(), value]));
const [count, partitions] = [Number(order.count), Number(order.partitions)];
const pause = (Number(order.seconds ?? 0) * 1000) / count; // between two records
const { version } = JSON.parse(readFileSync(new URL('node_modules/kafkajs/package.json', import.meta.url)));

const record = (i) => ({
  partition: i % partitions,
  key: `${order.run}-${i}`,
  value: Buffer.concat([Buffer.from(`${order.run} ${i} `), Buffer.from(Array.from({ length: (i * 37) % 200 }, (_, j) => (i + j) % 256)), Buffer.alloc(Number(order.more_bytes ?? 0))]),
  headers: { n: String(i), empty: Buffer.alloc(0) },
});

const began = performance.now();
const [acks, errors] = [[], new Map()];
const fault = (error) => {
  // The last attempt's own error is the cause of what says that there is no further one.
  const code = error.cause?.type ?? error.type ?? error.cause?.name ?? '';
  const one = errors.get(error.name + code) ?? { class: error.name, code, message: error.message.slice(0, 500), count: 0 };
  errors.set(error.name + code, { ...one, count: one.count + 1 });
};
const end = () => {
  console.log(JSON.stringify({ client: 'kafkajs', version, seconds: (performance.now() - began) / 1000, acks, errors: [...errors.values()] }));
  process.exit();
};
setTimeout(end, Number(order.patience) * 1000).unref();

const sasl = order.token
  ? { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: order.token }) }
  : order.mechanism && { mechanism: order.mechanism.toLowerCase(), username: order.user, password: order.password };
const kafka = new Kafka({
  clientId: 'a-test',
  brokers: order.bootstrap.split(','),
  ssl: order.ca ? { ca: [readFileSync(order.ca)] } : false,
  sasl,
  logLevel: logLevel.NOTHING,
});
const producer = kafka.producer({
  allowAutoTopicCreation: false,
  ...(order.idempotent ? { idempotent: order.idempotent === 'true' } : {}),
});

// One send after the other: kafkajs keeps no order between sends that are under way at the same time.
async function send(first, messages) {
  const sent = await producer.send({ topic: order.topic, messages, compression: CompressionTypes[{ gzip: 'GZIP', snappy: 'Snappy' }[order.compression] ?? 'None'], ...(order.acks ? { acks: order.acks === 'all' ? -1 : Number(order.acks) } : {}) });
  const next = new Map(sent.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]));
  messages.forEach(({ partition }, at) => {
    const offset = next.get(partition);
    // When a leader moves to a broker that has answered already, kafkajs sends those records to nobody and resolves all the same.
    if (offset === undefined) return fault({ name: 'PartitionWithoutAnswer', message: 'the send was resolved without it' });
    acks.push([first + at, offset]);
    if (offset >= 0) next.set(partition, offset + 1);
  });
}

try {
  await producer.connect();
  const size = pause ? 12 : 60;
  for (let i = 0; i < count; i += size) {
    const wait = began + i * pause - performance.now();
    if (wait > 0) await sleep(wait);
    await send(i, Array.from({ length: Math.min(size, count - i) }, (_, at) => record(i + at))).catch(fault);
  }
} catch (error) {
  fault(error);
}
end();
