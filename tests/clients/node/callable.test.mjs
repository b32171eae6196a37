// The Firebase JS SDK against a real gate with a real broker. Run by `./tests/run --only clients`, which gives
// URL (of the callable), TOKEN (may send), OTHER_TOKEN (may send elsewhere only) and BROKERS.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Kafka, logLevel } from 'kafkajs';

const { URL: url, TOKEN, OTHER_TOKEN, BROKERS } = process.env;
const script = fileURLToPath(new globalThis.URL('callable.mjs', import.meta.url));

async function call(token, data, ...more) {
  const env = { ...process.env, TOKEN: token };
  if (!token) delete env.TOKEN;
  const { stdout } = await promisify(execFile)('node', [script, '--url', url, '--data', JSON.stringify(data), ...more], { env });
  return JSON.parse(stdout);
}

async function records() {
  const admin = new Kafka({ brokers: BROKERS.split(','), logLevel: logLevel.ERROR }).admin();
  await admin.connect();
  const offsets = await admin.fetchTopicOffsets('frontend-events');
  await admin.disconnect();
  return offsets.reduce((sum, partition) => sum + Number(partition.high), 0);
}

test('a command of a signed-in user is accepted and is in the broker when the SDK resolves', async () => {
  const before = await records();
  const answer = await call(TOKEN, { action: 'get_stats', n: 1 });
  assert.equal(answer.data?.status, 'accepted', JSON.stringify(answer));
  assert.equal(await records(), before + 1);
});

test('the streaming form of a call resolves too', async () => {
  const answer = await call(TOKEN, { action: 'get_stats' }, '--stream');
  assert.equal(answer.data?.status, 'accepted', JSON.stringify(answer));
});

test('nobody signed in is unauthenticated', async () => {
  assert.equal((await call('', { action: 'get_stats' })).code, 'functions/unauthenticated');
});

test('a token that is none is unauthenticated', async () => {
  assert.equal((await call('a.b.c', { action: 'get_stats' })).code, 'functions/unauthenticated');
});

test('a user without a grant for the topic is denied', async () => {
  assert.equal((await call(OTHER_TOKEN, { action: 'get_stats' })).code, 'functions/permission-denied');
});

test('a command that its reader would refuse is an invalid argument', async () => {
  for (const data of [null, [], 'text', {}, { action: '' }, { action: 'a', idempotency_key: 'short' }]) {
    const answer = await call(TOKEN, data);
    assert.equal(answer.code, 'functions/invalid-argument', JSON.stringify([data, answer]));
  }
});
