// The Firebase JS SDK, unmodified, calling a function at a URL. Prints one JSON object: {"data": …} when the SDK resolves,
// {"code", "message", "details"} as the app would see them when it rejects. Exit status 0 either way.
//
//   node callable.mjs --url URL [--token TOKEN | TOKEN in the environment] --data JSON [--stream]
//
// A certificate of a test authority is trusted by NODE_EXTRA_CA_CERTS=ca.pem.
import { parseArgs } from 'node:util';
import { Component } from '@firebase/component';
import { _registerComponent, initializeApp } from 'firebase/app';
import { getFunctions, httpsCallableFromURL } from 'firebase/functions';

const { values: args } = parseArgs({
  options: {
    url: { type: 'string' },
    token: { type: 'string' },
    data: { type: 'string', default: '{}' },
    stream: { type: 'boolean', default: false },
    timeout: { type: 'string', default: '20000' },
  },
});
if (!args.url) {
  console.error('usage: node callable.mjs --url URL [--token TOKEN] --data JSON [--stream] [--timeout MS]');
  process.exit(64);
}
const token = args.token ?? process.env.TOKEN;

// The SDK asks "auth" for the user's ID token. The real one would ask Google; this one has it already.
// It must be there before getFunctions. Without a token, nobody is signed in.
const auth = {
  getToken: async () => (token ? { accessToken: token } : null),
  getUid: () => 'test',
  addAuthTokenListener() {},
  removeAuthTokenListener() {},
};
_registerComponent(new Component('auth-internal', () => auth, 'PRIVATE'));

const functions = getFunctions(initializeApp({ projectId: 'demo', apiKey: 'x', appId: '1:1:web:1' }));
const call = httpsCallableFromURL(functions, args.url, { timeout: Number(args.timeout) });
const data = JSON.parse(args.data);

async function answer() {
  if (!args.stream) return (await call(data)).data;
  const { stream, data: last } = await call.stream(data);
  for await (const _ of stream);
  return last;
}

answer()
  .then(
    (data) => ({ data }),
    (error) => ({ code: error.code, message: error.message, details: error.details ?? null }),
  )
  .then((outcome) => {
    // The SDK keeps a connection and timers: end as soon as the answer is written.
    process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
  });
